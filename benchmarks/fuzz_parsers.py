"""Hostile lines against every parser: mutated ones give events or ParseError, are never lost and never slow; time grows with the line.

`--lines 1000000` is the full run. Times are CPU times without the garbage collector; the fastest of several counts, so
that a busy machine accuses nobody.
"""

import argparse
import contextlib
import gc
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import measure
from connectors.clock import Clock
from connectors.events import Origin, ParseError
from connectors.parse import ParserModule, Reader, decode, load_parser, parser_names

GOLDEN = measure.ROOT / "tests" / "golden"
SLOW_S = 0.005  # of one line
BATCH = 64  # read together; only where all of them take as long as one may, each is read again alone
AGAIN = 5
LINE_BYTES_MAX = 8192
LINE_BYTES_SHOWN = 1024
FRAGMENTS = [
    b"\0", b"\xff\xfe", b"\xed\xa0\x80", b'"', b"\\", b'\\"', b"=", b" = ", b"%", b"<", b">", b"{", b"}", b"[", b"]", b"|", b",", b";", b":",
    b"\n", b"\t", b"   ", b"9" * 30, b"9" * 5000, b"-1", b"1e400", b"NaN", b"null", b"\\ud800", b"\xe2\x80\xa8", b"CEF:0|", b"LEEF:2.0|", b"<Event>",
    b"2026-13-45T99:99:99Z", b"Feb 30 25:61:61", b"255.255.255.256", b"::ffff:1.2.3.4", b"=" * 200, b'"' * 200, b"a=b " * 100, b"{" * 200,
]  # fmt: skip

UNEXPECTED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)  # of a parser

GROWTH = 4  # the longer of two lines is so many times as long
GROWTH_CHARS = 5_000  # that are put into the shorter
GROWTH_MAX = 9.0  # times as long in time: twice what is due, for caches; a square would be 16
SHORT_S_MAX = 0.05  # more for the shorter line is not worth to wait for the longer
GROWTH_S_MIN = 0.003  # what is faster than this in the longer line is not looked at
GROWTH_LINES = 4  # of the sample
GROWTH_PLACES = 3  # in each of them
RUNS = [
    " ", "  x", "a", "A", "0", "é", ".", ":", "-", "_", "/", "\\", '"', "'", '\\"', "=", ",", ", ", ";", "|", "(", ")", "[", "]", "{", "}",
    "<", ">", "<a ", "\t", "\n", "a=", "a=b ", 'a="', 'a="b" ', "a: ", "a:b, ", "1.", "1.2.3.4 ", "::", "ab:", '{"a":', '["', "user ",
    " from ", "for ", "x/", "\\\\", "%", "\u00df", "2026-", "12:", "type=", "<Data>", "&lt;",
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
    lines = _sample(name)
    rng = random.Random(f"{seed}/{name}")
    reader, module = Reader(name, "stadt", "quelle"), load_parser(name)
    origin = Origin("stadt", "quelle", time.time(), Clock())
    events = dead = blank = lost = 0
    slowest_s, slowest = 0.0, b""
    for batch in batches(rng, lines, count):
        gc.disable()
        begun = time.process_time()
        try:
            parsed = reader.read(batch, origin.received)
        except UNEXPECTED as error:
            guilty = next(line for line in batch if _raises(module, line, origin))
            return {"parser": name, "lines": count, "raised": repr(error), "line": repr(guilty[:LINE_BYTES_SHOWN])}
        took_s = time.process_time() - begun
        gc.enable()
        read = set(parsed.line_of)
        for event in parsed.events:
            len(event.fields)  # work out those that wait
        events, dead, blank = events + len(read), dead + len(parsed.dead), blank + parsed.blank
        lost += len(batch) - len(read | {index for index, *_ in parsed.dead}) - parsed.blank
        if took_s > SLOW_S:
            alone_s, line = max((fastest_s(module, decode(line), origin), line) for line in batch)
            if alone_s > slowest_s:
                slowest_s, slowest = alone_s, line
    row = {
        "parser": name,
        "lines": count,
        "read": events,
        "refused": dead,
        "blank": blank,
        "lost": lost,
        "slowest ms": slowest_s * 1e3,
    }
    if slowest_s > SLOW_S:
        row["line"] = repr(slowest[:LINE_BYTES_SHOWN])
    return row


def growth(name: str, seed: int) -> tuple[float, str]:
    """How many times longer a line takes that is `GROWTH` times as long, at worst, and what it is made of."""
    rng = random.Random(f"{seed}/{name}/growth")
    module = load_parser(name)
    origin = Origin("stadt", "quelle", time.time(), Clock())
    lines = _sample(name)
    worst, what = 0.0, ""
    for line in rng.sample(lines, min(GROWTH_LINES, len(lines))):
        text = decode(line)
        for at in (0, len(text), *(rng.randrange(len(text) + 1) for _ in range(GROWTH_PLACES - 2))):
            for run in RUNS:
                times = GROWTH_CHARS // len(run)
                short, long = (text[:at] + run * many + text[at:] for many in (times, times * GROWTH))
                try:
                    short_s = fastest_s(module, short, origin, 1)
                    if short_s > SHORT_S_MAX:
                        return float("inf"), f"{run!r} at {at} of {text[:200]!r}: {short_s * 1e3:.0f} ms"
                    long_s = fastest_s(module, long, origin, 1)
                except UNEXPECTED as error:
                    return float("inf"), f"{run!r} at {at} of {text[:200]!r}: {error!r}"[:600]
                if long_s < GROWTH_S_MIN:
                    continue
                factor = long_s / short_s
                if factor > GROWTH_MAX:
                    long_s = fastest_s(module, long, origin)
                    factor = long_s / fastest_s(module, short, origin)
                if factor > worst:
                    worst, what = factor, f"{run!r} at {at} of {text[:200]!r}: {long_s * 1e3:.0f} ms"
    return worst, what


def fastest_s(module: ParserModule, text: str, origin: Origin, times: int = AGAIN) -> float:
    best_s = float("inf")
    for _ in range(times):
        gc.disable()
        begun = time.process_time()
        module.sniff(text)
        with contextlib.suppress(ParseError):
            for event in module.parse(text, origin):
                len(event.fields)  # work out those that wait
        best_s = min(best_s, time.process_time() - begun)
        gc.enable()
        if best_s < SLOW_S / 2:
            break
    return best_s


def _raises(module: ParserModule, line: bytes, origin: Origin) -> bool:
    try:
        module.parse(decode(line), origin)
    except ParseError:
        return False
    except UNEXPECTED:
        return True
    return False


def _sample(name: str) -> list[bytes]:
    return (GOLDEN / name / "sample.log").read_bytes().removesuffix(b"\n").split(b"\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=20_000, help="mutated lines per parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-growth", action="store_true", help="mutated lines only")
    parser.add_argument("parsers", nargs="*", help="all without any")
    given = parser.parse_args()
    bad = 0
    for name in given.parsers or parser_names():
        row = once(name, given.lines, given.seed)
        wrong = "raised" in row or row["lost"] > 0 or row["slowest ms"] > SLOW_S * 1e3
        if not given.no_growth:
            row["growth"], what = growth(name, given.seed)
            if row["growth"] > GROWTH_MAX:
                wrong, row["of"] = True, what
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
