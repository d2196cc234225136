"""`shield profiles`: how far learning is, read from the learning history, and what another budget would have meant."""

import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from detectors.behaviour import Learning, Models, Profile, fit
from detectors.behaviour.profiles import load_profiles
from detectors.facts import Feature
from shield.broker import EmbeddedConfig, Out, open_broker
from shield.cli import main
from shield.config import ROOT, Alerting, Config
from shield.learning import RULES, Learned, last_findings, learned, newest_points, previews
from shield.models import records, signing_key, thresholds
from shield.terminal import OK

FIRST = 20_600  # a day
PROFILE = "outbound_volume"
LEARNING = Learning(trees=10)


@pytest.fixture(scope="module")
def profiles() -> dict[str, Profile]:
    return load_profiles([ROOT / "rules" / "profiles"])


def history(
    days: int, tenant: str = "town-a", per_day: int = 6, seed: int = 1, families: tuple[str, ...] = ("vol",)
) -> list[Feature]:
    """Days of one profile of each family: a mark per day, and readings of some addresses."""
    rng = random.Random(seed)
    made = []
    for day in range(FIRST, FIRST + days):
        for family in families:
            profile = PROFILE if family == "vol" else f"{family}_profile"
            made.append(Feature(tenant, profile, "", day, day * 86_400.0, (), family))
            for number in range(per_day):
                key = f"10.1.0.{number}"
                strength = (15 + rng.random(), rng.expovariate(2.0))
                time = day * 86_400.0 + 30_000 + number * 600
                entities, detector = (("address", key),), f"{profile}/bytes_24h"
                made.append(Feature(tenant, detector, key, day, time, strength, family, entities, "client", key))
    return made


def status(features: list[Feature], models: Models | None, profiles: dict[str, Profile]) -> dict[str, Learned]:
    return {one.family: one for one in learned(features, models, profiles, LEARNING, {})}


def test_a_family_warms_up_calibrates_and_lives(profiles: dict[str, Profile]) -> None:
    prints = {name: profile.fingerprint() for name, profile in profiles.items()}
    seen = []
    for days in (1, 5, 6, 12, 13):
        features = history(days)
        one = status(features, None, profiles)["vol"]
        seen.append((one.state, one.days, one.days_left))
    assert seen == [
        ("warm-up", 0, 12),
        ("warm-up", 4, 8),
        ("calibrating", 5, 7),
        ("calibrating", 11, 1),
        ("untrained", 12, 0),
    ]
    features = history(13)
    models = fit(features, learning=LEARNING, seed=1, fingerprints=prints)
    one = status(features, models, profiles)["vol"]
    assert (one.state, one.profiles[PROFILE]) == ("live", "live")
    changed = fit(features, learning=LEARNING, seed=1, fingerprints={PROFILE: "another"})
    assert status(features, changed, profiles)["vol"].state == "untrained"


def test_a_family_without_data_says_so_and_does_not_hide_the_others(profiles: dict[str, Profile]) -> None:
    found = status(history(13), None, profiles)
    assert found["dns"].state == "no data"
    assert found[RULES].state == "untrained"
    assert {one.tenant for one in learned([*history(2), *history(2, "town-b")], None, profiles, LEARNING, {})} == {
        "town-a",
        "town-b",
    }


def test_points_are_counted_over_whole_days(profiles: dict[str, Profile]) -> None:
    features = history(10, per_day=4)
    today = FIRST + 9
    features = [f for f in features if f.day < today or not f.key]  # the day has just begun
    one = status(features, None, profiles)["vol"]
    assert (one.points_per_day, one.weighty_per_day) == (4.0, 0.0)


def test_of_points_written_twice_the_last_counts() -> None:
    first, *others = history(1)
    again = msgspec.structs.replace(others[0], values=(99.0, 9.0))
    assert newest_points([first, *others, again])[1].values == (99.0, 9.0)
    assert len(newest_points([first, *others, again])) == 1 + len(others)


def test_the_last_finding_is_the_newest_in_any_alert() -> None:
    def alert(family: str, kind: str, time: str) -> dict[str, Any]:
        row = {"family": family, "kind": kind, "last_seen": time}
        return {"organization": {"id": "town-a"}, "shield": {"explanation": {"observations": [row]}}}

    alerts = [
        alert("vol", "profile", "2026-07-02"),
        alert("vol", "profile", "2026-07-01"),
        alert("rule:x", "rule", "b"),
    ]
    assert last_findings(alerts) == {("town-a", "vol"): "2026-07-02", ("town-a", RULES): "b"}


def test_a_larger_budget_means_a_lower_threshold_and_more_alerts() -> None:
    several = ("vol", "auth", "proc", "scan", "dns", "file", "krb", "svc")
    towns = ((town, seed) for seed, town in enumerate(("town-a", "town-b")))
    features = [f for town, seed in towns for f in history(30, town, 8, seed, several)]
    models = fit(features, learning=LEARNING, seed=1)
    config = Config(learning=LEARNING, alerts=Alerting(budget_per_day=0.2))
    small, large = (previews(features, models, config, budget) for budget in (0.1, 0.4))
    assert [p.tenant for p in small] == ["town-a", "town-b"]
    for few, many in zip(small, large, strict=True):
        assert few.days == many.days == 25
        assert few.threshold > few.threshold_now > many.threshold
        assert few.alerts_per_day <= few.alerts_per_day_now <= many.alerts_per_day
        assert few.alerts_per_day < many.alerts_per_day
        assert (
            few.threshold_now == many.threshold_now == round(thresholds(features, models, config).risk[few.tenant], 2)
        )
        assert many.alerts_per_day <= 0.5


def test_the_command_reads_the_topics(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def shield(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["shield", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        assert ended.value.code is None or isinstance(ended.value.code, int)
        return ended.value.code or OK, out, err

    monkeypatch.chdir(tmp_path)
    (tmp_path / "shield.yml").write_text(
        "broker: {path: s.db}\nbundled_rules: false\nprofiles: [volume.yml]\n", encoding="utf-8"
    )
    shutil.copy(ROOT / "rules" / "profiles" / f"{PROFILE}.yml", tmp_path / "volume.yml")
    profiles = load_profiles([tmp_path / "volume.yml"])
    code, out, err = shield("profiles")
    assert (code, out) == (OK, "")
    assert "nothing is learned yet" in err
    features = history(20, per_day=20)
    broker = open_broker(EmbeddedConfig(path=str(tmp_path / "s.db")), member="test")
    broker.commit(None, [Out("features", b"k", msgspec.msgpack.encode(f), f.time) for f in features], [])
    assert "untrained" in shield("profiles")[1]
    config = Config(broker=EmbeddedConfig(path=str(tmp_path / "s.db")), learning=LEARNING)
    prints = {name: profile.fingerprint() for name, profile in profiles.items()}
    models = fit(features, learning=LEARNING, seed=1, fingerprints=prints)
    broker.commit(None, records(models, thresholds(features, models, config), signing_key(config), 1.0), [])
    broker.close()
    code, out, _ = shield("profiles", "--json")
    assert code == OK
    rows = {row["family"]: row for row in map(json.loads, out.splitlines())}
    assert rows["vol"]["state"] == "live"
    assert rows["vol"]["weighty_per_day"] > 0
    code, out, err = shield("profiles", "--budget", "3", "--json")
    assert code == OK
    assert json.loads(out)["budget_per_day"] == 3
    assert "threshold at 3" in shield("profiles", "--budget", "3")[1]
