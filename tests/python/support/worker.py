"""The client's own pull worker, started by its own command line."""

import sys
from pathlib import Path

from .processes import REPOSITORY, Process

TESTS = REPOSITORY / "tests" / "python"
STOPS_WITHIN_S = 30.0
"""The client waits 5 s each for a child and for a thread that may hang."""


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
        """Ends it in order: results are reported first."""
        self._process.terminate(STOPS_WITHIN_S)

    def end(self) -> None:
        """Ends it, and its children, if they still run."""
        self._process.kill()
