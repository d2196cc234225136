"""Log lines by HTTP POST: text or JSON, gzip allowed, bearer tokens that decide tenant and source.

`200 {"lines": n}` is said only when the lines are durable, so a sender that repeats on anything else loses nothing.
"""

import asyncio
import hashlib
import hmac
import os
import socket
import ssl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from connectors.inlet import Inlet, SourceConfig

log = structlog.get_logger()

_TEXT = frozenset({"", "text/plain", "application/octet-stream"})
_NDJSON = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})
_JSON = "application/json"
_TOKEN_BYTES_MIN = 16
_HEADER_BYTES_MAX = 16_384


class Token(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret and what it may write; it stands in the environment or in a file, never in the configuration."""

    token_env: str = ""
    token_file: str = ""
    tenant: str = ""  # empty: the source's
    source: str = ""

    def __post_init__(self) -> None:
        if bool(self.token_env) == bool(self.token_file):
            raise ValueError("a token needs either token_env or token_file")


class Config(SourceConfig, frozen=True, kw_only=True):
    host: str = "127.0.0.1"
    port: int = 8514
    tokens: tuple[Token, ...]
    cert_file: str = ""  # with key_file: TLS
    key_file: str = ""
    client_ca_file: str = ""
    body_bytes_max: int = 8_388_608  # after decompression
    lines_max: int = 100_000  # of one request
    requests_max: int = 32  # read at the same time; more are answered 429
    connections_max: int = 256
    body_s: float = 30.0  # to send the body
    commit_s: float = 10.0  # to become durable, then 503
    retry_after_s: int = 5
    tokens_reload_s: float = 60.0  # so that a token is renewed without a restart

    def __post_init__(self) -> None:
        if not self.tokens:
            raise ValueError("tokens: at least one is needed")


class Source:
    def __init__(self, config: Config, inlet: Inlet) -> None:
        self._config = config
        self._inlet = inlet
        self._tokens: list[tuple[bytes, str, str]] = []
        self._reading = 0
        self.started = asyncio.Event()
        self.address: tuple[str, int] = ("", 0)

    async def run(self) -> None:
        config = self._config
        self._tokens = _load(config)
        family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        with socket.create_server((config.host, config.port), family=family, backlog=config.connections_max) as sock:
            host, port = sock.getsockname()[:2]
            self.address = (host, port)
            server = _Server(_settings(self._app(), config))
            serving = asyncio.create_task(server.serve(sockets=[sock]))
            try:
                self.started.set()
                log.info("http source listens", source=config.source, host=host, port=port)
                while not serving.done():
                    await asyncio.wait([serving], timeout=config.tokens_reload_s)
                    self._reload()
                serving.result()
                raise OSError("the HTTP server has ended")
            finally:
                server.should_exit = True
                await serving

    def _app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/ingest", self._ingest, methods=["POST"]),
                Route("/ingest/{tenant}/{source}", self._ingest, methods=["POST"]),
            ]
        )

    def _reload(self) -> None:
        try:
            self._tokens = _load(self._config)
        except OSError as error:
            log.warning("tokens cannot be read again, the old ones stay", error=str(error))

    async def _ingest(self, request: Request) -> Response:
        whose = self._allowed(request.headers.get("authorization", ""))
        if whose is None:
            return self._refuse(401, "bearer token needed", {"WWW-Authenticate": "Bearer"})
        asked = request.path_params
        if asked and whose != (asked["tenant"], asked["source"]):
            return self._refuse(403, "this token may not write there")
        again = {"Retry-After": str(self._config.retry_after_s)}
        if self._inlet.down:
            return self._refuse(503, "the broker is down", again)
        if self._inlet.behind or self._reading >= self._config.requests_max:
            return self._refuse(429, "too much under way", again)
        self._reading += 1
        try:
            async with asyncio.timeout(self._config.body_s):
                body = await self._body(request)
            lines = _lines(body, _content_type(request), self._config.lines_max)
        except _Refusal as refusal:
            return self._refuse(refusal.status, str(refusal))
        except TimeoutError:
            return self._refuse(408, "the body took too long", {"Connection": "close"})
        except ClientDisconnect:
            return self._refuse(400, "the body is incomplete")
        finally:
            self._reading -= 1
        try:
            async with asyncio.timeout(self._config.commit_s):
                await self._inlet.put(self._config, lines, tenant=whose[0], source=whose[1])
        except TimeoutError:
            return self._refuse(503, "not durable in time", again)
        self._inlet.counts.add("lines", len(lines))
        self._inlet.counts.add("bytes", len(body))
        return JSONResponse({"lines": len(lines)})

    def _allowed(self, authorization: str) -> tuple[str, str] | None:
        """Tenant and source of a token. Every token is compared, so the time tells nothing."""
        scheme, _, secret = authorization.partition(" ")
        digest = _digest(secret.strip().encode())
        found = None
        for known, tenant, source in self._tokens:
            if hmac.compare_digest(known, digest):
                found = (tenant, source)
        return found if scheme.lower() == "bearer" else None

    async def _body(self, request: Request) -> bytes:
        limit = self._config.body_bytes_max
        if int(request.headers.get("content-length", "0")) > limit:  # the server has checked that it is a number
            raise _Refusal(413, f"more than {limit} bytes")
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", "gzip"}:
            raise _Refusal(415, "content-encoding: identity or gzip")
        inflate = Inflate(limit) if encoding == "gzip" else None
        parts: list[bytes] = []
        size = 0
        async for chunk in request.stream():
            part = inflate.feed(chunk) if inflate else chunk
            size += len(part)
            if size > limit:
                raise _Refusal(413, f"more than {limit} bytes")
            parts.append(part)
        if inflate and not inflate.complete:
            raise _Refusal(400, "gzip: incomplete")
        return b"".join(parts)

    def _refuse(self, status: int, reason: str, headers: dict[str, str] | None = None) -> Response:
        self._inlet.counts.add(f"http_{status}")
        return JSONResponse({"error": reason}, status_code=status, headers=headers)


class _Refusal(Exception):  # noqa: N818 -- an answer, not a fault of ours
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Inflate:
    """Gzip, member after member, never more than `bytes_max` out in all (a zip bomb ends in 413)."""

    def __init__(self, bytes_max: int) -> None:
        self._left = bytes_max
        self._member = zlib.decompressobj(wbits=31)
        self._started = False

    @property
    def complete(self) -> bool:
        return not self._started or self._member.eof

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            self._started = True
            try:
                part = self._member.decompress(data, self._left + 1)
            except zlib.error:
                raise _Refusal(400, "gzip: damaged") from None
            self._left -= len(part)
            if self._left < 0:
                raise _Refusal(413, "too large after decompression")
            out.append(part)
            data = self._member.unconsumed_tail or self._member.unused_data
        return b"".join(out)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals belong to the process, not to one of its sources."""
        yield


def _settings(app: Starlette, config: Config) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        http="h11",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=config.connections_max,
        h11_max_incomplete_event_size=_HEADER_BYTES_MAX,
        timeout_graceful_shutdown=int(config.commit_s) + 1,
        ssl_certfile=config.cert_file or None,
        ssl_keyfile=config.key_file or None,
        ssl_ca_certs=config.client_ca_file or None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if config.client_ca_file else ssl.CERT_NONE,
    )


