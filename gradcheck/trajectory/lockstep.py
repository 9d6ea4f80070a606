"""Lock-step: whether one step of each side, from the same state on the same batch, is the same."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradcheck.contract import Array, Context, Gradients, Key, Kinks
from gradcheck.numerics.agreement import Verdict, ratio_of
from gradcheck.numerics.rounding import largest_difference, largest_magnitude, spread, two_norm
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.beginnings import unlike_names
from gradcheck.trajectory.causes import explained
from gradcheck.trajectory.divergence import Divergence, Moment, locate, split, unlike
from gradcheck.trajectory.engine import (
    Batch,
    Engine,
    State,
    Step,
    StepError,
    execution_order,
    observed,
    tensors_of,
)
from gradcheck.trajectory.judgement import CLEAR, USEFUL, Apart, Judgement, apart, exact, judged
from gradcheck.trajectory.kinks import Crossing, crossings, kinks_of
from gradcheck.trajectory.reference import ReferenceRounding, Rounding
from gradcheck.trajectory.shadows import ERRING, shadow_from_nudged_state, share_of_rounding
from gradcheck.trajectory.unmeasured import HALF_OF_FLOAT32, unexplained, untold

# Shadows added where a comparison exceeds its allowance, before it counts: the spread of three is small by chance more
# often than that of two dozen.
SHADOWS_OF_A_RETAKE = 21

# What comes after the forward pass.
BEYOND = ("backward/", "update/")

# For so many steps a measured rounding of the reference is taken to be as large: to measure it takes a hundred.
REMEMBERED = 100

# By tensor: the step in which the reference's rounding was measured, its size, and that over the largest element.
Known = dict[str, tuple[int, float, float]]

# The key of the shadows of a step that trains, and of an evaluation before it.
SHADOWED = {True: "lock-step", False: "evaluation"}


@dataclass(frozen=True)
class LockStepResult:
    """The verdict on single steps.

    ``ratios`` holds disagreement over allowance of every comparison, except of tensors that must be equal.
    ``failed_steps`` are the steps with an unexplained ratio above 1, ``uninformative`` the tensors that were
    informative in no step. ``retakes`` and ``second_opinions`` count the comparisons that each has cleared. ``moment``
    is the first step that failed, if it could be taken. From the step ``hidden_from`` on, the engine carries over what
    its state does not show; None if nothing of the kind was found during the run. ``unmeasured`` counts the comparisons
    that nothing could be told of, because an engine without taps shows no rounding. ``alone`` holds, by the side that
    alone has shown them in some step, ``ours`` or ``theirs``, the tensors that were not compared.
    """

    verdict: Verdict
    steps_compared: int
    evaluations_compared: int
    ratios: Array
    informative: int
    uninformative: tuple[str, ...]
    worst: Divergence | None
    first_failure: Divergence | None
    moment: Moment | None
    failed_steps: tuple[int, ...]
    crossings: tuple[Crossing, ...]
    retakes: int
    second_opinions: int
    hidden_from: int | None
    unmeasured: int
    alone: Mapping[str, tuple[str, ...]]


class LockStep:
    """Compares single steps of ``engine`` with a reference's, from the reference's states.

    The allowance of a tensor is ``factor`` times the spread of ``shadows`` nudged steps, at least the floor of `apart`.
    Only as many of them are taken as make every comparison `CLEAR`: further ones would only widen what is allowed. If
    nudged taps move nothing, or the engine is opaque, inputs and parameters are nudged, too. Where a comparison fails,
    ``rounding`` measures the reference's own error, and if nudged taps show too little, ``own`` that
    of the engine.

    If one side or a shadow crosses a kink that the others do not, what flows back from there cannot be compared. Then
    the step is repeated, by the shadows too, with the outputs of the reference's layers in place of its own, so that
    all make the same choices. What comes after the forward pass is judged by that step.

    ``shares`` holds, by key of the state, the largest share of `update_rounding` by which both sides' updates differed.
    ``excused`` holds how far they differed at most, in the 2-norm, where only the reference's own error explains it, or
    more shadows than a free run has. An engine with ``hidden`` state, which no state that is loaded replaces, takes
    every step along the reference, and so do its shadows, as many as are ever needed. While `doubtful`, every step is
    looked at for such a state, in copies of the engine that have not trained: what a side carries over, and the other
    does not, fails the step.

    ``watch`` is called with everything that passes. The shadows of a step depend on ``seed`` and the number of the step
    alone, so that a step that is repeated, after other steps or none, is judged as it was.
    """

    def __init__(
        self,
        engine: Engine,
        factor: float,
        shadows: int,
        seed: int,
        rounding: Rounding,
        watch: Callable[[Taken], None] = lambda _: None,
        *,
        hidden: bool = False,
        tapped: bool = True,
        own: Rounding | None = None,
    ) -> None:
        self.rounding, self.watch = rounding, watch
        self.own = own or ReferenceRounding(engine, engine, seed)
        self.engine, self.shadow = copy.deepcopy(engine), copy.deepcopy(engine)
        self.factor, self.shadows, self.seed = factor, shadows, seed
        self.along = [copy.deepcopy(engine) for _ in range(shadows + SHADOWS_OF_A_RETAKE if hidden else 0)]
        self.untrained, self.doubtful = copy.deepcopy(engine), False
        self.hidden_from: int | None = None
        self.tapped, self.unmeasured = tapped, 0
        self.alone: dict[str, dict[str, None]] = {"ours": {}, "theirs": {}}
        self.rng = Key(seed).generator()  # of the step that is compared
        self.known: Known = {}
        self.orders: dict[tuple[object, ...], list[str]] = {}  # of execution, by what a step shows
        self.ratios: list[float] = []
        self.untapped = False  # nudged taps move nothing
        self.shares: dict[str, float] = {}
        self.excused: dict[str, float] = {}
        self.informative: dict[str, int] = {}
        self.gradients: set[str] = set()  # those of parameters
        self.worst: Divergence | None = None
        self.first_failure: Divergence | None = None
        self.moment: Moment | None = None
        self.previous: tuple[State, Batch, Context, Gradients] | None = None  # the step last compared
        self.failed_steps: list[int] = []
        self.crossings: list[Crossing] = []
        self.steps = self.evaluations = self.retakes = self.second_opinions = 0

    def compare(self, before: State, batch: Batch, context: Context, reference: Step) -> float:
        """Take the step that the reference took from ``before``; return the largest ratio of its comparisons.

        In a context that does not train, an evaluation of ``batch.x`` is compared.
        """
        names = context.training, *reference.taps, "", *reference.grads, "", *reference.updated
        order = self.orders.setdefault(names, []) or execution_order(reference)
        self.orders[names] = order
        try:
            trial = self.begun(before, batch, context, reference, order)
            self._require_names(trial)
            trial.untapped = self.engine.opaque or (self.untapped and bool(self.along))
            self._shadow(trial)
            if self.doubtful and context.training and not self.along:
                self._doubt(trial)
            if self.parted(trial):
                self._nudge_up_to(trial, self.shadows)
                self._agree(trial)
            self._judge(trial, trial.order, trial.spreads)
            if trial.failing():
                self._look_again(trial)
        except StepError as error:
            found = unlike(context.key.step, error.place(order), error.message)
            self._fail(replace(found, training=context.training))
            return math.inf
        self._note(trial)
        return max(judgement.ratio for judgement in trial.judgements.values())

    def _shadow(self, trial: Taken) -> None:
        """Take shadows until all comparisons are clear; all of those along the reference, which are there at no cost.

        If they move nothing, others are taken that nudge inputs and parameters, too.
        """
        for shadow in self.along:
            self.nudge(trial, shadow)
        computed = ["forward/outputs", *(f"backward/{name}" for name in trial.reference.grads)]
        for count in range(1, 0 if self.along else self.shadows + 1):
            self._nudge_up_to(trial, count)
            moved = trial.untapped or any(trial.spreads.get(name) for name in computed)
            if moved and trial.clear(trial.order, self.factor):
                return
        if not trial.untapped and not any(trial.spreads.get(name) for name in computed):
            self.untapped = trial.untapped = True
            for _ in range(0 if self.along else self.shadows):  # a step with hidden state cannot be repeated
                self.nudge(trial, self.shadow)

    def _nudge_up_to(self, trial: Taken, count: int) -> None:
        while not self.along and trial.nudges < count:
            trial.nudges += 1
            self.nudge(trial, self.shadow)

    def begun(self, before: State, batch: Batch, context: Context, reference: Step, order: list[str]) -> Taken:
        """Take the engine's step beside one of the reference; nothing is compared yet."""
        self.rng = Key(self.seed, context.key.step, SHADOWED[context.training]).generator()
        self.engine.load(before)
        return Taken(before, batch, context, observed(self.engine, batch, context), reference, order, self.known)

    def kinks(self, trial: Taken, step: Step) -> dict[str, Kinks]:
        """Return the choices of a step; none where it does not show the taps that they are made from."""
        return kinks_of(self.engine, trial.batch.x, step.taps)

    def parted(self, trial: Taken) -> bool:
        """Return whether the two sides and the shadows do not all make the same choices."""
        ours = self.kinks(trial, trial.step) if trial.context.training else {}
        everybody = [self.kinks(trial, trial.reference), *trial.shadows] if ours else []
        return any(not np.array_equal(ours[layer].choice, one[layer].choice) for one in everybody for layer in ours)

    def result(self) -> LockStepResult:
        """Return what has been found so far."""
        told = any(self.informative.get(f"backward/{name}", 0) for name in self.gradients)
        verdict = Verdict.PASS if told and not self.unmeasured else Verdict.INCONCLUSIVE
        first = self.first_failure
        if first is not None and self.moment is not None:
            first = replace(first, diagnosis=explained(first, self.moment))
        return LockStepResult(
            verdict=Verdict.FAIL if self.first_failure else verdict,
            steps_compared=self.steps,
            evaluations_compared=self.evaluations,
            ratios=np.array(self.ratios),
            informative=sum(self.informative.values()),
            uninformative=tuple(split(name)[1] for name, count in self.informative.items() if not count),
            worst=self.worst,
            first_failure=first,
            moment=self.moment,
            failed_steps=tuple(self.failed_steps),
            crossings=tuple(self.crossings),
            retakes=self.retakes,
            second_opinions=self.second_opinions,
            hidden_from=self.hidden_from,
            unmeasured=self.unmeasured,
            alone={side: tuple(names) for side, names in self.alone.items()},
        )

    def _require_names(self, trial: Taken) -> None:
        """Raise `StepError` where one side alone has a gradient, `AdapterError` where the states have other names.

        What else one side alone shows is not compared, and kept in ``alone``.
        """
        for name in trial.reference.grads:
            if name not in trial.step.grads:
                raise StepError("has no gradient", f"backward/{name}")
        for name in trial.step.grads:
            if name not in trial.reference.grads:
                raise StepError("has a gradient, the reference's has none", f"backward/{name}")
        if lines := unlike_names(trial.step.updated, trial.reference.updated):
            raise AdapterError(
                "\n".join(["both states need the same names after a step:", *(f"  {line}" for line in lines)])
            )
        self.alone["ours"] |= dict.fromkeys(name for name in trial.ours if name not in trial.theirs)
        self.alone["theirs"] |= dict.fromkeys(name for name in trial.theirs if name not in trial.ours)

    def _agree(self, trial: Taken) -> None:
        """Take what comes after the forward pass, and its shadows, from a step with the reference's outputs.

        Nothing is done if rounding does not explain every crossing. A step with hidden state cannot be repeated: then
        nothing is told of what comes after.
        """
        self._cross(trial)
        if trial.forced or not all(crossing.explained for crossing in trial.crossings):
            return
        if self.along or trial.settled:
            trial.spreads |= {name: math.inf for name in trial.order if name.startswith(BEYOND)}
            return
        trial.forced = {name: array for name, array in trial.reference.taps.items() if name.endswith(".output")}
        self.shadow.load(trial.before)
        again = tensors_of(observed(self.shadow, trial.batch, trial.context, forced=trial.forced))
        for name in trial.order:
            if name.startswith(BEYOND):
                trial.replace(name, np.array(again[name]))
        for _ in range(self.shadows):
            self._nudge_beyond(trial)

    def nudge(self, trial: Taken, engine: Engine) -> None:
        """Take the step once more as a shadow, and widen the spreads to it; a shadow that raises is ignored.

        A nudge may move an input out of the range that the engine accepts.
        """
        given = engine, trial.before, trial.batch, trial.context, self.rng
        engine.load(trial.before)
        try:
            shadow = shadow_from_nudged_state(*given)[0] if trial.untapped else observed(engine, *given[2:])
        except StepError:
            return
        self._widen(trial, shadow, [name for name in trial.order if not (trial.forced and name.startswith(BEYOND))])
        trial.shadows.append(self.kinks(trial, shadow))
        if trial.forced:
            self._nudge_beyond(trial)

    def _nudge_beyond(self, trial: Taken) -> None:
        """Take the step once more as a shadow with the reference's choices, and widen the later tensors' spreads."""
        self.shadow.load(trial.before)
        shadow = observed(self.shadow, trial.batch, trial.context, self.rng, trial.forced)
        self._widen(trial, shadow, [name for name in trial.order if name.startswith(BEYOND)])

    def _widen(self, trial: Taken, shadow: Step, names: list[str]) -> None:
        shown = tensors_of(shadow)
        for name in names:
            if trial.ours[name].shape == shown[name].shape:
                difference = largest_difference(shown[name], trial.ours[name])
                if math.isfinite(difference):  # an overflow does not show how far rounding moves
                    trial.spreads[name] = max(trial.spreads[name], difference)

    def _doubt(self, trial: Taken) -> None:
        """Look for what this step carries over from the steps before, though no state shows it.

        A shadow has just taken other steps than the engine. If it does not repeat the engine's step, copies that have
        taken none show what the step is without anything carried over, and how far rounding moves that.
        """
        self.shadow.load(trial.before)
        echo = tensors_of(observed(self.shadow, trial.batch, trial.context))
        if all(_same(echo[name], trial.ours[name]) for name in trial.order):
            return
        try:
            alone, *shadows = (self._afresh(trial, nudge) for nudge in [False] + [True] * SHADOWS_OF_A_RETAKE)
        except StepError:
            return
        spreads = spread({name: alone[name] for name in trial.order}, shadows)

        def carries(shown: dict[str, Array]) -> bool:
            found = (
                judged(name, shown[name], alone[name], spreads[name], self.factor, trial.before) for name in spreads
            )
            return any(one.ratio > 1 for one in found)

        if not carries(trial.ours):
            return
        self.hidden_from = trial.context.key.step
        self.doubtful = False
        if not carries(trial.theirs):
            trial.spreads, trial.settled = spreads, True

    def _afresh(self, trial: Taken, nudge: bool) -> dict[str, Array]:
        """Return what a copy of the engine shows that has taken no step before this one."""
        engine = copy.deepcopy(self.untrained)
        engine.load(trial.before)
        return tensors_of(observed(engine, trial.batch, trial.context, self.rng if nudge else None))

    def _judge(self, trial: Taken, names: list[str], spreads: dict[str, float]) -> int:
        """Compare some tensors, given the spreads of the shadows; return how many are within their allowance."""
        for name in names:
            trial.judgements[name] = trial.apart(name).judged(spreads[name], self.factor)
        return sum(trial.judgements[name].ratio <= 1 for name in names)

    def _look_again(self, trial: Taken) -> None:
        """Judge again what exceeds its allowance: with more shadows, at kinks, and with a second opinion."""
        trial.few = dict(trial.spreads)
        believed = self.first_failure is not None  # a verdict that stands needs no second look
        if not believed:
            self.second_opinions += self._judge(trial, trial.inexact_failing(), self._remembered(trial))
        # Where nothing is nudged, more shadows show no more.
        shown = self.tapped or any(trial.spreads[name] for name in trial.failing())
        if shown and not (believed or self.along or trial.settled) and trial.failing():
            for _ in range(SHADOWS_OF_A_RETAKE):
                self.nudge(trial, self.shadow)
            self.retakes += self._judge(trial, trial.failing(), trial.spreads)
        self._settle_crossings(trial)
        if not believed and (names := trial.inexact_failing()):
            self._ask(trial, self.rounding.by_opinion(names, trial.theirs, trial.before, trial.batch, trial.context))
        # What has been left open in an earlier step stays so, whatever the reference's rounding is.
        if not (believed or self.unmeasured) and (names := trial.inexact_failing()):
            needed = {name: trial.judgements[name].disagreement / self.factor for name in names}
            self._ask(trial, self.rounding.by_differences(needed, trial.before, trial.batch, trial.context))
            if (
                trial.untapped
                and not self.along
                and (needed := {name: needed[name] for name in trial.inexact_failing()})
            ):
                self._ask(trial, self.own.by_differences(needed, trial.before, trial.batch, trial.context))
        if not self.tapped:
            self._leave_open(trial)

    def _leave_open(self, trial: Taken) -> None:
        """Take for uninformative what exceeds an allowance that knows nothing of rounding inside, but by little."""
        little = [
            name for name in trial.inexact_failing() if not unexplained(name, trial.ours, trial.theirs, trial.before)
        ]
        widest = self._by_half_digits(trial, [name for name in little if untold(name, trial.theirs[name])])
        for name in little:
            if trial.judgements[name].disagreement <= widest.get(name, math.inf):
                trial.judgements[name] = trial.judgements[name]._replace(allowed=math.inf)
                self.unmeasured += 1

    def _by_half_digits(self, trial: Taken, names: list[str]) -> dict[str, float]:
        """Return how far some tensors move if inputs and parameters lose half of their digits, kinks included.

        Nothing is returned for an engine with hidden state, whose steps cannot be repeated.
        """
        if not names or self.along or trial.settled:
            return {}
        widest = dict.fromkeys(names, 0.0)
        for _ in range(SHADOWS_OF_A_RETAKE):
            given = self.shadow, trial.before, trial.batch, trial.context, self.rng
            try:
                shown = tensors_of(shadow_from_nudged_state(*given, precision=HALF_OF_FLOAT32)[0])
            except StepError:
                return {}
            apart = {name: largest_difference(shown[name], trial.ours[name]) for name in names}
            widest = {name: max(widest[name], apart[name]) for name in names}
        return widest

    def _ask(self, trial: Taken, errors: dict[str, float]) -> None:
        """Judge again, with the reference's own errors, and remember these."""
        limits = {name: max(trial.spreads[name], error) for name, error in errors.items()}
        step = trial.context.key.step
        self.known = self.known | {
            name: (step, error, ratio_of(error, largest_magnitude(trial.theirs[name])))
            for name, error in errors.items()
        }
        self.second_opinions += self._judge(trial, [name for name in trial.failing() if name in limits], limits)

    def _remembered(self, trial: Taken) -> dict[str, float]:
        """Return the spreads, widened to the reference's rounding as it was last measured.

        It is taken to be no larger than it was, neither absolutely nor relative to the tensor. It is not used if it
        made a comparison uninformative: a gradient that all but cancels is nothing but rounding, others are not.
        """
        limits = dict(trial.spreads)
        for name, (step, error, relative) in self.known.items():
            if trial.context.key.step < step + REMEMBERED and name in trial.theirs and self.factor * relative <= USEFUL:
                limits[name] = max(limits[name], min(error, relative * largest_magnitude(trial.theirs[name])))
        return limits

    def _cross(self, trial: Taken) -> None:
        """Find the kinks that the two sides took differently."""
        ours, theirs = (self.kinks(trial, step) for step in (trial.step, trial.reference))
        trial.crossings = crossings(trial.context.key.step, ours, theirs, trial.shadows, self.factor)

    def _settle_crossings(self, trial: Taken) -> None:
        """Repeat the step with the same choices for all, if with more shadows rounding now explains the crossings."""
        if self.parted(trial) and not trial.forced:
            self._agree(trial)
            beyond = [name for name in trial.order if name.startswith(BEYOND)]
            self._judge(trial, beyond if trial.forced else [], trial.spreads)

    def _note(self, trial: Taken) -> None:
        self.steps += trial.context.training
        self.evaluations += not trial.context.training
        self.gradients.update(trial.reference.grads)
        self.crossings += trial.crossings
        inexact = [name for name in trial.order if not exact(name, trial.theirs[name])]
        self.ratios += [trial.judgements[name].ratio for name in inexact]
        for name in inexact if trial.context.training else ():
            self.informative[name] = self.informative.get(name, 0) + trial.tells(name)
        top = max(trial.order, key=lambda name: trial.judgements[name].ratio)
        if self.worst is None or trial.judgements[top].ratio > self.worst.ratio:
            self.worst = self._locate(trial, top)
        for key in (key for key in trial.reference.updated if key.startswith(ERRING)):
            name = f"update/{key}"
            ours, theirs = trial.ours[name], trial.theirs[name]
            if theirs.dtype.kind == "f":
                known = self.shares.get(key, 0.0)
                self.shares[key] = share_of_rounding(trial.before.get(key), ours, theirs, known)
                if trial.few and trial.excused(name, self.factor):
                    self.excused[key] = max(self.excused.get(key, 0.0), two_norm(ours - theirs))
        failing = trial.failing()
        if not failing:
            self.watch(trial)
        if failing:
            found = self._locate(trial, failing[0])
            if self.first_failure is None:
                self.moment = trial.moment(self.previous)
            self._fail(found)
        if trial.context.training and self.first_failure is None:
            grads = {name: np.array(grad) for name, grad in trial.reference.grads.items()}
            self.previous = trial.before, trial.batch, trial.context, grads

    def _fail(self, found: Divergence) -> None:
        self.failed_steps.append(found.step)
        self.first_failure = self.first_failure or found

    def _locate(self, trial: Taken, name: str) -> Divergence:
        _, allowed = judgement = trial.judgements[name]
        ours, theirs = trial.ours[name], trial.theirs[name]
        found = locate(trial.context.key.step, name, ours, theirs, allowed / self.factor, allowed, judgement.ratio)
        return replace(found, training=trial.context.training)


