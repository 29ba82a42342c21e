"""The real binary, as a process with its own ports and store."""

import json
import os
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import grpc
from prometheus_client.parser import text_string_to_metric_families
from sentry_protos.taskbroker.v1.taskbroker_pb2 import GetTaskRequest, TaskActivation
from sentry_protos.taskbroker.v1.taskbroker_pb2_grpc import ConsumerServiceStub

from .kafka import PARTITIONS, Kafka, Topics
from .processes import REPOSITORY, Process, free_port
from .waiting import wait_until

BINARY = "TASKBROKER_TEST_BINARY"

STOPS_WITHIN_S = 10.0
"""What a supervisor commonly grants."""

CALL_S = 10.0
"""The longest that a call may take."""

SHOWN_WITHIN_S = 1.5
"""How long after an event its metric is shown: they are counted anew once a second."""

GRACE_S = 1
LOST_LEASES_MAX = 2


def binary() -> Path:
    """The program under test: the one that is named, else one that is built now."""
    if named := os.environ.get(BINARY):
        return Path(named)
    command = ["cargo", "build", "--locked", "--bin", "taskbroker", "--message-format", "json-render-diagnostics"]
    built = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    artifacts = (json.loads(line) for line in built.stdout.splitlines())
    executables = [artifact["executable"] for artifact in artifacts if artifact.get("executable")]
    return Path(executables[-1])


class Broker:
    """A broker. It can be stopped or killed, and started again where it was: same ports, same store, same group.

    Topics in its settings are consumed beside its own.
    """

    def __init__(
        self, program: Path, directory: Path, kafka: Kafka, topics: Topics, settings: Mapping[str, Any] | None = None
    ) -> None:
        self.program = program
        self.store = directory / "store.sqlite"
        self.topics = topics
        self.grpc_address = f"127.0.0.1:{free_port()}"
        self.http_address = f"127.0.0.1:{free_port()}"
        self.config = directory / "taskbroker.yaml"
        self._log = directory / "broker.log"
        # JSON is YAML.
        wanted = dict(settings or {})
        common = self._settings(kafka)
        if more := wanted.pop("kafka_topics", None):
            common["kafka_topics"] |= more
            common["kafka_retry_topic"] = self.topics.tasks
        self.config.write_text(json.dumps({**common, **wanted}, indent=2))
        self._process: Process | None = None

    def _settings(self, kafka: Kafka) -> dict[str, Any]:
        return {
            "log_filter": "info,taskbroker=debug,librdkafka=warn,h2=off",
            "grpc_addr": "127.0.0.1",
            "grpc_port": int(self.grpc_address.rpartition(":")[2]),
            "http_port": int(self.http_address.rpartition(":")[2]),
            "kafka_clusters": {"test": {"address": kafka.address}},
            "kafka_topics": {
                self.topics.tasks: {"cluster": "test", "consumer_group": self.topics.group},
                self.topics.dead_letters: {"cluster": "test", "produce_only": True},
            },
            "kafka_deadletter_topic": self.topics.dead_letters,
            "kafka_auto_offset_reset": "earliest",
            "upkeep_deadline_reset_skip_after_startup_sec": 0,
            "store": {
                "sqlite": {"path": str(self.store)},
                "processing_deadline_grace_sec": GRACE_S,
                "max_processing_attempts": LOST_LEASES_MAX,
            },
        }

    # --- life ---------------------------------------------------------------------------------------------------------

    def start(self) -> "Broker":
        """Returns once it is ready and reads its partitions."""
        self._process = Process([str(self.program), "-c", str(self.config)], self._log, {})
        wait_until("the broker is ready and has its partitions", self._is_ready)
        return self

    def _is_ready(self) -> bool:
        assert self._running.ended_with() is None, f"the broker ended with {self._running.ended_with()}: see its log"
        try:
            ready, _ = self.get("/readyz")
            return ready == 200 and self.gauge("taskbroker_kafka_assigned", topic=self.topics.tasks) == PARTITIONS
        except OSError:
            return False

    def stop(self) -> int:
        """Ends it in order, and returns the exit code."""
        return self._running.terminate(STOPS_WITHIN_S)

    def kill(self) -> None:
        """Ends it in the middle of things."""
        self._running.kill()

    def end(self) -> None:
        """Ends it, if it still runs."""
        if self._process is not None:
            self._process.kill()

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def _running(self) -> Process:
        assert self._process is not None, "the broker was not started"
        return self._process

    # --- what it says -------------------------------------------------------------------------------------------------

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a page at its HTTP port."""
        try:
            with urllib.request.urlopen(f"http://{self.http_address}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def gauge(self, name: str, **labels: str) -> float:
        """The sum of the samples of a metric that have these labels; 0 where there is none."""
        _, text = self.get("/metrics")
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())

    def counts(self, namespace: str) -> dict[str, int]:
        """What became of the tasks of a namespace: each event that happened, with its number."""
        _, text = self.get("/metrics")
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        events = {
            sample.labels["event"]: int(sample.value)
            for sample in samples
            if sample.name == "taskbroker_activations_total" and sample.labels["namespace"] == namespace
        }
        return {event: count for event, count in events.items() if count}

    def await_counts(self, namespace: str, **expected: int) -> None:
        """Waits until the events of a namespace are exactly these. They are shown once a second."""
        with suppress(AssertionError):
            wait_until("they are", lambda: self.counts(namespace) == expected)
        assert self.counts(namespace) == expected

    def rows(self, where: str = "1", *values: object) -> list[sqlite3.Row]:
        """Rows of the view in the live store, read as operators do: attached to a connection of one's own."""
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("ATTACH ? AS store", (str(self.store),))
            return connection.execute(f"SELECT * FROM store.inflight_taskactivations WHERE {where}", values).fetchall()

    def inspect(self) -> dict[str, Any]:
        """What `taskbroker inspect` says of the store."""
        command = [str(self.program), "inspect", "--json", str(self.store)]
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
        inspection: dict[str, Any] = json.loads(found.stdout)
        return inspection

    # --- calls --------------------------------------------------------------------------------------------------------

    def channel(self) -> grpc.Channel:
        return grpc.insecure_channel(self.grpc_address)

    def stub(self) -> ConsumerServiceStub:
        return ConsumerServiceStub(self.channel())

    def claim(self, application: str, namespace: str) -> TaskActivation:
        """A task, once there is one: a row can be read a moment before the broker hands it out."""
        request = GetTaskRequest(application=application, namespace=namespace)
        stub = self.stub()

        def ask() -> TaskActivation | None:
            try:
                return stub.GetTask(request, timeout=CALL_S, wait_for_ready=True).task
            except grpc.RpcError as error:
                assert error.code() == grpc.StatusCode.NOT_FOUND, error
                return None

        return wait_until("there is a task", ask)
