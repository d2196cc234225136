"""Isolation forests as plain arrays: grown by pyod and scikit-learn in training, scored here by numpy alone.

The score is that of Liu, Ting and Zhou, "Isolation Forest" (ICDM 2008): 2^(-mean path length / c), 0.5 on average.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]

CHUNK_ROWS = 1024  # rows scored at once, bounds memory to rows x trees
ROWS_MIN = 256  # fewer hours teach nothing
ROWS_MAX = 50_000
TREES_MAX = 1000
NODES_MAX = 2_000_000


class Forest(msgspec.Struct, frozen=True, eq=False):
    """All trees' nodes in one run; a leaf points at itself. `path` is the path length of a leaf, its depth included."""

    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    path: Floats
    roots: Ints
    depth: int
    scale: float  # c(sample size)
    median: Floats  # of each feature in training: what "usual" means in contributions

    @property
    def features(self) -> int:
        return len(self.median)

    def score(self, rows: Floats) -> Floats:
        """Anomaly score in (0, 1) of each row (rows x features); larger is stranger."""
        narrow = np.asarray(rows, dtype=np.float32)  # thresholds were chosen on 32-bit values
        scores = np.empty(len(narrow))
        for start in range(0, len(narrow), CHUNK_ROWS):
            chunk = narrow[start : start + CHUNK_ROWS]
            at = np.broadcast_to(self.roots, (len(chunk), len(self.roots)))
            row = np.arange(len(chunk))[:, None]
            for _ in range(self.depth):
                at = np.where(chunk[row, self.feature[at]] <= self.threshold[at], self.left[at], self.right[at])
            mean = self.path[at].sum(axis=1) / len(self.roots)
            scores[start : start + CHUNK_ROWS] = np.exp2(-mean / self.scale) if self.scale > 0 else 1.0
        return scores

    def contributions(self, rows: Floats, groups: list[list[int]]) -> Floats:
        """How much lower the score were, had the features of a group their usual values (rows x groups)."""
        rows = np.asarray(rows, dtype=np.float64)
        score = self.score(rows)
        gains = np.empty((len(rows), len(groups)))
        for number, group in enumerate(groups):
            usual = rows.copy()
            usual[:, group] = self.median[group]
            gains[:, number] = score - self.score(usual)
        return gains


def average_path(size: float) -> float:
    """c(n): mean path length of an unsuccessful search among n, which stands for the part of a tree not grown."""
    if size <= 1:
        return 0.0
    if size <= 2:
        return 1.0
    return float(2.0 * (np.log(size - 1.0) + np.euler_gamma) - 2.0 * (size - 1.0) / size)


def grow(rows: Floats, *, trees: int, sample: int, seed: int) -> Forest:
    """Fit an isolation forest (pyod) and take its trees over. Imports scikit-learn."""
    from pyod.models.iforest import IForest

    if len(rows) > ROWS_MAX:
        rows = rows[np.sort(np.random.default_rng(seed).choice(len(rows), ROWS_MAX, replace=False))]
    grown = IForest(n_estimators=trees, max_samples=min(sample, len(rows)), random_state=seed).fit(rows)
    return taken_over(grown.detector_, np.median(rows, axis=0))


def taken_over(grown: Any, median: Floats) -> Forest:
    """The plain arrays of a fitted scikit-learn IsolationForest."""
    parts: list[tuple[Any, ...]] = []
    roots, offset, deepest = [], 0, 0
    for estimator in grown.estimators_:
        tree = estimator.tree_
        own = np.arange(tree.node_count)
        leaf = tree.children_left < 0
        depth = np.zeros(tree.node_count)
        for node in own:  # children have larger numbers than their parent
            if not leaf[node]:
                depth[tree.children_left[node]] = depth[tree.children_right[node]] = depth[node] + 1
        rest = np.array([average_path(n) for n in tree.n_node_samples])
        parts.append(
            (
                np.where(leaf, 0, tree.feature),
                np.where(leaf, 0.0, tree.threshold),
                np.where(leaf, own, tree.children_left) + offset,
                np.where(leaf, own, tree.children_right) + offset,
                np.where(leaf, depth + rest, 0.0),
            )
        )
        roots.append(offset)
        offset += tree.node_count
        deepest = max(deepest, int(depth.max()))
    feature, threshold, left, right, path = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Forest(
        feature=feature.astype(np.int32),
        threshold=threshold.astype(np.float64),
        left=left.astype(np.int32),
        right=right.astype(np.int32),
        path=path,
        roots=np.array(roots, dtype=np.int32),
        depth=deepest,
        scale=average_path(grown.max_samples_),
        median=np.asarray(median, dtype=np.float64),
    )


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """A forest as bytes: little-endian arrays."""

    feature: bytes
    threshold: bytes
    left: bytes
    right: bytes
    path: bytes
    roots: bytes
    depth: int
    scale: float
    median: bytes


def packed(forest: Forest) -> Packed:
    return Packed(
        feature=forest.feature.astype("<i4").tobytes(),
        threshold=forest.threshold.astype("<f8").tobytes(),
        left=forest.left.astype("<i4").tobytes(),
        right=forest.right.astype("<i4").tobytes(),
        path=forest.path.astype("<f8").tobytes(),
        roots=forest.roots.astype("<i4").tobytes(),
        depth=forest.depth,
        scale=forest.scale,
        median=forest.median.astype("<f8").tobytes(),
    )


def unpacked(data: Packed) -> Forest:
    """Raises ValueError where the arrays do not make trees."""
    feature, left, right, roots = (
        np.frombuffer(b, "<i4").astype(np.int32) for b in (data.feature, data.left, data.right, data.roots)
    )
    threshold, path, median = (
        np.frombuffer(b, "<f8").astype(np.float64) for b in (data.threshold, data.path, data.median)
    )
    nodes = len(feature)
    same = {len(threshold), len(left), len(right), len(path)} == {nodes}
    if not same or not 0 < nodes <= NODES_MAX or not 0 < len(roots) <= TREES_MAX or not 0 <= data.depth <= 64:
        raise ValueError("a forest's arrays do not fit together")
    within = all(int(a.min()) >= 0 and int(a.max()) < nodes for a in (left, right, roots))
    if not within or int(feature.min()) < 0 or int(feature.max()) >= len(median):
        raise ValueError("a forest's nodes point outside it")
    return Forest(feature, threshold, left, right, path, roots, data.depth, data.scale, median)
