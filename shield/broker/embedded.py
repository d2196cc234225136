"""The broker in one SQLite file: every commit is one transaction, shared by all processes of one machine.

It survives `kill -9` and, because the log is synced at every commit, a power cut; it needs a local disk.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import msgspec

from shield.broker import (
    Batch,
    BrokerDown,
    Change,
    EmbeddedConfig,
    Fenced,
    Limits,
    Out,
    Partition,
    Record,
    keeping,
    partition_of,
)

# A record's id is slot << 40 | offset, so each partition is one run of the table and needs no index besides.
OFFSET_BITS = 40
SCHEMA = """
CREATE TABLE IF NOT EXISTS slots (
    slot INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL,
    first INTEGER NOT NULL DEFAULT 0, next INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition));
CREATE TABLE IF NOT EXISTS records (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL, time REAL NOT NULL, written REAL NOT NULL, lines INTEGER NOT NULL,
    headers BLOB, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS offsets (
    "group" TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL,
    PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS state (
    topic TEXT NOT NULL, partition INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (topic, partition, key));
CREATE TABLE IF NOT EXISTS members (
    "group" TEXT NOT NULL, member TEXT NOT NULL, instance TEXT NOT NULL, topics BLOB NOT NULL, beat REAL NOT NULL,
    PRIMARY KEY ("group", member)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS claims (
    "group" TEXT NOT NULL, topic TEXT NOT NULL, partition INTEGER NOT NULL, member TEXT, epoch INTEGER NOT NULL,
    PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID;
"""
WAIT_MAX_S = 0.02  # between two looks for new records
CHUNK_RECORDS = 500  # of one query of `read`, which must not hold a snapshot while its caller is busy
DELETE_RECORDS_MAX = 5_000  # per partition and upkeep, so that nobody waits long for the write lock
VACUUM_PAGES_MAX = 2_000
WORKERS = ""  # the group under which workers without input are registered, so that a replaced one is fenced


class EmbeddedBroker:
    """See `Broker`. `now` must be one clock for all processes; the monotonic one is, until the machine restarts."""

    def __init__(
        self,
        config: EmbeddedConfig,
        *,
        group: str | None,
        member: str,
        topics: Sequence[str],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._group = WORKERS if group is None else group
        self._member = member
        self._topics = tuple(topics) if group is not None else ()
        self._now = now
        self._instance = uuid4().hex
        self._registered = False
        self._beat_due = 0.0
        self._upkeep_due = now() + config.upkeep_s
        self._turn = 0  # which partition is read first, in turns
        self._slots: dict[str, list[int]] = {}
        self._held: dict[Partition, int] = {}  # claimed partitions and the epoch of the claim
        self._position: dict[Partition, int] = {}
        self._reported: set[Partition] = set()  # what the caller knows as its own
        self._lock = threading.RLock()  # one connection, used by a worker and by whoever asks for its lag
        self._db = _connect(config)
        try:
            for topic in topics:
                self._slots_of(topic)
        except BaseException:
            self._db.close()
            raise

    # --- reading ---

    def poll(self, limits: Limits) -> Batch:
        try:
            return self._poll(limits)
        except BaseException:
            self._forget()  # what was read and not given out must be read again
            raise

    def _poll(self, limits: Limits) -> Batch:
        deadline = time.monotonic() + limits.wait_s
        records: list[Record] = []
        gained: list[Partition] = []
        room = [limits.lines_max, limits.bytes_max]
        pause = WAIT_MAX_S / 8
        with self._lock:
            self._upkeep()
            seen = self._version()
            self._join(gained)
            caught_up = self._fetch(records, room)
        while room[0] > 0 and room[1] > 0 and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(pause * 2, WAIT_MAX_S)
            with self._lock:
                version = self._version()
                if version == seen and self._now() < self._beat_due:
                    continue
                seen, pause = version, WAIT_MAX_S / 8
                if records:
                    self._beat()  # partitions stay until the batch is committed
                else:
                    self._join(gained)
                caught_up = self._fetch(records, room)
        lost = sorted(self._reported - self._held.keys())
        self._reported = set(self._held)
        return Batch(records, [p for p in dict.fromkeys(gained) if p in self._held], lost, caught_up)

    def restore(self, partition: Partition) -> dict[bytes, bytes]:
        with self._lock, _refusals():
            if self._group == WORKERS:
                self._register()  # from here on a predecessor of the same name commits nothing more
            rows = self._db.execute("SELECT key, value FROM state WHERE topic = ? AND partition = ?", partition)
            return dict(rows.fetchall())

    def read(self, topic: str, *, follow: bool = False, newest: int | None = None) -> Iterator[Record]:
        with self._lock:
            self._slots_of(topic)
            heads = self._heads(topic)
        position = {p: first if newest is None else max(first, head - newest) for p, (first, head) in heads.items()}
        if newest is not None:
            last: list[Record] = []
            for p, (_, head) in heads.items():
                last += self._chunk((topic, p), position[p], head, newest)
                position[p] = head
            last.sort(key=lambda record: record.time)
            yield from last[max(0, len(last) - newest) :]
        ends = {p: head for p, (_, head) in heads.items()}
        while True:
            chunk: list[Record] = []
            for p, end in ends.items():
                found = self._chunk((topic, p), position[p], end, CHUNK_RECORDS) if position[p] < end else []
                position[p] = found[-1].offset + 1 if found else end
                chunk += found
            chunk.sort(key=lambda record: record.time)
            yield from chunk
            if not chunk:
                if not follow:
                    return
                time.sleep(WAIT_MAX_S)
            if follow:
                ends = {p: head for p, (_, head) in self._heads(topic).items()}

    def lag(self) -> dict[Partition, int]:
        with self._lock:
            heads = {topic: self._heads(topic) for topic in {topic for topic, _ in self._held}}
            return {
                (topic, p): max(0, heads[topic][p][1] - max(self._position[topic, p], heads[topic][p][0]))
                for topic, p in self._held
            }

    def backlog(self, topic: str, group: str) -> int:
        with self._lock, _refusals():
            (left,) = self._db.execute(
                "SELECT sum(max(0, s.next - max(s.first, coalesce(o.next, 0)))) FROM slots s LEFT JOIN offsets o"
                ' ON o."group" = ? AND o.topic = s.topic AND o.partition = s.partition WHERE s.topic = ?',
                (group, topic),
            ).fetchone()
            return left or 0

    # --- writing ---

    def commit(self, batch: Batch | None, outbox: Iterable[Out], changes: Iterable[Change]) -> None:
        written = time.time()
        rows: dict[int, list[tuple[bytes, float, float, int, bytes | None, bytes]]] = {}
        puts: list[tuple[str, int, bytes, bytes]] = []
        deletes: list[tuple[str, int, bytes]] = []
        final = {(change.partition, change.key): change.value for change in changes}
        for ((topic, p), key), value in final.items():
            if value is None:
                deletes.append((topic, p, key))
            else:
                puts.append((topic, p, key, value))
        spans = _spans(batch)
        touched = (set(spans) | {partition for partition, _ in final}) - {(self._member, 0)}
        try:
            with self._lock:
                for out in outbox:
                    slots = self._slots.get(out.topic) or self._slots_of(out.topic)
                    headers = out.headers
                    rows.setdefault(slots[partition_of(out.key, len(slots))], []).append(
                        (
                            out.key,
                            out.time,
                            written,
                            int(headers.get("lines", 1)),
                            msgspec.json.encode(headers) if headers else None,
                            out.value,
                        )
                    )
                if batch is None:
                    self._upkeep()
                    self._refuse_when_full()
                    self._register()
                with self._transaction():
                    self._check(touched, spans)
                    for slot, found in rows.items():
                        (start,) = self._db.execute("SELECT next FROM slots WHERE slot = ?", (slot,)).fetchone()
                        identity = (slot << OFFSET_BITS) + start
                        self._db.executemany(
                            "INSERT INTO records VALUES (?,?,?,?,?,?,?)",
                            ((identity + i, *row) for i, row in enumerate(found)),
                        )
                        self._db.execute("UPDATE slots SET next = ? WHERE slot = ?", (start + len(found), slot))
                    self._db.executemany("INSERT OR REPLACE INTO state VALUES (?,?,?,?)", puts)
                    self._db.executemany("DELETE FROM state WHERE topic = ? AND partition = ? AND key = ?", deletes)
                    self._db.executemany(
                        "INSERT OR REPLACE INTO offsets VALUES (?,?,?,?)",
                        [(self._group, topic, p, last + 1) for (topic, p), (_, last) in spans.items()],
                    )
                    self._db.execute(
                        'UPDATE members SET beat = ? WHERE "group" = ? AND member = ?',
                        (self._now(), self._group, self._member),
                    )
            self._beat_due = self._now() + self._config.heartbeat_s
        except BaseException:
            self._forget()
            raise

    def close(self) -> None:
        with self._lock:
            try:
                if self._registered:
                    with self._transaction():
                        if self._instance_found() == self._instance:
                            self._leave(self._member)
            finally:
                self._db.close()
                self._forget()

    # --- membership ---

    def _check(self, touched: set[Partition], spans: dict[Partition, tuple[int, int]]) -> None:
        """Inside the commit's transaction: is this process still the one that may write this?"""
        if self._registered and self._instance_found() != self._instance:
            raise Fenced(f"{self._member} was replaced or timed out")
        for topic, p in touched:
            owner = self._db.execute(
                'SELECT member, epoch FROM claims WHERE "group" = ? AND topic = ? AND partition = ?',
                (self._group, topic, p),
            ).fetchone()
            if owner != (self._member, self._held.get((topic, p))):
                raise Fenced(f"{self._member} no longer owns {topic}/{p}")
        for partition, (first, _) in spans.items():
            if first < self._committed(partition):
                raise Fenced(f"{partition[0]}/{partition[1]} was committed by another worker")

    def _register(self) -> None:
        """Take the member's name; whoever had it before is fenced."""
        if self._registered:
            return
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO members VALUES (?,?,?,?,?)",
                (self._group, self._member, self._instance, msgspec.json.encode(self._topics), self._now()),
            )
        self._registered = True

    def _instance_found(self) -> str | None:
        row = self._db.execute(
            'SELECT instance FROM members WHERE "group" = ? AND member = ?', (self._group, self._member)
        ).fetchone()
        return row[0] if row else None

    def _beat(self) -> None:
        if self._now() < self._beat_due:
            return
        with self._transaction():
            self._db.execute(
                'UPDATE members SET beat = ? WHERE "group" = ? AND member = ? AND instance = ?',
                (self._now(), self._group, self._member, self._instance),
            )
        self._beat_due = self._now() + self._config.heartbeat_s

    def _join(self, gained: list[Partition]) -> None:
        """Beat, bury silent members, give up what is above this member's share, take what is free below it."""
        if not self._topics:
            return
        self._register()
        with _refusals():
            release, take, dead = self._share()
        if release or take or dead or self._now() >= self._beat_due:
            with self._transaction():
                found = self._instance_found()
                if found is not None and found != self._instance:
                    raise Fenced(f"another process works as {self._member}")
                self._db.execute(
                    "INSERT OR REPLACE INTO members VALUES (?,?,?,?,?)",
                    (self._group, self._member, self._instance, msgspec.json.encode(self._topics), self._now()),
                )
                release, take, dead = self._share()  # again, now that nobody else moves
                for member in dead:
                    self._leave(member)
                where = 'WHERE "group" = ? AND topic = ? AND partition = ?'
                self._db.executemany(
                    f"UPDATE claims SET member = NULL {where}",  # noqa: S608 - a constant
                    [(self._group, *partition) for partition in release],
                )
                self._db.executemany(
                    'INSERT INTO claims VALUES (?,?,?,?,1) ON CONFLICT ("group", topic, partition)'
                    " DO UPDATE SET member = excluded.member, epoch = epoch + 1",
                    [(self._group, *partition, self._member) for partition in take],
                )
                # A group that joined counts as a reader from here on: retention spares what it has not read.
                self._db.executemany(
                    "INSERT OR IGNORE INTO offsets VALUES (?,?,?,0)", [(self._group, *partition) for partition in take]
                )
            self._beat_due = self._now() + self._config.heartbeat_s
        with _refusals():
            rows = self._db.execute(
                'SELECT topic, partition, epoch FROM claims WHERE "group" = ? AND member = ?',
                (self._group, self._member),
            )
            claims = {(topic, p): epoch for topic, p, epoch in rows if topic in self._topics}
            for partition, epoch in claims.items():
                if self._held.get(partition) != epoch:
                    gained.append(partition)
                    self._position[partition] = self._committed(partition)
        self._held = claims

    def _share(self) -> tuple[list[Partition], list[Partition], list[str]]:
        """(partitions to release, partitions to take, silent members), from the tables as they are now."""
        now = self._now()
        alive: dict[str, tuple[str, ...]] = {}
        dead: list[str] = []
        rows = self._db.execute('SELECT member, topics, beat FROM members WHERE "group" = ?', (self._group,))
        for member, topics, beat in rows.fetchall():
            # A beat from the future was written before the machine restarted.
            if member == self._member or 0 <= now - beat < self._config.session_timeout_s:
                alive[member] = tuple(msgspec.json.decode(topics))
            else:
                dead.append(member)
        alive[self._member] = self._topics
        owner = {
            (topic, p): member
            for topic, p, member in self._db.execute(
                'SELECT topic, partition, member FROM claims WHERE "group" = ?', (self._group,)
            )
            if member in alive
        }
        release: list[Partition] = [
            p for p, member in owner.items() if member == self._member and p[0] not in self._topics
        ]
        take: list[Partition] = []
        for topic in self._topics:
            partitions = [(topic, p) for p in range(len(self._slots_of(topic)))]
            members = [member for member, topics in alive.items() if topic in topics]
            held: dict[str, list[Partition]] = {member: [] for member in members}
            free: list[Partition] = []
            for partition in partitions:
                held.get(owner.get(partition, ""), free).append(partition)
            low, extra = divmod(len(partitions), len(members))
            # The `extra` members with one more are those that hold the most already, so that little moves.
            order = sorted(members, key=lambda member: (-len(held[member]), member))
            share = low + 1 if order.index(self._member) < extra else low
            mine = held[self._member]
            release += mine[share:]
            take += free[: max(0, share - len(mine))]
        return release, take, dead

    def _leave(self, member: str) -> None:
        self._db.execute('DELETE FROM members WHERE "group" = ? AND member = ?', (self._group, member))
        self._db.execute('UPDATE claims SET member = NULL WHERE "group" = ? AND member = ?', (self._group, member))

    def _forget(self) -> None:
        """After a failure: hold nothing, so that the next poll gains everything anew from the committed offsets."""
        self._held = {}
        self._position = {}

    # --- tables ---

    def _fetch(self, records: list[Record], room: list[int]) -> bool:
        """Append what fits into `room` (lines, bytes), in equal shares per partition; True when nothing is left."""
        partitions = sorted(self._held)
        if not partitions:
            return True
        self._turn = (self._turn + 1) % len(partitions)
        partitions = partitions[self._turn :] + partitions[: self._turn]
        with _refusals():
            heads = {(t, p): head for t in {t for t, _ in partitions} for p, (_, head) in self._heads(t).items()}
            ready = [p for p in partitions if self._position[p] < heads[p]]
            while ready and room[0] > 0 and room[1] > 0:
                lines_share, bytes_share = max(1, room[0] // len(ready)), max(1, room[1] // len(ready))
                for partition in ready:
                    if room[0] > 0 and room[1] > 0:
                        share = [min(lines_share, room[0]), min(bytes_share, room[1])]
                        self._take(partition, heads[partition], records, share, room)
                ready = [p for p in ready if self._position[p] < heads[p]]
        return not ready

    def _take(self, partition: Partition, head: int, records: list[Record], share: list[int], room: list[int]) -> None:
        topic, p = partition
        rows = self._select(partition, self._position[partition], head)
        for identity, key, stated, lines, headers, value in rows:
            offset = identity & ((1 << OFFSET_BITS) - 1)
            decoded = msgspec.json.decode(headers, type=dict[str, str]) if headers else {}
            records.append(Record(topic, p, offset, key, value, stated, decoded))
            self._position[partition] = offset + 1
            for left in (share, room):
                left[0] -= lines
                left[1] -= len(value)
            if share[0] <= 0 or share[1] <= 0:
                break
        else:
            self._position[partition] = head
        rows.close()

    def _select(self, partition: Partition, start: int, end: int) -> sqlite3.Cursor:
        base = self._slots_of(partition[0])[partition[1]] << OFFSET_BITS
        return self._db.execute(
            "SELECT id, key, time, lines, headers, value FROM records WHERE id >= ? AND id < ? ORDER BY id",
            (base + start, base + end),
        )

    def _chunk(self, partition: Partition, start: int, end: int, records_max: int) -> list[Record]:
        with self._lock, _refusals():
            rows = self._select(partition, start, end)
            found = rows.fetchmany(records_max)
            rows.close()
        return [
            Record(
                *partition,
                identity & ((1 << OFFSET_BITS) - 1),
                key,
                value,
                stated,
                msgspec.json.decode(headers, type=dict[str, str]) if headers else {},
            )
            for identity, key, stated, _, headers, value in found
        ]

    def _committed(self, partition: Partition) -> int:
        row = self._db.execute(
            'SELECT next FROM offsets WHERE "group" = ? AND topic = ? AND partition = ?', (self._group, *partition)
        ).fetchone()
        return row[0] if row else 0

    def _heads(self, topic: str) -> dict[int, tuple[int, int]]:
        """Per partition: the first offset kept and the offset that comes next."""
        with self._lock, _refusals():
            rows = self._db.execute("SELECT partition, first, next FROM slots WHERE topic = ?", (topic,))
            return {p: (first, head) for p, first, head in rows}

    def _slots_of(self, topic: str) -> list[int]:
        """The slots of a topic's partitions, in their order; a topic that is absent is created."""
        known = self._slots.get(topic)
        if known:
            return known
        query = "SELECT slot FROM slots WHERE topic = ? ORDER BY partition"
        with _refusals():
            found = [slot for (slot,) in self._db.execute(query, (topic,))]
        if not found:
            with self._transaction():
                found = [slot for (slot,) in self._db.execute(query, (topic,))]
                if not found:
                    for p in range(self._config.partitions):
                        self._db.execute("INSERT INTO slots (topic, partition) VALUES (?, ?)", (topic, p))
                    found = [slot for (slot,) in self._db.execute(query, (topic,))]
        self._slots[topic] = found
        return found

    def _version(self) -> int:
        """Changes whenever another process has committed."""
        with _refusals():
            (version,) = self._db.execute("PRAGMA data_version").fetchone()
            return int(version)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """One short write transaction; already inside one, part of it."""
        if self._db.in_transaction:
            yield
            return
        with _refusals():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    # --- upkeep ---

    def _bytes(self) -> int:
        """What the file holds, free pages not counted."""
        with _refusals():
            pages, free, size = (
                self._db.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            return int((pages - free) * size)

    def _refuse_when_full(self) -> None:
        if self._bytes() > self._config.file_bytes_max:
            raise BrokerDown(
                f"{self._config.path} holds more than {self._config.file_bytes_max} bytes of unread records"
            )

    def _upkeep(self) -> None:
        """Delete what is old and read by every group, a bounded piece at a time, and give pages back to the disk."""
        if self._now() < self._upkeep_due:
            return
        self._upkeep_due = self._now() + self._config.upkeep_s
        crowded = self._bytes() > self._config.file_bytes_max
        with self._lock, _refusals():
            slots = self._db.execute(
                "SELECT slot, topic, first, min(next, (SELECT coalesce(min(o.next), s.next) FROM offsets o"
                " WHERE o.topic = s.topic AND o.partition = s.partition)), EXISTS (SELECT 1 FROM offsets o"
                " WHERE o.topic = s.topic) FROM slots s"
            ).fetchall()
            for slot, topic, first, read, grouped in slots:
                kept = keeping(topic, self._config.retention_s)
                with self._transaction():
                    if kept.compacted:
                        self._compact(slot)
                    elif kept.retention_s is not None:
                        # Age is the age in this file: a replay of old logs is not old.
                        old = time.time() if crowded and grouped else time.time() - kept.retention_s
                        self._delete(slot, first, min(read, first + DELETE_RECORDS_MAX), old)
            self._db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES_MAX})")  # `execute` frees one page only

    def _delete(self, slot: int, first: int, end: int, old: float) -> None:
        base = slot << OFFSET_BITS
        row = self._db.execute(
            "SELECT id FROM records WHERE id >= ? AND id < ? AND written >= ? ORDER BY id LIMIT 1",
            (base + first, base + end, old),
        ).fetchone()
        end = row[0] - base if row else end
        if end > first:
            self._db.execute("DELETE FROM records WHERE id >= ? AND id < ?", (base + first, base + end))
            self._db.execute("UPDATE slots SET first = ? WHERE slot = ?", (end, slot))

    def _compact(self, slot: int) -> None:
        self._db.execute(
            "DELETE FROM records WHERE id >= ?1 AND id < ?2 AND id NOT IN"
            " (SELECT max(id) FROM records WHERE id >= ?1 AND id < ?2 GROUP BY key)",
            (slot << OFFSET_BITS, (slot + 1) << OFFSET_BITS),
        )


def _spans(batch: Batch | None) -> dict[Partition, tuple[int, int]]:
    """First and last offset per partition."""
    spans: dict[Partition, tuple[int, int]] = {}
    for record in batch.records if batch is not None else ():
        partition = (record.topic, record.partition)
        first = spans[partition][0] if partition in spans else record.offset
        spans[partition] = (first, record.offset)
    return spans


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise BrokerDown(f"embedded broker: {error}") from error


def _connect(config: EmbeddedConfig) -> sqlite3.Connection:
    try:
        Path(config.path).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BrokerDown(f"the folder of {config.path} cannot be made: {error.strerror}") from error
    with _refusals():
        db = sqlite3.connect(config.path, timeout=config.busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA page_size = 16384")  # records are large; takes effect only in a new file
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA journal_size_limit = 67108864")
            db.execute("PRAGMA cache_size = -32768")
            db.execute("BEGIN IMMEDIATE")
            for statement in SCHEMA.split(";"):
                db.execute(statement)
            db.execute("COMMIT")
        except sqlite3.Error:
            db.close()
            raise
        return db
