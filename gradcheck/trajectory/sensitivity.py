"""Which faults a run that passed would have caught: they are planted into its own engine, at its own steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import NamedTuple

import numpy as np

from gradcheck.contract import Array, Context
from gradcheck.trajectory.engine import Batch, Engine, State, StepError, observed, step_of
from gradcheck.trajectory.faults import Fault, GradientFault, GradientScale, GradientStale, GradientZero
from gradcheck.trajectory.judgement import exact
from gradcheck.trajectory.lockstep import Known, LockStep, Taken
from gradcheck.trajectory.reference import ReferenceRounding

# Steps drawn evenly from a run in which faults are planted, besides the step of each gradient's smallest allowance: one
# of so many, since a short run is not to wait for them, but from 3 to 8.
ONE_OF, LEAST, STEPS = 50, 3, 8

# A size is halved until it is missed. Then the interval is bisected so often, which leaves the size known to a fifth.
BISECTIONS = 2

# The size reported over the smallest that was caught. In one step, the smallest differs with the shadows by a factor of
# up to 1.5. benchmarks/smallest_fault.py counts how often the size is caught with other seeds and processors.
MARGIN = 2.0

# With so many other draws of shadows the size that is reported must be caught.
AGAIN = 3

# How often a size that other shadows miss is raised by a quarter before the search is given up.
RAISES = 12


@dataclass(frozen=True)
class SmallestFault:
    """A relative fault of one gradient that this run catches: the gradient times ``1 + size``, from ``step`` on.

    It fails this very run in this very step: it was planted there, with the run's own shadows and its measurements up
    to then. It is at least `MARGIN` times the smallest size that was caught there, and was caught with other shadows
    too, so it can be expected to be caught with another seed, start or processor. ``share`` is the share of the
    ``steps`` drawn from the run in which it is caught.
    """

    tensor: str
    size: float
    step: int
    steps: int
    share: float


@dataclass(frozen=True)
class Sensitivity:
    """Which faults a run would have caught.

    ``by_tensor`` holds the smallest fault of every gradient. It is None where not even twice the gradient is caught, or
    where other shadows still miss a size that was raised by a quarter `RAISES` times. ``caught`` and ``missed`` name
    the other faults that were planted.
    """

    by_tensor: Mapping[str, SmallestFault | None]
    caught: tuple[str, ...]
    missed: tuple[str, ...]

    @property
    def smallest(self) -> SmallestFault | None:
        """The smallest of all, None if there is none."""
        return min((one for one in self.by_tensor.values() if one), key=lambda one: one.size, default=None)


class _Sample(NamedTuple):
    """A step of the reference, its rounding as measured by then, and the step before, if there was one."""

    before: State
    batch: Batch
    context: Context
    theirs: dict[str, Array]
    known: Known
    previous: tuple[State, Batch, Context] | None


class Sampler:
    """Keeps steps of a run: some drawn evenly, and for each gradient that with the smallest relative allowance.

    A step replaces that one only if its allowance is below 90 % of the kept one. Drawn evenly: the n-th step replaces
    one of the kept with probability ``STEPS / n``. Vitter (1985), algorithm R.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng, self.seen = rng, 0
        self.drawn: list[_Sample] = []
        self.sharpest: dict[str, tuple[float, _Sample] | None] = {}  # None while a gradient has only been zero
        self.evaluated: _Sample | None = None
        self.last: tuple[State, Batch, Context] | None = None

    def __call__(self, taken: Taken) -> None:
        """Consider a step, or an evaluation, that has passed."""
        if not taken.context.training:
            self.evaluated = self.evaluated or self._kept(taken)
            return
        sample: _Sample | None = None
        place = len(self.drawn) if self.seen < STEPS else int(self.rng.integers(self.seen + 1))
        self.seen += 1
        if place < STEPS:
            sample = self._kept(taken)
            self.drawn[place : place + 1] = [sample]
        for name in taken.reference.grads:
            size, allowed = taken.apart(f"backward/{name}").size, taken.allowed(f"backward/{name}")
            share = allowed / size if 0 < size < math.inf else math.inf
            best = self.sharpest.setdefault(name, None)
            if share < 0.9 * (best[0] if best else math.inf):
                sample = sample or self._kept(taken)
                self.sharpest[name] = share, sample
        self.last = taken.before, taken.batch, taken.context

    def _kept(self, taken: Taken) -> _Sample:
        last, index = self.last, taken.context.key.step
        previous = last if last is not None and last[2].key.step == index - 1 else None
        theirs = {name: np.array(array) for name, array in taken.theirs.items()}
        return _Sample(taken.before, taken.batch, taken.context, theirs, taken.known, previous)


