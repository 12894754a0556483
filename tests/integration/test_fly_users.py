"""Who an app is, where it starts and what its environment holds, under fly."""

from __future__ import annotations

import os

import pytest

from support.fly import Fly, small_rootfs
from support.images import PASSWD

WHO = "grep -E '^(Uid|Gid|Groups):' /proc/self/status | tr '\\t' ' '; echo $HOME"


def _who(text: str) -> tuple[str, str, str, str]:
    uid, gid, groups, home = text.splitlines()
    uids, gids = uid.split()[1:], gid.split()[1:]
    assert len(set(uids)) == 1 and len(set(gids)) == 1, "real, effective, saved and file system ids differ"
    return uids[0], gids[0], " ".join(groups.split()[1:]), home


@pytest.mark.parametrize(
    ("options", "who"),
    [
        ((), ("0", "0", "", "/root")),
        (("--user", "app"), ("1000", "1000", "500", "/home/app")),
        (("--user", "1000"), ("1000", "1000", "500", "/home/app")),
        (("--user", "app", "--group", "nogroup"), ("1000", "65534", "500", "/home/app")),
        (("--user", "app", "--group", "0"), ("1000", "0", "500", "/home/app")),
        (("--user", "4711"), ("4711", "0", "", "/")),
        (("--user", "4711", "--group", "815"), ("4711", "815", "", "/")),
        (("--user", "/home/app"), ("1000", "0", "", "/")),
        (("--user", "/home/app", "--group", "/home/app"), ("1000", "1000", "", "/")),
        (("--supplementary-gids", "extra,7,app"), ("0", "0", "7 500 1000", "/root")),
        (("--user", "app", "--supplementary-gids", "7"), ("1000", "1000", "7 500", "/home/app")),
    ],
)
def test_user_and_groups(fly: Fly, options: tuple[str, ...], who: tuple[str, str, str, str]) -> None:
    assert _who(fly.out(WHO, *options)) == who


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--user", "nosuch"), "user 'nosuch'"),
        (("--group", "nosuch"), "group 'nosuch'"),
        (("--supplementary-gids", "1,nosuch"), "group 'nosuch'"),
        (("--user", "/no/such"), "'/no/such'"),
        (("--user", "4294967295"), "4294967295"),
        (("--user", "-1"), "-1"),
    ],
)
def test_an_unknown_user_or_group_is_refused_by_name(fly: Fly, options: tuple[str, ...], named: str) -> None:
    assert named in fly.refused(*options)


def test_an_image_without_passwd_has_numbers_only(fly: Fly, busybox_rootfs: str) -> None:
    rootfs = small_rootfs(os.path.join(fly.dir, "rootfs"), busybox_rootfs)
    os.unlink(os.path.join(rootfs, "etc/passwd"))
    os.unlink(os.path.join(rootfs, "etc/group"))
    image = fly.image("test/plain", rootfs)
    assert _who(fly.out(WHO, "--user", "5", "--group", "6", image=image))[:3] == ("5", "6", "")
    assert _who(fly.out(WHO, image=image)) == ("0", "0", "", "/")
    assert "user 'root'" in fly.podium(*fly.argv("prepare", "true", "--user", "root", image=image), check=2).stderr


def test_the_users_file_is_not_looked_up_on_the_host(fly: Fly, busybox_rootfs: str) -> None:
    """A link of the image means the image's own file, and nothing of the image is run to find a user."""
    host = os.path.join(fly.dir, "host-passwd")
    with open(host, "w", encoding="ascii") as f:
        f.write("onhost:x:4242:4242::/:/bin/sh\n")
    links = {"/etc/passwd": host, "/etc/group": f"../../../../../../../..{host}", "/bin/getent": "/bin/false"}
    rootfs = small_rootfs(os.path.join(fly.dir, "rootfs"), busybox_rootfs, links)
    image = fly.image("test/links", rootfs)
    refused = fly.podium(*fly.argv("prepare", "true", "--user", "onhost", image=image), check=2)
    assert "user 'onhost'" in refused.stderr
    os.unlink(os.path.join(rootfs, "etc/passwd"))
    os.makedirs(os.path.join(rootfs, "opt"))
    os.symlink("/opt/passwd", os.path.join(rootfs, "etc/passwd"))
    with open(os.path.join(rootfs, "opt/passwd"), "w", encoding="ascii") as f:
        f.write("inside:x:77:78::/here:/bin/sh\n")
    inside = fly.image("test/inside", rootfs)
    assert _who(fly.out(WHO, "--user", "inside", image=inside)) == ("77", "78", "", "/here")


