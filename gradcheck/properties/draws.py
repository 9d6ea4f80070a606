"""An initialiser against torch's: the distribution of its draws, and the source of its random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from gradcheck.contract import Array, Case, Initializer
from gradcheck.numerics.agreement import Worst, compare
from gradcheck.properties.outcome import Outcome, Settings, failure, judged
from gradcheck.streams import stream
from gradcheck.subjects.randomness import watched_randomness
from gradcheck.subjects.twin import twin_draws

# How often each of the tests below calls a right initialiser wrong.
FALSE_ALARM = 1e-9

# A normal number is beyond so many deviations, on both sides together, once in 1 / FALSE_ALARM times.
DEVIATIONS = 6.11

# Pairs enough for a nearly normal mean product: for normal numbers it is beyond 6 deviations 1.4 times as often.
MANY = 1_000

# Drawn on each side, in as many arrays as that takes.
ELEMENTS = 100_000


def draws_agree_with_twin(case: Case, settings: Settings = Settings()) -> Outcome:
    """The elements have torch's distribution, and are float64 of the shape asked for.

    Elements that are the same in every draw, such as zeros, must be equal. All others are pooled. Each of the
    `distances`, and of the `correlations` of a draw, has a limit that two samples of one distribution exceed once in
    10^9 times. With 100,000 elements, these faults are found in every other case: a normal's deviation off by 1.9 %, a
    uniform's bounds off by 0.06 %, a mean off by 2.7 % of the deviation, and a correlation of 1.9 %. A normal that is
    cut off at four deviations is not found: six of 100,000 elements are beyond.
    """
    initializer, array = _initializer(case), case.inputs[0]
    rng, count = case.rng("draws"), max(2, math.ceil(ELEMENTS / array.size))
    drawn = [initializer.draw(array.shape, rng, _fans(case)) for _ in range(count)]
    case.tally.evaluations += count
    for each in drawn:
        if each.shape != array.shape or each.dtype != np.float64:
            return failure(f"draws {each.shape} {each.dtype}; {array.shape} float64 is needed")
    theirs = twin_draws(initializer, case.inputs[-1].shape, count, case.seed)
    return same_distribution("element", np.array(drawn), theirs.reshape(count, *array.shape))


def draws_follow_their_generator(case: Case, settings: Settings = Settings()) -> Outcome:
    """The same seed gives the same numbers, another seed others, and no generator but the given one is used."""
    initializer, array = _initializer(case), case.inputs[0]
    with watched_randomness(0) as used:
        first, again, other = (
            initializer.draw(array.shape, stream("draws", case.seed + more), _fans(case)) for more in (0, 0, 1)
        )
    case.tally.evaluations += 3
    if used():
        return failure("draws from a global generator")
    if not np.array_equal(first, again):
        return failure("draws other numbers from a generator of the same seed")
    theirs = twin_draws(initializer, case.inputs[-1].shape, 2, case.seed)
    if np.array_equal(first, other) and not np.array_equal(theirs[0], theirs[1]):
        return failure("draws the same numbers from generators of two seeds")
    return judged([compare("element", first, again, 0.0)])


def same_distribution(tensor: str, ours: Array, theirs: Array) -> Outcome:
    """Return whether two stacks of draws, (draws, ...), may come from one distribution, the same for all elements."""
    constant = [np.all(draws == draws[0], axis=0) for draws in (ours, theirs)]
    if np.any(constant[0] != constant[1]):
        place = tuple(int(i) for i in np.argwhere(constant[0] != constant[1])[0])
        whose, value = ("our", ours[0][place]) if constant[0][place] else ("torch's", theirs[0][place])
        where = f"{tensor}[{', '.join(map(str, place))}]"
        return failure(f"{where} is {value} in each of {whose} draws, and differs from draw to draw in the other's")
    worsts: list[Worst | None] = [compare(tensor, ours[0][constant[0]], theirs[0][constant[0]], 0.0)]
    drawn = ~constant[0]
    if np.any(drawn):
        distinct = [np.unique(draws[0][drawn]).size for draws in (ours, theirs)]
        if distinct[0] < distinct[1]:
            return failure(f"there are {distinct[0]} different numbers in one draw, and {distinct[1]} in torch's")
        worsts += distances(ours[:, drawn].ravel(), theirs[:, drawn].ravel())
        worsts += correlations(ours[:, drawn])
    return judged(worsts)


def distances(ours: Array, theirs: Array) -> Iterator[Worst | None]:
    """Yield how far two samples of n numbers are apart, against what is exceeded once in 1 / `FALSE_ALARM` times.

    The means: their difference is normal with variance 2 var / n. The variances: likewise, with 2 (m4 - var^2) / n,
    where m4 is the fourth central moment. The distribution functions: their largest distance D exceeds
    ``sqrt(ln(2 / p) / n)`` with probability p (Kolmogorov and Smirnov; the first term of the series, the next is
    p^4 / 8). The number of elements of one that are beyond all of the other, which shows a bound: it is k or more with
    probability 2^-k at most.
    """
    n = len(ours)
    mean, variance = theirs.mean(), theirs.var()
    spread = ((theirs - mean) ** 4).mean() - variance**2
    yield _compare("mean", ours.mean(), mean, DEVIATIONS * math.sqrt(2 * variance / n))
    yield _compare("variance", ours.var(), variance, DEVIATIONS * math.sqrt(2 * spread / n))
    samples = [np.sort(ours), np.sort(theirs)]
    places = np.concatenate(samples)
    shares = [np.searchsorted(sample, places, side="right") / n for sample in samples]
    at = int(np.argmax(np.abs(shares[0] - shares[1])))
    allowed = math.sqrt(math.log(2 / FALSE_ALARM) / n)
    yield _compare(f"share of elements up to {places[at]:.6g}", shares[0][at], shares[1][at], allowed)
    beyond = {
        "above all of torch's": ours > theirs.max(),
        "below all of torch's": ours < theirs.min(),
        "above all of ours": theirs > ours.max(),
        "below all of ours": theirs < ours.min(),
    }
    for where, which in beyond.items():
        yield _compare(f"number of elements {where}", float(which.sum()), 0.0, math.log2(1 / FALSE_ALARM))


def correlations(draws: Array) -> Iterator[Worst | None]:
    """Yield correlations of the elements of draws, (draws, elements), against what independent elements have.

    Each element is paired with the next, and the first half of a draw with the second. For n independent pairs, the
    mean product of the deviations over the variance is nearly normal with variance 1 / n if n is large.
    """
    off = draws - draws.mean()
    half = draws.shape[1] // 2
    pairs = {"neighbours": (off[:, :-1], off[:, 1:]), "the two halves": (off[:, :half], off[:, half : 2 * half])}
    for which, (first, second) in pairs.items():
        if first.size >= MANY:
            value = float((first * second).mean() / off.var())
            yield _compare(f"correlation of {which}", value, 0.0, DEVIATIONS / math.sqrt(first.size))


def _fans(case: Case) -> tuple[int, int] | None:
    """Return the fans (in, out) of the weight that a case gives beside the array to be filled, or None."""
    if len(case.inputs) == 1:
        return None
    shape = case.inputs[1].shape
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


def _compare(name: str, ours: float, theirs: float, allowed: float) -> Worst | None:
    return compare(name, np.asarray(ours), np.asarray(theirs), allowed)


def _initializer(case: Case) -> Initializer:
    initializer = case.subject
    assert isinstance(initializer, Initializer)
    return initializer
