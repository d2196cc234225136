"""`shield parse --explain`: the parser that was chosen, the patterns and their spans, and where each field stands."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from connectors import envelope
from connectors.clock import Clock
from connectors.events import Origin
from connectors.explain import explain
from connectors.parse import parser_names
from shield.cli import app

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

    for line in (GOLDEN / name / "sample.log").read_text("utf-8").splitlines():
        events = load_parser(name).parse(line, origin())
        found = explain(name, line, origin())
        assert found.error is None
        assert [{p.field: p.value for p in e}.get("source.ip") for e in found.events] == [e.source_ip for e in events]


def test_the_command_shows_it_and_answers_json() -> None:
    runner = CliRunner()
    shown = runner.invoke(app, ["parse", "--explain"], input=LINE + "\nnothing known at all\n")
    assert shown.exit_code == 0
    assert "line 1: linux_auth" in shown.output
    assert "source.ip = '192.0.2.7'" in shown.output
    assert "not read: " in shown.output
    answered = runner.invoke(app, ["parse", "--explain", "--json", "--parser", "linux_auth"], input=LINE + "\n")
    assert json.loads(answered.output)["parser"] == "linux_auth"
