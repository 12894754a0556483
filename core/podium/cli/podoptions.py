"""Options of `run` and `prepare`, and their grammar: pod options, images with app options, `--` and `---`."""

from __future__ import annotations

from podium.cli import output, parse, values
from podium.cli.appoptions import OPTIONS as APP_OPTIONS
from podium.cli.appoptions import app_request
from podium.cli.command import GLOBALS, TLS_VERIFY, Args, Command, Context, Option
from podium.contexts import contextmanager
from podium.errors import BadUsage
from podium.pods.request import AppRequest, PodRequest, RunResult, is_address, is_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

USAGE = "[pod options] IMAGE [app options] [-- ARG...] [--- IMAGE ...]..."
GRAMMAR = (
    "Pod options stand before the first image, an app's options after its image. '--' starts the app's arguments, "
    "'---' ends them and another image follows. IMAGE is a name[:tag], an id or at least 6 digits of it, or the path "
    "of an image, which is imported first, or docker://HOST[:PORT]/NAME[:TAG], which is fetched if it is not stored."
)
_VOLUME = ("kind", "source", "readOnly", "recursive", "mode", "uid", "gid", "size")


def _names(text: str) -> list[str]:
    if not all(text.split(",")):
        raise ValueError(f"{text!r} has an empty part")
    return text.split(",")


def _port(text: str) -> tuple[str, str, int]:
    name, colon, rest = text.partition(":")
    ip, _, number = rest.rpartition(":")
    if not name or not colon:
        raise ValueError(f"{text!r} is not of the form NAME:[IP:]HOSTPORT")
    return name, ip.removeprefix("[").removesuffix("]"), values.whole(1, 65535)(number)


def _hosts_entry(text: str) -> tuple[str, str]:
    ip, name = values.key_value(text)
    if not name:
        raise ValueError(f"{text!r} is not of the form IP=NAME")
    return ip, name


def _volume(text: str) -> dict[str, Any]:
    words, given = values.fields(text, _VOLUME)
    if len(words) != 1 or not words[0] or "kind" not in given:
        raise ValueError(f"{text!r} is not of the form NAME,kind=host|empty|tmpfs,…")
    volume: dict[str, Any] = {"name": words[0], **given}
    for key in ("readOnly", "recursive"):
        if key in volume:
            volume[key] = values.flag(volume[key])
    for key in ("uid", "gid"):
        if key in volume:
            volume[key] = values.whole(0, 2**32 - 2)(volume[key])
    from podium.appc.fields import Field
    from podium.appc.pod_manifest import parse_volume

    parse_volume(Field(volume, words[0]))
    return volume


def _pairs(flag: str, help: str) -> Option:
    return Option(flag, help, "K=V", convert=values.key_value, many=True)


POD_OPTIONS = (
    Option("--stage1", "the stage1 plugin; default: the configuration's", "NAME", complete="stage1"),
    Option("--name", "a name for the pod, to be used in place of its uuid", "NAME"),
    Option(
        "--net",
        "networks: host, none, default, or names, with CNI arguments",
        "NAME[:K=V;K=V][,NAME]",
        convert=_names,
        many=True,
    ),
    Option("--port", "forward a port of an image", "NAME:[IP:]HOSTPORT", convert=_port, many=True),
    Option("--hostname", "the pod's host name", "NAME"),
    Option("--dns", "name servers for resolv.conf", "IP[,IP]", convert=_names, many=True),
    Option("--dns-search", "domains to search", "DOMAIN", convert=_names, many=True),
    Option("--dns-opt", "options for resolv.conf, such as ndots:1", "OPTION[,OPTION]", convert=_names, many=True),
    Option("--dns-domain", "the domain line of resolv.conf", "DOMAIN"),
    Option("--hosts-entry", "a line for /etc/hosts", "IP=NAME", convert=_hosts_entry, many=True),
    Option(
        "--volume",
        "a volume, with source=, readOnly=, recursive=, mode=, uid=, gid=, size=",
        "NAME,kind=host|empty|tmpfs,...",
        convert=_volume,
        many=True,
    ),
    _pairs("--set-env", "an environment variable of all apps"),
    Option("--set-env-file", "a file of K=V lines", "FILE", many=True, complete="file"),
    Option("--inherit-env", "give the apps podium's own environment"),
    Option("--pod-manifest", "an appc pod manifest, in place of images", "FILE", complete="file"),
    TLS_VERIFY,
    Option("--uuid-file-save", "write the pod's uuid into FILE", "FILE", complete="file"),
    Option("--private-users", "give the pod a user namespace of its own"),
    _pairs("--label", "a label, for 'podium list --filter'"),
    _pairs("--annotation", "an annotation"),
    Option("--dry-run", "print the pod's manifest and make nothing"),
)
RUN_OPTIONS = (
    Option("--detach", "run in the background; print the uuid once the apps have been started", short="-d"),
    Option("--interactive", "give the app standard input", short="-i"),
    Option("--tty", "give the app a terminal", short="-t"),
    Option("--rm", "remove the pod when it has ended"),
)
SECTIONS = (("app options, after the image", APP_OPTIONS),)


