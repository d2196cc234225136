"""Sysmon for Linux: the XML events that it writes to syslog or the journal, with the fields that Sysmon has on Windows."""

import re
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from connectors.envelope import peel
from connectors.events import Event, Origin, ParseError
from connectors.parsers import windows
from connectors.windows_ecs import System, event_of

NAME = "sysmon_linux"
DATASET = "sysmon_linux.sysmon"
PROVIDER_CHARS_MAX = 1024  # the provider stands at the head of `<System>`, after a syslog header

_PROVIDER = "Linux-Sysmon"
_USUAL = re.compile(  # the head as Sysmon itself writes it
    r"<Event><System><Provider Name=\"Linux-Sysmon\" Guid=\"[^\"<]*+\"/><EventID>(\d{1,5})</EventID><Version>\d++</Version>"
    r"<Level>(\d)</Level><Task>\d++</Task><Opcode>\d++</Opcode><Keywords>(\w++)</Keywords>"
    r"<TimeCreated SystemTime=\"([^\"<]++)\"/><EventRecordID>(\d{1,18})</EventRecordID><Correlation/>"
    r"<Execution ProcessID=\"\d++\" ThreadID=\"\d++\"/><Channel>([^<&]++)</Channel><Computer>([^<&]++)</Computer>"
    r"<Security UserId=\"\w*+\"/></System><EventData>((?:<Data Name=\"\w++\">[^<&]*+</Data>)*+)</EventData></Event>\s*"
)
_DATA = re.compile(r"<Data Name=\"(\w++)\">([^<]*+)")
_WINLOG = ("winlog.channel", "winlog.provider_name", "winlog.computer_name", "winlog.record_id", "winlog.logon.id")


def sniff(text: str) -> bool:
    return text.find(_PROVIDER, 0, PROVIDER_CHARS_MAX) >= 0 and "<Event" in text and "<System" in text


def parse(text: str, origin: Origin) -> Sequence[Event]:
    begin = text.find("<Event")
    if begin < 0 or "<System" not in text:
        raise ParseError("no Sysmon event: no <Event> with a <System> in it")
    if (usual := _USUAL.fullmatch(text, begin)) is not None:
        number, level, keywords, time, record, channel, computer, data = usual.groups()
        fields: dict[str, Any] = dict(_DATA.findall(data))
        system = System(number, channel, _PROVIDER, computer, record, keywords, level, times=(time,))
        return (_own(event_of(fields, system, None, False, origin), None),)
    found = windows.generally(text[begin:] if begin else text, origin)
    host = peel(text[:begin], origin).host if begin and found[0].host_name is None else None
    return [_own(event, host) for event in found]


def _own(event: Event, host: str | None) -> Event:
    fields = dict(event.fields)
    for name in _WINLOG:
        fields.pop(name, None)
    return replace(event, event_module=NAME, event_dataset=DATASET, host_name=event.host_name or host, fields=fields)
