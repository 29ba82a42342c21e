"""The Kafka that the tests share, and what they ask of it."""

import os
import socket
import subprocess
import uuid
from dataclasses import dataclass, field

import msgpack
import zstandard
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from sentry_protos.taskbroker.v1.taskbroker_pb2 import TaskActivation

from .processes import REPOSITORY

ADDRESS = "TASKBROKER_TEST_KAFKA"
REQUIRE = "TASKBROKER_TEST_REQUIRE_KAFKA"

CONTAINER_PORT = 29392
"""Where the other tests keep their container, if they could start one."""

ANSWER_WITHIN_S = 20.0
MESSAGE_BYTES_MAX = 10_000_000
PARTITIONS = 4


class NoKafka(Exception):
    """There is none, and the reason."""


def locate() -> tuple[str, str]:
    """The address of a Kafka, and where it is from: the environment, the container of the other tests, or the jars."""
    if address := os.environ.get(ADDRESS):
        return address, f"from {ADDRESS}"
    if _listens(CONTAINER_PORT):
        return f"127.0.0.1:{CONTAINER_PORT}", "in a container"
    script = REPOSITORY / "scripts" / "kafka"
    started = subprocess.run([script, "up"], capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if started.returncode != 0:
        raise NoKafka(started.stderr.strip())
    for line in started.stdout.splitlines():
        if line.startswith("bootstrap="):
            return line.removeprefix("bootstrap="), "from the jars (scripts/kafka down stops it)"
    raise NoKafka(f"{script} up printed no address")


def _listens(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.5)
        return client.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Record:
    """A message in a topic."""

    value: bytes | None
    key: bytes | None
    headers: dict[str, bytes]

    def activation(self) -> TaskActivation:
        return TaskActivation.FromString(self.value or b"")


@dataclass(frozen=True)
class Topics:
    """A topic of tasks, which also takes their retries, one of dead letters, and a consumer group: nobody else's."""

    tasks: str
    dead_letters: str
    group: str


@dataclass
class Kafka:
    """A cluster. Topics are new for each user, so that tests may share one."""

    address: str
    _admin: AdminClient = field(init=False)
    _producer: Producer = field(init=False)

    def __post_init__(self) -> None:
        self._admin = AdminClient({"bootstrap.servers": self.address})
        self._producer = Producer({"bootstrap.servers": self.address, "message.max.bytes": MESSAGE_BYTES_MAX})

    def new_topics(self) -> Topics:
        """Makes topics that take large messages."""
        name = f"python-{uuid.uuid4().hex[:12]}"
        topics = Topics(tasks=name, dead_letters=f"{name}-dlq", group=name)
        config = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
        new = [
            NewTopic(topics.tasks, num_partitions=PARTITIONS, replication_factor=1, config=config),
            NewTopic(topics.dead_letters, num_partitions=1, replication_factor=1, config=config),
        ]
        for made in self._admin.create_topics(new, operation_timeout=ANSWER_WITHIN_S).values():
            made.result(ANSWER_WITHIN_S)
        return topics

    def delete(self, topics: Topics) -> None:
        """Removes them; Kafka does so in its own time."""
        for deleted in self._admin.delete_topics([topics.tasks, topics.dead_letters]).values():
            deleted.exception(ANSWER_WITHIN_S)

    def produce(self, topic: str, *values: bytes, partition: int = 0) -> None:
        """Appends messages to one partition, in this order, and returns when Kafka has them."""
        refused: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: object) -> None:
            if error is not None:
                refused.append(error)

        for value in values:
            self._producer.produce(topic, value, partition=partition, on_delivery=delivered)
        left = self._producer.flush(ANSWER_WITHIN_S)
        assert not refused and left == 0, f"not produced to {topic}: {refused}, {left} without an answer"

    def records(self, topic: str) -> list[Record]:
        """Everything that is in a topic of one partition."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "reader", "enable.auto.commit": False})
        try:
            partition = TopicPartition(topic, 0, 0)
            _, end = consumer.get_watermark_offsets(partition, timeout=ANSWER_WITHIN_S)
            consumer.assign([partition])
            records: list[Record] = []
            position = 0
            while position < end:
                message = consumer.poll(ANSWER_WITHIN_S)
                assert message is not None and message.error() is None, f"{topic} at {position}: {message}"
                position = message.offset() + 1
                records.append(Record(message.value(), message.key(), dict(message.headers() or [])))
            return records
        finally:
            consumer.close()

    def lag(self, topics: Topics) -> int:
        """How many messages of tasks the group has not committed."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": topics.group, "enable.auto.commit": False})
        try:
            partitions = [TopicPartition(topics.tasks, number) for number in range(PARTITIONS)]
            lag = 0
            for partition in consumer.committed(partitions, timeout=ANSWER_WITHIN_S):
                start, end = consumer.get_watermark_offsets(partition, timeout=ANSWER_WITHIN_S)
                lag += end - max(start, partition.offset)
            return lag
        finally:
            consumer.close()


def parameters(activation: TaskActivation) -> dict[str, object]:
    """The arguments of a task, unpacked."""
    packed = activation.parameters_bytes
    if activation.headers.get("compression-type") == "zstd":
        packed = zstandard.decompress(packed)
    unpacked: dict[str, object] = msgpack.unpackb(packed, raw=False)
    return unpacked
