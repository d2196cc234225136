"""`shield explain`: an alert in words and numbers, in two languages, from a file or the topic, by the beginning of its id."""

import json
import sys
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from detectors.behaviour.inventory import Classes, Inventory, Network
from shield.broker import EmbeddedConfig, Out, open_broker
from shield.cli import main
from shield.config import ROOT, Config
from shield.explanation import attack_names, explained, risk_without, told
from shield.risk import STEP_DOWN
from shield.terminal import FINDINGS, OK, USAGE

PARTS = (2.6, 2.0, 1.2)  # risks of three families
RISK = sum(part * STEP_DOWN**i for i, part in enumerate(PARTS))
SHARES = [part * STEP_DOWN**i / RISK for i, part in enumerate(PARTS)]


def observation(number: int, family: str, **more: Any) -> dict[str, Any]:
    return {
        "detector": f"{family}_profile/bytes_1h",
        "family": family,
        "kind": "profile",
        "share": SHARES[number],
        "risk": PARTS[number],
        "rate_per_tenant_day": 10 ** -PARTS[number],
        "rarity": {"de": "etwa einmal in 40 Tagen", "en": "about once in 40 days"},
        "sentence": {"de": f"Beobachtung {number}", "en": f"Observation {number}"},
        "count": 1,
        "first_seen": "2026-07-01T08:00:00.000Z",
        "last_seen": "2026-07-01T09:30:00.000Z",
        "attack": ["T1110.003", "TA0006"],
        "features": [
            {"name": "bytes_1h", "actual": 137e6, "typical": 142e3, "window_s": 3600.0, "unit": "bytes"},
            {"name": "first_seen", "actual": "tool.exe", "typical": "3/290", "window_s": 0.0, "unit": ""},
        ],
        "benign": {"de": ["Datensicherung, nachts"], "en": ["Backup at night"]},
    } | more


def alert(**explanation: Any) -> dict[str, Any]:
    """A learned alert as documented in docs/architecture.md."""
    return {
        "@timestamp": "2026-07-01T08:00:00.000Z",
        "event": {"id": "4325b1ac20d133fda31ce8a15de5cd1f"},
        "organization": {"id": "town-a"},
        "shield": {
            "status": "new",
            "revision": 2,
            "level": "high",
            "disposition": None,
            "last_seen": "2026-07-01T09:30:00.000Z",
            "title": {"de": "Ungewöhnliches Verhalten: anna", "en": "Unusual behaviour: anna"},
            "reason": {"de": "Ein Satz.", "en": "One sentence."},
            "entities": [
                {"type": "user", "name": "svc-anna"},
                {"type": "address", "name": "10.2.0.7"},
                {"type": "address", "name": "198.51.100.9"},
            ],
            "related_alerts": ["77aa"],
            "explanation": {
                "risk": RISK,
                "threshold": 3.0,
                "observations": [observation(0, "vol"), observation(1, "auth"), observation(2, "proc")],
                "observations_not_shown": 4,
                "baseline": {"calibrated": True, "tenant_days": 9, "from": "2026-06-20", "to": "2026-06-30"},
            }
            | explanation,
            "playbook": ["Look."],
            "links": [{"title": "SIEM", "href": "https://siem.example/4325"}],
        },
        "evidence": [
            {
                "@timestamp": "2026-07-01T08:00:00.000Z",
                "source": "fw",
                "event_id": "raw:0:4:2",
                "original": "date=2026-07-01 \x1b[2Jsrcip=10.2.0.7",
                "original_sha256": "",
            }
        ],
    }


def words(doc: dict[str, Any], language: str, **more: Any) -> str:
    found = explained(doc, language, **more)
    return "\n".join(line for _, line in told(found, language, ZoneInfo("Europe/Berlin"), 400))


