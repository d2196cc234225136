"""Free text of applications: when, who, from where, whether it worked; and what must not be taken for any of it."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from connectors import prose
from connectors.clock import Clock
from connectors.events import Origin
from connectors.parsers import ecs, syslog

RECEIVED = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
FIVE = datetime(2026, 11, 24, 5, 0, 0, tzinfo=UTC).timestamp()


def origin(zone: str = "UTC") -> Origin:
    return Origin("town", "test", RECEIVED, Clock(ZoneInfo(zone)))


@pytest.mark.parametrize(
    ("line", "rest"),
    [
        ("[2026-11-24 05:00:00,000] [INFO] x", " [INFO] x"),
        ("2026-11-24 05:00:00.000|Warn|x", "|Warn|x"),
        ("2026-11-24 05:00:00,000::WARNING::x", "::WARNING::x"),
        ("2026/11/24 05:00:00 x", " x"),
        ("[GIN] 2026/11/24 - 05:00:00 | 401 |", " | 401 |"),
        ("(W) 2026-11-24T05:00:00 - x", " - x"),
        ("ERROR    2026-11-24T05:00:00Z - x", " - x"),
        ("WARN: [Nov 24 05:00:00.000] x", " x"),
        ("Nov 24, 2026 5:00:00 x", " x"),
        ("Tue Nov 24 05:00:00 2026 x", " x"),
        ("[24/Nov/2026:06:00:00 +0100] x", " x"),
        ("24.11.2026, 05:00:00 x", " x"),
        ("11/24/26 05:00:00.000 x", " x"),
        ("[App] 7  - 11/24/2026, 5:00:00 AM   WARN x", "   WARN x"),
        ("[2026-11-24 05:00:00 UTC] x", " x"),
        ("2026-Nov-24 05:00:00 x", " x"),
        ("20261124 050000 x", " x"),
        ("I1124 05:00:00.000000    1 x", "    1 x"),
    ],
)
def test_time_of_a_line(line: str, rest: str) -> None:
    found = prose.when(line, origin())
    assert found is not None
    assert (found[0], line[found[1] :]) == (FIVE, rest)
    assert prose.starts(line)


def test_afternoon_and_local_time() -> None:
    found = prose.when("11/24/2026, 5:00:00 PM x", origin())
    assert found is not None
    assert found[0] == FIVE + 12 * 3600
    local = prose.when("24.11.2026 06:00:00 x", origin("Europe/Berlin"))
    assert local is not None
    assert local[0] == FIVE


@pytest.mark.parametrize(
    "line",
    [
        "",
        "x",
        "date=2026-11-24 time=05:00:00",
        '"2026-11-24 05:00:00"',
        "a,b,2026/11/24 05:00:00",
        "2026-13-45 99:99:99 x",
    ],
)
def test_no_time_of_a_line(line: str) -> None:
    assert prose.when(line, origin()) is None


@pytest.mark.parametrize(
    ("text", "user", "address", "outcome"),
    [
        ("Login failed for user `anna` from private IP `192.0.2.7`.", "anna", "192.0.2.7", "failure"),
        (
            "Username or password is incorrect. IP: 2001:db8::7. Username: a@example.org.",
            "a@example.org",
            "2001:db8::7",
            "failure",
        ),
        (
            "Failed authentication attempt for anna from 192.0.2.7:39522: user does not exist",
            "anna",
            "192.0.2.7",
            "failure",
        ),
        ('Authentication request for "anna" has been denied (IP: "192.0.2.7").', "anna", "192.0.2.7", "failure"),
        ("Login failed for db:town login:anna from 192.0.2.7", "anna", "192.0.2.7", "failure"),
        ("authentication failure; rhost=::ffff:192.0.2.7 user=anna@pam msg=no", "anna@pam", "192.0.2.7", "failure"),
        ("Access denied for user 'anna'@'192.0.2.7' (using password: YES)", "anna", "192.0.2.7", "failure"),
        ('sign-in failed {"ip":"192.0.2.7","email":"a@example.org"}', "a@example.org", "192.0.2.7", "failure"),
        ('User "anna" logged in with "password" from ip "192.0.2.7", TLS', "anna", "192.0.2.7", "success"),
        ("user(anna): [192.0.2.7]: User logged into 'default'.", "anna", "192.0.2.7", "success"),
        ("User 'anna' logged out", "anna", None, None),
        ("Anmeldung von 192.0.2.7 fehlgeschlagen: Benutzer 'anna' unbekannt", "anna", "192.0.2.7", "failure"),
        (
            '192.0.2.7 - anna "POST /login HTTP/1.1" FAILED LOGIN: user password hash is missing',
            "anna",
            "192.0.2.7",
            "failure",
        ),
        ("Login attempt or request with invalid authentication from gast (192.0.2.7)", None, "192.0.2.7", "failure"),
        ("Login attempt of user anna from 192.0.2.7", "anna", "192.0.2.7", None),
    ],
)
def test_logon(text: str, user: str | None, address: str | None, outcome: str | None) -> None:
    said = prose.said(text)
    assert said is not None
    assert (said.kind, said.user, said.address, said.outcome) == ("authentication", user, address, outcome)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "authentication backend loaded",
        "user agent sent no cookie",
        "log rotated, 12 files, 4.1.2.3.4 is no address",
        "Started user session service",
        "connected to 10.20.0.9:5432",
        "listening on 0.0.0.0:80",
        "password policy: 12 characters",
    ],
)
def test_what_says_nothing_is_left_alone(text: str) -> None:
    assert prose.said(text) is None


def test_an_address_of_the_other_end_is_no_source() -> None:
    said = prose.said("login of user anna failed at 10.20.0.9")
    assert said is not None
    assert (said.user, said.address) == ("anna", None)
    assert prose.said("connection from 192.0.2.7 to 10.20.0.9 closed") is not None
    two = prose.said("authentication failed 192.0.2.7 192.0.2.8 user=anna")
    assert two is not None
    assert two.address is None  # two, and nothing says which


def test_request() -> None:
    said = prose.said('192.0.2.7:0 - "POST /api/token?x=1 HTTP/1.1" 401')
    assert said is not None
    assert (said.kind, said.address, said.method, said.path, said.status, said.outcome) == (
        ("web", "192.0.2.7", "POST", "/api/token", 401, "failure")
    )


def test_a_line_without_anything_telling_is_refused_by_name() -> None:
    assert not syslog.sniff("no format at all")
    (event,) = syslog.parse("backup[7]: done", origin())
    assert (event.process_name, event.process_pid, event.timestamp) == ("backup", 7, RECEIVED)


def test_ecs_documents_are_not_read_as_prose() -> None:
    line = '{"message":"login failed for user \'anna\' from 192.0.2.7","source":{"ip":"198.51.100.1"},"status":404}'
    (event,) = ecs.parse(line, origin())
    assert (event.source_ip, event.user_name, event.http_response_status_code) == ("198.51.100.1", None, None)
