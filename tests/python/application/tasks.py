"""Tasks of every temper. A namespace for each story, so that the broker's counts tell them apart."""

import hashlib
import os
import signal
import time
from typing import Any

from taskbroker_client.constants import CompressionType
from taskbroker_client.retry import LastAction, Retry, retry_task
from taskbroker_client.state import current_task
from taskbroker_client.worker.workerchild import ProcessingDeadlineExceeded

from support.effects import record, recorded

from . import app, neighbour

LONG_S = 60
"""Sleeps through every deadline."""


def note(key: str, **what: Any) -> None:
    """Records a run together with what the client says about it."""
    task = current_task()
    assert task is not None, "tasks run in workers only"
    record(key, id=task.id, attempt=task.attempt, retries_remaining=task.retries_remaining, **what)


def die() -> None:
    """Takes the whole child process along, as the kernel does when memory runs out."""
    time.sleep(0.5)  # The queues between child and parent are shared, so what was put in must have left.
    os.kill(os.getpid(), signal.SIGKILL)


# --- what goes well ---------------------------------------------------------------------------------------------------

pulse = app.create_namespace("pulse")
plain = app.create_namespace("plain")
slow = app.create_namespace("slow", processing_deadline_duration=30)
steady = app.create_namespace("steady", processing_deadline_duration=60)
brief = app.create_namespace("brief", processing_deadline_duration=2)


@pulse.register(name="pulse.beat")
def beat() -> None:
    """Keeps workers asking: one that found nothing waits for up to 5 s."""


@plain.register(name="plain.note")
def note_arguments(key: str, *args: Any, **kwargs: Any) -> None:
    note(key, args=args, kwargs=kwargs)


@slow.register(name="slow.sleep")
def sleep(key: str, seconds: float) -> None:
    time.sleep(seconds)
    note(key, slept=seconds)


@steady.register(name="steady.work")
def work(key: str, number: int) -> None:
    note(key, number=number)
    time.sleep(0.02)


@brief.register(name="brief.work")
def work_briefly(key: str, number: int) -> None:
    note(key, number=number)
    time.sleep(0.02)


# --- what fails -------------------------------------------------------------------------------------------------------

failing = app.create_namespace("failing")
retrying = app.create_namespace(
    "retrying", retry=Retry(times=3, on=(ValueError,), times_exceeded=LastAction.Deadletter)
)
recovering = app.create_namespace("recovering", retry=Retry(times=3, on=(ValueError,)))
asking = app.create_namespace("asking", retry=Retry(times=2))
patient = app.create_namespace("patient", retry=Retry(times=2, on=(ValueError,), delay=2))


@failing.register(name="failing.fail")
def fail(key: str) -> None:
    note(key)
    raise ValueError("this one always fails")


@retrying.register(name="retrying.fail")
def fail_each_time(key: str) -> None:
    note(key)
    raise ValueError("this one always fails")


@recovering.register(name="recovering.fail_once", pass_headers=True)
def fail_once(key: str, headers: dict[str, str]) -> None:
    note(key, headers=headers)
    if len(recorded(key)) == 1:
        raise ValueError("the first attempt fails")


@asking.register(name="asking.again")
def ask_again(key: str) -> None:
    note(key)
    retry_task(raise_on_no_retries=False)


@patient.register(name="patient.fail_once")
def fail_once_with_delay(key: str) -> None:
    note(key)
    if len(recorded(key)) == 1:
        raise ValueError("the first attempt fails")


# --- what takes too long, or takes its worker along -------------------------------------------------------------------

overrunning = app.create_namespace("overrunning", processing_deadline_duration=1)
overrunning_once = app.create_namespace("overrunning_once", processing_deadline_duration=1)
deadly_once = app.create_namespace("deadly_once", processing_deadline_duration=2)
deadly = app.create_namespace("deadly", processing_deadline_duration=2)


@overrunning.register(name="overrunning.sleep")
def overrun(key: str) -> None:
    note(key)
    time.sleep(LONG_S)


@overrunning_once.register(name="overrunning_once.sleep", retry=Retry(times=2, on=(ProcessingDeadlineExceeded,)))
def overrun_once(key: str) -> None:
    note(key)
    if len(recorded(key)) == 1:
        time.sleep(LONG_S)


