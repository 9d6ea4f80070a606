"""A gradient of another loss than the one that is told is named by that loss, and no other gradient is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional

import gradcheck
from examples.case_studies.layers import DescendsAnother, MeanSquares
from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Diagnosis
from gradcheck.diagnosis.fits import Quantity
from gradcheck.diagnosis.gradients import consensus
from gradcheck.diagnosis.losses import Descent
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.report.diagnoses import describe_diagnosis
from tests.long import later

Tensors = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Wrong = Callable[[Array, Array], Array]

SHAPES = [(1, 10), (4, 5), (3, 7)]
HALF_SQUARES = (
    "prediction - target, the gradient of half the sum of squares, or of summed cross-entropy before its sigmoid or"
    " softmax"
)
OTHER = "prediction's gradient is that of another loss: it is "


class Told:
    """Tells a mean that no usual loss is, and returns another's gradient."""

    def __init__(self, gradient: Wrong) -> None:
        self.gradient = gradient

    def forward(self, prediction: Array, target: Array) -> float:
        self.given = prediction, target
        rows = target if target.shape == prediction.shape else np.eye(prediction.shape[1])[target]
        return float(np.mean(np.cosh(prediction - rows)))

    def backward(self) -> Array:
        return self.gradient(*self.given)


class Squares(Told):
    """Tells the mean squared error."""

    def forward(self, prediction: Array, target: Array) -> float:
        super().forward(prediction, target)
        return float(np.mean((prediction - target) ** 2))


class Entropy(Told):
    """Tells the binary cross-entropy of probabilities."""

    def forward(self, prediction: Array, target: Array) -> float:
        super().forward(prediction, target)
        return float(-np.mean(target * np.log(prediction) + (1 - target) * np.log(1 - prediction)))


def gradient_of(loss: Tensors) -> Wrong:
    """Return the gradient that torch has of a loss."""

    def gradient(prediction: Array, target: Array) -> Array:
        leaf = torch.tensor(prediction, requires_grad=True)
        loss(leaf, torch.as_tensor(target)).backward()  # type: ignore[no-untyped-call]  # torch's own
        assert leaf.grad is not None
        return leaf.grad.numpy()

    return gradient