class _AskedOnce:
    """The reference's rounding in one step, measured once."""

    def __init__(self, rounding: ReferenceRounding, sample: _Sample) -> None:
        self.rounding, self.sample = rounding, sample
        self.found: dict[str, dict[str, float]] = {}

    def by_opinion(self, names: list[str], *_: object) -> dict[str, float]:
        before, batch, context, theirs = self.sample[:4]
        if "opinion" not in self.found:
            names = [name for name, array in theirs.items() if not exact(name, array)]
            self.found["opinion"] = self.rounding.by_opinion(names, theirs, before, batch, context)
        return {name: error for name, error in self.found["opinion"].items() if name in names}

    def by_differences(self, needed: Mapping[str, float], *_: object) -> dict[str, float]:
        before, batch, context, theirs = self.sample[:4]
        if "differences" not in self.found:
            names = dict.fromkeys((name for name, array in theirs.items() if not exact(name, array)), math.inf)
            # The run has looked for hidden state, and found none.
            self.found["differences"] = self.rounding.by_differences(names, before, batch, context, look=False)
        return {name: self.found["differences"].get(name, 0.0) for name in needed}


def sensitivity(
    engine: Engine,
    sampler: Sampler,
    rounding: ReferenceRounding,
    factor: float,
    shadows: int,
    seed: int,
    faults: Mapping[str, Fault],
    *,
    tapped: bool = True,
    progress: Callable[[int, int], None] = lambda _, __: None,
) -> Sensitivity:
    """Plant faults into ``engine``, in the steps that a passed run has kept, and find those that lock-step catches.

    ``seed`` is that of the run and draws the same shadows in the same steps. Every gradient is scaled by 1 + size, with
    the size bisected. It is also given the wrong sign, replaced by that of the step before, and given a zero in place
    of its largest element. ``faults``, by name, are planted too. An engine that is not ``tapped`` shows no rounding.
    ``progress(done, all)`` is called before each kind of fault.
    """
    trials = _Trials(engine, rounding, factor, shadows, seed, tapped)
    drawn = sampler.drawn[: max(LEAST, sampler.seen // ONE_OF)]
    sharpest = {name: best for name, best in sampler.sharpest.items() if best is not None}
    others: dict[str, Fault] = dict(faults)
    for name, (_, sample) in sharpest.items():
        grad = sample.theirs[f"backward/{name}"]
        others[f"sign of {name}'s gradient"] = GradientScale(name, -1.0)
        others[f"{name}'s gradient of the step before"] = GradientStale(name)
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(grad)), grad.shape))
        others[f"a zero in {name}'s gradient"] = GradientZero(name, index)
    done, kinds = count(), len(sharpest) + len(others)
    smallest: dict[str, SmallestFault | None] = dict.fromkeys(sampler.sharpest)
    for name, (share, sample) in sharpest.items():
        progress(next(done), kinds)
        smallest[name] = _smallest(trials, name, share, sample, drawn)
    samples = [*(sample for _, sample in sharpest.values()), *drawn]
    samples += [sampler.evaluated] if sampler.evaluated else []
    outcome: dict[str, bool] = {}
    for text, fault in others.items():
        progress(next(done), kinds)
        outcome[text] = any(trials.caught(fault, sample) for sample in samples)
    return Sensitivity(
        smallest,
        tuple(text for text, found in outcome.items() if found),
        tuple(text for text, found in outcome.items() if not found),
    )


class _Shadows:
    """How far the shadows of an engine without a fault part in one step, by tensor.

    They are taken once, in the order in which lock-step asks for them, for all faults. ``parted`` says whether one of
    them, or the reference, has crossed a kink that the engine has not.
    """

    def __init__(self, lock: LockStep, sample: _Sample) -> None:
        reference = step_of(sample.theirs)
        self.lock = lock
        self.trial = lock.begun(sample.before, sample.batch, sample.context, reference, list(sample.theirs))
        self.taken: list[dict[str, float]] = []
        self.parted = lock.parted(self.trial)

    def __getitem__(self, index: int) -> dict[str, float]:
        while len(self.taken) <= index:
            self.trial.spreads, self.trial.shadows = dict.fromkeys(self.trial.order, 0.0), []
            self.lock.nudge(self.trial, self.lock.shadow)
            self.parted = self.parted or self.lock.parted(self.trial)
            self.taken.append(self.trial.spreads)
        return self.taken[index]


