"""An eps that one pass alone adds to a variance that a layer holds is told and passes; anything else fails."""

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict

X = np.random.default_rng(7).standard_normal((6, 4))


class Evaluated:
    """A batch normalisation in evaluation mode: ``forward`` and ``backward`` each with an eps, and a factor."""

    def __init__(
        self, forward: float, backward: float = 0.0, factor: float = 1.0, variance: float | None = None
    ) -> None:
        rng = np.random.default_rng(3)
        self.gamma, self.running_mean = rng.uniform(1, 2, 4), rng.standard_normal(4)
        self.running_var = rng.uniform(0.5, 2.0, 4) if variance is None else np.full(4, variance)
        self.eps, self.factor = (forward, backward), factor

    def forward(self, x: Array) -> Array:
        self.xhat = (x - self.running_mean) / np.sqrt(self.running_var + self.eps[0])
        return np.asarray(self.gamma * self.xhat)

    def backward(self, dout: Array) -> Array:
        self.dgamma = (dout * self.xhat).sum(axis=0)
        return np.asarray(self.factor * dout * self.gamma / np.sqrt(self.running_var + self.eps[1]))


def report_of(
    forward: float, backward: float = 0.0, factor: float = 1.0, variance: float | None = None
) -> gradcheck.Report:
    return gradcheck.check_layer(Evaluated(forward, backward, factor, variance), X, variations=False)


@pytest.mark.parametrize(
    ("forward", "backward", "said"),
    [(1e-5, 0.0, "1e-05"), (0.0, 1e-8, "1e-08"), (1e-5, 1e-8, "1e-05"), (1e-8, 9e-6, "9e-06")],
)
def test_an_eps_beside_a_variance_that_one_pass_has_passes_and_is_told(
    forward: float, backward: float, said: str
) -> None:
    report = report_of(forward, backward)
    assert report.verdict is Verdict.PASS, str(report)
    assert f"as eps = {said} beside an array that the layer holds explains" in str(report)


def test_where_all_variances_are_one_an_eps_is_still_no_factor() -> None:
    assert report_of(1e-5, variance=1.0).verdict is Verdict.PASS
    assert report_of(0.0, 0.0, 1 - 5e-6, variance=1.0).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("forward", "backward", "factor"), [(1e-5, 0.0, 1.00001), (1e-5, 1e-8, -1.0), (0.0, 0.0, 1.00001)]
)
def test_a_factor_fails_beside_an_eps_and_alone(forward: float, backward: float, factor: float) -> None:
    assert report_of(forward, backward, factor).verdict is Verdict.FAIL


def test_a_fault_at_the_variance_as_it_is_is_not_explained_by_what_smaller_ones_show() -> None:
    class Wrong(Evaluated):
        def backward(self, dout: Array) -> Array:
            return np.asarray(np.where(self.running_var > 0.25, 1.00001, 1.0) * super().backward(dout))

    assert gradcheck.check_layer(Wrong(1e-5), X, variations=False).verdict is Verdict.FAIL


@pytest.mark.parametrize(("forward", "backward"), [(1e-4, 0.0), (1e-8, 1e-4)])
def test_an_eps_that_is_no_mere_guard_fails_and_is_named(forward: float, backward: float) -> None:
    report = report_of(forward, backward)
    assert report.verdict is Verdict.FAIL
    assert "beside an array that the layer holds explains: no mere guard" in str(report)
