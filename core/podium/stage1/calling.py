"""call_exactly(): one hook, one implementation, of one plugin. Loaded in workers only."""

from __future__ import annotations

from podium.errors import CapabilityUnsupported, InterfaceMismatch, PluginRefused
from podium.hookspecs import HOOKS, PREFIX, PROJECT, RETIRING, Retiring, Stage1Spec
from podium.light_pluggy import pluggy
from podium.types import INTERFACE, Stage1Info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any


class Loaded:
    """A plugin, registered alone and held against the specification.

    Attributes:
        name: as its entry point has it.
        info: what it says of itself.
        warnings: what its author should change.
        ahead: names of modules that its `prepare` and `run` need, if it says so in AHEAD.

    Args:
        name: of the plugin.
        plugin: the module or object.
        spec: the specification.
        retiring: arguments of it that are on their way out.
    """

    def __init__(
        self,
        name: str,
        plugin: object,
        spec: type[Stage1Spec] = Stage1Spec,
        retiring: Mapping[tuple[str, str], Retiring] = RETIRING,
    ) -> None:
        self.name = name
        self.warnings: list[str] = []
        self.ahead: tuple[str, ...] = tuple(getattr(plugin, "AHEAD", ()))
        self._plugin = plugin
        self._retiring = retiring
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(spec)
        try:
            self._manager.register(plugin, name)
            self._manager.check_pending()  # a misspelt hook
        except (pluggy.PluginValidationError, ValueError) as e:
            raise self._refused(" ".join(str(e).split())) from None
        self._check_implementations()
        self.info = self._info()

    def call_exactly(self, hook: str, **args: Any) -> Any:
        """Call the plugin's implementation of `hook` and nothing else.

        Args:
            hook: name without the prefix.
            args: exactly the arguments that the specification names.

        Raises:
            PluginRefused: there is no implementation, another one got in, or it returned None.
            Whatever the implementation raises.
        """
        hook = PREFIX + hook
        caller = getattr(self._manager.hook, hook)
        args.update(
            {argument: None for of, argument in self._retiring if of == hook and argument in caller.spec.argnames}
        )
        assert set(args) == set(caller.spec.argnames), f"{hook} takes {caller.spec.argnames}, not {sorted(args)}"
        others = [p for p in self._manager.get_plugins() if p is not self._plugin]
        only = self._manager.subset_hook_caller(hook, remove_plugins=others)
        implementations = only.get_hookimpls()
        if [impl.plugin for impl in implementations] != [self._plugin]:
            raise self._refused(f"{hook} has {len(implementations)} implementations, not one")
        result = only(**args)
        if result is None:
            raise self._refused(f"{hook} returned None, which pluggy can't tell from no implementation")
        return result

    def refuse_unsupported(self, asked: Iterable[str]) -> None:
        """Refuse what a pod asks and the plugin does not implement.

        Args:
            asked: names of capabilities, see `Stage1Info`.

        Raises:
            CapabilityUnsupported: names everything that is missing.
        """
        lacking = dict.fromkeys(name for name in asked if name not in self.info.capabilities)
        reasons = {name: f" ({why})" for name, why in self.info.reasons.items()}
        missing = [("several apps in a pod" if n == "apps" else n) + reasons.get(n, "") for n in lacking]
        if missing:
            raise CapabilityUnsupported(
                f"stage1 plugin {self.name!r} does not support {', '.join(missing)}",
                hint="choose another with --stage1 ('podium stage1 list' shows what each supports), or do without",
                subject=self.name,
            )

    def _refused(self, why: str) -> PluginRefused:
        return PluginRefused(
            f"stage1 plugin {self.name!r} is refused: {why}",
            hint="see docs/stage1-plugin-guide.md, or ask the plugin's author",
            subject=self.name,
        )

    def _check_implementations(self) -> None:
        for hook in HOOKS:
            implementations = getattr(self._manager.hook, hook).get_hookimpls()
            for impl in implementations:
                self._check(hook, impl)
            if len(implementations) != 1:
                raise self._refused(f"it has {len(implementations)} implementations of {hook}, not one")

    def _check(self, hook: str, impl: pluggy.HookImpl) -> None:
        name = impl.function.__name__
        if impl.opts.get("specname"):
            raise self._refused(f"its {name} uses specname, which is not allowed on {hook}")
        if impl.hookwrapper or impl.wrapper:
            raise self._refused(f"its {name} is a wrapper, which is not allowed on stage1 hooks")
        defaults = [*impl.kwargnames, *(getattr(impl.function, "__kwdefaults__", None) or ())]
        if defaults:
            raise self._refused(f"its {name} gives {', '.join(defaults)} a default, so it would never be passed")
        for argument in impl.argnames:
            if (retiring := self._retiring.get((hook, argument))) is None:
                continue
            what = f"its {name} takes {argument}, which is deprecated since podium {retiring.since}: {retiring.instead}"
            if retiring.step == "error":
                raise self._refused(what)
            self.warnings.append(what)

    def _info(self) -> Stage1Info:
        info = self.call_exactly("info")
        interface = getattr(info, "interface", None)
        if interface != INTERFACE:
            raise InterfaceMismatch(
                f"stage1 plugin {self.name!r} speaks interface {interface!r}, this podium speaks {INTERFACE}",
                hint="install a version of the plugin that was made for this podium",
                subject=self.name,
            )
        if not isinstance(info, Stage1Info):
            raise self._refused(f"stage1_info returned {type(info).__name__}, not Stage1Info")
        if info.name != self.name:
            raise self._refused(f"it calls itself {info.name!r}")
        return info
