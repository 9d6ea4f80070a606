"""A pullback's gradients at one point, judged tensor by tensor: by differences, a complex step, or directions."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from types import MappingProxyType

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import PRECISION
from gradcheck.diagnosis.guards import Guard
from gradcheck.numerics.agreement import Worst, compare, largest, ratio_of
from gradcheck.numerics.constraints import Within, directions_within
from gradcheck.numerics.differences import (
    DEVIATIONS,
    LONGER,
    Estimate,
    Integers,
    Lines,
    another_step,
    derivatives,
    elementwise_noise,
    hidden,
)
from gradcheck.numerics.directions import (
    Point,
    along,
    along_all,
    complex_along,
    complex_step,
    coordinates,
    samples_are_independent,
    stacked_complex_step,
    stacked_coordinates,
    unit,
)
from gradcheck.numerics.functions import Function, Pullback, grains_of
from gradcheck.numerics.generalised import generalised_gradient
from gradcheck.numerics.rounding import nudged
from gradcheck.numerics.stairs import rise
from gradcheck.properties.noise import LARGE, SHADOWS, factor_of, seconds_a_call, shadows_of
from gradcheck.properties.outcome import USEFUL, Settings, useful
from gradcheck.streams import stream
from gradcheck.subjects.one_copy import otherwise

SHARE_OF_TIME = 0.25  # of what is left, for the differences of one tensor in one case
PROBES = 8  # of fast mode, a tensor;
PROBES_OF_LARGE = 2  # fewer where there are so many elements that a call takes long
PROBES_OF_A_GROUP = 2  # of a derived case in auto mode, in elements whose gradients are of one size:
BITS_OF_A_GROUP = 10  # within 2^10 of the largest, of that and so on; zeros are the last
MANY, PILOTS = 16, 4  # elements above which, in auto mode, so many of them are to find the step for all
CONFIRMED = 32  # disagreeing elements that are measured again at other steps, the worst first
AT_ONCE, BLATANT = 4, 1e3  # of which so many of those that exceed their allowance so many times are measured first
EVALUATIONS_A_LINE = 12  # two steps of six
AUTO_EVALUATIONS = 1_000  # in auto mode a tensor that takes more is probed along random directions,
AUTO_WORK = 1 << 26  # and so is one for which evaluations x elements in and out exceed this
LINES_OF_STEPS = 3  # that are looked at where a gradient disagrees, the worst first
EXPLAINING_EVALUATIONS = 20_000  # for which one tensor's disagreement is explained, if max_evaluations allows them
KEPT = 1 << 23  # outputs of evaluations kept for an explanation
STEP = "step"  # along a line through all tensors, that served first: others of the same subject begin with it
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

    @property
    def disagrees(self) -> bool:
        """Whether the gradient is wrong."""
        return self.worst is not None and self.worst.ratio > 1

    @property
    def known(self) -> tuple[Array, Array] | None:
        """The numeric gradient and its allowance, where they were found element by element."""
        return None if self.numeric is None or self.allowed is None else (self.numeric, self.allowed)


class TooLongError(RuntimeError):
    """An explanation takes more evaluations, or more time, than are allowed."""


class Derivatives:
    """The evaluations along the coordinates of one variable, kept, since another cotangent needs no others."""

    def __init__(self, lines: Lines, budget: int, late: Callable[[], bool]) -> None:
        self.lines, self.budget, self._late = replace(lines, at=self.at), budget, late
        self._evaluate = lines.at
        self._kept: dict[tuple[int, float], tuple[Array, Array]] = {}

    def at(self, lines: Integers, t: Array) -> tuple[Array, Array]:
        """Return what `Lines.at` does, from kept evaluations where possible."""
        keys = [(int(line), float(distance)) for line, distance in zip(lines, t, strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self._kept]
        self.budget -= len(new)
        if self.budget < 0 or (new and self._late()):
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
        """Judge one tensor's gradient, in the mode that the settings say.

        Where anything but agreement is found, calls that share nothing judge again, unless they are seen to find it.
        """
        found = self._tensor(name)
        function = self.point.function
        agrees = found.told and not found.disagrees and not found.remark
        if agrees or not function.foreign or function.values is None:
            return found
        alone = replace(self, point=replace(self.point, function=replace(function, values=None)))
        same = alone._differs(name, found.worst.index) if found.worst and found.disagrees else True
        return found if same and self._alike() else alone._tensor(name)

    def _differs(self, name: str, index: tuple[int, ...]) -> bool:
        """Return whether differences of this one element disagree with the gradient; False of a whole direction."""
        grad = self.grads[name]
        if len(index) != grad.ndim:
            return False
        where = int(np.ravel_multi_index(index, grad.shape)) if index else 0
        estimate = derivatives(coordinates(self.point, name).only(np.array([where])))
        return bool(abs(grad[index] - estimate.value[0]) > estimate.error[0] + self.noise(name)[index])

    def _alike(self) -> bool:
        """Return whether values alone are those of whole calls, here and beside."""
        variables, context, function = self.point.variables, self.point.context, self.point.function
        beside = {name: otherwise(x) for name, x in variables.items()}
        try:
            with np.errstate(all="ignore"):
                pairs = [(self.point.value(v), function.call(v, context())[0]) for v in (beside, variables)]
        except ImportError:
            raise
        except Exception:  # noqa: BLE001  it may not be defined beside
            return False
        return all(np.array_equal(one, other, equal_nan=True) for one, other in pairs)

    def _tensor(self, name: str) -> TensorFinding:
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
        lines = kind(self.point, name).only(chosen)
        if self.settings.mode == "auto" and len(chosen) == grad.size > MANY and not (stacked or leaving_out):
            estimate = self._at_one_step(name, lines)
            if estimate is not None:
                return self._by_differences(name, lines, chosen, estimate)
        found = self._by_differences(name, lines, chosen, leaving_out=leaving_out)
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
        if found.worst is None or not found.disagrees:
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

    def _at_one_step(self, name: str, lines: Lines) -> Estimate | None:
        """Return the derivatives by one step an element, as suits some of them, if the gradient agrees with all.

        Two random directions confirm them together: an element whose step shows another slope would show in these. None
        if they do not, if anything disagrees or is not judged: then each element is looked at again, by itself.
        """
        some = self.rng.choice(len(lines.scale), PILOTS, replace=False)
        pilot = derivatives(lines.only(some))
        if not np.isfinite(pilot.error).all():
            return None
        first = float(np.median(pilot.step / lines.scale[some])) / 2  # at half of it, truncation shows in none
        estimate = derivatives(lines, first, confirm=False)
        gradient = self.grads[name].reshape(-1)
        if not np.all(np.abs(gradient - estimate.value) <= estimate.error + self.noise(name).reshape(-1)):
            return None
        directions = self.rng.standard_normal((2, *self.grads[name].shape))
        joint = derivatives(along(self.point, name, directions), confirm=False)  # the one confirms the other
        flat = directions.reshape(2, -1)
        apart = np.abs(joint.value - flat @ estimate.value)
        fits = np.isfinite(joint.error) & (apart <= joint.error + np.abs(flat) @ estimate.error)
        return estimate if np.isfinite(estimate.error).all() and fits.all() else None

    def _by_differences(
        self,
        name: str,
        lines: Lines,
        chosen: Integers,
        estimate: Estimate | None = None,
        *,
        leaving_out: bool = False,
    ) -> TensorFinding:
        grad, noise = self.grads[name].reshape(-1), self.noise(name).reshape(-1)
        estimate = derivatives(lines) if estimate is None else estimate
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

        What outputs that do not move may miss is added first. If of the worst elements one still disagrees, others that
        are as blatant are taken to do so, too.
        """
        grad = self.grads[name].reshape(-1)
        with np.errstate(invalid="ignore", divide="ignore"):
            excess = np.abs(grad - numeric)[chosen] / allowed[chosen]
        wrong = np.argsort(-np.nan_to_num(excess))[: int(min(CONFIRMED, np.sum(excess > 1)))]
        blatant = (excess[wrong] > BLATANT) & (np.arange(len(wrong)) >= AT_ONCE)
        self._confirm_some(name, chosen, wrong[~blatant], estimate, allowed)
        few = chosen[wrong[:AT_ONCE]]
        if np.any(blatant) and not np.any(np.abs(grad - numeric)[few] > allowed[few]):
            self._confirm_some(name, chosen, wrong[blatant], estimate, allowed)

    def _confirm_some(self, name: str, chosen: Integers, some: Integers, estimate: Estimate, allowed: Array) -> None:
        if not len(some):
            return
        lines = coordinates(self.point, name).only(chosen[some])
        allowed[chosen[some]] += hidden(lines, estimate.step[some])
        for shorter in (2.0**-2, 2.0**-5):
            again = derivatives(lines, another_step(estimate.step[some], shorter) / lines.scale)
            beyond = np.abs(again.value - estimate.value[some]) - again.error
            allowed[chosen[some]] = np.maximum(allowed[chosen[some]], np.where(np.isfinite(beyond), beyond, 0.0))

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
        estimate = derivatives(lines, confirm=False)  # what agrees is confirmed
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
        estimate = self._unless_it_agrees(name, directions, lines)
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

    def _unless_it_agrees(self, name: str, directions: Array, lines: Lines) -> Estimate:
        """Return the derivatives along lines, confirmed by other steps unless all are those of the gradient."""
        # Where nothing of truncation shows, a longer step rounds less; where it does, a shorter one follows.
        estimate = derivatives(lines, another_step(np.asarray(lines.steps.first), LONGER), confirm=False)
        projected = np.tensordot(directions, self.grads[name], self.grads[name].ndim)
        agrees = np.abs(projected - estimate.value) <= estimate.error + self._projected_noise(name, directions)
        return estimate if np.all(agrees & np.isfinite(estimate.error)) else derivatives(lines)

    def together(self) -> dict[str, TensorFinding] | None:
        """Judge all gradients by <g, u> for Gaussian u in all variables at once; None if anything is open.

        Each line moves elements alone whose gradients, times the size of their tensor, are of one size: in one sum with
        larger ones a small one would be lost in their rounding. An error is missed as `fast` says, of the norm of its
        group.
        """
        names = [name for name, x in self.point.variables.items() if x.size]
        scales = {name: unit(self.point.variables[name]) for name in names}
        if not names or not all(np.isfinite(self.grads[name]).all() for name in names):
            return None
        sizes = {name: scales[name] * np.abs(self.grads[name], dtype=np.float64) for name in names}
        top = max(float(size.max()) for size in sizes.values())
        groups = {name: _groups(size, top) for name, size in sizes.items()}
        kinds, counts = np.unique(np.concatenate([group.reshape(-1) for group in groups.values()]), return_counts=True)
        lines = np.repeat(kinds, np.minimum(PROBES_OF_A_GROUP, counts))
        directions = {
            name: scales[name] * self.rng.standard_normal((len(lines), *group.shape)) * [group == n for n in lines]
            for name, group in groups.items()
        }
        if not self.point.function.foreign and self._by_complex_steps(directions):  # then one line confirms them all
            directions = {name: each.sum(axis=0, keepdims=True) for name, each in directions.items()}
        projected, noise = self._projected(directions)
        joint = along_all(self.point, directions)
        estimate = derivatives(joint, self.case.measured.get(STEP), confirm=False)  # a gradient that agrees confirms
        self.case.measured.setdefault(STEP, float(np.median(estimate.step / joint.scale)) or None)
        allowed = estimate.error + noise
        judged = np.isfinite(allowed) & (np.abs(projected - estimate.value) <= allowed)
        if not judged.all() or not self._told(allowed, projected, estimate.value):
            return None
        worst, seen = compare(" and ".join(names), projected, estimate.value, allowed), _seen(estimate.value, allowed)
        found = TensorFinding(worst and replace(worst, index=()), told=True, seen=seen)
        return dict.fromkeys(names, found)

    def _projected(self, directions: dict[str, Array]) -> tuple[Array, Array]:
        """Return <g, u> of all variables, and its allowance for rounding."""
        projected = sum(np.tensordot(u, self.grads[name], self.grads[name].ndim) for name, u in directions.items())
        noise = sum(self._projected_noise(name, u) for name, u in directions.items())
        return np.asarray(projected), np.asarray(noise)

    def _by_complex_steps(self, directions: dict[str, Array]) -> bool:
        """Return whether complex steps give <g, u>, if f takes them."""
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                exact = complex_along(self.point, directions)
            except Exception:  # noqa: BLE001  what does not take complex numbers is differenced
                return False
        if exact is None:
            return False
        projected, noise = self._projected(directions)
        return bool(np.all(np.abs(exact - projected) <= noise))

    def _some(self, name: str) -> TensorFinding:
        """Judge a few elements, where no random direction stays within the domain."""
        limit = min(self.grads[name].size, PROBES)
        found = self.full(name, stacked=False, limit=limit)
        return replace(found, remark=f"{limit} of {self.grads[name].size} elements of {name} one by one")

    def numeric_of(
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
            kept[name] = Derivatives(lines, min(most * samples, KEPT // max(1, lines.y.shape[1])), self.settings.late)
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

    def analytic(self, name: str, dy: Array) -> Array:
        """Return the pullback's gradient for another cotangent."""
        return self.pullback(np.asarray(dy, self.point.dy.dtype))[name]

    def at(self, point: Point) -> Judge:
        """Return the same judge of the forward pass alone, at another point."""
        return replace(self, point=point)

    def moved(self, variables: dict[str, Array], function: Function | None = None) -> Judge:
        """Return the judge of the gradients for other variables, of another function if one is given.

        Raises what the passes raise there, and `TooLongError`.
        """
        if self.settings.late():
            raise TooLongError
        function = self.point.function if function is None else function
        y, pullback = function.call(variables, self.point.context())
        grads = pullback(self.point.dy)
        shadows = [*shadows_of(self.case, function, variables, self.point.dy, self.rng)]
        outputs = [one["output"] for one in shadows]
        point = replace(self.point, function=function, variables=variables, y=y, outputs=outputs)
        return replace(self, point=point, pullback=pullback, grads=grads, shadows=shadows)

    def with_cotangent(self, dy: Array) -> Judge:
        """Return the same judge for another cotangent."""
        point = replace(self.point, dy=dy)
        shadows = [*shadows_of(self.case, point.function, point.variables, dy, self.rng)]
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


def _groups(sizes: Array, top: float) -> Array:
    """Return the group of each element: 0 within 2^`BITS_OF_A_GROUP` of the largest, 1 within that of 0; inf of 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.floor((np.log2(top or 1.0) - np.log2(sizes)) / BITS_OF_A_GROUP))


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
