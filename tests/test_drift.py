"""Schema drift: lost fields are noticed, rare and never-there fields are not."""

from connectors.drift import LEARNED, Drift
from connectors.events import Event


def event(**given: object) -> Event:
    return Event(timestamp=1.0, event_module="m", event_dataset="m.traffic", **given)  # type: ignore[arg-type]


def test_a_field_that_was_always_there_and_goes_is_told() -> None:
    drift = Drift()
    for _ in range(LEARNED * 2):
        drift.note([event(source_ip="192.0.2.1", user_name="a")])
    assert drift.lost == 0.0
    for _ in range(60):
        drift.note([event(source_ip="192.0.2.1")])
    assert 0.4 < drift.lost < 0.6
    assert drift.worst == ("m.traffic", ["user.name"])


def test_fields_that_come_and_go_are_nothing() -> None:
    drift = Drift()
    for number in range(2000):
        drift.note([event(source_ip="192.0.2.1", user_name="a" if number % 3 else None)])
    assert drift.lost == 0.0


def test_what_is_gone_for_good_becomes_usual() -> None:
    drift = Drift()
    for _ in range(1000):
        drift.note([event(user_name="a")])
    for _ in range(3000):
        drift.note([event()])
    assert drift.lost < 0.01


def test_a_batch_is_sampled_and_kinds_are_bounded() -> None:
    drift = Drift()
    drift.note([event(event_code=str(n)) for n in range(1000)])
    assert len(drift._kinds) <= 5
    for n in range(2000):
        drift.note([event(event_code=str(n))])
    assert len(drift._kinds) == 256
