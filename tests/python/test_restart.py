"""Brokers end while the client's worker is at work, and come back."""

import pytest

from application import tasks
from conftest import MakeBroker, MakeWorker
from support.broker import Broker
from support.effects import Effects
from support.kafka import Kafka
from support.waiting import wait_until

TASKS = 250
CHILDREN = 2


def await_a_third(effects: Effects) -> None:
    wait_until("a third is done", lambda: len(effects.runs()) >= TASKS // 3)


def await_all(broker: Broker, kafka: Kafka, effects: Effects) -> None:
    wait_until("each has run", lambda: len({run["number"] for run in effects.runs()}) == TASKS)
    wait_until("nothing is in flight", lambda: broker.gauge("taskbroker_in_flight") == 0)
    wait_until("the store is empty", lambda: broker.rows() == [])
    wait_until("the group has committed everything", lambda: kafka.lag(broker.topics) == 0)
    assert broker.gauge("taskbroker_conservation_imbalance") == 0


@pytest.fixture(scope="module", autouse=True)
def killed(make_broker: MakeBroker, make_worker: MakeWorker) -> tuple[Broker, Effects, int]:
    """A broker that was killed and started again, and how many runs it may not have been told of by then. The client may
    stay away from it for 20 s, so its end comes last.
    """
    broker, effects = make_broker(), Effects()
    for number in range(TASKS):
        tasks.work.delay(effects.key, number)
    make_worker(broker, concurrency=CHILDREN)
    await_a_third(effects)
    told = wait_until("it has been told of some", lambda: broker.counts("steady").get("completed"))
    broker.kill()
    runs = len(effects.runs())
    assert runs < TASKS, "the broker ended too late to matter"
    return broker.start(), effects, runs - told


def test_an_orderly_restart_of_worker_and_broker_repeats_nothing_reported(
    kafka: Kafka, effects: Effects, make_broker: MakeBroker, make_worker: MakeWorker
) -> None:
    broker = make_broker()
    for number in range(TASKS):
        tasks.work_briefly.delay(effects.key, number)
    worker = make_worker(broker, concurrency=CHILDREN)
    await_a_third(effects)
    # What it fetched and did not begin is handed out again when its lease has ended; so is what it ran without telling: the
    # client may keep a result for itself when its threads are stuck.
    worker.stop()
    before = effects.runs()
    untold = len(before) - int(broker.gauge("taskbroker_reports_total", verdict="complete"))
    assert len(before) < TASKS, "the worker ended too late to matter"
    assert untold <= len(before) // 2, "hardly any was told"
    assert broker.stop() == 0
    broker.start()
    make_worker(broker, concurrency=CHILDREN)
    await_all(broker, kafka, effects)
    # A task of the second worker may miss its deadline on a slow machine; what the first one has told is over.
    done = {run["number"] for run in before}
    assert sum(run["number"] in done for run in effects.runs()[len(before) :]) <= untold
    assert broker.stop() == 0


def test_a_broker_that_is_killed_loses_nothing_and_repeats_only_what_was_handed_out(
    killed: tuple[Broker, Effects, int], kafka: Kafka
) -> None:
    broker, effects, untold = killed
    await_all(broker, kafka, effects)
    assert len(effects.runs()) <= TASKS + untold
    assert broker.stop() == 0
