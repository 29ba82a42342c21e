"""Tasks that the client's own scheduler starts, through its own producer, and its own worker runs."""

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from taskbroker_client.scheduler import ScheduleRunner, VolatileRunStorage, crontab

from application import app, tasks
from conftest import MakeBroker, MakeWorker
from support.broker import Broker
from support.effects import recorded
from support.pulse import Pulse
from support.worker import Worker

SCHEDULES_S = 6.0
"""How long there are schedulers."""

RUNS_LEAST, RUNS_MOST = 3, 7
"""Of what runs each second, in that time."""


@pytest.fixture(scope="module")
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


@pytest.fixture(scope="module", autouse=True)
def worker(broker: Broker, make_worker: MakeWorker) -> Worker:
    return make_worker(broker, concurrency=2)


@pytest.fixture(scope="module", autouse=True)
def pulse(broker: Broker) -> Iterator[Pulse]:
    pulse = Pulse(tasks.beat.delay)
    yield pulse
    pulse.stop()


class Memory(VolatileRunStorage):
    """What schedulers share; counts what they start."""

    def __init__(self) -> None:
        super().__init__()
        self.started = 0

    def set(self, key: str, next_runtime: datetime) -> bool:
        first = super().set(key, next_runtime)
        self.started += first
        return first


def scheduler(memory: Memory) -> ScheduleRunner:
    runner = ScheduleRunner(app, memory)
    runner.add(tasks.EVERY_SECOND, {"task": "scheduled:scheduled.every_second", "schedule": timedelta(seconds=1)})
    runner.add(tasks.EVERY_MINUTE, {"task": "scheduled:scheduled.every_minute", "schedule": timedelta(minutes=1)})
    runner.add(tasks.BY_CRONTAB, {"task": "scheduled:scheduled.by_crontab", "schedule": crontab(minute="*/1")})
    return runner


def test_what_two_schedulers_with_one_memory_start_runs_once_each_time(broker: Broker) -> None:
    memory = Memory()
    schedulers = [scheduler(memory), scheduler(memory)]
    end = time.monotonic() + SCHEDULES_S
    while time.monotonic() < end:
        for runner in schedulers:
            runner.tick()
        time.sleep(0.1)
    broker.await_counts("scheduled", admitted=memory.started, completed=memory.started)
    runs = {key: recorded(key) for key in (tasks.EVERY_SECOND, tasks.EVERY_MINUTE, tasks.BY_CRONTAB)}
    ids = [run["id"] for each in runs.values() for run in each]
    assert (len(ids), len(set(ids))) == (memory.started, memory.started)
    assert RUNS_LEAST <= len(runs[tasks.EVERY_SECOND]) <= RUNS_MOST
    # The minute may have changed meanwhile.
    assert len(runs[tasks.EVERY_MINUTE]) == 1
    assert 1 <= len(runs[tasks.BY_CRONTAB]) <= 2
    for key in (tasks.EVERY_MINUTE, tasks.BY_CRONTAB):
        assert {run["headers"]["sentry-monitor-slug"] for run in runs[key]} == {key}
        assert all(run["headers"]["sentry-monitor-check-in-id"] for run in runs[key])
    assert broker.gauge("taskbroker_conservation_imbalance") == 0

