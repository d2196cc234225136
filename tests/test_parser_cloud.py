"""Parsers of clouds, identity providers and endpoint agents: what the golden samples do not show."""

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from connectors import json_log
from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError
from connectors.parse import Reader, load_parser

GOLDEN = Path(__file__).parent / "golden"
RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC
NAMES = (
    "carbonblack", "cloudtrail", "cortex_xdr", "crowdstrike", "defender", "entra", "eset", "o365", "okta", "pulse_secure",
    "sentinel_one", "sophos_central",
)  # fmt: skip


def origin() -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo("Europe/Berlin")))


def lines(name: str) -> list[str]:
    return (GOLDEN / name / "sample.log").read_text().splitlines()


def read(name: str, line: str | dict[str, Any]) -> list[Event]:
    text = line if isinstance(line, str) else json.dumps(line)
    return list(load_parser(name).parse(text, origin()))


@pytest.mark.parametrize("name", NAMES)
def test_auto_gives_every_line_of_a_sample_to_its_parser(name: str) -> None:
    parsed = Reader("auto", "stadt", "quelle").read([line.encode() for line in lines(name)], RECEIVED_S)
    assert {event.event_module for event in parsed.events} == {name}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "pulse_secure"])
def test_pretty_printed_export_gives_the_same_events(name: str) -> None:
    for line in lines(name):
        if line[0] in "{[":
            spaced = json.dumps(json.loads(line), indent=1).replace("\n", " ")
            assert read(name, spaced) == read(name, line)
            assert load_parser(name).sniff(spaced)


@pytest.mark.parametrize("name", NAMES)
def test_cut_line_still_gives_an_event_that_says_so(name: str) -> None:
    found = 0
    for line in lines(name):
        if line[0] != "{" or name == "pulse_secure":
            continue
        try:
            events = read(name, line[: len(line) * 9 // 10])
        except ParseError:
            continue
        found += 1
        assert all(event.fields.get("shield.truncated") is True for event in events)
    assert found or name in {"pulse_secure", "eset"}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("line", ['{"a":1}', "[]", "[1,2]", '{"records":[]}', "plain words", '{"records":[{"x":{}}]}'])
def test_line_of_another_format_is_refused_with_a_reason(name: str, line: str) -> None:
    with pytest.raises(ParseError, match=r"no |neither"):
        read(name, line)
    assert not load_parser(name).sniff(line)


def test_one_bad_value_does_not_hide_the_event() -> None:
    (line, *_) = lines("okta")
    log = json.loads(line)
    log["client"], log["outcome"], log["published"] = ["x", 7], {"result": {"deep": []}}, "99.99.9999"
    (event,) = read("okta", log)
    assert event.event_action == "user.session.start"
    assert event.user_name == "anna.krueger"
    assert event.timestamp == RECEIVED_S
    assert event.event_outcome is None
    assert event.source_ip == "198.51.100.23"  # of the chain of proxies


def test_export_of_too_many_events_is_refused_not_shortened() -> None:
    with pytest.raises(ParseError, match="more than 10000 events"):
        read("cloudtrail", "[" + '{"eventSource":"a"},' * 10_000 + '{"eventSource":"a"}]')


def test_list_of_objects_becomes_lists_and_no_attribute_is_shadowed() -> None:
    log = {
        "target": [{"name": "a", "tags": ["x"]}, {"name": "b", "tags": ["y"]}, {"other": None}],
        "one": [{"name": "c"}],
        "user": {"name": "vendor's own"},
        "big": 2**70,
        "deep": {"a": {"b": {"c": {"d": {"e": {"f": {"g": {"h": 1}}}}}}}},
    }
    fields = json_log.flat(log, "okta")
    assert fields["target.name"] == ["a", "b"]
    assert fields["target.tags"] == ["x", "y"]
    assert fields["one.name"] == "c"
    assert "user.name" not in fields
    assert fields["okta.user.name"] == "vendor's own"
    assert fields["big"] == str(2**70)
    assert fields["deep.a.b.c.d.e.f.g"] == '{"h":1}'


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.7", "192.0.2.7", None),
        ("192.0.2.7:51522", "192.0.2.7", 51522),
        ("[2001:db8::1]:443", "2001:db8::1", 443),
        ("2001:DB8:0::1", "2001:db8::1", None),
        ("::ffff:192.0.2.7", "192.0.2.7", None),
        ("fe80::1%eth0", "fe80::1", None),
        ("192.0.2.7:99999", "192.0.2.7", None),
        ("autoscaling.amazonaws.com", None, None),
        ("", None, None),
    ],
)
def test_address_is_read_in_all_ways_of_writing(text: str, address: str | None, port: int | None) -> None:
    assert json_log.endpoint(text) == (address, port)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-11-24T07:00:00Z", 1_795_503_600.0),
        ("2026-11-24T07:00:00.1234567Z", 1_795_503_600.123456),
        ("2026-11-24T07:00:00", 1_795_503_600.0),  # clouds mean UTC
        ("2026-11-24 07:00:00 +0000 UTC", 1_795_503_600.0),
        ("1795503600", 1_795_503_600.0),
        (1_795_503_600_000, 1_795_503_600.0),
        (1_795_503_600.5, 1_795_503_600.5),
        ("24.11.2026", None),
        (True, None),
        (0, None),
        (1e300, None),
    ],
)
def test_time_is_read_in_all_ways_of_writing(value: object, seconds: float | None) -> None:
    assert json_log.instant(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("code", "outcome", "types"),
    [
        (0, "success", ("start",)),
        (50126, "failure", ("start", "denied")),
        (50053, "failure", ("start", "denied")),
        (50074, "unknown", ("start",)),  # the second factor is asked for: no failed logon
        (50140, "unknown", ("start",)),
    ],
)
def test_entra_sign_in_outcome_is_told_by_its_code(code: int, outcome: str, types: tuple[str, ...]) -> None:
    log = json.loads(lines("entra")[0])
    log["properties"]["status"]["errorCode"] = code
    log["resultType"] = str(code)
    (event,) = read("entra", log)
    assert (event.event_outcome, event.event_type) == (outcome, types)
    assert event.fields["ResultType"] == code