def arguments(command: Command, words: list[str]) -> Args:
    """Parse pod options and apps; the apps, a tuple of AppRequest, are `args.apps`.

    Raises:
        BadUsage: the words don't follow the grammar; says where what is misplaced belongs.
        BadInput: a value is not what it has to be.
    """
    known = (*command.options, *GLOBALS)
    end = _leading(words, known, command.name)
    found = parse.options(words[:end], known, command.name)
    apps, rest = [], words[end:]
    while rest:
        app, rest = _app(rest, known, found, command.name)
        apps.append(app)
    if found["pod_manifest"] and apps:
        raise BadUsage("--pod-manifest can't be used together with an image", subject=apps[0].image)
    if not apps and not found["pod_manifest"]:
        raise BadUsage(f"'podium {command.name}' needs IMAGE", hint=f"see 'podium {command.name} --help'")
    return Args({**found, "apps": tuple(apps)})


def _leading(words: list[str], known: tuple[Option, ...], verb: str) -> int:
    at = 0
    while at < len(words) and words[at].startswith("-") and words[at] not in ("-", "--", "---"):
        if parse.takes_value(words[at], known) is None and parse.takes_value(words[at], APP_OPTIONS) is not None:
            flag = words[at].partition("=")[0]
            raise BadUsage(
                f"{flag} is an app's option", hint=f"put it after the image: podium {verb} IMAGE {flag} …", subject=flag
            )
        at = parse.after(words, at, known, verb)
    if at < len(words) and words[at] in ("-", "--", "---"):
        raise BadUsage(f"'podium {verb}': {words[at]} stands where an image should", hint=USAGE, subject=words[at])
    return at


def _app(
    words: list[str], pod_options: tuple[Option, ...], pod: dict[str, Any], verb: str
) -> tuple[AppRequest, list[str]]:
    """The first app, and the words after its `---`."""
    image, *rest = words
    known = (*APP_OPTIONS, *GLOBALS)
    at = 0
    while at < len(rest) and rest[at] not in ("--", "---"):
        word = rest[at]
        if not word.startswith("-") or word == "-":
            hint = "an app's arguments go after '--', another image after '---'"
            raise BadUsage(f"'podium {verb}': unexpected {word!r} after {image!r}", hint=hint, subject=word)
        if parse.takes_value(word, known) is None and parse.takes_value(word, pod_options) is not None:
            flag = word.partition("=")[0]
            hint = f"put it before the first image: podium {verb} {flag} … {image}"
            raise BadUsage(f"{flag} is a pod's option", hint=hint, subject=flag)
        at = parse.after(rest, at, known, verb)
    found = parse.options(rest[:at], known, verb)
    for option in GLOBALS:
        pod[option.dest] = found.pop(option.dest) or pod[option.dest]
    words, more, rest = parse.split(rest[at:], "---")
    if more and (not rest or rest[0].startswith("-")):
        found_instead = rest[0] if rest else "nothing"
        raise BadUsage(f"'podium {verb}': {found_instead} follows '---', not an image", hint=USAGE, subject="---")
    return app_request(image, Args(found), tuple(words[1:])), rest


def pod_request(args: Args) -> PodRequest:
    """What is asked of the pod."""
    return PodRequest(
        apps=args.apps,
        stage1=args.stage1,
        name=args.name,
        hostname=args.hostname,
        net=tuple(name for names in args.net for name in names) or None,
        ports=tuple(args.port),
        dns=tuple(ip for ips in args.dns for ip in ips),
        dns_search=tuple(domain for domains in args.dns_search for domain in domains),
        dns_options=tuple(option for options in args.dns_opt for option in options),
        dns_domain=args.dns_domain,
        hosts=tuple(args.hosts_entry),
        volumes=tuple(args.volume),
        set_env=dict(args.set_env),
        env_files=tuple(args.set_env_file),
        inherit_env=args.inherit_env,
        pod_manifest=args.pod_manifest,
        private_users=args.private_users,
        labels=values.unique(args.label, "--label"),
        annotations=values.unique(args.annotation, "--annotation"),
        tls_verify=args.tls_verify != "false",
    )


@contextmanager
def progress_shown(context: Context, request: PodRequest) -> Iterator[None]:
    """Show how far the images are that have to be imported or fetched first."""
    got = [app.image for app in request.apps if is_address(app.image) or is_path(app.image)]
    if not got:
        yield
        return
    from podium.cli.progress import shown

    with shown(f"getting {', '.join(got)}") as context.progress:
        yield


def dry_run(context: Context, request: PodRequest) -> int:
    """Print the manifest that the pod would have."""
    import json

    print(json.dumps(context.runtime.plan(request).to_json(), indent=1))
    return 0


def outcome(result: RunResult) -> int:
    """Tell how a run went; returns the exit code."""
    for app, message in result.messages:
        output.tell(f"app {app}: {message}")
    if result.exit_code is None:
        print(result.uuid)
        return 0
    return result.exit_code
