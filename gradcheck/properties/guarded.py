"""What an eps explains in a gradient is taken away before it is judged again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import LARGEST as LARGEST_GUARD
from gradcheck.diagnosis.guards import Guard, Place, alone, bound, guard_of, guard_of_samples, surest
from gradcheck.diagnosis.norms import POWERS, Seen, guard_of_norm, share_of, without_norm
from gradcheck.diagnosis.softmax import guard_of_softmax
from gradcheck.numerics.agreement import compare, largest
from gradcheck.numerics.differences import RICHARDSON_WEIGHTS, SHORTER, STEPS, derivatives
from gradcheck.numerics.directions import coordinates, unit
from gradcheck.numerics.functions import cast, function_of
from gradcheck.numerics.samples import batch_axis, part_of
from gradcheck.properties.explained import moved_from, target_of
from gradcheck.properties.held_guards import guard_of_held
from gradcheck.properties.judge import Derivatives, Judge, TensorFinding, TooLongError
from gradcheck.properties.lone_guards import alone_at_sure_answers, alone_beside_norm, is_divided, slopes_at, slopes_of
from gradcheck.properties.outcome import DIAGNOSED, useful

SAMPLES = 256  # of which each is tried alone, to tell an eps from a fault
LIFTED = 2.0**-15  # an element just above what a guard cuts off, and below what any other bound does
ROUGHLY = 0.05  # of itself, to which a slope is that of 1 / x there, by a step of a quarter
NEXT_TO_0 = 1e-30  # below every eps
WITHIN, BEYOND = 0.75, 1.5  # times an eps: a bound of that size lies between
BLATANT = 0.1  # of an element, by which it is off: then an eps is looked for while there is time
SHOWN = 16.0  # roundings of the value, by which a gradient would move it where it is flat

FARTHEST = {np.float64: 2.0**40, np.float32: 2.0**16}  # of its size, where no eps counts beside an input
AT_MOST = 4.0  # times the share that an eps has at another scale, and that power of the scale
WORST = 4  # elements of which one that is wrong there, too, tells that no eps is all
SCALES = (2.0**-6, 2.0**3, 2.0**6, 2.0**10, 2.0**14)  # of its size, at which the size of an eps is looked for

BESIDE = "eps beside a norm"  # what outputs have shown of it, for any input

PLACES = {
    Place.LOGARITHM: "inside the value's logarithm",
    Place.DIVISOR: "beside what it divides by",
    Place.NORM: "beside a norm of the input",
    Place.HELD: "beside an array that the layer holds",
    Place.SOFTMAX: "beside the sum of a softmax",
}


def freed(judge: Judge, found: Mapping[str, TensorFinding], kept: dict[str, Derivatives]) -> dict[str, TensorFinding]:
    """Judge gradients that disagree again, without an eps on one side alone.

    An eps beside a norm explains that of a parameter only if it explains that of an input, or the outputs show it.
    Evaluations are ``kept`` for what explains it otherwise.
    """
    result, normed = dict(found), False
    for name in sorted(found, key=lambda name: name not in judge.point.function.inputs):
        if found[name].disagrees:
            if _is_blatant(found[name]):
                result[name] = _freed(judge, name, found[name], kept, normed=normed)
            else:  # which an eps may explain, whatever time that takes to see
                unhurried = replace(judge, settings=replace(judge.settings, until=np.inf))
                result[name] = _freed(unhurried, name, found[name], {}, normed=normed)
            if result[name].disagrees:
                result[name] = _beside_norm(judge, name, found[name], kept) or result[name]
            guard = result[name].guard
            normed |= guard is not None and guard.place is Place.NORM
    return result


def _is_blatant(found: TensorFinding) -> bool:
    """Return whether a gradient is off by more than an eps moves any but the smallest shares."""
    worst = found.worst
    return worst is not None and abs(worst.analytic - worst.numeric) > BLATANT * max(
        abs(worst.analytic), abs(worst.numeric)
    )


def _freed(
    judge: Judge, name: str, found: TensorFinding, kept: dict[str, Derivatives], *, normed: bool
) -> TensorFinding:
    """Judge a gradient that disagrees again, without an eps that guards a logarithm in the value or in it alone."""
    grad = judge.grads[name]
    if grad.size > DIAGNOSED:
        return found
    try:
        numeric, allowed = found.known or judge.numeric_of(kept, name, judge.point.dy)
    except TooLongError:
        return found
    # What does not move is known no better than the outputs: a share of 1e-20 in a logarithm may still count.
    blurred = np.where(numeric == 0, allowed + _grain(judge, name), allowed)
    at_kinks = ~np.isfinite(allowed) & (found.kinks is not None and found.kinks.ratio > 1)
    lone = alone_at_sure_answers(judge, name, Comparison(grad, numeric, blurred), at_kinks)
    # A right answer of which a probability is sure lies beyond a bound as well, with a slope of 1 just inside it.
    beyond = at_kinks & ~lone
    clipped = bool(np.any(beyond)) and bool(_is_right_above(judge, name, beyond, flat=False))
    if clipped or (np.any(at_kinks) and not np.any(beyond)):
        found = replace(found, kinks=None)
    if np.any(lone):
        found = _left_out(name, grad, replace(found, numeric=numeric, allowed=allowed), lone)
        allowed, blurred = (np.where(lone, np.inf, one) for one in (allowed, blurred))
    comparison = Comparison(grad, numeric, blurred)
    failing = bool(np.any(Comparison(grad, numeric, allowed).failing))
    if not failing and not clipped:  # the disagreement is at kinks alone, or where an eps is
        return found
    guard = _best(name, comparison, _guards(judge, name, comparison, normed=normed)) or _bound(judge, name, comparison)
    if guard is not None and np.any(guard.outside):
        right = _is_right_above(judge, name, guard.outside, flat=True)
        if right is False or (guard.place is Place.DIVISOR and not right):
            guard = None  # what is flat is so beyond any guard
    if guard is None and clipped:
        guard = bound(beyond)
    if guard is None or _worse(comparison, guard):
        return found
    if guard.sure and guard.place is Place.LOGARITHM and guard.eps:
        judge.case.tally.eps[guard.eps] = guard.error
    if guard.beside is not None:
        judge.case.measured.setdefault(BESIDE, guard.beside)
    guard = replace(guard, alone=lone)
    without, margin = guard.without(numeric, blurred)
    smooth, off = compare(name, grad, without, margin), guard.moves(numeric)
    if guard.eps - guard.error > LARGEST_GUARD and smooth is not None and smooth.ratio <= 1:
        return replace(found, cause=Diagnosis(Cause.GUARD, {"eps": str(guard), "place": guard.place, "off": off}))
    if not guard.sure:
        return replace(found, worst=found.kinks, told=found.kinks is not None, guard=guard, off=off)
    inside = np.isfinite(margin)
    told = bool(inside.any()) and useful(margin[inside], grad[inside], without[inside])
    worst, told = largest(smooth if inside.any() else None, found.kinks), told or found.kinks is not None
    return replace(found, worst=worst, told=told, numeric=without, allowed=margin, guard=guard, off=off)


def _worse(comparison: Comparison, guard: Guard) -> bool:
    """Return whether more elements disagree without a guard than with it: then it is on both sides."""
    numeric, allowed = guard.without(comparison.numeric, comparison.allowed)
    without = np.abs(comparison.analytic - numeric) > allowed
    return int(without.sum()) > int(comparison.failing.sum())


def _left_out(name: str, grad: Array, found: TensorFinding, lone: Array) -> TensorFinding:
    """Return what is found without some elements, of which an eps is much of what they are divided by."""
    assert found.known is not None
    numeric, allowed = found.known[0], np.where(lone, np.inf, found.known[1])
    known = np.isfinite(allowed)
    told = found.kinks is not None or (bool(known.any()) and useful(allowed[known], grad[known], numeric[known]))
    worst = largest(compare(name, grad, numeric, allowed), found.kinks)
    return replace(found, worst=worst, told=told, allowed=allowed, guard=alone(lone))


def _beside_norm(judge: Judge, name: str, found: TensorFinding, kept: dict[str, Derivatives]) -> TensorFinding | None:
    """Leave out what another eps explains where an input of our own making is small; None if none does."""
    grad = judge.grads[name]
    try:
        numeric, allowed = found.known or judge.numeric_of(kept, name, judge.point.dy)
    except TooLongError:
        return None
    lone = alone_beside_norm(judge, name, Comparison(grad, numeric, allowed))
    return _left_out(name, grad, replace(found, numeric=numeric, allowed=allowed), lone) if np.any(lone) else None


def _best(name: str, comparison: Comparison, guards: Iterator[Guard | None]) -> Guard | None:
    """Return the first guard that is sure and all that is wrong; else the first that is sure, or the first of all."""
    found = []
    for guard in guards:
        if guard is not None:
            found.append(guard)
            rest = compare(name, comparison.analytic, *guard.without(comparison.numeric, comparison.allowed))
            if guard.sure and (rest is None or rest.ratio <= 1):
                return guard
    return surest(found)


def _guards(judge: Judge, name: str, comparison: Comparison, *, normed: bool) -> Iterator[Guard | None]:
    """Yield what may guard the value or the gradient, the cheapest to find first."""
    known, is_input = judge.case.tally.eps, name in judge.point.function.inputs
    if is_input:
        x, target = judge.point.variables[name], target_of(judge.point.function)
        yield guard_of_softmax(comparison, x, judge.point.y, judge.point.dy)
        moved = moved_from(judge.case, judge.point.function, judge.point.variables, name, judge.point.dy)
        yield guard_of(comparison, x, judge.point.dy, target, moved, known)
    yield _guard_of_samples(judge, name, comparison, known)
    yield guard_of_held(judge, name, comparison)
    if judge.point.function.inputs:
        guard = _guard_of_norm(judge, name, comparison)
        if is_input or normed or (guard is not None and guard.beside is not None):
            yield guard


def _bound(judge: Judge, name: str, comparison: Comparison) -> Guard | None:
    """Return the bound that is all that is wrong: the value is flat where an input is smaller than a guard.

    Just above any guard the value must move with these elements, and the gradient be right. So ``log(max(p, eps))`` is
    seen of one number, too, and a rectifier without its mask, flat however large its input, is not.
    """
    numeric, allowed = comparison.numeric, comparison.allowed
    beyond = np.abs(comparison.analytic - numeric) > allowed
    if np.any(np.abs(numeric[beyond]) > allowed[beyond]):
        return None
    flat = not np.any(numeric[beyond])
    return bound(beyond) if _is_right_above(judge, name, beyond, flat=flat) else None


def _is_right_above(judge: Judge, name: str, beyond: Array, *, flat: bool) -> bool | None:
    """Return whether the value moves as the gradient says where elements beyond a bound are just above any guard.

    Where they are now it has to be flat: that is known, or it is looked at a step inwards by which the gradient would
    move it. Nearer to 0 or 1 the gradient is as large at least, and of the same sign. Of a number that is 0 or 1, it
    has to be that just above, or that of a logarithm with an eps at which the value begins to move: that of a square is
    flat at 0, too. None if nothing can be told: of numbers that are not near 0 or 1, outside the domain, or where
    rounding hides the slope.
    """
    point, x, places = judge.point, judge.point.variables[name], np.flatnonzero(beyond)
    end = np.where(np.abs(x - 1) < 0.5, 1.0, 0.0)
    away, inwards = np.abs(x - end)[beyond], np.where(end == 1.0, -1.0, np.copysign(1.0, x))
    if not len(places) or np.any(away > LARGEST_GUARD):
        return None
    lifted = {**point.variables, name: np.where(beyond, end + inwards * LIFTED, x).astype(x.dtype)}
    every = np.arange(len(places))
    try:
        y, pullback = point.function.call(lifted, point.context())
        grad, own = pullback(point.dy)[name].reshape(-1)[places], judge.grads[name][beyond]
        at, ends, signs = slopes_at(judge, name, beyond), end[beyond].astype(x.dtype), inwards[beyond]
        twice = 2 * at(ends + 2 * signs * LIFTED)
        constant, logarithmic = (np.abs(one - grad) <= ROUGHLY * np.abs(grad) for one in (twice / 2, twice))
        goes_on = (own * grad > 0) & (np.abs(own) >= (1 - ROUGHLY) * np.abs(grad))
        goes_on &= ~constant | (np.abs(own) <= (1 + ROUGHLY) * np.abs(grad))
        if np.any((away > 0) & (own != 0) & ~goes_on):
            return False
        judged = logarithmic & (own != 0)
        if np.any(judged) and not np.all(
            is_divided(at, ends, signs, own, away, lambda d: grad * LIFTED + 0 * d)[judged]
        ):
            return False
        if np.any(away == 0):
            inside = end + inwards * np.where(end == 1.0, np.finfo(x.dtype).eps / 2, NEXT_TO_0)

            def bounds(eps: Array) -> Array:
                lines, sign = coordinates(point, name).only(places), inwards[beyond]
                size = np.where((away == 0) & (eps <= LARGEST_GUARD), eps, LIFTED)
                below, above = (lines.at(every, share * sign * size)[0] for share in (WITHIN, BEYOND))
                return np.asarray(np.all(below == lines.y, axis=1) & np.any(above != lines.y, axis=1) & (size == eps))

            same = np.abs(own - grad) <= ROUGHLY * np.abs(grad)
            eps, goes_on = _of_eps(own, at(inside[beyond]), grad, np.abs(inside - end)[beyond])
            if np.any((away == 0) & (own != 0) & ~same & ~goes_on):
                return False
            if not np.all((away > 0) | same | (logarithmic & goes_on & bounds(eps))):
                return None
        lines = coordinates(replace(point, variables=lifted, y=y), name).only(places)
        slope, noise = slopes_of(lines, LIFTED / 4)
        if np.any(noise > ROUGHLY * np.abs(grad)):
            return None
        if not flat:
            least = np.minimum(np.abs(grad), np.abs(judge.grads[name])[beyond])
            here, shown = coordinates(point, name).only(places), inwards[beyond] * SHOWN * noise * (LIFTED / 4) / least
            if not np.all(np.abs(shown) <= LARGEST_GUARD) or np.any(here.at(every, shown)[0] != here.y[0]):
                return None
    except Exception:  # noqa: BLE001  outside its domain it may raise anything
        return None
    return bool(np.all(np.abs(slope - grad) <= ROUGHLY * np.abs(grad) + noise))


def _of_eps(own: Array, inside: Array, above: Array, distance: Array) -> tuple[Array, Array]:
    """Return the eps of a slope at 0 or 1 that is ``k / eps``, and where it goes on inside as that does.

    The k is that of ``k / p`` at `LIFTED` ``above``. At a ``distance`` inside the slope is the same, or
    ``k / (eps + distance)``: what is wrong at 0 and 1 alone is not.
    """
    with np.errstate(all="ignore"):
        eps, shifted = above * LIFTED / own, above * LIFTED / inside
        return eps, (eps > 0) & (eps <= (1 + ROUGHLY) * shifted) & (eps >= (1 - ROUGHLY) * shifted - distance)


def _guard_of_samples(judge: Judge, name: str, whole: Comparison, known: Mapping[float, float]) -> Guard | None:
    """Return the guard that a loss of many samples is off by, as each sample alone shows it."""
    case, axis = judge.case, batch_axis(judge.case)
    if judge.point.y.ndim or axis is None or case.inputs[0].ndim < 2 or case.inputs[0].shape[axis] > SAMPLES:
        return None
    count = case.inputs[0].shape[axis]
    values, gradients = np.empty(count), np.zeros((count, *whole.numeric.shape))
    for i in range(count):
        try:
            function = function_of(part := part_of(case, axis, slice(i, i + 1)))
            values[i], pullback = function.call(cast(function.variables, judge.point.precision), part.context())
            own = (slice(None),) * axis + (slice(i, i + 1),) if name in function.inputs else ...
            gradients[i][own] = pullback(judge.point.dy)[name]
        except Exception:  # noqa: BLE001  it takes no single samples
            return None
    return guard_of_samples(whole, values, gradients, known)


def _guard_of_norm(judge: Judge, name: str, once: Comparison) -> Guard | None:
    """Return the guard that a gradient is off by, as inputs of other sizes show it; that of a scale is off, too.

    Twice as large they tell how it shrinks. Where it is too large for that, or hardly larger than rounding, its size is
    found at inputs that are much larger or smaller, and at these it must be all that parts the gradient from what it is
    where the eps no longer counts. That must be so of a parameter's gradient in any case.
    """
    source = name if name in judge.point.function.inputs else judge.point.function.inputs[0]

    def at(scale: float) -> Seen | None:
        there = _scaled(judge, scale)
        if there is None:
            return None
        try:
            numeric, allowed = there.numeric_of({}, name, there.point.dy)
        except Exception:  # noqa: BLE001  outside its domain, or too long to tell
            return None
        return Seen(Comparison(there.grads[name], numeric, allowed + there.noise(name)), there.point.y)

    def of(scale: float) -> Guard | None:
        first = Seen(once, judge.point.y) if scale == 1 else at(scale)
        # What counts as little there as this cannot come to more here.
        most = AT_MOST * max(scale, scale ** max(POWERS))
        if first is None or share_of(once) > most * share_of(first.gradients):
            return None
        point = judge.point
        own, x = ((scale if each in point.function.inputs else 1.0) * point.variables[each] for each in (name, source))
        return guard_of_norm(first, lambda by: at(scale * by), own, x, judge.case.measured.get(BESIDE))

    guard = of(1.0)
    if guard is None if source != name else guard is not None:
        return guard
    beyond = None if _differs_beyond(judge, name, once) else at(FARTHEST[judge.point.precision])
    if beyond is None or (limit := without_norm(once, beyond.gradients, FARTHEST[judge.point.precision])) is None:
        return None
    if source != name:
        return guard
    for scale in SCALES:
        if (guard := of(scale)) is not None and guard.eps - guard.error <= LARGEST_GUARD:
            return replace(guard, shift=limit.shift, blur=limit.blur)
    return None


def _differs_beyond(judge: Judge, name: str, once: Comparison) -> bool:
    """Return whether one of the worst elements is wrong, or cannot be judged, where no eps counts, either."""
    there = _scaled(judge, FARTHEST[judge.point.precision])
    if there is None:
        return True
    with np.errstate(all="ignore"):
        worst = np.argsort(-np.nan_to_num(np.abs(once.error) / once.allowed).reshape(-1))[:WORST]
        grad = there.grads[name].reshape(-1)
        estimate = derivatives(coordinates(there.point, name).only(worst))
        last = there.factor * np.finfo(grad.dtype).eps * max(np.abs(grad).max(), np.abs(estimate.value).max())
        allowed = estimate.error + last + there.noise(name).reshape(-1)[worst]
        return not np.all(np.isfinite(allowed) & (np.abs(grad[worst] - estimate.value) <= allowed))


def _scaled(judge: Judge, scale: float) -> Judge | None:
    """Return the judge of the same gradient for inputs that are larger by a power of two; None outside the domain."""
    point = judge.point
    larger = {key: scale * x if key in point.function.inputs else x for key, x in point.variables.items()}
    # The target, too: a ratio of sums over both is then what it was.
    inputs = tuple(scale * array if array.dtype.kind == "f" else array for array in judge.case.inputs)
    try:
        return judge.moved(larger, function_of(replace(judge.case, inputs=inputs)))
    except Exception:  # noqa: BLE001  outside its domain
        return None


def _grain(judge: Judge, name: str) -> float:
    """Return by how much a derivative may be off where outputs do not move, at the shortest of the usual steps."""
    step = STEPS[judge.point.precision].first * SHORTER * unit(judge.point.variables[name])
    last = np.finfo(judge.point.y.dtype).eps / 2 * np.abs(judge.point.dy * judge.point.y).sum()
    return float(RICHARDSON_WEIGHTS * last / step)


def remarks_of(found: Mapping[str, TensorFinding]) -> Iterator[str]:
    """Say by how much an eps moves gradients, each eps once, and what lies beyond a bound."""
    alike: dict[str, list[str]] = {}
    for name, one in found.items():
        if one.guard is not None and one.guard.eps:
            doubt = "" if one.guard.sure else ": one number is too few to tell that from another cause"
            how = (
                f"by an eps = {one.guard} {PLACES[one.guard.place]}, and by something else"
                if one.disagrees
                else (f"as eps = {one.guard} {PLACES[one.guard.place]} explains{doubt}")
            )
            alike.setdefault(how, []).append(name)
        if one.guard is not None and np.any(one.guard.alone):
            of = f"{int(np.sum(one.guard.alone))} of {one.guard.outside.size} elements of {name}"
            yield f"{of} are not judged: there an eps is much, or all, of what the gradient is divided by"
        if one.guard is not None and np.any(one.guard.outside):
            flat = f"{int(one.guard.outside.sum())} of {one.guard.outside.size} elements of {name}"
            yield f"{flat} are not judged: there the value is clipped, and flat"
    for explanation, names in alike.items():
        off = max(found[name].off for name in names)
        yield f"{', '.join(names)}: off by {off:.0e} of the gradient, {explanation}"
