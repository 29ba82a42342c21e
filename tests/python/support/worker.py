"""The client's own pull worker, started by its own command line."""

import sys
from pathlib import Path

from .processes import REPOSITORY, Process
from .waiting import wait_until

TESTS = REPOSITORY / "tests" / "python"

REPORTED = b"taskworker.worker.shutdown.complete"
"""What the client logs when its children have ended and their results are reported."""


class Worker:
    """A worker with real child processes."""

    def __init__(
        self, broker_address: str, log: Path, *, concurrency: int, namespace: str | None = None, app: str = "app"
    ) -> None:
        command = [sys.executable, "-c", "from taskbroker_client.cli import worker; worker()", "pull"]
        command += ["--app-module", f"application:{app}", "--broker-host", broker_address]
        command += ["--concurrency", str(concurrency)]
        command += ["--namespace", namespace] if namespace else []
        self._process = Process(command, log, {"PYTHONPATH": str(TESTS)})

    def stop(self) -> None:
        """Ends it in order: its results are reported first.

        After that a thread of the client may wait for ever for room in the queue of children that are gone, so it is
        not left to end by itself, as a supervisor would not leave it.
        """
        self._process.ask_to_end()
        wait_until("the worker has reported its results", lambda: REPORTED in self._process.log.read_bytes())
        self._process.kill()

    def end(self) -> None:
        """Ends it, and its children, if they still run."""
        self._process.kill()
