import asyncio
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from intake import broker_at, counted, dead_of, lines_arrive, lines_of, running

from connectors.framing import NEWLINE, Framer
from connectors.inlet import Inlet
from connectors.syslog import Config, Senders, Source
from shield.broker import Broker
from shield.ingest import Tally

pytestmark = pytest.mark.timeout(60)


def fed(data: bytes, cuts: list[int], line_bytes_max: int = 1_000) -> tuple[list[bytes], bytes]:
    framer = Framer(line_bytes_max)
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    lines: list[bytes] = []
    for begin, end in pairwise(places):
        lines += framer.feed(data[begin:end])
    lines += framer.close()
    return lines, b"".join(framer.take_rest())


def counted_frames(lines: list[bytes]) -> bytes:
    return b"".join(b"%d %s" % (len(line), line) for line in lines)


LINES = st.lists(st.binary(min_size=1, max_size=40).map(lambda b: b"<13>" + b.strip(b"\r\n\0")), min_size=1, max_size=8)
CUTS = st.lists(st.integers(0, 10_000), max_size=12)


@given(LINES, CUTS)
def test_counted_frames_survive_any_division_into_reads(lines: list[bytes], cuts: list[int]) -> None:
    assert fed(counted_frames(lines), cuts) == (lines, b"")


@given(LINES, CUTS, st.sampled_from([b"\n", b"\r\n", b"\0"]))
def test_terminated_lines_survive_any_division_into_reads(lines: list[bytes], cuts: list[int], end: bytes) -> None:
    lines = [line.replace(b"\n", b"-").replace(b"\0", b"-").rstrip(b"\r") for line in lines]
    assert fed(b"".join(line + end for line in lines), cuts) == (lines, b"")


@given(st.binary(max_size=300), CUTS, st.integers(1, 50))
@settings(max_examples=300)
def test_no_byte_is_lost_whatever_comes(data: bytes, cuts: list[int], line_bytes_max: int) -> None:
    lines, rest = fed(data, cuts, line_bytes_max)
    assert all(0 < len(line) <= line_bytes_max for line in lines[:-1])
    kept = b"".join(lines) + rest
    for byte in set(data) - set(b"\r\n\0 0123456789"):
        assert kept.count(byte) == data.count(byte)


@pytest.mark.parametrize("counts", [False, True])
def test_long_lines_are_cut_and_the_rest_is_kept(counts: bool) -> None:
    lines = [b"<13>" + b"a" * 6, b"<13>" + b"b" * 96, b"<13>c"]
    data = counted_frames(lines) if counts else b"\n".join(lines) + b"\n"
    for size in (1, 3, 7, 64, 1_000):
        found, rest = fed(data, list(range(0, len(data), size)), 20)
        assert found == [lines[0], lines[1][:20], lines[2]]
        assert rest == b"b" * 80


def test_a_line_without_end_does_not_grow_in_memory() -> None:
    framer = Framer(1_000)
    seen = sum(len(line) for _ in range(1_000) for line in framer.feed(b"x" * 1_000))
    assert seen == 1_000
    assert framer.held == 0
    assert sum(map(len, framer.take_rest())) == 999_000
    assert framer.feed(b"y\nnext\n") == [b"next"]
    assert framer.take_rest() == [b"y"]


def test_a_frame_of_ten_digits_does_not_grow_in_memory() -> None:
    framer = Framer(100)
    lines = framer.feed(b"9999999999 <13>")
    for _ in range(100):
        lines += framer.feed(b"x" * 1_000)
    assert lines == [b"<13>" + b"x" * 96]
    assert framer.held == 0


def test_wrong_lengths_turn_into_lines_instead_of_a_stall() -> None:
    framer = Framer(1_000)
    lines = framer.feed(b"6 <13>ab11x <13>cd\n<13>ef\n")
    assert lines == [b"<13>ab", b"11x <13>cd", b"<13>ef"]
    assert framer.framing_errors == 1


def test_lines_that_begin_with_a_date_are_not_taken_for_frames() -> None:
    assert Framer(1_000).feed(b"2026-03-01 10:00:00 a\n15 <b\n") == [b"2026-03-01 10:00:00 a", b"15 <b"]
    assert Framer(1_000).feed(b"15 messages\n") == [b"15 messages"]


