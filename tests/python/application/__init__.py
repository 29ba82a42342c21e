"""The application whose tasks the tests produce and the workers run, built of the client's public parts alone."""

import os

from arroyo.backends.kafka import KafkaProducer
from taskbroker_client.app import TaskbrokerApp
from taskbroker_client.router import TaskRouter
from taskbroker_client.types import ProducerProtocol

from support import effects

BOOTSTRAP = "TASKBROKER_TEST_BOOTSTRAP"
TOPIC = "TASKBROKER_TEST_TOPIC"
SECRETS = "TASKBROKER_TEST_SECRETS"
"""A JSON list; nothing is signed without it."""


class OneTopic(TaskRouter):
    """All namespaces go to the topic that the test at hand has."""

    def route_namespace(self, name: str) -> str:
        return os.environ[TOPIC]


class OnDisk:
    """Remembers which at-most-once tasks were begun."""

    def add(self, key: str, value: str, timeout: int) -> bool:
        return effects.claim(key)


def make_producer(topic: str) -> ProducerProtocol:
    return KafkaProducer({"bootstrap.servers": os.environ[BOOTSTRAP], "message.max.bytes": 10_000_000})


def make_app(name: str) -> TaskbrokerApp:
    made = TaskbrokerApp(
        name=name, producer_factory=make_producer, router_class=OneTopic(), at_most_once_store=OnDisk()
    )
    made.set_modules(["application.tasks"])
    made.set_config({"rpc_secret": os.environ.get(SECRETS)})
    return made


app = make_app("python-tests")
neighbour = make_app("python-neighbour")
