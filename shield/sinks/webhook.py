"""Alerts as signed HTTP requests after Standard Webhooks 1.0 (https://www.standardwebhooks.com).

One request per attempt, the same `webhook-id` for every attempt of one revision of one alert, so that a receiver which
remembers ids sees each once. Redirects are never followed, and with `allow` only addresses in the given networks are
contacted: the address that was checked is the one that is connected to.
"""

import base64
import binascii
import hashlib
import hmac
import socket
import ssl
import time
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address, ip_network
from typing import Any

import httpx
import msgspec

from connectors.events import isoformat
from shield.sinks import Delivered, Disabled, Outcome, Rejected, Retry, Secret, SinkConfig, secret

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the marker that the standard puts before a secret
_KEY_BYTES_MIN, _KEY_BYTES_MAX = 24, 64  # of the decoded key, from the standard
_RETRIED = frozenset({408, 425, 429})
_GONE = 410
_CONNECT_S_MAX = 5.0  # one attempt must stay within the broker's session timeout, connecting included
_RESPONSE_BYTES_MAX = 65_536  # read of an answer so that its connection can be used again; nothing in it is used


class Config(SinkConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    secret_env: str | None = None  # environment variable that holds `whsec_<base64 of 24-64 bytes>`
    secret_file: str | None = None
    rotate_secret_env: str | None = None  # a second key that signs too while receivers change over
    rotate_secret_file: str | None = None
    timeout_s: float = 15.0
    ca_file: str | None = None  # trusted instead of the system's authorities
    client_cert_file: str | None = None
    client_key_file: str | None = None
    allow: tuple[str, ...] = ()  # networks that may be contacted, such as 10.1.0.0/16; empty: no limit
    proxy: str | None = None
    cleartext: bool = False  # http:// to another machine; a signature proves the sender but hides nothing

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            url = httpx.URL(self.url)
        except httpx.InvalidURL:
            raise ValueError("`url` is no URL") from None
        if url.scheme not in {"http", "https"} or not url.host:
            raise ValueError("`url` must be an https:// address")
        if any(not 0 < len(label) < 64 for label in url.raw_host.decode("ascii").rstrip(".").split(".")):
            raise ValueError("`url` names no host")
        if url.userinfo:
            raise ValueError("`url` must not hold a password")
        if url.scheme == "http" and not self.cleartext and not _is_loopback(url.host):
            raise ValueError(
                "`url` must be https://, or `cleartext: true` must accept that everyone on the way can read it"
            )
        if (self.secret_env is None) == (self.secret_file is None):
            raise ValueError("one of `secret_env` and `secret_file` must name the signing key")
        if self.rotate_secret_env is not None and self.rotate_secret_file is not None:
            raise ValueError("only one of `rotate_secret_env` and `rotate_secret_file` may be given")
        if self.client_key_file is not None and self.client_cert_file is None:
            raise ValueError("`client_key_file` needs `client_cert_file`")
        if not self.timeout_s > 0:
            raise ValueError("`timeout_s` must be above 0")
        if self.allow and self.proxy is not None:
            raise ValueError("`allow` cannot be kept through a `proxy`, which resolves the name itself")
        networks = [ip_network(network) for network in self.allow]
        address = _literal(url.host)
        if networks and address is not None and not any(address in network for network in networks):
            raise ValueError("the address in `url` is not in `allow`")


class Sink:
    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        self._url = httpx.URL(config.url)
        self._networks = [ip_network(network) for network in config.allow]
        self._keys = [_key(secret(environ, variable=config.secret_env, file=config.secret_file))]
        if config.rotate_secret_env is not None or config.rotate_secret_file is not None:
            self._keys.append(_key(secret(environ, variable=config.rotate_secret_env, file=config.rotate_secret_file)))
        self._timeout_s = config.timeout_s
        self._client = httpx.Client(
            verify=_tls(config),
            timeout=httpx.Timeout(config.timeout_s, connect=min(config.timeout_s, _CONNECT_S_MAX)),
            follow_redirects=False,
            trust_env=False,  # proxies, authorities and .netrc come from the options alone
            proxy=config.proxy,
            headers={"user-agent": "stadtschild", "content-type": "application/json"},
        )

    def send(self, alert: Mapping[str, Any], *, key: str, kind: str, attempt_time: float) -> Outcome:
        body = _body(alert, kind, attempt_time)
        identity = webhook_id(key)
        stamp = str(int(attempt_time))
        headers = {
            "webhook-id": identity,
            "webhook-timestamp": stamp,
            "webhook-signature": " ".join(sign(k, identity, stamp, body) for k in self._keys),
        }
        deadline = time.monotonic() + self._timeout_s
        try:
            url, extensions = self._target()
            if url.host != self._url.host:
                headers["host"] = self._url.netloc.decode("ascii")
            with self._client.stream("POST", url, content=body, headers=headers, extensions=extensions) as response:
                _drain(response, deadline)
                return _judge(response, attempt_time)
        except _NotAllowed as error:
            return Retry(str(error))
        except socket.gaierror:
            return Retry("the receiver's name cannot be resolved")
        except httpx.TimeoutException:
            return Retry(f"no answer within {self._timeout_s:g} s")
        except httpx.ConnectError as error:
            return Retry(f"cannot connect: {str(error)[:120]}")
        except httpx.TransportError as error:  # its text may quote what was sent: only the kind is told
            return Retry(f"connection failed: {type(error).__name__}")

    def close(self) -> None:
        self._client.close()

    def __repr__(self) -> str:
        return f"webhook.Sink({self._url.host})"

    def _target(self) -> tuple[httpx.URL, dict[str, Any]]:
        """Where to connect. With `allow`: the resolved and checked address itself, so that a second look-up (DNS
        rebinding) cannot lead elsewhere; the certificate is still checked against the name.
        """
        host = self._url.raw_host.decode("ascii")
        if not self._networks or _literal(host) is not None:
            return self._url, {}
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        for address in found:
            if any(ip_address(address.partition("%")[0]) in network for network in self._networks):
                return self._url.copy_with(host=address), {"sni_hostname": host}
        raise _NotAllowed("the receiver's name resolves to an address outside `allow`")


def _drain(response: httpx.Response, deadline: float) -> None:
    """Read a short answer, so that the connection can be used again; a long or slow one must not hold the queue."""
    size = 0
    try:
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > _RESPONSE_BYTES_MAX or time.monotonic() > deadline:
                return
    except httpx.TransportError:
        return  # the status has arrived: that is the answer


class _NotAllowed(Exception):  # noqa: N818 - an outcome of one look-up, caught in `send`
    pass


def webhook_id(key: str) -> str:
    """The `webhook-id` of an idempotency key: the same for each attempt, and without characters that headers forbid."""
    return "msg_" + hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]


