"""Hooks of /etc/podium/hooks.d: a TOML file says which events, and which command is run for each.

events = ["pod-exited"]             # kinds; left out: all
command = ["/usr/local/bin/tell"]
timeout = "10s"                     # then it is killed
[filter]                            # all must fit; a value or a list of values; texts may have * and ?
stage1 = "fly"
exit_code = [1, 2]
label = {team = "web"}
[environment]
WHERE = "here"
"""

from __future__ import annotations

import os
from fnmatch import fnmatchcase

from podium.errors import BadInput, PodiumError
from podium.events.consumers import toml_files
from podium.events.record import KINDS, Event
from podium.named import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

TIMEOUT = 10.0  # seconds
_FILTERS = ("stage1", "name", "image", "label", "exit_code")


class TomlHook(NamedTuple):
    """A command on events; `filters` as in the file, each value a list (label: a table of lists)."""

    name: str
    path: str
    events: tuple[str, ...]
    command: tuple[str, ...]
    timeout: float
    filters: dict[str, Any]
    environment: dict[str, str]

    def wants(self, event: Event) -> bool:
        """Whether the command is to be run for this event."""
        details = event.details
        if event.kind not in self.events:
            return False
        for key, values in self.filters.items():
            if key == "label":
                labels = details.get("labels", {})
                if not all(k in labels and _fits([labels[k]], v) for k, v in values.items()):
                    return False
            elif key == "exit_code":
                if details.get("exit_code") not in values:
                    return False
            else:
                found = details.get("images", ()) if key == "image" else (details.get(key),)
                if not _fits(found, values):
                    return False
        return True


def _fits(found: Sequence[str | None], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(f, p) for f in found if f is not None for p in patterns)


def load(folder: str) -> tuple[list[TomlHook], list[PodiumError]]:
    """The hooks of a folder, and what is wrong with those that can't be used."""
    hooks: list[TomlHook] = []
    problems: list[PodiumError] = []
    for path in toml_files(folder):
        try:
            hooks.append(parse(path))
        except PodiumError as e:
            problems.append(e)
    return hooks, problems


def parse(path: str) -> TomlHook:
    """One file. Raises BadInput, which names the file and the key."""
    import tomllib

    def wrong(why: str, hint: str | None = None) -> BadInput:
        return BadInput(f"the hook {path}: {why}", hint=hint, subject=path)

    try:
        with open(path, "rb") as f:
            content = tomllib.load(f)
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise wrong(f"it can't be read: {e}") from None
    unknown = set(content) - {"events", "command", "timeout", "filter", "environment"}
    if unknown:
        raise wrong(f"unknown key {min(unknown)!r}", "known keys: events, command, timeout, filter, environment")
    events, command = content.get("events", list(KINDS)), content.get("command")
    if not _texts(command) or not command or not command[0].startswith("/"):
        raise wrong("command must be a list of texts, the first an absolute path")
    if not _texts(events) or not set(events) <= set(KINDS):
        raise wrong("events must be a list of kinds of events", f"kinds: {', '.join(KINDS)}")
    environment, filters = content.get("environment", {}), content.get("filter", {})
    if not isinstance(environment, dict) or not _texts([*environment.values()]):
        raise wrong("environment must be a table of texts")
    if not isinstance(filters, dict) or not set(filters) <= set(_FILTERS):
        raise wrong("filter must be a table", f"filters: {', '.join(_FILTERS)}")
    for key, value in filters.items():
        if key == "label":
            if not isinstance(value, dict) or not all(_texts(_list(v)) for v in value.values()):
                raise wrong("filter.label must be a table of texts, or of lists of them")
            filters[key] = {k: _list(v) for k, v in value.items()}
            continue
        filters[key] = _list(value)
        if not all(type(v) is (int if key == "exit_code" else str) for v in filters[key]):
            raise wrong(f"filter.{key} must be of {'numbers' if key == 'exit_code' else 'texts'}")
    name = os.path.basename(path).removesuffix(".toml")
    timeout = _timeout(content.get("timeout", TIMEOUT), wrong)
    return TomlHook(name, path, tuple(events), tuple(command), timeout, filters, environment)


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, str) and "\0" not in v for v in value)


def _timeout(value: Any, wrong: Any) -> float:
    if isinstance(value, str):
        from podium.units import duration

        try:
            return duration(value)
        except BadInput as e:
            raise wrong(f"timeout: {e.message}") from None
    if type(value) not in (int, float) or value <= 0:
        raise wrong("timeout must be a duration, such as 10s")
    return float(value)
