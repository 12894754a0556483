"""prepare: from images and wishes to a pod that is ready to run. See docs/pod-lifecycle.md."""

from __future__ import annotations

import os
import sys

from podium import __version__
from podium.actions.context import Context
from podium.contexts import contextmanager
from podium.errors import BadInput, InUse, PluginFailed, PodiumError
from podium.named import NamedTuple
from podium.paths import DEFAULT_CGROUP, EMBRYO, EXITED_GARBAGE, GARBAGE, MANIFEST, PREPARE, PREPARED
from podium.pods import lifecycle, lock
from podium.pods.lifecycle import PodRef
from podium.pods.request import is_address, is_path
from podium.stage1 import registry
from podium.stage1.client import Worker
from podium.trace import trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from podium.appc.pod_manifest import PodManifest
    from podium.pods.request import PodRequest
    from podium.stage1 import pins
    from podium.store.image import Image
    from podium.store.store import Store

# The worker is forked as early as can be, and imports on its own: so what is needed after that is imported after that.


class Prepared(NamedTuple):
    """A pod that is prepared and still locked, and the worker that prepared it."""

    pod: PodRef
    lock: int
    worker: Worker


def plan(context: Context, request: PodRequest) -> PodManifest:
    """The manifest that `prepare` would write: for --dry-run. Images given by path are imported, by address fetched."""
    given = _given(request)
    return _manifest(request, given, _images(context, context.store(), request, given))


def prepare(context: Context, request: PodRequest, keep: Iterable[int] = (), *, to_run: bool = False) -> Prepared:
    """Prepare a pod.

    Args:
        context: where.
        request: what.
        keep: descriptors that the worker inherits, besides the pod's lock.
        to_run: the caller runs the pod at once, and syncs that transition; a crash before it leaves either.

    Returns:
        The pod, still locked; the caller closes lock and worker.

    Raises:
        PodiumError: nothing is left of the pod, but for a `PluginFailed`, whose traces gc collects.
    """
    data = context.data
    plugin = registry.installed(request.stage1 or context.config.get("stage1", "default"))
    pod, fd = _embryo(context)
    worker: Worker | None = None
    try:
        from podium.linux import cgroup  # before the fork, since the worker needs it as well

        worker = Worker.start(plugin, None, keep=(fd, *keep))
        if to_run:
            cgroup.expect_moves_soon()
        from podium.stage1.dispatch import Dispatcher

        pin = Dispatcher(data, context.config).pin_of(plugin)
        loading = worker.begin_load(ahead=True)  # meanwhile the images are looked up
        store = context.store()
        given = _given(request)
        images = _images(context, store, request, given)
        import podium.pods.compose  # noqa: F401  (needed below; until the plugin is loaded there is time)

        worker.loaded(loading)
        with _name_reserved(context, request.name), store.shared():
            images = [store.resolve(image.id) for image in images]  # nobody can remove them any more
            pod = _write(context, pod, request, given, images, store, pin, worker)
        trace("call:prepare")
        number = worker.begin("prepare", pod.path, {"settings": context.config.of_stage1(plugin.name)})
        _sync_folders(context, pod)  # while the plugin is at work
        made = worker.result(number, "prepare", context.config.get("stage1", "prepare-timeout"))
        for note in made.get("notes", ()) if isinstance(made, dict) else ():
            print(f"podium: {note}", file=sys.stderr)
        trace("prepare:plugin-done")
        if not to_run:
            _sync_made(pod)
        pod = lifecycle.move(data, pod, PREPARED, durable=not to_run)
        trace("prepare:prepared")
        if not to_run:  # else its supervisor logs this event too, in a moment, or gc does
            emitter = context.emitter()
            emitter.pod(PREPARED, pod.path, pod.uuid)
            emitter.wake()
        return Prepared(pod, fd, worker)
    except BaseException as e:
        if worker is not None:
            worker.close()
        if isinstance(e, (PodiumError, KeyboardInterrupt)) and not isinstance(e, PluginFailed):
            _discard(context, pod)
        os.close(fd)
        raise


def _embryo(context: Context) -> tuple[PodRef, int]:
    """A new pod's folder. It is locked before it can be seen, so an embryo without a lock has lost its maker."""
    data, uuid = context.data, lifecycle.new_uuid()
    hidden, path = data.at("tmp", f"pod-{uuid}"), data.pod(EMBRYO, uuid)
    os.mkdir(hidden, 0o700)
    fd = None
    try:
        fd = lock.try_lock(hidden)
        assert fd is not None  # nobody else knows it
        os.rename(hidden, path)
    except OSError:
        if fd is not None:
            os.close(fd)
        os.rmdir(hidden)
        raise
    trace("prepare:embryo")
    return PodRef(EMBRYO, uuid, path), fd