@deadly_once.register(name="deadly_once.die")
def die_once(key: str) -> None:
    note(key)
    if len(recorded(key)) == 1:
        die()


@deadly.register(name="deadly.die", retry=Retry(times=1, times_exceeded=LastAction.Deadletter))
def die_each_time(key: str) -> None:
    note(key)
    die()


# --- what runs at most once -------------------------------------------------------------------------------------------

once = app.create_namespace("once")
once_deadly = app.create_namespace("once_deadly", processing_deadline_duration=2)


@once.register(name="once.note", at_most_once=True)
def note_at_most_once(key: str) -> None:
    note(key)


@once_deadly.register(name="once_deadly.die", at_most_once=True)
def die_at_most_once(key: str) -> None:
    note(key)
    die()


# --- what waits, and what comes too late ------------------------------------------------------------------------------

delayed = app.create_namespace("delayed")
expiring = app.create_namespace("expiring")
expiring_late = app.create_namespace("expiring_late")


@delayed.register(name="delayed.note")
def note_later(key: str) -> None:
    note(key)


@expiring.register(name="expiring.note", expires=60)
def note_in_time(key: str) -> None:
    note(key)


@expiring_late.register(name="expiring_late.note")
def note_too_late(key: str) -> None:
    note(key)


# --- what a scheduler starts ------------------------------------------------------------------------------------------

scheduled = app.create_namespace("scheduled")

EVERY_SECOND, EVERY_MINUTE, BY_CRONTAB = "every-second", "every-minute", "by-crontab"
"""What their runs are recorded under: a scheduler gives no arguments."""


@scheduled.register(name="scheduled.every_second")
def run_every_second() -> None:
    note(EVERY_SECOND)


@scheduled.register(name="scheduled.every_minute", pass_headers=True)
def run_every_minute(headers: dict[str, str]) -> None:
    note(EVERY_MINUTE, headers=headers)


@scheduled.register(name="scheduled.by_crontab", at_most_once=True, pass_headers=True)
def run_by_crontab(headers: dict[str, str]) -> None:
    note(BY_CRONTAB, headers=headers)


# --- what is large ----------------------------------------------------------------------------------------------------

compressed = app.create_namespace("compressed")
large = app.create_namespace("large", retry=Retry(times=2, on=(ValueError,)))


@compressed.register(name="compressed.measure", compression_type=CompressionType.ZSTD)
def measure(key: str, data: bytes) -> None:
    note(key, size=len(data), digest=hashlib.sha256(data).hexdigest())


@large.register(name="large.measure")
def measure_twice(key: str, data: bytes) -> None:
    note(key, size=len(data), digest=hashlib.sha256(data).hexdigest())
    if len(recorded(key)) == 1:
        raise ValueError("the first attempt fails")


# --- what the worker does not know ------------------------------------------------------------------------------------

unheard_of = app.create_external_namespace(
    "unheard_of", application=app.name, retry=Retry(times=1, times_exceeded=LastAction.Deadletter)
)


@unheard_of.register(name="unheard_of.run")
def never_runs(key: str) -> None:
    note(key)


# --- what is no task when it is produced ------------------------------------------------------------------------------

raw = app.taskregistry.create_namespace("raw", is_raw_mode=True)


@raw.register(name="raw.take", retry=Retry(times=2, on=(ValueError,)))
def take_raw(payload: bytes) -> None:
    key = payload.partition(b" ")[0].decode()
    assert isinstance(payload, bytes)
    note(key, size=len(payload), digest=hashlib.sha256(payload).hexdigest())
    if b"fail" in payload[:100] and len(recorded(key)) == 1:
        raise ValueError("the first attempt fails")


# --- two namespaces of another application ----------------------------------------------------------------------------

narrow = neighbour.create_namespace("narrow")
wide = neighbour.create_namespace("wide")


@narrow.register(name="narrow.note")
def note_narrow(key: str) -> None:
    note(key)


@wide.register(name="wide.note")
def note_wide(key: str) -> None:
    note(key)
