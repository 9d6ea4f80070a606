"""Full, fast and bounded: what each looks at, what it says of what it left out, and where it leads."""

from __future__ import annotations

import re

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array, Case
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import Mode, Settings
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.subjects.function import PlainFunction
from gradcheck.trials import check_case
from nets.layers import Linear
from tests.long import later

pytestmark = pytest.mark.rounding


class Relu:
    """A rectifier as anybody writes it."""

    def forward(self, x: Array) -> Array:
        self.mask = x > 0
        return x * self.mask

    def backward(self, dy: Array) -> Array:
        return dy * self.mask


RNG = np.random.default_rng(0)
MATRIX = RNG.standard_normal((30, 400))
X = RNG.standard_normal(400)


def product(x: Array) -> Array:
    return np.asarray(np.tanh(MATRIX @ x / 20))


def pullback(inputs: tuple[Array, ...], dy: Array, element: int | None = None, scale: float = 1.0) -> tuple[Array]:
    gradient = MATRIX.T @ (dy / np.cosh(MATRIX @ inputs[0] / 20) ** 2) / 20
    if element is not None:
        gradient[element] *= scale
    return (gradient,)


@pytest.mark.parametrize("mode", ["full", "fast", "auto"])
@pytest.mark.parametrize("element", later([123, 0, 399], 1))
def test_every_mode_leads_to_the_wrong_element(mode: Mode, element: int) -> None:
    def wrong(inputs: tuple[Array, ...], dy: Array) -> tuple[Array]:
        return pullback(inputs, dy, element, 1 + 1e-6)

    report = gradcheck.check_gradients(product, (X,), wrong, mode=mode, variations=False)
    assert report.verdict is Verdict.FAIL
    finding = report.failures[0]
    assert finding.worst is not None
    assert finding.worst.index == (element,)
    assert finding.worst.analytic == pytest.approx(finding.worst.numeric * (1 + 1e-6), rel=1e-8)


def test_fast_mode_is_cheap_and_says_what_it_may_miss() -> None:
    full, fast = (
        gradcheck.check_gradients(product, (X,), pullback, mode=mode, variations=False) for mode in ("full", "fast")
    )
    assert full
    assert fast
    assert fast.evaluations < full.evaluations / 10
    (remark,) = fast.findings[0].remarks
    assert remark.startswith("x: along 8 random directions; a fault above ")
    assert remark.endswith(" of its norm is missed once in 1e6")
    assert full.findings[0].remarks == ()


def caught(size: float) -> int:
    """Return how many of 50 seeds catch a fault in one element that is ``size`` of the gradient's norm."""
    found = 0
    for seed in range(50):

        def wrong(inputs: tuple[Array, ...], dy: Array) -> tuple[Array]:
            (gradient,) = pullback(inputs, dy)
            gradient[7] += size * np.linalg.norm(gradient)
            return (gradient,)

        case = Case(PlainFunction(product, wrong), (X,), seed)
        # By differences; that it is not linear shows elsewhere.
        outcome = check_case(case, gradients_agree_with_differences, Settings("fast", explain=False))
        assert outcome is not None
        found += outcome.verdict is Verdict.FAIL
    return found


@pytest.mark.long
def test_the_stated_chance_of_a_miss_holds() -> None:
    (remark,) = gradcheck.check_gradients(product, (X,), pullback, mode="fast", variations=False).findings[0].remarks
    stated = re.search(r"a fault above (\S+) of its norm is missed once in 1e6", remark)
    assert stated is not None
    assert caught(2 * float(stated[1])) == 50  # twice: the number is rounded to one digit
    assert caught(1e-3 * float(stated[1])) < 5  # and it is no understatement


def test_a_bounded_full_mode_says_how_much_it_saw() -> None:
    report = gradcheck.check_gradients(product, (X,), pullback, mode="full", max_evaluations=600, variations=False)
    assert report
    (remark,) = report.findings[0].remarks
    assert " of 400 elements of x one by one; x: along 8 random directions" in remark
    assert report.evaluations < 1500


def test_the_bound_is_that_of_each_case() -> None:
    # Were it shared, the first case would use it up, and the others be probed along random directions.
    rng = np.random.default_rng(0)
    layer = Linear(rng.standard_normal((4, 3)), rng.standard_normal(4))
    report = gradcheck.check_layer(layer, rng.standard_normal((5, 3)), mode="full", max_evaluations=2000)
    assert report.findings[0].examples > 5
    assert report.findings[0].remarks == ()


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="mode is one of auto, full, fast, got 'slow'"):
        gradcheck.check_gradients(product, (X,), pullback, mode="slow")  # type: ignore[arg-type]  # the mistake
    with pytest.raises(ValueError, match="max_evaluations is at least 1, got 0"):
        gradcheck.check_gradients(product, (X,), pullback, max_evaluations=0)
    with pytest.raises(ValueError, match="dtypes are among float64, float32, got float16"):
        gradcheck.check_layer(Relu(), X, dtypes=("float16",))


@pytest.mark.parametrize("seed", later(range(3), 1))
def test_fast_mode_takes_gradients_that_vanish(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal((4, 3))
    report = gradcheck.check_layer(Relu(), x, mode="fast", seed=seed)
    assert report.verdict is Verdict.PASS, str(report)
