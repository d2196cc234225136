"""The raw half: which events concern which profile, what is folded, and profiles that are refused with file and line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from connectors.events import Event
from detectors.behaviour import Behaviour, Inventory, ProfileError
from detectors.behaviour.folding import grouped
from detectors.behaviour.profiles import load_profiles
from detectors.facts import Evidence, Fact, Located

SHIPPED = Path(__file__).parent.parent / "rules" / "profiles"
FEW = ("address_hours", "host_process", "logon_failures", "network_spread", "outbound_volume")
PROFILES = [SHIPPED / f"{name}.yml" for name in FEW]
NOW = 1_790_000_000.0


def traffic(at: float = NOW, **changed: Any) -> Event:
    given: dict[str, Any] = {
        "event_module": "fortigate",
        "event_dataset": "fortigate.traffic",
        "event_category": ("network",),
        "source_ip": "10.1.4.23",
        "destination_ip": "203.0.113.9",
        "destination_port": 443,
        "source_bytes": 1000,
    }
    return Event(timestamp=at, **(given | changed))


def logon(outcome: str, **changed: Any) -> Event:
    given: dict[str, Any] = {"event_module": "windows", "event_dataset": "windows.security", "event_code": "4625"}
    given |= {
        "event_category": ("authentication",),
        "source_ip": "192.0.2.7",
        "user_name": "Anna",
        "event_outcome": outcome,
    }
    return Event(timestamp=NOW, **(given | changed))


class Lines:
    def __init__(self) -> None:
        self.built: list[int] = []

    def located(self, events: Sequence[Event], steps: Sequence[int] | None = None) -> Located:
        def evidence(i: int) -> Evidence:
            self.built.append(i)
            return Evidence(events[i].timestamp, "s", "raw", 0, i, 0, "")

        return Located("t", list(events), ["s"] * len(events), list(steps or [0] * len(events)), evidence)


def facts(*events: Event, behaviour: Behaviour | None = None) -> dict[str, Fact]:
    found = (behaviour or Behaviour.load(PROFILES)).facts(Lines().located(events))
    assert len({f.detector for f in found}) == len(found)
    return {f.detector: f for f in found}


def test_equal_facts_of_a_minute_are_one_with_count_sum_and_the_earliest_line() -> None:
    lines = Lines()
    start = NOW // 60 * 60
    events = [traffic(start + s, source_bytes=b) for s, b in ((9, 10), (3, 20), (50, 30), (70, 40))]
    found = [f for f in Behaviour.load(PROFILES).facts(lines.located(events)) if f.detector == "outbound_volume"]
    assert [(f.count, f.value, f.first, f.last, f.minute, f.step) for f in found] == [
        (3, 60.0, start + 3, start + 50, start // 60, start // 60),
        (1, 40.0, start + 70, start + 70, start // 60 + 1, start // 60 + 1),
    ]
    assert found[0].evidence[0].offset == 1
    assert found[0].entities == (("address", "10.1.4.23"), ("address", "203.0.113.9"))
    assert sorted(lines.built) == [1, 3], "the line of an event is looked up once, however many profiles show it"


def test_a_late_fact_keeps_its_minute_and_joins_the_step_of_the_watermark() -> None:
    minute = int(NOW // 60)
    found = Behaviour.load(PROFILES).facts(Lines().located([traffic(), traffic()], [minute + 30, 0]))
    assert sorted((f.minute, f.step) for f in found if f.detector == "outbound_volume") == [
        (minute, minute),
        (minute, minute + 30),
    ]


def test_selection() -> None:
    assert set(facts(traffic())) == {"outbound_volume", "network_spread"}
    assert set(facts(traffic(destination_ip="10.9.9.9"))) == {"network_spread"}, "not to the outside"
    assert set(facts(traffic(source_bytes=None))) == {"network_spread"}, "no bytes"
    assert set(facts(traffic(source_ip="198.51.100.1"))) == set(), "not from the inside"
    assert set(facts(traffic(source_ip=None))) == set()
    assert set(facts(logon("failure"))) == {"logon_failures"}
    assert set(facts(logon("success"))) == set()
    assert set(facts(logon("unknown"))) == set()
    process = logon(
        "success", event_category=("process",), event_type=("start",), host_name="PC-7", process_name="Tool.EXE"
    )
    assert facts(process)["host_process"].key == "pc-7"
    assert facts(process)["host_process"].item == "tool.exe"
    assert facts(logon("failure"))["logon_failures"].item == "anna"
    assert facts(traffic())["network_spread"].item == "203.0.113.9\x1f443"
    mapped = traffic(source_ip="::ffff:10.1.4.23", destination_ip="2001:db8::1")
    assert set(facts(mapped)) == {"outbound_volume", "network_spread"}


def test_allowed_scanners_skip_network_spread_only() -> None:
    behaviour = Behaviour.load(PROFILES, inventory=Inventory(scanners=frozenset({"10.1.4.23"})))
    assert set(facts(traffic(), behaviour=behaviour)) == {"outbound_volume"}
    assert set(facts(traffic(source_ip="10.1.4.24"), behaviour=behaviour)) == {"outbound_volume", "network_spread"}


def test_hostile_values_make_no_fault() -> None:
    odd: list[Event] = [traffic(at) for at in (float("nan"), float("inf"), -1e300, -5.0)]
    odd += [traffic(source_ip=ip) for ip in ("", "10.1.4", "'; --", "1" * 10_000, "10.1.4.23%eth0", "fe80::1%\ud800")]
    odd += [traffic(source_bytes=b) for b in (-1, 2**70, True, 1.5, float("nan"), "12", [1])]
    odd += [
        logon("success", user_name="x" * 5000),
        logon("failure", user_name="\x00\x1f\u202e"),
        logon("failure", event_code="9" * 999),
    ]
    found = Behaviour.load(PROFILES).facts(Lines().located(odd))
    assert found
    assert all(len(f.key) <= 513 and len(f.item) <= 513 and 0 <= f.value < 2**60 for f in found)
    assert all(f.key.count("\x1f") == 0 for f in found)


def test_facts_are_pure() -> None:
    behaviour = Behaviour.load(PROFILES)
    events = [traffic(NOW + n, source_ip=f"10.0.0.{n % 5}") for n in range(200)]
    once = behaviour.facts(Lines().located(events))
    assert behaviour.facts(Lines().located(events)) == once
    cut = [f for n in range(0, 200, 17) for f in behaviour.facts(Lines().located(events[n : n + 17]))]
    assert plain(cut) == plain(once)


GOOD = """\
id: mine
title: Mine
title_de: Meins
family: x
select:
  event.category: network
