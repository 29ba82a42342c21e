"""The store as operators and their scripts read it while the broker runs: the view that existing ones know."""

import os
import sqlite3
import subprocess
import sys
import time
import uuid
from functools import partial
from typing import Any

import pytest
from sentry_protos.taskbroker.v1 import taskbroker_pb2 as pb

from conftest import MakeBroker
from support.broker import CALL_S, GRACE_S, Broker
from support.kafka import Kafka
from support.waiting import wait_until

COLUMNS = [
    "id",
    "activation",
    "partition",
    "offset",
    "added_at",
    "processing_attempts",
    "expires_at",
    "processing_deadline_duration",
    "processing_deadline",
    "status",
    "at_most_once",
    "namespace",
    "delay_until",
    "on_attempts_exceeded",
    "received_at",
    "taskname",
    "application",
    "bucket",
    "claim_expires_at",
]
MESSAGE_BYTES_MAX = 2_000
"""What is larger cannot be published, and so stays in the store for good."""

DEADLINE_S = 300


def activation(namespace: str, **fields: Any) -> pb.TaskActivation:
    made = pb.TaskActivation(
        id=uuid.uuid4().hex,
        application="store-tests",
        namespace=namespace,
        taskname="store.task",
        parameters_bytes=b"\x80",
        processing_deadline_duration=DEADLINE_S,
    )
    made.received_at.GetCurrentTime()
    made.MergeFrom(pb.TaskActivation(**fields))
    return made


@pytest.fixture(scope="module")
def produced() -> dict[str, pb.TaskActivation]:
    """A task for each status, by namespace."""
    large = b"x" * (MESSAGE_BYTES_MAX + 1)
    deadletter = pb.RetryState(max_attempts=1, on_attempts_exceeded=pb.ON_ATTEMPTS_EXCEEDED_DEADLETTER)
    return {
        made.namespace: made
        for made in [
            activation("waiting", expires=3600),
            activation("delayed", delay=600),
            activation("running", retry_state=pb.RetryState(max_attempts=1, at_most_once=True)),
            activation("again", parameters_bytes=large),
            activation("failed", parameters_bytes=large, retry_state=deadletter),
        ]
    }


@pytest.fixture(scope="module")
def broker(make_broker: MakeBroker, kafka: Kafka, produced: dict[str, pb.TaskActivation]) -> Broker:
    """A broker with a row in each status. The two that are on their way out are too large to leave."""
    broker = make_broker(max_message_size=MESSAGE_BYTES_MAX)
    kafka.produce(broker.topics.tasks, *[made.SerializeToString() for made in produced.values()], partition=2)
    wait_until("all have rows", lambda: len(broker.rows()) == len(produced))
    for namespace, verdict in [("running", None), ("again", 4), ("failed", 3)]:
        task = broker.claim("store-tests", namespace)
        if verdict is not None:
            broker.stub().SetTaskStatus(pb.SetTaskStatusRequest(id=task.id, status=verdict), timeout=CALL_S)
    wait_until("the claim is journalled", lambda: broker.rows("status = 'Processing'"))
    wait_until("what cannot leave is parked", lambda: broker.inspect()["parked_total"] == 2)
    return broker


def test_another_process_attaches_the_live_store_and_finds_the_columns_in_their_order(broker: Broker) -> None:
    script = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(':memory:')\n"
        "db.execute('ATTACH ? AS broker', (sys.argv[1],))\n"
        "cursor = db.execute('SELECT * FROM broker.inflight_taskactivations')\n"
        "print(*[column[0] for column in cursor.description])\n"
        "print(len(cursor.fetchall()))\n"
    )
    read = subprocess.run([sys.executable, "-c", script, broker.store], capture_output=True, text=True, check=True)
    columns, rows = read.stdout.splitlines()
    assert columns.split() == COLUMNS
    assert rows == "5"


def test_each_status_has_the_word_that_scripts_know(broker: Broker) -> None:
    words = {row["namespace"]: row["status"] for row in broker.rows()}
    assert words == {
        "waiting": "Pending",
        "delayed": "Delay",
        "running": "Processing",
        "again": "Retry",
        "failed": "Failure",
    }


def test_the_columns_say_what_the_task_says(broker: Broker, produced: dict[str, pb.TaskActivation]) -> None:
    rows = {row["namespace"]: row for row in broker.rows()}
    for offset, (namespace, task) in enumerate(produced.items()):
        row = rows[namespace]
        received_s = task.received_at.ToSeconds()
        assert row["id"] == task.id
        assert row["activation"] == task.SerializeToString()
        assert (row["partition"], row["offset"]) == (2, offset)
        assert (row["application"], row["taskname"]) == ("store-tests", "store.task")
        assert (row["received_at"], row["processing_deadline_duration"]) == (received_s, DEADLINE_S)
        assert abs(row["added_at"] - received_s) <= 5
        assert row["bucket"] == uuid.UUID(task.id).int % 256
        assert (row["processing_attempts"], row["claim_expires_at"]) == (0, None)
    received_s = {namespace: task.received_at.ToSeconds() for namespace, task in produced.items()}
    assert rows["waiting"]["expires_at"] == received_s["waiting"] + 3600
    assert rows["delayed"]["delay_until"] == received_s["delayed"] + 600
    assert {n for n, row in rows.items() if row["at_most_once"] == 1} == {"running"}
    assert {n for n, row in rows.items() if row["on_attempts_exceeded"] == 2} == {"failed"}
    deadlines = {n: row["processing_deadline"] for n, row in rows.items() if row["processing_deadline"] is not None}
    assert set(deadlines) == {"running"}
    assert abs(deadlines["running"] - (time.time() + DEADLINE_S + GRACE_S)) <= 30


def test_a_task_that_has_just_come_is_pending_at_first_sight(broker: Broker, kafka: Kafka) -> None:
    """The view asks the clock; one in whole seconds would call it delayed until the second is over."""
    for namespace in ["fresh-1", "fresh-2", "fresh-3"]:
        kafka.produce(broker.topics.tasks, activation(namespace).SerializeToString())
        [row] = wait_until("it has a row", partial(broker.rows, "namespace = ?", namespace))
        assert row["status"] == "Pending"
        task = broker.claim("store-tests", namespace)
        broker.stub().SetTaskStatus(pb.SetTaskStatusRequest(id=task.id, status=5), timeout=CALL_S)


def test_readers_cannot_write(broker: Broker) -> None:
    connection = sqlite3.connect(broker.store)
    try:
        with pytest.raises(sqlite3.OperationalError, match="it is a view"):
            connection.execute("DELETE FROM inflight_taskactivations")
    finally:
        connection.close()


def test_inspect_agrees_with_the_view(broker: Broker) -> None:
    def groups() -> bool:
        found = {(group["status"], group["namespace"]): group["count"] for group in broker.inspect()["rows"]}
        return found == {(row["status"], row["namespace"]): 1 for row in broker.rows()}

    wait_until("both say the same", groups)
    parked = {(parked["status"], parked["id"]) for parked in broker.inspect()["parked"]}
    assert parked == {(row["status"], row["id"]) for row in broker.rows("status IN ('Retry', 'Failure')")}


def test_a_second_broker_on_the_store_is_refused_and_told_who_has_it(broker: Broker) -> None:
    environment = {**os.environ, "TASKBROKER_GRPC_PORT": "0", "TASKBROKER_HTTP_PORT": "0"}
    command = [str(broker.program), "-c", str(broker.config)]
    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)
    assert second.returncode not in {0, None}
    assert f"pid {broker.pid}" in second.stderr + second.stdout
    assert broker.get("/readyz")[0] == 200
