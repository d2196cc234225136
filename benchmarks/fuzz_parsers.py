"""Mutated lines against every parser: only ParseError, nothing lost, no line slow. `--lines 1000000` is the full run.

A line that took longer than the limit is read again; the fastest of five counts, so that a busy machine accuses nobody.
"""

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import measure
from connectors.clock import Clock
from connectors.events import Origin, ParseError
from connectors.parse import Reader, decode, load_parser, parser_names

GOLDEN = measure.ROOT / "tests" / "golden"
SLOW_S = 0.005
BATCH = 500
LINE_BYTES_MAX = 8192
FRAGMENTS = [
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b'"', b"\\", b'\\"', b"=", b" = ", b"%", b"<", b">", b"{", b"}", b"[", b"]", b"|", b",", b";", b":",
    b"\n", b"\t", b"   ", b"9" * 30, b"-1", b"1e400", b"NaN", b"null", b"\\ud800", b"\xe2\x80\xa8", b"CEF:0|", b"LEEF:2.0|", b"<Event>",
    b"2026-13-45T99:99:99Z", b"Feb 30 25:61:61", b"255.255.255.256", b"::ffff:1.2.3.4", b"=" * 200, b'"' * 200, b"a=b " * 100, b"{" * 200,
]  # fmt: skip


def mutated(rng: random.Random, lines: Sequence[bytes]) -> bytes:
    """One of the lines with one to four changes."""
    line = bytearray(rng.choice(lines))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(line) + 1)
        to = min(len(line), at + rng.choice((1, 2, 4, 16, 64)))
        match rng.randrange(8):
            case 0:
                del line[at:to]
            case 1:
                line[at:at] = rng.choice(FRAGMENTS)
            case 2:
                line[at:to] = rng.choice(FRAGMENTS)
            case 3:
                line[at:at] = line[at:to] * rng.choice((1, 2, 50))
            case 4:
                del line[at:]
            case 5:
                other = rng.choice(lines)
                line[at:] = other[min(at, len(other)) :]
            case 6 if line:
                line[min(at, len(line) - 1)] = rng.randrange(256)
            case _:
                words = bytes(line).split(b" ")
                rng.shuffle(words)
                line = bytearray(b" ".join(words))
    return bytes(line[:LINE_BYTES_MAX])


def batches(rng: random.Random, lines: Sequence[bytes], count: int) -> Iterator[list[bytes]]:
    for start in range(0, count, BATCH):
        yield [mutated(rng, lines) for _ in range(min(BATCH, count - start))]


def once(name: str, count: int, seed: int) -> dict[str, Any]:
    lines = (GOLDEN / name / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")
    rng = random.Random(f"{seed}/{name}")
    reader, module = Reader(name, "stadt", "quelle"), load_parser(name)
    origin = Origin("stadt", "quelle", time.time(), Clock())
    events = dead = blank = lost = 0
    slowest = 0.0
    for batch in batches(rng, lines, count):
        begun = time.process_time()
        parsed = reader.read(batch, origin.received)
        took_s = time.process_time() - begun
        read = set(parsed.line_of)
        events, dead, blank = events + len(read), dead + len(parsed.dead), blank + parsed.blank
        lost += len(batch) - len(read | {index for index, *_ in parsed.dead}) - parsed.blank
        if took_s > SLOW_S:
            slowest = max(slowest, *(_fastest(module, line, origin) for line in batch))
    return {
        "parser": name,
        "lines": count,
        "read": events,
        "refused": dead,
        "blank": blank,
        "lost": lost,
        "slowest ms": slowest * 1e3,
    }


def _fastest(module: Any, line: bytes, origin: Origin) -> float:
    text, best = decode(line), float("inf")
    for _ in range(5):
        begun = time.perf_counter()
        with contextlib.suppress(ParseError):
            module.parse(text, origin)
        best = min(best, time.perf_counter() - begun)
        if best < SLOW_S / 2:
            break
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000, help="per parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("parsers", nargs="*", help="all without any")
    given = parser.parse_args()
    bad = 0
    for name in given.parsers or parser_names():
        row = once(name, given.lines, given.seed)
        wrong = row["lost"] > 0 or row["slowest ms"] > SLOW_S * 1e3
        bad += wrong
        print(
            ("BAD " if wrong else "ok  ")
            + " ".join(
                f"{key}={value:.2f}" if isinstance(value, float) else f"{key}={value}" for key, value in row.items()
            ),
            flush=True,
        )
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
