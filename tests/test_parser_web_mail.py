"""Parsers of web servers, proxies and mail: what a sample line does not show: headers, what attackers choose, odd values."""

import json
from zoneinfo import ZoneInfo

import pytest

from connectors.clock import Clock
from connectors.events import Event, Origin, ParseError
from connectors.parse import load_parser

RECEIVED_S = 1_795_521_600.0  # 24 November 2026, 12:00 UTC


def origin(zone: str = "UTC") -> Origin:
    return Origin("stadt", "quelle", RECEIVED_S, Clock(ZoneInfo(zone)))


def read(name: str, text: str, at: Origin | None = None) -> Event:
    (event,) = load_parser(name).parse(text, at or origin())
    return event


def test_iis_reads_the_columns_that_its_header_states() -> None:
    at = origin()
    line = "2026-11-24 05:00:01 10.20.4.31 7 GET /akte 200 portal.musterstadt.example a.krueger"
    read("iis", "#Fields: date time c-ip time-taken cs-method cs-uri-stem sc-status cs-host cs-username", at)
    event = read("iis", line, at)
    assert (event.source_ip, event.user_name, event.http_response_status_code) == ("10.20.4.31", "a.krueger", 200)
    assert event.fields["url.domain"] == "portal.musterstadt.example"
    assert event.fields["event.duration"] == 7_000_000


def test_iis_header_of_one_source_does_not_serve_another() -> None:
    one, other = origin(), origin()
    read("iis", "#Fields: date time c-ip cs-username s-ip cs-method cs-uri-stem sc-status", one)
    line = "2026-11-24 05:00:01 10.20.4.31 a.krueger 192.0.2.80 GET /akte 200"
    assert read("iis", line, one).user_name == "a.krueger"
    assert read("iis", line, other).user_name is None


def test_iis_line_that_its_header_cannot_mean_is_read_by_its_shape() -> None:
    at = origin()
    read(
        "iis", "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip sc-status x y z", at
    )
    event = read("iis", "2026-11-24 05:00:01 203.0.113.66 51514 192.0.2.80 443 HTTP/1.1 GET /x 400 - URL -", at)
    assert event.event_dataset == "iis.error"
    assert (event.source_ip, event.source_port, event.http_response_status_code) == ("203.0.113.66", 51514, 400)


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin"])
def test_iis_times_are_utc_wherever_the_server_stands(zone: str) -> None:
    event = read("iis", "2026-11-24 05:00:01 192.0.2.80 GET / - 443 - 10.20.4.31 - - 200 0 0 46", origin(zone))
    assert event.timestamp == 1_795_496_401.0


@pytest.mark.parametrize(
    ("between", "expected"),
    [
        ("Mozilla/5.0 200 0 0 15", {"user_agent.original": "Mozilla/5.0"}),
        ("Mozilla/5.0 https://a.example/ 200 0 0 15", {"http.request.referrer": "https://a.example/"}),
        ("Mozilla/5.0 x=1 https://a.example/ 200 0 0 15", {"iis.access.cookie": "x=1"}),
        ("Mozilla/5.0 x=1 https://a.example/ b.example 200 0 0 15", {"url.domain": "b.example"}),
        ("HTTP/2.0 Mozilla/5.0 - 200 0 0 911 512 15", {"http.response.bytes": 911, "http.request.bytes": 512}),
        ("Mozilla/5.0 - 200", {"user_agent.original": "Mozilla/5.0"}),
    ],
)
def test_iis_finds_optional_columns_without_a_header(between: str, expected: dict[str, object]) -> None:
    event = read("iis", f"2026-11-24 05:00:01 192.0.2.80 GET /akte - 443 - 10.20.4.31 {between}")
    assert event.http_response_status_code == 200
    assert event.source_ip == "10.20.4.31"
    assert {key: event.fields.get(key) for key in expected} == expected


def test_exchange_reads_the_columns_that_its_header_states() -> None:
    at = origin()
    read("exchange", "#Fields: date-time,session-id,local-endpoint,remote-endpoint,event,data", at)
    event = read(
        "exchange", "2026-11-24T05:00:01.1Z,08DA,10.20.5.20:25,203.0.113.66:53722,>,535 5.7.3 Authentication", at
    )
    assert event.event_category == ("authentication",)
    assert (event.event_outcome, event.source_ip, event.source_port) == ("failure", "203.0.113.66", 53722)


def test_exchange_mail_text_with_commas_and_quotes_stays_one_column() -> None:
    line = (
        "2026-11-24T05:00:02.003Z,10.20.5.30,EX-02,,EX-02,,,SMTP,RECEIVE,1,<a@b>,x@musterstadt.example,,10,1,,,"
        '"Bitte, ""dringend"", lesen",y@example.org,y@example.org,,Incoming,,198.51.100.23,,'
    )
    event = read("exchange", line)
    assert event.message == 'Bitte, "dringend", lesen'
    assert event.source_ip == "198.51.100.23"