def test_entra_offers_the_names_that_sigma_rules_use() -> None:
    events = [event for line in lines("entra") for event in read("entra", line)]
    role = next(event for event in events if event.event_action == "Add member to role")
    assert role.fields["properties.message"] == role.fields["OperationName"] == "Add member to role"
    assert role.fields["Category"] == "RoleManagement"
    assert "62e90394-69f5-4237-9190-012177145e10" in role.fields["TargetResources"]
    assert role.fields["Status"] == "Success"
    assert any(event.fields.get("riskEventType") == "passwordSpray" for event in events)
    assert any(event.fields.get("operationName", "").endswith("/SECURITYRULES/WRITE") for event in events)


def test_o365_offers_the_names_that_sigma_rules_use() -> None:
    events = [event for line in lines("o365") for event in read("o365", line)]
    rule = next(event for event in events if event.event_action == "New-InboxRule")
    assert rule.fields["Operation"] == "New-InboxRule"
    assert rule.fields["Parameters.ForwardTo"] == "sammler@mail.example"
    assert any("ForwardTo" in part for part in rule.fields["Parameters"])
    logon = next(event for event in events if event.event_action == "UserLoggedIn")
    assert logon.fields["RequestType"] == "OAuth2:Authorize"
    alert = next(event for event in events if event.event_dataset == "o365.alert")
    assert (alert.fields["eventSource"], alert.fields["status"]) == ("SecurityComplianceCenter", "success")


def test_o365_logon_that_only_http_succeeded_is_a_failure() -> None:
    log = json.loads(lines("o365")[0])
    log["LogonError"] = "UserAccountLocked"
    (event,) = read("o365", log)
    assert event.event_outcome == "failure"
    assert event.event_type == ("start", "denied")


def test_cloudtrail_rules_can_search_whole_parameters() -> None:
    events = [event for line in lines("cloudtrail") for event in read("cloudtrail", line)]
    policy = next(event for event in events if event.event_action == "AttachUserPolicy")
    assert "AdministratorAccess" in policy.fields["requestParameters"]
    assert policy.fields["requestParameters.userName"] == "backup-ext"
    assert policy.fields["user.target.name"] == "backup-ext"


def test_cloudtrail_personal_role_is_named_after_its_session() -> None:
    log = json.loads(next(line for line in lines("cloudtrail") if "AWSReservedSSO_" in line))
    (event,) = read("cloudtrail", log)
    assert (event.user_name, event.user_domain) == ("s.haas", "lindenau.example")


def test_defender_incident_gives_an_event_for_each_alert() -> None:
    line = next(line for line in lines("defender") if "security.incident" in line)
    events = read("defender", line)
    assert [event.message for event in events] == ["Malware in Temp", "Phishing mail delivered"]
    assert all(event.fields["incident.displayName"] for event in events)


def test_inbound_connection_has_the_other_end_as_source() -> None:
    for name, word in (
        ("defender", "InboundConnectionAccepted"),
        ("carbonblack", '"inbound"'),
        ("crowdstrike", "SMB sperren"),
    ):
        (event,) = read(name, next(line for line in lines(name) if word in line))
        assert event.source_ip == "10.20.4.99", name
        assert event.destination_ip == "10.20.4.31", name


def test_crowdstrike_reads_windows_file_times() -> None:
    line = next(line for line in lines("crowdstrike") if "FsVolumeUnmounted" in line)
    (event,) = read("crowdstrike", line)
    assert event.timestamp == pytest.approx(1_795_505_040.0)


def test_pulse_secure_prefers_the_time_with_a_zone() -> None:
    body = "2026-11-24 09:00:00 - vpn - [192.0.2.7] a.krueger(R)[] - Login succeeded for a.krueger/R"
    (event,) = read("pulse_secure", f"<134>1 2026-11-24T08:00:00+01:00 10.20.0.60 PulseSecure: - - - {body}")
    assert event.timestamp == 1_795_503_600.0
    (event,) = read("pulse_secure", body)  # its own clock: the source's zone
    assert event.timestamp == 1_795_507_200.0
    with pytest.raises(ParseError):
        read("pulse_secure", "2026-11-24 09:00:00 - vpn - something else")


@pytest.mark.parametrize("name", ["carbonblack", "okta", "sophos_central"])
def test_what_is_glanced_at_gives_the_event_that_all_of_it_gives(name: str) -> None:
    """An object behind something else is read as a whole, one alone only as far as its event needs it."""
    seen = 0
    for line in lines(name):
        if line[0] == "{" and line[-1] == "}" and len(events := read(name, line)) == 1:
            whole = read(name, f" {line}")
            assert (events, dict(events[0].fields)) == (whole, dict(whole[0].fields))
            seen += 1
    assert seen > 3


def test_a_glance_leaves_to_others_what_is_not_as_expected() -> None:
    glance = json_log.Glance("who.name", "items[].id", wrapped=("records", "reply.data"))
    assert glance.read('{"who": {"name": "a", "age": 1}, "items": [{"id": 2, "x": [{}]}], "more": {}}') == {
        "who": {"name": "a"},
        "items": [{"id": 2}],
    }
    assert glance.read('{"who": null}') == {"who": None}
    for text in ('{"who": "a"}', '{"items": {"id": 1}}', '{"records": []}', '{"reply": {}}', '{"who": {', "[]", ""):
        assert glance.read(text) is None
