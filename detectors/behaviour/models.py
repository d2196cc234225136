"""What was learned: calibration tables and forests, fitted from features, written as signed msgpack.

Nothing is ever unpickled; a file with another key, another version or a single changed byte is refused.
"""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from detectors.behaviour import forest as forests
from detectors.behaviour.calibration import NEVER_SEEN, RATE_MIN, Points, Scale, points_of, rate_of, scale_of
from detectors.facts import Feature

FORMAT = 1
MAGIC = b"stadtschild-model\n"
MODEL_BYTES_MAX = 268_435_456
KEY_BYTES_MIN = 16
SPARSE_POINTS = 10  # a class with fewer key-days reads the tail of all classes of its detector

WARMUP_SHARE_MAX = 0.42  # of a history; 5 of 12 days

ANY = "any"
HOURS = "hours"  # profile/hours: an hour's vector of a forest profile; profile/forest: its score
FOREST = "forest"


class ModelRefused(ValueError):  # noqa: N818 -- named as what happened
    """A model file that is not ours, was changed, or has a version this program does not know."""


class Learning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Days of a tenant before its own baselines mean something, and days of calibration before anything is rated."""

    warmup_days: int = 5
    calibration_days: int = 7
    trees: int = 100
    sample: int = 256

    def within(self, days: int) -> "Learning":
        """The same for whoever says that so many days must do: a short history is not all warm-up."""
        warmup = min(self.warmup_days, int(days * WARMUP_SHARE_MAX))
        calibration = max(1, min(self.calibration_days, days - warmup))
        return msgspec.structs.replace(self, warmup_days=warmup, calibration_days=calibration)


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Learning time of one profile (or, under the empty name, of everything) after warm-up, over all tenants."""

    tenant_days: int
    longest: int  # days of the tenant that was seen longest


class Models(msgspec.Struct, frozen=True, eq=False):
    """Calibration of every detector and class, and one forest per forest profile."""

    learning: Learning
    window: tuple[int, int]  # first and last day of the features, event time // 86400
    spans: dict[str, Span]
    points: dict[tuple[str, str], Points]  # (detector, class; `any` for all classes) -> strongest per key and day
    forests: dict[str, forests.Forest]
    fingerprints: dict[str, str]
    features: int  # how many were read
    scales: dict[tuple[str, str], Scale] = {}  # of the same places as the points: what joint frequencies mean

    @property
    def tenant_days(self) -> int:
        return self.span("").tenant_days

    def span(self, profile: str) -> Span:
        return self.spans.get(profile, Span(0, 0))

    def ready(self, profile: str = "") -> bool:
        return self.span(profile).longest >= self.learning.calibration_days

    def rate(
        self, detector: str, strength: tuple[float, ...], group: str = ANY, profile: str = "", *, own: bool = False
    ) -> float | None:
        """λ, or None while too few days were seen. For a rule's hit: `rate(rule_id, (1.0,))`; `own` for a point that these
        models were learned from.
        """
        if not self.ready(profile):
            return None
        days = self.span(profile).tenant_days
        points = self.points.get((detector, group))
        if points is None or len(points) < SPARSE_POINTS:
            group = ANY
            points = self.points.get((detector, group))
        if points is None:
            return max(RATE_MIN, NEVER_SEEN / days)
        return rate_of(points, days, strength, own=own, scale=self.scales.get((detector, group)))

    def encode(self, key: bytes) -> bytes:
        body = _packer.encode(
            _Stored(
                format=FORMAT,
                learning=self.learning,
                window=self.window,
                spans=self.spans,
                points=[
                    (detector, group, p.shape[1] if p.ndim == 2 else 0, p.astype("<f8").tobytes())
                    for (detector, group), p in sorted(self.points.items())
                ],
                forests={name: forests.packed(forest) for name, forest in sorted(self.forests.items())},
                fingerprints=self.fingerprints,
                features=self.features,
                scales=[(*place, s.astype("<f8").tobytes()) for place, s in sorted(self.scales.items()) if len(s)],
            )
        )
        return MAGIC + _signature(body, key) + body

    @staticmethod
    def decode(data: bytes, key: bytes) -> "Models":
        if len(data) > MODEL_BYTES_MAX:
            raise ModelRefused(f"model is longer than {MODEL_BYTES_MAX} bytes")
        if not data.startswith(MAGIC):
            raise ModelRefused("not a model file")
        signature, body = data[len(MAGIC) : len(MAGIC) + 32], data[len(MAGIC) + 32 :]
        if not hmac.compare_digest(signature, _signature(body, key)):
            raise ModelRefused("the signature does not fit: another key, or the file was changed")
        try:
            version = msgspec.msgpack.decode(body, type=_Header).format
            stored = msgspec.msgpack.decode(body, type=_Stored) if version == FORMAT else None
            if stored is not None:
                return _restored(stored)
        except (msgspec.DecodeError, ValueError) as error:
            raise ModelRefused(f"model cannot be read: {error}") from error
        raise ModelRefused(f"model has format {version}, this program reads {FORMAT}")


class _Header(msgspec.Struct):
    format: int


class _Stored(msgspec.Struct, frozen=True):
    format: int
    learning: Learning
    window: tuple[int, int]
    spans: dict[str, Span]
    points: list[tuple[str, str, int, bytes]]
    forests: dict[str, forests.Packed]
    fingerprints: dict[str, str]
    features: int
    scales: list[tuple[str, str, bytes]] = []


def _restored(stored: _Stored) -> Models:
    return Models(
        learning=stored.learning,
        window=stored.window,
        spans=stored.spans,
        points={(detector, group): _points(raw, width) for detector, group, width, raw in stored.points},
        forests={name: forests.unpacked(forest) for name, forest in stored.forests.items()},
        fingerprints=stored.fingerprints,
        features=stored.features,
        scales={
            (detector, group): np.frombuffer(raw, "<f8").astype(np.float64) for detector, group, raw in stored.scales
        },
    )


