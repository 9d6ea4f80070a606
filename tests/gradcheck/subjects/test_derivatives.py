# mypy: allow-untyped-calls
"""Gradients that are asked for in other ways than by dy are read as what they are: right ones pass, wrong ones fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck.checks import check_layer, check_loss
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from tests.gradcheck.subjects import derivatives
from tests.gradcheck.subjects.styles import X, normal

WEIGHT = normal(4, 4, seed=6)

GRADIENTS = "gradients_agree_with_differences"
COLUMNS = X.T[:3].copy()
MASK = np.eye(4, 5)
PROBABILITIES = np.random.default_rng(0).uniform(0.05, 0.95, (4, 3))
LABELS = np.eye(3)[[0, 2, 1, 1]]

# What is made (with a factor), what it is tried on, the options, and what the report says of how it was read.
LAYERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], str]] = {
    "gradient(x)": (derivatives.WithGradient, (X,), {}, "gradient(x) -> dy/dx, times dy"),
    "backward(x)": (derivatives.WithBackwardOfX, (X,), {}, "backward(x) -> dy/dx, times dy"),
    "f and f_prime": (derivatives.WithPrime, (X,), {}, "activation(z) -> y, activation_prime(z) -> dy/dz, times dy"),
    "of the output": (derivatives.OfItsOutput, (X,), {}, "activation(z) -> y, activation_prime(y) -> dy/dz, times dy"),
    "of whole numbers": (derivatives.OfWholeNumbers, (X,), {}, "gradient(x) -> dy/dx, times dy"),
    "a Jacobian that is kept": (derivatives.KeptJacobian, (X,), {}, "backward() -> dy/dx, a Jacobian of each sample"),
    "of one number": (derivatives.OfOneNumber, (X,), {}, "gradient(x) -> dy/dx, times dy"),
    "a flag": (derivatives.WithAFlag, (X,), {}, "__call__(x, derivative=True) -> dy/dx, times dy"),
    "a flag that keeps": (derivatives.KeepsOnRequest, (COLUMNS,), {}, "forward_propagate(X, save_cache=True) -> y"),
    "a cache of an earlier call": (derivatives.KeptEarlier, (COLUMNS,), {}, "forward_propagate(X, save_cache=True)"),
    "a flag without default": (derivatives.MustBeTold, (COLUMNS,), {}, "forward_step(X, keep=True) -> y"),
    "predict and backprop": (derivatives.Predicts, (COLUMNS,), {}, "predict(X) -> y, backprop(dy) -> dX"),
    "a mask": (derivatives.Masked, (X, np.ones_like(X)), {"constant": "src_mask"}, "backward(dy) -> dsrc"),
    "two outputs": (derivatives.MaskedAttention, (X, normal(5, 5, seed=2), MASK), {"constant": "mask"}, "-> dq, dk"),
}  # fmt: skip


@pytest.mark.short(7)
@pytest.mark.parametrize("style", LAYERS)
def test_a_right_layer_passes_and_a_wrong_one_fails(style: str) -> None:
    make, inputs, options, read = LAYERS[style]
    for factor, verdict in ((1.0, Verdict.PASS), (-1.0, Verdict.FAIL)):
        report = check_layer(make(factor), *inputs, claims=[GRADIENTS], variations=False, **options)
        assert report.verdict is verdict, str(report)
        assert read in str(report)


def test_a_derivative_of_x_has_every_property_of_a_layer() -> None:
    assert check_layer(derivatives.WithGradient(), X).verdict is Verdict.PASS
    assert check_layer(derivatives.OfWholeNumbers(), X).verdict is Verdict.PASS


FUNCTIONS: dict[str, tuple[Any, Any, tuple[Any, ...], str]] = {
    "a pair with a constant": (
        (derivatives.elu, derivatives.elu_prime), (derivatives.elu, derivatives.elu_without_alpha), (X, 0.7),
        "(x, alpha) -> dx, times dy",
    ),
    "a decorated pair": (
        (derivatives.traced(derivatives.sigmoid), derivatives.traced(lambda x: derivatives.flagged(x, True))),
        (derivatives.traced(derivatives.sigmoid), derivatives.traced(lambda x: derivatives.flagged(x, True, 2.0))),
        (X,), "sigmoid(x) -> y, <lambda>(x) -> dy/dx",
    ),
    "a flag": (
        derivatives.flagged, lambda x, prime=False: derivatives.flagged(x, prime, -1.0), (X,),
        "(x, prime=True) -> dy/dx",
    ),
    "the gradient of a number": (
        (derivatives.ridge, derivatives.ridge_grad), (derivatives.ridge, lambda W: 2 * derivatives.ridge_grad(W)), (X,),
        "(W) -> dy/dW, times dy",
    ),
    "a number that indexes its argument": (
        (derivatives.nll, derivatives.nll_grad), (derivatives.nll, lambda theta: -derivatives.nll_grad(theta)),
        (normal(4, seed=5),), "(theta) -> dy/dtheta, times dy",
    ),
    "a flag, of the input and the output": (
        derivatives.gated,
        lambda z, a=None, derivative=False: (1 - 2 * derivative) * derivatives.gated(z, a, derivative), (X,),
        "(z, y, derivative=True) -> dy/dz, times dy",
    ),
    "of the output and the input": (
        (derivatives.gated, derivatives.gated_prime), (derivatives.gated, derivatives.wrong_gated_prime), (X,),
        "gated_prime(y, z) -> dy/dz, times dy",
    ),
    "a Jacobian of each sample": (
        derivatives.softmax, (derivatives.softmax, lambda x: -derivatives.softmax(x, True)), (X,),
        "-> dy/dx, a Jacobian of each sample, contracted with dy",
    ),
    "a Jacobian of each column": (
        (lambda Z: derivatives.softmax(Z.T).T, lambda Z: derivatives.softmax(Z.T, True)),
        (lambda Z: derivatives.softmax(Z.T).T, lambda Z: 2 * derivatives.softmax(Z.T, True)), (X[:3, :3],),
        "(Z) -> dy/dZ, a Jacobian of each sample, contracted with dy",
    ),
    "a Jacobian of the output": (
        (derivatives.softmax, derivatives.softmax_grad),
        (derivatives.softmax, lambda s: 2 * derivatives.softmax_grad(s)), (X[:1],),
        "(y) -> dy/dx, a Jacobian, contracted with dy",
    ),
    "a Jacobian": (
        (derivatives.running_squares, derivatives.running_squares_grad),
        (derivatives.running_squares, lambda x: derivatives.running_squares_grad(x).T), (X[0],),
        "(x) -> dy/dx, a Jacobian, contracted with dy",
    ),
    "a dict of parameters": (
        (derivatives.model_forward, derivatives.model_backward),
        (derivatives.model_forward, lambda dA, caches, params: derivatives.model_backward(dA, caches, params, 2.0)),
        (COLUMNS, {"W1": normal(4, 3, seed=1), "b1": normal(4, 1, seed=2)}), "W1 (returned), b1 (returned)",
    ),
}  # fmt: skip


@pytest.mark.short(6)
@pytest.mark.parametrize("style", FUNCTIONS)
def test_right_functions_pass_and_wrong_ones_fail(style: str) -> None:
    right, wrong, inputs, read = FUNCTIONS[style]
    for functions, verdict in ((right, Verdict.PASS), (wrong, Verdict.FAIL)):
        report = check_layer(functions, *inputs, claims=[GRADIENTS], variations=False)
        assert report.verdict is verdict, str(report)
        assert read in str(report)


def test_a_layer_that_forgets_dy_is_no_derivative_of_x() -> None:
    report = check_layer(derivatives.ForgetsDy(), X, claims=[GRADIENTS], variations=False)
    assert report.verdict is Verdict.FAIL
    assert "does not depend on dy" in str(report)


def test_a_derivative_of_the_output_whose_argument_is_called_x_is_asked_what_is_meant() -> None:
    with pytest.raises(AdapterError, match="if it is given the output, not x: call its argument y"):
        check_layer(derivatives.of_the_output_by_another_name, X)


def losses(hide: Callable[[Any], Any], back: Callable[[Any], Any]) -> Callable[[float], Any]:
    def make(factor: float) -> Any:
        wrong = derivatives.of_the_other_sign
        return hide(derivatives.cross_entropy), back(derivatives.cross_entropy_prime if factor == 1 else wrong)

    return make


def as_it_is(function: Any) -> Any:
    return function


CHOSEN = "no argument is called a target: the target is taken to be the first"
LOSSES: dict[str, tuple[Callable[[float], Any], str]] = {
    "a decorated loss": (losses(derivatives.traced, as_it_is), "cross_entropy(y_true, y_pred) -> y"),
    "both decorated": (losses(derivatives.traced, derivatives.traced), "cross_entropy(y_true, y_pred) -> y"),
    "names that only the gradient has": (losses(derivatives.Hidden, as_it_is), CHOSEN),
    "no names at all": (losses(derivatives.Hidden, derivatives.Hidden), CHOSEN),
    "other words": (derivatives.OtherWords, "forloss(p, t) -> y, backloss() -> dp"),
    "computing both": (derivatives.ComputesBoth, "compute_derivative(labels, predictions) -> dpredictions"),
}


@pytest.mark.short(3)
@pytest.mark.parametrize("style", LOSSES)
def test_target_and_prediction_are_told_apart_and_a_wrong_sign_still_fails(style: str) -> None:
    make, read = LOSSES[style]
    for factor, verdict in ((1.0, Verdict.PASS), (-1.0, Verdict.FAIL)):
        report = check_loss(make(factor), PROBABILITIES, LABELS, claims=[GRADIENTS], variations=False)
        assert report.verdict is verdict, str(report)
        assert factor < 0 or read in str(report)


def test_a_gradient_may_take_its_arguments_in_another_order_than_the_loss() -> None:
    pair = derivatives.Hidden(derivatives.cross_entropy), derivatives.prediction_first
    assert check_loss(pair, PROBABILITIES, LABELS, claims=[GRADIENTS], variations=False)


def test_a_derivative_in_a_form_that_is_not_read_is_no_failure() -> None:
    def softmax_prime(x: Any) -> Any:
        return derivatives.softmax(x, True).transpose(1, 2, 0)

    with pytest.raises(AdapterError, match=r"softmax_prime\(x\) returns shape \(5, 5, 4\), .*: return a Jacobian"):
        check_layer((derivatives.softmax, softmax_prime), X)


class Undefined:
    def forward(self, x: Any) -> Any:
        return x

    def backward(self, dy: Any) -> Any:
        return dy * undefined  # type: ignore[name-defined]  # noqa: F821  what it raises is told


def test_what_an_objects_own_code_raises_is_told_without_advice() -> None:
    with pytest.raises(AdapterError) as caught:
        check_layer(Undefined(), X)
    assert str(caught.value) == "Undefined.backward(dy) raises NameError: name 'undefined' is not defined"


def test_a_pullback_names_what_its_function_takes_and_a_loss_the_gradients_it_returns() -> None:
    report = check_layer(lambda x, w: (x @ w, lambda dy: (dy @ w.T, 2 * x.T @ dy)), X, normal(X.shape[1], 2, seed=4))
    assert "w's gradient is exactly 2 times the numerical one" in str(report)

    class Net:
        def __init__(self) -> None:
            self.params = {"W": normal(X.shape[1], 2, seed=1)}

        def loss(self, X: Any, y: Any) -> Any:
            rest = X @ self.params["W"] - y
            return 0.5 * (rest**2).sum(), {"W": X.T @ rest}

    assert "loss(X, y) -> y, dW" in str(check_loss(Net(), X, normal(4, 2), claims=[GRADIENTS], variations=False))


def linear(x: Array) -> Array:
    return x @ WEIGHT


def squares(x: Array) -> Array:
    return np.asarray((x**2).sum(axis=0))


SQUARE: dict[str, tuple[Callable[[Array], Array], Callable[[float], Callable[[Array], Array]]]] = {
    "the same Jacobian of all samples": (linear, lambda factor: lambda x: factor * WEIGHT.T),
    "a sum over the samples": (squares, lambda factor: lambda x: factor * 2 * x),
}


@pytest.mark.parametrize("samples", [4, 5])
@pytest.mark.parametrize("kind", SQUARE)
def test_of_the_forms_that_fit_a_square_differences_choose(kind: str, samples: int) -> None:
    f, derivative = SQUARE[kind]
    for factor, verdict in ((1.0, Verdict.PASS), (1.5, Verdict.FAIL)):
        f_prime = derivative(factor)
        f_prime.__name__ = f"{f.__name__}_prime"
        report = check_layer(
            (f, f_prime), normal(samples, 4), claims=["gradients_agree_with_differences"], variations=False
        )
        assert report.verdict is verdict, str(report)


def test_a_jacobian_that_has_no_form_for_more_samples_is_said_to_have_none() -> None:
    def softmax(x: Array) -> Array:
        e = np.exp(x - x.max(axis=-1, keepdims=True))
        return np.asarray(e / e.sum(axis=-1, keepdims=True))

    def softmax_grad(x: Array) -> Array:
        y = softmax(x).reshape(-1, 1)
        return np.asarray(np.diagflat(y) - y @ y.T)

    report = check_layer((softmax, softmax_grad), normal(1, 4), claims=["gradients_agree_with_differences"])
    assert report.verdict is Verdict.PASS
    assert "returns shape (8, 8), which is no Jacobian for an output of (2, 4)" in str(report)