def _load(config: Config) -> list[tuple[bytes, str, str]]:
    """Digest, tenant and source of every token; raises OSError naming the place, never the secret."""
    tokens = []
    for token in config.tokens:
        if token.token_file:
            secret = Path(token.token_file).read_bytes().strip()
        else:
            secret = os.environb.get(token.token_env.encode(), b"").strip()
        if len(secret) < _TOKEN_BYTES_MIN:
            where = token.token_file or token.token_env
            raise OSError(f"token in {where!r} is missing or shorter than {_TOKEN_BYTES_MIN} bytes")
        tokens.append((_digest(secret), token.tenant or config.tenant, token.source or config.source))
    return tokens


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _content_type(request: Request) -> str:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in _TEXT or kind in _NDJSON:
        return ""
    if kind == _JSON:
        return kind
    raise _Refusal(415, "content-type: text/plain, application/x-ndjson or application/json")


def _lines(body: bytes, kind: str, lines_max: int) -> list[bytes]:
    """The lines of a body: of a JSON array its elements (strings as their text), else what stands between newlines."""
    if body.count(b"\n") >= lines_max * 2:
        raise _Refusal(413, f"more than {lines_max} lines")
    if kind == _JSON and body.lstrip()[:1] in {b"[", b"{"} and (elements := _elements(body)) is not None:
        lines = elements
    else:
        lines = [line for part in body.split(b"\n") if (line := part.removesuffix(b"\r"))]
    if len(lines) > lines_max:
        raise _Refusal(413, f"more than {lines_max} lines")
    return lines


def _elements(body: bytes) -> list[bytes] | None:
    """None for what is no single JSON value: many senders call newline-delimited JSON `application/json` too."""
    array = body.lstrip()[:1] == b"["
    try:
        raws = (
            msgspec.json.decode(body, type=list[msgspec.Raw])
            if array
            else [msgspec.json.decode(body, type=msgspec.Raw)]
        )
        return [line for raw in raws if (line := _element(bytes(raw)))]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        if array:
            raise _Refusal(400, "this is not JSON") from None
        return None


def _element(raw: bytes) -> bytes:
    raw = raw.strip()
    return msgspec.json.decode(raw, type=str).encode() if raw[:1] == b'"' else raw
