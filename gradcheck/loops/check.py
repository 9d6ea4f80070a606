"""Whether two training loops are the same program: each step from the same state, and both by themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum, auto

import numpy as np

from gradcheck.contract import Array, Context, Key
from gradcheck.loops.judging import (
    Trial,
    before_what_is_sure,
    eps,
    floor,
    is_exact,
    judged,
    may_be_noise,
    near,
    norm,
    of_a_mean,
    same,
    smallest,
    start_of,
)
from gradcheck.loops.names import CLOSE, Link, parameters, shown, slots
from gradcheck.loops.runs import Loop, Run, States, kept_generators, recorded, take
from gradcheck.loops.seen import Seen
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.rounding import FACTOR, SHADOWS, largest_difference, largest_magnitude
from gradcheck.streams import stream
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory.causes import explained
from gradcheck.trajectory.divergence import Divergence, Moment, locate, unlike
from gradcheck.trajectory.engine import Batch, State, below
from gradcheck.trajectory.freerun import HORIZON
from gradcheck.trajectory.judgement import USEFUL, Judgement
from gradcheck.trajectory.told import Told
from gradcheck.trajectory.trace import Trace

SHADOWS_OF_A_SECOND_LOOK = 9
STEPS = 20

# In bfloat16 and float16 rounding moves gradients by some per cent. A comparison tells something as long as it would
# show a gradient of half the size.
COARSE = 0.5


class Doubt(StrEnum):
    """Why two loops cannot be told to be the same."""

    OTHER_START = auto()
    NO_NAMES = auto()  # parameters that the other does not have
    NOT_REPEATED = auto()  # a loop that does not repeat itself
    OTHER_RANDOMNESS = auto()  # units that one drops and the other does not
    KINKS = auto()  # too many steps with one side alone across a kink
    NO_INFORMATION = auto()


@dataclass(frozen=True)
class FreeLoops:
    """Both loops by themselves: relative ``distances`` of all parameters, and ``envelope``, those of ours when nudged.

    From ``horizon`` on nothing is compared, None if it was not reached.
    """

    distances: Array
    envelope: Array
    horizon: int | None
    first_failure: Divergence | None


@dataclass(frozen=True, repr=False)
class LoopsReport(Told):
    """The result of a comparison of two loops; ``bool(report)`` is True only on a pass.

    ``links`` say which of ours' tensors are which of theirs. ``ratios`` holds disagreement over allowance of every
    comparison that need not be equal. ``only_ours`` and ``only_theirs`` were compared with nothing, of those
    ``unmeasured`` no noise is known in some step, ``unseen`` is what could not be seen of each. ``loss_scale`` is by
    how much ours scales its loss up, and its gradients down again before the update. ``precisions`` are those of the
    two; where they differ, every tensor is judged by the rounding of the lower one. ``smallest`` is the smallest error
    of each gradient, as a share of its largest element, that would have been seen in the best of the steps. ``kinks``
    are the steps whose backward pass was not judged, since the two rounded to different sides of a kink. ``doubt`` says
    why the verdict is inconclusive, and ``told`` of what.
    """

    verdict: Verdict
    doubt: Doubt | None
    told: tuple[str, ...]
    steps: int
    counts: tuple[int, int]
    first_divergence: Divergence | None
    worst: Divergence | None
    ratios: Array
    factor: float
    links: tuple[Link, ...]
    only_ours: tuple[str, ...]
    only_theirs: tuple[str, ...]
    unmeasured: tuple[str, ...]
    loss_scale: float
    unseen: tuple[tuple[str, ...], tuple[str, ...]]
    kinks: tuple[int, ...]
    precisions: tuple[str, str]
    smallest: dict[str, float]
    free: FreeLoops | None

    def __repr__(self) -> str:
        return f"<LoopsReport: {self.verdict}, {_steps(self.steps)}>"


def check_loops(
    ours: Loop,
    theirs: Loop | Trace | Sequence[Trace],
    *,
    steps: int = STEPS,
    start: str = "own",
    names: Mapping[str, str | Sequence[str]] | None = None,
    factor: float = FACTOR,
    shadows: int = SHADOWS,
    seed: int = 0,
) -> LoopsReport:
    """Check that two training loops are the same program, in their first ``steps`` steps.

    Each is a function that trains and is given ``watch``: it trains inside ``with watch(model, optimizer):``, as with
    `gradcheck.watch`, or calls ``watch.start(params)`` before the first step and ``watch.step(params=..., ...)`` at the
    end of each (`Watch.step`). Each is called several times, and must begin anew each time::

        def ours(watch):
            model, optimizer = make()
            with watch(model, optimizer):
                train(model, optimizer)

        print(gradcheck.check_loops(ours, theirs))

    Compared are, in this order, the samples; each step from the same state; and the parameters of both when each trains
    by itself. For the second, ours takes its own steps on its own data, but after each its parameters, buffers and
    optimizer's state are overwritten by those of theirs. So every step is judged alone, however chaotic the run. The
    allowance of a tensor is ``factor`` times the largest difference that nudges of one unit in the last place make, in
    ``shadows`` runs of ours; where a tensor exceeds it, more runs are made, of both.

    Tensors are matched by name, value, order and shape, also transposed or split. ``names`` says what ours calls the
    parameters of theirs, where that does not find them: ``{"fc1.weight": "W1", "qkv.weight": ["q", "k", "v"]}``. With
    ``start="theirs"`` ours begins with the parameters of theirs.

    In place of theirs there may be a trace that a program of any language has written, or a trace of each rank of a
    distributed run: ``check_loops(ours, [Trace("rank0"), Trace("rank1")])``. Then ours is compared with these.

    Global generators of Python, NumPy and torch are seeded alike, with ``seed``, before each step of both.

    Raises AdapterError for a loop that raises, that shows no step, or that does not go on from what it is given;
    ValueError for an argument out of range.
    """
    if steps < 1 or shadows < 1 or not 0 < factor < math.inf or start not in ("own", "theirs"):
        raise ValueError(
            f"check_loops needs steps and shadows of at least 1, a finite factor above 0 and start own or theirs, "
            f"got {steps}, {shadows}, {factor} and {start!r}"
        )
    with kept_generators(), np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return _Comparison(ours, theirs, steps, start, dict(names or {}), factor, shadows, seed).report()


class _Comparison:
    """Two loops, run as often as is needed."""

    def __init__(
        self,
        ours: Loop,
        theirs: Loop | Trace | Sequence[Trace],
        steps: int,
        start: str,
        names: dict[str, str | Sequence[str]],
        factor: float,
        shadows: int,
        seed: int,
    ) -> None:
        self.loops = {"ours": ours}
        if callable(theirs):
            self.loops["theirs"] = theirs
        self.factor, self.shadows, self.seed = factor, shadows, seed
        self.doubts: dict[Doubt, tuple[str, ...]] = {}
        if callable(theirs):
            self.theirs = take(theirs, Run(steps, seed), "theirs", quiet=False)
        else:
            self.theirs = recorded([theirs] if isinstance(theirs, Trace) else theirs, steps, seed)
        self.own = take(ours, Run(steps, seed), "ours", quiet=False)
        self.counts = len(self.own.steps), len(self.theirs.steps)
        self.count = min(self.counts)
        self.state_links = self._link_states(names)
        self._compare_starts(start)
        self.unmeasured: dict[str, None] = {}  # in the order of execution
        self.shown_links: dict[tuple[object, ...], list[Link]] = {}
        self.forced = self._run_ours(self._states())
        self._require_hold()
        self.spreads: tuple[list[dict[str, float]], list[dict[str, float]]] = (
            [{} for _ in range(self.count)],
            [{} for _ in range(self.count)],
        )

    # Names

    def _link_states(self, names: dict[str, str | Sequence[str]]) -> list[Link]:
        """Return the links of the states, below no phase: ``param/...`` and so on."""
        both = bool(self.own.before(0) and self.theirs.before(0))
        mine, other = (run.first() if both else run.evidence() for run in (self.own, self.theirs))
        tolerance = 0.0 if both else CLOSE
        found = []
        for kind in ("param", "buffer"):
            links = parameters(below(f"{kind}/", mine), below(f"{kind}/", other), names, tolerance)
            found += [link.moved(f"{kind}/") for link in links]
            if kind == "param":
                found += [
                    self._scaled(link.moved("optim/")) for link in slots(self.own.slots(), self.theirs.slots(), links)
                ]
        return found

    def _scaled(self, link: Link) -> Link:
        """Return the link of two velocities of which one has the learning rate, or its negative, in it.

        That is so if it holds in the first step, after which each is made of one gradient alone.
        """
        ours, theirs = self.own.steps[0], self.theirs.steps[0]
        mine, other = ours.state(), theirs.state()
        if not all(name in mine for name in link.ours) or not all(name in other for name in link.theirs):
            return link
        velocity = link.of_theirs(other)
        own, rate = link.of_ours(mine, velocity.shape), theirs.lr
        if not rate > 0 or own.shape != velocity.shape or velocity.dtype.kind != "f" or near(own, velocity):
            return link
        scales = [scale for scale in (-rate, rate, -1 / rate, 1 / rate, -1.0) if near(own / scale, velocity)]
        return replace(link, scale=scales[0]) if scales and np.any(velocity) else link

    def _compare_starts(self, start: str) -> None:
        """Doubt that the loops are the same if they begin with other parameters, or some are not matched."""
        mine, other = (run.first() for run in (self.own, self.theirs))
        linked = (
            {name for link in self.state_links for name in link.ours},
            {n for k in self.state_links for n in k.theirs},
        )
        left = [name for name in self.own.moved() if name not in linked[0]]
        right = [name for name in self.theirs.moved() if name not in linked[1]]
        if left or right:
            listed = [
                f"{side} {name.removeprefix('param/')}"
                for side, names in (("ours", left), ("theirs", right))
                for name in names
            ]
            self.doubts[Doubt.NO_NAMES] = tuple(listed)
        self.alike, self.overwritten = True, False
        if not self.own.before(0) or not self.theirs.before(0):
            self.alike = False
            return  # not shown
        differ = []
        for link in self.state_links:
            if link.theirs[0].startswith("optim/") or not all(name in other for name in link.theirs):
                continue
            theirs = link.of_theirs(other)
            ours = link.of_ours(mine, theirs.shape)
            coarse = [
                run.steps[0].coarse.get(f"update/{name}", 0.0)
                for run, names in ((self.own, link.ours), (self.theirs, link.theirs))
                for name in names
            ]
            if judged("data/", ours, theirs, 0.0, self.factor, max(coarse), None).ratio > 1:
                differ.append(link.theirs[0].partition("/")[2])
        if differ:
            self.alike = self.overwritten = start == "theirs"
            if start == "own":
                self.doubts[Doubt.OTHER_START] = tuple(differ)

    # Runs

    def _states(self) -> States:
        """Return what says which state of theirs ours goes on from."""
        first = self.theirs.before(0)

        def states(step: int, ours: Mapping[str, Array]) -> State:
            theirs = self.theirs.steps[step].state() if step >= 0 else first
            forced: State = {}
            for link in self.state_links:
                if all(name in theirs for name in link.theirs) and all(name in ours for name in link.ours):
                    forced |= link.to_ours(theirs, ours)
            return forced

        return states

    def _own_states(self) -> States:
        return lambda step, _: self.theirs.steps[step].state() if step >= 0 else {}

    def _from_theirs(self) -> States:
        """Return what overwrites the start alone, where ours began with other parameters."""
        states = self._states()
        return lambda step, ours: states(step, ours) if step < 0 else {}

    def _run_ours(self, states: States, rng: np.random.Generator | None = None) -> Run:
        return take(self.loops["ours"], Run(self.count, self.seed, states, rng), "ours", quiet=True)

    def _require_hold(self) -> None:
        """Raise AdapterError if ours does not go on from the state that it is given; doubt it if it does not repeat."""
        again = self.forced.steps[0].tensors
        if self.alike and not self.overwritten and not self.doubts:
            first = self.own.steps[0].tensors
            if moved := [name for name, array in first.items() if name in again and not near(array, again[name])]:
                self.doubts[Doubt.NOT_REPEATED] = ("ours", ", ".join(moved[:3]))
        if self.own.by_hooks or self.count < 2:
            return

        def shifted(step: int, ours: Mapping[str, Array]) -> State:
            del step
            return {key: array + array.dtype.type(0.5) for key, array in ours.items() if key.startswith("param/")}

        probe = take(self.loops["ours"], Run(2, self.seed, shifted), "ours", quiet=True).steps
        if len(probe) < 2:
            return
        plain = self.own.steps[1].tensors
        params = [name for name in plain if name.startswith("update/param/") and plain[name].dtype.kind == "f"]
        if params and all(same(plain[name], probe[1].tensors.get(name)) for name in params):
            raise AdapterError(
                "ours does not go on from the parameters that watch.step gives it: pass the loop's own arrays, not"
                " copies, or go on with what is returned: params, state = watch.step(params=params, ...)"
            )

    def _require_repeats(self, step: int) -> None:
        """Doubt that both repeat themselves if data or results up to a step are others when one is called again."""
        for name, states, plain in (
            ("theirs", self._own_states(), self.theirs.steps),
            ("ours", self._states(), self.forced.steps),
        ):
            if name not in self.loops:
                continue  # a trace
            again = take(self.loops[name], Run(step + 1, self.seed, states), name, quiet=True).steps
            for one, other in zip(again, plain, strict=False):
                shown = {n: array for n, array in one.tensors.items() if n.startswith(("data/", "forward/"))}
                if moved := [
                    n for n, array in shown.items() if n in other.tensors and not near(array, other.tensors[n])
                ]:
                    self.doubts.setdefault(Doubt.NOT_REPEATED, (name, ", ".join(moved[:3])))

    def _widen(self, side: int, count: int, purpose: str) -> None:
        """Widen the spreads by nudged runs of one side, from theirs' states."""
        name, states = (("ours", self._states()), ("theirs", self._own_states()))[side]
        plain = (self.forced, self.theirs)[side].steps
        if name not in self.loops:
            return  # a trace

        def widen(seen: Seen) -> None:
            spread, base = self.spreads[side][seen.step], plain[seen.step].tensors
            for key, array in seen.tensors.items():
                if array.dtype.kind == "f" and key in base and base[key].shape == array.shape:
                    apart = largest_difference(array, base[key])
                    spread[key] = max(spread.get(key, 0.0), apart if math.isfinite(apart) else 0.0)
                elif key.startswith("data/") and not same(array, base.get(key)):
                    self.doubts.setdefault(Doubt.NOT_REPEATED, (name, key))

        for shadow in range(count):
            rng = stream(f"shadows of loops, {purpose}", self.seed, side, shadow)
            take(self.loops[name], Run(self.count, self.seed, states, rng, widen), name, quiet=True)

    # Judgements

    def _links(self, ours: Seen, theirs: Seen) -> list[Link]:
        """Return all links of one step, in the order in which theirs shows its tensors."""
        signature = (*ours.tensors, "", *theirs.tensors)
        if signature in self.shown_links:
            return self.shown_links[signature]
        found: list[Link] = []
        for link in self.state_links:
            found.append(link.moved("update/"))
            if link.theirs[0].startswith("param/"):
                bare = link.without("param/")
                found += [bare.moved("backward/"), bare.moved("backward/", ".unclipped")]
        taken = {name for link in found for name in link.ours}, {name for link in found for name in link.theirs}
        scale = self._scale_of_loss()
        rest = [
            {name: array for name, array in seen.tensors.items() if name not in own and not name.startswith("update/")}
            for seen, own in zip((ours, theirs), taken, strict=True)
        ]
        found += [
            replace(link, scale=scale) if link.theirs[0].startswith(("loss/", "backward/")) else link
            for link in shown(*rest)
        ]
        place = {name: i for i, name in enumerate(theirs.tensors)}
        found = [
            link
            for link in found
            if all(n in ours.tensors for n in link.ours) and all(n in theirs.tensors for n in link.theirs)
        ]
        found.sort(key=lambda link: place[link.theirs[0]])
        self.shown_links[signature] = found
        return found

    def _scale_of_loss(self) -> float:
        """Return by how much ours' loss is scaled, if its parameters' gradients are not: 1 where that is not so.

        Gradients are divided by the scale before the update; the loss and all gradients on the way are not, of which
        one at least has to show it.
        """
        pairs = [(a.tensors, b.tensors) for a, b in zip(self.forced.steps, self.theirs.steps, strict=False)]
        losses = [
            (a["loss/loss.value"], b["loss/loss.value"])
            for a, b in pairs
            if "loss/loss.value" in a and "loss/loss.value" in b
        ]
        ratios = [float(a / b) for a, b in losses if b]
        if not ratios or not all(0 < ratio < math.inf for ratio in ratios):
            return 1.0
        nearest = float(round(ratios[0])) if ratios[0] > 1 else 1 / round(1 / ratios[0])
        links = [
            link.without("param/").moved("backward/")
            for link in self.state_links
            if link.theirs[0].startswith("param/")
        ]
        alike = (
            nearest != 1
            and all(math.isclose(ratio, nearest, rel_tol=CLOSE) for ratio in ratios)
            and all(
                near(link.of_ours(pairs[0][0], (other := link.of_theirs(pairs[0][1])).shape), other)
                for link in links
                if all(name in pairs[0][0] for name in link.ours) and all(name in pairs[0][1] for name in link.theirs)
            )
        )
        ours, theirs = pairs[0]
        clipped = any(
            name.endswith(".unclipped") and not near(array * nearest, theirs[name.removesuffix(".unclipped")])
            for name, array in theirs.items()
        )
        scaled = [
            name
            for name in ours.keys() & theirs.keys()
            if name.startswith("backward/")
            and name.endswith(("outputs", ".output"))
            and ours[name].shape == theirs[name].shape
        ]
        on_the_way = any(theirs[name].any() and near(ours[name] / nearest, theirs[name]) for name in scaled)
        return nearest if alike and on_the_way and not clipped else 1.0

    def _trial(self, step: int) -> Trial:
        ours, theirs = self.forced.steps[step], self.theirs.steps[step]
        before = self.theirs.before(step)
        trial = Trial({}, {}, before)
        for link in self._links(ours, theirs):
            name = link.theirs[0]
            other = link.of_theirs(theirs.tensors)
            mine = link.of_ours(ours.tensors, other.shape)
            trial.ours[name], trial.theirs[name] = mine, other
            spread = self._spread(step, link, largest_magnitude(other))
            unit = max(eps(mine, ours, link.ours), eps(other, theirs, link.theirs))
            if name == "loss/loss.value":
                unit *= of_a_mean(_terms(theirs))
            start = start_of(before, link)
            judgement = judged(name, mine, other, spread, self.factor, unit, start)
            if self._measured(step, link) or is_exact(name, other) or not may_be_noise(judgement, other):
                trial.judgements[name] = judgement
            else:
                self.unmeasured[name] = None
        if step and (ours.start or theirs.start):
            self._judge_starts(trial, step)
        if not math.isnan(ours.lr) and not math.isnan(theirs.lr):
            rates = np.asarray(ours.lr), np.asarray(theirs.lr)
            trial.ours["data/lr"], trial.theirs["data/lr"] = rates
            allowed = self.factor * float(np.finfo(float).eps) * abs(theirs.lr)
            trial.judgements = {"data/lr": Judgement(abs(ours.lr - theirs.lr), allowed), **trial.judgements}
        trial.crossed = trial.crosses()
        if trial.crossed:
            trial.judgements = {n: j for n, j in trial.judgements.items() if not n.startswith(("backward/", "update/"))}
        return trial

    def _judge_starts(self, trial: Trial, step: int) -> None:
        """Compare the parameters before a step, which a loop may have changed after the update before."""
        forced = self._states()(step - 1, self.forced.steps[step - 1].state())
        mine = {**forced, **self.forced.steps[step].start}
        first: dict[str, Judgement] = {}
        for link in (one for one in self.state_links if one.theirs[0].startswith("param/")):
            if all(name in mine for name in link.ours) and all(name in trial.before for name in link.theirs):
                name, other = f"update/before/{link.theirs[0]}", link.of_theirs(trial.before)
                trial.theirs[name], trial.ours[name] = other, link.of_ours(mine, other.shape)
                update = link.moved("update/")
                unit = max(
                    eps(trial.ours[name], self.forced.steps[step], update.ours),
                    eps(other, self.theirs.steps[step], update.theirs),
                )
                first[name] = judged(name, trial.ours[name], other, 0.0, self.factor, self.factor * unit, None)
        trial.judgements = first | trial.judgements

    def _spread(self, step: int, link: Link, size: float) -> float:
        """Return how far nudged runs of either side move a tensor of theirs.

        A loop that does not show its start cannot be nudged before its first step is over. That step is judged by the
        next one, in proportion to the size of the tensor.
        """
        found = [self.spreads[0][step].get(key, 0.0) for key in link.ours]
        found += [self.spreads[1][step].get(key, 0.0) for key in link.theirs]
        for side, run, names in ((0, self.own, link.ours), (1, self.theirs, link.theirs)):
            if step or run.by_hooks or run.before(0):
                continue
            for key in names if self.count > 1 else ():
                largest = largest_magnitude(run.steps[1].tensors[key]) if key in run.steps[1].tensors else 0.0
                found.append(self.spreads[side][1].get(key, 0.0) / largest * size if largest else 0.0)
        return max(found)

    def _measured(self, step: int, link: Link) -> bool:
        """Return whether any nudged run shows a tensor: not a gradient of a result on which nothing depends there."""
        shown = [key in self.spreads[0][step] for key in link.ours] + [
            key in self.spreads[1][step] for key in link.theirs
        ]
        return any(shown)

    def report(self) -> LoopsReport:
        """Run what is needed, and say what was found."""
        self._widen(0, self.shadows, "first")
        if self._precisions()[0] != self._precisions()[1]:
            self._widen(1, self.shadows, "first")
        trials = [self._trial(step) for step in range(self.count)]
        if any(trial.crossed or trial.failing() for trial in before_what_is_sure(trials)):
            self._widen(0, SHADOWS_OF_A_SECOND_LOOK, "second")
            self._widen(1, SHADOWS_OF_A_SECOND_LOOK, "second")
            trials = [self._trial(step) for step in range(self.count)]
        first = next((self._located(trials, step) for step, trial in enumerate(trials) if trial.failing()), None)
        if first is not None and first.phase != "update":
            self._require_repeats(first.step)
        if first is not None and trials[first.step].drops_others(f"{first.phase}/{first.tensor}"):
            self.doubts[Doubt.OTHER_RANDOMNESS] = (f"{first.phase}/{first.tensor}",)
            first = None
        free = self._free() if first is None and self.alike and not self.doubts else None
        if first is None and free is not None:
            first = free.first_failure
        return self._worded(trials, first, free)

    def _worded(self, trials: list[Trial], first: Divergence | None, free: FreeLoops | None) -> LoopsReport:
        crossed = tuple(step for step, trial in enumerate(trials) if trial.crossed)
        seen_from = smallest(trials)
        low = {"bfloat16", "float16"} & set(self._precisions())
        told = [share for share in seen_from.values() if share <= (COARSE if low else USEFUL)]
        if len(crossed) * 2 > self.count:
            self.doubts.setdefault(Doubt.KINKS, (f"{len(crossed)} of {self.count} steps",))
        if not told:
            self.doubts.setdefault(Doubt.NO_INFORMATION, ())
        if first is not None and Doubt.NOT_REPEATED in self.doubts and first.phase != "update":
            first = None
        links = [link for found in self.shown_links.values() for link in found]
        known = {name for link in links for name in link.ours}, {name for link in links for name in link.theirs}
        only = [
            tuple(
                dict.fromkeys(
                    n for seen in run.steps for n in seen.tensors if n not in names and not n.endswith(".unclipped")
                )
            )
            for run, names in zip((self.forced, self.theirs), known, strict=True)
        ]
        worst = max(
            (
                (step, name)
                for step, trial in enumerate(trials)
                for name in trial.judgements
                if not name.startswith("data/")
            ),
            key=lambda at: trials[at[0]].judgements[at[1]].ratio,
            default=None,
        )
        doubt = next(iter(self.doubts), None)
        verdict = Verdict.FAIL if first is not None else Verdict.INCONCLUSIVE if doubt is not None else Verdict.PASS
        return LoopsReport(
            verdict=verdict,
            doubt=doubt if verdict is Verdict.INCONCLUSIVE else None,
            told=self.doubts.get(doubt, ()) if doubt is not None else (),
            steps=self.count,
            counts=self.counts,
            first_divergence=first,
            worst=None if worst is None else self._place(trials[worst[0]], *worst),
            ratios=np.array(
                [
                    judgement.ratio
                    for trial in trials
                    for name, judgement in trial.judgements.items()
                    if not is_exact(name, trial.theirs[name])
                ]
            ),
            factor=self.factor,
            links=tuple(dict.fromkeys(links)),
            only_ours=only[0],
            only_theirs=only[1],
            unmeasured=tuple(self.unmeasured),
            loss_scale=self._scale_of_loss(),
            unseen=(self.own.steps[0].unseen, self.theirs.steps[0].unseen),
            kinks=crossed,
            precisions=self._precisions(),
            smallest=seen_from,
            free=free,
        )

    def _precisions(self) -> tuple[str, str]:
        """Return the lowest precision that each shows."""
        found = []
        for run in (self.own, self.theirs):
            seen = run.steps[0]
            kinds = {array.dtype for array in seen.tensors.values() if array.dtype.kind == "f" and array.ndim}
            lowest = min(kinds, key=lambda dtype: dtype.itemsize, default=np.dtype(float)).name
            found.append("bfloat16" if seen.coarse else lowest)
        return found[0], found[1]

    def _place(self, trial: Trial, step: int, name: str) -> Divergence:
        judgement = trial.judgements[name]
        if trial.ours[name].shape != trial.theirs[name].shape:
            return unlike(step, name, f"has shape {trial.ours[name].shape}, the reference's {trial.theirs[name].shape}")
        ours, theirs = (np.asarray(side[name], dtype=np.float64) for side in (trial.ours, trial.theirs))
        return locate(step, name, ours, theirs, judgement.allowed / self.factor, judgement.allowed, judgement.ratio)

    def _located(self, trials: list[Trial], step: int) -> Divergence:
        """Return the first divergence of a step, in the order of theirs, with its cause."""
        trial = trials[step]
        found = self._place(trial, step, trial.failing()[0])
        data = {name: array for name, array in trial.theirs.items() if name.startswith("data/")}
        x = next((array for name, array in data.items() if name.startswith("data/x")), np.zeros((1, 1)))
        previous = below("backward/", trials[step - 1].theirs) if step else {}
        moment = Moment(
            before=trial.before,
            batch=Batch(x, data.get("data/y", np.zeros(len(x) if x.ndim else 1)), self.theirs.steps[step].lr),
            context=Context(training=True, key=Key(self.seed, step)),
            ours={name: array for name, array in trial.ours.items() if name in trial.judgements},
            theirs={name: array for name, array in trial.theirs.items() if name in trial.judgements},
            allowed={name: judgement.allowed for name, judgement in trial.judgements.items()},
            previous=previous,
        )
        if found.tensor.startswith("before/"):
            why: str | None = "the two differ before the step: one of the loops changes it after optimizer.step()"
        else:
            why = self._late() if found.tensor == "lr" and found.phase == "data" else explained(found, moment)
        return replace(found, diagnosis=why)

    def _late(self) -> str | None:
        """Return by how many steps ours' learning rate is late or early, if that explains all of them."""
        ours, theirs = ([seen.lr for seen in run.steps[: self.count]] for run in (self.forced, self.theirs))
        for by in range(1, self.count // 2):
            if ours[by:] == theirs[:-by]:
                return f"the learning rate of ours is that of theirs {_steps(by)} before: the schedule is late"
            if ours[:-by] == theirs[by:]:
                return f"the learning rate of ours is that of theirs {_steps(by)} later: the schedule is early"
        return None

    def _free(self) -> FreeLoops:
        """Compare both loops, each trained by itself, with nudged runs of ours beside them."""
        begin = self._from_theirs()
        plain = self._run_ours(begin).steps
        around = [
            self._run_ours(begin, stream("shadows of loops, free", self.seed, shadow)).steps
            for shadow in range(self.shadows)
        ]
        links = [link.moved("update/") for link in self.state_links if link.theirs[0].startswith("param/")]
        distances: list[float] = []
        envelope: list[float] = []
        grown: dict[str, float] = {}
        for step in range(min(self.count, len(plain), *(len(run) for run in around))):
            apart, spreads, sizes, failing = [], [], [], None
            for link in links:
                other = link.of_theirs(self.theirs.steps[step].tensors)
                mine, *nudged = (link.of_ours(run[step].tensors, other.shape) for run in (plain, *around))
                name = link.theirs[0]
                before = start_of(self.theirs.before(step), link)
                unit = max(eps(mine, plain[step], link.ours), eps(other, self.theirs.steps[step], link.theirs))
                once = floor(other, unit, before) * math.sqrt(other.size)
                grown[name] = grown.get(name, 0.0) + once  # each update rounds anew, by as much
                apart.append(norm(mine - other))
                spreads.append(max(norm(one - mine) for one in nudged))
                sizes.append(norm(other))
                allowed = max(self.factor * spreads[-1], grown[name])
                if failing is None and not apart[-1] <= allowed:
                    failing = locate(
                        step, name, mine, other, allowed / self.factor, allowed, apart[-1] / (allowed or 1e-300)
                    )
            size = math.hypot(*sizes) or 1.0
            distances.append(math.hypot(*apart) / size)
            if not self.factor * math.hypot(*spreads) / size <= HORIZON:
                return FreeLoops(np.array(distances), np.array(envelope), step, None)
            envelope.append(math.hypot(*spreads) / size)
            if failing is not None:
                return FreeLoops(np.array(distances), np.array(envelope), None, failing)
        return FreeLoops(np.array(distances), np.array(envelope), None, None)


def _steps(count: int) -> str:
    return f"{count:,} step{'' if count == 1 else 's'}"


def _terms(seen: Seen) -> int:
    """Return of how many terms a loss is the mean: at most the numbers of the model's results, or of the targets."""
    shown = [array.size for name, array in seen.tensors.items() if name.startswith(("forward/outputs", "data/"))]
    return max(shown, default=1)
