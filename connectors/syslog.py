"""Syslog over UDP, TCP and TLS (RFC 5426, 6587, 5425): every listener of one tenant and source."""

import asyncio
import errno
import ipaddress
import socket
import ssl
import struct
from contextlib import suppress
from urllib.parse import urlsplit

import structlog

from connectors.framing import Framer
from connectors.inlet import Inlet, SourceConfig

log = structlog.get_logger()

_DATAGRAM_BYTES_MAX = 65_536
_DATAGRAMS_PER_TURN = 1_000  # then other sockets get their turn
_SO_MEMINFO = 55  # Linux; entry 8 counts datagrams that the kernel dropped because the buffer was full
_SO_MEMINFO_DROPS = 8
_SO_RCVBUFFORCE = 33
_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_BACKLOG = 512
_SWEEP_S = 5.0
_VERDICTS_MAX = 10_000

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Config(SourceConfig, frozen=True, kw_only=True):
    listen: tuple[str, ...]  # udp://host:port, tcp://host:port, tls://host:port
    senders: tuple[str, ...] = ()  # networks that may send; empty means any
    cert_file: str = ""  # PEM chain; needed by tls://
    key_file: str = ""
    client_ca_file: str = ""  # with it, senders must show a certificate of this CA
    connections_max: int = 1_000
    idle_s: float = 600.0  # a connection silent for so long is closed
    handshake_s: float = 10.0
    batch_lines_max: int = 20_000  # above either, sockets are not read until the broker has taken what is here
    batch_bytes_max: int = 8_000_000
    receive_buffer_bytes: int = 16_777_216  # of a UDP socket; the kernel may grant less

    def __post_init__(self) -> None:
        for url in self.listen:
            parts = urlsplit(url)
            if parts.scheme not in {"udp", "tcp", "tls"} or not parts.hostname or parts.port is None:
                raise ValueError(f"listen: {url!r} is not udp://host:port, tcp://host:port or tls://host:port")
            if parts.scheme == "tls" and not self.cert_file:
                raise ValueError(f"listen: {url!r} needs cert_file")
        Senders(self.senders)


