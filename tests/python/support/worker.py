"""The client's own workers, started by their own command line."""

import json
import sys
from pathlib import Path

from .processes import REPOSITORY, Process
from .waiting import wait_until

TESTS = REPOSITORY / "tests" / "python"

SECRETS = "TASKBROKER_TEST_SECRETS"
"""What the application reads its secrets from."""

REPORTED = b"taskworker.worker.shutdown.complete"
"""What the client logs when its children have ended and their results are reported."""


class Worker:
    """A worker with real child processes that asks for tasks."""

    def __init__(
        self, broker_address: str, log: Path, *, concurrency: int, namespace: str | None = None, app: str = "app"
    ) -> None:
        options = ["--broker-host", broker_address, "--concurrency", str(concurrency)]
        options += ["--namespace", namespace] if namespace else []
        self._process = start("pull", app, options, log, {})

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


class PushWorker(Worker):
    """A worker with real child processes that tasks are pushed to."""

    def __init__(
        self, broker_address: str, log: Path, *, port: int, concurrency: int, secrets: list[str], app: str = "app"
    ) -> None:
        options = ["--broker-service", broker_address, "--grpc-port", str(port), "--concurrency", str(concurrency)]
        self._process = start("push", app, options, log, {SECRETS: json.dumps(secrets)})


def start(kind: str, app: str, options: list[str], log: Path, environment: dict[str, str]) -> Process:
    command = [sys.executable, "-c", "from taskbroker_client.cli import worker; worker()", kind]
    command += ["--app-module", f"application:{app}", *options]
    return Process(command, log, {"PYTHONPATH": str(TESTS), **environment})
