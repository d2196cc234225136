"""Times that a log line states without a zone or a year, resolved from the source's configuration and the arrival time."""

from datetime import UTC, datetime, tzinfo

DAY_S = 86_400.0
EPOCH_S_MAX = 7_258_118_400.0  # the year 2200; more is milliseconds or finer, or nonsense
YEAR_S = 363 * DAY_S  # less than any year: within it, no other year can fit a yearless time better
STAMPS_MAX = 4096  # texts of times remembered per source; a source's lines span few seconds at a time
MONTHS = {
    name: number
    for number, name in enumerate(
        ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"), start=1
    )
}


class Clock:
    """The wall clock of one source.

    A repeated local hour (end of summer time) is decided by order: the first pass is summer time until the local time
    steps back, from then on it is winter time. A missing year is the one that puts the time nearest to, and not more than
    a day after, the arrival. Offsets are remembered per local hour, so the usual time costs one dictionary look-up.
    """

    def __init__(self, zone: tzinfo = UTC, year: int | None = None) -> None:
        self.zone = zone
        self.year = year
        self.stamps: dict[str, float] = {}  # what `remember` keeps; without a year it holds within `YEAR_S`
        self._hours: dict[tuple[int, int, int, int], tuple[float, float]] = {}
        self._ambiguous = False  # was the last time read in a repeated hour
        self._last_ambiguous = 0.0
        self._second_pass = False

    def local(self, year: int, month: int, day: int, hour: int, minute: int, second: float) -> float:
        """Seconds since the epoch of a local time; raises ValueError for a time that no calendar has."""
        key = (year, month, day, hour)
        offsets = self._hours.get(key)
        if offsets is None:
            offsets = self._offsets(year, month, day, hour)
        if not (0 <= minute < 60 and 0 <= second < 61):
            raise ValueError(f"no such time: {hour:02}:{minute:02}:{second}")
        within = minute * 60 + second
        first, repeated = offsets
        self._ambiguous = first != repeated
        if first == repeated:
            return first + within
        at = first + within
        if at < self._last_ambiguous - 60:  # the local time stepped back: the hour is being repeated
            self._second_pass = True
        elif at > self._last_ambiguous + DAY_S:
            self._second_pass = False
        self._last_ambiguous = at
        return repeated + within if self._second_pass else at

    def yearless(self, month: int, day: int, hour: int, minute: int, second: float, received: float) -> float:
        """As `local`, with the configured year or the one that fits the arrival (December lines arriving in January)."""
        if self.year is not None:
            return self.local(self.year, month, day, hour, minute, second)
        year = datetime.fromtimestamp(received + DAY_S, UTC).year
        for candidate in (year, year - 1, year - 2, year - 3, year - 4):  # 29 February needs up to four years
            try:
                at = self.local(candidate, month, day, hour, minute, second)
            except ValueError:
                continue
            if at <= received + DAY_S:
                return at
        raise ValueError(f"no such day: {month}-{day}")

    def remember(self, text: str, at: float) -> None:
        """Keep what a time's text, just read by `local` or `yearless`, means; not in a repeated hour: order decides."""
        if not self._ambiguous:
            if len(self.stamps) >= STAMPS_MAX:
                self.stamps.clear()
            self.stamps[text] = at

    def _offsets(self, year: int, month: int, day: int, hour: int) -> tuple[float, float]:
        """Epoch seconds of the full hour on the first and on the second pass (equal unless the hour is repeated)."""
        naive = datetime(year, month, day, hour, tzinfo=self.zone)
        first, repeated = naive.timestamp(), naive.replace(fold=1).timestamp()
        repeated = max(repeated, first)  # a skipped hour (start of summer time): take the later reading for both
        if len(self._hours) >= 4096:  # bound: a source's lines span few hours at a time
            self._hours.clear()
        self._hours[year, month, day, hour] = (first, repeated)
        return first, repeated


def from_epoch(number: float) -> float:
    """Seconds since the epoch from a count of seconds, milli-, micro- or nanoseconds, told apart by its size.

    Raises ValueError for what is no time between 1970 and 2200 on any of these scales.
    """
    for scale in (1.0, 1e3, 1e6, 1e9):
        if 0 <= number < EPOCH_S_MAX * scale:
            return number / scale
    raise ValueError(f"no such time: {number}")


def from_iso(text: str, clock: Clock) -> float:
    """Seconds since the epoch of an ISO 8601 time, local to the source where it has no offset. Raises ValueError."""
    at = datetime.fromisoformat(text)
    if at.year < 1970 or at.year >= 2200:
        raise ValueError(f"no such time: {text[:40]}")
    if at.tzinfo is None:
        return clock.local(at.year, at.month, at.day, at.hour, at.minute, at.second + at.microsecond / 1e6)
    return at.timestamp()
