"""What tasks leave behind on disk, so that the tests see which ran, how often and where."""

import json
import os
import time
import uuid
from pathlib import Path
from typing import Any

from .waiting import wait_until

DIRECTORY = "TASKBROKER_TEST_EFFECTS"


def _file(key: str) -> Path:
    return Path(os.environ[DIRECTORY]) / key


def record(key: str, **what: Any) -> None:
    """Notes that a task runs, in one write, so that processes do not disturb each other."""
    line = json.dumps({"at": time.time(), "pid": os.getpid(), **what}) + "\n"
    descriptor = os.open(_file(key), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def claim(key: str) -> bool:
    """Whether nobody claimed this before."""
    try:
        os.close(os.open(_file(key), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def recorded(key: str) -> list[dict[str, Any]]:
    """Each run that was noted under a key."""
    try:
        return [json.loads(line) for line in _file(key).read_text().splitlines()]
    except FileNotFoundError:
        return []


class Effects:
    """The runs of one test's tasks."""

    def __init__(self) -> None:
        self.key = uuid.uuid4().hex

    def runs(self) -> list[dict[str, Any]]:
        return recorded(self.key)

    def await_runs(self, count: int) -> list[dict[str, Any]]:
        """Waits for so many runs; more are an error."""
        wait_until(f"there are {count} runs", lambda: len(self.runs()) >= count)
        runs = self.runs()
        assert len(runs) == count, runs
        return runs
