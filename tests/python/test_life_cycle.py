"""Tasks produced and run by the real client, from Kafka to the worker and wherever they go from there."""

import hashlib
import importlib.metadata
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sentry_protos.taskbroker.v1.taskbroker_pb2 import (
    TASK_ACTIVATION_STATUS_COMPLETE,
    GetTaskRequest,
    SetTaskStatusRequest,
)

from application import tasks
from conftest import MakeBroker, MakeWorker
from support.broker import GRACE_S, LOST_LEASES_MAX, Broker
from support.effects import Effects
from support.kafka import Kafka, Record, parameters
from support.pulse import Pulse
from support.waiting import wait_until
from support.worker import Worker

CHILDREN = 3


@pytest.fixture(scope="module")
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


@pytest.fixture(scope="module", autouse=True)
def worker(broker: Broker, make_worker: MakeWorker) -> Worker:
    return make_worker(broker, concurrency=CHILDREN)


@pytest.fixture(scope="module", autouse=True)
def pulse(broker: Broker) -> Iterator[Pulse]:
    pulse = Pulse(tasks.beat.delay)
    yield pulse
    pulse.stop()


def dead_letters(kafka: Kafka, broker: Broker, effects: Effects) -> list[Record]:
    """The dead letters of a test."""
    records = kafka.records(broker.topics.dead_letters)
    return [r for r in records if effects.key in str(parameters(r.activation()))]


def seconds_between(earlier: dict[str, Any], later: dict[str, Any]) -> float:
    return float(later["at"] - earlier["at"])


def test_the_client_is_the_one_that_is_in_use() -> None:
    assert importlib.metadata.version("taskbroker-client") == "0.20.20"


# --- what goes well ---------------------------------------------------------------------------------------------------


def test_each_task_runs_once_with_its_arguments(broker: Broker, effects: Effects) -> None:
    for number in range(100):
        tasks.note_arguments.delay(effects.key, number, text="ü", nested={"list": [1, None, 2.5]})
    runs = effects.await_runs(100)
    assert sorted(run["args"][0] for run in runs) == list(range(100))
    assert all(run["kwargs"] == {"text": "ü", "nested": {"list": [1, None, 2.5]}} for run in runs)
    assert all(run["attempt"] == 0 for run in runs)
    broker.await_counts("plain", admitted=100, completed=100)
    assert len(effects.runs()) == 100


def test_a_slow_task_holds_up_nobody_behind_it(broker: Broker, effects: Effects) -> None:
    tasks.sleep.delay(effects.key, 3.0)
    for _ in range(10):
        tasks.sleep.delay(effects.key, 0.0)
    runs = effects.await_runs(11)
    assert [run["slept"] for run in runs] == [0.0] * 10 + [3.0]
    broker.await_counts("slow", admitted=11, completed=11)


def test_a_worker_of_one_namespace_leaves_the_others_alone(
    broker: Broker, effects: Effects, make_worker: MakeWorker
) -> None:
    tasks.note_wide.delay(effects.key)
    tasks.note_narrow.delay(effects.key)
    worker = make_worker(broker, concurrency=1, app="neighbour", namespace="narrow")
    effects.await_runs(1)
    broker.await_counts("narrow", admitted=1, completed=1)
    wait_until("the other waits in the store", lambda: broker.rows("namespace = 'wide' AND status = 'Pending'"))
    worker.stop()
    left = broker.claim(tasks.neighbour.name, "wide")
    assert left.taskname == "wide.note"
    broker.stub().SetTaskStatus(SetTaskStatusRequest(id=left.id, status=TASK_ACTIVATION_STATUS_COMPLETE))
    broker.await_counts("wide", admitted=1, completed=1)
    effects.await_runs(1)


# --- what fails -------------------------------------------------------------------------------------------------------


def test_a_task_that_fails_is_discarded_where_nothing_else_was_asked_for(
    broker: Broker, kafka: Kafka, effects: Effects
) -> None:
    tasks.fail.delay(effects.key)
    broker.await_counts("failing", admitted=1, discarded=1)
    effects.await_runs(1)
    assert dead_letters(kafka, broker, effects) == []


