"""`podium list`."""

from __future__ import annotations

import time

from podium.cli import output
from podium.cli.command import FORMAT, Args, Command, Context, Option
from podium.cli.values import key_value
from podium.units import human_age

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_HEADER = ("UUID", "NAME", "STATE", "STAGE1", "APPS", "IMAGE", "CREATED", "NETWORKS")
_FILTERS = ("state", "name", "label", "stage1", "app", "image")


def run(context: Context, args: Args) -> int:
    """Print all pods that fit the filters."""
    pods = [pod.to_json() for pod in context.runtime.list()]
    pods = [pod for pod in pods if all(_fits(pod, key, value) for key, value in args.filter)]
    pods.sort(key=lambda pod: (pod["created"] or "", pod["uuid"]))
    if args.format:
        output.print_json({"schema": "podium.list/1", "pods": pods})
        return 0
    now = time.time()
    output.table(_HEADER, [_row(pod, args.full, now) for pod in pods], legend=not args.no_legend)
    for pod in pods:
        if pod["problem"]:
            output.tell(pod["problem"]["message"])
    return 0


def _filter(text: str) -> tuple[str, str]:
    key, value = key_value(text)
    if key not in _FILTERS:
        raise ValueError(f"{key!r} is not one of {', '.join(_FILTERS)}")
    return key, value


def _fits(pod: dict[str, Any], key: str, value: str) -> bool:
    if key in ("state", "name"):
        return bool(pod[key] == value)
    if key == "label":
        name, equals, wanted = value.partition("=")
        return name in pod["labels"] and (not equals or pod["labels"][name] == wanted)
    if key == "stage1":
        return pod["stage1"] is not None and pod["stage1"]["name"] == value
    if key == "app":
        return any(app["name"] == value for app in pod["apps"])
    return any(_is_image(app, value) for app in pod["apps"])


def _is_image(app: dict[str, Any], value: str) -> bool:
    name, image_id = app["image"] or "", app["image_id"] or ""
    digits = value.removeprefix("sha256:")
    by_id = len(digits) >= 6 and image_id.removeprefix("sha256:").startswith(digits)
    return value in (name, name.rpartition(":")[0] or name) or by_id


def _row(pod: dict[str, Any], full: bool, now: float) -> Sequence[str]:
    problem, stage1, images = pod["problem"], pod["stage1"], [_image(app, full) for app in pod["apps"]]
    return (
        pod["uuid"] if full else pod["uuid"][:8],
        pod["name"] or "",
        f"{pod['state']} ({problem['reason']})" if problem else pod["state"],
        stage1["name"] if stage1 else "",
        ",".join(app["name"] for app in pod["apps"]),
        ",".join(dict.fromkeys(images)),
        (pod["created"] or "") if full else _age(pod["created"], now),
        ",".join(f"{network['name']}:{network['ip']}" for network in pod["networks"]),
    )


def _image(app: dict[str, Any], full: bool) -> str:
    return app["image_id"] or "" if full else app["image"] or (app["image_id"] or "")[:19]


def _age(created: str | None, now: float) -> str:
    try:
        return human_age(now - _epoch(created or ""))
    except ValueError:
        return ""


def _epoch(text: str) -> int:
    """`clock.parse` for the form that podium writes, without importing datetime."""
    year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
    hour, minute, second = int(text[11:13]), int(text[14:16]), int(text[17:19])
    years = year - (month <= 2)  # years that begin in March have their leap day at the end
    in_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 + in_year - 719468
    return days * 86400 + hour * 3600 + minute * 60 + second


COMMAND = Command(
    "list",
    "list the pods",
    run,
    options=(
        FORMAT,
        Option("--full", "whole uuids, image ids and times"),
        Option("--no-legend", "no heading"),
        Option(
            "--filter",
            "only pods whose state, name, stage1, app, image or label (label=NAME[=VALUE]) is this",
            "K=V",
            convert=_filter,
            many=True,
        ),
    ),
    about="Also 'podium ps'. A pod whose files are damaged is listed with what is known of it, and the reason.",
    examples=("podium list --filter state=running --filter label=tier=web", "podium ps --format json"),
)
