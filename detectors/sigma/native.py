"""The short way from Windows lines to matches: flat JSON is decoded once and rules read its native fields straight from it.

What rules ask for beyond those, and any line that is unusual in some respect, is read by the parser; what is found is the
same (a test compares them).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, cast

import msgspec

from connectors.events import ECS_ATTRIBUTES, Event
from connectors.parsers.windows import ENVELOPE_KEYS, NXLOG_TYPES
from connectors.windows_adfs import PROVIDERS as ADFS_PROVIDERS
from connectors.windows_ecs import NOTHING, UNKNOWN, Fill, dataset_of, number_of
from connectors.windows_events import INTEGRITY_LEVELS
from detectors.sigma.logsource import FALLBACKS, sources
from detectors.sigma.rules import Rule
from detectors.sigma.values import Unread

FIELDS_MAX = 512  # of one event; more takes the parser's way
NAME_CHARS_MAX = 200
NAMES_MAX = 8192  # names of fields remembered that can stay as they are
KINDS_MAX = 4096  # combinations of channel, provider and id remembered
PROCESS_CREATED, SERVICE_INSTALLED = 4688, 4697

_WHOLE = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_LIST = Annotated[list[str], msgspec.Meta(max_length=FIELDS_MAX)]
_decode = msgspec.json.Decoder(dict[str, str | _WHOLE | bool | _LIST]).decode
_RARE = frozenset(("EventData",))  # what the parser reads in a way of its own
_OF_SYSMON = frozenset(("Image", "ParentImage"))  # which the parser sets from others in 4688
_STAYING = frozenset(("Channel", "EventID", "Provider_Name", "Computer", "Keywords"))


class _Kind(msgspec.Struct, frozen=True, gc=False):
    """What events of one kind have in common, and what is to be done with their fields."""

    named: tuple[str, str | None, tuple[str, ...]]  # dataset, event code and ECS categories
    channel: str
    number: int
    hidden: tuple[str, ...]  # names of the shipper that rules must not read
    provider: bool  # whether rules read these
    computer: bool
    type: bool
    account: bool
    process: bool
    data: bool
    bare: bool
    fill: Fill | None  # adds native fields


class Lines:
    """Reads lines of native Windows events for the rules given; other lines with `general`."""

    def __init__(self, rules: Iterable[Rule], general: Callable[[Sequence[bytes]], list[Sequence[Event]]]) -> None:
        self._rules = [rule for rule in rules if rule.condition is not None]
        self._general = general
        self._kinds: dict[tuple[Any, Any, Any], _Kind | None] = {}
        self._names: set[str] = set()

    def read(self, lines: Iterable[bytes]) -> Iterator[Sequence[Event]]:
        """The events of each line, one line at a time: what was decoded is still near when it is matched."""
        for line in lines:
            event = self._event(line)
            yield (cast("Event", event),) if event is not None else self._general([line])[0]

    def _whole(self, line: bytes) -> Event:
        return self._general([line])[0][0]

    def _event(self, line: bytes) -> Unread | None:
        """None for a line that only the parser can read."""
        try:
            fields = _decode(line)
        except (ValueError, RecursionError):
            return None
        get = fields.get
        code, provider = get("EventID"), get("SourceName") or get("Provider_Name") or get("ProviderName")
        channel = get("Channel") or get("LogName")
        try:
            kind = self._kinds[channel, provider, code]
        except KeyError:
            kind = self._kind(channel, provider, code)
        except TypeError:  # lists
            return None
        if kind is None or not (self._names.issuperset(fields) or self._learned(fields)):
            return None
        if kind.process and not _OF_SYSMON.isdisjoint(fields):
            return None
        if kind.data and "Data" not in fields and ("param1" in fields or "param2" in fields):
            return None
        made: list[Any] = []
        aside: list[Any] = [fields.pop(name) for name in kind.hidden if name in fields]
        fields["Channel"] = kind.channel
        fields["EventID"] = kind.number
        if kind.provider:
            fields["Provider_Name"] = cast("str", provider)
        if kind.computer:
            _set_computer(fields, aside)
        if kind.type and type(stated := get("EventType")) is str and stated in NXLOG_TYPES:
            aside.append(fields.pop("EventType"))
            if "EventTypeOrignal" in fields:
                fields["EventType"] = fields.pop("EventTypeOrignal")
        if kind.account and get("AccountType") and "AccountName" in fields:
            aside.append(fields.pop("AccountName"))
        if kind.process:
            made.append(_set_process(fields))
        if kind.fill is not None:
            kind.fill(kind.number, UNKNOWN, fields, {})
        if "MemberName" in fields:
            made.append(str(get("MemberName")).replace("\\", ""))
        return Unread(kind.named, fields, aside, made, kind.bare, line, self._whole)

    def _kind(self, channel: Any, provider: Any, code: Any) -> _Kind | None:
        if len(self._kinds) >= KINDS_MAX:
            self._kinds.clear()
        found = self._kinds[channel, provider, code] = self._new_kind(channel, provider, code)
        return found

    def _new_kind(self, channel: Any, provider: Any, code: Any) -> _Kind | None:
        number = number_of(code)
        if number is None or not channel or not provider or type(channel) is not str or type(provider) is not str:
            return None
        if provider in ADFS_PROVIDERS:  # they have more to say
            return None
        known, name, dataset, table, fill = dataset_of(channel, provider)
        if name == "other":  # perhaps no Windows event at all
            return None
        named = (dataset, str(number), table.get(number, UNKNOWN).category)
        told = sources(*named)
        asked = set().union(*(r.fields for r in self._rules if told.match(r.product, r.category, r.service)))
        if any("." in field and field not in ECS_ATTRIBUTES for field in asked):
            return None
        asked.update(*(FALLBACKS.get(field, ()) for field in asked))
        return _Kind(
            named,
            known,
            number,
            hidden=tuple(sorted(asked & ENVELOPE_KEYS - _STAYING)),
            provider="Provider_Name" in asked,
            computer="Computer" in asked,
            type="EventType" in asked,
            account="AccountName" in asked,
            process=number == PROCESS_CREATED and name == "security",
            bare=name == "sysmon" or (name == "security" and number != SERVICE_INSTALLED),
            data=name == "powershell" and "Data" in asked,
            fill=fill if name == "powershell" and "HostApplication" in asked else None,
        )

    def _learned(self, fields: dict[str, Any]) -> bool:
        """Whether all names can stay as they are; if so they are remembered."""
        if len(fields) > FIELDS_MAX or not _RARE.isdisjoint(fields):
            return False
        if not all(name in ENVELOPE_KEYS or (name.isidentifier() and len(name) <= NAME_CHARS_MAX) for name in fields):
            return False
        if len(self._names) >= NAMES_MAX:
            self._names.clear()
        self._names.update(fields)
        return True


def _set_computer(fields: dict[str, Any], aside: list[Any]) -> None:
    computer = fields.get("Hostname") or fields.get("Computer") or fields.get("MachineName")
    aside.append(computer)
    if type(computer) is str and computer:
        fields["Computer"] = computer
    else:
        fields.pop("Computer", None)


def _set_process(fields: dict[str, Any]) -> str | None:
    """Of 4688 what Sysmon has under a name of its own and no other field holds."""
    get = fields.get
    label = get("MandatoryLabel")
    if type(label) is str and label in INTEGRITY_LEVELS:
        fields["IntegrityLevel"] = INTEGRITY_LEVELS[label]
    name, domain = get("SubjectUserName"), get("SubjectDomainName")
    if type(name) is not str or name in NOTHING:
        return None
    user = fields["User"] = f"{domain}\\{name}" if type(domain) is str and domain not in NOTHING else name
    return user
