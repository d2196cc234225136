"""Lines out of the wrapping of log shippers: what is inside, its time and its host, and what is not wrapped at all."""

import json
from typing import Any

import pytest

from connectors.wrapping import LINES_MAX, inner

LINE = "<38>Nov 24 05:00:00 srv sshd[12]: Failed password for root from 192.0.2.7 port 22 ssh2"
AT = 1_795_496_400.5
ISO = "2026-11-24T05:00:00.500Z"


@pytest.mark.parametrize(
    ("wrapped", "host"),
    [
        ({"log": LINE + "\n", "stream": "stdout", "time": ISO}, None),
        ({"date": AT, "log": LINE, "kubernetes": {"pod_name": "p"}}, None),
        ({"@timestamp": ISO, "message": LINE, "agent": {"type": "filebeat", "hostname": "h"}}, "h"),
        ({"preview": False, "result": {"_raw": LINE, "_time": ISO, "host": "h"}}, "h"),
        ({"time": AT, "host": "h", "sourcetype": "syslog", "event": LINE}, "h"),
        ({"streams": [{"stream": {"host": "h"}, "values": [["1795496400500000000", LINE]]}]}, "h"),
        ({"stream": {"job": "j"}, "values": [["1795496400500000000", LINE]]}, None),
        ({"line": LINE, "timestamp": ISO, "labels": {"job": "j"}}, None),
        ({"version": "1.1", "host": "h", "short_message": LINE, "timestamp": AT, "level": 6}, "h"),
    ],
)
def test_line_time_and_host(wrapped: dict[str, Any], host: str | None) -> None:
    for text in (json.dumps(wrapped), json.dumps(wrapped, separators=(",", ":"))):
        found = inner(text)
        assert found is not None
        assert found.lines == [(LINE, AT)]
        assert found.host == host
        assert found.carried


def test_container_log_of_kubernetes() -> None:
    found = inner("2026-11-24T06:00:00.500000000+01:00 stderr F " + LINE)
    assert found is not None
    assert found.lines == [(LINE, AT)]


def test_journal_becomes_the_line_that_rsyslog_writes() -> None:
    entry = {"MESSAGE": "Failed password for root", "SYSLOG_IDENTIFIER": "sshd", "_PID": "12", "_HOSTNAME": "srv"}
    found = inner(json.dumps(entry | {"__REALTIME_TIMESTAMP": "1795496400500000"}))
    assert found is not None
    assert found.lines == [("2026-11-24T05:00:00.500Z srv sshd[12]: Failed password for root", AT)]


def test_an_event_with_a_device_line_is_worth_both() -> None:
    found = inner(json.dumps({"@timestamp": ISO, "message": "CEF:0|a|b|1|2|c|3|src=192.0.2.7"}))
    assert found is not None
    assert not found.carried


@pytest.mark.parametrize(
    "text",
    [
        "",
        LINE,
        "2026-11-24T05:00:00Z srv app: x",
        json.dumps({"@timestamp": ISO, "message": "login failed"}),
        json.dumps({"@timestamp": ISO, "message": LINE, "event": {"category": ["authentication"]}}),
        json.dumps({"message": LINE, "winlog": {"event_id": 1}}),
        json.dumps({"event": "user.login", "user": "anna"}),
        json.dumps({"line": 12, "labels": {}}),
        json.dumps({"MESSAGE": "x"}),
        json.dumps({"log": "x"}),
        '{"log":',
        "[1, 2]",
    ],
)
def test_what_is_not_wrapped(text: str) -> None:
    assert inner(text) is None


def test_lines_of_one_wrapping_are_bounded() -> None:
    found = inner(json.dumps({"stream": {}, "values": [["1795496400000000000", "x y"]] * (LINES_MAX + 5)}))
    assert found is not None
    assert len(found.lines) == LINES_MAX
