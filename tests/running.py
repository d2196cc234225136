"""Roles of the product as processes, as the supervisor starts them, to be killed and started again."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

STOP_S = 30.0


class Role(msgspec.Struct, kw_only=True):
    """One role, its process, and what became of it so far."""

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    kills: int = 0
    faults: list[int] = []  # exit codes that nobody asked for
    ended: bool = False  # with 0: a replay that was read to its end

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stderr=log, stdout=log, stdin=subprocess.DEVNULL, env=self.environment
            )

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-3_000:]


class Roles:
    """The roles of one configuration; all are gone when the block is left.

    with Roles(folder, config, environment) as roles:
        roles.add("detect-1", "detect")
    """

    def __init__(self, folder: Path, config: Path, environment: Mapping[str, str]) -> None:
        self.all: dict[str, Role] = {}
        self._folder = folder
        self._config = config
        self._environment = dict(environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running():
            process.kill()
        for process in self._running():
            process.wait()

    def add(self, name: str, command: str, *options: str) -> Role:
        whole = [sys.executable, "-m", "shield", command, str(self._config), "--worker", name, *options]
        log = self._folder / f"{name}.log"
        role = self.all[name] = Role(name=name, command=whole, log=log, environment=self._environment)
        role.start()
        return role

    def mend(self) -> None:
        """Start again what ended by itself, as the supervisor does; an exit code other than 0 is kept as a fault."""
        for role in self.all.values():
            if role.ended or role.process is None or (code := role.process.poll()) is None:
                continue
            if code == 0:
                role.ended = True
            else:
                role.faults.append(code)
                role.start()

    def alive(self) -> list[Role]:
        self.mend()
        return [role for role in self.all.values() if not role.ended]

    def stop(self) -> dict[str, int]:
        """SIGTERM to all; the exit codes of those that ran."""
        running = {
            name: role.process for name, role in self.all.items() if role.process and role.process.poll() is None
        }
        for process in running.values():
            process.terminate()
        return {name: process.wait(STOP_S) for name, process in running.items()}

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [role.process for role in self.all.values() if role.process is not None]
