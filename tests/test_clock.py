"""Local times without a zone or a year: which moment they mean."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from connectors.clock import STAMPS_MAX, Clock

BERLIN = ZoneInfo("Europe/Berlin")


def utc(*parts: int) -> float:
    year, month, day, hour, minute, second = parts
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe"])
def test_agrees_with_the_zone_database_over_a_year(zone: str) -> None:
    clock = Clock(ZoneInfo(zone))
    for hour in range(0, 365 * 24, 5):
        moment = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + hour * 3600 + 754
        local = datetime.fromtimestamp(moment, ZoneInfo(zone))
        got = clock.local(local.year, local.month, local.day, local.hour, local.minute, local.second)
        ambiguous = local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()
        assert got == moment or ambiguous


def test_repeated_hour_goes_by_order() -> None:
    clock = Clock(BERLIN)
    got = [clock.local(2026, 10, 25, 2, minute, 0) for minute in (0, 30, 59, 0, 30, 59)]
    assert got[:3] == [utc(2026, 10, 25, 0, minute, 0) for minute in (0, 30, 59)]
    assert got[3:] == [utc(2026, 10, 25, 1, minute, 0) for minute in (0, 30, 59)]
    assert clock.local(2026, 10, 25, 3, 0, 0) == utc(2026, 10, 25, 2, 0, 0)


def test_small_disorder_in_the_repeated_hour_is_no_step_back() -> None:
    clock = Clock(BERLIN)
    clock.local(2026, 10, 25, 2, 30, 0)
    assert clock.local(2026, 10, 25, 2, 29, 30) == utc(2026, 10, 25, 0, 29, 30)


def test_each_year_starts_again_with_summer_time() -> None:
    clock = Clock(BERLIN)
    clock.local(2025, 10, 26, 2, 50, 0)
    assert clock.local(2025, 10, 26, 2, 10, 0) == utc(2025, 10, 26, 1, 10, 0)
    assert clock.local(2026, 10, 25, 2, 10, 0) == utc(2026, 10, 25, 0, 10, 0)


def test_skipped_hour_does_not_fail_and_keeps_order() -> None:
    clock = Clock(BERLIN)
    before = clock.local(2026, 3, 29, 1, 59, 59)
    skipped = clock.local(2026, 3, 29, 2, 30, 0)
    assert before < skipped
    assert skipped == utc(2026, 3, 29, 1, 30, 0)


@pytest.mark.parametrize(
    ("received", "month", "day", "year"),
    [
        (utc(2026, 11, 24, 5, 0, 0), 11, 24, 2026),
        (utc(2027, 1, 1, 0, 0, 5), 12, 31, 2026),  # December lines arriving in January
        (utc(2026, 12, 31, 23, 59, 59), 1, 1, 2027),  # a clock that is ahead
        (utc(2026, 11, 24, 5, 0, 0), 11, 26, 2025),  # more than a day ahead: last year's
        (utc(2026, 11, 24, 5, 0, 0), 2, 29, 2024),
    ],
)
def test_missing_year(received: float, month: int, day: int, year: int) -> None:
    assert Clock().yearless(month, day, 5, 0, 0, received) == utc(year, month, day, 5, 0, 0)


def test_configured_year_wins() -> None:
    assert Clock(year=2019).yearless(11, 24, 5, 0, 0, utc(2026, 11, 24, 5, 0, 0)) == utc(2019, 11, 24, 5, 0, 0)


@pytest.mark.parametrize(
    "parts", [(2026, 2, 30, 0, 0, 0), (2026, 13, 1, 0, 0, 0), (2026, 1, 1, 24, 0, 0), (2026, 1, 1, 0, 60, 0)]
)
def test_no_such_time(parts: tuple[int, int, int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Clock().local(*parts)
    with pytest.raises(ValueError, match=r".+"):
        Clock().yearless(*parts[1:], received=utc(2026, 11, 24, 5, 0, 0)) if parts[2] == 1 else Clock(
            year=2026
        ).yearless(*parts[1:], received=0.0)


def test_memory_is_bounded_and_leaves_out_the_repeated_hour() -> None:
    clock = Clock(BERLIN)
    at = clock.local(2026, 11, 24, 5, 0, 0)
    for number in range(STAMPS_MAX * 2):
        clock.remember(str(number), at)
        assert len(clock.stamps) <= STAMPS_MAX
    clock.remember("again", clock.local(2026, 10, 25, 2, 30, 0))
    assert "again" not in clock.stamps