def test_dovecot_user_cannot_name_another_address() -> None:
    line = (
        "Nov 24 06:00:03 mail-01 dovecot: imap-login: Disconnected (auth failed, 1 attempts in 6 secs): "
        "user=<x>, rip=192.0.2.1, lip=192.0.2.2>, method=PLAIN, rip=203.0.113.66, lip=192.0.2.25, TLS, session=<a>"
    )
    event = read("dovecot", line)
    assert (event.source_ip, event.destination_ip) == ("203.0.113.66", "192.0.2.25")


def test_postfix_recipient_cannot_name_another_relay() -> None:
    line = (
        "Nov 24 06:00:05 mx-01 postfix/smtp[1]: 7A1B2C3D4E: to=<x@[192.0.2.1]>, relay=mx.example.com[203.0.113.25]:25, "
        "delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (250 ok)"
    )
    event = read("postfix", line)
    assert (event.destination_ip, event.destination_port, event.source_ip) == ("203.0.113.25", 25, None)
    assert event.fields["email.to.address"] == "x@[192.0.2.1]"


@pytest.mark.parametrize(
    ("said", "user", "reason"),
    [
        ("SASL LOGIN authentication failed: UGFzc3dvcmQ6, sasl_username=b.vogel", "b.vogel", "UGFzc3dvcmQ6"),
        ("SASL PLAIN authentication failed:", None, None),
        ("SASL PLAIN authentication failed: Connection lost to authentication server", None, "Connection lost to authentication server"),
        ("SASL LOGIN authentication failed: (reason unavailable), sasl_username=(unavailable)", None, "(reason unavailable)"),
    ],
)  # fmt: skip
def test_postfix_failed_logon_names_the_user_where_postfix_does(
    said: str, user: str | None, reason: str | None
) -> None:
    event = read("postfix", f"Nov 24 06:00:09 mx-01 postfix/smtpd[1]: warning: unknown[203.0.113.66]: {said}")
    assert (event.event_category, event.event_outcome) == (("authentication",), "failure")
    assert (event.user_name, event.source_ip, event.fields.get("event.reason")) == (user, "203.0.113.66", reason)


def test_haproxy_own_time_wins_over_the_envelope() -> None:
    line = (
        "Nov 24 06:00:09 lb-01 haproxy[1]: 10.20.4.31:50112 [24/Nov/2026:06:00:01.120] in~ portal/web-01 "
        '0/0/1/14/15 200 4821 - - ---- 1/1/0/0/0 0/0 "GET /a HTTP/1.1"'
    )
    assert read("haproxy", line, origin("Europe/Berlin")).timestamp == pytest.approx(1_795_496_401.12)


def test_haproxy_quotes_in_a_request_do_not_end_it() -> None:
    line = (
        "10.20.4.31:50112 [24/Nov/2026:06:00:01.120] in~ portal/web-01 0/0/1/14/15 404 1 - - ---- 1/1/0/0/0 0/0 "
        r'"GET /a?x=\"b\" HTTP/1.1"'
    )
    event = read("haproxy", line)
    assert event.url_path == "/a"
    assert event.fields["url.query"] == r"x=\"b\""


def test_haproxy_numbers_too_long_for_anything_are_left_out() -> None:
    line = (
        f"10.20.4.31:50112 [24/Nov/2026:06:00:01.120] in~ portal/web-01 {'9' * 40}/-/+/1/15 200 1 - - ---- "
        f'{"9" * 40}/1/0/0/0 0/0 "GET / HTTP/1.1"'
    )
    event = read("haproxy", line)
    assert event.http_response_status_code == 200
    assert dict(event.fields)["haproxy.connections.active"] is None


@pytest.mark.parametrize(
    ("target", "domain", "port", "path"),
    [
        ("GET http://www.example.org:8080/a/b?c=d", "www.example.org", 8080, "/a/b"),
        ("CONNECT www.example.org:443", "www.example.org", 443, None),
        ("CONNECT [2001:db8::80]:8443", "2001:db8::80", 8443, None),
        ("GET ftp://gast@ftp.example.org/x", "ftp.example.org", None, "/x"),
        ("GET cache_object://localhost/info", "localhost", None, "/info"),
        ("NONE error:transaction-end-before-headers", None, None, None),
    ],
)
def test_squid_takes_the_target_apart(target: str, domain: str | None, port: int | None, path: str | None) -> None:
    event = read("squid", f"1795496401.120 23 10.20.4.31 TCP_MISS/200 18 {target} - HIER_DIRECT/203.0.113.20 text/html")
    assert (event.fields.get("url.domain"), event.destination_port, event.url_path) == (domain, port, path)


def test_modsecurity_value_cannot_pretend_to_be_a_tag() -> None:
    line = (
        "[Tue Nov 24 06:00:06.09 2026] [security2:error] [pid 1] [client 203.0.113.68] ModSecurity: Warning. Match. "
        r'[id "913100"] [msg "Scanner"] [data "x\"] [uri \"/falsch\"] [hostname \"b\"] y"] '
        '[hostname "portal.musterstadt.example"] [uri "/echt"] [unique_id "a"]'
    )
    event = read("modsecurity", line)
    assert (event.url_path, event.fields["url.domain"]) == ("/echt", "portal.musterstadt.example")
    assert (event.message, event.fields["rule.id"]) == ("Scanner", "913100")