def test_every_observation_has_its_numbers_share_rarity_and_look_alikes() -> None:
    text = words(alert(), "en")
    assert "share of the risk 57%; this strong about once in 40 days here" in text
    assert "bytes_1h: 137 MB, usual 142 kB, within 1 h" in text
    assert "first_seen: tool.exe, known to 3 of 290" in text
    assert text.count("harmless if: Backup at night") == 1, "said once, not with every observation of the profile"
    assert all(f"{n + 1}. Observation {n}" in text for n in range(3))
    assert "opened" not in text
    assert "01.07.2026 10:00:00 to 11:30:00 (Europe/Berlin)" in text


def test_german_is_german_throughout() -> None:
    names = attack_names(ROOT / "rules" / "attack.yml")
    text = words(alert(), "de", guidance=Config().guidance({}), names=names)
    for part in (
        "Risiko 4,59 bei Schwelle 3,00",
        "Anteil am Risiko 57 %; so stark hier etwa einmal in 40 Tagen",
        "bytes_1h: 137 MB, üblich 142 kB, Zeitraum 1 h",
        "bekannt bei 3 von 290",
        "harmlos, wenn: Datensicherung, nachts",
        "Konto svc-anna",
        "Verglichen mit 9 Tagen vom 2026-06-20 bis 2026-06-30.",
        "4 weitere Beobachtungen stehen nicht in der Meldung.",
        "T1110.003  Brute Force: Password Spraying",
        "TA0006  Credential Access",
        "Was zuerst zu prüfen ist",
    ):
        assert part in text
    assert "Look." not in text, "the playbook speaks the language that is asked for, whatever the alert was sent in"


def test_the_counterfactual_is_what_the_risk_would_have_been() -> None:
    for count in range(4):
        rest = PARTS[count:]
        assert risk_without(RISK, SHARES, count) == pytest.approx(sum(p * STEP_DOWN**i for i, p in enumerate(rest)))
    text = words(alert(), "en")
    assert "Without 1. (vol) the risk would be 2.84, below the threshold 3.00." in text
    higher = words(alert(threshold=2.0), "en")
    assert "Without 1. (vol) the risk would be 2.84, still above the threshold 2.00." in higher
    assert "Without 1. (vol), 2. (auth) the risk would be 1.20, below the threshold 2.00." in higher


def test_what_the_data_lack_is_said() -> None:
    baseline = {"calibrated": False, "tenant_days": 3, "from": "2026-06-28", "to": "2026-06-30"}
    unrated = observation(0, "vol", rate_per_tenant_day=None, rarity={"de": "", "en": ""}, share=0.0)
    doc = alert(
        baseline=baseline,
        observations=[unrated],
        links=[{"en": "host by ticket at 08:02", "de": "Rechner durch Ticket um 08:02"}],
        caveats=[{"en": "source fw is silent since 07:40", "de": "Quelle fw schweigt seit 07:40"}],
    )
    text = words(doc, "en")
    assert "Compared with 3 days only (at least 7 are recommended)." in text
    assert "1 observations are not rated yet" in text
    assert "not rated yet: still learning" in text
    assert "source fw is silent since 07:40" in text
    assert "host by ticket at 08:02" in text
    assert "Quelle fw schweigt" in words(doc, "de")
    assert "Nothing is learned yet" in words(alert(baseline={}), "en")


def test_entities_are_told_with_what_the_inventory_knows(tmp_path: Path) -> None:
    geo = tmp_path / "geo.csv"
    geo.write_text("198.51.100.0/24,NL\n", encoding="utf-8")
    networks = (Network(network="10.2.0.0/24", name="data centre", role="server"),)
    classes = Classes(Inventory(networks=networks, geo=str(geo)))
    text = words(alert(), "en", classes=classes)
    assert "account svc-anna (service)" in text
    assert "address 10.2.0.7 (server, data centre)" in text
    assert "address 198.51.100.9 (outside, NL)" in text


def test_a_log_line_cannot_command_the_terminal() -> None:
    assert "\x1b" not in words(alert(), "en")
    assert "\ufffd[2Jsrcip" in words(alert(), "en")


