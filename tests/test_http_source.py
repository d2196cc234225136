import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
from intake import broker_at, dead_of, lines_of, running

from connectors.http import Config, Source
from connectors.inlet import Inlet
from shield.broker import Broker
from shield.ingest import Tally

pytestmark = pytest.mark.timeout(60)

NET = "only-for-tests-0123456789"
WEB = "another-for-tests-0123456789"


def bearer(token: str = NET) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def config_of(folder: Path, **options: object) -> Config:
    (folder / "web.token").write_text(WEB + "\n")
    tokens = [
        {"token_env": "NET_TOKEN"},
        {"token_file": str(folder / "web.token"), "tenant": "village", "source": "web"},
    ]
    given = {"tenant": "town", "source": "net", "port": 0, "tokens": tokens, **options}
    return msgspec.convert(given, Config)


@asynccontextmanager
async def serving(broker: Broker, config: Config) -> AsyncIterator[tuple[httpx.AsyncClient, Tally]]:
    made: asyncio.Queue[Source] = asyncio.Queue()

    def use(config: Config, inlet: Inlet) -> Source:
        source = Source(config, inlet)
        made.put_nowait(source)
        return source

    async with running(broker, use, config) as (counts, _):
        source = await made.get()
        await source.started.wait()
        host, port = source.address
        async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
            yield client, counts


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NET_TOKEN", NET)


def test_the_token_decides_tenant_and_source(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)

    async def scene() -> None:
        async with serving(broker, config_of(tmp_path)) as (client, counts):
            answer = await client.post("/ingest", content=b"a\r\n\nb", headers=bearer())
            assert (answer.status_code, answer.json()) == (200, {"lines": 2})
            assert lines_of(broker) == [b"a", b"b"]  # durable when it is said
            assert (await client.post("/ingest/village/web", content=b"c", headers=bearer(WEB))).status_code == 200
            assert (await client.post("/ingest/town/net", content=b"x", headers=bearer(WEB))).status_code == 403
            for headers in ({}, bearer("wrong"), {"Authorization": f"Basic {NET}"}, {"Authorization": NET}):
                answer = await client.post("/ingest", content=b"x", headers=headers)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
            assert (await client.get("/ingest", headers=bearer())).status_code == 405
            assert counts.totals["http_401"] == 4
            assert counts.totals["lines"] == 3

    asyncio.run(scene())
    found = {(r.headers["tenant"], r.headers["source"], r.value) for r in broker.read("raw")}
    assert found == {("town", "net", b"a\nb"), ("village", "web", b"c")}
    broker.close()


BODIES = [
    (
        "application/json",
        b' [{"a": 1}, "<13>text\\u00fc", [1, 2], null]',
        [b'{"a": 1}', "<13>textü".encode(), b"[1, 2]", b"null"],
    ),
    ("application/json; charset=utf-8", b'{"a":\n 1}', [b'{"a":\n 1}']),
    ("application/json", b'{"a":1}\n{"a":2}\n', [b'{"a":1}', b'{"a":2}']),
    ("application/x-ndjson", b'{"a":1}\n{"a":2}', [b'{"a":1}', b'{"a":2}']),
    ("text/plain", b"[not json]", [b"[not json]"]),
    ("application/json", b"[]", []),
]


def test_bodies_become_lines(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)

    async def scene() -> None:
        async with serving(broker, config_of(tmp_path)) as (client, _):
            for kind, body, lines in BODIES:
                before = len(lines_of(broker))
                for packed in (False, True):
                    encoding = {"Content-Encoding": "gzip"} if packed else {}
                    content = gzip.compress(body[:5]) + gzip.compress(body[5:]) if packed else body
                    headers = {**bearer(), **encoding, "Content-Type": kind}
                    answer = await client.post("/ingest", content=content, headers=headers)
                    assert (answer.status_code, answer.json()) == (200, {"lines": len(lines)}), answer.text
                assert sorted(lines_of(broker)[before:]) or not lines
            assert sorted(lines_of(broker)) == sorted(line for _, _, lines in BODIES for line in lines * 2)

    asyncio.run(scene())
    broker.close()


