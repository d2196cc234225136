"""Log files: `replay` reads them once to the end, `tail` follows them across rotation and truncation.

The position is committed together with the lines, so a killed process neither loses nor doubles one.
"""

import asyncio
import glob
import gzip
import hashlib
import os
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO, Literal

import msgspec
import structlog

from connectors.framing import NEWLINE, Framer
from connectors.inlet import Inlet, SourceConfig

log = structlog.get_logger()

Identity = tuple[int, int]  # device and inode

FINISHED_MAX = 100  # rotated files remembered after they were let go
HEAD_BYTES = 256  # the first bytes tell whether a file is still the one that a position is about
_COMPRESSED = (".gz", ".xz", ".bz2", ".zst")
_GZIP_MAGIC = b"\x1f\x8b"


class Config(SourceConfig, frozen=True, kw_only=True):
    path: str  # or a glob: /var/log/remote/*.log, **/ for folders below
    mode: Literal["replay", "tail"] = "tail"
    start: Literal["beginning", "end"] = "beginning"  # of files found when tailing for the very first time
    chunk_bytes: int = 1_048_576  # one read; split at once
    puts_max: int = 4  # chunks handed over at the same time
    poll_s: float = 0.5
    rotated_s: float = 60.0  # a file renamed or deleted is followed until it has been silent for so long
    files_max: int = 1_000  # followed at the same time; more are left alone and reported


class Position(msgspec.Struct, array_like=True, frozen=True):
    """Where reading goes on. `head` is the digest of the first `head_bytes` bytes."""

    path: str
    device: int
    inode: int
    offset: int
    head_bytes: int
    head: bytes
    cut: bool  # the line at `offset` has been handed over cut; up to its end it is rest
    done: bool = False  # read to the end and let go
    time: float = 0.0  # when the file was last written


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Position]).decode


class Source:
    def __init__(self, config: Config, inlet: Inlet) -> None:
        self._config = config
        self._inlet = inlet
        self._key = f"file/{config.tenant}/{config.source}"
        self._under_way: deque[asyncio.Task[None]] = deque()

    async def run(self) -> None:
        reader = Replay(self._config) if self._config.mode == "replay" else Tail(self._config)
        stored = self._inlet.position(self._key)
        try:
            await asyncio.to_thread(reader.start, _decode(stored) if stored else None)
            while True:
                chunk = await asyncio.to_thread(reader.read)
                if chunk is None:
                    break
                if chunk.lines or chunk.rest or chunk.moved:
                    await self._hand_over(chunk)
                if not chunk.more:
                    await asyncio.sleep(self._config.poll_s)
            while self._under_way:
                await self._under_way.popleft()
        finally:
            # A put that is called off would leave a hole before a later position: wait for all of them.
            await asyncio.gather(*self._under_way)
            reader.close()

    async def _hand_over(self, chunk: "Chunk") -> None:
        while len(self._under_way) >= self._config.puts_max:
            await asyncio.shield(self._under_way[0])
            self._under_way.popleft()
        self._under_way.append(asyncio.create_task(self._put(chunk)))
        await asyncio.sleep(0)  # let it start, so that puts are called in order

    async def _put(self, chunk: "Chunk") -> None:
        counts = self._inlet.counts
        put = self._inlet.put(self._config, chunk.lines, position=(self._key, _encode(chunk.positions)))
        if chunk.rest:
            reason = "rest of a line longer than line_bytes_max"
            await asyncio.gather(self._inlet.dead(self._config, reason, b"".join(chunk.rest)), put)
        else:
            await put
        counts.add("lines", len(chunk.lines))
        counts.add("bytes", chunk.bytes)
        if chunk.truncated:
            counts.add("lines_truncated", chunk.truncated)
        if chunk.lost:
            counts.add("files_lost", chunk.lost)


