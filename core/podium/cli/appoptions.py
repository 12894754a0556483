"""Options of one app, which follow its image."""

from __future__ import annotations

from podium.cli import values
from podium.cli.command import Args, Option
from podium.errors import BadUsage
from podium.pods.request import AppRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_STREAMS = ("null", "log", "inherit")


def _isolator(name: str, raw: Any, option: str) -> tuple[str, Any]:
    """Check it here, where the option's name is known."""
    from podium.appc.isolators import make

    make(name, raw, option)
    return name, raw


def _memory(text: str) -> tuple[str, Any]:
    return _isolator("resource/memory", {"limit": text}, text)


def _cpu(text: str) -> tuple[str, Any]:
    return _isolator("resource/cpu", {"limit": text}, text)


def _cpu_shares(text: str) -> tuple[str, Any]:
    return "os/linux/cpu-shares", values.whole(2, 262144)(text)


def _pids(text: str) -> tuple[str, Any]:
    return "podium/pids", {"limit": values.whole(1, 4194304)(text)}


def _oom_score_adj(text: str) -> tuple[str, Any]:
    return "os/linux/oom-score-adj", values.whole(-1000, 1000)(text)


def _caps(kind: str, text: str) -> tuple[str, Any]:
    names = [name.strip().upper() for name in text.split(",")] if text else []
    full = [name if name.startswith("CAP_") else f"CAP_{name}" for name in names]
    return _isolator(f"os/linux/capabilities-{kind}-set", {"set": full}, text)


def _caps_retain(text: str) -> tuple[str, Any]:
    return _caps("retain", text)


def _caps_remove(text: str) -> tuple[str, Any]:
    return _caps("remove", text)


def _seccomp(text: str) -> tuple[str, Any]:
    names, given = values.fields(text, ("mode", "errno"))
    if given.get("mode") not in ("retain", "remove"):
        raise ValueError(f"{text!r} needs mode=retain or mode=remove")
    raw = {"set": names, **({"errno": given["errno"]} if given.get("errno") else {})}
    return _isolator(f"os/linux/seccomp-{given['mode']}-set", raw, text)


def _rlimit(text: str) -> tuple[str, dict[str, int]]:
    name, limits = values.key_value(text)
    soft, colon, hard = limits.partition(":")
    both = [-1 if t in ("unlimited", "infinity") else values.whole(-1)(t) for t in (soft, hard if colon else soft)]
    raw = {"soft": both[0], "hard": both[1]}
    _isolator("podium/rlimits", {name: raw}, text)
    return name.upper().removeprefix("RLIMIT_"), raw


def _mount(text: str) -> tuple[str, str]:
    words, given = values.fields(text, ("volume", "target"))
    if words or not given.get("volume") or not given.get("target"):
        raise ValueError(f"{text!r} is not of the form volume=NAME,target=PATH")
    return given["volume"], given["target"]


def _gids(text: str) -> tuple[str, ...]:
    if not all(text.split(",")):
        raise ValueError(f"{text!r} is no list of groups (such as 100,extra)")
    return tuple(text.split(","))


OPTIONS = (
    Option("--name", "the app's name; from the image's by default", "NAME"),
    Option("--exec", "run PATH of the rootfs in place of the image's command", "PATH"),
    Option("--working-dir", "the folder to start in", "DIR"),
    Option("--user", "user: a name or number, looked up in the rootfs, or a file whose owner is meant", "USER"),
    Option("--group", "group, likewise", "GROUP"),
    Option("--supplementary-gids", "further groups, separated by commas", "GROUPS", convert=_gids),
    Option("--environment", "an environment variable", "K=V", convert=values.key_value, many=True),
    Option("--mount", "mount a volume", "volume=V,target=T", convert=_mount, many=True),
    Option("--readonly-rootfs", "mount the rootfs read-only"),
    Option("--memory", "most memory (128M, 1Gi)", "SIZE", convert=_memory),
    Option("--cpu", "most processor time (750m is three quarters of one)", "AMOUNT", convert=_cpu),
    Option("--cpu-shares", "weight against other apps, 2 to 262144", "N", convert=_cpu_shares),
    Option("--pids", "most processes and threads", "N", convert=_pids),
    Option("--caps-retain", "capabilities to keep; '' for none", "A,B", convert=_caps_retain),
    Option("--caps-remove", "capabilities to take away", "A,B", convert=_caps_remove),
    Option("--no-new-privileges", "setuid programs gain nothing"),
    Option(
        "--seccomp",
        "let only these system calls through, or all but these; @NAME is a set",
        "mode=retain|remove,errno=E,A,@B",
        convert=_seccomp,
    ),
    Option("--rlimit", "a limit of setrlimit(2), or 'unlimited'", "NAME=SOFT:HARD", convert=_rlimit, many=True),
    Option("--oom-score-adj", "-1000 to 1000; the highest is killed first", "N", convert=_oom_score_adj),
    Option(
        "--restart",
        "start it again when it has ended",
        "WHEN",
        default="no",
        choices=("no", "on-failure", "always"),
    ),
    Option("--notify", "the app says itself when it is ready, as sd_notify(3) does"),
    Option("--stdin", "standard input", "WHAT", default="auto", choices=_STREAMS),
    Option("--stdout", "standard output", "WHAT", default="auto", choices=_STREAMS),
    Option("--stderr", "standard error", "WHAT", default="auto", choices=_STREAMS),
)


def app_request(image: str, args: Args, words: tuple[str, ...]) -> AppRequest:
    """What is asked of one app.

    Args:
        image: its reference.
        args: values of OPTIONS.
        words: the app's arguments.
    """
    if args.caps_retain and args.caps_remove:
        raise BadUsage("--caps-retain and --caps-remove can't be used together", subject=image)
    single = (args.memory, args.cpu, args.cpu_shares, args.pids, args.caps_retain, args.caps_remove, args.seccomp)
    isolators = [isolator for isolator in (*single, args.oom_score_adj) if isolator]
    if args.no_new_privileges:
        isolators.append(("os/linux/no-new-privileges", True))
    if args.rlimit:
        isolators.append(("podium/rlimits", dict(args.rlimit)))
    return AppRequest(
        image=image,
        name=args.name,
        exec=args.exec,
        args=words,
        working_dir=args.working_dir,
        user=args.user,
        group=args.group,
        supplementary_gids=args.supplementary_gids or (),
        environment=dict(args.environment),
        mounts=tuple(args.mount),
        readonly_rootfs=args.readonly_rootfs,
        isolators=tuple(isolators),
        restart=args.restart,
        notify=args.notify,
        stdin=args.stdin,
        stdout=args.stdout,
        stderr=args.stderr,
    )
