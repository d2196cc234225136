"""YAF flow records as `yafscii` prints them: start|end|duration|rtt|protocol|source|port|destination|port|flags|...|reason."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from connectors.events import Event, Lazy, Origin, ParseError
from connectors.values import TRANSPORTS, is_address, whole_number

NAME = "yaf"

_NAMES = (
    "start_time", "end_time", "duration", "rtt", "protocol", "sip", "sp", "dip", "dp", "iflags", "uflags", "riflags",
    "ruflags", "isn", "risn", "tag", "rtag", "pkt", "oct", "rpkt", "roct", "app", "end-reason",
)  # fmt: skip
_SNIFF = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ?\| ?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} ?\| *\d+\.\d{3} ?\|"
)
_NO_PORTS = frozenset({"icmp", "ipv6-icmp"})


def sniff(text: str) -> bool:
    return text[:2].isdigit() and _SNIFF.match(text) is not None


def parse(text: str, origin: Origin) -> Sequence[Event]:  # noqa: ARG001  its times are UTC
    if _SNIFF.match(text) is None:
        raise ParseError("no YAF flow: it does not begin with start|end|duration")
    cells = [cell.strip() for cell in text.split("|", len(_NAMES))]
    if len(cells) < 10:
        raise ParseError(f"a YAF flow with {len(cells)} columns, fewer than ten")
    log = dict(zip(_NAMES, cells, strict=False))
    try:
        at = datetime.fromisoformat(cells[0]).replace(tzinfo=UTC).timestamp()  # YAF writes UTC
    except ValueError as error:
        raise ParseError(f"no such time: {cells[0][:40]}") from error
    if not 0 <= at < 7_258_118_400:
        raise ParseError("no time of a flow")
    transport = TRANSPORTS.get(log["protocol"])
    ported = transport not in _NO_PORTS
    return (
        Event(
            at,
            NAME,
            "yaf.flow",
            ("network",),
            ("connection", "end"),
            "network_flow",
            source_ip=_address(log["sip"]),
            source_port=_port(log["sp"]) if ported else None,
            source_bytes=whole_number(log.get("oct")),
            destination_ip=_address(log["dip"]),
            destination_port=_port(log["dp"]) if ported else None,
            destination_bytes=whole_number(log.get("roct")),
            network_transport=transport,
            fields=Lazy(_fields, log),
        ),
    )


def _fields(log: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {key: value for key, value in log.items() if value}
    for key, path in (("pkt", "source.packets"), ("rpkt", "destination.packets")):
        if (number := whole_number(log.get(key))) is not None:
            fields[path] = number
    seconds, _, milliseconds = log["duration"].partition(".")
    whole, fine = whole_number(seconds), whole_number(milliseconds)
    if whole is not None and fine is not None and whole < 10**9:
        fields["event.duration"] = (whole * 1000 + fine) * 1_000_000
    fields["event.reason"] = log.get("end-reason") or None
    fields["observer.product"] = "yaf"
    return fields


def _address(text: str) -> str | None:
    return text if is_address(text) else None


def _port(text: str) -> int | None:
    port = whole_number(text)
    return port if port is not None and port <= 65_535 else None
