"""The grammar of `run` and `prepare`."""

from __future__ import annotations

from typing import Any

import pytest

from podium.cli import parse
from podium.cli.command import Args
from podium.cli.main import load
from podium.cli.podoptions import pod_request
from podium.errors import BadInput, BadUsage, PodiumError
from podium.pods.request import AppRequest, PodRequest


def _args(*words: str) -> Args:
    return parse.arguments(load("run"), list(words))


def _pod(*words: str) -> PodRequest:
    return pod_request(_args(*words))


def _app(*words: str) -> AppRequest:
    (app,) = _pod("image", *words).apps
    return app


def test_pods_of_several_apps() -> None:
    pod = _pod(
        *("-d", "--name", "web", "--net=host", "one", "--name", "a", "--exec", "/bin/a", "--", "-x", "--name", "--"),
        *("---", "two:1", "--user", "app", "---", "./three", "--", "y"),
    )
    one, two, three = pod.apps
    assert (pod.name, pod.net) == ("web", ("host",))
    assert (one.image, one.name, one.exec, one.args) == ("one", "a", "/bin/a", ("-x", "--name", "--"))
    assert (two.image, two.name, two.user, two.args) == ("two:1", None, "app", ())
    assert (three.image, three.args) == ("./three", ("y",))


def test_short_switches_may_stand_together() -> None:
    args = _args("-it", "--rm", "image")
    assert args.interactive and args.tty and args.rm and not args.detach


def test_values_that_look_like_options_belong_to_their_option() -> None:
    assert _app("--exec", "-x", "--", "--").exec == "-x"
    assert dict(_app("--oom-score-adj", "-500").isolators) == {"os/linux/oom-score-adj": -500}
    assert _app("--environment", "-=--").environment == {"-": "--"}


def test_global_options_are_known_everywhere() -> None:
    args = _args("--dir", "/a", "one", "--debug", "--", "--dir", "---", "two", "--config", "/c")
    assert (args.dir, args.debug, args.config) == ("/a", True, "/c")
    assert args.apps[0].args == ("--dir",)


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        ([], "'podium run' needs IMAGE", "see 'podium run --help'"),
        (["--detach"], "'podium run' needs IMAGE", "see 'podium run --help'"),
        (["x", "--net", "host"], "--net is a pod's option", "put it before the first image: podium run --net … x"),
        (["x", "-d"], "-d is a pod's option", "put it before the first image: podium run -d … x"),
        (["--memory=1G", "x"], "--memory is an app's option", "put it after the image: podium run IMAGE --memory …"),
        (
            ["x", "y"],
            "'podium run': unexpected 'y' after 'x'",
            "an app's arguments go after '--', another image after '---'",
        ),
        (["x", "--memroy", "1G"], "'podium run' has no option --memroy", "did you mean --memory?"),
        (["--nmae", "a", "x"], "'podium run' has no option --nmae", "did you mean --name?"),
        (["x", "--memory"], "--memory needs a value", None),
        (["x", "--memory", "--", "y"], "--memory needs a value", None),
        (["x", "--exec", "---", "y"], "--exec needs a value", None),
        (["--name", "--", "y"], "--name needs a value", None),
    ],
)
def test_misplaced_words_are_told_with_their_place(words: list[str], message: str, hint: str | None) -> None:
    with pytest.raises(BadUsage) as caught:
        _args(*words)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@pytest.mark.parametrize(
    "words",
    [["x", "---"], ["x", "---", "---", "y"], ["--", "x"], ["---", "x"], ["x", "---", "-d"], ["x", "--", "a", "---"]],
)
def test_every_separator_needs_its_image(words: list[str]) -> None:
    with pytest.raises(BadUsage):
        _args(*words)


def test_a_pod_manifest_replaces_the_images() -> None:
    assert _pod("--pod-manifest", "m.json").pod_manifest == "m.json"
    with pytest.raises(BadUsage, match="--pod-manifest can't be used together with an image"):
        _args("--pod-manifest", "m.json", "x")


def test_pod_options() -> None:
    pod = _pod(
        *("--stage1", "fly", "--hostname", "h", "--private-users", "--inherit-env"),
        *("--net", "a,b", "--net", "c", "--dns", "1.1.1.1,8.8.8.8", "--dns-search", "x.y"),
        *("--port", "http:80", "--port", "dns:10.0.0.1:53", "--port", "six:[::1]:80"),
        *("--hosts-entry", "10.0.0.2=db", "--set-env", "A=1=2", "--set-env", "B=", "--set-env-file", "f"),
        *("--label", "tier=web", "--annotation", "note=a b", "image"),
    )
    assert (pod.stage1, pod.hostname, pod.private_users, pod.inherit_env) == ("fly", "h", True, True)
    assert (pod.net, pod.dns, pod.dns_search) == (("a", "b", "c"), ("1.1.1.1", "8.8.8.8"), ("x.y",))
    assert pod.ports == (("http", "", 80), ("dns", "10.0.0.1", 53), ("six", "::1", 80))
    assert pod.hosts == (("10.0.0.2", "db"),)
    assert (pod.set_env, pod.env_files) == ({"A": "1=2", "B": ""}, ("f",))
    assert (pod.labels, pod.annotations) == ({"tier": "web"}, {"note": "a b"})


