"""Real mistakes, planted one at a time: each is caught, in the right property and tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck.agreement import Verdict
from gradcheck.checks import Finding, GradientMismatch, Subject, check_class, properties_of
from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, LossBackward, untapped
from gradcheck.properties import PROPERTIES
from nets.layers import Flatten, Linear, ReLU, Sigmoid
from nets.losses import BCELoss, CrossEntropyLoss, MSELoss, QuadraticCost
from nets.optimizers import SGD, Adam
from nets.schedules import MultiStep

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# A mistake usually shows in more than one property; these are the ones that must see it.
DIFFERENCES = "gradients_agree_with_differences"
TWIN = "gradients_agree_with_twin"
FORWARD = "forward_agrees_with_twin"


class BiasByMean(Linear):
    """Averages the bias gradient over the batch."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            rows = dy.reshape(-1, dy.shape[-1])
            return dx, grads | ({"bias": rows.mean(axis=0)} if "bias" in grads else {})

        return y, backward


class BiasIgnored(Linear):
    """Gives the bias no gradient at all."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dx, grads = right(dy)
            return dx, {name: grad * (name != "bias") for name, grad in grads.items()}

        return y, backward


class BiasForgotten(Linear):
    """Leaves the bias out of the gradients."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, right = super().forward(x, context)
        return y, lambda dy: (right(dy)[0], {"weight": right(dy)[1]["weight"]})


class CentredInPlace(Linear):
    """Centres its input where it stands."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        x -= x.mean() + 1
        return super().forward(x, context)


class SigmoidOfActivation(Sigmoid):
    """Applies sigmoid' to the output, z, in place of y (1 - y): sigmoid'(z) of the wrong z."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        again, _ = super().forward(y)
        return y, lambda dy: (dy * again * (1 - again), {})


class SigmoidOfPreActivation(Sigmoid):
    """Uses the derivative x (1 - x), which expects the output, on the pre-activation."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * x * (1 - x), {})


class LeakingBackward(ReLU):
    """Lets the gradient of negative inputs pass."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy.copy(), {})


class LeakingBothWays(ReLU):
    """Lets negative inputs pass, forward and backward alike: no difference can show that."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return x.copy(), lambda dy: (dy.copy(), {})


class SlopeOneAtZero(ReLU):
    """Takes the slope at exactly zero to be 1, where torch takes 0."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda dy: (dy * (x >= 0), {})


class ViewOfInput(Flatten):
    """Returns a view of its input."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        _, backward = super().forward(x, context)
        return x.reshape(len(x), -1), backward


class ConstantBackward(Flatten):
    """Ignores dy."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        return y, lambda _: (np.ones_like(x), {})


class AlwaysDouble(Flatten):
    """Returns float64 whatever it is given."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        return y.astype(np.float64), backward


class CachingSigmoid(Sigmoid):
    """Keeps its output on the class, so that a second call overwrites what the first pullback needs."""

    cache: list[Array] = []  # noqa: RUF012  the mistake

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, _ = super().forward(x, context)
        self.cache[:] = [y]
        return y, lambda dy: (dy * self.cache[0] * (1 - self.cache[0]), {})


class TapDependent(Sigmoid):
    """Computes something else while it is observed."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        return (y if context.tap is untapped else y * (1 + 1e-9)), backward


@dataclass(frozen=True, eq=False)
class OverwritesItsTap(CrossEntropyLoss):
    """Changes in place what it has shown to the tap."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        shown = context.tapped("loss", "shifted", prediction - 1)
        shown += 1
        return super().forward(shown, target, context)


@dataclass(frozen=True, eq=False)
class WithoutBatchSize(CrossEntropyLoss):
    """Reports the mean, and descends the sum."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return value, lambda dvalue: right(dvalue) * len(prediction)


@dataclass(frozen=True, eq=False)
class MeanOverRows(MSELoss):
    """Averages over the batch only, consistently."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        share = prediction.size / len(prediction)
        return value * share, lambda dvalue: right(dvalue) * share


@dataclass(frozen=True, eq=False)
class WithoutDvalue(QuadraticCost):
    """Forgets the chain rule's factor."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, right = super().forward(prediction, target, context)
        return value, lambda dvalue: right(np.ones_like(dvalue))


@dataclass(frozen=True, eq=False)
class SoftenedDenominator(BCELoss):
    """Guards the division in the gradient, but not in the loss."""

    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        value, _ = super().forward(prediction, target, context)
        guarded = prediction * (1 - prediction) + 1e-7
        return value, lambda dvalue: dvalue * (prediction - target) / guarded / prediction.size


class StaleRate(SGD):
    """Keeps the first learning rate it was given."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        self.state.setdefault("lr", np.asarray(lr))
        super().step(params, grads, float(self.state["lr"]))


class MovesWithoutGradient(SGD):
    """Shrinks a parameter that has no gradient in this step."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, grads, lr)
        for name in params.keys() - grads.keys():
            params[name] *= 1 - lr


class RateInTheVelocity(SGD):
    """Folds the learning rate into the velocity: the same at a constant rate, and only there."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, {name: lr * grad for name, grad in grads.items()}, 1.0)


class DecayWithMomentumOnly(SGD):
    """Forgets weight decay on the path without momentum."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        decay = self.weight_decay
        self.weight_decay = decay if self.momentum else 0.0
        super().step(params, grads, lr)
        self.weight_decay = decay


