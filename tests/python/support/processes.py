"""Programs that the tests start, their logs, and their end."""

import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

LOG_TAIL_BYTES = 6_000

logs: list[Path] = []
"""The logs of everything that was started, for the report of a test that fails."""


class Process:
    """A program in a process group of its own, with a log. It ends with the tests in any case."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        if log not in logs:
            logs.append(log)
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def ended_with(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._child.poll()

    def ask_to_end(self) -> None:
        """Sends SIGTERM."""
        self._child.terminate()

    def terminate(self, within_s: float) -> int:
        """Asks it to end, and returns the exit code. Fails if it does not end in time."""
        self.ask_to_end()
        try:
            return self._child.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"{self._child.args} did not end within {within_s:g} s of SIGTERM") from None

    def kill(self) -> None:
        """Ends it, and its children, at once."""
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def tail(log: Path) -> str:
    """The end of a log."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