def drawn(shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return probabilities, and as many targets of 0 and 1: for a shape always the same."""
    rng = np.random.default_rng(0)
    return rng.uniform(0.1, 0.9, shape), rng.integers(2, size=shape).astype(np.float64)


def said_of(loss: object, prediction: Array, target: Array, *, variations: bool = False) -> str:
    """Return why the gradient is wrong."""
    claims = [gradients_agree_with_differences]
    (failure,) = gradcheck.check_loss(loss, prediction, target, claims=claims, variations=variations).failures
    return failure.diagnosis


SUMS: dict[str, Tensors] = {
    HALF_SQUARES: lambda p, t: ((p - t) ** 2).sum() / 2,
    "2 (prediction - target), the gradient of the sum of squares": lambda p, t: functional.mse_loss(
        p, t, reduction="sum"
    ),
    "sign(prediction - target), the gradient of the sum of absolute differences": lambda p, t: functional.l1_loss(
        p, t, reduction="sum"
    ),
    "sigmoid(prediction) - target, the gradient of summed binary cross-entropy after a sigmoid": lambda p, t: (
        functional.binary_cross_entropy_with_logits(p, t, reduction="sum")
    ),
    "(prediction - target) / (prediction (1 - prediction)), the gradient of summed binary cross-entropy of"
    " probabilities": lambda p, t: functional.binary_cross_entropy(p, t, reduction="sum"),
}
DIVIDED: dict[str, Callable[[tuple[int, ...]], int]] = {
    "": lambda _: 1,
    ", all divided by the batch size": lambda shape: shape[0],
    ", all divided by the number of elements (batch x outputs)": lambda shape: shape[0] * shape[1],
    ", all divided by the number of outputs": lambda shape: shape[1],
}


# Every formula undivided, every divisor of one formula: what it is divided by is found by itself.
DESCENDED = [*((formula, "") for formula in SUMS), *(([*SUMS][-1], divided) for divided in DIVIDED if divided)]


@pytest.mark.parametrize(("formula", "divided"), later(DESCENDED, 1))
def test_a_loss_that_is_descended_is_named(formula: str, divided: str) -> None:
    loss = Told(lambda p, t: gradient_of(SUMS[formula])(p, t) / DIVIDED[divided](p.shape))
    assert said_of(loss, *drawn((4, 5))) == f"{OTHER}{formula}{divided}"


@pytest.mark.parametrize("divided", later(DIVIDED, 1))
def test_what_one_sample_leaves_open_others_tell(divided: str) -> None:
    loss = Told(lambda p, t: (p - t) / DIVIDED[divided](p.shape))
    assert said_of(loss, *drawn((1, 10)), variations=True) == f"{OTHER}{HALF_SQUARES}{divided}"


@pytest.mark.long
def test_a_factor_that_is_a_number_of_elements_in_one_case_only_makes_no_other_loss() -> None:
    loss = Squares(lambda p, t: 10 * 2 * (p - t) / p.size)
    said = said_of(loss, *drawn((2, 5)), variations=True)
    assert said == "prediction's gradient is exactly 10 times the numerical one"


def test_a_factor_of_a_single_case_that_may_be_an_accident_makes_no_other_loss() -> None:
    half = (Quantity("outputs", "input", (1,), 10), True)
    descent = Descent("prediction - target", "half the sum of squares", "")
    found = Diagnosis(Cause.FACTOR, {"factor": (5, 1), "quantities": (half,), "descents": (descent,)})
    said = [describe_diagnosis("p", one) for one in (consensus([found]), consensus([found, found])) if one]
    assert said == [
        "p's gradient is exactly 5 times the numerical one",
        "p's gradient is exactly 5 times the numerical one; 5 is half the number of outputs: it is prediction - target,"
        " the gradient of half the sum of squares",
    ]


@pytest.mark.long
@pytest.mark.parametrize("divided", later(["mean", "sum"], 1))
def test_cross_entropy_is_named_with_classes_and_with_rows(divided: str) -> None:
    wrong = gradient_of(lambda z, t: functional.cross_entropy(z, t, reduction=divided))
    formula = "softmax(prediction) - target, the gradient of summed cross-entropy after a softmax"
    of = f"{OTHER}{formula}{', all divided by the batch size' if divided == 'mean' else ''}"
    rng = np.random.default_rng(0)
    logits, classes = rng.standard_normal((4, 5)), rng.integers(5, size=4)
    assert said_of(Told(wrong), logits, classes) == of
    assert said_of(Told(wrong), logits, np.eye(5)[classes]) == of


def test_a_prediction_without_a_batch_is_divided_by_its_outputs() -> None:
    loss = Told(lambda p, t: (p - t) / len(p))
    assert said_of(loss, *drawn((10,))) == f"{OTHER}{HALF_SQUARES}, all divided by the number of outputs"


def test_the_plain_difference_is_what_cross_entropy_gives_back_before_a_sigmoid_or_softmax() -> None:
    scores = np.random.default_rng(0).standard_normal((4, 5))
    targets = np.eye(5)[[0, 3, 1, 1]]
    logits = torch.tensor(scores)
    found = gradient_of(lambda z, t: functional.binary_cross_entropy(torch.sigmoid(z), t, reduction="sum"))
    np.testing.assert_allclose(found(scores, targets), torch.sigmoid(logits).numpy() - targets, rtol=1e-12, atol=1e-15)
    found = gradient_of(lambda z, t: -(t * torch.log(torch.softmax(z, 1))).sum())
    np.testing.assert_allclose(
        found(scores, targets), torch.softmax(logits, 1).numpy() - targets, rtol=1e-12, atol=1e-15
    )


def test_a_factor_that_has_a_name_is_told_with_the_loss_that_it_makes() -> None:
    ((_, prediction, target),) = DescendsAnother.cases()
    assert said_of(DescendsAnother(), prediction, target, variations=True) == (
        "prediction's gradient is exactly 5 times the numerical one; 5 is half the number of elements (batch x"
        f" outputs): it is {HALF_SQUARES}"
    )
    assert said_of(Squares(lambda p, t: 2 * (p - t)), *drawn((4, 5))) == (
        "prediction's gradient is exactly 20 times the numerical one; 20 is the number of elements (batch x outputs):"
        " it is 2 (prediction - target), the gradient of the sum of squares"
    )


@pytest.mark.long
@pytest.mark.parametrize("shape", later(((shape,) for shape in SHAPES), 1), ids=str)
def test_the_plain_difference_under_a_told_binary_cross_entropy_is_named(shape: tuple[int, int]) -> None:
    assert said_of(Entropy(lambda p, t: p - t), *drawn(shape)) == f"{OTHER}{HALF_SQUARES}"


# No factor here may be named after batch or outputs; of 4 outputs, twice the mean is a sum over the batch, too.
@pytest.mark.parametrize(
    ("shape", "factor", "said"),
    later(
        [
            ((1, 10), 2, "exactly 2 times"),
            ((4, 5), -1, "exactly -1 times"),
            ((4, 5), 2, "exactly 2 times"),
            ((5, 4), 2, "exactly 2 times"),
            ((4, 5), 1.5, "exactly 3/2 "),
        ],
        1,
    ),
)
def test_a_mere_factor_makes_no_other_loss(shape: tuple[int, int], factor: float, said: str) -> None:
    found = said_of(Squares(lambda p, t: factor * 2 * (p - t) / p.size), *drawn(shape))
    assert found.startswith(f"prediction's gradient is {said}")
    assert "the gradient of" not in found


WRONGS: dict[str, Wrong] = {
    "nearly": lambda p, t: p - 1.0001 * t,
    "one element": lambda p, t: (p - t) * np.where(np.arange(p.size).reshape(p.shape) == 2, 1.01, 1.0),
    "one row": lambda p, t: (p - t) * np.where(np.arange(len(p)) == 0, 2.0, 1.0)[:, None],
    "another power": lambda p, t: (p - t) ** 3,
    "without target": lambda p, _: p,
}


@pytest.mark.long
@pytest.mark.parametrize("wrong", later(WRONGS, 1))
@pytest.mark.parametrize("told", [Told, *(pytest.param(one, marks=pytest.mark.long) for one in (Entropy, Squares))])
def test_another_wrong_gradient_is_no_usual_loss(wrong: str, told: type[Told]) -> None:
    assert "the gradient of" not in said_of(told(WRONGS[wrong]), *drawn((3, 4)))


def test_a_right_loss_has_no_cause() -> None:
    for loss in (MeanSquares(), Squares(lambda p, t: 2 * (p - t) / p.size)):
        assert gradcheck.check_loss(loss, *drawn((4, 5))).verdict is Verdict.PASS
