"""A thread that says something now and then, so that a board does not take its host for dead."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import final


@final
class Keeper:
    """Renews a lease while the host is busy elsewhere.

    Args:
        keep: renews it, where nothing else did.
        seconds: between two looks.
    """

    def __init__(self, keep: Callable[[], None], seconds: float) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(keep, seconds), name="board-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def _run(self, keep: Callable[[], None], seconds: float) -> None:
        while not self._stopped.wait(seconds):
            keep()
