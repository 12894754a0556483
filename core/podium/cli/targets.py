"""Commands on several things: each is attempted, each failure is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from podium.cli import output
from podium.cli.command import Context
from podium.errors import NotFound, PartlyFailed, PodiumError


def each(context: Context, refs: Iterable[str], act: Callable[[str], None]) -> int:
    """Call `act` for each.

    Raises:
        PodiumError, OSError: the failure, when there is one ref only.

    Returns:
        0, or the exit code of PartlyFailed.
    """
    asked = list(dict.fromkeys(refs))
    if len(asked) == 1:
        act(asked[0])
        return 0
    failed = 0
    for ref in asked:
        try:
            act(ref)
        except BrokenPipeError:
            raise
        except (PodiumError, OSError) as e:
            failed = PartlyFailed.exit_code
            output.report(e if isinstance(e, PodiumError) else output.as_podium_error(e), context.json)
    return failed


def each_pod(context: Context, refs: Iterable[str], act: Callable[[str], None], *, gone_is_done: bool = False) -> int:
    """Call `act` with each pod's uuid, and print the uuid when it is done.

    Args:
        context: of the command.
        refs: of pods.
        act: does it to the pod of a full uuid.
        gone_is_done: a pod that somebody else removes in this moment is what was asked for.
    """
    done = set()
    uuids: dict[str, str] = {}
    for ref in dict.fromkeys(refs):
        try:
            uuids[ref] = context.runtime.resolve(ref)  # all first: what vanishes after that is gone as was asked
        except (PodiumError, OSError):
            uuids[ref] = ""  # told at its turn

    def resolved(ref: str) -> None:
        uuid = uuids[ref] or context.runtime.resolve(ref)
        if uuid in done:
            return
        try:
            act(uuid)
        except NotFound:
            if not gone_is_done:
                raise
        done.add(uuid)
        print(uuid, flush=True)

    return each(context, uuids, resolved)
