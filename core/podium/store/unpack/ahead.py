"""Reading ahead: a thread reads and digests a stream while what it read before is being used.

Decompressing and digesting leave the interpreter to others (both release its lock), so the second processor does them.
"""

from __future__ import annotations

import hashlib
import queue
import threading

from podium.store.unpack.streams import CHUNK, Source

_DEPTH = 4  # chunks that wait to be used


class ReadAhead:
    """A stream that is read by a thread from when it is made; a context manager, at whose end the thread has ended.

    What reading it raises is raised by `read`.
    """

    def __init__(self, source: Source) -> None:
        self._source, self._sha = source, hashlib.sha256()
        self._ready: queue.Queue[bytes | BaseException] = queue.Queue(_DEPTH)
        self._stopped = self._ended = False
        self._rest = b""
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        while self._thread.is_alive():
            try:  # it may wait for room
                self._ready.get(timeout=0.01)
            except queue.Empty:
                pass
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopped:
                data = self._source.read(CHUNK)
                self._sha.update(data)
                self._ready.put(data)
                if not data:
                    return
        except BaseException as e:
            self._ready.put(e)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end."""
        if not self._rest:
            if self._ended:
                return b""
            got = self._ready.get()
            if isinstance(got, BaseException):
                self._ended = True
                raise got
            self._rest, self._ended = got, not got
        if len(self._rest) <= size:
            data, self._rest = self._rest, b""
        else:
            data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def hexdigest(self) -> str:
        """The sha256 of all of it, once `read` has given its end."""
        return self._sha.hexdigest()
