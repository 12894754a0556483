"""Ways in which a pod's files can be damaged, and a way to try hundreds of them in seconds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from podium import records, trace

OUTSIDE = "/etc/passwd"
BYTES_OF_OUTSIDE = "root:x:0"
PATIENCE = 20  # seconds for a command that takes milliseconds: more is a hang


class Damage(NamedTuple):
    """One way to damage a file.

    Attributes:
        name: of the damage.
        apply: does it to the file of that path.
        seen: a reader of a sealed record must refuse it.
    """

    name: str
    apply: Callable[[str], None]
    seen: bool = True


def write(path: str, data: bytes) -> None:
    """Replace a file's bytes."""
    with open(path, "wb") as f:
        f.write(data)


def _content(make: Callable[[bytes], bytes]) -> Callable[[str], None]:
    def apply(path: str) -> None:
        with open(path, "rb") as f:
            data = f.read()
        write(path, make(data))

    return apply


def _instead(make: Callable[[str], object]) -> Callable[[str], None]:
    def apply(path: str) -> None:
        os.unlink(path)
        make(path)

    return apply


def _folder(path: str) -> None:
    os.mkdir(path)
    write(os.path.join(path, "inner"), b"{}")


def _socket(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as s:
        here = os.getcwd()
        os.chdir(os.path.dirname(path))  # such a path has 107 bytes at most
        try:
            s.bind(os.path.basename(path))
        finally:
            os.chdir(here)


def _sparse(path: str) -> None:
    os.truncate(path, 100 << 20)


def _sealed_text(body: str) -> bytes:
    """A text that ends before its last brace, with the right checksum."""
    raw = body.encode()
    return b'%b,"crc32":"%08x"}\n' % (raw, crc32(raw))


DEEP = "[" * 100_000 + "]" * 100_000
RAW = (
    Damage("empty", _content(lambda _: b"")),
    Damage("a newline", _content(lambda _: b"\n")),
    *(Damage(f"cut to {n}", _content(lambda data, n=n: data[:n])) for n in (1, 2, 20, 100)),  # type: ignore[misc]
    Damage("cut in half", _content(lambda data: data[: len(data) // 2])),
    Damage("cut by 2", _content(lambda data: data[:-2])),
    Damage("cut by 10", _content(lambda data: data[:-10])),
    Damage("NULs", _content(lambda data: bytes(len(data)))),
    Damage("NULs from the middle", _content(lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2))),
    Damage("a sector of NULs before", _content(lambda data: bytes(512) + data)),
    Damage("a bit", _content(lambda data: data[:9] + bytes([data[9] ^ 4]) + data[10:])),
    Damage("twice", _content(lambda data: data.rstrip(b"\n") + data), seen=False),
    Damage("text after it", _content(lambda data: data + b"}\n"), seen=False),
    Damage("no JSON", _content(lambda _: b"{it's me}\n")),
    Damage("a list", _content(lambda _: b"[]\n")),
    Damage("a number", _content(lambda _: b"17\n")),
    Damage("null", _content(lambda _: b"null\n")),
    Damage("an empty object", _content(lambda _: b"{}\n")),
    Damage("deep nesting", _content(lambda _: ('{"a":' + DEEP + "}\n").encode())),
    Damage("deep nesting, sealed", _content(lambda _: _sealed_text('{"a":' + DEEP))),
    Damage("a huge integer", _content(lambda _: _sealed_text('{"a":' + "9" * 10_000))),
    Damage("invalid UTF-8", _content(lambda data: data[:5] + b"\xff\xfe\xc0" + data[8:])),
    Damage("a byte order mark", _content(lambda data: b"\xef\xbb\xbf" + data)),
    Damage("UTF-16", _content(lambda data: data.decode(errors="replace").encode("utf-16"))),
    Damage("latin-1", _content(lambda _: '{"n\xe4me":"\xfc"}\n'.encode("latin-1"))),
    Damage("100 MB", _sparse),
    Damage("a folder", _instead(_folder)),
    Damage("a pipe", _instead(os.mkfifo)),
    Damage("a socket", _instead(_socket)),
    Damage("a device", _instead(lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)))),  # /dev/zero
    Damage("a link outside", _instead(lambda path: os.symlink(OUTSIDE, path))),
    Damage("a link to itself", _instead(lambda path: os.symlink(path, path))),
    Damage("a link to nothing", _instead(lambda path: os.symlink("nothing", path))),
    Damage("missing", os.unlink, seen=False),
    Damage("unreadable", lambda path: os.chmod(path, 0), seen=False),
)
VALUES: tuple[Any, ...] = (
    *([], {}, [1], "", "../../../..", "a\0b", "\ud800\x1b[31m", -1, 1 << 64, -(10**400)),
    *(float("inf"), float("nan"), True, None, "9999-12-31T23:59:59Z"),
)


def resealed(change: Callable[[dict[str, Any]], object]) -> Callable[[str], None]:
    """A damage that has the right checksum: a mistake of the writer, or an evil one."""

    def apply(path: str) -> None:
        record = records.unseal(records.read_bytes(path), path)
        change(record)
        write(path, records.seal(record) + b"\n")

    return apply


def wrong_types(path: str) -> Iterator[Damage]:
    """For each member of a sealed record, and of the objects in it: every value of another kind; and without it."""
    record = records.unseal(records.read_bytes(path), path)
    for keys in _members(record):
        at = ".".join(keys)
        for value in VALUES:
            yield Damage(f"{at} = {value!r:.20}", resealed(lambda r, k=keys, v=value: _set(r, k, v)), seen=False)
        yield Damage(f"no {at}", resealed(lambda r, k=keys: _inner(r, k).pop(k[-1])), seen=False)


def _members(record: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in record.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _members(value, (*above, key))


def _inner(record: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    for key in keys[:-1]:
        record = record[key]
    return record


def _set(record: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    _inner(record, keys)[keys[-1]] = value


def duplicate_keys(path: str) -> None:
    """The first member again, with another value."""
    record = records.unseal(records.read_bytes(path), path)
    key = next(iter(record))
    body = json.dumps(record, separators=(",", ":"))[:-1]
    write(path, _sealed_text(f'{body},"{key}":"another"'))


def copy_pod(folder: str, to: str) -> None:
    """Copy a pod's folder to that of another uuid, all records speaking of it."""
    old, new = os.path.basename(folder), os.path.basename(to)
    shutil.copytree(folder, to, symlinks=True)
    for top, _, files in os.walk(to):
        for name in files:
            path = os.path.join(top, name)
            with open(path, "rb") as f:
                data = f.read()
            if old.encode() in data:
                write(path, b"\n".join(_renamed(line, old, new) for line in data.split(b"\n")))


def _renamed(line: bytes, old: str, new: str) -> bytes:
    changed = line.replace(old.encode(), new.encode())
    try:
        record = records.unseal(line, "")
    except Exception:
        return changed
    return records.seal(json.loads(json.dumps(record).replace(old, new)))


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def podium_forked(words: list[str], killed_at: str | None = None) -> Answer:
    """The podium command in a fork of this process, which has its modules already: milliseconds instead of a tenth.

    A command that hangs is ended, with code -14.

    Args:
        words: after the command's name.
        killed_at: as PODIUM_TRACE_KILL has it.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            trace._KILL = killed_at
            _become_podium(words, out.fileno(), err.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="replace"))
    return Answer(code, *texts)


def _become_podium(words: list[str], out: int, err: int) -> None:
    code = 70
    try:
        from podium.cli import main

        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(PATIENCE)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        code = main._main(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException as e:
        os.write(2, f"Traceback: {e!r}".encode())
    finally:
        os._exit(code)
