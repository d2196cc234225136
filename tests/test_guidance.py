"""Playbook, harmless look-alikes and links of an alert."""

from pathlib import Path

import msgspec
import pytest

from shield.config import ROOT
from shield.guidance import STEPS_MAX, Guidance, Link, PlaybookError, Steps, load_playbook

BOOK = {
    "T1110": Steps(["Konto sperren?"], ["Lock it?"]),
    "TA0006": Steps(["Welche Konten?", "Konto sperren?"], ["Which accounts?", "Lock it?"]),
}


def test_techniques_come_first_a_sub_technique_counts_as_its_technique_and_nothing_stands_twice() -> None:
    steps = Guidance(BOOK).steps(["TA0006", "T1110.003", "T9999"])
    assert steps == {"de": ["Konto sperren?", "Welche Konten?"], "en": ["Lock it?", "Which accounts?"]}
    many = Guidance({f"T{n}": Steps([str(n)], [str(n)]) for n in range(20)})
    assert len(many.steps([f"T{n}" for n in range(20)])["de"]) == STEPS_MAX


def test_look_alikes_are_the_profiles_or_the_rules() -> None:
    guidance = Guidance(benign={"outbound_volume": {"de": ["Sicherung"], "en": ["Backup"]}})
    assert guidance.look_alikes("outbound_volume/bytes_24h", ()) == {"de": ["Sicherung"], "en": ["Backup"]}
    assert guidance.look_alikes("a-rule", ["Scanner"]) == {"de": ["Scanner"], "en": ["Scanner"]}


def test_links_are_filled_in_and_a_hostile_name_stays_one_value() -> None:
    guidance = Guidance(links=(Link("SIEM", "https://siem.example.org/?q={user}&t={tenant}"),))
    (link,) = guidance.linked({"user": "a&b=c/../{id}", "tenant": "stadt-a"})
    assert link == {"title": "SIEM", "href": "https://siem.example.org/?q=a%26b%3Dc%2F..%2F%7Bid%7D&t=stadt-a"}


@pytest.mark.parametrize(
    "href", ["javascript:alert(1)", "https://x/{nobody}", "https://x/{user.__class__}", "https://x/{"]
)
def test_wrong_links_are_refused(href: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"title": "x", "href": href}, Link)


def test_a_file_of_ones_own_replaces_entries_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    own.write_text("T1110: {de: [eins], en: [one]}\n")
    found = load_playbook([ROOT / "rules" / "playbook.yml", own])
    assert found["T1110"].de == ["eins"]
    assert found["TA0010"].en
    own.write_text("T1110: {de: [eins]}\n")
    with pytest.raises(PlaybookError, match=r"own\.yml"):
        load_playbook([own])


def test_the_bundled_playbook_speaks_both_languages_alike() -> None:
    for attack, steps in load_playbook([ROOT / "rules" / "playbook.yml"]).items():
        assert len(steps.de) == len(steps.en) > 0, attack
