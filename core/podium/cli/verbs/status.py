"""`podium status`."""

from __future__ import annotations

import math

from podium.cli import output
from podium.cli.command import FORMAT, POD, UUID_FILE, Args, Command, Context, Option
from podium.cli.values import optional_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run(context: Context, args: Args) -> int:
    """Print one pod, perhaps after waiting."""
    if args.wait_ready is not None:
        context.runtime.wait_ready(args.pod, _limit(args.wait_ready))
    if args.wait is not None:
        info = context.runtime.wait(args.pod, _limit(args.wait))
    else:
        info = context.runtime.status(args.pod)
    pod = info.to_json(full=True)
    if args.format:
        output.print_json({"schema": "podium.status/1", "pod": pod})
    else:
        _show(pod)
    return 0


def _limit(seconds: float) -> float | None:
    return None if seconds == math.inf else seconds


def _show(pod: dict[str, Any]) -> None:
    from podium.units import human_size

    stage1, problem = pod["stage1"] or {}, pod["problem"]
    memory, cpu = pod.get("memory_bytes"), pod.get("cpu_seconds")
    output.pairs(
        [
            ("uuid", pod["uuid"]),
            ("name", pod["name"] or ""),
            ("state", pod["state"]),
            ("problem", f"{problem['reason']}: {problem['message']}" if problem else ""),
            ("stage1", f"{stage1['name']} {stage1['version']} ({stage1['pin']})" if stage1 else ""),
            ("created", pod["created"] or ""),
            ("started", pod["started"] or ""),
            ("finished", pod["finished"] or ""),
            ("exit code", _text(pod["exit_code"])),
            ("pid", _text(pod.get("pid"))),
            ("cgroup", pod.get("cgroup") or ""),
            ("memory", "" if memory is None else human_size(memory)),
            ("cpu", "" if cpu is None else f"{cpu:.2f}s"),
            ("networks", ", ".join(f"{n['name']} {n['ip']}" for n in pod["networks"])),
            *_facts(pod.get("facts") or {}),
            ("labels", ", ".join(f"{k}={v}" for k, v in sorted(pod["labels"].items()))),
            *((f"app {app['name']}", _app(app)) for app in pod["apps"]),
        ]
    )


def _facts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What the stage1 says of the run; of `x` and `x_reason` one line, sizes (`x_kib`) as people read them."""
    from podium.units import human_size

    lines = []
    for key, value in facts.items():
        name, text = key, _text(value)
        if key.endswith("_kib") and type(value) is int:
            name, text = key.removesuffix("_kib"), human_size(value << 10)
        if reason := facts.get(f"{key}_reason"):
            text += f" ({reason})"
        if not key.endswith("_reason") or key.removesuffix("_reason") not in facts:
            lines.append((name.replace("_", " "), text))
    return lines


def _app(app: dict[str, Any]) -> str:
    parts, end = [app["state"]], ""
    if app["signal"]:
        end = f"by {app['signal']}"
    elif app["exit_code"] is not None:
        end = f"with {app['exit_code']}"
    if app["state"] == "exited" and end:
        parts.append(end)
    if app.get("pid"):
        parts.append(f"as pid {app['pid']}")
    if app.get("restarts"):
        last = f", exited {end} before" if end and app["state"] != "exited" else ""
        parts.append(f"after {app['restarts']} restart{'s' if app['restarts'] > 1 else ''}{last}")
    if app.get("message"):
        parts.append(f"({app['message'].partition(chr(10))[0]})")
    return " ".join([*parts, "·", app["image"] or app["image_id"] or ""]).rstrip(" ·")


def _text(value: object) -> str:
    return "" if value is None else str(value)


COMMAND = Command(
    "status",
    "show one pod",
    run,
    options=(
        Option("--wait", "first wait until it has ended", "TIME", convert=optional_seconds, optional=True),
        Option("--wait-ready", "first wait until its apps run", "TIME", convert=optional_seconds, optional=True),
        FORMAT,
        UUID_FILE,
    ),
    operands=(POD,),
    examples=("podium status web --wait-ready=30s", "podium status 1f2e --format json"),
)