def sign(key: bytes, identity: str, stamp: str, body: bytes) -> str:
    """The `v1` signature of Standard Webhooks: HMAC-SHA256 over `id.timestamp.body`."""
    mac = hmac.new(key, b".".join((identity.encode(), stamp.encode(), body)), hashlib.sha256)
    return "v1," + base64.b64encode(mac.digest()).decode()


def _body(alert: Mapping[str, Any], kind: str, attempt_time: float) -> bytes:
    stated = alert.get("@timestamp")
    return msgspec.json.encode(
        {"type": kind, "timestamp": stated if isinstance(stated, str) else isoformat(attempt_time), "data": alert}
    )


def _judge(response: httpx.Response, now: float) -> Outcome:
    status = response.status_code
    if 200 <= status < 300:
        return Delivered()
    reason = f"HTTP {status}"
    if status == _GONE:
        return Disabled(f"{reason}: the receiver wants no more")
    if status in _RETRIED or status >= 500:
        return Retry(reason, retry_after(response.headers.get("retry-after"), now))
    return Rejected(f"{reason}: redirects are not followed" if 300 <= status < 400 else reason)


def retry_after(text: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110, 10.2.3: seconds or an HTTP date), or None."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        at = parsedate_to_datetime(text[:64])
    except (ValueError, OverflowError):
        return None
    return max(0.0, (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now)


def _key(given: Secret) -> bytes:
    text = given.reveal()
    if not text.startswith(_SECRET_PREFIX):
        raise ValueError(f"a webhook secret begins with {_SECRET_PREFIX}")
    try:
        key = base64.b64decode(text.removeprefix(_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"a webhook secret is base64 after {_SECRET_PREFIX}") from None
    if not _KEY_BYTES_MIN <= len(key) <= _KEY_BYTES_MAX:
        raise ValueError(f"a webhook secret has {_KEY_BYTES_MIN} to {_KEY_BYTES_MAX} bytes")
    return key


def _tls(config: Config) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.ca_file)
        if config.client_cert_file is not None:
            context.load_cert_chain(config.client_cert_file, config.client_key_file)
    except OSError as error:  # ssl.SSLError too
        raise ValueError(
            f"`ca_file`, `client_cert_file` or `client_key_file` cannot be used: {error.strerror}"
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _literal(host: str) -> Any:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _is_loopback(host: str) -> bool:
    address = _literal(host)
    return host == "localhost" if address is None else bool(address.is_loopback)