class Taken:
    """One step, taken by both sides and by the shadows, and its comparisons, in execution order.

    ``order`` is that of the reference, of what both sides show.
    ``known`` is what was known before the step of the reference's rounding.
    """

    def __init__(
        self,
        before: State,
        batch: Batch,
        context: Context,
        step: Step,
        reference: Step,
        order: list[str],
        known: Known,
    ) -> None:
        self.before, self.batch, self.context = before, batch, context
        self.step, self.reference, self.known = step, reference, known
        self.ours, self.theirs = tensors_of(step), tensors_of(reference)
        self.order = [name for name in order if name in self.ours]
        self.spreads = dict.fromkeys(self.order, 0.0)
        self.crossings: list[Crossing] = []
        self.untapped = False  # nudged taps show too little
        self.forced: dict[str, Array] = {}  # outputs of the reference's layers, where some crossed a kink
        self.shadows: list[dict[str, Kinks]] = []
        self.settled = False  # the spreads are of copies that carry nothing over
        self.nudges = 0
        self.few: dict[str, float] = {}  # the spreads before a second look
        self.judgements: dict[str, Judgement] = {}
        self._apart: dict[str, Apart] = {}

    def apart(self, name: str) -> Apart:
        """Return how far apart the two sides of a tensor are."""
        found = self._apart.get(name)
        if found is None:
            found = self._apart[name] = apart(name, self.ours[name], self.theirs[name], self.before)
        return found

    def replace(self, name: str, ours: Array) -> None:
        """Take another array for ours, of which no shadow has told anything yet."""
        self.ours[name], self.spreads[name] = ours, 0.0
        self._apart.pop(name, None)

    def clear(self, names: list[str], factor: float) -> bool:
        """Return whether some tensors are well within the allowance that the shadows so far give."""
        return all(self.apart(name).judged(self.spreads[name], factor).ratio <= CLEAR for name in names)

    def moment(self, last: tuple[State, Batch, Context, Gradients] | None) -> Moment:
        """Return this step, with copies of the arrays that the engines or the caller's batches may overwrite."""
        ours, theirs = ({name: np.array(shown[name]) for name in self.order} for shown in (self.ours, self.theirs))
        allowed = {name: self.judgements[name].allowed for name in self.order}
        moment = Moment(self.before, self.batch, self.context, ours, theirs, allowed)
        if last is None or last[2].key.step != self.context.key.step - 1:
            return moment
        return replace(moment, previous=last[3], earlier=last[:3])

    def allowed(self, name: str) -> float:
        """Return the allowance of a tensor."""
        return self.judgements[name].allowed

    def excused(self, name: str, factor: float) -> bool:
        """Return whether a tensor is within its allowance only by a second look, which a free run does not take."""
        if name.removeprefix("update/") not in self.before or self.judgements[name].ratio > 1:
            return False
        return self.apart(name).judged(self.few[name], factor).ratio > 1

    def tells(self, name: str) -> bool:
        """Return whether the comparison of a tensor is informative: whether its allowance is small beside it."""
        return self.apart(name).tells(self.judgements[name])

    def failing(self) -> list[str]:
        """Return the tensors that exceed their allowance."""
        return [name for name, judgement in self.judgements.items() if judgement.ratio > 1]

    def inexact_failing(self) -> list[str]:
        """Return, of the failing tensors, those that need not be equal."""
        return [name for name in self.failing() if not exact(name, self.theirs[name])]


def _same(a: Array, b: Array) -> bool:
    return np.array_equal(a, b, equal_nan=b.dtype.kind == "f")
