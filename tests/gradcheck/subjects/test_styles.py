# mypy: allow-untyped-calls
"""How an object is called is read before it is judged: right code of every style passes, and wrong code fails."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from gradcheck.checks import check_gradients, check_layer, check_loss
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.results import Report
from gradcheck.subjects.attributes import AdapterError
from tests.gradcheck.subjects import styles
from tests.gradcheck.subjects.styles import X, normal

GRADIENTS = "gradients_agree_with_differences"
Y = normal(4, 3, seed=5)
PROBABILITIES = np.random.default_rng(0).uniform(0.05, 0.95, (4, 3))
ZEROS_AND_ONES = np.eye(3)[[0, 2, 1, 1]]

# What is made (with a factor), what it is tried on, and what the report says of how it was read.
LAYERS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "gradients beside the weights": (styles.Dense, (X,), "weights (dweights), bias (dbias)"),
    "results in attributes": (styles.LeavesItsResults, (X,), "-> .output, backward(dy) -> .dinputs"),
    "gradients returned in a tuple": (styles.Returned, (X,), "weights (returned), bias (returned)"),
    "gradients returned in a dict": (styles.Keyed, (X,), "weights (returned), bias (returned)"),
    "a rate, and weights that move": (styles.Learns, (X,), "backpropagate(dy, learning_rate=1)"),
    "gradients that add up": (styles.AddsUp, (X,), "gradients are added up from call to call: weights, bias"),
    "parameters in objects": (styles.Boxed, (X,), "kernel (kernel.grad)"),
    "layers in a list": (styles.Network, (X,), "layers.1.weights (layers.1.dweights)"),
    "samples in columns": (styles.FeaturesFirst, (X.T.copy(),), "samples along axis 1"),
    "the derivative of each element": (styles.Local, (X,), "gradient() -> dx, times dy"),
    "two outputs": (styles.Cell, (X, Y), "backward(dy0, dy1) -> dx, dh"),
    "weights beside the output": (styles.Attention, (X, X + 0.25, Y), "(of 2 outputs)"),
    "a state from call to call": (styles.Recurrent, (X,), "it keeps a state in h, until reset_state()"),
    "a generator of the module": (styles.Dropout, (X,), "not judged; it draws random numbers from SHARED"),
    "a size that was told": (styles.Flatten, (normal(3, 2, 3, 4),), "forward(x) -> y"),
    "channels last": (styles.ScaledChannels, (normal(2, 4, 4, 2),), "scale (dscale)"),
}
QUICK = {
    "gradients beside the weights",
    "results in attributes",
    "a rate, and weights that move",
    "gradients that add up",
    "layers in a list",
    "two outputs",
    "a state from call to call",
    "a generator of the module",
}


@pytest.mark.parametrize("style", [pytest.param(one, marks=() if one in QUICK else pytest.mark.long) for one in LAYERS])
def test_a_right_layer_of_any_style_passes_all_properties(style: str) -> None:
    make, inputs, read = LAYERS[style]
    report = check_layer(make(), *inputs)
    assert report.verdict is Verdict.PASS, str(report)
    assert "NOT CHECKED" not in str(report)
    assert read in str(report)


@pytest.mark.short(8)
@pytest.mark.parametrize("style", LAYERS)
def test_a_wrong_layer_of_any_style_fails_by_its_numbers(style: str) -> None:
    make, inputs, read = LAYERS[style]
    report = check_layer(make(3.0), *inputs, claims=[GRADIENTS], variations=False)
    assert report.verdict is Verdict.FAIL, str(report)
    assert "difference" in str(report)
    assert read in str(report)


def value_and_gradient(factor: float = 1.0) -> Callable[..., Any]:
    return styles.loss_and_gradient if factor == 1 else styles.loss_and_gradient_of_the_sum


def pair_of_functions(factor: float = 1.0) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return styles.mse, styles.mse_prime if factor == 1 else styles.mse_prime_without_the_mean


def with_a_mask(factor: float = 1.0) -> Callable[..., Any]:
    return styles.masked_loss if factor == 1 else styles.masked_loss_with_a_gradient_everywhere


LOSSES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "value and gradient together": (value_and_gradient, (Y, np.array([0, 2, 1, 1])), "(x, y) -> y, dx, times dy"),
    "three arguments": (with_a_mask, (Y, np.array([0, 2, 1, 1]), np.array([True, False, True, True])), "(x, y, mask)"),
    "two functions, target first": (pair_of_functions, (Y, normal(4, 3, seed=6)), "mse_prime(y_true, y_pred)"),
    "a value for each element": (styles.BinaryCrossEntropy, (PROBABILITIES, ZEROS_AND_ONES), "loss(y, p) -> y"),
    "dout disregarded": (styles.SoftmaxWithLoss, (Y, ZEROS_AND_ONES), "-> dx, times dy"),
}


@pytest.mark.short(2)
@pytest.mark.parametrize("style", LOSSES)
def test_a_right_loss_of_any_style_passes_and_a_wrong_one_fails(style: str) -> None:
    make, inputs, read = LOSSES[style]
    report = check_loss(make(), *inputs)
    assert report.verdict is Verdict.PASS, str(report)
    assert read in str(report)
    assert check_loss(make(3.0), *inputs, claims=[GRADIENTS], variations=False).verdict is Verdict.FAIL


def test_a_pair_of_functions_with_a_cache_is_checked_by_the_names_of_its_arguments() -> None:
    inputs = X, normal(5, 4, seed=1), normal(4, seed=2)
    assert check_layer((styles.affine_forward, styles.affine_backward), *inputs)
    square = X, normal(5, 5, seed=1), normal(5, seed=2)
    report = check_layer(
        (styles.affine_forward, styles.transposed_backward), *square, claims=[GRADIENTS], variations=False
    )
    assert "w's gradient is the transpose of the numerical one" in str(report)


def test_what_an_earlier_call_left_is_found_by_another_input_in_between() -> None:
    (found,) = check_layer(styles.KeepsItsFirstInput(), X, claims=[GRADIENTS]).failures
    assert found.message.startswith("after an earlier call on another input")


def test_a_generator_that_is_made_in_every_call_is_the_reason_why_nothing_is_judged() -> None:
    report = check_layer(styles.DrawsAnew(), X)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "it draws random numbers from a generator that is made anew in each call" in str(report)


def test_a_backward_that_is_wrong_in_evaluation_alone_is_said_to_be_so_first() -> None:
    (found,) = check_layer(styles.FrozenInEvaluation(), X, claims=[GRADIENTS]).failures
    assert found.message.startswith("wrong in evaluation mode only, right in training mode")
    assert check_layer(styles.FrozenInEvaluation(), X, training=True, claims=[GRADIENTS]).verdict is Verdict.PASS


def test_what_the_output_depends_on_and_has_no_gradient_is_never_hidden_by_a_pass() -> None:
    report = check_layer(styles.Unnamed(), X)
    assert report.verdict is Verdict.PASS
    assert str(report).splitlines()[1].startswith("NOT CHECKED: mixing: the output depends on it")
    assert json.loads(report.to_json())["reading"]["unchecked"] == ["mixing"]


@pytest.mark.parametrize("user", range(3))
def test_no_seed_of_a_user_makes_a_transposed_gradient_look_right(user: int) -> None:
    rng = np.random.default_rng(user)
    x, w = rng.standard_normal((4, 3)), rng.standard_normal((3, 3))

    def vjp(given: Sequence[Any], dy: Any) -> tuple[Any, Any]:
        return dy @ given[1].T, dy.T @ given[0]

    report = check_gradients(lambda x, w: x @ w, (x, w), vjp, seed=user, variations=False)
    assert report.verdict is Verdict.FAIL


def test_a_function_is_called_by_its_own_names_and_may_return_a_cache() -> None:
    given, vjp = {"x": X, "scale": X + 2}, lambda a, dy: (dy * a[1], dy)
    report = check_gradients(lambda x, scale: (x * scale, x), given, vjp, variations=False)
    assert "scale" in str(report.worst and report.worst.tensor)
    assert report.verdict is Verdict.FAIL


class Taken:
    """A layer with one name that is not the usual one."""

    def __init__(self) -> None:
        self.weight = normal(5, 3, seed=1)

    def forward(self, x: Any, alpha: float) -> Any:
        self.x = x
        return alpha * x @ self.weight

    def backward(self, dy: Any) -> Any:
        return dy @ self.weight.T


class TakesItsTarget(styles.Dense):
    def backward(self, y_true: Any) -> Any:
        return y_true @ self.weights.T


REFUSED: dict[str, tuple[Callable[[], Report], str]] = {
    "an argument that nobody knows": (
        lambda: check_layer(Taken(), X),
        "Taken.forward also needs alpha: give every argument, as in check_layer(layer, input, ALPHA)",
    ),
    "a target in backward": (lambda: check_layer(TakesItsTarget(), X), "takes y_true, a target: let forward return"),
    "a name with a mistake": (
        lambda: check_layer(styles.Dense(), X, params={"w": "wieghts"}, grads={"w": "dweights"}),
        "there is no 'wieghts'; did you mean weights?",
    ),
    "a method that is not there": (
        lambda: check_layer(styles.Dense(), X, backward="backwards"),
        "Dense has no method backwards; did you mean backward?",
    ),
    "an input of another size": (
        lambda: check_layer(styles.Dense(), normal(4, 6)),
        "Dense.forward(input) raises ValueError",
    ),
    "too many inputs": (lambda: check_layer(styles.Dense(), X, X), "Dense.forward takes x, got 2 inputs"),
    "an unknown property": (
        lambda: check_layer(styles.Dense(), X, claims=["gradients_agree_with_diferences"]),
        "did you mean 'gradients_agree_with_differences'?",
    ),
    "an unknown domain": (lambda: check_layer(styles.Dense(), X, domain="small"), "domain is one of any, positive"),
    "an unknown constant": (lambda: check_layer(styles.Dense(), X, constant="mask"), "constant= names 'mask'"),
    "target and prediction exchanged": (
        lambda: check_loss(styles.SoftmaxWithLoss(), ZEROS_AND_ONES, Y),
        "the prediction given is one-hot, the target is not; exchange them",
    ),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_what_cannot_be_called_is_refused_in_one_line_that_says_what_to_write(mistake: str) -> None:
    call, said = REFUSED[mistake]
    with pytest.raises(AdapterError, match=re.escape(said)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_a_reading_can_be_overridden_input_by_input() -> None:
    report = check_layer(styles.Attention(5.0), X, X + 0.25, Y, constant=0, claims=[GRADIENTS], variations=False)
    assert report.verdict is Verdict.PASS  # the gradient of the query is the wrong one


def test_the_time_of_a_check_is_bounded_and_what_was_left_out_is_said() -> None:
    report = check_layer(styles.Network(), X, seconds=1e-6)
    assert report.verdict is Verdict.PASS
    assert "left out after 1e-06 s:" in str(report)
    assert "with ties" in str(report)


def pooled(x: Any) -> Any:
    return x.reshape(len(x), -1, 2).max(axis=2)


def pooled_back(given: Sequence[Any], dy: Any) -> tuple[Any]:
    """Give each of two tied maxima the whole gradient."""
    (x,) = given
    return ((x.reshape(len(x), -1, 2) == pooled(x)[..., None]).reshape(x.shape) * np.repeat(dy, 2, axis=1),)


def test_a_function_gets_the_variations_of_a_layer_unless_its_pullback_is_made_for_one_input() -> None:
    x = normal(3, 4, seed=8)
    assert "tied" in str(check_gradients(pooled, (x,), pooled_back))
    assert check_gradients(pooled, (x,), pooled_back, variations=False).verdict is Verdict.PASS
    made = check_gradients(lambda x: x**3, (x,), lambda _, dy: (3 * x**2 * dy,))
    assert made.verdict is Verdict.PASS
    assert "returns the same for other inputs: judged at those given alone" in str(made)


def squared(x: Any, factor: float = 2.0) -> Any:
    return x**2, lambda dy: factor * x * dy


class Squared:
    """An object that returns its pullback, and keeps the factor of its gradient."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, x: Any) -> Any:
        return squared(x, self.factor)


