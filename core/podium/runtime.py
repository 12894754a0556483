"""The façade: one method a verb. The command line, automation and the Python API call this and nothing below it.

Each method imports what it needs when it is called, so that `list` does not pay for `run`.
"""

from __future__ import annotations

from podium import format
from podium.errors import HostLacks, PodiumError
from podium.paths import DataDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from podium.actions.context import Context
    from podium.actions.logs import LogLine
    from podium.actions.observe import PodInfo
    from podium.actions.systemd import UnitOptions
    from podium.appc.pod_manifest import PodManifest
    from podium.config import Config
    from podium.events.record import Event
    from podium.fsck.report import Report
    from podium.gc.report import GcReport
    from podium.pods.request import PodRequest, RunOptions, RunResult
    from podium.store.collecting import Collected
    from podium.store.image import Image
    from podium.store.migrating import Plan
    from podium.store.store import Store
    from podium.store.verifying import Verified


class Runtime:
    """podium on one data directory.

    Args:
        root: the data directory; None: PODIUM_DIR, else /var/lib/podium.
        config: a configuration file on top of the system's.
        progress: called with bytes done, bytes in all (None while that is not known) and files done, during long work,
            and with None alone when the import or fetch before a run has ended.
        tell: is given what else happens that the user has to know, such as a migration, a sentence each.

    Attributes:
        data: the data directory.

    Every method raises `podium.errors.PodiumError` for what the user can mend, and `OSError` for what the host refused.
    """

    def __init__(
        self,
        root: str | None = None,
        config: str | None = None,
        progress: Callable[..., None] | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.data = DataDir.find(root)
        self._config_path = config
        self._config: Config | None = None
        self._progress = progress
        self._tell: Callable[[str], None] = tell or (lambda message: None)

    @property
    def config(self) -> Config:
        """The merged configuration."""
        if self._config is None:
            from podium.config import load

            self._config = load(self._config_path)
        return self._config

    def _read(self) -> Context:
        """For verbs that need the frozen parts of the format only."""
        format.check(self.data, full=False)
        return self._context()

    def _write(self) -> Context:
        """For verbs that make things."""
        import os

        if os.geteuid() != 0:
            raise HostLacks("podium needs root", hint="run it as root, for example with sudo")
        if format.ensure(self.data) < format.VERSION:
            from podium.store import migrating

            migrating.automatic(self.data, self._tell)
        return self._context()

    def _context(self) -> Context:
        from podium.actions.context import Context

        return Context(self.data, self.config, self._progress)

    # pods

    def plan(self, request: PodRequest) -> PodManifest:
        """The manifest that `prepare` would write."""
        from podium.actions.prepare import plan

        return plan(self._write(), request)

    def prepare(self, request: PodRequest) -> str:
        """Prepare a pod; returns its uuid."""
        import os

        from podium.actions.prepare import prepare

        prepared = prepare(self._write(), request)
        prepared.worker.close()
        os.close(prepared.lock)
        return prepared.pod.uuid

    def run(self, request: PodRequest, how: RunOptions) -> RunResult:
        """Prepare a pod and run it."""
        from podium.actions.run import run

        return run(self._write(), request, how)

    def run_prepared(self, ref: str, how: RunOptions) -> RunResult:
        """Run a prepared pod."""
        from podium.actions.run import run_prepared

        return run_prepared(self._write(), ref, how)

    def list(self) -> Sequence[PodInfo]:
        """All pods."""
        from podium.actions.observe import list_pods

        format.check(self.data, full=False)
        return list_pods(self.data)

    def status(self, ref: str) -> PodInfo:
        """One pod."""
        from podium.actions.observe import look

        format.check(self.data, full=False)
        return look(self.data, ref)

    def resolve(self, ref: str) -> str:
        """The full uuid of a pod."""
        from podium.pods.lifecycle import find

        format.check(self.data, full=False)
        return find(self.data, ref).uuid

    def wait(self, ref: str, timeout: float | None = None) -> PodInfo:
        """Wait until a pod has ended. Raises TimeoutError."""
        from podium.actions.observe import wait

        return wait(self._read(), ref, timeout)

    def wait_ready(self, ref: str, timeout: float | None = None) -> PodInfo:
        """Wait until a pod's apps have been started. Raises TimeoutError."""
        from podium.actions.observe import wait_ready

        return wait_ready(self._read(), ref, timeout)

    def logs(
        self,
        ref: str,
        app: str | None = None,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
    ) -> Iterator[LogLine]:
        """What the apps printed."""
        from podium.actions.logs import logs

        return logs(self._read(), ref, app, follow, since, tail)

    def console(self, ref: str, tail: int | None = None) -> Sequence[bytes]:
        """Lines that were printed on the console of a pod's virtual machine."""
        from podium.actions.logs import console

        return console(self._read(), ref, tail)

    def enter(self, ref: str, app: str | None = None, command: Sequence[str] = (), tty: bool = False) -> int:
        """Run a command in a running pod; returns its exit code."""
        from podium.actions.control import enter

        return enter(self._write(), ref, app, command, tty)

    def stop(self, ref: str, timeout: float = 10.0, force: bool = False) -> None:
        """End a pod; `timeout` in seconds, then it is killed."""
        from podium.actions.control import stop

        stop(self._read(), ref, timeout, force)

    def kill(self, ref: str, signal: int, app: str | None = None) -> None:
        """Send a signal to a pod's apps, or to one of them."""
        from podium.actions.control import kill

        kill(self._read(), ref, signal, app)

    def remove(self, ref: str, force: bool = False) -> None:
        """Collect one pod now."""
        from podium.actions.control import remove

        remove(self._read(), ref, force)

    def gc(
        self,
        grace_period: float | None = None,
        expire_prepared: float | None = None,
        mark_only: bool = False,
        dry_run: bool = False,
    ) -> GcReport:
        """Collect pods that have ended; periods in seconds, None: the configuration's."""
        from podium.gc.collector import collect

        context = self._read()
        config = context.config
        return collect(
            self.data,
            config,
            grace_period=config.get("gc", "grace-period") if grace_period is None else grace_period,
            expire_prepared=config.get("gc", "expire-prepared") if expire_prepared is None else expire_prepared,
            mark_only=mark_only,
            dry_run=dry_run,
        )

    def cat_manifest(self, ref: str) -> bytes:
        """A pod's manifest."""
        from podium.actions.export import cat_manifest

        return cat_manifest(self._read(), ref)

    def inspect(self, ref: str) -> dict[str, Any]:
        """All that is recorded of a pod."""
        from podium.actions.export import inspect

        return inspect(self._read(), ref)

    def export(self, ref: str, file: str, app: str | None = None) -> None:
        """Write an app's rootfs as a tar archive."""
        from podium.actions.export import export

        export(self._write(), ref, file, app)

    # events

    def events(
        self, follow: bool = False, since: float | None = None, filters: Mapping[str, str] | None = None
    ) -> Iterator[Event]:
        """What happened, the oldest first; `since` in seconds since the epoch. With `follow` it never ends."""
        from podium.actions.events import events

        return events(self._read(), follow, since, filters or {})

    def hooks(self) -> dict[str, Any]:
        """Who is told of events, and what went wrong."""
        from podium.actions.events import list_hooks

        return list_hooks(self._read())

    def test_hook(self, name: str, kind: str) -> tuple[str | None, str]:
        """Run a hook's command on a made-up event; returns what went wrong, or None, and its standard error."""
        from podium.actions.events import test_hook

        return test_hook(self._read(), name, kind)

    def generate_systemd(self, refs: Sequence[str], options: UnitOptions) -> str:
        """A systemd unit that runs a prepared pod, or a new pod of images at each start."""
        from podium.actions.systemd import generate

        return generate(self._read(), refs, options, self._config_path)

    def _wake(self) -> None:
        from podium.actions.events import wake

        wake(self._read())

    # images

    def _store(self, *, write: bool) -> Store:
        return (self._write() if write else self._read()).store()

    def import_image(
        self,
        path: str,
        name: str | None = None,
        exec: Sequence[str] | None = None,
        format: str | None = None,
        platform: str | None = None,
    ) -> Image:
        """Import an image from a file or folder."""
        from podium.images.importing import import_path

        image = import_path(
            self._store(write=True),
            path,
            name=name,
            exec=exec,
            format=format,
            platform=platform,
            progress=self._progress,
        )
        self._wake()
        return image

    def fetch_image(
        self, address: str, name: str | None = None, platform: str | None = None, tls_verify: bool = True
    ) -> Image:
        """Fetch an image from a registry: docker://HOST[:PORT]/NAME[:TAG|@DIGEST]."""
        from podium.images.registry.fetching import fetch_image

        return fetch_image(
            self._store(write=True),
            address,
            name=name,
            platform=platform,
            tls_verify=tls_verify,
            progress=self._progress,
        )

    def push_image(self, ref: str, address: str, tls_verify: bool = True) -> str:
        """Push an image to a registry: docker://HOST[:PORT]/NAME[:TAG]; returns the digest of its manifest there."""
        from podium.images.registry.pushing import push_image

        return push_image(self._store(write=True), ref, address, tls_verify=tls_verify, progress=self._progress)

    def images(self) -> Sequence[tuple[Image, float | None]]:
        """All images, each with the time (seconds since the epoch) when a pod last used it."""
        store = self._store(write=False)
        return [(image, store.last_used(image)) for image in store.images()]

    def image_problems(self) -> Sequence[PodiumError]:
        """What keeps images from being listed: records that can't be read."""
        return [problem.error for problem in self._store(write=False).problems()]

    def image(self, ref: str) -> Image:
        """One image."""
        return self._store(write=False).resolve(ref)

    def remove_image(self, ref: str) -> str:
        """Remove an image that no pod uses; returns its id."""
        removed = self._store(write=True).remove(ref)
        self._wake()
        return removed

    def tag_image(self, ref: str, name: str) -> Image:
        """Give an image another name."""
        return self._store(write=True).tag(ref, name)

    def export_image(self, ref: str, file: str, format: str = "oci") -> Sequence[str]:
        """Write an image as an OCI archive or an ACI; returns what could not be said in that format."""
        from podium.images.exporting import export_image

        return export_image(self._store(write=True), ref, file, format, self._progress)

    def extract_image(self, ref: str, folder: str, rootfs_only: bool = False) -> None:
        """Copy an image into a folder: `manifest` and `rootfs/`, or the content of its rootfs alone."""
        from podium.images.exporting import extract_image

        extract_image(self._store(write=True), ref, folder, rootfs_only=rootfs_only)

    def verify_images(self, refs: Sequence[str] = ()) -> Sequence[Verified]:
        """Hold images (none: all) against their digests; trees that were altered are rendered again."""
        return self._store(write=True).verify([*refs] or None)

    def image_gc(self, grace_period: float = 86400.0, dry_run: bool = False) -> tuple[Collected, Sequence[str]]:
        """Remove images without a name, and blobs, trees and pins, that nothing refers to; returns also the pins."""
        from podium.stage1 import pins

        store = self._store(write=True)
        collected = store.gc(grace_period, dry_run=dry_run)
        if collected.images:
            self._wake()
        with store.exclusive():
            return collected, pins.collect(self.data, grace_period, dry_run=dry_run)

    # the data directory

    def fsck(self, repair: bool = False) -> Report:
        """Check all that is stored against each other and its digests; see podium.fsck.checker."""
        from podium.fsck.checker import check

        return check(self._context().store(), self._tell, repair=repair)

    def migration(self) -> Plan:
        """What there is to migrate."""
        from podium.store.migrating import plan

        return plan(self.data)

    def migrate(self) -> Plan:
        """Bring the data directory to this podium's format; returns what was done."""
        from podium.store import migrating

        format.check(self.data)
        format.ensure(self.data)
        return migrating.migrate(self.data, self._tell)

    # networks

    def networks(self) -> Sequence[dict[str, Any]]:
        """The networks that are configured."""
        from podium.actions.network import list_networks

        return list_networks(self._read())

    def inspect_network(self, name: str) -> dict[str, Any]:
        """One network, and the pods in it."""
        from podium.actions.network import inspect

        return inspect(self._read(), name)

    def network_gc(self) -> Sequence[dict[str, Any]]:
        """Let the networks' plugins free what no pod has."""
        from podium.actions.network import collect

        return collect(self._write())

    # stage1

    def stage1_list(self) -> Sequence[dict[str, Any]]:
        """What is installed, with what each plugin says of itself."""
        from podium.actions.stage1 import list_plugins

        return list_plugins(self._read())

    def stage1_check(self, name: str | None = None) -> Sequence[dict[str, Any]]:
        """What this host has and lacks for one plugin or all."""
        from podium.actions.stage1 import check

        return check(self._read(), name)

    def stage1_find(self, name: str) -> None:
        """Raises NotFound or PluginRefused unless exactly one stage1 plugin of that name is installed."""
        from podium.stage1.registry import installed

        installed(name)

    def stage1_call(self, name: str, hook: str, ref: str | None = None, times: int = 1) -> Sequence[dict[str, Any]]:
        """Call one hook of a plugin by hand, on a pod that it prepared."""
        from podium.actions.stage1_call import call

        return call(self._read() if ref is None else self._write(), name, hook, ref, times)

    def pins(self, verify: bool = False) -> Sequence[dict[str, Any]]:
        """The pins, with the pods that refer to each."""
        from podium.actions.stage1 import list_pins

        return list_pins(self._read(), verify)
