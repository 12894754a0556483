"""What a stage1 plugin implements: interface version 1.

A plugin is a module (or object) named by an entry point of the group `podium.stage1`. It implements these hooks with
`@hookimpl`; each implementation takes any subset of the arguments, **without defaults** (pluggy never passes an
argument that has one). `specname` and wrappers are refused: exactly one implementation, of exactly the plugin that
prepared the pod, is ever called.

Hooks run in a worker process, not in the caller's: a crash or a hang costs one call. What a hook raises of
`podium.errors` reaches the user as it is; anything else is a `PluginFailed` that names the plugin and the hook.
Standard output and error go to the pod's `plugin.log`.
"""

from __future__ import annotations

from podium.light_pluggy import pluggy
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from podium.types import EnterRequest, Finding, Ledger, Pod, Stage1Info, StopRequest, Supervisor

PROJECT = "podium"
PREFIX = "stage1_"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Stage1Spec:
    """The hooks of a stage1 plugin. All are required."""

    @hookspec(firstresult=True)
    def stage1_info(self) -> Stage1Info:  # type: ignore[empty-body]
        """Say what the plugin is and implements. Called first in every worker; must be quick and change nothing.

        Example:
            @hookimpl
            def stage1_info():
                return Stage1Info(name="sample", version="1.0", capabilities=frozenset({"enter", "network:host"}))

        .. versionadded:: interface 1
        """

    @hookspec(firstresult=True)
    def stage1_check(self, settings: Mapping[str, Any]) -> Sequence[Finding]:  # type: ignore[empty-body]
        """Say what this host has and lacks for the plugin. Called by `podium stage1 check`; changes nothing.

        `settings` is what `stage1_prepare` finds in `pod.settings`: what they ask for and this host lacks, or what in
        them is wrong, is to be a finding, too.

        .. versionadded:: interface 1
        """

    @hookspec(firstresult=True)
    def stage1_prepare(self, pod: Pod, ledger: Ledger) -> Any:
        """Make under `pod.stage1_dir` what a run will need. Called once, while the pod is preparing.

        Host resources that outlive the call go into `ledger` first. Nothing may keep running. Returns a value that is
        not None: True, or a JSON object, whose "notes" (a list of texts) the user is told.

        Raises:
            CapabilityUnsupported, HostLacks, BadInput: the pod is refused; it is collected as a failed prepare.

        .. versionadded:: interface 1
        """

    @hookspec(firstresult=True)
    def stage1_run(self, pod: Pod, supervisor: Supervisor) -> int:  # type: ignore[empty-body]
        """Make the sandbox, run the apps in it, and return the pod's exit code when it has ended.

        Called once, in the pod's supervisor process, which holds the pod's lock and has its own session. The usual
        body makes a sandbox and returns `supervisor.run_apps(sandbox)`. Whatever is taken goes into
        `supervisor.ledger`.

        .. versionadded:: interface 1
        """

    @hookspec(firstresult=True)
    def stage1_enter(self, pod: Pod, request: EnterRequest) -> int:  # type: ignore[empty-body]
        """Run a command in a running pod beside an app, with that app's restrictions; returns its exit code.

        Raises:
            CapabilityUnsupported: the plugin can't enter.
            WrongState: the app does not run.

        .. versionadded:: interface 1
        """

    @hookspec(firstresult=True)
    def stage1_stop(self, pod: Pod, request: StopRequest) -> Any:
        """End a running pod, or send a signal to its apps. Idempotent: a pod that has ended is no error.

        Returns a value that is not None.

        .. versionadded:: interface 1
        """

    @hookspec(firstresult=True)
    def stage1_gc(self, pod: Pod, ledger: Ledger) -> Any:
        """Release whatever the plugin took for the pod, and mark it released in `ledger`.

        Called for an ended pod, with its lock held, perhaps after a crash or a reboot at any moment, perhaps again and
        again: idempotent. It must not remove `pod.dir`: core does, once it has verified that nothing is left. Returns
        a value that is not None.

        Raises:
            anything: the pod is kept as gc-failed, with the reason.

        .. versionadded:: interface 1
        """


HOOKS = tuple(sorted(name for name in vars(Stage1Spec) if name.startswith(PREFIX)))


class EventSpec:
    """The hooks of an event plugin (entry-point group `podium.hooks`); it implements any of them.

    Every plugin that implements a hook is called, after the transition, in a process of its own and with a time limit
    (10 s): nothing that it does or raises reaches the pod. `event` is the JSON object of `podium events` (schema
    podium.event/1). After a crash it may come twice, with the same `id`.
    """

    @hookspec
    def podium_image_imported(self, event: dict[str, Any]) -> None:
        """An image came into the store.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_image_removed(self, event: dict[str, Any]) -> None:
        """An image left the store.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_prepared(self, event: dict[str, Any]) -> None:
        """A pod is prepared.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_started(self, event: dict[str, Any]) -> None:
        """A pod's apps were started.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_app_exited(self, event: dict[str, Any]) -> None:
        """An app ended; it may be started again.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_exited(self, event: dict[str, Any]) -> None:
        """A pod has ended.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_stopped(self, event: dict[str, Any]) -> None:
        """A pod that was asked to stop has ended; follows `pod_exited`.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_marked(self, event: dict[str, Any]) -> None:
        """gc has marked a pod as garbage.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_collected(self, event: dict[str, Any]) -> None:
        """A pod is gone from pods/, and nothing on the host is its any more.

        .. versionadded:: interface 1
        """

    @hookspec
    def podium_pod_gc_failed(self, event: dict[str, Any]) -> None:
        """A pod could not be collected, for the first time; it is kept.

        .. versionadded:: interface 1
        """


class Retiring(NamedTuple):
    """An argument of a hook that is on its way out. See docs/interface-versions.md.

    Attributes:
        step: `warn` (plugins that take it are told of), then `error` (they are refused), then it is removed.
        since: the podium that began to warn.
        instead: what a plugin does in place of it.
    """

    step: str
    since: str
    instead: str


# (hook, argument) → how far its retirement is. What retires is given as None.
RETIRING: dict[tuple[str, str], Retiring] = {}
