"""Where an app's standard streams go: the caller's, a log, nothing, or a terminal."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import termios
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

LOGS = "logs"
OLDER = ".1"  # no app's name has a dot
MAX_LOG = 16 << 20  # bytes of a file; there are at most two for each app

# ioctl_tty(2); the termios module has no names for them.
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_CHUNK = 1 << 16
_MAX_LINE = 16 << 10  # bytes; a longer line is written in parts, as the CRI log format has it


class AppLog:
    """A pod's logs/<app>, of bounded size: the older half is in logs/<app>.1, and what is older still is gone.

    An app can print for ever; what it costs is twice `limit`, in bytes.
    """

    def __init__(self, folder: str, app: str, limit: int = MAX_LOG) -> None:
        self._path = os.path.join(folder, LOGS, app)
        self._limit = limit
        self._file, self._users, self._size = -1, 0, 0

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """What `taken_over` needs in the process that this one becomes; `keep` is told of what has to stay open."""
        return {"path": self._path, "file": keep(self._file), "size": self._size, "limit": self._limit}

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """The log that `handed_on` told of, which nobody takes part in writing yet."""
        made = cls("", "", record["limit"])
        made._path, made._file, made._size = record["path"], record["file"], record["size"]
        return made

    def open(self) -> None:
        """Take part in writing it."""
        self._users += 1
        if self._file < 0:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._open()

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._file = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._file).st_size

    def append(self, data: bytes) -> None:
        """Write whole records. What a full disk does not take is lost; the app is not to end for it."""
        try:
            if self._size and self._size + len(data) > self._limit:
                try:
                    os.rename(self._path, self._path + OLDER)
                except FileNotFoundError:
                    pass  # somebody removed it
                os.close(self._file)
                self._open()
            while data:
                written = os.write(self._file, data)
                self._size += written
                data = data[written:]
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise

    def close(self) -> None:
        """Take no more part."""
        self._users -= 1
        if self._users == 0:
            os.close(self._file)
            self._file = -1


class Pump:
    """Takes what an app prints from a pipe.

    Attributes:
        app_end: the descriptor that the app gets; to be closed once it was started.
    """

    def __init__(self) -> None:
        self._pipe, self.app_end = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._pipe, False)

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `AppLog.handed_on`."""
        return {"pipe": keep(self._pipe), "app_end": keep(self.app_end)}

    @classmethod
    def _taken_over(cls, record: dict[str, Any]) -> Self:
        made = cls.__new__(cls)
        made._pipe, made.app_end = record["pipe"], record["app_end"]
        return made

    def fileno(self) -> int:
        """The pipe's reading end."""
        return self._pipe

    def started(self) -> None:
        """The app has its end; close ours."""
        if self.app_end >= 0:
            os.close(self.app_end)
            self.app_end = -1

    def pump(self) -> bool:
        """Copy what is there; False when no writer is left."""
        try:
            data = os.read(self._pipe, _CHUNK)
        except BlockingIOError:
            return True
        if not data:
            self.close()
            return False
        self._take(data)
        return True

    def drain(self) -> None:
        """Copy what is there by now, without waiting for writers that an app left behind."""
        while self._pipe >= 0 and _readable(self._pipe) and self.pump():
            pass

    def close(self) -> None:
        """Close what is still open."""
        if self._pipe >= 0:
            self.started()
            os.close(self._pipe)
            self._pipe = -1

    def _take(self, data: bytes) -> None:
        raise NotImplementedError


