"""events, hooks: what happened, and who is told."""

from __future__ import annotations

import os

from podium.actions.context import Context
from podium.errors import NotFound
from podium.events import images, log
from podium.events.record import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any


def events(context: Context, follow: bool, since: float | None, filters: Mapping[str, str]) -> Iterator[Event]:
    """Events, the oldest first. As root, what somebody who was killed has missed is logged first.

    Args:
        context: where.
        follow: go on for ever.
        since: seconds since the epoch; nothing older.
        filters: kind, subject, name, stage1, image, app → value; all must fit.
    """
    from podium.clock import parse

    make_good(context)
    for event in log.follow(context.data) if follow else log.read(context.data):
        if (since is None or parse(event.time) >= since) and all(_fits(event, k, v) for k, v in filters.items()):
            yield event


def make_good(context: Context) -> None:
    """Log what was missed, and wake who delivers."""
    if os.geteuid() != 0 or not os.path.isdir(context.data.pods):
        return
    emitter = context.emitter()
    images.make_good(context.data)
    emitter.pods()
    if os.path.isdir(context.data.events):
        emitter.wake()


def wake(context: Context) -> None:
    """After an event of an image: wake who delivers."""
    if os.path.isdir(context.data.events):
        context.emitter().wake()


def _fits(event: Event, key: str, value: str) -> bool:
    if key == "image":
        return value in event.details.get("images", ())
    found = getattr(event, key) if key in ("kind", "subject") else event.details.get(key)
    return found == value


def list_hooks(context: Context) -> dict[str, Any]:
    """The commands and plugins that are told of events, what is wrong with some, and what went wrong."""
    from podium.events import consumers, deliver, toml_hooks

    hooks, problems = toml_hooks.load(context.config.get("hooks", "dir"))
    return {
        "schema": "podium.hooks/1",
        "hooks": [hook._asdict() for hook in hooks],
        "plugins": [{"name": n, "entry": e, "distribution": d} for n, e, d in consumers.scan()],
        "problems": [problem.to_json() for problem in problems],
        "failures": deliver.failures(context.data),
    }


def test_hook(context: Context, name: str, kind: str) -> tuple[str | None, str]:
    """Run one hook's command on a made-up event of a kind; what went wrong (None: nothing), and its stderr."""
    from podium.clock import rfc3339
    from podium.events import deliver, toml_hooks

    folder = context.config.get("hooks", "dir")
    path = os.path.join(folder, f"{name}.toml")
    if "/" in name or not os.path.exists(path):
        raise NotFound(f"there is no hook {name!r} in {folder}", hint="'podium hooks list' shows all", subject=name)
    hook = toml_hooks.parse(path)
    uuid = "00000000-0000-4000-8000-000000000000"
    event = Event(f"{uuid}:test", kind, uuid, {"test": True}, rfc3339())
    outcome = deliver.call(f"hook {name}", hook.command, event, hook.timeout, hook.environment)
    return outcome.message, outcome.stderr