class Chunk(msgspec.Struct):
    """What one turn of reading gave; `more` says that there is probably more at once."""

    positions: list[Position]
    lines: list[bytes] = []
    rest: list[bytes] = []
    bytes: int = 0
    truncated: int = 0
    lost: int = 0  # files that were rotated away while nobody followed, with lines unread
    moved: bool = False  # positions changed though there are no lines
    more: bool = False


class Followed:
    """One open file and how far it has been read."""

    def __init__(self, path: str, handle: BinaryIO, line_bytes_max: int, at: Position | None) -> None:
        stat = os.fstat(handle.fileno())
        self.path = path  # the name that it is followed under; a rotated file has another one by now
        self.identity = (stat.st_dev, stat.st_ino)
        self._handle = handle
        self._line_bytes_max = line_bytes_max
        self._head = os.pread(handle.fileno(), at.head_bytes, 0) if at else b""
        self._read_to = at.offset if at else 0
        self.framer = Framer(line_bytes_max, NEWLINE, cut=at.cut if at else False)
        self.quiet_since = 0.0
        self._modified = stat.st_mtime
        handle.seek(self._read_to)

    def read(self, chunk: Chunk, bytes_max: int) -> bool:
        """Read once; false at the end of the file."""
        fileno = self._handle.fileno()
        stat = os.fstat(fileno)
        size, self._modified = stat.st_size, stat.st_mtime
        if size < self._read_to or (size > self._read_to and os.pread(fileno, len(self._head), 0) != self._head):
            # Truncated in place (copytruncate): what comes now is from the beginning.
            chunk.lines += self.framer.close()
            chunk.moved = True
            self._restart()
        data = self._handle.read(bytes_max)
        if not data:
            return False
        if len(self._head) < HEAD_BYTES:
            self._head = os.pread(fileno, min(HEAD_BYTES, self._read_to + len(data)), 0)
        self._read_to += len(data)
        chunk.bytes += len(data)
        chunk.moved = True
        chunk.lines += self.framer.feed(data)
        self._collect(chunk)
        return True

    def modified(self) -> float:
        """When it was last written, as seen at the last reading: what was written since is in it all the same."""
        return self._modified

    def finish(self, chunk: Chunk) -> None:
        """The file will not grow any more: a last line without newline is a line."""
        chunk.lines += self.framer.close()
        self._collect(chunk)
        self._handle.close()

    def position(self) -> Position:
        head = self._head[: min(HEAD_BYTES, self._read_to)]
        device, inode = self.identity
        offset = self._read_to - self.framer.held
        return Position(
            self.path, device, inode, offset, len(head), _digest(head), self.framer.cut, time=self._modified
        )

    def to_end(self) -> None:
        """Start behind the last whole line."""
        fileno = self._handle.fileno()
        at = os.fstat(fileno).st_size
        while at > 0:
            begin = max(0, at - 65_536)
            newline = os.pread(fileno, at - begin, begin).rfind(NEWLINE)
            if newline >= 0:
                at = begin + newline + 1
                break
            at = begin
        self._read_to = at
        self._head = os.pread(fileno, min(HEAD_BYTES, at), 0)
        self._handle.seek(at)

    def close(self) -> None:
        self._handle.close()

    def _restart(self) -> None:
        self._handle.seek(0)
        self._read_to = 0
        self._head = b""
        self.framer = Framer(self._line_bytes_max, NEWLINE)

    def _collect(self, chunk: Chunk) -> None:
        chunk.rest += self.framer.take_rest()
        chunk.truncated += self.framer.truncated
        self.framer.truncated = 0


