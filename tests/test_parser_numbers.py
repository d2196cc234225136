"""Numbers as nobody writes them, in the place of those in the golden samples: more digits than `int` takes, other digits."""

import re
from pathlib import Path

import pytest

from connectors.clock import Clock
from connectors.events import Origin, ParseError, document
from connectors.parse import load_parser, parser_names

GOLDEN = Path(__file__).parent / "golden"
RECEIVED_S = 1_795_521_600.0
NUMBER = re.compile(r"\d+")
STRANGE = (
    "9" * 5000,
    "\u00b2",
)  # Python refuses to read more than 4300 digits; a superscript is a digit, but no number
EVERY = 3  # number of a line, another one in the next line


@pytest.mark.parametrize("name", parser_names())
def test_strange_number_raises_nothing_but_parse_error(name: str) -> None:
    module = load_parser(name)
    origin = Origin("stadt", "quelle", RECEIVED_S, Clock())
    lines = (GOLDEN / name / "sample.log").read_text("utf-8").splitlines()
    for index, line in enumerate(lines):
        for number in list(NUMBER.finditer(line))[index % EVERY :: EVERY]:
            for strange in STRANGE:
                text = line[: number.start()] + strange + line[number.end() :]
                module.sniff(text)
                try:
                    events = module.parse(text, origin)
                except ParseError:
                    continue
                assert all(document(event)["@timestamp"] for event in events)  # works out the fields that wait
