"""Several transfers at once, watched by the thread that started them."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Sequence
from typing import Protocol

from podium.images.meter import Meter
from podium.images.registry.client import PARALLEL, Client

_LOOK = 0.1  # seconds between two looks at how far they are


class Transfer(Protocol):
    """A blob on its way; `at` of its bytes have arrived."""

    at: int

    def move(self, client: Client, stop: threading.Event) -> None:
        """Move all of it; `CancelledError` once `stop` is set."""
        ...

    def abort(self) -> None:
        """Called from another thread, once `stop` is set: wait for the peer no longer."""
        ...


def move_all(client: Client, transfers: Sequence[Transfer], meter: Meter) -> None:
    """Move all; the first failure, or an interrupt from the keyboard, ends the others."""
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(PARALLEL, thread_name_prefix="transfer") as pool:
        left = {pool.submit(t.move, client, stop) for t in transfers}
        try:
            while left:
                done, left = concurrent.futures.wait(left, _LOOK, concurrent.futures.FIRST_EXCEPTION)
                meter.reach(sum(t.at for t in transfers))
                for future in done:
                    future.result()
        except BaseException:
            stop.set()
            for transfer in transfers:
                transfer.abort()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