class JournalPump(Pump):
    """Hands what an app prints on to the journal, as podium's own.

    The journal looks at the control group of whoever writes, and an app is in its pod's: written by itself, its lines
    would not be those of podium's unit.
    """

    def __init__(self, journal: int) -> None:
        super().__init__()
        self._journal = journal

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `AppLog.handed_on`."""
        return {**super().handed_on(keep), "journal": keep(self._journal)}

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """The pump that `handed_on` told of."""
        made = cls._taken_over(record)
        made._journal = record["journal"]
        return made

    def _take(self, data: bytes) -> None:
        _write(self._journal, data)


def is_journal(fd: int) -> bool:
    """Whether it is a stream of the journal's (systemd-journald.service(8)), as a unit's output is."""
    import stat
    from _socket import AF_UNIX, socket

    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return False
    sock = socket(fileno=os.dup(fd))
    try:
        return sock.family == AF_UNIX and str(sock.getpeername()).endswith("/systemd/journal/stdout")
    except OSError:
        return False
    finally:
        sock.close()


class LogPump(Pump):
    """Copies what an app prints to its log, in the CRI log format.

    2016-10-06T00:17:09.669794202Z stdout F a whole line
    2016-10-06T00:17:10.113242941Z stderr P a part of a line that has not ended
    """

    def __init__(self, log: AppLog, stream: str) -> None:
        self._log = log
        log.open()
        self._stream = stream.encode()
        self._rest = b""
        super().__init__()

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `AppLog.handed_on`."""
        own = {"stream": self._stream.decode(), "log": self._log.handed_on(keep), "rest": self._rest.decode("latin-1")}
        return {**super().handed_on(keep), **own}

    @classmethod
    def taken_over(cls, record: dict[str, Any], log: AppLog) -> Self:
        """The pump that `handed_on` told of; the app's have one log."""
        made = cls._taken_over(record)
        log.open()
        made._log, made._stream, made._rest = log, record["stream"].encode(), record["rest"].encode("latin-1")
        return made

    def _take(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        out: list[bytes] = []
        for line in lines:
            out.append(self._format(b"F", self._parts(line, out)))
        self._rest = self._parts(rest, out)
        self._log.append(b"".join(out))

    def _parts(self, line: bytes, out: list[bytes]) -> bytes:
        """Put what is too long for one record into `out`; returns what is left of the line."""
        while len(line) > _MAX_LINE:
            out.append(self._format(b"P", line[:_MAX_LINE]))
            line = line[_MAX_LINE:]
        return line

    def _format(self, tag: bytes, line: bytes) -> bytes:
        now = time.time_ns()
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        return b"%b.%09dZ %b %b %b\n" % (when.encode(), now % 10**9, self._stream, tag, line)

    def close(self) -> None:
        """Write the line that has not ended, and close."""
        if self._pipe < 0:
            return
        if self._rest:
            self._log.append(self._format(b"F", self._rest))
            self._rest = b""
        self._log.close()
        super().close()


def _readable(fd: int) -> bool:
    import select

    return bool(select.select([fd], [], [], 0)[0])


class Terminal:
    """A pseudo terminal for an app, and the copying between it and the caller's terminal.

    Attributes:
        caller_in: where the caller's keys come from.
        app_end: the descriptor that becomes the app's three streams.
    """

    def __init__(self, caller_in: int, caller_out: int, ptmx: str = "/dev/ptmx") -> None:
        self.caller_in, self._out = caller_in, caller_out
        self.master = os.open(ptmx, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        fcntl.ioctl(self.master, _TIOCSPTLCK, struct.pack("i", 0))
        self.app_end = fcntl.ioctl(self.master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        self._saved = termios.tcgetattr(caller_in) if os.isatty(caller_in) else None
        self.resize()

    def handed_on(self, keep: Callable[[int], int]) -> dict[str, Any]:
        """See `AppLog.handed_on`."""
        saved = None
        if self._saved is not None:
            *flags, characters = self._saved
            saved = [*flags, [c.decode("latin-1") if isinstance(c, bytes) else c for c in characters]]
        fds = [keep(fd) for fd in (self.caller_in, self._out, self.master, self.app_end)]
        return {"fds": fds, "saved": saved}

    @classmethod
    def taken_over(cls, record: dict[str, Any]) -> Self:
        """The terminal that `handed_on` told of."""
        made = cls.__new__(cls)
        made.caller_in, made._out, made.master, made.app_end = record["fds"]
        made._saved = record["saved"]
        if made._saved is not None:
            made._saved[-1] = [c.encode("latin-1") if isinstance(c, str) else c for c in made._saved[-1]]
        return made

    def raw(self) -> None:
        """Hand every key of the caller's terminal through."""
        if self._saved is not None:
            import tty

            try:
                tty.setraw(self.caller_in, termios.TCSANOW)
            except termios.error:
                self._saved = None  # it was closed

    def resize(self) -> None:
        """Give the app's terminal the size of the caller's."""
        try:
            size = fcntl.ioctl(self.caller_in, termios.TIOCGWINSZ, b"\0" * 8)
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        except OSError as e:
            if e.errno not in (errno.ENOTTY, errno.EIO):
                raise

    def started(self) -> None:
        """The app has its end; close ours."""
        if self.app_end >= 0:
            os.close(self.app_end)
            self.app_end = -1

    def to_app(self) -> bool:
        """Copy keys; False at the end of the caller's input."""
        data = _read(self.caller_in)
        if not data:
            # As a terminal says it: end of file, not a hang-up.
            _write(self.master, b"\x04")
            return False
        return _write(self.master, data)

    def from_app(self) -> bool:
        """Copy output; False when the app's side is closed."""
        data = _read(self.master)
        return bool(data) and _write(self._out, data)

    def close(self) -> None:
        """Copy what is left, give the caller's terminal its settings back, close."""
        while _readable(self.master) and self.from_app():
            pass
        if self._saved is not None:
            try:
                termios.tcsetattr(self.caller_in, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass  # it was closed
        self.started()
        os.close(self.master)


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError as e:
        if e.errno == errno.EIO:  # the other side of a pseudo terminal is closed
            return b""
        raise


def _write(fd: int, data: bytes) -> bool:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as e:
        if e.errno in (errno.EIO, errno.EPIPE):
            return False
        raise
    return True
