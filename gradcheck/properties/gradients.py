"""The pullback against derivatives of the forward pass, and its linearity: no second implementation is needed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from types import MappingProxyType

import numpy as np

from gradcheck.contract import Array, Case, Context
from gradcheck.diagnosis.evidence import Cause, Diagnosis, Evidence
from gradcheck.diagnosis.fits import PRECISION, Comparison
from gradcheck.diagnosis.gradients import diagnose
from gradcheck.diagnosis.guards import LARGEST as LARGEST_GUARD
from gradcheck.diagnosis.guards import Guard, Place, guard_of, guard_of_samples, surest
from gradcheck.diagnosis.norms import LARGEST_SHARE, guard_of_norm, share_of
from gradcheck.numerics.agreement import Verdict, Worst, compare, largest, ratio_of
from gradcheck.numerics.constraints import Within, directions_within
from gradcheck.numerics.differences import (
    DEVIATIONS,
    RICHARDSON_WEIGHTS,
    SHORTER,
    STEPS,
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
from gradcheck.numerics.functions import (
    Arrays,
    Pullback,
    cast,
    function_of,
    grains_of,
    precision_of,
    precision_taken,
    shadow,
    size_of,
)
from gradcheck.numerics.generalised import generalised_gradient
from gradcheck.numerics.precision import Precision
from gradcheck.numerics.rounding import Recorder, nudged, spread
from gradcheck.numerics.samples import batch_axis, part_of
from gradcheck.numerics.stairs import rise
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
    seconds_a_call,
    shadows_of,
    useful,
)
from gradcheck.properties.stops import stopped_in_twin
from gradcheck.streams import stream

SHARE_OF_TIME = 0.25  # of what is left, for the differences of one tensor in one case
PROBES = 8  # of fast mode, a tensor;
PROBES_OF_LARGE = 2  # fewer where there are so many elements that a call takes long
CONFIRMED = 32  # disagreeing elements that are measured again at other steps, the worst first
EVALUATIONS_A_LINE = 12  # two steps of six
AUTO_EVALUATIONS = 1_000  # in auto mode a tensor that takes more is probed along random directions,
AUTO_WORK = 1 << 26  # and so is one for which evaluations x elements in and out exceed this
LINES_OF_STEPS = 3  # that are looked at where a gradient disagrees, the worst first
EXPLAINING_EVALUATIONS = 20_000  # for which one tensor's disagreement is explained, if max_evaluations allows them
KEPT = 1 << 23  # outputs of evaluations kept for an explanation
LIFTED = 2.0**-7  # an element at which no guard cuts anything off
SAMPLES = 256  # of which each is tried alone, to tell an eps from a fault
SMALL = 4  # elements, up to which differences cost less than a complex step and its confirmation

# How many allowances an error must be for an element to tell a cause. In float32 an error of all of a gradient is some
# thousands; at a lower level more elements must tell.
LEVELS = {np.float64: (PRECISION,), np.float32: (PRECISION, 100.0)}


@dataclass(frozen=True)
class TensorFinding:
    """The result for one tensor's gradient: ``numeric`` and ``allowed`` (inf where not judged), if elementwise.

    ``cause`` is why it is wrong, where that was seen on the way. ``seen`` is the smallest share of itself that the
    gradient could be off by and be seen. ``domain`` says where the forward pass was not defined, ``within`` that it was
    judged along directions within its domain alone, and ``outside`` that it was defined nowhere beside the point.
    ``kinks`` is the worst of what was found at kinks; ``guard`` is an eps that ``numeric`` is without, which moves it
    by a share ``off`` of itself.
    """

    worst: Worst | None
    told: bool
    remark: str = ""
    numeric: Array | None = None
    allowed: Array | None = None
    cause: Diagnosis | None = None
    seen: float = np.inf
    domain: str = ""
    within: bool = False
    outside: bool = False
    kinks: Worst | None = None
    guard: Guard | None = None
    off: float = 0.0


class TooLongError(RuntimeError):
    """An explanation takes more evaluations than are allowed."""


class Derivatives:
    """The evaluations along the coordinates of one variable, kept, since another cotangent needs no others."""

    def __init__(self, lines: Lines, budget: int) -> None:
        self.lines, self.budget = replace(lines, at=self.at), budget
        self._evaluate = lines.at
        self._kept: dict[tuple[int, float], tuple[Array, Array]] = {}

    def at(self, lines: Integers, t: Array) -> tuple[Array, Array]:
        """Return what `Lines.at` does, from kept evaluations where possible."""
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
    begun: int  # evaluations before this case's first one

    @property
    def factor(self) -> float:
        """The allowance of a gradient over the spread of its shadows."""
        return factor_of(self.point.function)

    def tensor(self, name: str) -> TensorFinding:
        """Judge one tensor's gradient, in the mode that the settings say."""
        rng = stream("directions within a domain", self.case.seed)
        within = directions_within(self.point, name, PROBES, rng) if self.point.function.foreign else None
        stacked = name in self.point.function.inputs and samples_are_independent(self.point, name)
        limit = self._affordable(name, stacked=stacked)
        if within is not None:
            return self._within_domain(name, within, limit)
        if limit <= 0:
            return self.fast(name)
        found = self.full(name, stacked=stacked, limit=limit)
        if limit < self.grads[name].size and not (found.worst and found.worst.ratio > 1):
            rest = self.fast(name)
            remark = f"{limit} of {self.grads[name].size} elements of {name} one by one; {rest.remark}"
            return replace(found, worst=largest(found.worst, rest.worst), remark=remark)
        return found

    @property
    def _eps(self) -> float:
        """What one is rounded by in the precision that the function is judged in."""
        return float(np.finfo(self.point.precision).eps)

    def _told(self, allowed: Array, *values: Array) -> bool:
        """Return whether allowances can tell right from wrong in the precision that the function is judged in.

        They have to do so of elements that matter: that others are zero says nothing of these.
        """
        share = USEFUL[self.point.precision]
        sizes = np.max([np.abs(array) for array in values], axis=0)
        matters = sizes >= share * float(sizes.max(initial=0.0))
        return useful(np.where(matters, allowed, np.inf), *values, share=share)

    def _why(self, name: str) -> str:
        """Return what the forward pass raised first for a step of this tensor, if it did."""
        return f" ({self.point.refusals[name]})" if name in self.point.refusals else ""

    def _domain(self, name: str, outside: int = 0, of: int = 0) -> str:
        """Return what is to be said of steps that the forward pass refuses, if it refused any."""
        why = self._why(name)
        if outside:
            return f"the forward pass is not defined beside {outside} of {of} elements of {name}{why}"
        return f"the forward pass refuses some steps of {name}{why}: shorter ones were taken" if why else ""

    def _within_domain(self, name: str, within: Within, limit: int) -> TensorFinding:
        """Judge <g, u> for directions u within the domain, and those single elements that stay within it."""
        directions = within.directions
        lines = along(self.point, name, directions)
        estimate = derivatives(lines)
        projected = np.tensordot(directions, self.grads[name], self.grads[name].ndim)
        allowed = estimate.error + self._projected_noise(name, directions)
        if np.any(np.abs(projected - estimate.value) > allowed):
            allowed += hidden(lines, estimate.step)
        worst = compare(name, projected, estimate.value, allowed)
        told, seen = self._told(allowed, projected, estimate.value), _seen(estimate.value, allowed)
        of = "single elements" if within.always else "some elements"
        domain = (
            f"the forward pass refuses steps of {of} of {name}{self._why(name)}: its gradient is judged along "
            f"{len(directions)} directions that keep {within.keeps}"
        )
        found = TensorFinding(worst and replace(worst, index=()), told, seen=seen, domain=domain, within=True)
        if within.always or limit <= 0:
            return found
        each = self.full(name, stacked=False, limit=limit, leaving_out=True)
        return replace(found, worst=largest(found.worst, each.worst), told=told or each.told)

    def _affordable(self, name: str, *, stacked: bool) -> int:
        """Return how many elements are perturbed one by one."""
        settings, x, size = self.settings, self.point.variables[name], self.grads[name].size
        if settings.mode == "fast":
            return 0
        calls = EVALUATIONS_A_LINE * (x[0].size if stacked else size)
        if settings.mode == "auto":
            work = calls * (sum(array.size for array in self.point.variables.values()) + self.point.y.size)
            if calls > (settings.max_evaluations or AUTO_EVALUATIONS * EVALUATIONS_A_LINE) or work > AUTO_WORK:
                return 0
            if not self._in_time(calls):
                return 0
        if settings.max_evaluations is not None:
            left = settings.max_evaluations - (self.case.tally.evaluations - self.begun)
            return min(size, max(0, left // EVALUATIONS_A_LINE * (len(x) if stacked else 1)))
        return size

    def _in_time(self, calls: int) -> bool:
        """Return whether calls take no more than their share of the time that is left."""
        left = self.settings.until - time.thread_time()
        return calls * seconds_a_call(self.case) <= SHARE_OF_TIME * max(0.0, left)

    def noise(self, name: str) -> Array:
        """Return the allowance of each element for the pullback's own rounding."""
        noise = elementwise_noise(self.grads[name], [one[name] for one in self.shadows])
        if self.point.precision is np.float32:
            noise = np.maximum(noise, self._eps / 2 * float(np.abs(self.grads[name]).max(initial=0.0)))
        return self.factor * noise + grains_of(self.case).gradients / 2

    def _noise_at_ties(self, name: str) -> float:
        """Return the allowance for the rounding of a gradient at kinks, from nudges that leave every tie a tie."""
        grad, shadows = self.grads[name], []
        for _ in range(SHADOWS):
            moved = {key: nudged(array, self.rng) for key, array in self.point.variables.items()}
            pullback = self.point.function.call(moved, self.point.context())[1]
            shadows.append(pullback(nudged(self.point.dy, self.rng))[name])
        return self.factor * float(elementwise_noise(grad, shadows).max())

    def full(self, name: str, *, stacked: bool, limit: int, leaving_out: bool = False) -> TensorFinding:
        """Judge a gradient element by element; of more than ``limit`` elements, that many are drawn.

        Elements of which the first step leaves the domain to both sides may be left out.
        """
        grad = self.grads[name]
        chosen: Integers = np.arange(grad.size)
        if limit < grad.size:
            chosen = np.sort(self.rng.choice(grad.size, limit, replace=False))
        elif not self.point.function.foreign and grad.size > SMALL:
            exact = self._confirmed_complex_step(name, stacked=stacked)
            if exact is not None:
                allowed = self.noise(name)
                return TensorFinding(
                    compare(name, grad, exact, allowed), self._told(allowed, grad, exact), "", exact, allowed
                )
        kind = stacked_coordinates if stacked else coordinates
        found = self._by_differences(name, kind(self.point, name).only(chosen), chosen, leaving_out=leaving_out)
        judge, said = self._with_steps(found, coordinates(self.point, name))
        if judge is None:
            return found
        lines = kind(judge.point, name).only(chosen)
        again = judge._by_differences(name, lines, chosen, leaving_out=leaving_out)
        return replace(again, remark="; ".join(part for part in (again.remark, said) if part))

    def _with_steps(self, found: TensorFinding, lines: Lines) -> tuple[Judge | None, str]:
        """Return the judge that knows by which steps outputs move, and what is said of them; None if they do not.

        They are looked for where elements disagree most, if a gradient does.
        """
        if found.worst is None or not _disagrees(found):
            return None, ""
        grad = self.grads[found.worst.tensor]
        if found.numeric is not None and found.allowed is not None:
            excess = _ratios((grad - found.numeric).reshape(-1), found.allowed.reshape(-1))
            worst: Integers = np.argsort(-excess)[:LINES_OF_STEPS]
        else:
            worst = np.array([np.ravel_multi_index(found.worst.index, grad.shape) if grad.ndim else 0])
        height = rise(lines.only(worst), max(float(np.abs(x).max(initial=0.0)) for x in self.point.variables.values()))
        if not height:
            return None, ""
        point = replace(self.point, size=max(self.point.size, height / self._eps))
        return replace(self, point=point), f"outputs move by steps of {height:.1e}: differences cannot see below that"

    def _by_differences(self, name: str, lines: Lines, chosen: Integers, *, leaving_out: bool = False) -> TensorFinding:
        grad, noise = self.grads[name].reshape(-1), self.noise(name).reshape(-1)
        estimate = derivatives(lines)
        if leaving_out:
            error = np.where(estimate.leaves, np.inf, estimate.error)
            estimate = replace(estimate, error=error, kinked=estimate.kinked & ~estimate.leaves)
        numeric: Array = np.zeros(grad.size)
        allowed: Array = np.full(grad.size, np.inf)
        numeric[chosen], allowed[chosen] = estimate.value, estimate.error + noise[chosen]
        # Where f does not move, the size of its rounding does not show: 1 + erf(-7) is 0, its derivative 6e-22.
        still = chosen[~estimate.moved]
        allowed[still] += self._eps * float(np.abs(grad).max(initial=0.0))
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
        told = self._told(allowed, self.grads[name], numeric) or worst is not None
        outside = int(estimate.outside.sum())
        skipped = int(np.sum(~np.isfinite(estimate.error))) - len(judged_kinks) - outside
        remarks = [f"{len(kinked)} of {grad.size} elements of {name} lie at kinks"] if len(kinked) else []
        if skipped:
            why = "no step looked smooth, or kinks lie on kinks"
            remarks.append(f"{skipped} of {grad.size} elements of {name} could not be judged: {why}")
        smooth = compare(name, self.grads[name], numeric, allowed)
        only_ties = in_full and not (smooth is not None and smooth.ratio > 1)
        cause = Diagnosis(Cause.TIED_IN_FULL, {}) if only_ties else None
        return TensorFinding(
            largest(smooth, worst),
            told,
            "; ".join(remarks),
            numeric,
            allowed,
            cause,
            kinks=worst,
            seen=_seen(numeric, allowed),
            domain=self._domain(name, outside, len(chosen)),
            outside=outside == len(chosen),
        )

    def _confirm(self, name: str, chosen: Integers, estimate: Estimate, numeric: Array, allowed: Array) -> None:
        """Raise, in place, the allowance of disagreeing elements to what estimates from other steps show, unstacked.

        What outputs that do not move may miss is added first.
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
        """Return the gradient by complex steps if it is the pullback's and differences along two lines confirm it."""
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
        last = self._eps * np.sqrt(((directions * grad) ** 2).reshape(len(directions), -1).sum(axis=1))
        return np.asarray(DEVIATIONS * np.sqrt((projected**2).mean(axis=1)) + last)

    def fast(self, name: str) -> TensorFinding:
        """Judge <g, u> for Gaussian u; bisect to an element where it disagrees.

        An error E of the gradient shows as <E, u>, which is Gaussian with the standard deviation ``|E|``, the 2-norm.
        One probe of allowance a misses it with probability at most ``sqrt(2 / pi) a / |E|``, independent probes with
        the product of these.
        """
        grad = self.grads[name]
        large = sum(array.size for array in self.point.variables.values()) > LARGE
        few = large or not self._in_time(PROBES * EVALUATIONS_A_LINE)
        directions = self.rng.standard_normal((PROBES_OF_LARGE if few else PROBES, *grad.shape))
        lines = along(self.point, name, directions)
        estimate = derivatives(lines)
        if estimate.outside.all():  # as where some elements are at an end of the domain
            directions = np.abs(directions)
            lines = along(self.point, name, directions)
            estimate = derivatives(lines)
            if estimate.outside.all():  # and others at the other end
                return self._some(name)
        gradient = grad
        unclear = estimate.rough[~np.isfinite(estimate.error) & ~estimate.outside]
        rough = unclear.any(axis=0) if len(unclear) else np.zeros(self.point.y.size, bool)
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
        told = bool(told_lines.any()) and bool(np.min(allowed, initial=np.inf) < USEFUL[self.point.precision] * norm)
        seen = float(np.min(allowed, initial=np.inf)) / norm if norm else np.inf
        outside = int(estimate.outside.sum())
        domain = self._domain(name, outside, len(directions)).replace("elements", "directions")
        if told_lines.any() and ratios[worst_line] > 1:
            bisected = judge._bisect(name, float(ratios[worst_line]))
            found = TensorFinding(bisected, told, remark, seen=seen, domain=domain)
            coarse, said = self._with_steps(found, coordinates(self.point, name))
            if coarse is None:
                return found
            again = coarse.fast(name)
            return replace(again, remark=f"{again.remark}; {said}")
        worst = Worst(
            name,
            (),
            float(projected[worst_line]),
            float(estimate.value[worst_line]),
            float(allowed[worst_line]),
            float(ratios[worst_line]) if told_lines.any() else 0.0,
        )
        return TensorFinding(worst, told, remark, seen=seen, domain=domain, outside=outside == len(directions))

    def freed(self, name: str, found: TensorFinding) -> TensorFinding:
        """Judge a gradient that disagrees again, without an eps that guards a logarithm in the value or in it alone."""
        grad = self.grads[name]
        if grad.size > DIAGNOSED:
            return found
        try:
            numeric, allowed = _known(found) or self._numeric_of({}, name, self.point.dy)
        except TooLongError:
            return found
        if not np.any(Comparison(grad, numeric, allowed).failing):  # the disagreement is at kinks alone
            return found
        # What does not move is known no better than the outputs: a share of 1e-20 in a logarithm may still count.
        blurred = np.where(numeric == 0, allowed + self._grain(name), allowed)
        comparison = Comparison(grad, numeric, blurred)
        guard = surest(self._guards(name, comparison)) or self._bound(name, comparison)
        if guard is None:
            return found
        if guard.sure and guard.place is Place.LOGARITHM and guard.eps:
            self.case.tally.eps[guard.eps] = guard.error
        freed, margin = guard.without(numeric, blurred)
        smooth, off = compare(name, grad, freed, margin), guard.moves(numeric)
        if guard.eps - guard.error > LARGEST_GUARD and smooth is not None and smooth.ratio <= 1:
            return replace(found, cause=Diagnosis(Cause.GUARD, {"eps": str(guard), "place": guard.place, "off": off}))
        if not guard.sure:
            return replace(found, worst=found.kinks, told=found.kinks is not None, guard=guard, off=off)
        smooth = smooth if np.isfinite(margin).any() else None
        worst, told = largest(smooth, found.kinks), useful(margin, grad, freed) or found.kinks is not None
        return replace(found, worst=worst, told=told, numeric=freed, allowed=margin, guard=guard, off=off)

    def _guards(self, name: str, comparison: Comparison) -> Iterator[Guard | None]:
        """Yield what may guard the value or the gradient, the cheapest to find first."""
        known, is_input = self.case.tally.eps, name in self.point.function.inputs
        if is_input:
            yield guard_of(comparison, self.point.variables[name], self.point.dy, self._target(), known)
        yield self._guard_of_samples(name, comparison, known)
        if is_input:
            yield self._guard_of_norm(name, comparison)

    def _bound(self, name: str, comparison: Comparison) -> Guard | None:
        """Return the bound that is all that is wrong: the value is flat where an input is smaller than a guard.

        Where these elements are larger, the value must move with them, and the gradient be right. So ``log(max(p,
        eps))`` is seen of one number, too, and a rectifier without its mask, flat however large its input, is not.
        """
        x, grad = self.point.variables[name], comparison.analytic
        flat = np.abs(grad - comparison.numeric) > comparison.allowed
        size = np.abs(x)[flat]
        if np.any(comparison.numeric[flat] != 0) or np.any((size == 0) | (size > LARGEST_GUARD)):
            return None
        lifted = np.where(flat, np.copysign(LIFTED, x), x).astype(x.dtype)
        variables = {**self.point.variables, name: lifted}
        try:
            y, pullback = self.point.function.call(variables, self.point.context())
            grads = pullback(self.point.dy)
            shadows = shadows_of(self.case, self.point.function, variables, self.point.dy, self.rng)
            there = replace(self.point, variables=variables, y=y, outputs=[one["output"] for one in shadows])
            judge = replace(self, point=there, pullback=pullback, grads=grads, shadows=shadows)
            numeric, allowed = judge._numeric_of({}, name, self.point.dy)
        except Exception:  # noqa: BLE001  outside its domain, or too long to tell
            return None
        right = np.abs(grads[name] - numeric) <= allowed + judge.noise(name)
        if not right.all() or np.any(np.abs(numeric[flat]) <= allowed[flat]):
            return None
        return Guard(0.0, 0.0, Place.LOGARITHM, np.ones(x.shape), np.zeros(x.shape), flat)

    def _guard_of_samples(self, name: str, whole: Comparison, known: Mapping[float, float]) -> Guard | None:
        """Return the guard that a loss of many samples is off by, as each sample alone shows it."""
        case, axis = self.case, batch_axis(self.case)
        if self.point.y.ndim or axis is None or case.inputs[0].ndim < 2 or case.inputs[0].shape[axis] > SAMPLES:
            return None
        count = case.inputs[0].shape[axis]
        values, gradients = np.empty(count), np.zeros((count, *whole.numeric.shape))
        for i in range(count):
            try:
                function = function_of(part := part_of(case, axis, slice(i, i + 1)))
                values[i], pullback = function.call(cast(function.variables, self.point.precision), part.context())
                own = (slice(None),) * axis + (slice(i, i + 1),) if name in function.inputs else ...
                gradients[i][own] = pullback(self.point.dy)[name]
            except Exception:  # noqa: BLE001  it takes no single samples
                return None
        return guard_of_samples(whole, values, gradients, known)

    def _guard_of_norm(self, name: str, once: Comparison) -> Guard | None:
        """Return the guard that a gradient of an input is off by, as inputs twice as large show it."""
        point = self.point
        if share_of(once) > LARGEST_SHARE:
            return None
        doubled = {key: 2 * x if key in point.function.inputs else x for key, x in point.variables.items()}
        # The target, too: a ratio of sums over both is then what it was.
        larger = tuple(2 * array if array.dtype.kind == "f" else array for array in self.case.inputs)
        try:
            function = function_of(replace(self.case, inputs=larger))
            y, pullback = function.call(doubled, point.context())
            grads, shadows = pullback(point.dy), shadows_of(self.case, function, doubled, point.dy, self.rng)
            outputs = [one["output"] for one in shadows]
            there = replace(point, function=function, variables=doubled, y=y, outputs=outputs)
            judge = replace(self, point=there, pullback=pullback, grads=grads, shadows=shadows)
            numeric, allowed = judge._numeric_of({}, name, point.dy)
        except Exception:  # noqa: BLE001  outside its domain, or too long to tell
            return None
        twice = Comparison(grads[name], numeric, allowed + judge.noise(name))
        return guard_of_norm(once, twice, point.variables[name], point.y, y)

    def _grain(self, name: str) -> float:
        """Return by how much a derivative may be off where outputs do not move, at the shortest of the usual steps."""
        step = STEPS[self.point.precision].first * SHORTER * unit(self.point.variables[name])
        last = np.finfo(self.point.y.dtype).eps / 2 * np.abs(self.point.dy * self.point.y).sum()
        return float(RICHARDSON_WEIGHTS * last / step)

    def _some(self, name: str) -> TensorFinding:
        """Judge a few elements, where no random direction stays within the domain."""
        limit = min(self.grads[name].size, PROBES)
        found = self.full(name, stacked=False, limit=limit)
        return replace(found, remark=f"{limit} of {self.grads[name].size} elements of {name} one by one")

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
        return self.pullback(np.asarray(dy, self.point.dy.dtype))[name]

    def causes(self, wrong: list[str], found: dict[str, TensorFinding]) -> dict[str, Diagnosis | None]:
        """Return the likely cause of each of these tensors' wrong gradients, None where it is unknown."""
        causes = {name: found[name].cause for name in wrong if name in found and found[name].cause is not None}
        wrong = [name for name in wrong if name not in causes]
        for name in wrong if self.settings.explain else ():
            if name in found and found[name].within:
                continue  # no numeric gradient is known
            x, worst = self.point.variables[name], found[name].worst if name in found else None
            # Near the allowance it is an accident which elements fail and by how much.
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
                levels=LEVELS[np.float32 if any(grains_of(self.case)) else self.point.precision],
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
        """Return the element found by bisection, into the half along which random directions disagree more."""
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


def _guarded(found: Mapping[str, TensorFinding]) -> Iterator[str]:
    """Say by how much an eps moves gradients, each eps once, and what lies beyond a bound."""
    alike: dict[str, list[str]] = {}
    for name, one in found.items():
        if one.guard is not None and one.guard.eps:
            doubt = "" if one.guard.sure else ": one number is too few to tell that from another cause"
            alike.setdefault(f"as eps = {one.guard} {PLACES[one.guard.place]} explains{doubt}", []).append(name)
        if one.guard is not None and np.any(one.guard.outside):
            flat = f"{int(one.guard.outside.sum())} of {one.guard.outside.size} elements of {name}"
            yield f"{flat} are not judged: there the value is clipped, and flat"
    for explanation, names in alike.items():
        off = max(found[name].off for name in names)
        yield f"{', '.join(names)}: off by {off:.0e} of the gradient, {explanation}"


def _ratios(difference: Array, allowed: Array) -> Array:
    """Return disagreements over their allowances: 0 for none, and for lines that are not judged."""
    return np.array([
        ratio_of(abs(float(d)), float(a)) if np.isfinite(a) else 0.0 for d, a in zip(difference, allowed, strict=True)
    ])  # fmt: skip


def _chance(name: str, allowed: Array, norm: float) -> str:
    """Return a remark on the faults that the probes would have missed."""
    if not len(allowed) or not norm:
        return f"{name}: no direction could be judged"
    # The product of sqrt(2 / pi) a_k / |E| over the probes is one in a million at this |E|.
    size = sqrt(2 / np.pi) * float(np.exp(np.log(allowed).mean())) * 1e6 ** (1 / len(allowed))
    return (
        f"{name}: along {len(allowed)} random directions; "
        f"a fault above {size / norm:.0e} of its norm is missed once in 1e6"
    )


def _seen(values: Array, allowed: Array) -> float:
    """Return the smallest share of themselves that these values could be off by, all alike, and be seen."""
    told = np.isfinite(allowed) & (values != 0)
    return float(np.min(allowed[told] / np.abs(values[told]), initial=np.inf))


def gradients_agree_with_differences(case: Case, settings: Settings = Settings()) -> Outcome:
    """The gradients of the input and of every parameter are the derivatives of <dy, f>, by finite differences.

    In float64, or for code that computes in float32 whatever it is given, in float32. At a kink the gradient must be a
    generalised one; of a domain that steps of single elements leave, it is judged along directions that do not.
    """
    function, rng = function_of(case), case.rng("nudges")
    precision = precision_of(case)
    variables = cast(function.variables, precision)
    y, pullback = function.call(variables, case.context())
    if y.dtype not in (np.float64, np.float32):
        kind = "it has no derivative" if y.dtype.kind != "f" else "differences tell too little in it"
        return inconclusive(f"the output is {y.dtype} where everything given is float64: {kind}")
    if not np.isfinite(y).all():
        return inconclusive("the output is not finite")
    dy = cotangent(y, case.rng("cotangent"))
    grads = pullback(dy)
    shadows = shadows_of(case, function, variables, dy, rng)
    point = Point(
        function, variables, case.context, y, dy, [one["output"] for one in shadows], size=_size(case, precision, y)
    )
    judge = Judge(case, point, pullback, grads, shadows, settings, rng, case.tally.evaluations)
    for name, x in variables.items():
        if grads[name].shape != x.shape:
            message = f"{name} has shape {x.shape}, its gradient {grads[name].shape}"
            return replace(failure(message), causes=judge.causes([name], {}))
    found = {name: judge.tensor(name) for name, x in variables.items() if x.size}
    found = {name: judge.freed(name, one) if _disagrees(one) else one for name, one in found.items()}
    remark = "; ".join([*(one.remark for one in found.values() if one.remark), *_guarded(found)])
    wrong = [name for name, one in found.items() if _disagrees(one)]
    if wrong and stopped_in_twin(case, wrong):
        return _meant(found, wrong, remark)
    outcome = judged([one.worst for one in found.values()], told=any(one.told for one in found.values()))
    if outcome.verdict is Verdict.INCONCLUSIVE and found and all(one.outside for one in found.values()):
        why = "; ".join(dict.fromkeys(point.refusals.values())) or "it gives what is not finite"
        outcome = inconclusive(f"the forward pass refuses every step: {why}")
    trait = "; ".join([*_precision(case, point, found.values()), *(one.domain for one in found.values() if one.domain)])
    message = outcome.message
    if wrong:
        counts = {name: _wrong_elements(grads[name], found[name]) for name in wrong}
        message = counted(counts, [name for name in found if name not in wrong])
    return replace(outcome, message=message, remark=remark, trait=trait, causes=judge.causes(wrong, found))


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


def _size(case: Case, precision: Precision, y: Array) -> float:
    """Return the size of which outputs round, whatever their own: in float32, the largest here and of the input given.

    What is small there has mostly cancelled, as 1 + tanh(x) far below zero, by steps of what cancels. No nudge shows
    that: it reaches nothing inside code that casts the arrays that it is given.
    """
    rounded = grains_of(case).output / float(np.finfo(precision).eps)
    return max(size_of(case), float(np.abs(y).max(initial=0.0)), rounded) if precision is np.float32 else rounded


def _precision(case: Case, point: Point, found: Iterable[TensorFinding]) -> list[str]:
    """Return that code computes in float32, or rounds to some decimals, and what that hides; or takes float64 alone."""
    taken, grains = precision_taken(case), grains_of(case)
    seen = [one.seen for one in found if np.isfinite(one.seen)]
    least = f": a gradient that is off by {max(seen):.0e} of itself would have been seen" if seen else ""
    said = []
    if taken is np.float64:
        said.append("your code takes float64 alone, and is given it")
    if point.precision is np.float32:
        how = "computes in float32, whatever it is given" if taken is None else "takes float32 alone"
        said.append(f"your code {how}, and is judged in float32{least}")
    if grain := grains.output or grains.gradients:
        what = "output" if grains.output else "gradients"
        least = "" if said else least
        said.append(f"your code rounds its {what} to multiples of {grain:.0e}, below which nothing shows{least}")
    return said


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