def test_hostile_bodies_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)
    bomb = gzip.compress(b"\n" * 50_000_000)
    packed = {"Content-Encoding": "gzip"}
    json = {"Content-Type": "application/json"}

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    async def scene() -> None:
        options = {"body_bytes_max": 1_000_000, "lines_max": 1_000, "line_bytes_max": 500_000}
        async with serving(broker, config_of(tmp_path, **options)) as (client, counts):
            cases: list[tuple[int, bytes | AsyncIterator[bytes], dict[str, str]]] = [
                (413, b"x" * 1_000_001, {}),
                (413, endless(), {}),
                (413, bomb, packed),
                (413, bomb[:1_000] * 50, packed),
                (400, gzip.compress(b"line")[:-4], packed),
                (400, b"no gzip", packed),
                (415, b"x", {"Content-Encoding": "br"}),
                (415, b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
                (413, b"x\n" * 1_001, {}),
                (413, b"[" + b"1," * 1_001 + b"1]", json),
                (400, b"[1, 2", json),
                (400, b"[" * 900_000, json),
                (400, b'["\xff"]', json),
                (400, b'["\\ud800"]', json),
            ]
            for status, content, headers in cases:
                answer = await client.post("/ingest", content=content, headers={**bearer(), **headers})
                assert answer.status_code == status, (status, headers, answer.text)
            assert NET not in str(counts.totals)
            assert (await client.post("/ingest", content=b"still there", headers=bearer())).status_code == 200

    asyncio.run(scene())
    assert lines_of(broker) == [b"still there"]
    assert dead_of(broker) == []
    broker.close()


class Troubled:
    """An inlet in trouble."""

    behind = down = False

    def __init__(self) -> None:
        self.counts = Tally()

    def position(self, key: str) -> bytes | None:  # noqa: ARG002
        return None

    async def put(self, config: object, lines: list[bytes], **_: object) -> None:  # noqa: ARG002
        await asyncio.Event().wait()

    async def dead(self, config: object, reason: str, body: bytes) -> None:  # noqa: ARG002
        raise AssertionError


def test_trouble_is_said_so_that_senders_repeat(tmp_path: Path) -> None:
    async def scene() -> None:
        inlet = Troubled()
        source = Source(config_of(tmp_path, commit_s=0.05, body_s=0.05, retry_after_s=7, requests_max=1), inlet)  # type: ignore[arg-type]
        role = asyncio.create_task(source.run())
        await source.started.wait()
        url = "http://{}:{}".format(*source.address)
        async with httpx.AsyncClient(base_url=url, trust_env=False) as client:
            answer = await client.post("/ingest", content=b"x", headers=bearer())
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
            reader, writer = await asyncio.open_connection(*source.address)
            head = f"POST /ingest HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {NET}\r\nContent-Length: 9\r\n\r\nx"
            writer.write(head.encode())
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            writer.close()
            inlet.behind = True
            answer = await client.post("/ingest", content=b"x", headers=bearer())
            assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
            inlet.down = True
            answer = await client.post("/ingest", content=b"x", headers=bearer())
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
            assert (await client.post("/ingest", content=b"x")).status_code == 401
        role.cancel()
        await asyncio.gather(role, return_exceptions=True)

    asyncio.run(scene())


def test_missing_short_and_renewed_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broker = broker_at(tmp_path)
    config = config_of(tmp_path, tokens_reload_s=0.01)

    async def scene() -> None:
        async with serving(broker, config) as (client, _):
            renewed = "renewed-for-tests-0123456789"
            (tmp_path / "web.token").write_text(renewed)
            while (await client.post("/ingest", content=b"x", headers=bearer(renewed))).status_code == 401:  # noqa: ASYNC110 -- reloaded in its own time
                await asyncio.sleep(0.01)
            assert (await client.post("/ingest", content=b"x", headers=bearer(WEB))).status_code == 401
            (tmp_path / "web.token").unlink()
            await asyncio.sleep(0.05)
            assert (await client.post("/ingest", content=b"x", headers=bearer(renewed))).status_code == 200

    asyncio.run(scene())
    broker.close()
    for bad in ("", "short"):
        monkeypatch.setenv("NET_TOKEN", bad)
        (tmp_path / "web.token").write_text(WEB)
        with pytest.raises(OSError, match="NET_TOKEN"):
            asyncio.run(Source(config, Troubled()).run())  # type: ignore[arg-type]


def test_the_config_refuses_tokens_without_a_place() -> None:
    bad: list[list[dict[str, str]]] = [[], [{}], [{"token_env": "A", "token_file": "b"}], [{"token": "secret"}]]
    for tokens in bad:
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"tenant": "town", "source": "net", "tokens": tokens}, Config)
