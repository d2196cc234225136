"""The examples inside the profile files: all of ours pass, a wrong one fails with its reason, an unreadable one with its place."""

from pathlib import Path

import pytest

from detectors.behaviour import ProfileError
from detectors.behaviour.profile_tests import run_tests
from detectors.behaviour.profiles import load_profiles, minutes_of
from detectors.sigma import rule_tests

SHIPPED = Path(__file__).parent.parent / "rules" / "profiles"
PROFILES = load_profiles([SHIPPED])
RESULTS = run_tests([SHIPPED])

MINE = """\
id: mine
title: Mine
title_de: Meins
family: lateral
attack: [T1021]
benign: {de: [Umzug], en: [Move]}
select: {event.category: authentication, event.outcome: success}
key: user.name
item: host.name
first_seen:
  sentence: {de: "{who} neu an {item}", en: "{who} new at {item}"}
tests:
  parser: linux_auth
  lines:
    ssh: '{syslog} {host} sshd[7]: Accepted password for {user} from 10.1.0.7 port 40100 ssh2'
  each_day:
    - {at: 08:00-10:00 every 1h, line: ssh, set: {user: [anna, ben], host: web1}}
  cases:
    - name: another host
      then:
        - {at: 10:00, line: ssh, set: {user: anna, host: "db{n:02}"}}
      expect: [first_seen]
    - name: the usual one
      expect: none
"""


@pytest.mark.parametrize("result", RESULTS, ids=[f"{r.rule}-{r.name}" for r in RESULTS])
def test_example(result: rule_tests.TestResult) -> None:
    assert result.passed, result.detail


def test_every_profile_that_says_something_has_an_example_of_it_and_one_of_its_silence() -> None:
    for profile in PROFILES.values():
        if profile.family == "lists":
            assert not profile.readings
            continue
        assert profile.tests, profile.id
        expected = [case.expect for case in profile.tests.cases]
        assert "none" in expected, profile.id
        said = {name for names in expected if names != "none" for name in names}
        for counter in profile.counters:
            assert said & {f"{counter.name}_{window}" for window in counter.windows}, (profile.id, counter.name)
        others = set(profile.readings) - {f"{c.name}_{w}" for c in profile.counters for w in c.windows}
        assert others <= said, profile.id


def results_of(folder: Path, text: str) -> dict[str, str]:
    (folder / "mine.yml").write_text(text)
    return {result.name: result.detail for result in run_tests([folder])}


def test_a_wrong_expectation_fails_and_says_what_was_said(tmp_path: Path) -> None:
    assert results_of(tmp_path, MINE) == {"another host": "", "the usual one": ""}
    turned = MINE.replace("expect: [first_seen]", "expect: none").replace("expect: none\n", "expect: [first_seen]\n", 2)
    wrong = results_of(tmp_path, turned.replace("expect: [first_seen]", "expect: none", 1))
    assert wrong["another host"] == "expected none; said were Account anna new at db00"
    assert wrong["the usual one"] == "first_seen not said; said were none"
    other = results_of(tmp_path, MINE.replace("event.outcome: success", "event.outcome: failure"))
    assert other["another host"] == "first_seen not said; said were none"
    unread = results_of(tmp_path, MINE.replace("parser: linux_auth", "parser: fortigate"))
    assert unread["another host"].startswith("line cannot be read: ")


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("every 1h", "every 1x", 17, "'08:00-10:00 every 1x' is no time"),
        ("08:00-10:00", "10:00-08:00", 17, "is no time"),
        ("at: 10:00", "at: 25:00", 21, "is no time"),
        ("line: ssh, set: {user: anna", "line: shs, set: {user: anna", 21, "no line 'shs', did you mean 'ssh'?"),
        ("user: [anna, ben], ", "", 17, "the line needs user"),
        ("[first_seen]", "[first_sen]", 22, "no reading 'first_sen', did you mean 'first_seen'?"),
        ("each_day:", "each_dy:", 16, "did you mean 'each_day'?"),
        ("  lines:", "  days: 99\n  lines:", 14, "days must be 1 to 60"),
    ],
)
def test_a_wrong_example_is_refused_with_its_place(tmp_path: Path, old: str, new: str, line: int, reason: str) -> None:
    path = tmp_path / "mine.yml"
    assert old in MINE
    path.write_text(MINE.replace(old, new, 1))
    with pytest.raises(ProfileError) as refused:
        run_tests([path])
    assert refused.value.faults[0].startswith(f"{path}:{line}: ")
    assert reason in refused.value.faults[0]


@pytest.mark.parametrize(
    ("at", "count", "first", "last"),
    [
        (600, 1, 600, 600),
        ("08:05", 1, 485, 485),
        ("08:00-16:00 every 2h", 4, 480, 840),
        ("00:00-24:00 every 7m", 206, 0, 1435),
        ("10:00-10:01 every 10s", 6, 600, 600 + 5 / 6),
    ],
)
def test_times_of_a_day(at: str | int, count: int, first: float, last: float) -> None:
    minutes = minutes_of(at)
    assert minutes is not None
    assert len(minutes) == count
    assert minutes[0] == first
    assert minutes[-1] == pytest.approx(last)


def test_examples_do_not_change_what_was_learned(tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text(MINE)
    with_tests = load_profiles([tmp_path])["mine"]
    (tmp_path / "mine.yml").write_text(MINE[: MINE.index("tests:")])
    assert load_profiles([tmp_path])["mine"].fingerprint() == with_tests.fingerprint()


def test_a_profile_alone_finds_what_it_refers_to_beside(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(MINE.replace("key: user.name", "key: user.name\nonly_known: accounts"))
    with pytest.raises(ProfileError, match="no profile remembers 'accounts'"):
        run_tests([path])
    assert [r.passed for r in run_tests([path], beside=[SHIPPED])] == [True, True]
