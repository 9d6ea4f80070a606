"""Attention with another mask or scale: each side's numbers are those of one, of the same queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.fits import ONE, TWO
from gradcheck.trajectory.causes.layers import EPS_UNITS, Linear, Source, lasts, row, sources, unit
from gradcheck.trajectory.causes.scene import Scene, StepCause, StepDiagnosis

MOST_HEADS = 32
GLANCE = 2  # positions, at which most that does not fit is seen
MOST_TRIPLES = 4  # results that may be queries, keys and values, the nearest

SHORT = 2  # positions, of which those that are off by one see as much as all or none
FAR = -1e30  # the score of what is masked: with all of a row masked, that attends to all alike

# By how many places each position sees ahead of itself; None is no mask.
MASKS: dict[int | None, str] = {
    0: "a causal mask",
    None: "no mask",
    1: "a mask that lets each position see one ahead: it is off by one",
    -1: "a mask that hides each position from itself: it is off by one",
}


class Attention(NamedTuple):
    """How attention is computed: its number of heads, its scale as a power of which size, and its mask."""

    heads: int
    scale: str  # of a head, of all, none
    mask: int | None

    def told(self, other: Attention) -> str:
        """Return in what this differs from another."""
        said = []
        if self.heads != other.heads:
            said.append(f"{self.heads} head{'' if self.heads == 1 else 's'}")
        if self.scale != other.scale:
            said.append(
                {
                    "of a head": "scores over the root of the size of a head",
                    "of all": "scores over the root of the size of all heads",
                }.get(self.scale, "scores without a scale")
            )
        if self.mask != other.mask:
            said.append(MASKS[self.mask])
        return " and ".join(said)


def attention(scene: Scene) -> StepDiagnosis | None:
    """Attention with another mask, scale or number of heads, alone or before the layer's own matrix."""
    one, eps = scene.comparison, unit(scene)
    for (q, k, v), last in product(_triples(scene), lasts(scene)):
        if not last.takes(one.numeric.shape, q.theirs.shape) or q.theirs.shape[-2] <= SHORT:
            continue
        arrays = (q.theirs, k.theirs, v.theirs), (q.ours, k.ours, v.ours)
        hows = list(_all(q.theirs.shape[-1]))
        theirs = next((how for how in hows if _gives(how, last, arrays[0], one.numeric, one.allowed, eps)), None)
        for how in hows if theirs is not None else ():
            if not _gives(how, last, arrays[1], one.analytic, one.allowed, eps):
                continue
            made = _attended(how, *arrays[1])
            if theirs is not None and one.explained_by(last(made), one.allowed + _unsure(last, arrays[1], eps), ONE):
                return StepDiagnosis(StepCause.ATTENTION, {"ours": how.told(theirs), "theirs": theirs.told(how)})
    return None


def _gives(
    how: Attention, last: Linear, given: tuple[Array, Array, Array], result: Array, allowed: Array, eps: float
) -> bool:
    """Return whether attention to what is given gives a result: at the last positions, and then at all."""
    for positions in (GLANCE, result.shape[-2]):
        some = row if positions == GLANCE and result.ndim > 2 else np.asarray
        q, k, v, wanted, near = (some(array) for array in (*given, result, allowed))
        off = np.abs(last(_attended(how, q[..., -positions:, :], k, v)) - wanted[..., -positions:, :])
        unsure = _unsure(last, (q, k, v), eps)[..., -positions:, :]
        if not np.all(off <= 2 * near[..., -positions:, :] + unsure):
            return False
    return True


def _unsure(last: Linear, given: tuple[Array, Array, Array], eps: float) -> Array:
    """Return by how much rounding moves what is made of values, whose means have their size."""
    return np.asarray(EPS_UNITS * last.rounding(np.abs(given[2]).max(axis=-2, keepdims=True) + 0 * given[2], eps))


def attention_weights(scene: Scene) -> StepDiagnosis | None:
    """Rows that add up to 1, of which one side has others masked, and the rest in the same proportions."""
    ours, theirs = scene.comparison.analytic, scene.comparison.numeric
    if ours.ndim < 2 or ours.shape[-1] != ours.shape[-2]:
        return None
    found = []
    for rows in (ours, theirs):
        fitting = [
            mask
            for mask in MASKS
            if np.array_equal(rows != 0, np.broadcast_to(_mask(mask, rows.shape[-1]), rows.shape))
        ]
        if (
            len(fitting) != 1
            or np.any(rows < 0)
            or np.any(np.abs(rows.sum(axis=-1) - 1) > rows.shape[-1] * unit(scene))
        ):
            return None
        found.append(fitting[0])
    both = (ours != 0) & (theirs != 0)
    sums = [np.where(both, rows, 0.0).sum(axis=-1, keepdims=True) for rows in (ours, theirs)]
    known = both & (sums[1] > 0)
    predicted = np.where(known, theirs * sums[0] / np.where(sums[1] > 0, sums[1], 1.0), ours)
    unsure = EPS_UNITS * unit(scene)
    if found[0] == found[1] or not scene.comparison.explained_by(predicted, scene.comparison.allowed + unsure, TWO):
        return None
    return StepDiagnosis(StepCause.ATTENTION, {"ours": MASKS[found[0]], "theirs": MASKS[found[1]]})


def _triples(scene: Scene) -> Iterator[tuple[Source, Source, Source]]:
    """Yield queries, keys and values: three results of one shape, or the thirds of one, in the order of execution."""
    given = [source for source in sources(scene) if source.theirs.ndim >= 2]
    following = zip(given, given[1:], given[2:], strict=False)
    apart = [(q, k, v) for v, k, q in following if q.theirs.shape == k.theirs.shape == v.theirs.shape]
    yield from apart[:MOST_TRIPLES]
    for whole in [source for source in given if source.theirs.shape[-1] % 3 == 0][:MOST_TRIPLES]:
        parts = [np.split(side, 3, axis=-1) for side in (whole.ours, whole.theirs)]
        q, k, v = (Source(whole.name, ours, theirs) for ours, theirs in zip(*parts, strict=True))
        yield q, k, v


def _all(size: int) -> Iterator[Attention]:
    heads = [count for count in range(1, MOST_HEADS + 1) if size % count == 0]
    scales = ("of a head", "of all", "none")
    return (Attention(count, scale, mask) for mask, scale, count in product(MASKS, scales, heads))


def _mask(ahead: int | None, size: int) -> Array:
    """Return which positions each position sees."""
    return np.ones((size, size), dtype=bool) if ahead is None else np.tri(size, k=ahead, dtype=bool)


def _attended(how: Attention, q: Array, k: Array, v: Array) -> Array:
    """Return ``softmax(q k^T scale + mask) v``, head by head, of arrays ``(..., positions, features)``.

    The queries may be those of the last positions alone.
    """
    length, size = k.shape[-2:]
    heads = [np.swapaxes(x.reshape(*x.shape[:-1], how.heads, size // how.heads), -2, -3) for x in (q, k, v)]
    scale = {"of a head": (size // how.heads) ** -0.5, "of all": size**-0.5, "none": 1.0}[how.scale]
    scores = np.where(_mask(how.mask, length)[-q.shape[-2] :], heads[0] @ np.swapaxes(heads[1], -1, -2) * scale, FAR)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = weights / weights.sum(axis=-1, keepdims=True) @ heads[2]
    return np.asarray(np.swapaxes(mixed, -2, -3).reshape(q.shape))