def _discard(context: Context, pod: PodRef) -> None:
    """Nothing but files was made yet, or the plugin refused: what it took, gc finds in the ledger."""
    from podium.linux.tree import remove_tree
    from podium.pods.ledger import PodLedger

    try:
        if not PodLedger(pod.path).outstanding():
            remove_tree(context.data.phase(pod.phase), pod.uuid)
    except FileNotFoundError:
        pass  # interrupted just as it moved on: left to gc


@contextmanager
def _name_reserved(context: Context, name: str | None) -> Iterator[None]:
    """Keep others from taking the name until the pod that carries it can be seen."""
    if name is None:
        yield
        return
    if not lifecycle.valid_name(name):
        raise BadInput(f"{name!r} is no pod name: use 1 to 63 of a-z 0-9 - _ .", subject=name)
    from podium.linux.lockfile import locked

    with locked(context.data.at("locks", "names")):
        taken = [p for p in lifecycle.scan(context.data) if p.phase not in (EXITED_GARBAGE, GARBAGE)]
        for pod in lifecycle.named(context.data, taken, name):
            if pod.phase in (EXITED_GARBAGE, GARBAGE):
                continue  # it went there just now
            raise InUse(
                f"the name {name!r} is taken by pod {pod.uuid}",
                hint=f"choose another, or 'podium rm {name}' first",
                subject=name,
            )
        yield


def _given(request: PodRequest) -> PodManifest | None:
    """The manifest of --pod-manifest, read once: what is looked up and what is prepared are the same."""
    if request.pod_manifest is None:
        return None
    request.check_beside_manifest()
    return _read_manifest(request.pod_manifest)


def _images(context: Context, store: Store, request: PodRequest, given: PodManifest | None) -> list[Image]:
    """The images that the request or the given manifest names; paths are imported first, and addresses fetched."""
    if given is not None:
        return [store.resolve(ref) for ref in _manifest_refs(given)]
    return [_image(context, store, app.image, request.tls_verify) for app in request.apps]


def _image(context: Context, store: Store, image: str, tls_verify: bool) -> Image:
    if not is_address(image) and not is_path(image):
        return store.resolve(image)
    report = context.progress
    try:
        if is_path(image):
            from podium.images.importing import import_path

            return import_path(store, image, progress=report)
        from podium.images.registry.fetching import stored_or_fetched

        return stored_or_fetched(store, image, tls_verify=tls_verify, progress=report)
    finally:
        if report is not None:
            report(None)


def _read_manifest(path: str) -> PodManifest:
    from podium.appc.jsonread import MAX_BYTES
    from podium.appc.pod_manifest import parse_pod
    from podium.records import read_bytes

    try:
        return parse_pod(read_bytes(path, MAX_BYTES))
    except OSError as e:
        raise BadInput(f"the pod manifest {path} can't be read: {e.strerror}", subject=path) from None


def _manifest_refs(manifest: PodManifest) -> list[str]:
    from podium.appc.names import is_image_id, to_podium_id

    refs = []
    for app in manifest.apps:
        known = app.image.id and is_image_id(app.image.id) and app.image.id.startswith("sha256-")
        version = app.image.labels.get("version")
        name = app.image.name or ""
        refs.append(to_podium_id(app.image.id) if known else f"{name}:{version}" if version else name)
    return refs


def _manifest(request: PodRequest, given: PodManifest | None, images: list[Image]) -> PodManifest:
    from podium.appc.annotations import NET
    from podium.appc.harmless import usable_image
    from podium.pods.compose import ImageOf, complete, compose

    found = [ImageOf(i.id, i.name, usable_image(i.manifest)) for i in images]
    if given is not None:
        if request.net:
            given = given._replace(annotations={**given.annotations, NET: ",".join(request.net)})
        apps = tuple(
            a if a.app is not None else a._replace(app=image.manifest.app)
            for a, image in zip(given.apps, found, strict=True)
        )
        return complete(given._replace(apps=apps))
    return compose(request, found, os.environ, _file_env(request.env_files))


def _file_env(paths: Iterable[str]) -> dict[str, str]:
    """K=V lines; empty ones and those that begin with # are passed over (rkt's --set-env-file)."""
    values: dict[str, str] = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as f:
                lines = f.read().splitlines()
        except OSError as e:
            raise BadInput(f"the environment file {path} can't be read: {e.strerror}", subject=path) from None
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            key, equals, value = line.partition("=")
            if not equals or not key.strip():
                raise BadInput(f"{path}, line {number}: {line!r} is not K=V", subject=path)
            values[key.strip()] = value
    return values


