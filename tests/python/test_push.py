"""Tasks pushed to the client's own push worker, with every call signed."""

import random
import time
from typing import Any

import grpc
import pytest
from sentry_protos.taskbroker.v1.taskbroker_pb2 import (
    TASK_ACTIVATION_STATUS_COMPLETE,
    FetchNextTask,
    GetTaskRequest,
    SetTaskStatusRequest,
)
from sentry_protos.taskbroker.v1.taskbroker_pb2_grpc import ConsumerServiceStub
from taskbroker_client.worker.client import RequestSignatureInterceptor

from application import app, neighbour, tasks
from conftest import MakeBroker, MakePushWorker
from support.broker import CALL_S, SHOWN_WITHIN_S, Broker
from support.effects import Effects
from support.kafka import Kafka
from support.processes import free_port
from support.waiting import wait_until
from support.worker import PushWorker

CHILDREN = 3

PRESENT, FORMER = "the present secret", "the former secret"


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def settings(port: int, **more: Any) -> dict[str, Any]:
    return {
        "delivery_mode": "push",
        "worker_map": {app.name: f"http://127.0.0.1:{port}"},
        "push": {"threads": 2, "queue": {"size": 2}},
        "grpc_shared_secret": [PRESENT, FORMER],
        **more,
    }


@pytest.fixture(scope="module")
def broker(make_broker: MakeBroker, port: int) -> Broker:
    """It starts without its worker, which the existing system does not."""
    return make_broker(**settings(port))


@pytest.fixture(scope="module", autouse=True)
def worker(broker: Broker, port: int, make_push_worker: MakePushWorker) -> PushWorker:
    """Signs its reports by the former secret, and takes tasks signed by the present one, as while secrets are changed."""
    return make_push_worker(broker, port=port, concurrency=CHILDREN, secrets=[FORMER, PRESENT])


def signing(broker: Broker, secret: str) -> ConsumerServiceStub:
    return ConsumerServiceStub(grpc.intercept_channel(broker.channel(), RequestSignatureInterceptor([secret])))


def offers(broker: Broker, outcome: str) -> float:
    return broker.gauge("taskbroker_push_offers_total", application=app.name, outcome=outcome)


def test_each_task_is_pushed_and_runs_once_with_its_arguments(broker: Broker, effects: Effects) -> None:
    for number in range(100):
        tasks.note_arguments.delay(effects.key, number, text="ü", nested={"list": [1, None, 2.5]})
    runs = effects.await_runs(100)
    assert sorted(run["args"][0] for run in runs) == list(range(100))
    assert all(run["kwargs"] == {"text": "ü", "nested": {"list": [1, None, 2.5]}} for run in runs)
    broker.await_counts("plain", admitted=100, completed=100)
    wait_until("the offers are counted", lambda: offers(broker, "delivered") == 100)
    assert offers(broker, "unknown") == 0
    assert len(effects.runs()) == 100


def test_more_slow_tasks_than_the_worker_can_hold_wait_and_none_is_lost(broker: Broker, effects: Effects) -> None:
    for _ in range(30):
        tasks.sleep.delay(effects.key, 0.5)
    effects.await_runs(30)
    broker.await_counts("slow", admitted=30, completed=30)


def test_a_retry_comes_back_and_is_pushed_again(broker: Broker, effects: Effects) -> None:
    tasks.fail_once.delay(effects.key)
    runs = effects.await_runs(2)
    assert [run["attempt"] for run in runs] == [0, 1]
    broker.await_counts("recovering", admitted=2, retried=1, completed=1)


def test_what_fails_for_good_goes_to_the_dead_letter_topic(broker: Broker, kafka: Kafka, effects: Effects) -> None:
    tasks.fail_each_time.delay(effects.key)
    effects.await_runs(3)
    broker.await_counts("retrying", admitted=3, retried=2, dead_lettered=1)
    assert len(kafka.records(broker.topics.dead_letters)) == 1


def test_large_arguments_are_pushed_whole(broker: Broker, effects: Effects) -> None:
    data = b"compressible " * 200_000
    tasks.measure.delay(effects.key, data)
    [run] = effects.await_runs(1)
    assert run["size"] == len(data)


def test_arguments_that_are_large_even_compressed_are_pushed_whole_each_time(broker: Broker, effects: Effects) -> None:
    data = random.Random(1).randbytes(4_500_000)
    tasks.measure_twice.delay(effects.key, data)
    runs = effects.await_runs(2)
    assert [(run["attempt"], run["size"]) for run in runs] == [(0, len(data)), (1, len(data))]
    broker.await_counts("large", admitted=2, retried=1, completed=1)


def test_asking_for_tasks_is_refused_and_reporting_is_not(broker: Broker) -> None:
    for secret in (PRESENT, FORMER):
        stub = signing(broker, secret)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetTask(GetTaskRequest(application=app.name), timeout=CALL_S)
        assert refused.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert refused.value.details() == "Cannot call while broker is in PUSH mode"
        report = SetTaskStatusRequest(
            id="unknown", status=TASK_ACTIVATION_STATUS_COMPLETE, fetch_next_task=FetchNextTask(application=app.name)
        )
        assert not stub.SetTaskStatus(report, timeout=CALL_S).HasField("task")


def test_a_call_that_is_not_signed_or_wrongly_is_refused(broker: Broker) -> None:
    for stub in (broker.stub(), signing(broker, "another secret")):
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetTask(GetTaskRequest(), timeout=CALL_S)
        assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        assert refused.value.details() == "Authentication failed"


def test_tasks_of_an_application_without_an_entry_wait_and_are_named(broker: Broker, effects: Effects) -> None:
    tasks.note_wide.delay(effects.key)
    wait_until(
        "they are named",
        lambda: broker.gauge("taskbroker_push_unmapped_seconds", application=neighbour.name) > 0,
    )
    tasks.note_arguments.delay(effects.key, 0)
    effects.await_runs(1)
    assert broker.get("/healthz")[0] == 200


def test_a_worker_that_is_killed_and_comes_back_gets_everything(
    broker: Broker, port: int, worker: PushWorker, effects: Effects, make_push_worker: MakePushWorker
) -> None:
    count = 150
    for number in range(count):
        tasks.work_briefly.delay(effects.key, number)
    wait_until("a third is done", lambda: len(effects.runs()) >= count // 3)
    worker.end()
    before = len(effects.runs())
    assert before < count, "the worker ended too late to matter"
    wait_until("it is missed", lambda: broker.gauge("taskbroker_push_worker_up", application=app.name) == 0)
    time.sleep(SHOWN_WITHIN_S)
    untold = before - broker.counts("brief").get("completed", 0)
    another = make_push_worker(broker, port=port, concurrency=CHILDREN, secrets=[PRESENT])
    wait_until("each has run", lambda: len({run["number"] for run in effects.runs()}) == count)
    broker.await_counts("brief", admitted=count, completed=count)
    assert len(effects.runs()) <= count + untold
    assert broker.gauge("taskbroker_conservation_imbalance") == 0
    another.end()
    assert broker.stop() == 0
