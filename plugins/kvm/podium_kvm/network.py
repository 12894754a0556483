"""The pod's networks for its guest: a tap for each interface, and what `guest/init` configures on them."""

from __future__ import annotations

import os
import stat

from podium.net import files
from podium.types import Pod, Supervisor
from podium_kvm.initrd import archive, script
from podium_kvm.shell import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from podium.net.tap import Tap


def connect(pod: Pod, supervisor: Supervisor) -> tuple[list[Tap], bytes]:
    """Put the pod into its networks.

    Returns:
        Its taps, whose descriptors the caller closes, and the archive with the script that configures the guest.

    Raises:
        Failed, HostLacks, InUse: see `podium.types.Supervisor.network`.
        OSError: there can be no tap.
    """
    setup = supervisor.network()
    taps: list[Tap] = []
    shown: tuple[tuple[str, str], ...] = ()
    if setup is not None:
        shown = setup.files
    elif files.asked(pod):
        shown = files.write(pod)[1]
    lines: list[str] = []
    try:
        if setup is not None:
            from podium.net.tap import open_tap

            for interface in setup.interfaces:
                taps.append(open_tap(setup, interface.name))
                lines += _configuration(interface.name, taps[-1])
    except BaseException:
        close(taps)
        raise
    entries = []
    for number, (path, target) in enumerate(shown):
        with open(path, "rb") as f:
            entries.append((f"pod/file{number}", stat.S_IFREG | 0o644, f.read()))
        lines += [f"file {app.name} /pod/file{number} {quoted(target)}" for app in pod.apps]
    entries.append(("pod/network", stat.S_IFREG | 0o600, script(lines)))
    return taps, archive(entries)


def close(taps: list[Tap]) -> None:
    """Leave the taps to QEMU alone: they end with it."""
    while taps:
        os.close(taps.pop().fd)


def _configuration(name: str, tap: Tap) -> Iterator[str]:
    """Calls of functions of `guest/init`."""
    yield f"link {name} {tap.mac} {tap.mtu}"
    for address in tap.addresses:
        yield f"address {name} {_family(address)} {address}"
    for destination, gateway in tap.routes:
        family = _family(destination)
        via = gateway or next((g for g in tap.gateways if _family(g) == family), "")
        yield f"route {name} {family} {destination} {via}"


def _family(address: str) -> str:
    return "-6" if ":" in address else "-4"