class Tail:
    """Follows every file that matches, by identity (device, inode) and not by name."""

    def __init__(self, config: Config, now: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._now = now
        self._files: dict[Identity, Followed] = {}
        self._finished: dict[Identity, Position] = {}  # so that they are not taken for new when names move on
        self._turn = 0
        self._opened = False
        self._lost = 0
        self._refused = 0

    def start(self, stored: list[Position] | None) -> None:
        """Take up again every file of the stored positions, under whatever name it has now."""
        if stored is None:
            self._discover(first=True)
            return
        self._finished = {(position.device, position.inode): position for position in stored if position.done}
        moved = [position for position in stored if not (position.done or self._take_up(position))]
        for position in moved:
            self._between(position.path, position.time)

    def read(self) -> Chunk:
        chunk = Chunk(positions=[])
        now = self._now()
        named = self._discover()
        files = list(self._files.values())
        if self._turn >= len(files):
            self._turn = 0
        begun = self._turn
        for self._turn in range(self._turn, len(files)):  # noqa: B020 -- a busy file must not starve the next ones
            followed = files[self._turn]
            room = self._config.chunk_bytes - chunk.bytes
            if room <= 0:
                chunk.more = True
                break
            if followed.read(chunk, room):
                followed.quiet_since = now
                chunk.more = True
            elif followed.identity in named:
                followed.quiet_since = now
            elif now - followed.quiet_since > self._config.rotated_s:
                followed.finish(chunk)
                del self._files[followed.identity]
                self._finished[followed.identity] = msgspec.structs.replace(followed.position(), done=True)
                chunk.moved = True
        else:
            self._turn = 0
            chunk.more = chunk.more or begun > 0
        while len(self._finished) > FINISHED_MAX:
            del self._finished[next(iter(self._finished))]
        chunk.positions = [*self._finished.values(), *(followed.position() for followed in self._files.values())]
        chunk.lost, self._lost = self._lost, 0
        chunk.moved, self._opened = chunk.moved or self._opened, False
        return chunk

    def close(self) -> None:
        for followed in self._files.values():
            followed.close()

    def _discover(self, *, first: bool = False) -> set[Identity]:
        """Open files that are new; answers the identities that have a matching name."""
        named: set[Identity] = set()
        for path in _matching(self._config.path):
            stat = _regular(path)
            if stat is None:
                continue
            identity = (stat.st_dev, stat.st_ino)
            named.add(identity)
            known = self._files.get(identity)
            if known:
                known.path = path
                continue
            before = [followed.modified() for followed in self._files.values() if followed.path == path]
            if before:  # rotated: perhaps more than once since the last look
                self._between(path, min(before))
            finished = self._finished.pop(identity, None)
            opened = self._open(path, finished if finished and _same(path, finished) else None)
            if opened and first and self._config.start == "end":
                opened.to_end()
        return named

    def _open(self, path: str, at: Position | None = None, name: str = "") -> Followed | None:
        if len(self._files) >= self._config.files_max:
            self._refused += 1
            if self._refused == 1:
                log.error("more files than files_max: the others are not read", path=self._config.path)
            return None
        try:
            handle = open(path, "rb", buffering=0)  # noqa: SIM115, PTH123 -- stays open while the file is followed
        except OSError as error:
            log.warning("file cannot be read", path=path, error=str(error))
            return None
        followed = Followed(name or path, handle, self._config.line_bytes_max, at)
        followed.quiet_since = self._now()
        if followed.identity in self._files:  # replaced between looking and opening
            handle.close()
            return None
        self._files[followed.identity] = followed
        self._opened = True
        return followed

    def _take_up(self, position: Position) -> bool:
        """Find the file of a position; true when it still has its name, so that there was no rotation."""
        for path, stat in [(position.path, _regular(position.path)), *_beside(position.path)]:
            if stat and (stat.st_dev, stat.st_ino) == (position.device, position.inode) and _same(path, position):
                self._open(path, position, position.path)
                return path == position.path
        stat = _regular(position.path)
        if stat and (stat.st_dev, stat.st_ino) == (position.device, position.inode):
            return True  # truncated in place: from the beginning
        self._lost += 1
        log.warning("file is gone with its position", path=position.path, inode=position.inode, offset=position.offset)
        return False

    def _between(self, name: str, since: float) -> None:
        """Open the generations between a rotated file, last written at `since`, and the one that has the name now."""
        for path, stat in _beside(name):
            identity = (stat.st_dev, stat.st_ino)
            finished = self._finished.get(identity)
            if path == name or stat.st_mtime < since or identity in self._files:
                continue
            if not (finished and _same(path, finished)):
                self._open(path, None, name)


class Replay:
    """Reads every matching file once, in the order of names; gzip is recognised by its first bytes."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._done: dict[str, Position] = {}
        self._chunks: Iterator[Chunk] = iter(())

    def start(self, stored: list[Position] | None) -> None:
        self._done = {position.path: position for position in stored or ()}
        paths = [path for path in _matching(self._config.path) if Path(path).is_file()]
        if not paths:
            raise FileNotFoundError(f"no file matches {self._config.path}")
        self._chunks = self._read_all(paths)

    def read(self) -> Chunk | None:
        return next(self._chunks, None)

    def close(self) -> None:
        """Files are closed as they end."""

    def _read_all(self, paths: list[str]) -> Iterator[Chunk]:
        for path in paths:
            with open(path, "rb") as raw:  # noqa: PTH123
                stat = os.fstat(raw.fileno())
                head = raw.read(HEAD_BYTES)
                raw.seek(0)
                known = self._done.get(path)
                if known and (len(head[: known.head_bytes]), _digest(head[: known.head_bytes])) != (
                    known.head_bytes,
                    known.head,
                ):
                    known = None  # another file under the same name
                if known and known.done:
                    continue
                place = Position(path, stat.st_dev, stat.st_ino, 0, len(head), _digest(head), cut=False)
                yield from self._read_one(raw, place, known)

    def _read_one(self, raw: BinaryIO, place: Position, known: Position | None) -> Iterator[Chunk]:
        stream: BinaryIO = raw
        if os.pread(raw.fileno(), 2, 0) == _GZIP_MAGIC:
            stream = gzip.GzipFile(fileobj=raw)  # type: ignore[assignment]  # offsets are those of the text
        framer = Framer(self._config.line_bytes_max, NEWLINE, cut=known.cut if known else False)
        offset = known.offset if known else 0
        stream.seek(offset)
        fault, data = "", b"-"
        while data:
            try:
                data = stream.read(self._config.chunk_bytes)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                fault, data = str(error), b""
                log.error("damaged gzip file: read as far as it goes", path=place.path, error=fault)  # noqa: TRY400 -- no fault of ours to trace
            offset += len(data)
            lines = framer.feed(data) if data else framer.close()
            place = msgspec.structs.replace(place, offset=offset - framer.held, cut=framer.cut, done=not data)
            self._done[place.path] = place
            yield Chunk(
                list(self._done.values()), lines, framer.take_rest(), len(data), framer.truncated, moved=True, more=True
            )
            framer.truncated = 0


def _matching(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern] if Path(pattern).exists() else []
    return sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207 -- pathlib takes no absolute patterns


def _regular(path: str) -> os.stat_result | None:
    """None for what is gone between listing and looking, and for pipes and the like."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return stat if S_ISREG(stat.st_mode) else None


def _same(path: str, position: Position) -> bool:
    """Is the file, by its first bytes and its size, the one that a position is about?"""
    try:
        with open(path, "rb") as handle:  # noqa: PTH123
            head = handle.read(position.head_bytes)
            size = os.fstat(handle.fileno()).st_size
    except OSError:
        return False
    return len(head) == position.head_bytes and _digest(head) == position.head and size >= position.offset


def _beside(path: str) -> list[tuple[str, os.stat_result]]:
    """The file and its rotated generations in the same folder, oldest first; compressed ones cannot be told apart."""
    name = Path(path).name
    found: list[tuple[str, os.stat_result]] = []
    with suppress(OSError), os.scandir(Path(path).parent) as entries:
        like = [entry.path for entry in entries if entry.name.startswith(name)]
        found = [(one, stat) for one in like if not one.endswith(_COMPRESSED) and (stat := _regular(one))]
    return sorted(found, key=lambda one: one[1].st_mtime_ns)


def _digest(head: bytes) -> bytes:
    return hashlib.sha256(head).digest()[:16]
