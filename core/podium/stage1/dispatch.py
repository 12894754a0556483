"""Which code is answerable for a pod, and a worker that runs exactly that.

In this order: what is installed, if it *is* the pod's pin; the pin; the installed plugin of that name, if it declares
that it serves what the pod's record says. For gc alone, then, nothing: the ledger serves. Never another plugin.
"""

from __future__ import annotations

import os

from podium.config import Config
from podium.errors import Corrupt, NotFound, PluginRefused, PodiumError
from podium.named import NamedTuple
from podium.paths import DataDir
from podium.pods.envelope import Envelope, Stage1
from podium.stage1 import pins, registry
from podium.stage1.client import Worker
from podium.stage1.registry import Plugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Choice(NamedTuple):
    """The code that serves a pod.

    Attributes:
        via: `installed`, `pin`, `compatible` or `ledger` (no code at all).
        plugin: what is loaded; for a pin, as it was.
        pin: folder name of the pin, for `pin`.
        why_not: what kept better choices from being used.
    """

    via: str
    plugin: Plugin | None
    pin: str | None = None
    why_not: tuple[str, ...] = ()


class Dispatcher:
    """Chooses code for pods and keeps one worker for each choice, for the length of one command."""

    def __init__(self, data: DataDir, config: Config) -> None:
        self._data = data
        self._config = config
        self._workers: dict[tuple[str, str], Worker] = {}
        self._choices: dict[Stage1, Choice] = {}
        self._adopted: dict[str, Choice] = {}

    def __enter__(self) -> Dispatcher:
        """Workers end when the block does."""
        return self

    def __exit__(self, *exc: object) -> None:
        for worker in self._workers.values():
            worker.close()

    def adopt(self, worker: Worker, uuid: str) -> None:
        """Use a worker that is there already, and has a pod's own code; it ends with the command's others."""
        pin = os.path.basename(worker.pin_folder or "")
        self._workers[worker.plugin.name, pin] = worker
        self._adopted[uuid] = Choice("pin" if pin else "installed", worker.plugin, pin or None)

    def choose(self, envelope: Envelope) -> Choice:
        """The code for a pod; `via` is `ledger` when there is none."""
        stage1 = envelope.stage1
        adopted = self._adopted.get(envelope.uuid)
        if adopted is not None and not self._revoked(stage1.pin, stage1.digest):
            return adopted
        if stage1 not in self._choices:
            self._choices[stage1] = self._choose(stage1)
        return self._choices[stage1]

    def require(self, envelope: Envelope) -> Choice:
        """The code for a pod that has to be run, entered or stopped.

        Raises:
            PluginRefused: there is none; names plugin, version and digests, and what to do.
        """
        choice = self.choose(envelope)
        if choice.via == "ledger":
            s = envelope.stage1
            raise PluginRefused(
                f"pod {envelope.uuid} was prepared by stage1 plugin {s.name!r} {s.version} ({s.digest}, pin {s.pin}), "
                f"which can't be used: {'; '.join(choice.why_not)}",
                hint=f"install {s.distribution} {s.version}; 'podium gc' can still collect the pod from its ledger",
                subject=envelope.uuid,
            )
        return choice

    def worker(self, choice: Choice) -> Worker:
        """The command's worker for that code; a new one when the last has ended.

        Raises:
            PluginRefused, InterfaceMismatch, PluginFailed: the plugin can't be loaded.
        """
        assert choice.plugin is not None
        key = (choice.plugin.name, choice.pin or "")
        worker = self._workers.get(key)
        if worker is None or not worker.usable:
            worker = self._workers[key] = self.new_worker(choice)
        return worker

    def new_worker(self, choice: Choice, keep: Iterable[int] = (), *, to_run: bool = False) -> Worker:
        """A worker of its own, which inherits the descriptors `keep`; the caller closes it.

        `to_run`: it is to run a pod, so it imports all that a run needs before it begins one.
        """
        assert choice.plugin is not None
        from podium.linux import cgroup

        worker = Worker.start(choice.plugin, self._data.pin(choice.pin) if choice.pin else None, keep)
        try:
            if to_run:
                cgroup.expect_moves_soon()
            worker.load(ahead=to_run)
        except PodiumError:
            worker.close()
            raise
        return worker

    def for_new_pod(self, name: str) -> tuple[Choice, pins.Pin]:
        """The installed plugin that will prepare a new pod, and what its code is.

        Raises:
            NotFound, PluginRefused: it is not installed, ambiguous or revoked.
        """
        plugin = registry.installed(name)
        return Choice("installed", plugin), self.pin_of(plugin)

    def pin_of(self, plugin: Plugin) -> pins.Pin:
        """What the code of the installed plugin is that will prepare a new pod.

        Raises:
            PluginRefused: it can't be found, or is revoked.
        """
        current = pins.current(self._data, plugin)
        if self._revoked(current.pin, current.digest):
            raise PluginRefused(
                f"stage1 plugin {plugin.name!r} as installed ({current.digest}) is revoked by the configuration",
                hint="upgrade it, or remove the digest from stage1.revoked",
                subject=plugin.name,
            )
        return current

    def _revoked(self, *digests: str) -> bool:
        return not {*digests}.isdisjoint(self._config.get("stage1", "revoked"))

    def _choose(self, stage1: Stage1) -> Choice:
        if self._revoked(stage1.pin, stage1.digest):
            return Choice("ledger", None, why_not=("it is revoked by the configuration (stage1.revoked)",))
        why_not = []
        installed: Plugin | None = None
        try:
            installed = registry.installed(stage1.name)
            current = pins.current(self._data, installed)
            if current.pin == stage1.pin:
                return Choice("installed", installed)
            what = "its code" if current.digest != stage1.digest else "podium's own code or a library"
            why_not.append(f"{installed.distribution} {installed.version} is installed, but {what} is not the same")
        except (NotFound, PluginRefused) as e:
            why_not.append(e.message)
        try:
            pins.verify(self._data, stage1.pin)
            pinned = Plugin(stage1.name, stage1.entry, stage1.distribution, stage1.version)
            return Choice("pin", pinned, stage1.pin, tuple(why_not))
        except FileNotFoundError:
            why_not.append(f"the pin {stage1.pin} is missing")
        except Corrupt as e:
            why_not.append(e.message)
        if installed is not None and installed.distribution == stage1.distribution:
            choice = Choice("compatible", installed, None, tuple(why_not))
            try:
                if [stage1.interface, stage1.state] in self.worker(choice).info["serves"]:
                    return choice
                why_not.append(
                    f"the installed one does not declare that it serves interface {stage1.interface} "
                    f"with state format {stage1.state}"
                )
            except PodiumError as e:
                why_not.append(e.message)
        return Choice("ledger", None, why_not=tuple(why_not))