def test_a_task_is_retried_as_often_as_its_policy_says_and_then_dead_lettered(
    broker: Broker, kafka: Kafka, effects: Effects
) -> None:
    tasks.fail_each_time.delay(effects.key)
    broker.await_counts("retrying", admitted=3, retried=2, dead_lettered=1)
    runs = effects.await_runs(3)
    assert [(run["attempt"], run["retries_remaining"]) for run in runs] == [(0, True), (1, True), (2, True)]
    assert len({run["id"] for run in runs}) == 3
    [letter] = dead_letters(kafka, broker, effects)
    activation = letter.activation()
    assert activation.id == runs[-1]["id"]
    assert (activation.application, activation.namespace, activation.taskname) == (
        "python-tests",
        "retrying",
        "retrying.fail",
    )
    assert parameters(activation) == {"args": [effects.key], "kwargs": {}}
    assert activation.retry_state.attempts == 2
    assert letter.key is None
    assert letter.headers["taskbroker-reason"] == b"a worker reported that it failed"
    assert letter.headers["taskbroker-topic"].decode() == broker.topics.tasks


def test_a_retry_that_succeeds_keeps_the_headers_and_ends_the_story(broker: Broker, effects: Effects) -> None:
    tasks.fail_once.apply_async(args=[effects.key], headers={"tenant": 7, "sentry-propagate-traces": False})
    runs = effects.await_runs(2)
    assert [run["attempt"] for run in runs] == [0, 1]
    assert [run["headers"]["tenant"] for run in runs] == ["7", "7"]
    broker.await_counts("recovering", admitted=2, retried=1, completed=1)


def test_a_task_may_ask_to_be_run_again_until_its_attempts_are_used_up(broker: Broker, effects: Effects) -> None:
    tasks.ask_again.delay(effects.key)
    broker.await_counts("asking", admitted=2, retried=1, discarded=1)
    assert [run["attempt"] for run in effects.await_runs(2)] == [0, 1]


def test_a_retry_waits_for_its_delay(broker: Broker, effects: Effects) -> None:
    tasks.fail_once_with_delay.delay(effects.key)
    wait_until("the retry waits in the store", lambda: broker.rows("namespace = 'patient' AND status = 'Delay'"))
    first, second = effects.await_runs(2)
    assert seconds_between(first, second) >= 2.0
    broker.await_counts("patient", admitted=2, retried=1, completed=1)


def test_a_task_that_the_worker_does_not_know_is_dead_lettered(broker: Broker, kafka: Kafka, effects: Effects) -> None:
    tasks.never_runs.delay(effects.key)
    broker.await_counts("unheard_of", admitted=1, dead_lettered=1)
    [letter] = dead_letters(kafka, broker, effects)
    assert letter.activation().taskname == "unheard_of.run"
    assert effects.runs() == []


# --- what takes too long, or takes its worker along -------------------------------------------------------------------


def test_a_task_that_overruns_its_deadline_fails(broker: Broker, effects: Effects) -> None:
    tasks.overrun.delay(effects.key)
    broker.await_counts("overrunning", admitted=1, discarded=1)
    effects.await_runs(1)


def test_a_task_that_overruns_its_deadline_is_retried_where_its_policy_says_so(
    broker: Broker, effects: Effects
) -> None:
    tasks.overrun_once.delay(effects.key)
    assert [run["attempt"] for run in effects.await_runs(2)] == [0, 1]
    broker.await_counts("overrunning_once", admitted=2, retried=1, completed=1)


def test_a_task_whose_worker_died_is_handed_out_again_after_deadline_and_grace(
    broker: Broker, effects: Effects
) -> None:
    tasks.die_once.delay(effects.key)
    first, second = effects.await_runs(2)
    assert first["id"] == second["id"]
    assert first["pid"] != second["pid"]
    assert seconds_between(first, second) >= 2 + GRACE_S - 0.5
    broker.await_counts("deadly_once", admitted=1, completed=1)


