"""The calls of the protocol with the public stubs: codes and texts that existing clients rely on."""

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from sentry_protos.taskbroker.v1 import taskbroker_pb2 as pb
from sentry_protos.taskbroker.v1.taskbroker_pb2_grpc import ConsumerServiceStub

from conftest import MakeBroker
from support.broker import CALL_S, Broker
from support.kafka import Kafka
from support.waiting import wait_until

SERVICE = "/sentry_protos.taskbroker.v1.ConsumerService"


@pytest.fixture(scope="module")
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


@pytest.fixture(scope="module")
def channel(broker: Broker) -> Iterator[grpc.Channel]:
    with broker.channel() as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel: grpc.Channel) -> ConsumerServiceStub:
    return ConsumerServiceStub(channel)


class Tasks:
    """Tasks of an application that no other test has."""

    def __init__(self, broker: Broker, kafka: Kafka, stub: ConsumerServiceStub) -> None:
        self.application = f"app-{uuid.uuid4().hex}"
        self._broker, self._kafka, self._stub = broker, kafka, stub

    def new(self, namespace: str = "protocol", **fields: Any) -> pb.TaskActivation:
        activation = pb.TaskActivation(
            id=uuid.uuid4().hex,
            application=self.application,
            namespace=namespace,
            taskname="protocol.task",
            parameters_bytes=b"\x80",
            processing_deadline_duration=30,
        )
        activation.received_at.GetCurrentTime()
        activation.MergeFrom(pb.TaskActivation(**fields))
        return activation

    def produce(self, *activations: pb.TaskActivation) -> None:
        self._kafka.produce(self._broker.topics.tasks, *[a.SerializeToString() for a in activations])

    def get(self, **request: str) -> pb.TaskActivation | None:
        """The next task of the application, if there is one."""
        try:
            response = self._stub.GetTask(pb.GetTaskRequest(application=self.application, **request), timeout=CALL_S)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.NOT_FOUND, error
            return None
        return response.task

    def await_task(self, **request: str) -> pb.TaskActivation:
        return wait_until("there is a task", lambda: self.get(**request))

    def await_admitted(self, namespace: str, count: int) -> None:
        """Waits until the broker knows so many tasks of this namespace, in any application."""
        wait_until("the tasks are read", lambda: self._broker.counts(namespace).get("admitted", 0) >= count)


@pytest.fixture
def tasks(broker: Broker, kafka: Kafka, stub: ConsumerServiceStub) -> Tasks:
    return Tasks(broker, kafka, stub)


def refusal(call: Callable[..., object], request: object) -> tuple[grpc.StatusCode, str]:
    """Code and text of a call that must fail."""
    with pytest.raises(grpc.RpcError) as raised:
        call(request, timeout=CALL_S)
    return raised.value.code(), raised.value.details() or ""


def report(
    task: pb.TaskActivation, status: pb.TaskActivationStatus.ValueType, **fields: Any
) -> pb.SetTaskStatusRequest:
    return pb.SetTaskStatusRequest(id=task.id, status=status, **fields)


COMPLETE, FAILURE, RETRY = (
    pb.TASK_ACTIVATION_STATUS_COMPLETE,
    pb.TASK_ACTIVATION_STATUS_FAILURE,
    pb.TASK_ACTIVATION_STATUS_RETRY,
)

# --- GetTask ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        pb.GetTaskRequest(application="nobody's"),
        pb.GetTaskRequest(application="nobody's", namespace="protocol"),
        pb.GetTaskRequest(namespace="a namespace without its application"),
    ],
)
def test_where_there_is_nothing_to_do_clients_are_sent_elsewhere(
    stub: ConsumerServiceStub, asked: pb.GetTaskRequest
) -> None:
    assert refusal(stub.GetTask, asked) == (grpc.StatusCode.NOT_FOUND, "No pending activations")


def test_a_namespace_without_its_application_gets_nothing_even_if_there_is_something(
    tasks: Tasks, stub: ConsumerServiceStub
) -> None:
    tasks.produce(tasks.new("lonely"))
    tasks.await_admitted("lonely", 1)
    assert refusal(stub.GetTask, pb.GetTaskRequest(namespace="lonely"))[0] == grpc.StatusCode.NOT_FOUND
    assert tasks.get(namespace="lonely") is not None


