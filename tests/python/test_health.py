"""Health and reflection as tools and supervisors ask for them."""

import threading

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from conftest import MakeBroker
from support.broker import CALL_S, Broker
from support.waiting import wait_until

SERVICE = "sentry_protos.taskbroker.v1.ConsumerService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture(scope="module")
def broker(make_broker: MakeBroker) -> Broker:
    return make_broker()


def test_the_server_and_its_service_are_serving(broker: Broker) -> None:
    with broker.channel() as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ["", SERVICE]:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=CALL_S)
            assert answer.status == SERVING, name


def test_a_service_that_is_not_served_is_not_found(broker: Broker) -> None:
    with broker.channel() as channel, pytest.raises(grpc.RpcError) as raised:
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="other"), timeout=CALL_S)
    assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_probes_say_that_all_is_well(broker: Broker) -> None:
    assert broker.get("/healthz")[0] == 200
    assert broker.get("/readyz")[0] == 200
    assert broker.get("/nowhere")[0] == 404


def test_reflection_lists_what_is_served_and_describes_it(broker: Broker) -> None:
    with broker.channel() as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert {SERVICE, "grpc.health.v1.Health"} <= set(database.get_services())
        file = database.FindFileContainingSymbol(SERVICE)
        [service] = [service for service in file.service if service.name == "ConsumerService"]
        methods = {method.name for method in service.method}
        assert methods == {"GetTask", "SetTaskStatus", "SetBatchActivationStatus"}
        activation = database.FindFileContainingSymbol("sentry_protos.taskbroker.v1.TaskActivation")
        assert "TaskActivation" in {message.name for message in activation.message_type}


def test_who_watches_learns_that_the_broker_stops(broker: Broker) -> None:
    seen: list[int] = []

    def watch() -> None:
        try:
            for change in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE)):
                seen.append(change.status)
        except grpc.RpcError:
            pass

    with broker.channel() as channel:
        watching = threading.Thread(target=watch)
        watching.start()
        wait_until("the first status has come", lambda: seen)
        assert broker.stop() == 0
        watching.join(CALL_S)
    assert seen == [SERVING, NOT_SERVING]