@pytest.mark.parametrize(
    ("text", "volume"),
    [
        ("v,kind=empty", {"name": "v", "kind": "empty"}),
        (
            "v,kind=host,source=/srv/a=b,readOnly=true,recursive=false",
            {"name": "v", "kind": "host", "source": "/srv/a=b", "readOnly": True, "recursive": False},
        ),
        (r"v,kind=host,source=/srv/a\,b", {"name": "v", "kind": "host", "source": "/srv/a,b"}),
        (
            "v,kind=tmpfs,mode=0700,uid=1,gid=2,size=1Mi",
            {"name": "v", "kind": "tmpfs", "mode": "0700", "uid": 1, "gid": 2, "size": "1Mi"},
        ),
    ],
)
def test_volumes(text: str, volume: dict[str, Any]) -> None:
    assert _pod("--volume", text, "image").volumes == (volume,)


@pytest.mark.parametrize(
    "words",
    [
        ["--volume", "v"],
        ["--volume", "kind=empty"],
        ["--volume", "v,kind=disk"],
        ["--volume", "v,kind=host"],
        ["--volume", "v,kind=host,source=relative"],
        ["--volume", "v,kind=empty,colour=red"],
        ["--volume", "v,kind=empty,uid=x"],
        ["--volume", "v,kind=empty,kind=host"],
        ["--port", "80"],
        ["--port", "http:0"],
        ["--port", "http:65536"],
        ["--hosts-entry", "db"],
        ["--set-env", "A"],
        ["--net", "a,,b"],
        ["--name"],
    ],
)
def test_wrong_values_of_pod_options_name_the_option(words: list[str]) -> None:
    with pytest.raises(PodiumError, match=words[0]) as caught:
        _pod(*words, "image") if len(words) > 1 else _pod(*words)
    assert caught.value.exit_code == 2


def test_a_label_given_twice_is_refused() -> None:
    with pytest.raises(BadUsage, match="tier is given twice"):
        _pod("--label", "tier=a", "--label", "tier=b", "image")


def test_app_options() -> None:
    app = _app(
        *("--working-dir", "/w", "--user", "u", "--group", "g", "--supplementary-gids", "1,extra"),
        *("--environment", "A=b", "--mount", "volume=v,target=/t", "--readonly-rootfs", "--restart", "on-failure"),
        *("--stdin", "null", "--stdout", "log", "--stderr", "inherit"),
    )
    assert (app.working_dir, app.user, app.group, app.supplementary_gids) == ("/w", "u", "g", ("1", "extra"))
    assert (app.environment, app.mounts, app.readonly_rootfs) == ({"A": "b"}, (("v", "/t"),), True)
    assert (app.restart, app.stdin, app.stdout, app.stderr) == ("on-failure", "null", "log", "inherit")


def test_what_is_not_asked_is_the_image_s() -> None:
    assert _app() == AppRequest("image")


@pytest.mark.parametrize(
    ("words", "name", "raw"),
    [
        (["--memory", "128M"], "resource/memory", {"limit": "128M"}),
        (["--cpu", "750m"], "resource/cpu", {"limit": "750m"}),
        (["--cpu-shares", "512"], "os/linux/cpu-shares", 512),
        (["--pids", "64"], "podium/pids", {"limit": 64}),
        (["--caps-retain", "net_raw,CAP_CHOWN"], "os/linux/capabilities-retain-set", ["CAP_NET_RAW", "CAP_CHOWN"]),
        (["--caps-retain", ""], "os/linux/capabilities-retain-set", []),
        (["--caps-remove", "sys_admin"], "os/linux/capabilities-remove-set", ["CAP_SYS_ADMIN"]),
        (["--no-new-privileges"], "os/linux/no-new-privileges", True),
        (["--seccomp", "mode=remove,errno=EPERM,mount,@clock"], "os/linux/seccomp-remove-set",
         {"set": ["mount", "@clock"], "errno": "EPERM"}),
        (["--seccomp", "mode=retain,read"], "os/linux/seccomp-retain-set", {"set": ["read"]}),
        (["--oom-score-adj", "1000"], "os/linux/oom-score-adj", 1000),
        (["--rlimit", "NOFILE=10:20", "--rlimit", "RLIMIT_core=unlimited"], "podium/rlimits",
         {"NOFILE": {"soft": 10, "hard": 20}, "CORE": {"soft": -1, "hard": -1}}),
    ],
)  # fmt: skip
def test_isolators(words: list[str], name: str, raw: object) -> None:
    expected = {"set": raw} if isinstance(raw, list) else raw
    assert _app(*words).isolators == ((name, expected),)


@pytest.mark.parametrize(
    "words",
    [
        ["--memory", "lots"],
        ["--cpu", "-1"],
        ["--cpu-shares", "1"],
        ["--pids", "0"],
        ["--caps-retain", "a b"],
        ["--seccomp", "read"],
        ["--seccomp", "mode=retain"],
        ["--seccomp", "mode=retain,errno=nope,read"],
        ["--rlimit", "NOFILE"],
        ["--rlimit", "NOTHING=1"],
        ["--rlimit", "NOFILE=20:10"],
        ["--oom-score-adj", "1001"],
        ["--mount", "volume=v"],
        ["--supplementary-gids", "1,,2"],
        ["--restart", "sometimes"],
        ["--stdin", "file"],
    ],
)
def test_wrong_values_of_app_options_name_the_option(words: list[str]) -> None:
    with pytest.raises((BadUsage, BadInput), match=words[0]):
        _app(*words)


def test_retain_and_remove_exclude_each_other() -> None:
    with pytest.raises(BadUsage, match="can't be used together"):
        _app("--caps-retain", "chown", "--caps-remove", "kill")
