"""Parsers declared in YAML: every way of taking a line apart, and what is said about a wrong declaration."""

from pathlib import Path

import pytest

from connectors.clock import Clock
from connectors.declared import DeclarationError, load
from connectors.events import Origin, ParseError
from connectors.parse import Reader, UnknownParser, load_parser

ORIGIN = Origin("stadt", "fach", 1_795_521_600.0, Clock())

GROK = r"""
name: raumbuchung
contains: "buchung["
grok: 'anmeldung user=%{USER:user.name} von %{IP:source.ip}:%{POSINT:source.port} ergebnis=%{WORD:ergebnis}'
set: {event.category: [authentication], event.type: [start], event.dataset: raumbuchung.auth, service.name: web}
translate:
  event.outcome: {field: ergebnis, values: {OK: success, "*": failure}}
tests:
  - line: "<38>Nov 24 08:00:00 srv-app buchung[812]: anmeldung user=anna von 192.0.2.7:50122 ergebnis=OK"
    gives: {user.name: anna, source.ip: 192.0.2.7, source.port: 50122, event.outcome: success, host.name: srv-app}
  - line: "buchung[1]: etwas anderes"
    error: true
"""
WAYS = {
    "regex": (
        r"""
name: tuer
envelope: false
regex: ['^(?P<zeit>\S+ \S+);(?P<wer>[^;]*);(?P<was>[^;]*)$']
map: {wer: user.name, was: event.action}
time: {field: zeit, format: "%d.%m.%Y %H:%M:%S"}
tests: [{line: "24.11.2026 08:00:00;anna;auf", gives: {user.name: anna, event.action: auf}}]
""",
        "24.11.2026 09:30:00;m.keller;zu",
        {"user_name": "m.keller", "event_action": "zu", "timestamp": 1_795_512_600.0},
    ),
    "kv": (
        """
name: proxyalt
envelope: false
kv: {}
map: {src: source.ip, bytes: source.bytes, url: url.original}
time: {field: t, format: epoch}
tests: [{line: 't=1 src=192.0.2.7 bytes=7 url="http://a b/"', gives: {url.original: "http://a b/", source.bytes: 7}}]
""",
        't=1795512600 src=198.51.100.9 bytes=911 url="http://x.example/a b" leer=',
        {"source_ip": "198.51.100.9", "source_bytes": 911, "timestamp": 1_795_512_600.0},
    ),
    "json": (
        """
name: portal
json: true
map: {actor.name: user.name, ip: source.ip, kind: event.action}
time: {field: at}
tests: [{line: '{"actor":{"name":"anna"},"ip":"192.0.2.7"}', gives: {user.name: anna}}]
""",
        '{"at":"2026-11-24T09:30:00Z","actor":{"name":"m.keller"},"ip":"198.51.100.9","kind":"login","more":[1,"x"]}',
        {"user_name": "m.keller", "event_action": "login", "timestamp": 1_795_512_600.0},
    ),
    "csv": (
        """
name: lesen
envelope: false
csv: {columns: [zeit, konto, datei], delimiter: ";"}
map: {konto: user.name, datei: file.path}
time: {field: zeit}
tests: [{line: '2026-11-24T08:00:00Z;anna;"a;b"', gives: {file.path: "a;b"}}]
""",
        '2026-11-24T09:30:00Z;m.keller;"/akten/x;y.pdf"',
        {"user_name": "m.keller", "file_path": "/akten/x;y.pdf", "timestamp": 1_795_512_600.0},
    ),
}


def written(folder: Path, text: str) -> Path:
    path = folder / "format.yml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("way", WAYS)
def test_every_way_of_taking_a_line_apart(way: str, tmp_path: Path) -> None:
    text, line, wanted = WAYS[way]
    (event,) = load(written(tmp_path, text)).parse(line, ORIGIN)
    assert {name: getattr(event, name) for name in wanted} == wanted


def test_grok_sets_translates_and_takes_the_rest_from_the_envelope(tmp_path: Path) -> None:
    parser = load(written(tmp_path, GROK))
    line = "<38>Nov 24 08:00:05 srv-app buchung[812]: anmeldung user=anna von 203.0.113.4:1 ergebnis=FALSCH"
    (event,) = parser.parse(line, ORIGIN)
    assert (event.event_module, event.event_dataset) == ("raumbuchung", "raumbuchung.auth")
    assert (event.event_outcome, event.event_category, event.service_name) == ("failure", ("authentication",), "web")
    assert (event.host_name, event.process_pid, event.fields["ergebnis"]) == ("srv-app", 812, "FALSCH")


def test_a_source_names_its_file_and_foreign_lines_are_refused(tmp_path: Path) -> None:
    reader = Reader(str(written(tmp_path, GROK)), "stadt", "fach")
    parsed = reader.read([b"buchung[1]: anmeldung user=a von 192.0.2.1:2 ergebnis=OK", b"sshd[1]: hello"], 1.0)
    assert [event.user_name for event in parsed.events] == ["a"]
    assert [(index, reason.split(":")[0]) for index, reason, _ in parsed.dead] == [(1, "no raumbuchung line")]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (GROK.replace("%{USER:", "%{USR:"), "did you mean USER"),
        (GROK.replace("gives: {user.name: anna", "gives: {user.name: berta"), "should be 'berta', it is 'anna'"),
        (GROK.replace("error: true", "gives: {user.name: x}"), "tests[1]: no raumbuchung line"),
        (GROK.replace("success, ", "gut, "), "'gut' is none of success"),
        (GROK + "kv: {}\n", "one of regex, grok, kv, json and csv is needed, there is grok and kv"),
        (GROK.replace("{event.category", "{event.categori"), "did you mean 'event.category'"),
        (GROK.replace("contains:", "containz:"), "containz"),
        (GROK.replace("name: raumbuchung", "name: Raum Buchung"), "small letters"),
        ("name: [", "while parsing"),
        ("name: ohne\nregex: '(?P<a>x'\ntests: [{line: x}]\n", "missing"),
        ("name: ohne\nregex: '(?P<a>x)'\n", "at least one line"),
    ],
)
def test_a_wrong_declaration_says_what_is_wrong(wrong: str, said: str, tmp_path: Path) -> None:
    path = written(tmp_path, wrong)
    with pytest.raises(DeclarationError) as caught:
        load(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    with pytest.raises(UnknownParser):
        load_parser(str(path))


def test_hostile_lines_give_an_event_or_a_parse_error(tmp_path: Path) -> None:
    for text, *_ in WAYS.values():
        parser = load(written(tmp_path, text))
        for line in ("", "=" * 10_000, '{"a":' * 5000, "\0", "a=b " * 50_000, "x;" * 50_000, "\udcff", '"' * 9999):
            try:
                parser.parse(line, ORIGIN)
            except ParseError:
                continue
