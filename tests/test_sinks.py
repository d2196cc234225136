import base64
import datetime as dt
import ipaddress
import logging
import os
import socket
import ssl
import time
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from receiver import Receiver, Request, receiving
from standardwebhooks import Webhook

from shield.sinks import Delivered, Disabled, Outcome, Rejected, Retry, Secret, ndjson, open_sink, secret, webhook

KEY = "whsec_" + base64.b64encode(b"first key of thirty-two bytes ok").decode()
NEXT_KEY = "whsec_" + base64.b64encode(b"second key of thirty-two bytes k").decode()
ENVIRON = {"HOOK_KEY": KEY, "HOOK_KEY_NEXT": NEXT_KEY}
ALERT = {
    "@timestamp": "2026-01-14T03:12:09.113Z",
    "event": {"kind": "alert", "reason": "Konto anna: 190 Fehlversuche in 10 min (üblich 0-3)"},
    "rule": {"id": "logon_failures"},
    "shield": {"revision": 1},
}


def hook(receiver: Receiver, **options: Any) -> webhook.Sink:
    return webhook.Sink(webhook.Config(name="siem", url=receiver.url, secret_env="HOOK_KEY", **options), ENVIRON)


def once(sink: webhook.Sink, at: float | None = None, key: str = "a1.1") -> Outcome:
    try:
        return sink.send(ALERT, key=key, kind="alert.created", attempt_time=time.time() if at is None else at)
    finally:
        sink.close()


def test_webhook_verifies_with_the_standard_library_of_the_standard() -> None:
    with receiving() as receiver:
        assert once(hook(receiver)) == Delivered()
    (request,) = receiver.requests
    verified = Webhook(KEY).verify(request.body.decode(), dict(request.headers))
    assert verified == {"type": "alert.created", "timestamp": ALERT["@timestamp"], "data": ALERT}
    assert request.headers["content-type"] == "application/json"
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(NEXT_KEY).verify(request.body.decode(), dict(request.headers))
    with pytest.raises(Exception, match="No matching signature"):
        Webhook(KEY).verify(request.body.decode().replace("anna", "otto"), dict(request.headers))


def test_webhook_signs_with_both_keys_during_rotation() -> None:
    with receiving() as receiver:
        once(hook(receiver, rotate_secret_env="HOOK_KEY_NEXT"))
    (request,) = receiver.requests
    for key in (KEY, NEXT_KEY):
        Webhook(key).verify(request.body.decode(), dict(request.headers))


def test_webhook_id_is_the_same_for_each_attempt_and_the_timestamp_is_not() -> None:
    with receiving(lambda _: (503, {})) as receiver:
        sink = hook(receiver)
        now = time.time()
        for key, at in (("a1.1", now), ("a1.1", now + 90), ("a1.2", now + 90)):
            sink.send(ALERT, key=key, kind="alert.created", attempt_time=at)
        sink.close()
    first, again, other = (request.headers for request in receiver.requests)
    assert first["webhook-id"] == again["webhook-id"] != other["webhook-id"]
    assert first["webhook-id"].startswith("msg_")
    assert int(again["webhook-timestamp"]) - int(first["webhook-timestamp"]) in {89, 90, 91}
    assert receiver.requests[0].body == receiver.requests[1].body


@pytest.mark.parametrize(
    ("status", "headers", "outcome"),
    [
        (200, {}, Delivered()),
        (202, {}, Delivered()),
        (408, {}, Retry("HTTP 408")),
        (425, {}, Retry("HTTP 425")),
        (429, {"Retry-After": "17"}, Retry("HTTP 429", 17.0)),
        (429, {"Retry-After": "soon"}, Retry("HTTP 429")),
        (429, {"Retry-After": "-5"}, Retry("HTTP 429")),
        (500, {}, Retry("HTTP 500")),
        (503, {"Retry-After": "3"}, Retry("HTTP 503", 3.0)),
        (302, {"Location": "/elsewhere"}, Rejected("HTTP 302: redirects are not followed")),
        (307, {"Location": "/elsewhere"}, Rejected("HTTP 307: redirects are not followed")),
        (400, {}, Rejected("HTTP 400")),
        (401, {}, Rejected("HTTP 401")),
        (404, {}, Rejected("HTTP 404")),
        (410, {}, Disabled("HTTP 410: the receiver wants no more")),
        (422, {}, Rejected("HTTP 422")),
    ],
)
def test_webhook_reads_the_status(status: int, headers: dict[str, str], outcome: Outcome) -> None:
    with receiving(lambda _: (status, headers)) as receiver:
        assert once(hook(receiver)) == outcome
        assert len(receiver.requests) == 1  # nothing was followed


def test_retry_after_takes_seconds_and_dates_and_survives_anything_else() -> None:
    now = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    later = format_datetime(now + dt.timedelta(seconds=90), usegmt=True)
    earlier = format_datetime(now - dt.timedelta(days=1), usegmt=True)
    assert webhook.retry_after(later, now.timestamp()) == 90
    assert webhook.retry_after(earlier, now.timestamp()) == 0
    assert webhook.retry_after(" 5 ", 0) == 5
    for hostile in (None, "", "²", "1e9", "9" * 5000, "Mon, 99 Foo 2026", "\x00", "Sun, 01 Mar 99999 12:00:00 GMT"):
        assert webhook.retry_after(hostile, 0) is None


