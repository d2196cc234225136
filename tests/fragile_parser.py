"""A third-party parser with a defect, named in configurations by its dotted name: it crashes on one kind of line."""

from collections.abc import Sequence

from connectors.events import Event, Origin

NAME = "fragile_parser"


def sniff(text: str) -> bool:
    return text.startswith("fragile")


def parse(text: str, origin: Origin) -> Sequence[Event]:
    number = 1 / (len(text) - len("fragile boom"))  # the defect
    return (Event(timestamp=origin.received, event_module=NAME, event_dataset="fragile", message=f"{text} {number}"),)