def test_a_task_that_kills_each_worker_stops_after_a_few(broker: Broker, kafka: Kafka, effects: Effects) -> None:
    tasks.die_each_time.delay(effects.key)
    broker.await_counts("deadly", admitted=1, dead_lettered=1)
    effects.await_runs(LOST_LEASES_MAX)
    [letter] = dead_letters(kafka, broker, effects)
    assert letter.headers["taskbroker-reason"] == b"workers missed its deadline too often"


# --- what runs at most once -------------------------------------------------------------------------------------------


def test_an_at_most_once_task_runs_once(broker: Broker, effects: Effects) -> None:
    for _ in range(10):
        tasks.note_at_most_once.delay(effects.key)
    runs = effects.await_runs(10)
    assert len({run["id"] for run in runs}) == 10
    broker.await_counts("once", admitted=10, completed=10)


def test_an_at_most_once_task_whose_worker_died_is_never_handed_out_again(broker: Broker, effects: Effects) -> None:
    tasks.die_at_most_once.delay(effects.key)
    broker.await_counts("once_deadly", admitted=1, discarded=1)
    effects.await_runs(1)


# --- what waits, and what comes too late ------------------------------------------------------------------------------


def test_a_delayed_task_waits_in_the_store_and_runs_when_its_time_has_come(broker: Broker, effects: Effects) -> None:
    produced_at = time.time()
    tasks.note_later.apply_async(args=[effects.key], countdown=3)
    wait_until("it waits in the store", lambda: broker.rows("namespace = 'delayed' AND status = 'Delay'"))
    [run] = effects.await_runs(1)
    assert run["at"] - produced_at >= 3.0
    broker.await_counts("delayed", admitted=1, completed=1)


def test_a_task_that_has_not_expired_runs(broker: Broker, effects: Effects) -> None:
    tasks.note_in_time.delay(effects.key)
    effects.await_runs(1)
    broker.await_counts("expiring", admitted=1, completed=1)


def test_a_task_that_expires_before_its_time_has_come_does_not_run(broker: Broker, effects: Effects) -> None:
    tasks.note_too_late.apply_async(args=[effects.key], expires=1, countdown=2)
    broker.await_counts("expiring_late", admitted=1, expired=1)
    assert effects.runs() == []
    assert broker.rows("namespace = 'expiring_late'") == []


# --- what is large ----------------------------------------------------------------------------------------------------


def test_compressed_arguments_arrive_whole(broker: Broker, effects: Effects) -> None:
    data = b"compressible " * 200_000
    tasks.measure.delay(effects.key, data)
    [run] = effects.await_runs(1)
    assert (run["size"], run["digest"]) == (len(data), hashlib.sha256(data).hexdigest())
    broker.await_counts("compressed", admitted=1, completed=1)


def test_arguments_that_are_large_even_compressed_arrive_whole_each_time(broker: Broker, effects: Effects) -> None:
    data = random.Random(1).randbytes(4_500_000)
    tasks.measure_twice.delay(effects.key, data)
    runs = effects.await_runs(2)
    assert [(run["attempt"], run["size"]) for run in runs] == [(0, len(data)), (1, len(data))]
    assert {run["digest"] for run in runs} == {hashlib.sha256(data).hexdigest()}
    broker.await_counts("large", admitted=2, retried=1, completed=1)


# --- in the end -------------------------------------------------------------------------------------------------------


def test_in_the_end_nothing_is_left_and_nothing_was_lost(
    broker: Broker, kafka: Kafka, worker: Worker, pulse: Pulse
) -> None:
    pulse.stop()
    # Gauges and counts are shown once a second: only the last task, completed, says that they are of now.
    broker.await_counts("pulse", admitted=pulse.beats, completed=pulse.beats)
    wait_until("nothing is in flight", lambda: broker.gauge("taskbroker_in_flight") == 0)
    wait_until("the store is empty", lambda: broker.rows() == [])
    wait_until("the group has committed everything", lambda: kafka.lag(broker.topics) == 0)
    assert broker.gauge("taskbroker_conservation_imbalance") == 0
    assert pulse.beats > 10
    assert broker.gauge("taskbroker_depth") == 0
    with pytest.raises(Exception, match="No pending activations"):
        broker.stub().GetTask(GetTaskRequest())
    worker.stop()
    assert broker.stop() == 0