def test_a_frame_may_hold_newlines_and_end_in_one() -> None:
    assert Framer(1_000).feed(b"8 <13>a\nb\n9 <13>xml\r\n") == [b"<13>a\nb", b"<13>xml"]


def test_newline_framing_leaves_a_nul_inside_a_line() -> None:
    assert Framer(1_000).feed(b"<13>a\n<13>b\0c\n") == [b"<13>a", b"<13>b\0c"]
    assert Framer(1_000, NEWLINE).feed(b"7 <13>abc\n") == [b"7 <13>abc"]


@asynccontextmanager
async def listening(broker: Broker, config: Config) -> AsyncIterator[tuple[Source, Tally]]:
    made: asyncio.Queue[Source] = asyncio.Queue()

    def use(config: Config, inlet: Inlet) -> Source:
        source = Source(config, inlet)
        made.put_nowait(source)
        return source

    async with running(broker, use, config) as (counts, _):
        source = await made.get()
        await source.started.wait()
        yield source, counts


def config_of(*listen: str, **options: object) -> Config:
    return msgspec.convert({"tenant": "town", "source": "net", "listen": listen, **options}, Config)


def test_udp_tcp_and_stop_keep_every_line(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)

    async def scene() -> None:
        async with listening(broker, config_of("udp://127.0.0.1:0", "tcp://127.0.0.1:0")) as (source, counts):
            (_, host, udp), (_, _, tcp) = source.addresses
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for n in range(300):
                    sender.sendto(b"<13>udp %d\n" % n, (host, udp))
            _, closed = await asyncio.open_connection(host, tcp)
            closed.write(b"<13>tcp 1\n<13>tcp 2, no newline")
            await closed.drain()
            closed.close()
            await closed.wait_closed()
            _, framed = await asyncio.open_connection(host, tcp)
            framed.write(counted_frames([b"<13>two\nlines", b"<13>one"]) + b"20 <13>cut off")
            await framed.drain()
            await lines_arrive(broker, 304)
            assert counts.totals["connections"] == 2
        framed.close()

    asyncio.run(scene())
    lines = lines_of(broker)
    assert len(lines) == 305
    assert [line for line in lines if line.startswith(b"<13>udp")] == [b"<13>udp %d" % n for n in range(300)]
    assert {b"<13>tcp 2, no newline", b"<13>two\nlines", b"<13>one", b"<13>cut off"} < set(lines)
    broker.close()


def test_long_lines_reach_the_dead_letters(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)

    async def scene() -> None:
        async with listening(broker, config_of("tcp://127.0.0.1:0", line_bytes_max=1_000)) as (source, counts):
            _, writer = await asyncio.open_connection(*source.addresses[0][1:])
            writer.write(b"<13>" + b"a" * 500_000 + b"\n<13>b\n")
            await writer.drain()
            await lines_arrive(broker, 2)
            writer.close()
            assert counts.totals["lines_truncated"] == 1

    asyncio.run(scene())
    assert lines_of(broker) == [b"<13>" + b"a" * 996, b"<13>b"]
    assert b"".join(body for _, body in dead_of(broker)) == b"a" * 499_004
    broker.close()


def test_connections_are_bounded_and_senders_checked(tmp_path: Path) -> None:
    broker = broker_at(tmp_path)

    async def scene() -> None:
        options = {"connections_max": 2, "senders": ["127.0.0.1/32"], "idle_s": 0.2}
        async with listening(broker, config_of("tcp://127.0.0.1:0", "udp://127.0.0.1:0", **options)) as (
            source,
            counts,
        ):
            where = source.addresses[0][1:]
            held = [await asyncio.open_connection(*where) for _ in range(2)]
            await counted(counts, "connections", 2)
            third, unused = await asyncio.open_connection(*where)
            assert await third.read() == b""
            unused.close()
            stranger = socket.socket()
            stranger.setblocking(False)
            stranger.bind(("127.0.0.2", 0))
            await asyncio.get_running_loop().sock_connect(stranger, where)
            assert await asyncio.get_running_loop().sock_recv(stranger, 1) == b""
            stranger.close()
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.bind(("127.0.0.2", 0))
                sender.sendto(b"<13>forged", source.addresses[1][1:])
            await counted(counts, "datagrams_refused")
            await counted(counts, "connections_idle_closed", 2)
            assert counts.totals["connections_refused"] == 2
            for reader, writer in held:
                assert await reader.read() == b""
                writer.close()

    asyncio.run(scene())
    assert lines_of(broker) == []
    broker.close()


