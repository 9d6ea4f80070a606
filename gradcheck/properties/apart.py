"""Why a value or a gradient is not the twin's: which side the differences take, and what explains every element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from gradcheck.contract import Array, Case
from gradcheck.diagnosis.evidence import Diagnosis, Evidence
from gradcheck.diagnosis.gradients import diagnose, diagnose_value
from gradcheck.numerics.agreement import Worst
from gradcheck.numerics.differences import derivatives
from gradcheck.numerics.directions import Point, coordinates
from gradcheck.numerics.functions import Arrays, Function, Pullback, cast, function_of, precision_taken
from gradcheck.numerics.rounding import spread
from gradcheck.numerics.samples import batch_axis
from gradcheck.properties.noise import allowance, shadows_of
from gradcheck.properties.outcome import CERTAIN, DIAGNOSED, Outcome, cotangent, counted
from gradcheck.subjects.twin import TwinError, twin_of

CLOSE = 1e-6  # two of pullback, differences and twin that are relatively this close are of one opinion


@dataclass(frozen=True)
class _Sides:
    """Values and gradients of both sides at one point, in float64, with what rounding may set each tensor apart by."""

    case: Case
    function: Function
    variables: Arrays
    dy: Array
    ours: dict[str, Array]
    theirs: dict[str, Array]
    pullbacks: tuple[Pullback, Pullback]
    allowed: dict[str, float]

    @classmethod
    def of(cls, case: Case) -> _Sides | None:
        """Return both sides of a case, or None where they cannot be compared in float64."""
        if precision_taken(case) is np.float32:
            return None
        function, twin, rng = function_of(case), twin_of(case), case.rng("nudges")
        variables = cast(function.variables, np.float64)
        y, pullback = function.call(variables, case.context())
        try:
            y_twin, pullback_twin = twin.call(variables, case.context())
        except TwinError:
            return None
        if y.dtype != np.float64 or y.shape != y_twin.shape:
            return None
        dy = cotangent(y, case.rng("cotangent"))
        ours, theirs = {"output": y, **pullback(dy)}, {"output": y_twin, **pullback_twin(dy)}
        noise = spread(ours, shadows_of(case, function, variables, dy, rng))
        allowed = {name: allowance(function, array, noise[name]) for name, array in theirs.items() if name in noise}
        return cls(case, function, variables, dy, ours, theirs, (pullback, pullback_twin), allowed)

    def differing(self, name: str) -> tuple[int, int]:
        """Return how many elements of a tensor differ, of how many."""
        differs = np.abs(self.ours[name] - self.theirs[name]) > self.allowed[name]
        return int(differs.sum()), differs.size

    def reference(self, dy: Array, name: str) -> tuple[Array, Array]:
        """Return torch's gradient for a cotangent, and its allowance."""
        gradient = self.pullbacks[1](dy)[name]
        scale = float(np.abs(dy).max(initial=0.0) / np.abs(self.dy).max(initial=0.0))
        return gradient, np.full(gradient.shape, max(1.0, scale) * self.allowed[name])

    def cause(self, name: str) -> Diagnosis | None:
        """Return what explains every element of a tensor that differs, or None."""
        evidence = Evidence(
            tensor=name,
            analytic=self.ours[name],
            numeric=self.theirs[name],
            allowed=np.full(self.theirs[name].shape, self.allowed[name]),
            value=self.variables.get(name, self.theirs[name]),
            inputs=self.function.inputs,
            variables=dict(self.variables),
            gradients=self.ours,
            y=self.ours["output"],
            dy=self.dy,
            analytic_of=lambda dy: self.pullbacks[0](dy)[name],
            numeric_of=partial(self.reference, name=name),
            other_numeric=partial(self.reference, self.dy),
            batch_axis=batch_axis(self.case),
        )
        found = diagnose_value(evidence) if name == "output" else diagnose(evidence)
        return found and replace(found, details=found.details | {"reference": "torch's"})


def with_causes(case: Case, outcome: Outcome, wrong: Sequence[str], right: Sequence[str], *, explain: bool) -> Outcome:
    """Return a failure with how many elements of the wrong tensors differ from torch's in float64, and why."""
    sides = _Sides.of(case)
    if sides is None or any(sides.ours[name].shape != sides.theirs[name].shape for name in wrong):
        return outcome
    counts = {name: sides.differing(name) for name in wrong}
    if not all(differing for differing, _ in counts.values()):
        return outcome  # in float32 alone
    sure = explain and outcome.worst is not None and outcome.worst.ratio >= CERTAIN
    causes = {name: sides.cause(name) for name in wrong if sure and counts[name][1] <= DIAGNOSED}
    return replace(outcome, message=counted(counts, right), causes=causes)


def odd_one_out(case: Case, worst: Worst) -> str:
    """Say which of pullback, differences and twin disagrees with the other two at an element, in float64."""
    if precision_taken(case) is np.float32:
        return ""
    function, rng = function_of(case), case.rng("nudges")
    variables = cast(function.variables, np.float64)
    y, pullback = function.call(variables, case.context())
    if y.dtype != np.float64:
        return ""
    dy = cotangent(y, case.rng("cotangent"))
    ours = pullback(dy)[worst.tensor]
    try:
        y_twin, pullback_twin = twin_of(case).call(variables, case.context())
        theirs = pullback_twin(dy)[worst.tensor]
    except TwinError:
        return ""
    outputs = [shadow["output"] for shadow in shadows_of(case, function, variables, dy, rng)]
    point = Point(function, variables, case.context, y, dy, outputs)
    place = int(np.ravel_multi_index(worst.index, ours.shape)) if ours.ndim else 0
    estimate = derivatives(coordinates(point, worst.tensor).only(np.array([place])))
    numeric, error = float(estimate.value[0]), float(estimate.error[0])
    if not np.isfinite(error):
        return (
            "there is a kink here: torch's choice of a generalised gradient is another one"
            if estimate.kinked[0] and np.allclose(y, y_twin, rtol=CLOSE)
            else ""
        )
    margin = error + CLOSE * abs(numeric)
    with_us, with_twin = (abs(float(array[worst.index]) - numeric) <= margin for array in (ours, theirs))
    if with_twin and not with_us:
        return "differences and torch agree with each other: the backward pass is wrong"
    if with_us and not with_twin:
        return "differences agree with the pullback: the forward pass computes another function than torch"
    return "pullback, differences and torch all differ" if not with_us else ""