class Shield:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        self._monkeypatch.setattr(sys, "argv", ["shield", *map(str, arguments)])
        self._capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capfd.readouterr()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or OK, out, err


@pytest.fixture
def shield(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Shield:
    monkeypatch.chdir(tmp_path)
    return Shield(monkeypatch, capfd)


def test_the_newest_revision_is_found_by_the_beginning_of_its_id(shield: Shield, tmp_path: Path) -> None:
    older = alert()
    older["shield"] = older["shield"] | {"revision": 1, "reason": {"de": "Alt.", "en": "Old."}}
    other = alert() | {"event": {"id": "4325ff"}}
    documents = [alert(), older, other]
    (tmp_path / "alerts.ndjson").write_bytes(b"\n".join(map(msgspec.json.encode, documents)))
    broker = open_broker(EmbeddedConfig(path=str(tmp_path / "shield.db")), member="test")
    rows = [Out("alerts", d["event"]["id"].encode(), msgspec.json.encode(d), 1.0) for d in documents]
    broker.commit(None, rows, [])
    broker.close()
    (tmp_path / "shield.yml").write_text("broker: {path: shield.db}\nlanguage: de\n", encoding="utf-8")
    for where in (("--alerts", "alerts.ndjson"), ("--config", "shield.yml"), ()):
        code, out, _ = shield("explain", "4325b", *where)
        assert code == OK
        assert "Ein Satz." in out
        code, _, err = shield("explain", "4325", *where)
        assert code == USAGE
        assert "begins 2 alerts: 4325b1ac20d133fda31ce8a15de5cd1f, 4325ff" in err
        code, _, err = shield("explain", "4325b1ac20d133fda31ce8a15de5cd1e", *where)
        assert code == USAGE
        assert "the nearest is 4325b1ac20d133fda31ce8a15de5cd1f" in err
    code, out, _ = shield("explain", "4325FF", "--language", "en", "--json")
    assert code == OK
    assert json.loads(out)["reason"] == "One sentence."
    assert "true_positive (otto)" not in shield("explain", "4325b")[1]
    assert shield("verdict", "4325b", "--disposition", "true_positive", "--owner", "otto")[0] == OK
    assert "true_positive (otto)" in shield("explain", "4325b")[1]
    assert shield("explain", "4325b", "--language", "fr")[0] == USAGE
    (tmp_path / "broken.ndjson").write_text('{"event": 7}\n', encoding="utf-8")
    code, _, err = shield("explain", "4325b", "--alerts", "broken.ndjson")
    assert code == USAGE
    assert "broken.ndjson:1: no alert document" in err


def test_an_alert_of_the_real_pipeline_is_explained(shield: Shield, tmp_path: Path) -> None:
    line = "web-1 sudo[100]: anna : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/usr/bin/cat /etc/shadow"
    (tmp_path / "auth.log").write_text(f"Nov  3 10:00:01 {line}\n", encoding="utf-8")
    source = "{use: file, mode: replay, tenant: a, source: auth, parser: linux_auth, year: 2026, path: auth.log}"
    (tmp_path / "scan.yml").write_text(f"sources:\n  - {source}\n", encoding="utf-8")
    assert shield("scan", "scan.yml", "--alerts", "alerts.ndjson")[0] == FINDINGS
    first = (tmp_path / "alerts.ndjson").read_bytes().splitlines()[0]
    number = json.loads(first)["event"]["id"]
    code, out, _ = shield("explain", number[:8], "--alerts", "alerts.ndjson", "--json")
    assert code == OK
    found = json.loads(out)
    assert found["id"] == number
    assert [part["kind"] for part in found["observations"]] == ["rule"]
    assert {"type": "user", "name": "anna", "class": "person", "network": "", "country": ""} in found["entities"]
    assert found["checks"]
    assert line in found["evidence"][0]["original"]
    assert all(found["attack"].values()), "every ATT&CK id has a name"
    code, out, _ = shield("explain", number, "--alerts", "alerts.ndjson", "--language", "de")
    assert code == OK
    assert line in out