def _plan_networks(context: Context, pod: PodRef, manifest: PodManifest) -> None:
    """Resolve the networks, if there are any to be resolved, and keep their configuration with the pod."""
    from podium.appc.annotations import NET

    names = tuple(filter(None, manifest.annotations.get(NET, "").split(","))) or ("default",)
    if names in (("host",), ("none",)) and not manifest.ports:
        return
    from podium.net import plan
    from podium.net.configuration import Settings

    known = {port.name: port for app in manifest.apps if app.app for port in app.app.ports}
    ports = []
    for each in manifest.ports:
        port = each.pod_port or known[each.name]
        for offset in range(port.span):
            mapping = {
                "hostPort": each.host_port + offset,
                "containerPort": port.port + offset,
                "protocol": port.protocol,
            }
            ports.append({**mapping, "hostIP": each.host_ip} if each.host_ip else mapping)
    made = plan.make(names, ports, Settings.of(context.config))
    if made is not None:
        plan.write(pod.path, made)
        trace("prepare:network")


def _write(
    context: Context,
    pod: PodRef,
    request: PodRequest,
    given: PodManifest | None,
    images: list[Image],
    store: Store,
    pin: pins.Pin,
    worker: Worker,
) -> PodRef:
    """Write manifest and envelope and make the pod visible as preparing, all while the store's lock is held.

    The files are synced, so none is there by half; the folders are not, see `_sync_folders`.
    """
    from podium.appc.annotations import CGROUP_PARENT, NET
    from podium.clock import rfc3339, since_boot
    from podium.features import Features
    from podium.linux.files import Writing
    from podium.linux.procs import boot_id
    from podium.pods import envelope as envelopes
    from podium.pods.envelope import AppRef, Envelope, Stage1
    from podium.quickjson import dumps
    from podium.stage1 import pins

    plugin = worker.plugin
    manifest = _manifest(request, given, images)
    notes = {key: value for key, value in manifest.annotations.items() if key != CGROUP_PARENT}
    joins = "network:cni" in worker.info["capabilities"]
    if not joins:
        notes.setdefault(NET, "host")
    parent = context.config.get("cgroup", "parent")
    if parent != DEFAULT_CGROUP:
        notes[CGROUP_PARENT] = parent
    manifest = manifest._replace(annotations=notes)
    trees = [store.ensure_tree(image) for image in images]
    trace("prepare:trees")
    pins.ensure(context.data, plugin, pin)
    trace("prepare:pinned")
    if joins:  # else the plugin refuses, by name, what it has not
        _plan_networks(context, pod, manifest)
    info = worker.info
    envelope = Envelope(
        uuid=pod.uuid,
        name=request.name,
        created=rfc3339(),
        stage1=Stage1(
            plugin.name,
            info["version"],
            info["interface"],
            info["state"],
            pin.digest,
            pin.pin,
            plugin.entry,
            plugin.distribution,
        ),
        apps=tuple(
            AppRef(app.name, image.name, image.id, tree)
            for app, image, tree in zip(manifest.apps, images, trees, strict=True)
        ),
        trees=tuple(dict.fromkeys(trees)),
        images=tuple(dict.fromkeys(image.id for image in images)),
        labels=dict(manifest.user_labels),
        features=Features(),
        prepared_by=f"podium {__version__}",
        created_boottime=since_boot(),
        created_boot=boot_id(),
    )
    content = dumps(manifest.to_json()).encode() + b"\n"
    # Both are on their way to the disk before the first is waited for.
    with (
        Writing(os.path.join(pod.path, MANIFEST), content) as manifest_file,
        envelopes.begin(pod.path, envelope) as envelope_file,
    ):
        manifest_file.finish()
        trace("prepare:manifest")
        envelope_file.finish()
    trace("prepare:envelope")
    moved = lifecycle.move(context.data, pod, PREPARE, durable=False)
    trace("prepare:preparing")
    return moved


def _sync_folders(context: Context, pod: PodRef) -> None:
    """Have what `_write` made and moved outlive a power failure, before the pod can be run: once for all of it.

    A failure before that leaves an embryo or a failed prepare. What its plugin took, and a reboot does not clear, is in
    the ledger, which is synced by itself.
    """
    from podium.linux.files import fsync_dir

    for folder in (pod.path, context.data.phase(PREPARE), context.data.phase(EMBRYO)):
        fsync_dir(folder)


def _sync_made(pod: PodRef) -> None:
    """Have what the plugin made outlive a power failure as well, so that the pod can be run after one."""
    from podium.linux.files import fsync_below

    fsync_below(pod.path)
