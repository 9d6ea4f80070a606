"""The pullback against derivatives of the forward pass, and against itself: no second implementation is needed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from types import MappingProxyType

import numpy as np

from gradcheck.contract import Array, Case, Context
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.gradients import diagnose
from gradcheck.diagnosis.guards import LARGEST as LARGEST_GUARD
from gradcheck.diagnosis.guards import Guard, Place, guard_of
from gradcheck.diagnosis.norms import LARGEST_SHARE, guard_of_norm, share_of
from gradcheck.numerics.agreement import Verdict, Worst, compare, largest, ratio_of
from gradcheck.numerics.differences import (
    DEVIATIONS,
    FIRST_STEP,
    RICHARDSON_WEIGHTS,
    SHORTER,
    Estimate,
    Integers,
    Lines,
    derivatives,
    elementwise_noise,
    hidden,
)
from gradcheck.numerics.directions import (
    Point,
    along,
    complex_step,
    coordinates,
    samples_are_independent,
    stacked_complex_step,
    stacked_coordinates,
    unit,
)
from gradcheck.numerics.functions import Arrays, Pullback, cast, function_of, shadow
from gradcheck.numerics.generalised import generalised_gradient
from gradcheck.numerics.rounding import Recorder, nudged, spread
from gradcheck.numerics.samples import batch_axis
from gradcheck.properties.outcome import (
    CERTAIN,
    DIAGNOSED,
    LARGE,
    SHADOWS,
    USEFUL,
    Outcome,
    Settings,
    allowance,
    cotangent,
    counted,
    factor_of,
    failure,
    inconclusive,
    judged,
    shadows_of,
    useful,
)
from gradcheck.properties.stops import stopped_in_twin

PROBES = 8  # of fast mode, a tensor;
PROBES_OF_LARGE = 2  # fewer where there are so many elements that a call takes long
CONFIRMED = 32  # disagreeing elements that are measured again at other steps, the worst first
EVALUATIONS_A_LINE = 12  # two steps of six
AUTO_EVALUATIONS = 1_000  # in auto mode a tensor that takes more is probed along random directions,
AUTO_WORK = 1 << 26  # and so is one for which evaluations x elements in and out exceed this
EXPLAINING_EVALUATIONS = 20_000  # for which one tensor's disagreement is explained, if max_evaluations allows them
KEPT = 1 << 23  # outputs of evaluations kept for an explanation
SMALL = 4  # elements, up to which differences cost less than a complex step and its confirmation


@dataclass(frozen=True)
class TensorFinding:
    """What was found of one tensor's gradient: ``numeric`` and ``allowed`` (inf where not judged), if elementwise.

    ``kinks`` is the worst of what was found at kinks; ``cause`` is why it is wrong, where that was seen on the way;
    ``guard`` is an eps that ``numeric`` is without.
    """

    worst: Worst | None
    told: bool
    remark: str = ""
    numeric: Array | None = None
    allowed: Array | None = None
    cause: Diagnosis | None = None
    kinks: Worst | None = None
    guard: Guard | None = None


class TooLongError(RuntimeError):
    """An explanation takes more evaluations than it may."""


class Derivatives:
    """The evaluations along the coordinates of one variable, kept: of another cotangent, no other are needed."""

    def __init__(self, lines: Lines, budget: int) -> None:
        self.lines, self.budget = replace(lines, at=self.at), budget
        self._evaluate = lines.at
        self._kept: dict[tuple[int, float], tuple[Array, Array]] = {}

    def at(self, lines: Integers, t: Array) -> tuple[Array, Array]:
        """Return what `Lines.at` does, from what is kept where that is possible."""
        keys = [(int(line), float(distance)) for line, distance in zip(lines, t, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._kept]
        self.budget -= len(new)
        if self.budget < 0:
            raise TooLongError
        if new:
            values, taken = self._evaluate(lines[new], t[new])
            self._kept.update({keys[i]: (values[j], taken[j]) for j, i in enumerate(new)})
        rows = [self._kept[key] for key in keys]
        return np.array([row for row, _ in rows]), np.array([distance for _, distance in rows])


@dataclass(frozen=True)
class Judge:
    """A pullback's gradients at a point, with those of its shadows, to be judged tensor by tensor."""

    case: Case
    point: Point
    pullback: Pullback
    grads: dict[str, Array]
    shadows: list[dict[str, Array]]
    settings: Settings
    rng: np.random.Generator
    begun: int  # evaluations before the first of this case's

    @property
    def factor(self) -> float:
        """By how many times what shadows show a gradient may be off."""
        return factor_of(self.point.function)

    def tensor(self, name: str) -> TensorFinding:
        """Judge one tensor's gradient, in the mode that the settings say."""
        stacked = name in self.point.function.inputs and samples_are_independent(self.point, name)
        limit = self._affordable(name, stacked=stacked)
        if limit <= 0:
            return self.fast(name)
        found = self.full(name, stacked=stacked, limit=limit)
        if limit < self.grads[name].size and not (found.worst and found.worst.ratio > 1):
            rest = self.fast(name)
            remark = f"{limit} of {self.grads[name].size} elements of {name} one by one; {rest.remark}"
            return replace(found, worst=largest(found.worst, rest.worst), remark=remark)
        return found

    def _affordable(self, name: str, *, stacked: bool) -> int:
        """Return how many elements are to be perturbed one by one."""
        settings, x, size = self.settings, self.point.variables[name], self.grads[name].size
        if settings.mode == "fast":
            return 0
        calls = EVALUATIONS_A_LINE * (x[0].size if stacked else size)
        if settings.mode == "auto":
            work = calls * (sum(array.size for array in self.point.variables.values()) + self.point.y.size)
            if calls > (settings.max_evaluations or AUTO_EVALUATIONS * EVALUATIONS_A_LINE) or work > AUTO_WORK:
                return 0
        if settings.max_evaluations is not None:
            left = settings.max_evaluations - (self.case.tally.evaluations - self.begun)
            return min(size, max(0, left // EVALUATIONS_A_LINE * (len(x) if stacked else 1)))
        return size

    def noise(self, name: str) -> Array:
        """Return the allowance of each element for the pullback's own rounding."""
        return self.factor * elementwise_noise(self.grads[name], [one[name] for one in self.shadows])

    def _noise_at_ties(self, name: str) -> float:
        """Return the allowance for the rounding of a gradient whose kinks stay kinks: no tie is broken by a nudge."""
        grad, shadows = self.grads[name], []
        for _ in range(SHADOWS):
            moved = {key: nudged(array, self.rng) for key, array in self.point.variables.items()}
            pullback = self.point.function.call(moved, self.point.context())[1]
            shadows.append(pullback(nudged(self.point.dy, self.rng))[name])
        return self.factor * float(elementwise_noise(grad, shadows).max())

    def full(self, name: str, *, stacked: bool, limit: int) -> TensorFinding:
        """Judge a gradient element by element; of more than ``limit`` elements, that many are drawn."""
        grad = self.grads[name]
        chosen: Integers = np.arange(grad.size)
        if limit < grad.size:
            chosen = np.sort(self.rng.choice(grad.size, limit, replace=False))
        elif not self.point.function.foreign and grad.size > SMALL:
            exact = self._confirmed_complex_step(name, stacked=stacked)
            if exact is not None:
                allowed = self.noise(name)
                return TensorFinding(
                    compare(name, grad, exact, allowed), useful(allowed, grad, exact), "", exact, allowed
                )
        lines = (stacked_coordinates if stacked else coordinates)(self.point, name).only(chosen)
        return self._by_differences(name, lines, chosen)

    def _by_differences(self, name: str, lines: Lines, chosen: Integers) -> TensorFinding:
        grad, noise = self.grads[name].reshape(-1), self.noise(name).reshape(-1)
        estimate = derivatives(lines)
        numeric: Array = np.zeros(grad.size)
        allowed: Array = np.full(grad.size, np.inf)
        numeric[chosen], allowed[chosen] = estimate.value, estimate.error + noise[chosen]
        # Where f does not move, its steps are of a size that nothing shows: 1 + erf(-10) is 0, its derivative 1e-22.
        still = chosen[~estimate.moved]
        allowed[still] += np.finfo(grad.dtype).eps * float(np.abs(grad).max(initial=0.0))
        self._confirm(name, chosen, estimate, numeric, allowed)
        kinked = judged_kinks = chosen[estimate.kinked]
        worst, in_full = None, False
        if len(kinked):
            tied = self._noise_at_ties(name)
            worst, judged_kinks, in_full = generalised_gradient(
                self.point, name, self.grads[name], tied, kinked, self._row(name), self.rng
            )
        shape = self.grads[name].shape
        numeric, allowed = numeric.reshape(shape), allowed.reshape(shape)
        told = useful(allowed, self.grads[name], numeric) or worst is not None
        skipped = int(np.sum(~np.isfinite(estimate.error))) - len(judged_kinks)
        remarks = [f"{len(kinked)} of {grad.size} elements of {name} lie at kinks"] if len(kinked) else []
        if skipped:
            why = "no step looked smooth, or kinks lie on kinks"
            remarks.append(f"{skipped} of {grad.size} elements of {name} could not be judged: {why}")
        smooth = compare(name, self.grads[name], numeric, allowed)
        only_ties = in_full and not (smooth is not None and smooth.ratio > 1)
        cause = Diagnosis(Cause.TIED_IN_FULL, {}) if only_ties else None
        return TensorFinding(largest(smooth, worst), told, "; ".join(remarks), numeric, allowed, cause, worst)

    def _confirm(self, name: str, chosen: Integers, estimate: Estimate, numeric: Array, allowed: Array) -> None:
        """Widen, in place, the allowance of disagreeing elements by what it lacks: as other steps show, one call each.

        And by what outputs that do not move may hide.
        """
        grad = self.grads[name].reshape(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.abs(grad - numeric)[chosen] / allowed[chosen]
        wrong = np.argsort(-np.nan_to_num(excess))[: int(min(CONFIRMED, np.sum(excess > 1)))]
        if not len(wrong):
            return
        lines = coordinates(self.point, name).only(chosen[wrong])
        allowed[chosen[wrong]] += hidden(lines, estimate.step[wrong])
        for shorter in (2.0**-2, 2.0**-5):
            again = derivatives(lines, shorter * estimate.step[wrong] / lines.scale)
            beyond = np.abs(again.value - estimate.value[wrong]) - again.error
            allowed[chosen[wrong]] = np.maximum(allowed[chosen[wrong]], np.where(np.isfinite(beyond), beyond, 0.0))

    def _row(self, name: str) -> Callable[[int], Array]:
        """Return a function from an output to the gradient of that output alone."""

        def row(output: int) -> Array:
            dy = np.zeros_like(self.point.dy)
            dy.reshape(-1)[output] = 1.0
            return self.pullback(dy)[name]

        return row

    def _confirmed_complex_step(self, name: str, *, stacked: bool) -> Array | None:
        """Return the gradient by complex steps if it is the pullback's, and differences along two lines confirm it."""
        grad = self.grads[name]
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                exact = (stacked_complex_step if stacked else complex_step)(self.point, name)
            except Exception:  # noqa: BLE001  what does not take complex numbers is differenced
                return None
        if exact is None or not np.all(np.abs(exact - grad) <= self.noise(name)):
            return None
        directions = self.rng.standard_normal((2, *grad.shape))
        lines = along(self.point, name, directions)
        estimate = derivatives(lines)
        expected = np.tensordot(directions, exact, grad.ndim)
        allowed = estimate.error + hidden(lines, estimate.step) + self._projected_noise(name, directions)
        fits = np.isfinite(estimate.error) & (np.abs(estimate.value - expected) <= allowed)
        return exact if fits.all() and not estimate.rough.any() else None

    def _projected_noise(self, name: str, directions: Array) -> Array:
        """Return the allowance for the rounding of <g, u>."""
        grad = self.grads[name]
        moves = np.array([one[name] - grad for one in self.shadows])
        projected = np.tensordot(directions, moves, axes=(range(1, directions.ndim), range(1, moves.ndim)))
        last = np.finfo(grad.dtype).eps * np.sqrt(((directions * grad) ** 2).reshape(len(directions), -1).sum(axis=1))
        return np.asarray(DEVIATIONS * np.sqrt((projected**2).mean(axis=1)) + last)

    def fast(self, name: str) -> TensorFinding:
        """Judge <g, u> for Gaussian u; bisect to an element where it disagrees.

        An error E of the gradient shows as <E, u>, which is Gaussian of deviation ``|E|``: one probe of allowance a
        misses it with probability at most ``sqrt(2 / pi) a / |E|``, and independent probes with the product of these.
        """
        grad = self.grads[name]
        large = sum(array.size for array in self.point.variables.values()) > LARGE
        directions = self.rng.standard_normal((PROBES_OF_LARGE if large else PROBES, *grad.shape))
        lines = along(self.point, name, directions)
        estimate = derivatives(lines)
        gradient = grad
        rough = estimate.rough[~np.isfinite(estimate.error)].any(axis=0) if len(estimate.rough) else estimate.rough
        left_out = 0
        judge = self
        if np.any(rough):
            # Outputs at kinks are left out: their cotangent is zero, here and in the pullback.
            left_out = int(rough.sum())
            judge = self.with_cotangent(np.where(rough.reshape(self.point.y.shape), 0.0, self.point.dy))
            gradient, lines = judge.grads[name], along(judge.point, name, directions)
            estimate = derivatives(replace(lines, noise=np.where(rough, np.inf, lines.noise)))
        allowed = estimate.error + judge._projected_noise(name, directions)
        projected = np.tensordot(directions, gradient, grad.ndim)
        if np.any(np.abs(projected - estimate.value) > allowed):
            allowed += hidden(lines, estimate.step)
        told_lines = np.isfinite(allowed)
        ratios = _ratios(projected - estimate.value, allowed)
        worst_line = int(np.argmax(ratios))
        norm = float(np.sqrt((gradient**2).sum()))
        remark = _chance(name, allowed[told_lines], norm)
        if left_out:
            remark += f"; {left_out} of {self.point.y.size} outputs are at kinks and left out"
        told = bool(told_lines.any()) and bool(np.min(allowed, initial=np.inf) < USEFUL * norm)
        if told_lines.any() and ratios[worst_line] > 1:
            return TensorFinding(judge._bisect(name, float(ratios[worst_line])), told, remark)
        worst = Worst(
            name,
            (),
            float(projected[worst_line]),
            float(estimate.value[worst_line]),
            float(allowed[worst_line]),
            float(ratios[worst_line]) if told_lines.any() else 0.0,
        )
        return TensorFinding(worst, told, remark)

    def freed(self, name: str, found: TensorFinding) -> TensorFinding:
        """Judge a gradient that disagrees again, without an eps that guards a logarithm in the value or in it alone."""
        grad, x = self.grads[name], self.point.variables[name]
        if grad.size > DIAGNOSED or name not in self.point.function.inputs:
            return found
        try:
            numeric, allowed = _known(found) or self._numeric_of({}, name, self.point.dy)
        except TooLongError:
            return found
        # What does not move is known no better than the outputs: a share of 1e-20 in a logarithm may still count.
        blurred = np.where(numeric == 0, allowed + self._grain(name), allowed)
        known = self.case.tally.eps
        comparison = Comparison(grad, numeric, blurred)
        guard = guard_of(comparison, x, self.point.dy, self._target(), known) or self._guard_of_norm(name, comparison)
        if guard is None:
            return found
        if guard.sure and guard.place is Place.LOGARITHM and guard.eps:
            known[guard.eps] = guard.error
        freed, margin = guard.without(numeric, blurred)
        smooth, off = compare(name, grad, freed, margin), guard.moves(numeric)
        if guard.eps - guard.error > LARGEST_GUARD and smooth is not None and smooth.ratio <= 1:
            return replace(found, cause=Diagnosis(Cause.GUARD, {"eps": str(guard), "place": guard.place, "off": off}))
        remark = "; ".join(part for part in (found.remark, _guarded(name, guard, off)) if part)
        if not guard.sure:
            return replace(found, worst=found.kinks, told=found.kinks is not None, remark=remark)
        worst, told = largest(smooth, found.kinks), useful(margin, grad, freed) or found.kinks is not None
        return replace(found, worst=worst, told=told, remark=remark, numeric=freed, allowed=margin, guard=guard)

    def _guard_of_norm(self, name: str, once: Comparison) -> Guard | None:
        """Return the guard that a gradient of an input is off by, as inputs twice as large show it."""
        function, point = self.point.function, self.point
        if share_of(once) > LARGEST_SHARE:
            return None
        doubled = {key: 2 * x if key in function.inputs else x for key, x in point.variables.items()}
        try:
            y, pullback = function.call(doubled, point.context())
            grads, shadows = pullback(point.dy), shadows_of(self.case, function, doubled, point.dy, self.rng)
            there = replace(point, variables=doubled, y=y, outputs=[one["output"] for one in shadows])
            judge = replace(self, point=there, pullback=pullback, grads=grads, shadows=shadows)
            numeric, allowed = judge._numeric_of({}, name, point.dy)
        except Exception:  # noqa: BLE001  outside its domain, or too long to tell
            return None
        twice = Comparison(grads[name], numeric, allowed + judge.noise(name))
        return guard_of_norm(once, twice, point.variables[name], point.y, y)

    def _grain(self, name: str) -> float:
        """Return by how much a derivative may be off where outputs do not move, at the shortest of the usual steps."""
        step = FIRST_STEP * SHORTER * unit(self.point.variables[name])
        last = np.finfo(self.point.y.dtype).eps / 2 * np.abs(self.point.dy * self.point.y).sum()
        return float(RICHARDSON_WEIGHTS * last / step)

    def _numeric_of(
        self,
        kept: dict[str, Derivatives],
        name: str,
        dy: Array,
        guards: Mapping[str, Guard | None] = MappingProxyType({}),
    ) -> tuple[Array, Array]:
        """Return the numeric gradient for a cotangent, from evaluations that are kept if they are few enough."""
        if name not in kept:
            stacked = name in self.point.function.inputs and samples_are_independent(self.point, name)
            lines = (stacked_coordinates if stacked else coordinates)(self.point, name)
            samples = len(self.point.variables[name]) if stacked else 1
            most = min(EXPLAINING_EVALUATIONS, self.settings.max_evaluations or EXPLAINING_EVALUATIONS)
            kept[name] = Derivatives(lines, min(most * samples, KEPT // max(1, lines.y.shape[1])))
        lines = kept[name].lines
        numeric, allowed = self.numeric(name, replace(lines, dy=np.asarray(dy, np.float64).reshape(lines.dy.shape)))
        guard = guards.get(name)
        return (numeric, allowed) if guard is None else guard.without(numeric, allowed)

    def numeric(self, name: str, lines: Lines) -> tuple[Array, Array]:
        """Return the gradient by differences along a variable's coordinates, and its allowance."""
        x = self.point.variables[name]
        estimate = derivatives(lines)
        noise = np.finfo(x.dtype).eps * self.factor * float(np.abs(estimate.value).max(initial=0.0))
        return estimate.value.reshape(x.shape), (estimate.error + noise).reshape(x.shape)

    def _analytic(self, name: str, dy: Array) -> Array:
        return self.pullback(dy)[name]

    def causes(self, wrong: list[str], found: dict[str, TensorFinding]) -> dict[str, Diagnosis | None]:
        """Return what is likely wrong with each of these tensors' gradients, where that can be told."""
        causes = {name: found[name].cause for name in wrong if name in found and found[name].cause is not None}
        wrong = [name for name in wrong if name not in causes]
        for name in wrong if self.settings.explain else ():
            x, worst = self.point.variables[name], found[name].worst if name in found else None
            # Near the allowance, which elements fail and by how much is an accident.
            if x.size > DIAGNOSED or (worst is not None and worst.ratio < CERTAIN):
                continue
            numeric_of = partial(self._numeric_of, {}, guards={name: found[name].guard} if name in found else {})
            try:
                numeric, allowed = _known(found.get(name)) or numeric_of(name, self.point.dy)
            except TooLongError:
                continue
            evidence = Evidence(
                tensor=name,
                analytic=self.grads[name],
                numeric=numeric,
                allowed=allowed,
                value=x,
                inputs=self.point.function.inputs,
                variables=dict(self.point.variables),
                gradients=self.grads,
                y=self.point.y,
                dy=self.point.dy,
                analytic_of=partial(self._analytic, name),
                numeric_of=partial(numeric_of, name),
                other_numeric=partial(numeric_of, dy=self.point.dy),
                target=self._target(),
                batch_axis=batch_axis(self.case),
                of_exchanged=self._of_exchanged,
            )
            try:
                causes[name] = diagnose(evidence)
            except TooLongError:
                causes[name] = None
        return causes

    def _target(self) -> Array | None:
        """Return what a loss, or a layer that ends in one, compares its only input with."""
        function = self.point.function
        constants = [argument for argument in function.arguments if not isinstance(argument, str)]
        return constants[0] if len(function.inputs) == 1 and len(constants) == 1 else None

    def _of_exchanged(self) -> dict[str, tuple[Array, Array]]:
        """Return the numeric gradients, for dy = 1, of a loss whose arguments are exchanged, and of its target."""
        prediction, target = self.case.inputs[0], self._target()
        if target is None or target.dtype.kind != "f" or target.shape != prediction.shape or self.point.y.ndim:
            return {}
        exchanged = function_of(replace(self.case, inputs=(target, prediction)))

        def call(given: Arrays, context: Context) -> tuple[Array, Pullback]:
            of_target = function_of(replace(self.case, inputs=(prediction, given["target"])))
            y, _ = of_target.call(cast(of_target.variables, np.float64), context)
            return y, lambda _: {}

        by_target = replace(exchanged, variables={"target": target}, arguments=("target",), call=call)
        found = {}
        for of, function in (("first argument", exchanged), ("target", by_target)):
            (name,) = function.inputs
            variables = cast(function.variables, np.float64)
            y, _ = function.call(variables, self.point.context())
            if np.isfinite(y):
                there = replace(self.point, function=function, variables=variables, y=y, dy=np.ones(()), outputs=[y])
                found[of] = self._at(there).numeric(name, coordinates(there, name))
        return found

    def _at(self, point: Point) -> Judge:
        return replace(self, point=point)

    def with_cotangent(self, dy: Array) -> Judge:
        """Return the same judge for another cotangent."""
        point = replace(self.point, dy=dy)
        shadows = shadows_of(self.case, point.function, point.variables, dy, self.rng)
        return replace(self, point=point, grads=self.pullback(dy), shadows=shadows)

    def _bisect(self, name: str, ratio: float) -> Worst:
        """Return the element that masked directions lead to: of two halves, go into the one that disagrees more."""
        grad = self.grads[name]
        elements: Integers = np.arange(grad.size)
        while len(elements) > 1:
            halves = elements[: len(elements) // 2], elements[len(elements) // 2 :]
            masked = np.zeros((2, 2, grad.size))
            for side, half in enumerate(halves):
                masked[side][:, half] = self.rng.standard_normal((2, len(half)))
            directions = masked.reshape(4, *grad.shape)
            estimate = derivatives(along(self.point, name, directions))
            allowed = estimate.error + self._projected_noise(name, directions)
            ratios = _ratios(np.tensordot(directions, grad, grad.ndim) - estimate.value, allowed)
            each = ratios.reshape(2, 2).max(axis=1)
            if each.max() <= 1:
                break
            elements = halves[int(np.argmax(each))]
        index = np.unravel_index(int(elements[0]), grad.shape)
        estimate = derivatives(coordinates(self.point, name).only(elements[:1]))
        own = float(estimate.error[0] + self.noise(name)[index])
        found = compare(name, grad[index], estimate.value[0], own)
        where = tuple(int(i) for i in index)
        if found is None or not found.ratio > 1:
            return Worst(name, where, float(grad[index]), float(estimate.value[0]), own, ratio)
        return replace(found, index=where)


def _known(found: TensorFinding | None) -> tuple[Array, Array] | None:
    """Return the numeric gradient and its allowance, where they were found element by element."""
    if found is None or found.numeric is None or found.allowed is None:
        return None
    return found.numeric, found.allowed


PLACES = {
    Place.LOGARITHM: "inside the value's logarithm",
    Place.DIVISOR: "beside what it divides by",
    Place.NORM: "beside a norm of the input",
}


def _guarded(name: str, guard: Guard, off: float) -> str:
    """Say by how much an eps moves a gradient, and what lies beyond a bound."""
    said = []
    if guard.eps:
        where = PLACES[guard.place]
        doubt = "" if guard.sure else ": one number is too few to tell that from another cause"
        said.append(f"{name}'s gradient is off by {off:.0e} of itself, as eps = {guard} {where} explains{doubt}")
    if np.any(guard.outside):
        flat = f"{int(guard.outside.sum())} of {guard.outside.size} elements of {name}"
        said.append(f"{flat} are not judged: there the value is clipped, and flat")
    return "; ".join(said)


def _ratios(difference: Array, allowed: Array) -> Array:
    """Return disagreements over their allowances: 0 for none, and for lines that are not judged."""
    return np.array([
        ratio_of(abs(float(d)), float(a)) if np.isfinite(a) else 0.0 for d, a in zip(difference, allowed, strict=True)
    ])  # fmt: skip


def _chance(name: str, allowed: Array, norm: float) -> str:
    """Say what the probes would have missed."""
    if not len(allowed) or not norm:
        return f"{name}: no direction could be judged"
    # The product of sqrt(2 / pi) a_k / |E| over the probes is one in a million at this |E|.
    size = sqrt(2 / np.pi) * float(np.exp(np.log(allowed).mean())) * 1e6 ** (1 / len(allowed))
    return (
        f"{name}: along {len(allowed)} random directions; "
        f"a fault above {size / norm:.0e} of its norm is missed once in 1e6"
    )


def gradients_agree_with_differences(case: Case, settings: Settings = Settings()) -> Outcome:
    """The gradients of the input and of every parameter are the derivatives of <dy, f>, by finite differences.

    In float64. At a kink the gradient must be a generalised one.
    """
    function, rng = function_of(case), case.rng("nudges")
    variables = cast(function.variables, np.float64)
    y, pullback = function.call(variables, case.context())
    if y.dtype != np.float64:
        return inconclusive(f"the output stays {y.dtype} where everything given is float64")
    if not np.isfinite(y).all():
        return inconclusive("the output is not finite")
    dy = cotangent(y, case.rng("cotangent"))
    grads = pullback(dy)
    shadows = shadows_of(case, function, variables, dy, rng)
    point = Point(function, variables, case.context, y, dy, [one["output"] for one in shadows])
    judge = Judge(case, point, pullback, grads, shadows, settings, rng, case.tally.evaluations)
    for name, x in variables.items():
        if grads[name].shape != x.shape:
            message = f"{name} has shape {x.shape}, its gradient {grads[name].shape}"
            return replace(failure(message), causes=judge.causes([name], {}))
    found = {name: judge.tensor(name) for name, x in variables.items() if x.size}
    found = {name: judge.freed(name, one) if _disagrees(one) else one for name, one in found.items()}
    remark = "; ".join(one.remark for one in found.values() if one.remark)
    wrong = [name for name, one in found.items() if _disagrees(one)]
    if wrong and stopped_in_twin(case, wrong):
        return _meant(found, wrong, remark)
    outcome = judged([one.worst for one in found.values()], told=any(one.told for one in found.values()))
    message = outcome.message
    if wrong:
        counts = {name: _wrong_elements(grads[name], found[name]) for name in wrong}
        message = counted(counts, [name for name in found if name not in wrong])
    return replace(outcome, message=message, remark=remark, causes=judge.causes(wrong, found))


def _wrong_elements(grad: Array, found: TensorFinding) -> tuple[int, int] | None:
    """Return how many elements disagree, of how many, where all were looked at one by one."""
    known = _known(found)
    if known is None:
        return None
    numeric, allowed = known
    wrong = int((np.abs(grad - numeric) > allowed).sum())
    return (wrong, grad.size) if wrong else None


def _disagrees(found: TensorFinding) -> bool:
    return found.worst is not None and found.worst.ratio > 1


def _meant(found: dict[str, TensorFinding], stopped: list[str], remark: str) -> Outcome:
    """Return that differences agree, but for what torch stops on the way back, too."""
    also = f"torch stops this gradient, too: {' and '.join(stopped)} has torch's, which is not what differences show"
    rest = [one.worst for name, one in found.items() if name not in stopped]
    return Outcome(Verdict.PASS, largest(*rest), remark="; ".join(part for part in (also, remark) if part))


def backward_is_linear(case: Case, settings: Settings = Settings()) -> Outcome:
    """B(0) = 0 exactly, and B(u + 2v) = B(u) + 2 B(v) up to rounding."""
    function, cotangents, rng = function_of(case), case.rng("cotangent"), case.rng("nudges")
    y, pullback = function.call(function.variables, case.context())
    if not np.isfinite(y).all():
        return inconclusive("the output is not finite")
    u, v = cotangent(y, cotangents), cotangent(y, cotangents)
    for name, grad in pullback(np.zeros_like(u)).items():
        if np.any(grad):
            worst = compare(name, grad, np.zeros_like(grad), 0.0)
            return failure(f"{name}'s gradient is not zero for dy = 0", worst)
    of_u, of_v, of_sum = pullback(u), pullback(v), pullback(u + 2 * v)
    shadows = [
        shadow(function, function.variables, dy, rng, case.context(Recorder(rng)))
        for dy in (u, v, u + 2 * v)
        for _ in range(5)
    ]
    worsts = []
    for name, grad in of_sum.items():
        pieces = zip((of_u, of_v, of_sum), (shadows[:5], shadows[5:10], shadows[10:]), (1, 2, 1), strict=True)
        noise = sum(k * allowance(function, b[name], spread({name: b[name]}, s)[name]) for b, s, k in pieces)
        worsts.append(compare(name, grad, of_u[name] + 2 * of_v[name], noise))
    return judged(worsts)