def test_senders_know_mapped_addresses() -> None:
    allowed = Senders(("192.0.2.0/24", "2001:db8::/32"))
    assert allowed("::ffff:192.0.2.9")
    assert allowed("2001:db8::1%eth0")
    assert not allowed("198.51.100.1")


@pytest.mark.parametrize("bad", ["http://127.0.0.1:1", "tcp://127.0.0.1", "udp://:514x", "tls://127.0.0.1:1"])
def test_bad_addresses_are_refused_by_the_config(bad: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        config_of(bad)


def certificate(
    folder: Path, name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    return cert, key


def test_tls_asks_for_the_clients_certificate(tmp_path: Path) -> None:
    ca = certificate(tmp_path, "ca")
    certificate(tmp_path, "server", ca)
    certificate(tmp_path, "client", ca)
    broker = broker_at(tmp_path)
    files = {
        "cert_file": str(tmp_path / "server.pem"),
        "key_file": str(tmp_path / "server.key"),
        "client_ca_file": str(tmp_path / "ca.pem"),
    }

    async def scene() -> None:
        async with listening(broker, config_of("tls://127.0.0.1:0", **files)) as (source, counts):
            where = source.addresses[0][1:]
            known = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            known.load_cert_chain(tmp_path / "client.pem", tmp_path / "client.key")
            _, writer = await asyncio.open_connection(*where, ssl=known, server_hostname="localhost")
            writer.write(counted_frames([b"<13>over tls"]))
            await writer.drain()
            assert await lines_arrive(broker, 1) == [b"<13>over tls"]
            writer.close()
            unknown = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            with suppress(ssl.SSLError, ConnectionError):  # refused in the handshake, or with what follows it
                _, forged = await asyncio.open_connection(*where, ssl=unknown, server_hostname="localhost")
                forged.write(counted_frames([b"<13>forged"]))
                await forged.drain()
            _, plain = await asyncio.open_connection(*where)
            plain.write(b"<13>not tls\n")
            await counted(counts, "handshakes_failed", 2)
            plain.close()

    asyncio.run(scene())
    assert lines_of(broker) == [b"<13>over tls"]
    broker.close()


class Stuck:
    """An inlet whose broker does not answer until told to."""

    behind = down = False

    def __init__(self) -> None:
        self.counts = Tally()
        self.free = asyncio.Event()
        self.lines: list[bytes] = []

    def position(self, key: str) -> bytes | None:  # noqa: ARG002
        return None

    async def put(self, config: object, lines: list[bytes], **_: object) -> None:  # noqa: ARG002
        await self.free.wait()
        self.lines += lines

    async def dead(self, config: object, reason: str, body: bytes) -> None:  # noqa: ARG002
        raise AssertionError


def test_a_stuck_broker_stops_reading_and_loses_nothing() -> None:
    rng = random.Random(5)
    sent = [b"<13>%d %s" % (n, b"x" * rng.randrange(400)) for n in range(40_000)]

    async def scene() -> tuple[list[bytes], int]:
        inlet = Stuck()
        source = Source(config_of("tcp://127.0.0.1:0", batch_lines_max=1_000), inlet)  # type: ignore[arg-type]
        role = asyncio.create_task(source.run())
        await source.started.wait()
        _, writer = await asyncio.open_connection(*source.addresses[0][1:])
        writer.write(b"".join(line + b"\n" for line in sent))
        sending = asyncio.create_task(writer.drain())
        await counted(inlet.counts, "paused")
        held = len(source._lines)
        inlet.free.set()
        await sending
        writer.close()
        await writer.wait_closed()
        await counted(inlet.counts, "lines", len(sent))
        role.cancel()
        await asyncio.gather(role, return_exceptions=True)
        return inlet.lines, held

    lines, held = asyncio.run(scene())
    assert lines == sent
    assert held < 20_000
