"""Alerts as JSON lines on standard output or appended to a file, for SIEM agents that read files (Wazuh, Filebeat)."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from shield.sinks import Delivered, Outcome, Retry, SinkConfig


class Config(SinkConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    path: str = "-"  # `-` is standard output
    fsync: bool = True  # each line is on the disk before its offset is committed; off leaves that to the system
    mode: int = 0o640  # of a file made here


class Sink:
    """Appends one line per alert. A line torn by a full disk or a kill is closed off, so the next stays readable."""

    def __init__(self, config: Config, environ: Mapping[str, str]) -> None:
        del environ  # holds no secrets
        self._path = config.path
        self._fsync = config.fsync and config.path != "-"
        self._mode = config.mode
        self._file: int | None = None
        self._torn = False

    def send(self, alert: Mapping[str, Any], *, key: str, kind: str, attempt_time: float) -> Outcome:
        del key, kind, attempt_time  # the document itself holds id and revision
        line = msgspec.json.encode(alert) + b"\n"
        try:
            file = self._open()
            rest = memoryview(b"\n" + line if self._torn else line)
            while rest:
                written = os.write(file, rest)
                rest = rest[written:]
                self._torn = bool(rest)
            if self._fsync:
                os.fsync(file)
        except OSError as error:  # disk full, pipe closed, folder gone: another try may find it mended
            return Retry(f"cannot write: {error.strerror}")
        return Delivered()

    def close(self) -> None:
        if self._file is not None and self._path != "-":
            os.close(self._file)
        self._file = None

    def _open(self) -> int:
        if self._path == "-":
            return sys.stdout.fileno()
        if self._file is not None and not self._rotated():
            return self._file
        self.close()
        self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, self._mode)
        size = os.fstat(self._file).st_size
        self._torn = size > 0 and os.pread(self._file, 1, size - 1) != b"\n"
        return self._file

    def _rotated(self) -> bool:
        """Logrotate moved the file away: the open one is no longer what the path names."""
        assert self._file is not None
        held = os.fstat(self._file)
        try:
            named = Path(self._path).stat()
        except FileNotFoundError:
            return True
        return (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino)
