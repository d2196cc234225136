"""The sink contract: what hands one alert to the outside, and what it may answer.

Sink contract. A module `shield/sinks/<name>.py` offers

    class Config(SinkConfig)         its options, checked and documented from the type
    class Sink:
        def __init__(self, config: Config, environ: Mapping[str, str]) -> None    ValueError when a secret is wrong
        def send(self, alert, *, key, kind, attempt_time) -> Outcome              one attempt; no error of the network
        def close(self) -> None

`environ` is where secrets named by an option are looked up; a sink keeps them out of its repr, its errors and its log.
"""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

Severity = Literal["informational", "low", "medium", "high", "critical"]
SEVERITIES: dict[str, int] = {"informational": 0, "info": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
_SECRET_BYTES_MAX = 4096  # of a secret file: what is larger is not a secret but a wrong path


class Backoff(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When an attempt that failed is repeated: full jitter under a doubling ceiling.

    It holds for all alerts of the sink together while the receiver is away, for one alert when only that one fails.
    """

    base_s: float = 0.5
    cap_s: float = 300.0
    give_up_after_s: float = 259_200.0  # three days after the first try the alert goes to the dead letters
    attempts_max: int | None = None  # give up after this many attempts, if that comes first
    retry_after_max_s: float = 3600.0  # a receiver's Retry-After beyond this is not believed

    def __post_init__(self) -> None:
        if not 0 < self.base_s <= self.cap_s:
            raise ValueError("`base_s` must be above 0 and not above `cap_s`")
        if self.attempts_max is not None and self.attempts_max < 1:
            raise ValueError("`attempts_max` must be at least 1")


class SinkConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options that every sink has: its name, which alerts it gets, and how patient it is."""

    name: str  # unique; names the consumer group, the metrics and the dead letters
    min_severity: Severity = "informational"
    tenants: tuple[str, ...] = ()  # empty: all
    detectors: tuple[str, ...] = ()  # rule ids or detector names; empty: all
    events: tuple[Literal["created", "updated"], ...] = ("created", "updated")
    backoff: Backoff = Backoff()
    parked_max: int = 200  # alerts that wait for another attempt per worker; beyond it the rest waits in the topic
    generation: int = 0  # raise it to switch a sink on again that its receiver disabled (HTTP 410)

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise ValueError("a sink's `name` consists of letters, digits, `-` and `_`")
        if self.parked_max < 1:
            raise ValueError("`parked_max` must be at least 1")


class Delivered(msgspec.Struct, frozen=True, tag="delivered"):
    pass


class Retry(msgspec.Struct, frozen=True, tag="retry"):
    """Not now: the network, or the receiver says so. `after_s` is what the receiver asked for."""

    reason: str
    after_s: float | None = None


class Rejected(msgspec.Struct, frozen=True, tag="rejected"):
    """Never: the receiver does not take this alert."""

    reason: str


class Disabled(msgspec.Struct, frozen=True, tag="disabled"):
    """The receiver wants no more alerts at all."""

    reason: str


Outcome = Delivered | Retry | Rejected | Disabled


class Sink(Protocol):
    def send(self, alert: Mapping[str, Any], *, key: str, kind: str, attempt_time: float) -> Outcome:
        """One attempt. `key` is the same for every attempt of one revision of one alert; `kind` is alert.created or
        alert.updated; `attempt_time` is seconds since the epoch.
        """

    def close(self) -> None: ...


class Secret:
    """A secret that shows itself only where `reveal` is called."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"


def secret(environ: Mapping[str, str], *, variable: str | None = None, file: str | None = None) -> Secret:
    """The secret in an environment variable or a file. Raises ValueError that names where, never what."""
    if variable is not None:
        text = environ.get(variable, "").strip()
        if not text:
            raise ValueError(f"the environment has no variable {variable}, which should hold a secret")
        return Secret(text)
    assert file is not None
    try:
        with Path(file).open("rb") as handle:
            raw = handle.read(_SECRET_BYTES_MAX + 1)
        text = raw.decode("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        raise ValueError(f"the secret file {file} cannot be read") from None
    if not text or len(raw) > _SECRET_BYTES_MAX:
        raise ValueError(f"the secret file {file} is empty or larger than {_SECRET_BYTES_MAX} bytes")
    return Secret(text)


def open_sink(config: SinkConfig, environ: Mapping[str, str] | None = None) -> Sink:
    """The sink that a Config belongs to. Raises ValueError when options or secrets are wrong."""
    module = importlib.import_module(type(config).__module__)
    sink: Sink = module.Sink(config, os.environ if environ is None else environ)
    return sink