@pytest.mark.parametrize("kind", ["fifo", "folder", "huge", "binary"])
def test_an_odd_users_file_neither_hangs_nor_ends_podium(fly: Fly, busybox_rootfs: str, kind: str) -> None:
    rootfs = small_rootfs(os.path.join(fly.dir, "rootfs"), busybox_rootfs)
    passwd = os.path.join(rootfs, "etc/passwd")
    os.unlink(passwd)
    if kind == "fifo":
        os.mkfifo(passwd)
    elif kind == "folder":
        os.mkdir(passwd)
    else:
        with open(passwd, "wb") as f:
            f.write(b"x" * (5 << 20) if kind == "huge" else b"\xff\xfe:x:\xff:0:\0::\n:::::::\n" + PASSWD.encode())
    image = fly.image(f"test/{kind}", rootfs)
    assert fly.out("grep ^Uid: /proc/self/status | cut -f2", "--user", "1000", image=image) == "1000"
    if kind == "binary":
        assert _who(fly.out(WHO, "--user", "app", image=image))[0] == "1000"


def test_ids_that_the_kernel_has_not_are_refused(fly: Fly, busybox_rootfs: str) -> None:
    rootfs = small_rootfs(os.path.join(fly.dir, "rootfs"), busybox_rootfs)
    with open(os.path.join(rootfs, "etc/passwd"), "a", encoding="utf-8") as f:
        f.write("big:x:99999999999:0::/:\nminus:x:-1:0::/:\nwords:x:zero:0::/:\narabic:x:\u0664:0::/:\n")
    image = fly.image("test/ids", rootfs)
    for user in ("big", "minus", "words", "arabic"):
        done = fly.podium(*fly.argv("prepare", "true", "--user", user, image=image), check=2)
        assert "no user or group number" in done.stderr


@pytest.mark.parametrize("folder", ["/tmp", "/home/app", "/made/just/now", "/tmp/../etc"])
def test_working_dir(fly: Fly, folder: str) -> None:
    assert fly.out("pwd -P", "--working-dir", folder) == os.path.normpath(folder)


def test_a_working_dir_that_is_none(fly: Fly) -> None:
    done = fly.podium(*fly.argv("run", "true", "--working-dir", "/etc/passwd", pod=("--rm",)), check=126)
    assert "working directory" in done.stderr
    done = fly.podium(*fly.argv("run", "true", "--working-dir", "/root", "--user", "app", pod=("--rm",)), check=126)
    assert "working directory" in done.stderr


def test_the_environment_is_layered(fly: Fly, busybox_rootfs: str) -> None:
    """parent < image < --set-env-file < --set-env < the app's own."""
    env = [{"name": n, "value": "image"} for n in ("A", "B", "C", "D")]
    image = fly.image("test/env", source=busybox_rootfs, environment=env)
    file = os.path.join(fly.dir, "env")
    with open(file, "w", encoding="utf-8") as f:
        f.write("# a comment\n\nB=file\nC=file\nD=file\nQUOTED='as it is'\nEMPTY=\n")
    fly.podium = fly.podium.using(fly.podium.binary, A="parent", P="parent")
    pod = ("--set-env-file", file, "--set-env", "C=set", "--set-env", "D=set")
    show = 'echo $A $B $C $D ${P-none} "$QUOTED" "${EMPTY-unset}"'
    assert fly.out(show, "--environment", "D=app", pod=pod, image=image) == "image file set app none 'as it is' "
    assert fly.out("echo $A $P", pod=("--inherit-env", *pod), image=image) == "image parent"


def test_nothing_of_podiums_own_environment_reaches_the_app(fly: Fly) -> None:
    fly.podium = fly.podium.using(fly.podium.binary, SECRET="x", LD_LIBRARY_PATH="/x")
    names = {
        line.partition("=")[0]
        for line in fly.podium.out("run", "--rm", "--stage1", "fly", "box", "--exec", "env").splitlines()
    }
    assert names == {"PATH", "HOME", "AC_APP_NAME"}


def test_the_image_or_the_user_can_say_home_and_path(fly: Fly) -> None:
    assert fly.out("echo $HOME $PATH", "--environment", "HOME=/x", "--environment", "PATH=/bin:/y") == "/x /bin:/y"
    assert fly.out("echo $AC_APP_NAME", "--name", "other") == "other"


def test_a_wrong_environment_file_is_refused_with_its_line(fly: Fly) -> None:
    file = os.path.join(fly.dir, "env")
    with open(file, "w", encoding="utf-8") as f:
        f.write("A=1\nno equals\n")
    assert "line 2" in fly.refused(pod=("--set-env-file", file))
    assert "/no/such" in fly.refused(pod=("--set-env-file", "/no/such"))


def test_values_are_passed_as_they_are(fly: Fly) -> None:
    value = "a b\tc $HOME \\ \"'` é\n=x"
    done = fly.podium(
        "run", "--rm", "--stage1", "fly", "--set-env", f"V={value}", "box", "--", "-c", 'printf "%s\\n" "$V"'
    )
    assert done.stdout == value + "\n"
    args = ["", " ", "-x", "--", "--- ", "é", "$HOME"]
    echoed = fly.podium("run", "--rm", "--stage1", "fly", "box", "--exec", "printf", "--", "<%s>", *args)
    assert echoed.stdout == "".join(f"<{a}>" for a in args)