def test_webhook_timeout_hang_up_and_refusal_are_retried() -> None:
    def slow(_: Request) -> tuple[int, dict[str, str]]:
        time.sleep(0.4)
        return 200, {}

    with receiving(slow) as receiver:
        assert once(hook(receiver, timeout_s=0.1)) == Retry("no answer within 0.1 s")
    with receiving(lambda _: None) as receiver:
        assert once(hook(receiver)) == Retry("connection failed: RemoteProtocolError")
    outcome = once(hook(receiver))  # nobody listens there any more
    assert isinstance(outcome, Retry)
    assert outcome.reason.startswith("cannot connect")


def test_webhook_does_not_wait_for_an_endless_answer() -> None:
    with receiving(lambda _: (200, {"Content-Length": "1000000"})) as receiver:  # of which two bytes come
        assert once(hook(receiver, timeout_s=0.2)) == Delivered()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An authority, and certificates by it for the server and a client."""
    folder = tmp_path_factory.mktemp("tls")
    now = dt.datetime.now(dt.UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test authority")])
    made: dict[str, Path] = {}
    for name in ("authority", "server", "client"):
        key = authority_key if name == "authority" else ec.generate_private_key(ec.SECP256R1())
        subject = issuer if name == "authority" else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        made[name] = folder / f"{name}.pem"
        made[name].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        made[f"{name}_key"] = folder / f"{name}.key"
        made[f"{name}_key"].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return made


def server_tls(authority: dict[str, Path], *, client: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority["server"], authority["server_key"])
    if client:
        context.load_verify_locations(authority["authority"])
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_webhook_trusts_its_own_authority_only(authority: dict[str, Path]) -> None:
    with receiving(tls=server_tls(authority)) as receiver:
        outcome = once(hook(receiver))
        assert isinstance(outcome, Retry)
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
        assert once(hook(receiver, ca_file=str(authority["authority"]))) == Delivered()
        assert len(receiver.requests) == 1


def test_webhook_shows_its_client_certificate(authority: dict[str, Path]) -> None:
    with receiving(tls=server_tls(authority, client=True)) as receiver:
        assert isinstance(once(hook(receiver, ca_file=str(authority["authority"]))), Retry)
        mutual = hook(
            receiver,
            ca_file=str(authority["authority"]),
            client_cert_file=str(authority["client"]),
            client_key_file=str(authority["client_key"]),
        )
        assert once(mutual) == Delivered()


def test_webhook_connects_to_the_checked_address_and_still_checks_the_name(
    authority: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = ["127.0.0.1"]
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host in {"localhost", "siem.example"}:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]
        return real(host, port, *rest, **more)

    def send(name: str, *allow: str) -> Outcome:
        options: dict[str, Any] = {"secret_env": "HOOK_KEY", "ca_file": str(authority["authority"]), "allow": allow}
        config = webhook.Config(name="siem", url=f"https://{name}:{receiver.port}/hook", **options)
        return once(webhook.Sink(config, ENVIRON))

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with receiving(tls=server_tls(authority)) as receiver:
        assert send("localhost", "127.0.0.0/8") == Delivered()
        assert asked == ["localhost"]  # looked up once: what was checked is what was connected to
        assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"
        outside = Retry("the receiver's name resolves to an address outside `allow`")
        assert send("localhost", "10.0.0.0/8", "2001:db8::/32") == outside
        found[:] = ["169.254.169.254"]
        assert send("localhost", "127.0.0.0/8") == outside
        found[:] = ["127.0.0.1"]
        outcome = send("siem.example", "127.0.0.0/8")  # the right address with a certificate for another name
        assert isinstance(outcome, Retry)
        assert "CERTIFICATE_VERIFY_FAILED" in outcome.reason
        assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"url": "ftp://siem.example/"}, "https"),
        ({"url": "siem.example"}, "https"),
        ({"url": "http://siem.example/"}, "cleartext"),
        ({"url": "https://user:pw@siem.example/"}, "password"),
        ({"url": f"https://{'a' * 64}.example/"}, "URL|host"),
        ({"secret_env": None}, "secret_env"),
        ({"secret_file": "x"}, "secret_env"),
        ({"rotate_secret_env": "A", "rotate_secret_file": "b"}, "rotate_secret"),
        ({"client_key_file": "x"}, "client_cert_file"),
        ({"timeout_s": 0.0}, "timeout_s"),
        ({"allow": ("10.0.0.0/8",), "proxy": "http://proxy.example:3128"}, "allow"),
        ({"allow": ("10.0.0.1/8",)}, "host bits"),
        ({"allow": ("10.0.0.0/8",), "url": "https://192.0.2.7/"}, "not in `allow`"),
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"parked_max": 0}, "parked_max"),
    ],
)
def test_webhook_refuses_wrong_options(options: dict[str, Any], complaint: str) -> None:
    good: dict[str, Any] = {"name": "siem", "url": "https://siem.example/hook", "secret_env": "HOOK_KEY"}
    webhook.Config(**good)
    with pytest.raises(ValueError, match=complaint):
        webhook.Config(**(good | options))


def test_unknown_options_are_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="verify"):
        msgspec.convert(
            {"name": "siem", "url": "https://siem.example", "secret_env": "K", "verify": False}, webhook.Config
        )


@pytest.mark.parametrize(
    "text",
    ["", "hunter2-hunter2", "whsec_", "whsec_!!!", "whsec_c2hvcnQ=", "whsec_" + base64.b64encode(b"x" * 65).decode()],
)
def test_bad_secrets_are_refused_without_being_told(text: str) -> None:
    config = webhook.Config(name="siem", url="https://siem.example/hook", secret_env="HOOK_KEY")
    with pytest.raises(ValueError, match=r"secret") as caught:
        webhook.Sink(config, {"HOOK_KEY": text})
    assert not text or text.removeprefix("whsec_") == "" or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secrets_show_nowhere(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    caplog.set_level(logging.DEBUG)
    with receiving(lambda _: None) as receiver:
        config = webhook.Config(name="siem", url=receiver.url, secret_file=str(file), rotate_secret_env="HOOK_KEY_NEXT")
        sink = webhook.Sink(config, ENVIRON)
        outcome = once(sink)
    shown = f"{config!r} {sink!r} {outcome!r} {Secret(KEY)!r} {Secret(KEY)!s} {caplog.text}"
    for hidden in (KEY, NEXT_KEY):
        assert hidden not in shown
        assert hidden.removeprefix("whsec_") not in shown
        assert str(base64.b64decode(hidden.removeprefix("whsec_"))) not in shown


def test_secret_files_are_read_within_bounds(tmp_path: Path) -> None:
    file = tmp_path / "key"
    with pytest.raises(ValueError, match="cannot be read"):
        secret({}, file=str(file))
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        secret({}, file=str(file))
    file.write_bytes(b"x" * 10_000)
    with pytest.raises(ValueError, match="larger"):
        secret({}, file=str(file))
    file.write_text(f"  {KEY}\n")
    assert secret({}, file=str(file)).reveal() == KEY


def lines(path: Path) -> list[Any]:
    return [msgspec.json.decode(line) for line in path.read_bytes().split(b"\n") if line]


def write(sink: ndjson.Sink, number: int) -> Outcome:
    return sink.send({"n": number, "text": "zwei\nZeilen"}, key=str(number), kind="alert.created", attempt_time=0.0)


def test_ndjson_appends_one_line_per_alert_and_follows_rotation(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    sink = open_sink(ndjson.Config(name="file", path=str(path)), {})
    assert isinstance(sink, ndjson.Sink)
    assert [write(sink, n) for n in range(3)] == [Delivered()] * 3
    assert path.read_bytes().count(b"\n") == 3
    path.rename(tmp_path / "alerts.1")
    write(sink, 3)
    sink.close()
    assert [line["n"] for line in lines(tmp_path / "alerts.1")] == [0, 1, 2]
    assert [line["n"] for line in lines(path)] == [3]
    assert path.stat().st_mode & 0o007 == 0


def test_ndjson_closes_off_a_line_torn_by_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "alerts.ndjson"
    path.write_bytes(b'{"n": 0}\n{"n": 1, "te')
    sink = ndjson.Sink(ndjson.Config(name="file", path=str(path)), {})
    write(sink, 1)
    sink.close()
    assert path.read_bytes().split(b"\n")[1] == b'{"n": 1, "te'
    assert msgspec.json.decode(path.read_bytes().split(b"\n")[2])["n"] == 1


def test_ndjson_closes_off_a_line_torn_by_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "alerts.ndjson"
    sink = ndjson.Sink(ndjson.Config(name="file", path=str(path)), {})
    real = os.write
    room = [10]

    def full(file: int, data: Any) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        written = real(file, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full)
    assert write(sink, 1) == Retry("cannot write: No space left on device")
    assert write(sink, 1) == Retry("cannot write: No space left on device")
    room[0] = 10_000
    assert write(sink, 1) == Delivered()
    assert write(sink, 2) == Delivered()
    sink.close()
    torn, *whole = path.read_bytes().splitlines()
    assert len(torn) == 10
    assert [msgspec.json.decode(line)["n"] for line in whole] == [1, 2]


def test_ndjson_without_its_folder_is_tried_again(tmp_path: Path) -> None:
    sink = ndjson.Sink(ndjson.Config(name="file", path=str(tmp_path / "later" / "alerts.ndjson")), {})
    assert write(sink, 1) == Retry("cannot write: No such file or directory")
    (tmp_path / "later").mkdir()
    assert write(sink, 1) == Delivered()
    sink.close()


def test_ndjson_writes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    sink = ndjson.Sink(ndjson.Config(name="out"), {})
    assert write(sink, 7) == Delivered()
    sink.close()
    assert msgspec.json.decode(capfd.readouterr().out)["n"] == 7
