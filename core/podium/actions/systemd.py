"""generate systemd: a unit that runs a pod in the foreground, as the service manager's own child."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from podium.actions.context import Context
from podium.errors import BadUsage, NotFound, WrongState
from podium.named import NamedTuple
from podium.paths import PREPARED
from podium.pods import envelope as envelopes
from podium.pods import lifecycle

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=@,+")


class UnitOptions(NamedTuple):
    """How the unit runs the pod.

    Attributes:
        stage1, net, name: as of `podium run`; only with images.
        notify: every app tells when it is ready.
        restart: Restart= of images' units.
        args: for the app of one image.
    """

    stage1: str | None = None
    net: str | None = None
    name: str | None = None
    notify: bool = False
    restart: str = "on-failure"
    args: tuple[str, ...] = ()


def generate(context: Context, refs: Sequence[str], options: UnitOptions, config: str | None) -> str:
    """The unit of one prepared pod, or of a pod of one app for each image.

    Args:
        context: where.
        refs: a pod, or images.
        options: of a unit of images.
        config: file of --config, to be used by the unit too.

    Raises:
        NotFound: neither a pod nor an image.
        WrongState: the pod was run already.
        BadUsage: options of images with a pod, or arguments with several images.
    """
    command = [_command(), "--dir", context.data.root, *(["--config", os.path.abspath(config)] if config else [])]
    pod = _pod(context, refs[0]) if len(refs) == 1 else None
    if pod is None:
        store = context.store()
        for ref in refs:
            store.resolve(ref)
        if options.args and len(refs) > 1:
            raise BadUsage(
                "arguments are for one app, and there are several images",
                hint="prepare the pod with 'podium prepare', and give its uuid",
                subject="--",
            )
        command += ["run", "--rm"]
        for flag, value in (("--stage1", options.stage1), ("--net", options.net), ("--name", options.name)):
            command += [flag, value] if value else []
        for number, ref in enumerate(refs):
            command += [*(["---"] if number else []), ref, *(["--notify"] if options.notify else [])]
        command += ["--", *options.args] if options.args else []
        return _unit(options.name or ", ".join(refs), command, options.restart)
    if options != UnitOptions():
        raise BadUsage("a prepared pod has its options already", hint="give images, or prepare another pod")
    if pod.phase != PREPARED:
        raise WrongState(
            f"pod {pod.uuid} is not prepared but {lifecycle.state(pod)}",
            hint="a pod runs once; give images, and each start makes a new pod",
            subject=pod.uuid,
        )
    name = envelopes.read(pod.path).name
    return _unit(f"pod {name or pod.uuid}", [*command, "run-prepared", pod.uuid], "no")


def _pod(context: Context, ref: str) -> lifecycle.PodRef | None:
    try:
        return lifecycle.find(context.data, ref)
    except (NotFound, BadUsage):
        return None


def _command() -> str:
    """Path of the podium command that belongs to this interpreter."""
    beside = os.path.join(os.path.dirname(sys.executable), "podium")
    return beside if os.path.exists(beside) else os.path.abspath(sys.argv[0])


def _unit(what: str, command: Sequence[str], restart: str) -> str:
    description = "".join(c for c in what if c.isprintable()).replace("%", "%%")
    return "\n".join(
        (
            "# Written by `podium generate systemd`.",
            "[Unit]",
            f"Description=podium: {description}",
            "Wants=network-online.target",
            "After=network-online.target",
            "",
            "[Service]",
            "Type=notify",
            "# The pod's supervisor, which tells when its apps run, is a child of podium.",
            "NotifyAccess=all",
            f"ExecStart={' '.join(map(quoted, command))}",
            f"Restart={restart}",
            "# 143: an app that SIGTERM ended, as asked. Every other exit code is the app's.",
            "SuccessExitStatus=143",
            "# podium alone is asked to stop; it asks its apps. What is left after TimeoutStopSec is killed.",
            "KillMode=mixed",
            "TimeoutStopSec=30",
            "StandardOutput=journal",
            "StandardError=journal",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        )
    )


def quoted(word: str) -> str:
    """A word of a command line as systemd reads it (systemd.service(5), COMMAND LINES)."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$").replace("\n", "\\n")
    return escaped if word and _PLAIN.issuperset(word) else f'"{escaped}"'