def test_modsecurity_request_that_speaks_of_denial_is_not_denied() -> None:
    log = {
        "transaction": {
            "client_ip": "203.0.113.66",
            "time_stamp": "Tue Nov 24 06:00:01 2026",
            "request": {"method": "GET", "uri": "/?q=Access denied with code 403", "headers": {}},
            "response": {"http_code": 200, "headers": {}},
            "messages": [{"message": "m", "details": {"match": "Matched x", "ruleId": "1"}}],
        }
    }
    event = read("modsecurity", json.dumps(log))
    assert (event.event_action, event.event_type, event.event_outcome) == ("matched", ("access",), "success")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("traefik", {"DownstreamStatus": "x", "StartUTC": "9999-99-99T99:99:99Z", "ClientPort": "9" * 40}),
        ("traefik", {"Duration": -1, "RequestPath": 7, "ClientHost": {"a": []}, "ServiceURL": {"Host": {"b": 1}}}),
        ("caddy", {"ts": 1e300, "status": "200", "duration": "1s", "size": -5}),
        ("caddy", {"ts": "gestern", "request": {"uri": 7, "headers": {"User-Agent": []}, "tls": "x"}}),
        ("nextcloud", {"time": "gestern", "level": "x", "message": 7, "user": None, "remoteAddr": []}),
        ("nextcloud", {"time": 7, "message": {"Message": None}, "data": {"a": {"b": 1}}, "url": {}}),
    ],
)
def test_one_bad_value_does_not_hide_the_event(name: str, change: dict[str, object]) -> None:
    logs: dict[str, dict[str, object]] = {
        "traefik": {
            "ClientHost": "198.51.100.23",
            "RequestPath": "/a",
            "DownstreamStatus": 200,
            "RouterName": "a@file",
        },
        "caddy": {"level": "info", "logger": "http.log.access", "msg": "handled request", "request": {"uri": "/a"}},
        "nextcloud": {"reqId": "a", "level": 2, "app": "core", "remoteAddr": "198.51.100.23", "message": "Job failed"},
    }
    event = read(name, json.dumps(logs[name] | change))
    assert event.timestamp == RECEIVED_S
    assert event.event_module == name
    assert dict(event.fields)


@pytest.mark.parametrize(
    ("message", "user", "address", "outcome"),
    [
        ("Login failed: a.krueger (Remote IP: 203.0.113.66)", "a.krueger", "203.0.113.66", "failure"),
        ("Login failed: 'a.krueger' (Remote IP: '203.0.113.66')", "a.krueger", "203.0.113.66", "failure"),
        ("Login failed: a.krueger", "a.krueger", "10.20.0.5", "failure"),
        ('Login successful: "a.krueger"', "a.krueger", "10.20.0.5", "success"),
        ('Bruteforce attempt from "2001:db8::66" detected for action "login".', None, "2001:db8::66", "failure"),
        ("Login failed entirely", None, "10.20.0.5", None),
    ],
)
def test_nextcloud_logon(message: str, user: str | None, address: str, outcome: str | None) -> None:
    log = {"reqId": "a", "level": 2, "app": "core", "remoteAddr": "10.20.0.5", "user": "--", "message": message}
    event = read("nextcloud", json.dumps(log))
    assert (event.user_name, event.source_ip, event.event_outcome) == (user, address, outcome)
    assert (event.event_category == ("authentication",)) == (outcome is not None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("iis", "2026-11-24 05:00:01 ein Satz ohne Anfrage"),
        ("iis", "2026-13-45 05:00:01 192.0.2.80 GET / - 443 - 10.20.4.31 - - 200 0 0 46"),
        ("haproxy", "Nov 24 06:00:01 lb-01 sshd[1]: Accepted password for a from 192.0.2.1 port 1 ssh2"),
        ("squid", "Nov 24 06:00:01 host sshd[1]: Accepted password for a from 192.0.2.1 port 1 ssh2"),
        ("traefik", '{"a":1}'),
        ("caddy", '{"a":1}'),
        ("nextcloud", '{"a":1}'),
        ("modsecurity", '{"a":1}'),
        ("postfix", "Nov 24 06:00:01 host sshd[1]: Accepted password for a from 192.0.2.1 port 1 ssh2"),
        ("dovecot", "Nov 24 06:00:01 host sshd[1]: Accepted password for a from 192.0.2.1 port 1 ssh2"),
        ("exchange", "2026-11-24T05:00:02.003Z,a,b"),
    ],
)
def test_line_of_another_format_is_refused_with_a_reason(name: str, text: str) -> None:
    with pytest.raises(ParseError, match=r"^no "):
        load_parser(name).parse(text, origin())
