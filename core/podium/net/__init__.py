"""Networks of pods: CNI configuration lists, run by podium itself, and given back from the ledger.

The life of a network, each step in a module of its own:

- `configuration`: which lists there are (`/etc/podium/net.d`, and the built-in `default`); wrong ones are named.
- `plan`: at prepare, the lists that a pod asks for are resolved and kept in its `network.json`.
- `attachment`: at run, in the supervisor, the namespace is pinned and every list is ADDed; at the pod's end, or in gc,
  it is DELeted from the ledger alone.
- `cni`: one call of one plugin. `rules`: what a plugin that was killed leaves in the packet filter.
- `ports`: host ports are held by a bound socket of the supervisor. `files`: resolv.conf and hosts. `tap`: for a VM.

**What a stage1 does.** In `stage1_run`, before it leaves the host's mount namespace:

    network = supervisor.network()          # types.NetworkSetup; None for the networks `host` and `none`

A container joins `network.netns`. A VM calls `podium.net.tap.open_tap(network, ifname)` for each of
`network.interfaces`, gives the descriptor to its hypervisor (qemu: `-netdev tap,fd=N,vhost=off`) and configures in the
guest what the `Tap` says: MAC, addresses, routes; name servers are in `network.dns`. Both put `network.files` into the
apps' rootfs. The supervisor gives all of it back when the pod has ended.
"""