class Multiplied:
    """Static methods that leave in ``ctx`` what the backward pass needs."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx: Any, dy: Any) -> Any:
        a, b = ctx.saved_tensors
        return dy * b, dy * a


class Added(Multiplied):
    """Has the gradient of a product."""

    @staticmethod
    def forward(ctx: Any, a: Any, b: Any) -> Any:
        ctx.save_for_backward(a, b)
        return a + b


def test_a_function_may_return_its_pullback() -> None:
    report = check_layer(squared, X)
    assert report.verdict is Verdict.PASS
    assert "squared(x) -> y, pullback(dy) -> dx" in str(report)
    for wrong in (lambda x: squared(x, 3.0), Squared(3.0)):
        report = check_layer(wrong, X, claims=[GRADIENTS], variations=False)
        assert report.verdict is Verdict.FAIL
        assert "gradient is exactly 3/2 times the numerical one" in str(report)
    assert check_layer(Squared(2.0), X, claims=[GRADIENTS], variations=False)


def test_a_class_of_static_methods_with_a_context_is_taken_as_it_is() -> None:
    report = check_layer(Multiplied, X, X + 0.5, claims=[GRADIENTS])
    assert report.verdict is Verdict.PASS
    assert "read as: forward(a, b) -> y, backward(dy) -> da, db" in str(report)
    assert check_layer(Added, X, X + 0.5, claims=[GRADIENTS], variations=False).verdict is Verdict.FAIL


# At one input, as a tuple of one array has the mean of its only element along its first axis: that element.
@pytest.mark.parametrize("vjp", [lambda inputs, dy: (dy + inputs[0],), lambda x, dy: dy + np.mean(x, axis=0)])
def test_of_the_ways_to_call_a_pullback_the_one_that_agrees_is_taken(vjp: Any) -> None:
    wrong = check_gradients(lambda x: x + 1.0, (X,), vjp, variations=False)
    assert wrong.verdict is Verdict.FAIL


def centred(x: Any) -> Any:
    return (x - np.mean(x, axis=0)) ** 2


def centred_back(x: Any, dy: Any) -> Any:
    d = 2 * dy * (x - np.mean(x, axis=0))
    return d - np.mean(d, axis=0)


def test_a_single_input_may_come_bare_or_in_a_tuple() -> None:
    for vjp in (centred_back, lambda inputs, dy: (centred_back(inputs[0], dy),), lambda dy, x: centred_back(x, dy)):
        assert check_gradients(centred, (X,), vjp, variations=False).verdict is Verdict.PASS
    for wrong in (lambda x, dy: 2 * centred_back(x, dy), lambda inputs, dy: (2 * centred_back(inputs[0], dy),)):
        report = check_gradients(centred, (X,), wrong, variations=False)
        assert report.verdict is Verdict.FAIL
        assert "x's gradient is exactly 2 times the numerical one" in str(report)


class Counting:
    """A loss of its input that counts its calls and moves a weight that it does not use."""

    def __init__(self) -> None:
        self.calls, self.unused = 0, np.ones(3)

    def loss(self, x: Any) -> Any:
        self.calls += 1
        self.unused -= 0.1
        return float((x**2).sum()), 2 * x


def scaled(x: Any, training: bool) -> Any:
    factor = 2.0 if training else 1.0
    return x * factor, lambda dy: dy * factor


def squared_in_float32(x: Any, factor: float = 2.0) -> Any:
    if x.dtype != np.float32:
        raise TypeError(f"x needs to be float32, got {x.dtype}")
    return x * x, lambda dy: np.float32(factor) * dy * x


@pytest.mark.long
def test_what_goes_both_ways_is_read_on_copies_in_its_modes_and_in_its_precision() -> None:
    own = Counting()
    assert check_layer(own, X, variations=False)
    assert (own.calls, own.unused[0]) == (0, 1.0)
    assert "scaled(x, training=) -> y, pullback(dy) -> dx" in str(check_layer(scaled, X))
    assert check_layer(squared_in_float32, X)
    assert check_layer(lambda x: squared_in_float32(x, 3.0), X).verdict is Verdict.FAIL


class WithoutContext:
    """Static methods that need no object, and no context."""

    @staticmethod
    def forward(x: Any) -> Any:
        return 2 * x

    @staticmethod
    def backward(dy: Any) -> Any:
        return 2 * dy


def test_a_class_without_a_context_is_to_be_made_and_one_with_it_may_be() -> None:
    with pytest.raises(AdapterError, match="got the class WithoutContext: make one"):
        check_layer(WithoutContext, X)
    assert check_layer(WithoutContext(), X, claims=[GRADIENTS])
    assert check_layer(Multiplied(), X, X + 0.5, claims=[GRADIENTS])


@pytest.mark.parametrize(("factor", "verdict"), [(2.0, Verdict.PASS), (3.0, Verdict.FAIL)])
def test_a_pullback_may_return_gradients_by_name(factor: float, verdict: Verdict) -> None:
    def vjp(inputs: Any, dy: Any) -> dict[str, Any]:
        return {"x": factor * inputs[0] * dy}

    assert check_gradients(lambda x: x * x, {"x": X}, vjp, variations=False).verdict is verdict


def test_what_an_object_raises_is_kept_as_the_cause_of_a_refusal() -> None:
    class Lacking:
        def forward(self, x: Any) -> Any:
            raise KeyError("q")

        def backward(self, dy: Any) -> Any:
            return dy

    with pytest.raises(AdapterError) as caught:
        check_layer(Lacking(), X)
    assert isinstance(caught.value.__cause__, KeyError)