class WithoutThePower(Adam):
    """Corrects the bias of the moments without the power t: right in the first step, and in no other."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        for name in grads:
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"][...] = 0
        super().step(params, grads, lr)


class OneCountForAll(Adam):
    """Counts steps for all tensors together, also those that had no gradient."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, grads, lr)
        for name in params.keys() - grads.keys():
            if f"step/{name}" in self.state:
                self.state[f"step/{name}"] += 1


class OneEpochLate(MultiStep):
    """Reaches a milestone one epoch late."""

    def __call__(self, epoch: int, history: object = ()) -> float:
        return super().__call__(epoch - 1)


PLANTED: list[tuple[Subject, str, str | None]] = [
    (BiasByMean, DIFFERENCES, "bias"),
    (BiasByMean, TWIN, "bias"),
    (BiasIgnored, DIFFERENCES, "bias"),
    (BiasForgotten, "gradients_match_their_tensors", None),
    (BiasForgotten, TWIN, None),
    (BiasForgotten, "backward_is_linear", None),
    (CentredInPlace, "arguments_are_left_untouched", None),
    (SigmoidOfActivation, DIFFERENCES, "input"),
    (SigmoidOfPreActivation, DIFFERENCES, "input"),
    (LeakingBackward, DIFFERENCES, "input"),
    (LeakingBackward, TWIN, "input"),
    (LeakingBothWays, FORWARD, "output"),
    (LeakingBothWays, TWIN, "input"),
    (SlopeOneAtZero, TWIN, "input"),
    (ViewOfInput, "results_own_their_memory", None),
    (ConstantBackward, "backward_is_linear", "input"),
    (AlwaysDouble, "gradients_match_their_tensors", None),
    (CachingSigmoid, "calls_do_not_interfere", None),
    (TapDependent, "taps_do_not_change_results", None),
    (OverwritesItsTap, "taps_do_not_change_results", None),
    (WithoutBatchSize, DIFFERENCES, "prediction"),
    (WithoutBatchSize, TWIN, "prediction"),
    (MeanOverRows, FORWARD, "output"),
    (WithoutDvalue, DIFFERENCES, "prediction"),
    (WithoutDvalue, "backward_is_linear", "prediction"),
    (SoftenedDenominator, DIFFERENCES, "prediction"),
    (StaleRate, "updates_agree_with_twin", None),
    (MovesWithoutGradient, "updates_agree_with_twin", None),
    (RateInTheVelocity, "updates_agree_with_twin", None),
    (DecayWithMomentumOnly, "updates_agree_with_twin", None),
    (WithoutThePower, "updates_agree_with_twin", None),
    (OneCountForAll, "updates_agree_with_twin", None),
    (OneEpochLate, "rates_agree_with_twin", "lr"),
]


def result_of(subject: Subject, name: str) -> Finding:
    """Return what one property finds in a class."""
    (finding,) = check_class(
        subject, claims=[claim for claim in properties_of(subject) if claim.__name__ == name]
    ).findings
    return finding


@pytest.mark.parametrize(
    ("subject", "claim", "tensor"), PLANTED, ids=[f"{subject.__name__}-{claim}" for subject, claim, _ in PLANTED]
)
def test_a_planted_fault_is_caught(subject: Subject, claim: str, tensor: str | None) -> None:
    report = check_class(subject, claims=[each for each in properties_of(subject) if each.__name__ == claim])
    (result,) = report.findings
    assert result.verdict is Verdict.FAIL
    if tensor is not None:
        assert result.worst is not None
        assert result.worst.tensor == tensor
        assert result.worst.ratio > 1
    with pytest.raises(GradientMismatch, match=f"{subject.__name__}: {claim.replace('_', ' ')}: FAIL") as caught:
        report.raise_if_failed()
    assert caught.value.report is report


def test_what_differences_cannot_see_is_left_to_the_twin() -> None:
    for subject in (LeakingBothWays, MeanOverRows, SlopeOneAtZero):
        assert result_of(subject, DIFFERENCES).verdict is Verdict.PASS


def test_every_property_has_a_planted_fault() -> None:
    caught = {claim for _, claim, _ in PLANTED} | {"rates_do_not_depend_on_earlier_calls"}  # the test below
    assert caught == {claim.__name__ for properties in PROPERTIES.values() for claim in properties}


def test_a_schedule_that_remembers_is_caught() -> None:
    calls: list[int] = []

    class Compounding(MultiStep):
        def __call__(self, epoch: int, history: object = ()) -> float:
            calls.append(epoch)
            return super().__call__(epoch) * 0.9 ** len(calls)

    assert result_of(Compounding, "rates_do_not_depend_on_earlier_calls").verdict is Verdict.FAIL


def test_an_allowance_too_wide_to_tell_is_inconclusive() -> None:
    class Noisy(Linear):
        """Adds what is zero but for rounding, magnified until nothing can be told."""

        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            y, backward = super().forward(x * 1.1 / 1.1, context)
            zero = np.asarray((x * 1.1 / 1.1 - x).sum() + 1e-17)
            return y + zero * 1e17, lambda dy: backward(dy)

    result = result_of(Noisy, FORWARD)
    assert result.inconclusive > result.examples / 2


def test_a_strategy_that_raises_is_a_failure_of_its_class() -> None:
    class Undrawable(Flatten):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            raise LookupError("no idea")

    result = result_of(Undrawable, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "cases() raises LookupError: no idea")


def test_what_a_subject_raises_is_its_failure() -> None:
    class Broken(Flatten):
        def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
            raise RuntimeError("out of order")

    result = result_of(Broken, DIFFERENCES)
    assert (result.verdict, result.message) == (Verdict.FAIL, "raises RuntimeError: out of order")
