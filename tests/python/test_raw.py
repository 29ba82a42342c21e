"""Messages that are no tasks, run by the real client as the tasks that the broker makes of them."""

import hashlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from application import tasks
from conftest import MakeBroker, MakeWorker
from support.broker import Broker
from support.effects import Effects
from support.kafka import Kafka, Topics
from support.pulse import Pulse
from support.waiting import wait_until
from support.worker import Worker


@pytest.fixture(scope="module")
def events(kafka: Kafka) -> Iterator[Topics]:
    topics = kafka.new_topics()
    yield topics
    kafka.delete(topics)


@pytest.fixture(scope="module", params=[3, -1], ids=["compressed", "plain"])
def broker(request: pytest.FixtureRequest, make_broker: MakeBroker, events: Topics) -> Broker:
    wrap = {"application": "python-tests", "namespace": "raw", "taskname": "raw.take"}
    wrap |= {"processing_deadline_duration": 20, "compression_level": request.param}
    group = f"{events.group}{request.param}"
    topic = {"cluster": "test", "consumer_group": group, "auto_offset_reset": "earliest", "raw": wrap}
    settings: dict[str, Any] = {"kafka_topics": {events.tasks: topic}}
    return make_broker(worker_map={"python-tests": "http://127.0.0.1:1"}, **settings)


@pytest.fixture(scope="module", autouse=True)
def worker(broker: Broker, make_worker: MakeWorker) -> Worker:
    return make_worker(broker, concurrency=2)


@pytest.fixture(scope="module", autouse=True)
def pulse(broker: Broker) -> Iterator[Pulse]:
    pulse = Pulse(tasks.beat.delay)
    yield pulse
    pulse.stop()


@pytest.mark.parametrize("size", [0, 1, 300, 70_000, 2_000_000])
def test_a_message_of_any_bytes_reaches_its_task(
    kafka: Kafka, events: Topics, broker: Broker, effects: Effects, size: int
) -> None:
    payload = f"{effects.key} ".encode() + os.urandom(size)
    kafka.produce(events.tasks, payload)
    [run] = effects.await_runs(1)
    assert run["digest"] == hashlib.sha256(payload).hexdigest()
    assert run["size"] == len(payload)


def test_a_task_of_a_message_is_retried_as_any_other(
    kafka: Kafka, events: Topics, broker: Broker, effects: Effects
) -> None:
    payload = f"{effects.key} fail".encode()
    kafka.produce(events.tasks, payload)
    # On a slow machine a worker may miss the deadline, and the same task comes again: its retry is another one.
    wait_until("its retry has run", lambda: len({run["id"] for run in effects.runs()}) > 1)
    assert {run["digest"] for run in effects.runs()} == {hashlib.sha256(payload).hexdigest()}
    wait_until("nothing is left", lambda: not broker.rows("namespace = 'raw'"))
