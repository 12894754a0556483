"""Users and groups of an image, looked up inside its rootfs without running anything from it."""

from __future__ import annotations

import os
import stat

from podium.errors import BadInput
from podium.linux.resolve import open_in_root
from podium.named import NamedTuple

_MAX_FILE = 4 << 20  # bytes


class Identity(NamedTuple):
    """Who an app's processes are."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


def identify(root: int, user: str, group: str, supplementary: tuple[str, ...], base: int = 0) -> Identity:
    """Numbers for an app's user, group and supplementary groups.

    Args:
        root: descriptor of the rootfs.
        user: name, number, or absolute path of a file of the rootfs whose owner is meant (appc aci.md, "user").
        group: likewise; empty: the user's own, as /etc/passwd has it, else 0.
        supplementary: names or numbers; added to the groups whose member a *named* user is.
        base: what 0 in the rootfs is on the host, where files' owners are meant.

    Raises:
        BadInput: names what the image does not have.
    """
    passwd = _entries(root, "/etc/passwd", 7)
    groups = _entries(root, "/etc/group", 4)
    entry = next((e for e in passwd if e[0] == user), None) or next((e for e in passwd if e[2] == user), None)
    if entry is not None:
        uid = _number(entry[2], "/etc/passwd")
    elif user.isascii() and user.isdigit():
        uid = _number(user, "user")
    elif user.startswith("/"):
        uid = _stat(root, user).st_uid - base
    else:
        raise BadInput(f"user {user!r} is not in the image's /etc/passwd", subject=user)
    if group:
        gid = _group(root, groups, group, base)
    else:
        gid = _number(entry[3], "/etc/passwd") if entry else 0
    member = [_number(e[2], "/etc/group") for e in groups if entry and entry[0] in e[3].split(",")]
    extra = [_group(root, groups, name, base) for name in supplementary]
    all_groups = tuple(dict.fromkeys(g for g in (*member, *extra) if g != gid))
    return Identity(uid, gid, all_groups, entry[5] if entry and entry[5] else "/", entry[0] if entry else user)


def _group(root: int, groups: list[list[str]], group: str, base: int) -> int:
    for entry in groups:
        if entry[0] == group:
            return _number(entry[2], "/etc/group")
    if group.isascii() and group.isdigit():
        return _number(group, "group")
    if group.startswith("/"):
        return _stat(root, group).st_gid - base
    raise BadInput(f"group {group!r} is not in the image's /etc/group", subject=group)


def _number(text: str, where: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) >= 2**32 - 1:
        raise BadInput(f"{where} of the image has the id {text!r}, which is no user or group number")
    return int(text)


def _stat(root: int, path: str) -> os.stat_result:
    try:
        fd = open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
    except OSError as e:
        raise BadInput(f"{path!r}, whose owner the app shall be, is not in the image: {e.strerror}") from None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _entries(root: int, path: str, fields: int) -> list[list[str]]:
    try:
        fd = open_in_root(root, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return []  # an image needs none
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return []
    with open(fd, encoding="utf-8", errors="surrogateescape") as f:
        text = f.read(_MAX_FILE)
    entries = [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]
    return [e for e in entries if len(e) >= fields]
