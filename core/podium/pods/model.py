"""From a pod's folder to the `Pod` that a stage1 is given."""

from __future__ import annotations

import os

from podium import records
from podium.appc.annotations import CGROUP_PARENT, DNS_DOMAIN, DNS_OPTIONS, HOSTNAME, NET, STOP_SIGNAL, SUPPLEMENTARY
from podium.appc.isolators import combine
from podium.appc.pod_manifest import PodManifest, RuntimeApp, parse_pod
from podium.appc.pod_manifest import Volume as AppcVolume
from podium.errors import BadInput, Corrupt
from podium.linux.signals import signal
from podium.named import NamedTuple
from podium.paths import DEFAULT_CGROUP, MANIFEST, DataDir
from podium.pods import envelope as envelopes
from podium.quickjson import loads
from podium.types import App, Mount, Network, Pod, Volume


class Kept(NamedTuple):
    """What `load` reads of a pod's folder."""

    envelope: bytes
    manifest: bytes


def read(folder: str) -> Kept:
    """What `load` reads in `folder`. Raises OSError or LimitExceeded."""
    return Kept(*(records.read_bytes(os.path.join(folder, name)) for name in (envelopes.FILE, MANIFEST)))


def load(folder: str, kept: Kept | None = None) -> Pod:
    """The pod in `folder`.

    Args:
        folder: of the pod.
        kept: what was read there before.

    Raises:
        Corrupt: its envelope or manifest is damaged.
    """
    envelope = envelopes.parse(folder, kept.envelope) if kept else envelopes.read(folder)
    content = b""
    try:
        content = kept.manifest if kept else records.read_bytes(os.path.join(folder, MANIFEST))
        try:
            manifest = parse_pod(content, own=True)
        except BadInput:
            from podium.appc.harmless import usable_pod

            manifest = usable_pod(content)
        return build(folder, envelope, manifest)
    except (OSError, BadInput, ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        from podium.pods.manifest_fault import manifest_fault

        told = manifest_fault(envelope.uuid, content, envelope)[1] if content else ""
        raise Corrupt(
            told or f"the manifest of pod {envelope.uuid} can't be used: {e}",
            hint="'podium stop', 'podium gc' and 'podium rm --force' work without it",
            subject=envelope.uuid,
        ) from None


def load_tolerant(folder: str) -> Pod:
    """Like `load`; where the manifest is damaged, what the envelope says, or the folder's name alone."""
    try:
        return load(folder)
    except (Corrupt, FileNotFoundError):
        pass
    uuid, root = os.path.basename(folder), os.path.dirname(os.path.dirname(os.path.dirname(folder)))
    apps: tuple[App, ...] = ()
    name = None
    try:
        envelope = envelopes.read(folder)
        name = envelope.name
        apps = tuple(
            App(name=a.name, image=a.image, image_id=a.image_id, rootfs=DataDir(root).rootfs(a.tree), exec=())
            for a in envelope.apps
        )
    except (Corrupt, FileNotFoundError):
        pass
    return Pod(uuid=uuid, name=name, dir=folder, data_root=root, apps=apps, cgroup=_cgroup(folder, uuid))


def _cgroup(folder: str, uuid: str) -> str:
    from podium.pods.status import read_runtime

    try:
        runtime = read_runtime(folder)
    except Corrupt:
        runtime = None
    return (runtime and runtime.cgroup) or f"{DEFAULT_CGROUP}/{uuid}"


def build(folder: str, envelope: envelopes.Envelope, manifest: PodManifest) -> Pod:
    """The pod that a manifest describes. Raises ValueError or KeyError when an annotation of podium's is wrong."""
    data = DataDir(os.path.dirname(os.path.dirname(os.path.dirname(folder))))
    trees = {a.name: a for a in envelope.apps}
    notes = manifest.annotations
    hosts = loads(notes.get("podium/hosts", "[]"))
    return Pod(
        uuid=envelope.uuid,
        name=envelope.name,
        dir=folder,
        data_root=data.root,
        apps=tuple(_app(data, trees[a.name], a) for a in manifest.apps),
        volumes={v.name: _volume(v) for v in (*manifest.volumes, *_own_volumes(manifest))},
        network=Network(
            names=_list(notes.get(NET, "")) or ("default",),
            ports=tuple((p.name, p.host_ip or "", p.host_port) for p in manifest.ports),
            dns=_list(notes.get("podium/dns", "")),
            dns_search=_list(notes.get("podium/dns-search", "")),
            hosts=tuple((str(ip), str(name)) for ip, name in hosts),
            dns_options=_list(notes.get(DNS_OPTIONS, "")),
            dns_domain=notes.get(DNS_DOMAIN, ""),
        ),
        hostname=notes.get(HOSTNAME),
        private_users=notes.get("podium/private-users") == "true",
        isolators=combine(manifest.isolators),
        labels=dict(manifest.user_labels),
        annotations=dict(manifest.user_annotations),
        cgroup=f"{notes.get(CGROUP_PARENT, DEFAULT_CGROUP)}/{envelope.uuid}",
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _own_volumes(manifest: PodManifest) -> list[AppcVolume]:
    return [m.app_volume for a in manifest.apps for m in a.mounts if m.app_volume]


def _volume(volume: AppcVolume) -> Volume:
    return Volume(
        name=volume.name,
        kind=volume.kind,
        source=volume.source,
        read_only=bool(volume.read_only),
        recursive=volume.recursive is not False,
        mode=volume.mode,
        uid=volume.uid,
        gid=volume.gid,
        size=volume.size,
    )


def _app(data: DataDir, ref: envelopes.AppRef, app: RuntimeApp) -> App:
    own = app.app
    if own is None or not own.exec:
        raise ValueError(f"app {app.name} has no command")
    notes = app.annotations
    read_only = {p.path for p in own.mount_points if p.read_only}
    extra = _list(notes.get(SUPPLEMENTARY, ""))
    return App(
        name=app.name,
        image=ref.image,
        image_id=ref.image_id,
        rootfs=data.rootfs(ref.tree),
        exec=own.exec,
        user=own.user,
        group=own.group,
        supplementary_gids=(*(str(g) for g in own.supplementary_gids), *extra),
        working_dir=own.working_directory or "/",
        environment=dict(own.environment),
        mounts=tuple(
            Mount(
                volume=(m.app_volume.name if m.app_volume else m.volume), target=m.path, read_only=m.path in read_only
            )
            for m in app.mounts
        ),
        isolators=combine(own.isolators),
        readonly_rootfs=app.read_only_rootfs,
        pre_start=tuple(own.event_handlers.get("pre-start", ())),
        post_stop=tuple(own.event_handlers.get("post-stop", ())),
        stdin=notes.get("podium/stdin", "auto"),
        stdout=notes.get("podium/stdout", "auto"),
        stderr=notes.get("podium/stderr", "auto"),
        restart=notes.get("podium/restart", "no"),
        notify=notes.get("podium/notify") == "true",
        stop_signal=signal_number(notes.get(STOP_SIGNAL, "15")),
        ports=tuple(p.name for p in own.ports),
    )


def signal_number(text: str) -> int:
    """A signal by number or name, with or without SIG.

    Raises:
        ValueError: it is none.
    """
    if text.isdigit():
        number = int(text)
        if not 0 < number < signal.NSIG:
            raise ValueError(f"{text!r} is no signal")
        return number
    name = text.upper().removeprefix("SIG")
    if name.startswith(("RTMIN", "RTMAX")):
        base = signal.SIGRTMIN if name.startswith("RTMIN") else signal.SIGRTMAX
        return int(base) + int(name[5:] or "0")
    if not name.isalnum() or not hasattr(signal, f"SIG{name}"):  # no SIG_IGN
        raise ValueError(f"{text!r} is no signal")
    return int(getattr(signal, f"SIG{name}"))


_FOR_PODS = ("isolator:memory", "isolator:cpu", "isolator:cpu-shares", "isolator:pids")  # those that cgroups have


def asked(pod: Pod) -> list[str]:
    """Names of the capabilities that the pod asks of its stage1 (see `Stage1Info.capabilities`)."""
    net = pod.network
    wants = [
        ("apps", len(pod.apps) > 1),
        ("private-users", pod.private_users),
        ("ports", bool(pod.network.ports)),
        ("hostname", pod.hostname is not None),
        ("dns", bool(net.dns or net.dns_search or net.dns_options or net.dns_domain or net.hosts)),
        ("restart", any(a.restart != "no" for a in pod.apps)),
        ("readonly-rootfs", any(a.readonly_rootfs for a in pod.apps)),
        ("notify", any(a.notify for a in pod.apps)),
        ("event-handlers", any(a.pre_start or a.post_stop for a in pod.apps)),
    ]
    names = [name for name, wanted in wants if wanted]
    names += [f"network:{n}" if n in ("host", "none") else "network:cni" for n in pod.network.names]
    names += [f"volume:{v.kind}" for v in pod.volumes.values()]
    names += [i for a in pod.apps for i in a.isolators.asked()]
    names += [i if i in _FOR_PODS else f"pod-{i}" for i in pod.isolators.asked()]
    return list(dict.fromkeys(names))