class Source:
    """All listeners put into one pool, so one hand-over to the broker carries what a thousand senders sent meanwhile.

    While the pool is full nothing is read: TCP senders are slowed down by the protocol, datagrams wait in the kernel's
    buffer, and what that drops is counted.
    """

    def __init__(self, config: Config, inlet: Inlet) -> None:
        self._config = config
        self._inlet = inlet
        self._allowed = Senders(config.senders)
        self._lines: list[bytes] = []
        self._rest: list[bytes] = []
        self._bytes = 0
        self._filled = asyncio.Event()
        self._paused = False
        self._connections: set[_Connection] = set()
        self._connecting = 0
        self._udp: list[_Datagrams] = []
        self._under_way: asyncio.Task[None] | None = None
        self.started = asyncio.Event()
        self.addresses: list[tuple[str, str, int]] = []  # scheme, host and port as bound

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        listeners: list[tuple[socket.socket, ssl.SSLContext | None]] = []
        try:
            for url in self._config.listen:
                scheme, sock = await _bind(url, self._config)
                self.addresses.append((scheme, *sock.getsockname()[:2]))
                if scheme == "udp":
                    self._udp.append(_Datagrams(sock, self))
                else:
                    listeners.append((sock, None))
                    if scheme == "tls":
                        listeners[-1] = (sock, tls_context(self._config))
            for datagrams in self._udp:
                datagrams.resume(loop)
            self.started.set()
            log.info("syslog source listens", source=self._config.source, listen=self._config.listen)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._hand_over())
                tasks.create_task(self._sweep())
                for sock, context in listeners:
                    tasks.create_task(self._accept(tasks, sock, context))
        finally:
            for sock, _ in listeners:
                sock.close()
            for datagrams in self._udp:
                datagrams.close(loop)
            for connection in list(self._connections):
                connection.finish()
            if self._under_way:  # what has been handed over stays handed over
                await self._under_way
            await self._put()

    def add(self, lines: list[bytes], rest: list[bytes]) -> None:
        """Take lines of a listener into the pool; may pause reading."""
        if not lines and not rest:
            return
        self._lines += lines
        self._rest += rest
        self._bytes += sum(map(len, lines)) + sum(map(len, rest))
        self._filled.set()
        if not self._paused and (
            len(self._lines) >= self._config.batch_lines_max or self._bytes >= self._config.batch_bytes_max
        ):
            self._pause()

    async def _hand_over(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            if self._paused:
                self._resume()
            self._under_way = asyncio.create_task(self._put())
            await asyncio.shield(self._under_way)

    async def _put(self) -> None:
        lines, rest, size = self._lines, self._rest, self._bytes
        self._lines, self._rest, self._bytes = [], [], 0
        if rest:
            await self._inlet.dead(self._config, "rest of a line longer than line_bytes_max", b"".join(rest))
        if lines:
            await self._inlet.put(self._config, lines)
            self._inlet.counts.add("lines", len(lines))
            self._inlet.counts.add("bytes", size)

    def _pause(self) -> None:
        self._paused = True
        self._inlet.counts.add("paused")
        for datagrams in self._udp:
            datagrams.pause(asyncio.get_running_loop())
        for connection in self._connections:
            connection.pause()

    def _resume(self) -> None:
        self._paused = False
        for datagrams in self._udp:
            datagrams.resume(asyncio.get_running_loop())
        for connection in self._connections:
            connection.resume()

    async def _accept(self, tasks: asyncio.TaskGroup, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno in _OUT_OF_FILES:
                    self._inlet.counts.add("accept_failed")
                    await asyncio.sleep(1.0)
                elif error.errno in {errno.ECONNABORTED, errno.EPROTO}:
                    continue
                else:
                    raise
            else:
                full = len(self._connections) + self._connecting >= self._config.connections_max
                if full or not self._allowed(address[0]):
                    self._inlet.counts.add("connections_refused")
                    sock.close()
                    continue
                self._connecting += 1
                tasks.create_task(self._connect(sock, context))

    async def _connect(self, sock: socket.socket, context: ssl.SSLContext | None) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: _Connection(self),
                sock,
                ssl=context,
                ssl_handshake_timeout=self._config.handshake_s if context else None,
            )
        except (OSError, ssl.SSLError):
            self._inlet.counts.add("handshakes_failed")
            sock.close()
        finally:
            self._connecting -= 1

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_S, self._config.idle_s / 4))
            if not self._paused:
                for connection in list(self._connections):
                    if loop.time() - connection.heard > self._config.idle_s:
                        self._inlet.counts.add("connections_idle_closed")
                        connection.close()
            for datagrams in self._udp:
                datagrams.count_drops()

    # What connections need of the source.

    @property
    def config(self) -> Config:
        return self._config

    @property
    def inlet(self) -> Inlet:
        return self._inlet

    def allowed(self, address: str) -> bool:
        return self._allowed(address)

    def opened(self, connection: "_Connection") -> None:
        self._connections.add(connection)
        self._inlet.counts.add("connections")
        if self._paused:
            connection.pause()

    def closed(self, connection: "_Connection") -> None:
        self._connections.discard(connection)


