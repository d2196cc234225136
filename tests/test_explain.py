"""`shield parse --explain`: the parser that was chosen, the patterns and their spans, and where each field stands."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from connectors import envelope
from connectors.clock import Clock
from connectors.events import Origin
from connectors.explain import explain
from connectors.parse import parser_names

GOLDEN = Path(__file__).parent / "golden"
LINE = "Nov 24 08:00:05 srv-1 sshd[812]: Failed password for anna from 192.0.2.7 port 50122 ssh2"


def origin() -> Origin:
    return Origin("stadt", "quelle", 1_795_521_600.0, Clock())


def test_it_says_who_was_asked_what_matched_and_where() -> None:
    before = envelope._CLASSIC
    found = explain("auto", LINE, origin())
    assert envelope._CLASSIC is before  # nothing stays watched
    assert found.parser == "linux_auth"
    assert found.asked[-1] == ("linux_auth", True)
    assert not any(knows for _, knows in found.asked[:-1])
    for taken in found.patterns:
        assert taken.start is not None
        assert LINE[taken.start : taken.end] == taken.text
    placed = {p.field: p for p in found.events[0]}
    for field, text in (("source.ip", "192.0.2.7"), ("user.name", "anna"), ("source.port", "50122")):
        assert LINE[placed[field].start : placed[field].end] == text
    assert placed["event.outcome"].start is None  # concluded, the line does not say it in this word


@pytest.mark.parametrize("name", parser_names())
def test_watching_changes_no_event(name: str) -> None:
    from connectors.parse import load_parser

    for line in (
        (GOLDEN / name / "sample.log").read_text("utf-8").removesuffix("\n").split("\n")
    ):  # not at other separators
        events = load_parser(name).parse(line, origin())
        found = explain(name, line, origin())
        assert found.error is None
        assert [{p.field: p.value for p in e}.get("source.ip") for e in found.events] == [e.source_ip for e in events]


def test_the_command_shows_it_and_answers_json() -> None:
    def run(text: str, *arguments: str) -> str:
        command = [sys.executable, "-m", "shield", "parse", "--explain", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60).stdout

    shown = run(LINE + "\nnothing known at all\n")
    assert "line 1: linux_auth" in shown
    assert "source.ip = '192.0.2.7'" in shown
    assert "line 2: " in shown
    assert "not read: " in shown
    assert json.loads(run(LINE + "\n", "--json", "--parser", "linux_auth"))["parser"] == "linux_auth"
