"""The simulated towns and the scoring of what is found in them."""

import filecmp
from collections import Counter
from datetime import datetime
from pathlib import Path

import msgspec
import pytest

from benchmarks.bench_detection import families
from benchmarks.town import recording, scoring
from benchmarks.town.attacks import CATALOGUE
from benchmarks.town.people import Town
from benchmarks.town.scene import STEALTH, Truth
from benchmarks.town.scoring import Alert, Result
from benchmarks.town.writing import DIALECTS, Parameters, digest, write
from connectors.parse import Reader
from shield import config as configs
from shield import roles

SMALL = Parameters(
    seed=5, towns=2, staff=30, hosts=80, days=4, learning_days=1, attacks=len(CATALOGUE) * len(STEALTH) // 2, noise=1, density=0.3
)  # fmt: skip


@pytest.fixture(scope="module", params=sorted(DIALECTS))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small towns with every technique in every degree of stealth, in one dialect."""
    folder = tmp_path_factory.mktemp(f"towns-{request.param}")
    write(folder, msgspec.structs.replace(SMALL, dialect=request.param))
    return folder


def truths(folder: Path) -> list[Truth]:
    return [msgspec.json.decode(line, type=Truth) for line in (folder / "truth.jsonl").read_bytes().splitlines()]


def test_every_line_can_be_read(written: Path) -> None:
    config = configs.load(written / "config.yml")
    assert config.inventory.server_networks
    for source in config.sources:
        reader = Reader(source.parser, source.tenant, source.source, source.timezone, source.year)
        lines = Path(getattr(source, "path")).read_bytes().splitlines()  # noqa: B009 - sources differ in their options
        parsed = reader.read(lines, datetime(source.year or 2026, 12, 31).timestamp())  # noqa: DTZ001 - any late time
        assert not parsed.dead, parsed.dead[0]
        assert len(parsed.events) == len(lines) > 0


def test_every_technique_is_there_in_every_degree(written: Path) -> None:
    found = Counter((t.name, t.stealth) for t in truths(written))
    assert set(found) == {(name, stealth) for name in CATALOGUE for stealth in STEALTH}
    assert set(found.values()) == {1}


def test_planted_lines_stand_in_the_logs_with_their_entities(written: Path) -> None:
    texts = [t for path in written.glob("*/*.log") for t in path.read_text(encoding="utf-8").splitlines()]
    lines = {digest(text): text for text in texts}
    for truth in truths(written):
        own = [lines[one] for one in truth.evidence]
        assert len(own) == truth.lines > 0
        assert truth.start_s <= truth.end_s
        named = [name.lower() for name in (*truth.users, *truth.hosts, *truth.addresses)]
        assert any(name in text.lower() for text in own for name in named), (truth.name, truth.stealth)


def test_a_seed_gives_the_same_files_and_another_one_others(tmp_path: Path) -> None:
    tiny = msgspec.structs.replace(SMALL, towns=1, days=2, attacks=5)
    for name, seed in (("one", 5), ("again", 5), ("other", 6)):
        write(tmp_path / name, msgspec.structs.replace(tiny, seed=seed))
    files = sorted(str(p.relative_to(tmp_path / "one")) for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "again", files, shallow=False) == (files, [], [])
    assert filecmp.cmpfiles(tmp_path / "one", tmp_path / "other", ["truth.jsonl"], shallow=False)[0] == []


def test_noise_changes_nothing_else(tmp_path: Path) -> None:
    quiet = msgspec.structs.replace(SMALL, towns=1, days=2, noise=0)
    write(tmp_path / "quiet", quiet)
    write(tmp_path / "noisy", msgspec.structs.replace(quiet, noise=2))
    assert filecmp.cmp(tmp_path / "quiet" / "truth.jsonl", tmp_path / "noisy" / "truth.jsonl", shallow=False)
    for path in (tmp_path / "quiet").glob("*/windows.log"):
        few = Counter(_without_number(line) for line in path.read_text(encoding="utf-8").splitlines())
        many = Counter(
            _without_number(line)
            for line in (tmp_path / "noisy" / path.relative_to(tmp_path / "quiet"))
            .read_text(encoding="utf-8")
            .splitlines()
        )
        assert not few - many
        assert many.total() > few.total() * 1.05


def test_without_its_first_days_a_town_is_the_same(tmp_path: Path) -> None:
    whole = msgspec.structs.replace(SMALL, towns=1, days=3, learning_days=2, attacks=5)
    write(tmp_path / "whole", whole)
    write(tmp_path / "late", msgspec.structs.replace(whole, skip_days=1))
    assert filecmp.cmp(tmp_path / "whole" / "truth.jsonl", tmp_path / "late" / "truth.jsonl", shallow=False)
    path = next((tmp_path / "late").glob("*/firewall.log"))
    late = path.read_text(encoding="utf-8")
    assert (
        (tmp_path / "whole" / path.relative_to(tmp_path / "late")).read_text(encoding="utf-8").endswith(late[-200_000:])
    )


def test_the_clock_is_local_when_it_changes() -> None:
    town = Town(1, 0, 30, 80, 21)
    change = next(d for d in range(21) if town.midnight(d + 1) - town.midnight(d) != 86_400)
    assert town.weekday(change) == 6
    assert abs(town.at(change, 12) - town.midnight(change) - 12 * 3600) == 3600


# --- scoring ----------------------------------------------------------------------------------------------------------

BEGIN = datetime(2026, 3, 3, 9, tzinfo=scoring.ZONE).timestamp()


def planted(ident: str = "a", **changes: object) -> Truth:
    usual: dict[str, object] = {
        "id": ident, "tenant": "t", "name": "n", "technique": "T1", "stealth": "loud", "day": 1, "start_s": BEGIN, "end_s": BEGIN + 600,
        "first_evidence_s": BEGIN, "users": ["anna"], "hosts": ["pc-1"], "addresses": ["198.51.100.7"], "description": "", "lines": 1, "evidence": ["l1"],
    }  # fmt: skip
    return msgspec.convert(usual | changes, Truth)


def alert(ident: str, risk: float, **changes: object) -> Alert:
    usual: dict[str, object] = {
        "id": ident, "tenant": "t", "opened_s": BEGIN + 60, "newest_s": BEGIN + 60, "risk": (risk, 0.0),
        "entities": ["anna"], "times": [BEGIN + 50], "evidence": ["x"],
    }  # fmt: skip
    return msgspec.convert(usual | changes, Alert)


def scored(alerts: list[Alert], *attacks: Truth, hubs: frozenset[str] = frozenset()) -> list[Result]:
    return scoring.score(attacks or (planted(),), alerts, hubs)[0]


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, True),
        ({"entities": ["berta"]}, False),
        ({"entities": ["berta"], "evidence": ["l1"]}, True),
        ({"times": [BEGIN - 7200]}, False),
        ({"times": [BEGIN - 7200, BEGIN + 100]}, True),
        ({"times": [BEGIN + 600 + 4000]}, False),
        ({"tenant": "u"}, False),
        ({"entities": ["pc-1"]}, True),
    ],
)
def test_an_alert_counts_by_its_lines_or_by_entity_and_time(changes: dict[str, object], found: bool) -> None:
    assert (scored([alert("one", 50, **changes)])[0].rank == 1) is found


def test_a_hub_is_no_entity_of_an_attack() -> None:
    assert scored([alert("one", 50, entities=["pc-1"])], hubs=frozenset({"pc-1"}))[0].rank is None


def test_alerts_are_ranked_by_risk_within_tenant_and_local_day() -> None:
    others = [alert(f"o{n}", 60 + n, entities=["berta"]) for n in range(6)]
    elsewhere = [alert(f"e{n}", 90, entities=["berta"], tenant="u") for n in range(9)]
    yesterday = [alert(f"y{n}", 90, entities=["berta"], opened_s=BEGIN - 86_400) for n in range(9)]
    result = scored([*others, *elsewhere, *yesterday, alert("one", 50)])[0]
    assert result.rank == 7
    row = scoring.rates([result])
    assert (row["recall@5"], row["recall@10"]) == (0, 1)


def test_the_highest_revision_ranks_and_the_first_that_matches_sets_the_time() -> None:
    early = alert("one", 10, entities=["berta"], opened_s=BEGIN - 400, newest_s=BEGIN - 400, times=[BEGIN - 400])
    grown = alert("one", 20, opened_s=BEGIN - 400, newest_s=BEGIN + 90)
    later = alert("one", 70, opened_s=BEGIN - 400, newest_s=BEGIN + 500)
    result = scored([early, alert("two", 60, entities=["berta"]), grown, later])[0]
    assert (result.rank, result.seconds) == (1, 90)


def test_precision_is_the_share_of_alerts_that_tell_of_an_attack() -> None:
    alerts = [alert("one", 90), *(alert(f"o{n}", 10 - n, entities=["berta"]) for n in range(3))]
    summary = scoring.score([planted(), planted("b", users=["carl"], hosts=[], addresses=[])], alerts, frozenset())[1]
    assert summary["precision@5"] == 0.25
    assert summary["alerts per tenant-day"] == 4


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("PC-1.ahornstadt.example", "pc-1"),
        ("AHORNSTADT\\Anna", "anna"),
        ("anna@AHORNSTADT.EXAMPLE", "anna"),
        ("a.krueger", "a.krueger"),
        ("10.40.1.9", "10.40.1.9"),
    ],
)
def test_entities_are_compared_without_their_domain(given: str, plain: str) -> None:
    assert scoring.entity_name(given) == plain


def _without_number(line: str) -> str:
    """Record numbers count everything that a scribe has written."""
    return line.partition('"record_id":')[0] + line.partition('"api"')[2]


def test_a_recording_is_scored_as_the_scan_it_was_made_from(tmp_path: Path) -> None:
    parameters = msgspec.structs.replace(
        SMALL, towns=1, staff=40, hosts=110, days=5, learning_days=4, attacks=6, density=0.1
    )
    write(tmp_path, parameters)
    config = configs.load(tmp_path / "config.yml")
    live_from = Town(5, 0, 40, 110, 5).midnight(4)
    live: list[scoring.Alert] = []
    made = recording.record(config, live_from, lambda _, doc: live.append(scoring.read(msgspec.json.decode(doc))))
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(made), type=recording.Recording)
    rules = roles.load_rules(config).rules
    rated = recording.rated(kept, config)
    again = recording.replayed(rated, config, rules)
    risks = [{one.id: one.risk for one in found} for found in (live, again)]
    assert len(risks[0]) > 5
    same = risks[0].items() & risks[1].items()
    assert len(same) >= 0.8 * max(map(len, risks)), "scoring a recording is close to the scan, not equal to it"
    quiet = recording.replayed(rated, config, rules, recording.Variant(without_families=frozenset(families().values())))
    assert {one.id for one in quiet} < risks[1].keys(), "what rules alert directly is left"