key: source.ip
item: destination.ip
counters:
  - name: targets
    measure: distinct
    windows: [10m]
    min: 2
    sentence: {de: "{who} {actual}", en: "{who} {actual}"}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("    measure: distinct", "    mesure: distinct", 11, "unknown key 'mesure', did you mean 'measure'?"),
        ("family: x", "famly: x", 4, "did you mean 'family'?"),
        ("windows: [10m]", "windows: [5m]", 12, "Invalid enum value '5m'"),
        ("min: 2", "min: many", 13, "Expected `float`"),
        ("min: 2", "min: 0", 13, "min must be at least 1"),
        ('en: "{who} {actual}"', 'en: "{who.__class__}"', 14, "not who.__class__"),
        ('en: "{who} {actual}"', 'en: "{who!r:>99999}"', 14, "a sentence can name"),
        ('en: "{who} {actual}"', 'en: "{"', 14, "a sentence can name"),
        ("family: x", "family: x\nfamily: y", 5, "given twice"),
        ("family: x", "family: *name", 4, "undefined alias"),
        ("event.category: network", "source.ip: {adress: internal}", 6, "did you mean 'address'?"),
        ("item: destination.ip", "value: source.bytes", 1, "need item"),
        ("id: mine", "id: ../mine", 1, "lower-case"),
        ("key: source.ip", "key: [source.ip", 8, ""),
        ("family: x", "family: !!python/object/apply:os.system [x]", 4, "Expected `str`"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    assert old in GOOD
    path = tmp_path / "mine.yml"
    path.write_text(GOOD)
    assert list(load_profiles([path])) == ["mine"]
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ProfileError) as refused:
        load_profiles([path])
    assert refused.value.faults[0].startswith(f"{path}:{line}: ")
    assert reason in refused.value.faults[0]


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.yml").write_text(GOOD.replace("family", "fam"))
    (tmp_path / "b.yml").write_text(GOOD)
    (tmp_path / "c.yml").write_text(GOOD)
    (tmp_path / "d.yml").write_text("[")
    forest = "forest: {counters: [{name: n, profile: mien, measure: count}], sentence: {de: d, en: e}}"
    (tmp_path / "e.yml").write_text(f"id: hours\ntitle: t\ntitle_de: t\nfamily: f\nkey: source.ip\n{forest}\n")
    with pytest.raises(ProfileError) as refused:
        load_profiles([tmp_path])
    told = "\n".join(refused.value.faults)
    assert len(refused.value.faults) == 4
    assert "is taken by" in told
    assert "did you mean 'mine'?" in told


def test_texts_do_not_change_what_was_learned_and_readings_do(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"

    def fingerprint(text: str) -> str:
        path.write_text(text)
        return Behaviour.load([path]).fingerprints["mine"]

    assert fingerprint(GOOD.replace("title: Mine", "title: Other")) == fingerprint(GOOD)
    assert fingerprint(GOOD.replace("{who} {actual}", "{who}")) == fingerprint(GOOD)
    assert fingerprint(GOOD.replace("min: 2", "min: 3")) != fingerprint(GOOD)


def test_every_shipped_profile_speaks_both_languages_and_names_benign_look_alikes() -> None:
    for profile in load_profiles([SHIPPED]).values():
        if profile.family == "lists":  # says nothing, others read it
            assert profile.link or profile.remember
            continue
        assert profile.benign.de, profile.id
        assert len(profile.benign.de) == len(profile.benign.en)
        assert profile.attack
        assert profile.title != profile.title_de


def plain(facts: Sequence[Fact]) -> list[Fact]:
    """As the stateful half sees them, without their lines."""
    found = grouped(facts, {fact.detector for fact in facts})
    return [
        msgspec.structs.replace(fact, evidence=())
        for name in sorted(found)
        for of_key in found[name].values()
        for fact in of_key
    ]