class _Connection(asyncio.Protocol):
    def __init__(self, source: Source) -> None:
        self._source = source
        self._framer = Framer(source.config.line_bytes_max)
        self._transport: asyncio.Transport | None = None
        self._clock = asyncio.get_running_loop().time
        self.heard = self._clock()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._source.opened(self)

    def data_received(self, data: bytes) -> None:
        self.heard = self._clock()
        framer = self._framer
        lines = framer.feed(data)
        self._source.add(lines, framer.take_rest())
        if framer.truncated or framer.framing_errors:
            self._source.inlet.counts.add("lines_truncated", framer.truncated)
            self._source.inlet.counts.add("framing_errors", framer.framing_errors)
            framer.truncated = framer.framing_errors = 0

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- how it ended makes no difference
        self._source.add(self._framer.close(), self._framer.take_rest())
        self._source.closed(self)

    def pause(self) -> None:
        if self._transport and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        self.heard = self._clock()  # the silence was ours
        if self._transport and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def finish(self) -> None:
        """Stop at once; the incomplete last line is kept."""
        self._source.add(self._framer.close(), self._framer.take_rest())
        if self._transport:
            self._transport.abort()


class _Datagrams:
    """One UDP socket: one datagram is one line."""

    def __init__(self, sock: socket.socket, source: Source) -> None:
        self._sock = sock
        self._source = source
        self._drops = 0

    def resume(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(self._sock, self._read)

    def pause(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._sock)

    def close(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.remove_reader(self._sock)
        while self._read():
            pass
        self.count_drops()
        self._sock.close()

    def _read(self) -> int:
        receive, lines, refused = self._sock.recvfrom, [], 0
        with suppress(BlockingIOError):
            for _ in range(_DATAGRAMS_PER_TURN):
                data, address = receive(_DATAGRAM_BYTES_MAX)
                if not self._source.allowed(address[0]):
                    refused += 1
                elif line := data.rstrip(b"\r\n\0"):
                    lines.append(line)
        if refused:
            self._source.inlet.counts.add("datagrams_refused", refused)
        self._source.add(lines, [])
        return len(lines) + refused

    def count_drops(self) -> None:
        with suppress(OSError):  # not offered by every kernel
            info = self._sock.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 64)
            values = struct.unpack(f"{len(info) // 4}I", info)
            if len(values) > _SO_MEMINFO_DROPS and values[_SO_MEMINFO_DROPS] != self._drops:
                dropped = (values[_SO_MEMINFO_DROPS] - self._drops) % 2**32
                self._drops = values[_SO_MEMINFO_DROPS]
                self._source.inlet.counts.add("datagrams_dropped_by_kernel", dropped)


async def _bind(url: str, config: Config) -> tuple[str, socket.socket]:
    parts = urlsplit(url)
    kind = socket.SOCK_DGRAM if parts.scheme == "udp" else socket.SOCK_STREAM
    found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, parts.port, type=kind)
    family, _, _, _, address = found[0]
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if kind == socket.SOCK_DGRAM:
            _enlarge(sock, config)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return parts.scheme, sock


def _enlarge(sock: socket.socket, config: Config) -> None:
    wanted = config.receive_buffer_bytes
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    except OSError:  # only the administrator may go beyond net.core.rmem_max
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2  # the kernel states it doubled
    if granted < wanted:
        log.warning("UDP buffer smaller than asked for: raise net.core.rmem_max", granted=granted, wanted=wanted)


class Senders:
    """Whether an address is in one of the networks; verdicts are remembered, within a bound."""

    def __init__(self, networks: tuple[str, ...]) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(network, strict=False) for network in networks]
        self._verdicts: dict[str, bool] = {}

    def __call__(self, address: str) -> bool:
        if not self._networks:
            return True
        verdict = self._verdicts.get(address)
        if verdict is None:
            if len(self._verdicts) >= _VERDICTS_MAX:
                self._verdicts.clear()
            ip = ipaddress.ip_address(address.partition("%")[0])
            mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
            verdict = self._verdicts[address] = any((mapped or ip) in network for network in self._networks)
        return verdict


def tls_context(config: Config) -> ssl.SSLContext:
    """Server side, TLS 1.2 or newer; raises OSError for files that cannot be read (ssl.SSLError is one)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.cert_file, config.key_file or None)
    if config.client_ca_file:
        context.load_verify_locations(config.client_ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