def test_a_task_is_handed_out_byte_by_byte_as_it_was_produced(
    broker: Broker, kafka: Kafka, channel: grpc.Channel, tasks: Tasks
) -> None:
    tomorrow = b"\xfa\x7f\x08tomorrow"  # Field 2047, which nobody knows yet.
    activation = tasks.new(headers={"b": "2", "a": "1"}, expires=3600).SerializeToString() + tomorrow
    kafka.produce(broker.topics.tasks, activation)
    get_bytes = channel.unary_unary(f"{SERVICE}/GetTask", request_serializer=pb.GetTaskRequest.SerializeToString)
    request = pb.GetTaskRequest(application=tasks.application)

    def look() -> bytes | None:
        try:
            return bytes(get_bytes(request, timeout=CALL_S))
        except grpc.RpcError:
            return None

    assert wait_until("there is a task", look).endswith(activation)


def test_tasks_of_a_namespace_come_in_the_order_in_which_they_were_produced(tasks: Tasks) -> None:
    produced = [tasks.new("ordered") for _ in range(20)]
    tasks.produce(*produced)
    tasks.await_admitted("ordered", 20)
    assert [tasks.await_task(namespace="ordered").id for _ in produced] == [task.id for task in produced]
    assert tasks.get(namespace="ordered") is None


# --- SetTaskStatus ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "name"), [(0, "Unspecified"), (1, "Pending"), (2, "Processing")])
def test_a_status_that_concludes_nothing_is_refused_by_name(stub: ConsumerServiceStub, number: int, name: str) -> None:
    expected = f"Invalid status, expects 3 (Failure), 4 (Retry), or 5 (Complete), but got: {name}"
    request = pb.SetTaskStatusRequest(id=uuid.uuid4().hex, status=number)
    assert refusal(stub.SetTaskStatus, request) == (grpc.StatusCode.INVALID_ARGUMENT, expected)


def test_a_status_that_does_not_exist_is_refused(stub: ConsumerServiceStub) -> None:
    code, text = refusal(stub.SetTaskStatus, pb.SetTaskStatusRequest(id=uuid.uuid4().hex, status=99))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert text.startswith("Unable to deserialize status: ") and "99" in text


@pytest.mark.parametrize("unknown", ["", "no such id", uuid.uuid4().hex])
def test_a_report_about_an_unknown_task_is_answered_ok(stub: ConsumerServiceStub, unknown: str) -> None:
    answer = stub.SetTaskStatus(pb.SetTaskStatusRequest(id=unknown, status=COMPLETE), timeout=CALL_S)
    assert answer == pb.SetTaskStatusResponse()


def test_a_report_brings_the_next_task_along_if_it_asks_for_one(tasks: Tasks, stub: ConsumerServiceStub) -> None:
    tasks.produce(tasks.new("chain"), tasks.new("chain"), tasks.new("other"))
    first = tasks.await_task(namespace="chain")
    tasks.await_admitted("chain", 2)
    tasks.await_admitted("other", 1)
    asked = pb.FetchNextTask(application=tasks.application, namespace="chain")
    second = stub.SetTaskStatus(report(first, COMPLETE, fetch_next_task=asked), timeout=CALL_S).task
    assert second.namespace == "chain" and second.id != first.id
    last = stub.SetTaskStatus(report(second, COMPLETE, fetch_next_task=asked), timeout=CALL_S)
    assert not last.HasField("task"), "with nothing to do the answer is empty, and no error"
    not_asked = stub.SetTaskStatus(report(tasks.await_task(namespace="other"), COMPLETE), timeout=CALL_S)
    assert not not_asked.HasField("task")


def test_a_report_that_comes_again_or_too_late_changes_nothing(
    broker: Broker, tasks: Tasks, stub: ConsumerServiceStub
) -> None:
    tasks.produce(tasks.new("repeated"))
    task = tasks.await_task(namespace="repeated")
    for status in [COMPLETE, COMPLETE, FAILURE, RETRY]:
        assert stub.SetTaskStatus(report(task, status), timeout=CALL_S) == pb.SetTaskStatusResponse()
    broker.await_counts("repeated", admitted=1, completed=1)
    assert tasks.get() is None


def test_a_retry_comes_back_with_what_its_report_asked_for(tasks: Tasks, stub: ConsumerServiceStub) -> None:
    produced = tasks.new("again", retry_state=pb.RetryState(attempts=0, max_attempts=2), headers={"kept": "yes"})
    tasks.produce(produced)
    task = tasks.await_task(namespace="again")
    stub.SetTaskStatus(report(task, RETRY, max_attempts=7, delay_on_retry=1), timeout=CALL_S)
    retry = tasks.await_task(namespace="again")
    assert retry.id != task.id
    assert uuid.UUID(retry.id).version == 5, "derived from its parent, so that a second copy is recognised"
    assert (retry.retry_state.attempts, retry.retry_state.max_attempts, retry.delay) == (1, 7, 1)
    assert retry.received_at.ToMilliseconds() > task.received_at.ToMilliseconds()
    assert (dict(retry.headers), retry.parameters_bytes) == ({"kept": "yes"}, produced.parameters_bytes)
    stub.SetTaskStatus(report(retry, COMPLETE), timeout=CALL_S)


