"""The deliver role: hands each alert to one sink at least once, in order per alert, and loses none.

An alert is always in exactly one place: before the group's offset in the topic, parked in keyed state between two
attempts, in the dead letters with a reason, or delivered. Every round ends in one commit of all of these together, so
a kill at any time repeats at most the attempts of one round, with the same idempotency keys.
"""

import random
import time
from collections.abc import Callable
from typing import TypeVar

import structlog

from shield.broker import Broker, BrokerDown, Fenced, Limits
from shield.metrics import Metrics
from shield.pending import Pending, jitter
from shield.sinks import Backoff, Sink, SinkConfig

IDLE_S = 0.2  # between two looks into the topic when there is nothing to do
BROKER_BACKOFF = Backoff(cap_s=30.0)
T = TypeVar("T")

log = structlog.get_logger(__name__)


def deliver(
    broker: Broker,
    sink: Sink,
    config: SinkConfig,
    *,
    metrics: Metrics,
    stop: Callable[[], bool],
    turned: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    rng: random.Random | None = None,
) -> None:
    """Run until `stop` answers true; it is asked several times a second.

    `turned` is called each round (liveness). `clock` is wall time in seconds; times of attempts and backoff follow it.
    Raises Fenced when another process works under our name.
    """
    rng = rng or random.Random()  # noqa: S311 - spreads retries, protects nothing
    pending = Pending(sink, config, metrics=metrics, clock=clock, rng=rng)
    refusals = 0

    def refused(error: BrokerDown) -> None:
        nonlocal refusals
        refusals += 1
        log.warning("broker down", sink=config.name, error=str(error), refusals=refusals)
        wait_s = jitter(BROKER_BACKOFF, refusals, rng)
        while wait_s > 0 and not stop():
            sleep(min(wait_s, IDLE_S))
            turned()
            wait_s -= IDLE_S

    def patiently(call: Callable[[], T]) -> T | None:
        """What the call gives once the broker is there, however long that takes; None when told to stop meanwhile."""
        while not stop():
            try:
                return call()
            except BrokerDown as error:
                refused(error)
        return None

    while not stop():
        turned()
        batch = patiently(lambda: broker.poll(Limits(lines_max=pending.room, wait_s=0.0)))
        if batch is None:
            return
        for partition in batch.gained:
            state = patiently(lambda p=partition: broker.restore(p))  # type: ignore[misc]
            if state is None:
                return
            pending.gain(partition, state)
        pending.take(batch)
        outbox, changes = pending.round()
        try:
            if batch.records or outbox or changes:
                broker.commit(batch, outbox, changes)
        except (Fenced, BrokerDown) as error:
            pending.forget()  # the next poll gives everything anew
            if isinstance(error, Fenced):
                metrics.fenced()
            else:
                refused(error)
            continue
        lag = patiently(broker.lag) if pending.lag_due else None
        pending.committed(lag)
        refusals = 0
        if not batch.records and not pending.attempted:
            sleep(IDLE_S)
