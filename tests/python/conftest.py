"""Fixtures: one Kafka for all, and a broker with a worker that most stories share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import effects as effects_on_disk
from support import kafka as kafkas
from support.broker import Broker, binary
from support.effects import Effects
from support.kafka import Kafka
from support.processes import logs, tail
from support.worker import PushWorker, Worker


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows the ends of the logs with a test that fails."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed:
        report.sections.extend((f"end of {log}", tail(log)) for log in logs if log.exists())


@pytest.fixture(scope="session")
def program() -> Path:
    return binary()


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Kafka:
    try:
        address, origin = kafkas.locate()
    except kafkas.NoKafka as reason:
        if os.environ.get(kafkas.REQUIRE) == "1":
            pytest.fail(f"{kafkas.REQUIRE}=1, but there is no Kafka: {reason}")
        pytest.skip(f"there is no Kafka ({kafkas.REQUIRE}=1 would make this a failure): {reason}")
    capture = pytestconfig.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\nKafka: {address}, {origin}")
    return Kafka(address)


@pytest.fixture(scope="session", autouse=True)
def environment(kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the application reads from the environment, here and in workers."""
    os.environ["TASKBROKER_TEST_BOOTSTRAP"] = kafka.address
    os.environ[effects_on_disk.DIRECTORY] = str(tmp_path_factory.mktemp("effects"))


@pytest.fixture
def effects() -> Effects:
    return Effects()


MakeBroker = Callable[..., Broker]


@pytest.fixture(scope="module")
def make_broker(program: Path, kafka: Kafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeBroker]:
    """Starts brokers with topics of their own; what the application produces goes to the latest."""
    made: list[Broker] = []

    def make(**settings: Any) -> Broker:
        topics = kafka.new_topics()
        os.environ["TASKBROKER_TEST_TOPIC"] = topics.tasks
        broker = Broker(program, tmp_path_factory.mktemp("broker"), kafka, topics, settings)
        made.append(broker)
        return broker.start()

    yield make
    for broker in made:
        broker.end()
        kafka.delete(broker.topics)


MakeWorker = Callable[..., Worker]


@pytest.fixture(scope="module")
def make_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeWorker]:
    """Starts workers."""
    made: list[Worker] = []

    def make(broker: Broker, **options: Any) -> Worker:
        worker = Worker(broker.grpc_address, tmp_path_factory.mktemp("worker") / "worker.log", **options)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.end()


MakePushWorker = Callable[..., PushWorker]


@pytest.fixture(scope="module")
def make_push_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakePushWorker]:
    """Starts workers that tasks are pushed to."""
    made: list[PushWorker] = []

    def make(broker: Broker, **options: Any) -> PushWorker:
        worker = PushWorker(broker.grpc_address, tmp_path_factory.mktemp("worker") / "worker.log", **options)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.end()