# --- SetBatchActivationStatus -----------------------------------------------------------------------------------------


def test_a_batch_settles_each_of_its_tasks(broker: Broker, tasks: Tasks, stub: ConsumerServiceStub) -> None:
    tasks.produce(*[tasks.new("batch") for _ in range(4)])
    first, second, third, fourth = [tasks.await_task(namespace="batch") for _ in range(4)]
    unknown = pb.SetTaskStatusRequest(id=uuid.uuid4().hex, status=COMPLETE)
    ignored = pb.FetchNextTask(application=tasks.application)
    updates = [
        report(first, COMPLETE, fetch_next_task=ignored),
        report(second, FAILURE),
        report(third, RETRY),
        report(fourth, COMPLETE),
        unknown,
    ]
    request = pb.SetBatchActivationStatusRequest(updates=updates)
    assert stub.SetBatchActivationStatus(request, timeout=CALL_S) == pb.SetBatchActivationStatusResponse()
    retry = tasks.await_task(namespace="batch")
    stub.SetTaskStatus(report(retry, COMPLETE), timeout=CALL_S)
    broker.await_counts("batch", admitted=5, completed=3, discarded=1, retried=1)


def test_a_batch_with_one_impossible_status_is_refused_as_a_whole(
    broker: Broker, tasks: Tasks, stub: ConsumerServiceStub
) -> None:
    tasks.produce(tasks.new("whole"))
    task = tasks.await_task(namespace="whole")
    updates = [report(task, COMPLETE), report(task, pb.TASK_ACTIVATION_STATUS_PENDING)]
    code, _ = refusal(stub.SetBatchActivationStatus, pb.SetBatchActivationStatusRequest(updates=updates))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert broker.counts("whole").get("completed", 0) == 0
    stub.SetTaskStatus(report(task, COMPLETE), timeout=CALL_S)
    broker.await_counts("whole", admitted=1, completed=1)


def test_an_empty_batch_is_no_error(stub: ConsumerServiceStub) -> None:
    request = pb.SetBatchActivationStatusRequest()
    assert stub.SetBatchActivationStatus(request, timeout=CALL_S) == pb.SetBatchActivationStatusResponse()


# --- what is not of the protocol --------------------------------------------------------------------------------------


def test_a_method_that_does_not_exist_is_called_so(channel: grpc.Channel) -> None:
    call = channel.unary_unary(f"{SERVICE}/PushTask")
    assert refusal(call, b"")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_a_request_that_is_too_large_is_refused_and_the_next_is_served(
    channel: grpc.Channel, stub: ConsumerServiceStub
) -> None:
    five_mib = pb.SetTaskStatusRequest(id="x" * 5 * 1024 * 1024, status=COMPLETE)
    assert refusal(stub.SetTaskStatus, five_mib)[0] == grpc.StatusCode.OUT_OF_RANGE
    assert refusal(stub.GetTask, pb.GetTaskRequest(application="nobody's"))[0] == grpc.StatusCode.NOT_FOUND


def test_a_request_that_cannot_be_decoded_is_refused_and_the_next_is_served(
    channel: grpc.Channel, stub: ConsumerServiceStub
) -> None:
    call = channel.unary_unary(f"{SERVICE}/SetTaskStatus")
    assert refusal(call, b"\xff\xff\xff")[0] in {grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT}
    assert refusal(stub.GetTask, pb.GetTaskRequest(application="nobody's"))[0] == grpc.StatusCode.NOT_FOUND


# --- messages that are no tasks ---------------------------------------------------------------------------------------


def test_a_message_that_is_no_task_goes_to_the_dead_letters_and_the_next_one_runs(
    broker: Broker, kafka: Kafka, tasks: Tasks
) -> None:
    garbage = [b"\xff" * 40, b"\x0a\x40cut off", b""]
    following = tasks.new("following")
    kafka.produce(broker.topics.tasks, *garbage, following.SerializeToString())
    assert tasks.await_task(namespace="following").id == following.id
    wait_until("all are dead letters", lambda: len(kafka.records(broker.topics.dead_letters)) == len(garbage))
    letters = {record.value or b"": record.headers for record in kafka.records(broker.topics.dead_letters)}
    assert set(letters) == set(garbage)
    for headers in letters.values():
        assert headers["taskbroker-reason"].startswith(b"undecodable: ")
        assert headers["taskbroker-topic"].decode() == broker.topics.tasks
        assert headers["taskbroker-partition"] == b"0"
        assert headers["taskbroker-offset"].isdigit()
