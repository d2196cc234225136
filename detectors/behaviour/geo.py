"""The country of an address, from a file that the operator gives: a MaxMind DB (MMDB) or a CSV of networks or ranges.

Without a file every answer is empty, and nothing else changes.
"""

import csv
import ipaddress
import sys
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, MutableSequence, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import maxminddb
import msgspec

ROWS_MAX = 4_000_000  # of a CSV file
ADDRESSES_KEPT_MAX = 65_536  # remembered answers; beyond that the memory starts afresh
FILES_KEPT_MAX = 4  # opened once per process
UNKNOWN = frozenset({"", "-", "ZZ", "XX"})  # how lists write that they do not know
_NETWORK = ("network", "cidr", "prefix")
_FIRST = ("first", "start", "start_ip", "ip_from", "range_start")
_COUNTRY = ("country", "country_code", "country_iso_code", "iso_code")

Range = tuple[int, int, str]  # first and last address as numbers, country


class GeoError(ValueError):
    """A file that does not give countries; the message names file and line."""


class _Table(msgspec.Struct):
    """Ranges of one address family, sorted, none inside another."""

    first: MutableSequence[int]
    last: MutableSequence[int]
    country: list[str]

    def find(self, number: int) -> str:
        at = bisect_right(self.first, number) - 1
        return self.country[at] if at >= 0 and number <= self.last[at] else ""


class Countries:
    """Countries of addresses, with a bounded memory of answers."""

    def __init__(self, tables: dict[int, _Table] | None = None, database: maxminddb.Reader | None = None) -> None:
        self._tables = tables or {}
        self._database = database
        self._seen: dict[str, str] = {}

    def country(self, address: str) -> str:
        """ISO 3166 code, or empty for what is no address or has no known country."""
        found = self._seen.get(address)
        if found is None:
            if len(self._seen) >= ADDRESSES_KEPT_MAX:
                self._seen.clear()
            found = self._seen[address] = self._find(address)
        return found

    def _find(self, text: str) -> str:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return ""
        address = getattr(address, "ipv4_mapped", None) or address
        if self._database is not None:
            if address.version > self._database.metadata().ip_version:
                return ""  # the database knows IPv4 only
            return _country_in(self._database.get(address))
        table = self._tables.get(address.version)
        return table.find(int(address)) if table else ""


@lru_cache(maxsize=FILES_KEPT_MAX)
def open_countries(path: Path) -> Countries:
    """Raises GeoError with the place of the first fault, or OSError."""
    if path.suffix.lower() == ".mmdb":
        try:
            return Countries(database=maxminddb.open_database(path))
        except maxminddb.InvalidDatabaseError as error:
            raise GeoError(f"{path}: no MaxMind DB: {error}") from error
    ranges: dict[int, list[Range]] = {4: [], 6: []}
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for version, one in _rows(file, str(path)):
                ranges[version].append(one)
        except UnicodeDecodeError as error:
            raise GeoError(f"{path}: neither a MaxMind DB (*.mmdb) nor a CSV in UTF-8") from error
    return Countries({version: _table(version, found) for version, found in ranges.items() if found})


def _table(version: int, ranges: Iterable[Range]) -> _Table:
    small: MutableSequence[int] = array("I") if version == 4 else []
    table = _Table(small, array("I") if version == 4 else [], [])
    for first, last, country in flattened(ranges):
        table.first.append(first)
        table.last.append(last)
        table.country.append(country)
    return table


def flattened(ranges: Iterable[Range]) -> Iterator[Range]:
    """Ranges that may lie in one another as ranges that do not: the narrower one holds where they overlap."""
    around: list[tuple[int, str]] = []  # (last, country) of the ranges that have begun, the narrowest at the end
    at = 0
    for first, last, country in sorted(ranges, key=lambda r: (r[0], -r[1])):
        while around and around[-1][0] < first:
            end, outer = around.pop()
            if at <= end:
                yield at, end, outer
                at = end + 1
        if around and at < first:
            yield at, first - 1, around[-1][1]
        at = first
        around.append((last, country))
    while around:
        end, outer = around.pop()
        if at <= end:
            yield at, end, outer
            at = end + 1


def _rows(lines: Iterable[str], name: str) -> Iterator[tuple[int, Range]]:
    """`network,country` or `first,last,country`; a header says where they stand if there are more columns."""
    first_line, lines = _peek(lines)
    delimiter = ";" if first_line.count(";") > first_line.count(",") else ","
    reader = csv.reader(lines, delimiter=delimiter)
    columns: tuple[int, ...] = ()
    rows = 0
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells) or cells[0].startswith("#"):
            continue
        place = f"{name}:{reader.line_num}"
        if not columns:
            columns, header = _columns(cells, place)
            if header:
                continue
        rows += 1
        if rows > ROWS_MAX:
            raise GeoError(f"{place}: more than {ROWS_MAX} rows")
        if len(cells) <= max(columns):
            raise GeoError(f"{place}: {len(cells)} columns, at least {max(columns) + 1} are expected")
        country = cells[columns[-1]].upper()
        if country in UNKNOWN:
            continue
        if len(country) != 2 or not country.isascii() or not country.isalpha():
            raise GeoError(f"{place}: `{cells[columns[-1]][:40]}` is no country code of two letters")
        yield _range([cells[c] for c in columns[:-1]], sys.intern(country), place)


def _peek(lines: Iterable[str]) -> tuple[str, Iterator[str]]:
    several = iter(lines)
    first = next(several, "")

    def again() -> Iterator[str]:
        yield first
        yield from several

    return first, again()


def _columns(cells: Sequence[str], place: str) -> tuple[tuple[int, ...], bool]:
    """Where network (or first and last) and country stand, and whether this row is a header."""
    names = [cell.lower() for cell in cells]
    country = next((names.index(n) for n in _COUNTRY if n in names), None)
    network = next((names.index(n) for n in _NETWORK if n in names), None)
    first = next((names.index(n) for n in _FIRST if n in names), None)
    if country is not None and network is not None:
        return (network, country), True
    if country is not None and first is not None:
        return (first, first + 1, country), True
    if len(cells) == 2:
        return (0, 1), False
    if len(cells) >= 3:
        return (0, 2) if "/" in cells[0] else (0, 1, 2), False
    raise GeoError(f"{place}: `network,country` or `first,last,country` is expected")


def _range(cells: Sequence[str], country: str, place: str) -> tuple[int, Range]:
    try:
        if len(cells) == 1 or "/" in cells[0]:
            network = ipaddress.ip_network(cells[0], strict=False)
            return network.version, (int(network.network_address), int(network.broadcast_address), country)
        first, last = (ipaddress.ip_address(int(cell) if cell.isdecimal() else cell) for cell in cells)
    except ValueError as error:
        raise GeoError(f"{place}: {error}") from error
    if first.version != last.version or int(last) < int(first):
        raise GeoError(f"{place}: {last} does not follow {first}")
    return first.version, (int(first), int(last), country)


def _country_in(record: Any) -> str:
    """Of a record of GeoLite2, DB-IP or IPinfo."""
    if not isinstance(record, dict):
        return ""
    for name in ("country", "registered_country"):
        held = record.get(name)
        code = held.get("iso_code") if isinstance(held, dict) else held
        if isinstance(code, str) and len(code) == 2:
            return code.upper()
    code = record.get("country_code")
    return code.upper() if isinstance(code, str) and len(code) == 2 else ""