class _BesideRight(LockStep):
    """Lock-step over one step with a fault of one gradient, beside the shadows of the engine without it.

    Those stray from the right step as far as shadows of the fault stray from the faulty one; where the gradient is
    multiplied by more than 1, by so much farther.
    """

    def __init__(self, planted: Engine, fault: GradientFault, right: _Shadows) -> None:
        plain = right.lock
        given = planted, plain.factor, plain.shadows, plain.seed, plain.rounding
        super().__init__(*given, tapped=plain.tapped, own=plain.own)
        self.known, self.right, self.used = plain.known, right, 0
        self.tensor = fault.tensor
        self.wider = max(1.0, abs(fault.scale)) if isinstance(fault, GradientScale) else 1.0

    def nudge(self, trial: Taken, engine: Engine) -> None:
        if trial.untapped:  # then inputs and parameters are nudged
            super().nudge(trial, engine)
            return
        spreads = self.right[self.used]
        self.used += 1
        for name in trial.order:
            wider = self.wider if name.rpartition("/")[2] == self.tensor else 1.0
            trial.spreads[name] = max(trial.spreads[name], wider * spreads[name])


class _Trials:
    """Lock-step over single steps, with a fault in the engine.

    Draw 0 has the run's own shadows, any other number has others. An engine that raises is caught too.
    """

    def __init__(
        self, engine: Engine, rounding: ReferenceRounding, factor: float, shadows: int, seed: int, tapped: bool
    ) -> None:
        self.engine, self.rounding, self.factor, self.shadows, self.seed = engine, rounding, factor, shadows, seed
        self.tapped = tapped
        self.own = ReferenceRounding(engine, engine, seed)
        self.asked: dict[int, tuple[_AskedOnce, _AskedOnce]] = {}
        self.right: dict[tuple[int, int], _Shadows] = {}

    def caught(self, fault: Fault, sample: _Sample, draw: int = 0) -> bool:
        """Return whether lock-step fails in a step.

        A fault of a gradient is judged beside shadows that do not have it, unless kinks part these.
        """
        if not isinstance(fault, GradientFault):
            return self.caught_alone(fault, sample, draw)
        place = id(sample), draw
        if place not in self.right:
            self.right[place] = _Shadows(self._lock(self.engine, sample, draw), sample)
        right = self.right[place]
        if not right.parted:
            planted = self._planted(fault, sample)
            found = planted is None or _fails(_BesideRight(planted, fault, right), sample)
            if not right.parted:  # nor by a shadow that was taken only now
                return found
        return self.caught_alone(fault, sample, draw)

    def caught_alone(self, fault: Fault, sample: _Sample, draw: int = 0) -> bool:
        """Return whether lock-step fails in a step, with shadows that have the fault, too, as in a run."""
        planted = self._planted(fault, sample)
        return planted is None or _fails(self._lock(planted, sample, draw), sample)

    def _planted(self, fault: Fault, sample: _Sample) -> Engine | None:
        """Return the engine with a fault, None if it raises in the step before, which it needs to recall."""
        planted = self.engine.planted(fault)
        if fault.recalls and sample.previous is not None:
            before, batch, context = sample.previous
            planted.load(before)
            try:
                observed(planted, batch, context)
            except StepError:
                return None
        return planted

    def _lock(self, engine: Engine, sample: _Sample, draw: int) -> LockStep:
        if id(sample) not in self.asked:
            self.asked[id(sample)] = _AskedOnce(self.rounding, sample), _AskedOnce(self.own, sample)
        asked, own = self.asked[id(sample)]
        lock = LockStep(engine, self.factor, self.shadows, self.seed + draw, asked, tapped=self.tapped, own=own)
        lock.known = sample.known
        return lock


def _fails(lock: LockStep, sample: _Sample) -> bool:
    lock.compare(sample.before, sample.batch, sample.context, step_of(sample.theirs))
    return lock.first_failure is not None


def _smallest(
    trials: _Trials, tensor: str, share: float, sample: _Sample, drawn: list[_Sample]
) -> SmallestFault | None:
    """Return `MARGIN` times the smallest scaling of a gradient caught in a step; ``share`` is its allowance's share."""
    dtype = sample.theirs[f"backward/{tensor}"].dtype

    def scaled(size: float) -> GradientScale:
        return GradientScale(tensor, float(dtype.type(1 + size)))

    def caught(size: float) -> bool:
        return scaled(size).scale != 1 and trials.caught(scaled(size), sample)

    high = min(max(share, float(np.finfo(dtype).eps)), 1.0)
    low = high / 2
    if caught(high):
        while caught(low):
            high, low = low, low / 2
    else:
        low = high
        while not caught(high := min(2 * low, 1.0)):
            if high >= 1:
                return None
            low = high
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if caught(middle) else (middle, high)
    size = MARGIN * high
    for _ in range(RAISES):
        fault = scaled(size)
        if trials.caught_alone(fault, sample) and all(trials.caught(fault, sample, 1 + n) for n in range(AGAIN)):
            found = sum(trials.caught(fault, one) for one in drawn)
            return SmallestFault(tensor, fault.scale - 1, sample.context.key.step, len(drawn), found / len(drawn))
        size *= 1.25
    return None
