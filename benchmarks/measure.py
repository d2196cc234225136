"""What every benchmark shares: facts about the machine, medians of runs, processes watched from outside, results as JSON."""

import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "bench"
RUNS = 3
WAIT_S = 900.0  # for anything that must happen
_TICKS = os.sysconf("SC_CLK_TCK")

Row = Mapping[str, Any]


def machine() -> dict[str, Any]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model"))
        ),
        platform.machine(),
    )
    memory_kb = int(Path("/proc/meminfo").read_text().split()[1])
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(memory_kb / 1e6, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "packages": {name: version(name) for name in ("confluent-kafka", "google-re2", "msgspec", "numpy")},
    }


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", ROOT, *arguments], check=False, capture_output=True, text=True)
        return done.stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (
        " with changes" if git("status", "--porcelain") else ""
    )


def median(rows: Sequence[Row]) -> dict[str, Any]:
    """Number by number over the runs; anything else must be the same in all of them."""
    result: dict[str, Any] = {}
    for name, first in rows[0].items():
        values = [row[name] for row in rows]
        if isinstance(first, bool) or not isinstance(first, int | float):
            result[name] = first if all(value == first for value in values) else values
        else:
            middle = statistics.median(values)
            result[name] = middle if isinstance(first, float) else round(middle)
    return result


def cpu_of(work: Callable[[], Any]) -> float:
    """CPU seconds of this process that one call takes."""
    begun = time.process_time()
    work()
    return time.process_time() - begun


def write(name: str, rows: Sequence[Row], **more: Any) -> None:
    """Into build/bench/<name>.json, and as a table on standard output."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = {"benchmark": name, "machine": machine(), **more, "rows": list(rows)}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    facts = found["machine"]
    print(f"\n{name}: {facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, commit {facts['commit']}")
    for key, value in more.items():
        print(f"  {key}: {value}")
    print(table(rows), flush=True)


def table(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    cells = [columns, *([_cell(row.get(name, "")) for name in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def _cell(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


class Process:
    """Any process, measured from outside."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu_s(self) -> float:
        """User and system time so far, of all its threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def peak_mb(self) -> float:
        """Largest resident size so far (VmHWM)."""
        return _peak_mb(self.pid)


class Watched(Process):
    """A process that we started."""

    def __init__(self, process: "subprocess.Popen[bytes]", log: Path) -> None:
        super().__init__(process.pid)
        self.process = process
        self.log = log

    def check(self) -> None:
        code = self.process.poll()
        if code is not None:
            raise RuntimeError(
                f"{self.process.args!r} ended with {code}: {self.log.read_text(errors='replace')[-2000:]}"
            )


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Watched]:
    """A process of its own session; ended on the way out."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Watched(process, log)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def shield(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "shield", *arguments]


def _peak_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0  # it has ended


def finished(command: Sequence[str], log: Path) -> dict[str, float]:
    """Run to the end: CPU and wall seconds, and peak memory.

    The memory is read while it runs: what `wait4` tells counts in the size of this process at the moment of the start.
    """
    begun, peak_mb = time.monotonic(), 0.0
    with log.open("ab") as out:
        pid = os.posix_spawn(
            command[0],
            list(command),
            dict(os.environ),
            file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1), (os.POSIX_SPAWN_DUP2, out.fileno(), 2)],
        )
        while not (ended := os.wait4(pid, os.WNOHANG))[0]:
            peak_mb = max(peak_mb, _peak_mb(pid))
            time.sleep(0.02)
    _, status, usage = ended
    code = os.waitstatus_to_exitcode(status)
    if code not in {0, 1}:  # 1: there were findings
        raise RuntimeError(f"{' '.join(command)} ended with {code}: {log.read_text(errors='replace')[-2000:]}")
    return {
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.monotonic() - begun,
        "peak_mb": peak_mb,
    }


def until(done: Callable[[], Any], what: str, *, every_s: float = 0.05, within_s: float = WAIT_S) -> Any:
    """Poll for a condition; answers what it answered."""
    deadline = time.monotonic() + within_s
    while not (answer := done()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {within_s:.0f} s in vain: {what}")
        time.sleep(every_s)
    return answer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def metrics(port: int) -> dict[str, float]:
    """Sums per metric name of a role; empty while it does not answer."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    found: dict[str, float] = {"up": 1.0}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            name = series.split("{", 1)[0]
            found[name] = found.get(name, 0.0) + float(value)
            if name == "shield_batch_phase_seconds_sum":
                found["wall_s_" + series.split('"')[1]] = float(value)
    return found
