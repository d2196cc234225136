import asyncio
import gzip
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from intake import QUICK, broker_at, dead_of, lines_arrive, lines_of, running

from connectors.file import Chunk, Config, Position, Source, Tail
from shield.ingest import TopicInlet, ingest

pytestmark = pytest.mark.timeout(120)


def config_of(path: Path, **options: object) -> Config:
    return msgspec.convert({"tenant": "town", "source": "files", "path": str(path), "poll_s": 0.01, **options}, Config)


def replayed(folder: Path, config: Config) -> list[bytes]:
    broker = broker_at(folder)
    try:
        inlet = TopicInlet(broker, "ingest-0", limits=QUICK)
        assert asyncio.run(ingest(inlet, [(Source, config)]))
        return lines_of(broker)
    finally:
        broker.close()


def test_replay_reads_all_files_once(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.log").write_bytes(b"a1\r\n\na2\nlast without newline")
    (logs / "b.log").write_bytes(gzip.compress(b"b1\nb2\n") + gzip.compress(b"b3\n"))
    (logs / "empty.log").write_bytes(b"")
    config = config_of(logs / "*.log", mode="replay")
    expected = [b"a1", b"a2", b"last without newline", b"b1", b"b2", b"b3"]
    assert replayed(tmp_path, config) == expected
    assert replayed(tmp_path, config) == expected  # the positions are kept
    (logs / "a.log").write_bytes(b"another file\n")
    assert replayed(tmp_path, config) == [*expected, b"another file"]


def test_replay_of_many_chunks_keeps_the_order(tmp_path: Path) -> None:
    lines = [b"%d %s" % (n, b"x" * (n % 300)) for n in range(60_000)]
    (tmp_path / "big.log").write_bytes(b"\n".join(lines))
    config = config_of(tmp_path / "big.log", mode="replay", chunk_bytes=100_000)
    assert replayed(tmp_path, config) == lines


def test_replay_cuts_long_lines_and_keeps_the_rest(tmp_path: Path) -> None:
    (tmp_path / "long.log").write_bytes(b"a" * 5_000 + b"\nb\n" + b"c" * 3_000)
    config = config_of(tmp_path / "long.log", mode="replay", chunk_bytes=512, line_bytes_max=1_000)
    assert replayed(tmp_path, config) == [b"a" * 1_000, b"b", b"c" * 1_000]
    broker = broker_at(tmp_path)
    assert b"".join(body for _, body in dead_of(broker)) == b"a" * 4_000 + b"c" * 2_000
    broker.close()


def test_replay_reads_a_damaged_gzip_file_as_far_as_it_goes(tmp_path: Path) -> None:
    whole = b"".join(b"%d\n" % n for n in range(50_000))
    packed = gzip.compress(whole)
    (tmp_path / "cut.gz").write_bytes(packed[: len(packed) // 2])
    lines = replayed(tmp_path, config_of(tmp_path / "cut.gz", mode="replay", chunk_bytes=10_000))
    assert len(lines) > 1_000
    assert whole.startswith(b"\n".join(lines))


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Following:
    """A tail without the broker: `lines` reads all there is and remembers the position as a commit would."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = Clock()
        self.positions: list[Position] | None = None
        self.lost = 0
        self.tail = Tail(config, self.clock)
        self.tail.start(None)

    def chunk(self) -> Chunk:
        chunk = self.tail.read()
        self.positions = chunk.positions
        self.lost += chunk.lost
        return chunk

    def lines(self) -> list[bytes]:
        lines: list[bytes] = []
        while True:
            chunk = self.chunk()
            lines += chunk.lines
            if not chunk.more:
                return lines

    def restart(self) -> None:
        self.tail.close()
        self.tail = Tail(self.config, self.clock)
        self.tail.start(self.positions)

    def pass_time(self) -> None:
        self.clock.now += self.config.rotated_s + 1


def append(path: Path, text: bytes) -> None:
    with path.open("ab") as file:
        file.write(text)


def nothing(_: Following) -> None:
    """No restart."""


RESTARTS = pytest.mark.parametrize("between", [nothing, Following.restart], ids=["running", "restarted"])
Between = Callable[[Following], None]


@RESTARTS
def test_a_last_line_waits_for_its_newline(tmp_path: Path, between: Between) -> None:
    path = tmp_path / "app.log"
    append(path, b"one\ntw")
    following = Following(config_of(path))
    assert following.lines() == [b"one"]
    between(following)
    append(path, b"o\nthree")
    assert following.lines() == [b"two"]
    between(following)
    append(path, b"\n")
    assert following.lines() == [b"three"]
    following.tail.close()


@RESTARTS
def test_rename_and_create_loses_nothing(tmp_path: Path, between: Between) -> None:
    path = tmp_path / "app.log"
    append(path, b"1\n2\n")
    following = Following(config_of(path))
    assert following.lines() == [b"1", b"2"]
    append(path, b"3\n")
    path.rename(tmp_path / "app.log.1")
    append(path, b"5\n")
    between(following)
    append(tmp_path / "app.log.1", b"4\n")  # the writer still has the old one open
    assert sorted(following.lines()) == [b"3", b"4", b"5"]
    append(tmp_path / "app.log.1", b"late\nunfinished")
    assert following.lines() == [b"late"]
    between(following)
    assert following.lines() == []
    following.pass_time()
    assert following.lines() == [b"unfinished"]
    assert [position.path for position in following.positions or () if not position.done] == [str(path)]
    append(path, b"6\n")
    between(following)
    assert following.lines() == [b"6"]
    following.tail.close()


def test_several_rotations_while_nobody_followed_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    append(path, b"1\n")
    following = Following(config_of(path))
    assert following.lines() == [b"1"]
    append(path, b"2\n")
    for generation in range(3):
        for older in range(generation, 0, -1):
            (tmp_path / f"app.log.{older}").rename(tmp_path / f"app.log.{older + 1}")
        path.rename(tmp_path / "app.log.1")
        append(path, b"%d\n" % (3 + generation))
        os.utime(path, ns=(generation * 10**9 + time.time_ns(),) * 2)
    following.restart()
    assert following.lines() == [b"2", b"3", b"4", b"5"]
    following.restart()
    assert following.lines() == []
    assert following.lost == 0
    following.tail.close()


@RESTARTS
def test_copytruncate_starts_from_the_beginning(tmp_path: Path, between: Between) -> None:
    path = tmp_path / "app.log"
    append(path, b"old line one\nold line two\n")
    following = Following(config_of(path))
    assert len(following.lines()) == 2
    path.write_bytes(b"new\n")
    between(following)
    assert following.lines() == [b"new"]
    path.write_bytes(b"newer, and longer than what was there before\n")
    between(following)
    assert following.lines() == [b"newer, and longer than what was there before"]
    following.tail.close()


def test_a_deleted_file_is_read_to_its_end_and_a_lost_one_reported(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    append(path, b"1\n")
    following = Following(config_of(path))
    assert following.lines() == [b"1"]
    append(path, b"2\n")
    path.unlink()
    assert following.lines() == [b"2"]
    following.restart()
    assert following.lines() == []
    assert following.lost == 1
    following.tail.close()


@RESTARTS
def test_a_renamed_file_that_still_matches_is_not_read_again(tmp_path: Path, between: Between) -> None:
    path = tmp_path / "app.log"
    append(path, b"1\n")
    following = Following(config_of(tmp_path / "app.log*"))
    assert following.lines() == [b"1"]
    path.rename(tmp_path / "app.log.1")
    append(path, b"2\n")
    between(following)
    assert following.lines() == [b"2"]
    following.tail.close()


def test_start_at_the_end_holds_only_for_the_first_start(tmp_path: Path) -> None:
    append(tmp_path / "a.log", b"old\n" * 50_000 + b"begun ")
    following = Following(config_of(tmp_path / "*.log", start="end"))
    assert following.lines() == []
    append(tmp_path / "a.log", b"before\n")
    append(tmp_path / "b.log", b"new file\n")
    assert following.lines() == [b"begun before", b"new file"]
    following.restart()
    append(tmp_path / "c.log", b"newer file\n")
    assert following.lines() == [b"newer file"]
    following.tail.close()


@RESTARTS
def test_a_long_line_is_cut_once(tmp_path: Path, between: Between) -> None:
    path = tmp_path / "app.log"
    append(path, b"x" * 250)
    following = Following(config_of(path, line_bytes_max=100))
    assert following.lines() == [b"x" * 100]
    between(following)
    append(path, b"y" * 50 + b"\nnext\n")
    chunk = following.chunk()
    assert chunk.lines == [b"next"]
    assert b"".join(chunk.rest) == b"y" * 50
    following.tail.close()


def test_a_busy_file_does_not_starve_the_others(tmp_path: Path) -> None:
    append(tmp_path / "a.log", b"busy\n" * 10_000)
    append(tmp_path / "b.log", b"quiet\n")
    following = Following(config_of(tmp_path / "*.log", chunk_bytes=1_000))
    assert b"quiet" in [line for _ in range(3) for line in following.chunk().lines]
    following.tail.close()


def test_the_number_of_files_is_bounded_and_pipes_are_left_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.log")
    for name in "bcd":
        append(tmp_path / f"{name}.log", name.encode() + b"\n")
    following = Following(config_of(tmp_path / "*.log", files_max=2))
    assert following.lines() == [b"b", b"c"]
    following.tail.close()


@pytest.mark.parametrize("seed", range(20))
def test_any_order_of_writes_rotations_and_crashes_gives_every_line_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path = tmp_path / "app.log"
    append(path, b"first of this file\n")
    following = Following(config_of(path, chunk_bytes=200))
    written, got, generation = [b"first of this file"], following.chunk().lines, 0
    for n in range(400):
        what = rng.random()
        if what < 0.6:
            line = b"%d %s" % (n, b"x" * rng.randrange(60))
            written.append(line)
            append(path, line + b"\n")
        elif what < 0.7:
            generation += 1
            path.rename(tmp_path / f"app.log.{generation}")
            append(path, b"")
        elif what < 0.8:
            following.restart()
        else:
            got += following.chunk().lines  # committed with its position
    got += following.lines()
    assert sorted(got) == sorted(written)
    following.tail.close()


def test_a_stopped_tail_goes_on_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "app.log"
    broker = broker_at(tmp_path)

    async def scene(count: int) -> None:
        async with running(broker, Source, config_of(path)):
            append(path, b"written while it runs %d\n" % count)
            await lines_arrive(broker, count)

    for count in range(1, 4):
        asyncio.run(scene(count))
    assert lines_of(broker) == [b"written while it runs %d" % n for n in range(1, 4)]
    broker.close()


PROCESS = """
import sys
from pathlib import Path
from connectors.file import Config, Source
from intake import QUICK, broker_at
from shield.ingest import run
folder = Path(sys.argv[1])
config = Config(tenant="town", source="files", path=str(folder / "app.log"), poll_s=0.01, chunk_bytes=20_000)
run(broker_at(folder), "ingest-0", [(Source, config)], limits=QUICK)
"""


def test_kill_9_at_any_time_neither_loses_nor_doubles(tmp_path: Path) -> None:
    seed = int(os.environ.get("SEED", time.time_ns() % 10_000))
    rng = random.Random(seed)
    print("SEED", seed)  # noqa: T201 -- shown when it fails
    folder = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"}
    path, number = tmp_path / "app.log", 0
    broker = broker_at(tmp_path, "looker-on")
    for killed in range(6):
        with subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PROCESS), str(tmp_path)],
            env=environment,
            stdout=subprocess.DEVNULL,
        ) as process:
            before = sum(1 for _ in broker.read("raw"))
            for _ in range(10):
                append(path, b"".join(b"%d\n" % n for n in range(number, number + 3_000)))
                number += 3_000
            if killed < 5:
                while sum(1 for _ in broker.read("raw")) <= before + rng.randrange(40):
                    pass
                process.send_signal(signal.SIGKILL)
                process.wait()
                if killed % 2:
                    path.rename(tmp_path / f"app.log.{killed}")
            else:
                while len(lines_of(broker)) < number:
                    pass
                process.terminate()
                assert process.wait(20) == 0
    assert sorted(map(int, lines_of(broker))) == list(range(number))
    broker.close()
