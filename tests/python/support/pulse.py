"""A trickle of tasks."""

import threading
from collections.abc import Callable

INTERVAL_S = 0.3


class Pulse:
    """Keeps workers awake: one that found nothing to do waits for up to 5 s before it asks again."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self.beats = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.beats += 1
            self._beat()

    def stop(self) -> None:
        """Returns when the last one is on its way to Kafka, and `beats` says how many there are."""
        self._stop.set()
        self._thread.join()