_packer = msgspec.msgpack.Encoder(order="deterministic")


def _signature(body: bytes, key: bytes) -> bytes:
    if len(key) < KEY_BYTES_MIN:
        raise ModelRefused(f"a signing key needs at least {KEY_BYTES_MIN} bytes")
    return hmac.new(key, MAGIC + body, hashlib.sha256).digest()


def _points(raw: bytes, width: int) -> Points:
    flat: Points = np.frombuffer(raw, "<f8").astype(np.float64)
    return flat.reshape(-1, width) if width > 0 else np.empty((0, 0))


def fit(
    features: Iterable[Feature], *, learning: Learning, seed: int, fingerprints: Mapping[str, str] | None = None
) -> Models:
    """Learn from the features of all tenants of a provider. Of equal (tenant, detector, key, day) the last counts.

    A feature without key marks a day on which a profile (its `detector`) saw facts at all: these days are the learning
    time, and each tenant's first `warmup_days` of them are left out. Detectors that are no profile's (rule hits) count
    with the days on which anything was seen.
    """
    strongest: dict[tuple[str, str, str, int], Feature] = {}
    vectors: dict[tuple[str, str, str, float], Feature] = {}
    days: dict[tuple[str, str], set[int]] = {}
    read = 0
    for feature in features:
        read += 1
        profile = feature.detector.split("/", 1)[0]
        days.setdefault((feature.tenant, ""), set()).add(feature.day)
        if not feature.key:
            days.setdefault((feature.tenant, profile), set()).add(feature.day)
        elif feature.detector.endswith(f"/{HOURS}"):
            vectors[feature.tenant, feature.detector, feature.key, feature.time] = feature
        else:
            strongest[feature.tenant, feature.detector, feature.key, feature.day] = feature
    begins = {place: _begin(sorted(seen), learning.warmup_days) for place, seen in days.items()}
    learned = [f for _, f in sorted(strongest.items()) if f.day >= _begin_of(f, begins)]
    hours = [f for _, f in sorted(vectors.items()) if f.day >= _begin_of(f, begins)]
    grown, scored = _forests(hours, learning, seed)
    refitted = {f"{name}/{FOREST}" for name in grown}  # scores of an earlier forest say nothing about this one
    spans = _spans(days, begins)
    points = _tables([f for f in learned if f.detector not in refitted] + scored)
    everyday = [day for (_, name), seen in days.items() if not name for day in seen]
    return Models(
        learning=learning,
        window=(min(everyday, default=0), max(everyday, default=0)),
        spans=spans,
        points=points,
        forests=grown,
        fingerprints=dict(fingerprints or {}),
        features=read,
        scales={place: scale_of(table, _days_of(place[0], spans)) for place, table in points.items()},
    )


def _days_of(detector: str, spans: Mapping[str, Span]) -> int:
    profile = detector.split("/", 1)[0] if "/" in detector else ""
    return max(1, spans.get(profile, Span(0, 0)).tenant_days)


def _begin(days: list[int], warmup_days: int) -> int:
    """The first day after warm-up; a day never reached where there were too few."""
    return days[warmup_days] if len(days) > warmup_days else days[-1] + 1


def _begin_of(feature: Feature, begins: Mapping[tuple[str, str], int]) -> int:
    profile = feature.detector.split("/", 1)[0]
    return begins.get((feature.tenant, profile), begins[feature.tenant, ""])


def _spans(days: Mapping[tuple[str, str], set[int]], begins: Mapping[tuple[str, str], int]) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    for (tenant, profile), seen in sorted(days.items()):
        learned = sum(day >= begins[tenant, profile] for day in seen)
        held = spans.get(profile, Span(0, 0))
        spans[profile] = Span(held.tenant_days + learned, max(held.longest, learned))
    return spans


def _tables(features: Iterable[Feature]) -> dict[tuple[str, str], Points]:
    strengths: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for feature in features:
        for group in {feature.group, ANY}:
            strengths.setdefault((feature.detector, group), []).append(feature.values)
    return {place: points_of(rows) for place, rows in strengths.items()}


def _forests(hours: list[Feature], learning: Learning, seed: int) -> tuple[dict[str, forests.Forest], list[Feature]]:
    """One forest per forest profile, and the strongest score per key and day of its own training hours."""
    by_profile: dict[str, list[Feature]] = {}
    for feature in hours:
        by_profile.setdefault(feature.detector.split("/", 1)[0], []).append(feature)
    grown: dict[str, forests.Forest] = {}
    scored: list[Feature] = []
    for profile, given in sorted(by_profile.items()):
        width = len(given[-1].values)
        used = [f for f in given if len(f.values) == width]
        if len(used) < forests.ROWS_MIN:
            continue
        rows = np.array([f.values for f in used], dtype=np.float64)
        forest = grown[profile] = forests.grow(rows, trees=learning.trees, sample=learning.sample, seed=seed)
        best: dict[Any, Feature] = {}
        for feature, score in zip(used, forest.score(rows).tolist(), strict=True):
            place = (feature.tenant, feature.key, feature.day)
            strength = score_strength(score)
            if strength and (place not in best or best[place].values < strength):
                best[place] = msgspec.structs.replace(feature, detector=f"{profile}/{FOREST}", values=strength)
        scored.extend(best.values())
    return grown, scored


def score_strength(score: float) -> tuple[float, ...]:
    """A forest's score as a strength: what it exceeds the average of 0.5 by."""
    return (score - 0.5,) if score > 0.5 else ()
