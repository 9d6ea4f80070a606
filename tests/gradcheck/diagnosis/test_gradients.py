"""Planted faults are named by their cause, and what has no name stays without one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradcheck.contract import Array
from gradcheck.diagnosis.evidence import Cause, Evidence
from gradcheck.diagnosis.gradients import diagnose
from gradcheck.report.diagnoses import describe_diagnosis

Pullback = Callable[[Array], dict[str, Array]]
Fault = Callable[[Array], Array]

# Closed forms are exact but for their own rounding.
ALLOWED = 1e-12


@dataclass(frozen=True)
class Problem:
    """A function at one point with its exact pullback; ``input`` is its input."""

    variables: dict[str, Array]
    y: Array
    pullback: Pullback

    def with_fault(self, tensor: str, fault: Fault, dy: Array | None = None) -> Evidence:
        """Return the evidence against a gradient that is ``fault(dy)``."""
        dy = normal(*self.y.shape, seed=9) if dy is None else dy

        def numeric_of(cotangent: Array, name: str = tensor) -> tuple[Array, Array]:
            gradient = self.pullback(cotangent)[name]
            return gradient, np.full(gradient.shape, ALLOWED * np.abs(gradient).max(initial=0.0))

        numeric, allowed = numeric_of(dy)
        return Evidence(
            tensor=tensor,
            analytic=fault(dy),
            numeric=numeric,
            allowed=allowed,
            value=self.variables[tensor],
            inputs=("input",),
            variables=self.variables,
            gradients={**self.pullback(dy), tensor: fault(dy)},
            y=self.y,
            dy=dy,
            analytic_of=fault,
            numeric_of=numeric_of,
            other_numeric=lambda name: numeric_of(dy, name),
        )


def normal(*shape: int, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng([seed, *shape]).standard_normal(shape))


def dense(x: Array, outputs: int = 5, seed: int = 1) -> Problem:
    """``y = x W + b``."""
    weight, bias = normal(x.shape[1], outputs, seed=seed), normal(outputs, seed=seed)

    def pullback(dy: Array) -> dict[str, Array]:
        return {"input": dy @ weight.T, "weight": x.T @ dy, "bias": dy.sum(axis=0)}

    return Problem({"input": x, "weight": weight, "bias": bias}, x @ weight + bias, pullback)


def sum_of_two(x: Array) -> Problem:
    """``y = x V + x^2 W``: two weights of one shape."""
    v, w = normal(x.shape[1], 5, seed=1), normal(x.shape[1], 5, seed=2)

    def pullback(dy: Array) -> dict[str, Array]:
        return {"input": dy @ v.T + 2 * x * (dy @ w.T), "v": x.T @ dy, "w": (x**2).T @ dy}

    return Problem({"input": x, "v": v, "w": w}, x @ v + x**2 @ w, pullback)


def conv(x: Array, weight: Array) -> Problem:
    """Cross-correlation of (batch, in, height, width) with (out, in, kernel, kernel), by loops, with a bias."""
    out, _, k, _ = weight.shape
    height, width = x.shape[2] - k + 1, x.shape[3] - k + 1
    y = np.zeros((x.shape[0], out, height, width))
    for i in range(height):
        for j in range(width):
            y[:, :, i, j] = np.tensordot(x[:, :, i : i + k, j : j + k], weight, axes=([1, 2, 3], [1, 2, 3]))

    def pullback(dy: Array) -> dict[str, Array]:
        dx, dw = np.zeros_like(x), np.zeros_like(weight)
        for i in range(height):
            for j in range(width):
                dx[:, :, i : i + k, j : j + k] += np.tensordot(dy[:, :, i, j], weight, axes=1)
                dw += np.tensordot(dy[:, :, i, j], x[:, :, i : i + k, j : j + k], axes=([0], [0]))
        return {"input": dx, "weight": dw, "bias": dy.sum(axis=(0, 2, 3))}

    return Problem({"input": x, "weight": weight, "bias": np.zeros(out)}, y, pullback)


def elementwise(x: Array, y: Array, slope: Array) -> Problem:
    return Problem({"input": x}, y, lambda dy: {"input": dy * slope})


def sigma(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


def softmax(x: Array) -> Array:
    e = np.exp(x)
    return np.asarray(e / e.sum(axis=-1, keepdims=True))


def normalisation(x: Array, axes: tuple[int, ...]) -> Problem:
    """``(x - mean) / sqrt(var)`` over axes, times gamma, plus beta, along the last axis."""
    std = x.std(axis=axes, keepdims=True)
    xhat = (x - x.mean(axis=axes, keepdims=True)) / std
    gamma = 1 + normal(x.shape[-1], seed=3) / 4

    def pullback(dy: Array) -> dict[str, Array]:
        g = dy * gamma
        means = g.mean(axis=axes, keepdims=True), (g * xhat).mean(axis=axes, keepdims=True)
        dx = (g - means[0] - xhat * means[1]) / std
        return {"input": dx, "gamma": (dy * xhat).sum(axis=0), "beta": dy.sum(axis=0)}

    return Problem({"input": x, "gamma": gamma, "beta": np.zeros_like(gamma)}, xhat * gamma, pullback)


X = normal(4, 3)
DENSE = dense(X)
SQUARE = dense(X, outputs=3)
SQUARE_OF_FOUR = dense(normal(5, 4), outputs=4)
THRESHOLD = -0.2
BELOW = X[X <= THRESHOLD].max()
TWO = sum_of_two(X)
CONV = conv(normal(2, 3, 6, 5), normal(4, 3, 3, 3, seed=5))
S = sigma(X)
SIGMOID = elementwise(X, S, S * (1 - S))
TANH = elementwise(X, np.tanh(X), 1 - np.tanh(X) ** 2)
RELU = elementwise(X, np.maximum(X, 0), np.where(X > 0, 1.0, 0.0))
CUBE = elementwise(X, X**3, 3 * X**2)
P = softmax(normal(3, 4))
SOFTMAX = Problem({"input": normal(3, 4)}, P, lambda dy: {"input": P * (dy - np.sum(dy * P, axis=-1, keepdims=True))})
SUMS = Problem(
    {"input": normal(2, 4, 3)},
    np.cumsum(normal(2, 4, 3), axis=1),
    lambda dy: {"input": np.cumsum(dy[:, ::-1], axis=1)[:, ::-1]},
)
LAYER_NORM = normalisation(normal(3, 6), (1,))
BATCH_NORM = normalisation(normal(7, 3), (0,))
STD = normal(3, 6).std(axis=1, keepdims=True)
GAMMA = LAYER_NORM.variables["gamma"]


def right(problem: Problem, tensor: str) -> Fault:
    return lambda dy: problem.pullback(dy)[tensor]


def changed(problem: Problem, tensor: str, change: Callable[[Array], Array]) -> tuple[Problem, str, Fault]:
    """Return the fault that changes a gradient after it is computed."""
    return problem, tensor, lambda dy: change(problem.pullback(dy)[tensor])


def scaled_at(place: Any, factor: float) -> Callable[[Array], Array]:  # noqa: ANN401  whatever NumPy takes as an index
    def change(gradient: Array) -> Array:
        gradient = gradient.copy()
        gradient[place] *= factor
        return gradient

    return change


def only(axis: int, index: int) -> Callable[[Array], Array]:
    def mask(dy: Array) -> Array:
        masked = np.zeros_like(dy)
        masked[(slice(None),) * axis + (index,)] = dy[(slice(None),) * axis + (index,)]
        return masked

    return mask


def distorted_border(gradient: Array) -> Array:
    gradient = gradient.copy()
    gradient[..., -1, :] += np.sin(gradient[..., -1, :])
    gradient[..., :, -1] += 1
    return gradient


def shifted(gradient: Array) -> Array:
    return np.concatenate([np.zeros((1, *gradient.shape[1:])), gradient[:-1]])


def with_nan(gradient: Array) -> Array:
    return np.where(np.arange(gradient.size).reshape(gradient.shape) == 4, math.nan, gradient)


NAMED: list[tuple[str, tuple[Problem, str, Fault], str]] = [
    (
        "not finite",
        changed(DENSE, "bias", with_nan),
        "bias's gradient is nan at [4], where the numerical one is finite",
    ),
    (
        "not finite at many",
        changed(DENSE, "bias", lambda g: np.full_like(g, math.inf)),
        "bias's gradient is inf at [0], as are 4 more elements, where the numerical one is finite",
    ),
    (
        "wrong shape",
        changed(DENSE, "bias", lambda g: g[None, :]),
        "bias's gradient has shape (1, 5), the tensor has shape (5,)",
    ),
    (
        "not summed",
        (DENSE, "bias", lambda dy: dy),
        "bias's gradient is not summed over the batch: its shape is (4, 5), the tensor's (5,)",
    ),
    (
        "not summed over positions",
        (CONV, "bias", lambda dy: dy.sum(axis=0)),
        "bias's gradient is not summed over axes 1 and 2: its shape is (4, 4, 3), the tensor's (4,)",
    ),
    (
        "turned",
        changed(DENSE, "weight", lambda g: g.T),
        "weight's gradient is the transpose of the numerical one",
    ),
    ("zero", changed(DENSE, "bias", np.zeros_like), "bias's gradient is identically zero"),
    (
        "as if dy were 1",
        (DENSE, "weight", lambda dy: X.T @ np.ones_like(dy)),
        "weight's gradient does not depend on dy, the gradient that comes in from above: "
        "it is as if dy were 1 everywhere",
    ),
    (
        "ignores dy",
        (DENSE, "input", lambda _: X),
        "input's gradient does not depend on dy, the gradient that comes in from above",
    ),
    (
        "divided by the batch",
        changed(DENSE, "weight", lambda g: g / 4),
        "weight's gradient is exactly 1/4 of the numerical one; 4 is the batch size",
    ),
    (
        "times the outputs",
        changed(DENSE, "bias", lambda g: g * 5),
        "bias's gradient is exactly 5 times the numerical one; 5 is the number of outputs",
    ),
    (
        "divided by everything",
        changed(DENSE, "bias", lambda g: g / 20),
        "bias's gradient is exactly 1/20 of the numerical one; 20 is the number of elements (batch x outputs)",
    ),
    (
        "the mean's 2",
        changed(DENSE, "bias", lambda g: 2 * g / 5),
        "bias's gradient is exactly 2/5 times the numerical one; 5 is the number of outputs",
    ),
    (
        "negated",
        changed(DENSE, "weight", np.negative),
        "weight's gradient is exactly -1 times the numerical one, the sign is wrong",
    ),
    (
        "doubled, where the batch is 2",
        changed(CONV, "weight", lambda g: 2 * g),
        "weight's gradient is exactly 2 times the numerical one; 2 is the batch size",
    ),
    (
        "averaged over batch and positions",
        changed(CONV, "weight", lambda g: g / 24),
        "weight's gradient is exactly 1/24 of the numerical one; "
        "24 is the product of the extents of the output's axes 0, 2 and 3",
    ),
    (
        "averaged over the width",
        changed(CONV, "weight", lambda g: g / 3),
        "weight's gradient is exactly 1/3 of the numerical one; 3 is the extent of the output's axis 3",
    ),
    (
        "any factor",
        changed(DENSE, "weight", lambda g: 0.7312 * g),
        "weight's gradient is 0.7312 times the numerical one everywhere",
    ),
    (
        "transposed",
        changed(SQUARE, "weight", lambda g: g.T),
        "weight's gradient is the transpose of the numerical one",
    ),
    (
        "kernel transposed",
        changed(CONV, "weight", lambda g: g.swapaxes(2, 3)),
        "weight's gradient is the numerical one with axes 2 and 3 exchanged",
    ),
    (
        "kernel flipped",
        changed(CONV, "weight", lambda g: g[:, :, ::-1, ::-1]),
        "weight's gradient is the numerical one reversed along axes 2 and 3",
    ),
    (
        "rolled",
        changed(DENSE, "bias", lambda g: np.roll(g, 1)),
        "bias's gradient is the numerical one shifted by one forwards along axis 0; "
        "what falls off returns at the other end",
    ),
    (
        "shifted",
        changed(DENSE, "weight", shifted),
        "weight's gradient is the numerical one shifted by one forwards along axis 0; zeros follow",
    ),
    (
        "another's",
        (TWO, "w", right(TWO, "v")),
        "w's gradient is what v's should be",
    ),
    (
        "one number for all",
        (DENSE, "bias", lambda dy: np.full(5, dy.sum())),
        "every element of bias's gradient is the same: the sum over all elements, "
        "where each needs its own: an axis is missing from the sum",
    ),
    (
        "the mean of a sum without an axis",
        (DENSE, "bias", lambda dy: np.mean(dy.sum() / 20)),
        "every element of bias's gradient is the same: the mean, over the batch too, over all elements, "
        "where each needs its own: an axis is missing from the sum",
    ),
    (
        "summed over the rows too",
        changed(DENSE, "weight", lambda g: np.broadcast_to(g.mean(axis=0), (3, 5))),
        "weight's gradient is the same all along axis 0: the mean over it, "
        "where each needs its own: an axis is missing from the sum",
    ),
    (
        "one element",
        changed(DENSE, "weight", scaled_at((2, 4), 0.0)),
        "element [2, 4] of weight's gradient is zero; the other 14 elements agree",
    ),
    (
        "one element by an odd factor",
        changed(DENSE, "weight", scaled_at((2, 4), 0.7312)),
        "only element [2, 4] of weight's gradient is wrong; the other 14 elements agree",
    ),
    (
        "one row negated",
        changed(DENSE, "weight", scaled_at(2, -1.0)),
        "row 2 of weight's gradient is exactly -1 times what it should be, the sign is wrong; "
        "the other 10 elements agree",
    ),
    (
        "one channel distorted",
        changed(CONV, "weight", lambda g: np.concatenate([g[:, :2], np.sin(g[:, 2:])], axis=1)),
        "only index 2 of axis 1 of weight's gradient is wrong; the other 72 elements agree",
    ),
    (
        "the border",
        changed(CONV, "input", distorted_border),
        "input's gradient is wrong on the border only, at the last index of axis 2 and the last index of axis 3; "
        "the other 120 elements agree",
    ),
    (
        "only the last sample",
        (DENSE, "weight", lambda dy: DENSE.pullback(only(0, -1)(dy))["weight"]),
        "weight's gradient is what the last sample alone would give: "
        "overwritten instead of accumulated, or not summed over the batch",
    ),
    (
        "only the first column",
        (CONV, "weight", lambda dy: CONV.pullback(only(3, 0)(dy))["weight"]),
        "weight's gradient is what the first index of dy's axis 3 alone would give",
    ),
    (
        "all but the last sample",
        (DENSE, "bias", lambda dy: dy[:-1].sum(axis=0)),
        "bias's gradient leaves out the last sample",
    ),
    (
        "no derivative",
        (SIGMOID, "input", lambda dy: dy),
        "input's gradient is dy itself: the derivative f'(x) is missing",
    ),
    (
        "no mask",
        (RELU, "input", lambda dy: dy),
        "input's gradient is dy itself: the derivative f'(x) is missing",
    ),
    (
        "no mask, but the scale of dropout",
        (replace(RELU, pullback=lambda dy: {"input": dy * 2 * (X > 0)}), "input", lambda dy: 2 * dy),
        "input's gradient is 2 times dy, whatever x is: the derivative f'(x) is missing",
    ),
    (
        "derivative twice",
        (CUBE, "input", lambda dy: dy * 9 * X**4),
        "input's gradient has the derivative f'(x) in it twice",
    ),
    (
        "sigmoid of sigmoid",
        (SIGMOID, "input", lambda dy: dy * sigma(S) * (1 - sigma(S))),
        "input's gradient takes sigmoid's derivative at its output, where it belongs at its input: "
        "sigmoid is applied twice",
    ),
    (
        "tanh's form of its input",
        (TANH, "input", lambda dy: dy * (1 - X**2)),
        "input's gradient takes x for y in tanh's derivative, 1 - y^2, where y is the output and x the input",
    ),
    (
        "softmax by its diagonal",
        (SOFTMAX, "input", lambda dy: dy * P * (1 - P)),
        "input's gradient takes only the diagonal of the Jacobian: every input moves other outputs too, "
        "and what comes back from those is missing",
    ),
    (
        "not through a state",
        (SUMS, "input", lambda dy: dy),
        "input's gradient takes what comes back from the same index of axis 1 alone: what passes from one index to "
        "another, as through a state, has no gradient",
    ),
    (
        "a penalty",
        changed(DENSE, "weight", lambda g: g + 0.01 * DENSE.variables["weight"]),
        "weight's gradient is off by 0.01 times the tensor itself: a penalty's term, or one like it",
    ),
    (
        "no path around",
        (replace(SIGMOID, pullback=lambda dy: {"input": dy * (1 + S)}), "input", lambda dy: dy * S),
        "input's gradient is off by -1 times dy: a path straight through is missing, or one too many",
    ),
    (
        "dy passed on by a softmax",
        (SOFTMAX, "input", lambda dy: dy),
        "input's gradient is dy itself: the derivative is missing, "
        "as where the loss behind it has it in its own gradient",
    ),
    (
        "clipped",
        changed(DENSE, "weight", lambda g: np.clip(g, -0.5, 0.5)),
        "weight's gradient is the numerical one, clipped to [-0.5, 0.5]",
    ),
    (
        "cut off below",
        changed(DENSE, "weight", lambda g: np.maximum(g, -0.25)),
        "weight's gradient is the numerical one, clipped to [-0.25, inf]",
    ),
    (
        "clipped by its norm",
        changed(DENSE, "weight", lambda g: g * min(1.0, 1.5 / np.sqrt(np.sum(g * g)))),
        "weight's gradient is the numerical one, clipped to a norm of 1.5",
    ),
    (
        "normalised",
        changed(DENSE, "weight", lambda g: g / np.sqrt(np.sum(g * g))),
        "weight's gradient is the numerical one, clipped to a norm of 1",
    ),
    (
        "no upper triangle",
        changed(SQUARE_OF_FOUR, "weight", np.tril),
        "above the diagonal, weight's gradient is zero; the other 10 elements agree",
    ),
    (
        "two rows",
        changed(SQUARE_OF_FOUR, "weight", lambda g: g * np.array([1, -1, 1, -1])[:, None]),
        "in rows 1 and 3, weight's gradient is exactly -1 times what it should be, the sign is wrong; "
        "the other 8 elements agree",
    ),
    (
        "one sample",
        changed(CONV, "input", scaled_at(1, 0.0)),
        "sample 1 (index 1 of axis 0) of input's gradient is zero; the other 90 elements agree",
    ),
    (
        "off the diagonal",
        changed(SQUARE_OF_FOUR, "weight", lambda g: g + np.eye(4) * np.sin(g)),
        "weight's gradient is wrong on the diagonal only; the other 12 elements agree",
    ),
    (
        "twice below zero",
        (CUBE, "input", lambda dy: dy * 3 * X**2 * np.where(X < 0, 2, 1)),
        f"where the input is negative, input's gradient is exactly 2 times what it should be; "
        f"the other {np.sum(X > 0)} elements agree",
    ),
    (
        "wrong above a threshold",
        (CUBE, "input", lambda dy: dy * 3 * X**2 * np.where(THRESHOLD < X, np.cos(X), 1)),
        f"input's gradient is wrong where the input is above {BELOW:.4g} only; "
        f"the other {np.sum(X <= THRESHOLD)} elements agree",
    ),
    (
        "layer norm without its mean",
        (LAYER_NORM, "input", lambda dy: LAYER_NORM.pullback(dy)["input"] + (dy * GAMMA).mean(1, keepdims=True) / STD),
        "input's gradient is off by the same amount all along axis 1: "
        "as when a term that is a sum or a mean is missing",
    ),
    (
        "layer norm without both",
        (LAYER_NORM, "input", lambda dy: dy * GAMMA / STD),
        "input's gradient is off by a + b x along axis 1, x its own input: "
        "as without the term of a mean or of a variance",
    ),
    (
        "batch norm without both",
        (
            BATCH_NORM,
            "input",
            lambda dy: dy * BATCH_NORM.variables["gamma"] / BATCH_NORM.variables["input"].std(axis=0),
        ),
        "input's gradient is off by a + b x along axis 0, x its own input: "
        "as without the term of a mean or of a variance",
    ),
]


@pytest.mark.parametrize(("fault", "said"), [(f, s) for _, f, s in NAMED], ids=[name for name, _, _ in NAMED])
def test_a_planted_fault_is_named(fault: tuple[Problem, str, Fault], said: str) -> None:
    problem, tensor, wrong = fault
    found = diagnose(problem.with_fault(tensor, wrong))
    assert found is not None
    assert describe_diagnosis(tensor, found) == said


LOGITS = normal(4, 5, seed=6)
ONE_HOT = np.eye(5)[[0, 3, 3, 1]]


def mean_squared_error(prediction: Array, target: Array) -> Problem:
    value = np.mean((prediction - target) ** 2)
    slope = 2 * (prediction - target) / prediction.size
    return Problem({"input": prediction}, np.asarray(value), lambda dy: {"input": dy * slope})


@pytest.mark.parametrize(
    ("batch", "outputs", "said"),
    [
        (1, 10, "5 times the numerical one; 5 is half the number of outputs"),
        (8, 10, "40 times the numerical one; 40 is half the number of elements (batch x outputs)"),
        (3, 5, "15/2 times the numerical one; 15 is the number of elements (batch x outputs)"),
    ],
)
def test_a_mean_loss_with_the_gradient_of_half_a_sum(batch: int, outputs: int, said: str) -> None:
    prediction, target = normal(batch, outputs), normal(batch, outputs, seed=1)
    problem = mean_squared_error(prediction, target)
    found = diagnose(problem.with_fault("input", lambda dy: dy * (prediction - target), np.asarray(1.0)))
    assert found is not None
    assert describe_diagnosis("prediction", found) == f"prediction's gradient is exactly {said}"


def test_a_bias_summed_without_an_axis_after_softmax() -> None:
    def summed(dy: Array) -> Array:
        return np.asarray(np.mean(dy.sum()))

    cancelling = softmax(LOGITS) - ONE_HOT
    found = diagnose(DENSE.with_fault("bias", summed, cancelling))
    assert found is not None
    assert found.cause is Cause.REDUCED_TOO_FAR  # though zero for this cotangent, the sum is what explains any

    def pullback(dy: Array) -> dict[str, Array]:
        return {"input": (dy * cancelling).sum(axis=0)}

    always = Problem({"input": np.zeros(5)}, np.asarray(0.5), pullback)
    found = diagnose(always.with_fault("input", lambda dy: np.full(5, (dy * cancelling).sum())))
    assert found is not None
    assert describe_diagnosis("bias", found) == "bias's gradient is identically zero"


def test_weights_that_were_exchanged_are_both_named() -> None:
    evidence = TWO.with_fault("w", right(TWO, "v"))
    swapped = replace(evidence, gradients={**evidence.gradients, "v": evidence.numeric})
    found = diagnose(swapped)
    assert found is not None
    assert describe_diagnosis("w", found) == (
        "w's gradient is what v's should be, and the reverse: the two are exchanged"
    )


def test_what_is_not_judged_may_be_anything() -> None:
    unjudged = np.arange(15).reshape(3, 5) == 7

    def a_quarter(dy: Array) -> Array:
        return np.where(unjudged, 123.0, DENSE.pullback(dy)["weight"] / 4)

    def masked(evidence: Evidence) -> Evidence:
        def numeric_of(dy: Array) -> tuple[Array, Array]:
            numeric, allowed = evidence.numeric_of(dy)
            return np.where(unjudged, 0.0, numeric), np.where(unjudged, math.inf, allowed)

        numeric, allowed = numeric_of(evidence.dy)
        return replace(evidence, numeric=numeric, allowed=allowed, numeric_of=numeric_of)

    found = diagnose(masked(DENSE.with_fault("weight", a_quarter)))
    assert found is not None
    assert found.details["factor"] == (1, 4)
    nothing_known = DENSE.with_fault("weight", a_quarter)
    assert diagnose(replace(nothing_known, allowed=np.full((3, 5), math.inf))) is None


RNG = np.random.default_rng(11)
NOISE = RNG.standard_normal((3, 5))
ROUGH = 1 + 0.01 * RNG.uniform(-1, 1, (3, 5))

UNNAMED: dict[str, tuple[Problem, str, Fault]] = {
    "noise": changed(DENSE, "weight", lambda g: g + NOISE),
    "another function": (DENSE, "weight", lambda dy: np.sin(X).T @ dy),
    "distorted": changed(DENSE, "weight", np.tanh),
    "squared": changed(DENSE, "weight", lambda g: g * g),
    "absolute": changed(DENSE, "weight", np.abs),
    "about a quarter": changed(DENSE, "weight", lambda g: g / 4 * ROUGH),
    "a quarter of nearly all": changed(DENSE, "weight", lambda g: np.where(g > 1, g, g / 4)),
    "a factor of its own for every row": changed(DENSE, "weight", lambda g: g * np.array([[0.5], [2.0], [3.0]])),
    "a factor that dy sets": (DENSE, "weight", lambda dy: DENSE.pullback(dy)["weight"] / np.abs(dy).max()),
    "two elements": changed(DENSE, "weight", lambda g: scaled_at((0, 1), 2.0)(scaled_at((2, 3), 0.3)(g))),
    "permuted": changed(DENSE, "bias", lambda g: g[[3, 0, 4, 2, 1]]),
    "another layout": changed(SQUARE, "weight", lambda g: g.reshape(-1)[[0, 3, 1, 4, 6, 2, 8, 5, 7]].reshape(3, 3)),
    "the derivative elsewhere": (CUBE, "input", lambda dy: dy * 3 * (X + 0.1) ** 2),
    "a derivative without parentheses": (SIGMOID, "input", lambda dy: dy * S * 1 - S),
    "softmax of half the Jacobian": (
        SOFTMAX,
        "input",
        lambda dy: P * (dy - np.sum(dy * P, axis=-1, keepdims=True) / 2),
    ),
    "layer norm with the root forgotten": (
        LAYER_NORM,
        "input",
        lambda dy: LAYER_NORM.pullback(dy)["input"] / STD,
    ),
    "overlaps dropped": changed(CONV, "input", lambda g: g * (np.random.default_rng(0).uniform(size=g.shape) > 0.5)),
    "weight gradient with the wrong input": (DENSE, "weight", lambda dy: X[::-1].T @ dy),
    "two sums of two": (TWO, "w", lambda dy: np.abs(X).T @ dy),
}


@pytest.mark.parametrize("fault", UNNAMED.values(), ids=UNNAMED)
def test_what_has_no_name_stays_without_one(fault: tuple[Problem, str, Fault]) -> None:
    problem, tensor, wrong = fault
    assert diagnose(problem.with_fault(tensor, wrong)) is None


@pytest.mark.parametrize("relative", [1e-2, 1e-4, 1e-6, 1e-9])
def test_nearly_a_quarter_is_not_a_quarter(relative: float) -> None:
    found = diagnose(DENSE.with_fault("weight", lambda dy: DENSE.pullback(dy)["weight"] / 4 * (1 + relative)))
    assert found is None or isinstance(found.details["factor"], float)


def test_a_rough_allowance_names_nothing() -> None:
    evidence = DENSE.with_fault("weight", lambda dy: DENSE.pullback(dy)["weight"] / 4)

    def rough(dy: Array) -> tuple[Array, Array]:
        numeric, allowed = evidence.numeric_of(dy)
        return numeric, allowed * 1e8

    assert diagnose(replace(evidence, allowed=evidence.allowed * 1e8, numeric_of=rough)) is None


@pytest.mark.parametrize("factor", [0.25, -1.0, 0.7312])
def test_one_element_is_enough_for_a_factor_with_a_name_only(factor: float) -> None:
    problem = elementwise(np.ones((1, 1)), np.ones((1, 1)), np.full((1, 1), 0.3))
    found = diagnose(problem.with_fault("input", lambda dy: dy * 0.3 * factor))
    assert (found is None) == (factor == 0.7312)


@pytest.mark.parametrize("seed", range(50))
def test_two_random_numbers_tell_nothing(seed: int) -> None:
    matrix, wrong = normal(2, 2, 2, seed=seed)
    problem = Problem({"input": normal(2, seed=seed)}, np.zeros(2), lambda dy: {"input": matrix @ dy})
    assert diagnose(problem.with_fault("input", lambda dy: wrong @ dy)) is None


@pytest.mark.parametrize("tensor", ["input", "weight", "bias"])
def test_a_right_gradient_has_no_cause(tensor: str) -> None:
    assert diagnose(DENSE.with_fault(tensor, right(DENSE, tensor))) is None


ODD = [(), (0,), (1,), (2,), (1, 1), (0, 3), (1, 0, 2), (2, 1, 2, 1, 2, 1)]


@pytest.mark.parametrize("shape", ODD, ids=str)
@pytest.mark.parametrize("given_shape", ODD, ids=str)
@pytest.mark.parametrize("value", [0.0, 1.0, 1e300, math.nan, math.inf])
def test_nothing_raises(shape: tuple[int, ...], given_shape: tuple[int, ...], value: float) -> None:
    x = normal(*shape)
    problem = elementwise(x, x**2, 2 * x)
    found = diagnose(problem.with_fault("input", lambda _: np.full(given_shape, value)))
    assert found is None or describe_diagnosis("input", found)
    of_nothing = replace(problem, pullback=lambda _: {"input": np.full(shape, math.nan)})
    found = diagnose(of_nothing.with_fault("input", lambda _: np.full(given_shape, value)))
    assert found is None or found.cause is Cause.WRONG_SHAPE


def test_a_plain_number_is_a_gradient_of_another_shape() -> None:
    found = diagnose(DENSE.with_fault("weight", lambda _: 0))  # type: ignore[arg-type, return-value]
    assert found is not None
    assert describe_diagnosis("weight", found) == "weight's gradient has shape (), the tensor has shape (3, 5)"


def flipped(axis: int) -> Callable[[Array], Array]:
    return lambda gradient: np.flip(gradient, axis)


# What is done to the gradient of the weight, with the causes that are true of it. Two names are both true where axes
# have two elements (reversed is rolled), where a row is all there is, or where a row of the gradient is one of dy.
DONE: dict[str, tuple[Callable[[Array], Array], set[Cause]]] = {
    "negated": (np.negative, {Cause.FACTOR}),
    "halved": (lambda g: g / 2, {Cause.FACTOR}),
    "scaled": (lambda g: 1.2345678 * g, {Cause.FACTOR}),
    "zeroed": (np.zeros_like, {Cause.ZERO}),
    "reversed": (flipped(0), {Cause.REVERSED, Cause.SHIFTED}),
    "reversed along the outputs": (flipped(1), {Cause.REVERSED, Cause.SHIFTED}),
    "rolled": (lambda g: np.roll(g, 1, axis=1), {Cause.SHIFTED, Cause.REVERSED}),
    "shifted": (shifted, {Cause.SHIFTED, Cause.ZERO}),
    "transposed": (lambda g: g.T, {Cause.TRANSPOSED}),
    "summed": (lambda g: np.full(g.shape, g.sum()), {Cause.REDUCED_TOO_FAR}),
    "averaged along the rows": (lambda g: 0 * g + g.mean(axis=1, keepdims=True), {Cause.REDUCED_TOO_FAR}),
    "no first row": (scaled_at(0, 0.0), {Cause.PART_WRONG, Cause.ZERO}),
    "no last column": (
        scaled_at((slice(None), -1), 0.0),
        {Cause.PART_WRONG, Cause.ZERO, Cause.PART_OF_DY_LEFT_OUT, Cause.ONLY_PART_OF_DY},
    ),
    "one element tripled": (scaled_at((0, 0), 3.0), {Cause.PART_WRONG, Cause.FACTOR}),
    "distorted": (np.tanh, set()),
    "squared": (np.square, set()),
    "noisy": (lambda g: g + np.random.default_rng(g.size).standard_normal(g.shape), set()),
    "cut": (lambda g: np.maximum(g, 0), {Cause.CLIPPED, Cause.ZERO, Cause.PART_WRONG}),
    "scaled differently": (lambda g: g * np.exp(np.sin(1 + np.arange(g.size))).reshape(g.shape), set()),
}


@given(
    batch=st.integers(1, 4),
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    seed=st.integers(0, 2**16),
    done=st.sampled_from(sorted(DONE)),
)
def test_a_fault_is_named_by_its_kind_or_not_at_all(
    batch: int, inputs: int, outputs: int, seed: int, done: str
) -> None:
    change, causes = DONE[done]
    problem = dense(normal(batch, inputs, seed=seed), outputs, seed=seed + 1)
    found = diagnose(problem.with_fault("weight", lambda dy: change(problem.pullback(dy)["weight"])))
    assert found is None or found.cause in causes


def test_every_cause_has_been_found() -> None:
    found = [diagnose(problem.with_fault(tensor, wrong)) for _, (problem, tensor, wrong), _ in NAMED]
    # In test_verdicts.py, test_losses.py, test_guards.py, test_exchanged.py and test_whole_numbers.py.
    elsewhere = {Cause.TIED_IN_FULL, Cause.OTHER_LOSS, Cause.GUARD, Cause.ARGUMENTS_EXCHANGED, Cause.WHOLE_NUMBERS}
    assert {one.cause for one in found if one} == set(Cause) - elsewhere
