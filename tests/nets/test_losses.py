"""Losses at values known in closed form, at the ends of their domains, and what they refuse."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Context, Loss, ShapeError
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.layers import Linear
from nets.losses import (
    LOSSES,
    BCELoss,
    BCEWithLogitsLoss,
    CrossEntropyLoss,
    HuberLoss,
    L1Loss,
    MSELoss,
    NLLLoss,
    QuadraticCost,
    SummedBCELoss,
)
from nets.losses.reduction import DEPRECATED
from nets.optimizers import SGD
from nets.refusals import UnsupportedArgumentError
from tests.nets.refused import needs

TORCHS = [loss for loss in LOSSES if hasattr(torch.nn, loss.__name__)]
ONE = np.ones(())


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e300])
def test_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes(scale: float) -> None:
    value, backward = CrossEntropyLoss().forward(np.full((2, 4), scale), np.array([0, 3]))
    assert value == pytest.approx(math.log(4), rel=1e-15)
    np.testing.assert_allclose(backward(np.ones(()))[0], np.array([-0.75, 0.25, 0.25, 0.25]) / 2, rtol=1e-15)


def test_cross_entropy_takes_the_maximum_of_each_row() -> None:
    value, backward = CrossEntropyLoss().forward(np.array([[0.0, 0.0], [2000.0, 0.0]]), np.array([0, 0]))
    assert value == pytest.approx(math.log(2) / 2, rel=1e-15)
    assert np.isfinite(backward(np.ones(()))).all()


def test_losses_differ_by_their_reductions() -> None:
    p, t = np.array([[0.5, 0.25], [0.0, 1.0]]), np.array([[0.0, 0.25], [1.0, 1.0]])
    assert MSELoss().forward(p, t)[0] == 1.25 / 4
    assert QuadraticCost().forward(p, t)[0] == 1.25 / 4  # over 2 outputs, half a sum is their mean
    wide_p, wide_t = np.hstack([p, p])[:, :3], np.hstack([t, t])[:, :3]
    assert QuadraticCost().forward(wide_p, wide_t)[1](np.ones(())) == pytest.approx(
        1.5 * MSELoss().forward(wide_p, wide_t)[1](np.ones(()))
    )


def test_binary_cross_entropy_at_known_values() -> None:
    value, backward = BCELoss().forward(np.array([[0.5, 0.25]]), np.array([[1.0, 0.0]]))
    assert value == pytest.approx((math.log(2) - math.log(0.75)) / 2, rel=1e-15)
    assert backward(np.ones(()))[0].tolist() == pytest.approx([-1.0, 2 / 3])


@pytest.mark.parametrize("loss", TORCHS, ids=lambda loss: loss.__name__)
def test_arguments_are_torchs_but_for_the_deprecated(loss: type[Loss]) -> None:
    theirs = inspect.signature(getattr(torch.nn, loss.__name__)).parameters.values()
    wanted = [(p.name, p.default) for p in theirs if p.name not in DEPRECATED]
    assert [(spec.name, spec.default) for spec in fields(loss)] == wanted


@pytest.mark.parametrize("loss", TORCHS, ids=lambda loss: loss.__name__)
@pytest.mark.parametrize("name", DEPRECATED)
def test_deprecated_arguments_are_refused(loss: type[Loss], name: str) -> None:
    message = f"^{loss.__name__} does not support {name}: torch has replaced it by reduction$"
    with pytest.raises(UnsupportedArgumentError, match=message):
        loss(**{name: True})


@pytest.mark.parametrize("loss", TORCHS, ids=lambda loss: loss.__name__)
def test_another_reduction_is_refused(loss: type[Loss]) -> None:
    message = f"^{loss.__name__} needs reduction of 'mean', 'sum', 'none', got 'batchmean'$"
    with pytest.raises(ValueError, match=message):
        loss(reduction="batchmean")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(HuberLoss, delta=0.0), "a positive delta, got 0.0"),
        (partial(HuberLoss, delta=math.nan), "a positive delta, got nan"),
        (partial(CrossEntropyLoss, label_smoothing=1.5), "label_smoothing in [0, 1], got 1.5"),
        (partial(CrossEntropyLoss, label_smoothing=math.nan), "label_smoothing in [0, 1], got nan"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make: Callable[[], Loss], message: str) -> None:
    assert needs(ValueError, make) == message


@pytest.mark.parametrize(
    ("loss", "prediction", "target", "message"),
    [
        (CrossEntropyLoss(), np.ones((2, 3, 4)), np.zeros((2, 3), int), "targets of shape (2, 4), got (2, 3)"),
        (NLLLoss(), np.ones(3), np.zeros((), int), "predictions of shape (batch, classes), got (3,)"),
        (CrossEntropyLoss(np.ones(2)), np.ones((2, 3)), np.zeros(2, int), "weight of shape (3,), got (2,)"),
        (
            BCELoss(np.ones(3)),
            np.ones((3, 2)),
            np.ones((3, 2)),
            "weight that broadcasts to predictions of shape (3, 2), got (3,)",
        ),
        (
            BCEWithLogitsLoss(pos_weight=np.ones((1, 2))),
            np.ones(2),
            np.ones(2),
            "pos_weight that broadcasts to predictions of shape (2,), got (1, 2)",
        ),
        (SummedBCELoss(), np.ones((2, 1)), np.ones(2), "targets of shape (2, 1), got (2,)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(loss: Loss, prediction: Array, target: Array, message: str) -> None:
    assert needs(ShapeError, loss.forward, prediction, target) == message


@pytest.mark.parametrize(
    ("loss", "target", "message"),
    [
        (
            CrossEntropyLoss(),
            np.full((2, 3), 1 / 3),
            "classes as integers, got float64; probabilities of classes are not supported",
        ),
        (NLLLoss(), np.zeros(2, bool), "classes as integers, got bool"),
        (NLLLoss(ignore_index=7), np.array([7, 8]), "classes 0 to 2, got 8 to 8"),
        (CrossEntropyLoss(ignore_index=1), np.array([1, -100]), "classes 0 to 2, got -100 to -100"),
    ],
)
def test_what_is_no_class_is_refused(loss: Loss, target: Array, message: str) -> None:
    assert needs(ValueError, loss.forward, np.ones((2, 3)), target) == message


@pytest.mark.parametrize(
    ("reduction", "value", "gradient"), [("mean", 2.0, [0.5, -0.5]), ("sum", 4.0, [1, -1]), ("none", [1, 3], [1, -1])]
)
def test_reductions_at_known_values(reduction: str, value: Array, gradient: Array) -> None:
    loss = L1Loss(reduction=reduction)  # type: ignore[arg-type]
    found, backward = loss.forward(np.array([2.0, 0.0]), np.array([1.0, 3.0]))
    assert isinstance(found, np.ndarray)
    assert found.tolist() == value
    assert backward(np.ones_like(found)).tolist() == gradient


def test_huber_at_known_values() -> None:
    d = np.array([-3.0, -2.0, -0.5, 0.0, 2.0, 5.0])
    value, backward = HuberLoss("none", delta=2.0).forward(d, np.zeros(6))
    assert value.tolist() == [4.0, 2.0, 0.125, 0.0, 2.0, 8.0]
    assert backward(np.ones(6)).tolist() == [-2.0, -2.0, -0.5, 0.0, 2.0, 2.0]


def test_the_mean_of_nothing_is_nan_as_in_torch() -> None:
    for loss in (MSELoss(), L1Loss(), HuberLoss(), BCELoss(), BCEWithLogitsLoss()):
        assert np.isnan(loss.forward(np.ones((0, 3)), np.ones((0, 3)))[0])
    logits, target = np.ones((2, 3)), np.full(2, -100)
    for of_classes in (CrossEntropyLoss(), CrossEntropyLoss(np.arange(3.0), label_smoothing=0.1), NLLLoss()):
        value, backward = of_classes.forward(logits, target)
        assert np.isnan(value)
        assert not backward(ONE).any()
    assert NLLLoss(reduction="sum").forward(logits, target)[0] == 0


def test_class_weights_and_an_ignored_class_at_known_values() -> None:
    scores = -np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0], [64.0, 128.0, 256.0]])
    target = np.array([2, 0, 1])
    value, backward = NLLLoss(np.array([1, 5, 3]), ignore_index=1).forward(scores, target)  # integers are weights too
    assert value == (3 * 4 + 1 * 8) / 4
    assert backward(ONE).tolist() == [[0, 0, -0.75], [-0.25, 0, 0], [0, 0, 0]]


def test_smoothed_targets_of_equal_logits_cost_the_same() -> None:
    for smoothing in (0.0, 0.3, 1.0):
        value, backward = CrossEntropyLoss(label_smoothing=smoothing).forward(np.zeros((1, 4)), np.array([2]))
        assert value == pytest.approx(math.log(4), rel=1e-15)
        expected = (1 - smoothing) * np.array([[0.25, 0.25, -0.75, 0.25]])
        np.testing.assert_allclose(backward(ONE), expected, rtol=1e-14, atol=1e-16)


def test_classes_of_pixels_are_classes_of_rows() -> None:
    rng = np.random.default_rng(0)
    images, target = rng.standard_normal((2, 3, 4, 5)), rng.integers(0, 3, (2, 4, 5))
    rows = images.transpose(0, 2, 3, 1).reshape(-1, 3)
    value, backward = CrossEntropyLoss().forward(images, target)
    of_rows, backward_of_rows = CrossEntropyLoss().forward(rows, target.reshape(-1))
    assert value == of_rows
    assert np.array_equal(backward(ONE).transpose(0, 2, 3, 1).reshape(-1, 3), backward_of_rows(ONE))


def test_a_class_that_cannot_be_costs_nothing_unless_it_is_the_target() -> None:
    logits = np.array([[0.0, 0.0, -np.inf], [-np.inf, 0.0, 0.0]])
    value, backward = CrossEntropyLoss(reduction="none").forward(logits, np.array([1, -100]))
    assert value.tolist() == pytest.approx([math.log(2), 0])
    assert backward(np.ones(2)).tolist() == [[0.5, -0.5, 0], [0, 0, 0]]
    assert CrossEntropyLoss().forward(logits, np.array([2, 1]))[0] == np.inf


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_binary_cross_entropy_at_the_ends_is_torchs(dtype: Any) -> None:  # noqa: ANN401
    p = np.array([0, 0, 1, 1, 0, 1, 1e-30], dtype)
    t = np.array([0, 1, 0, 1, 0.5, 0.5, 1], dtype)
    value, backward = BCELoss(reduction="none").forward(p, t)
    leaf = torch.tensor(p, requires_grad=True)
    theirs = torch.nn.BCELoss(reduction="none")(leaf, torch.tensor(t))
    theirs.sum().backward()
    assert leaf.grad is not None
    np.testing.assert_allclose(value, theirs.detach().numpy(), rtol=2 * np.finfo(dtype).eps)
    np.testing.assert_allclose(backward(np.ones_like(value)), leaf.grad.numpy(), rtol=2 * np.finfo(dtype).eps)


def test_logits_keep_both_tails() -> None:
    z = np.array([-1000.0, -40.0, 40.0, 1000.0])
    tail = math.exp(-40)
    for t, losses, slopes in (
        (0.0, [0, tail, 40, 1000], [0, tail, 1, 1]),
        (1.0, [1000, 40, tail, 0], [-1, -1, -tail, 0]),
    ):
        value, backward = BCEWithLogitsLoss(reduction="none").forward(z, np.full(4, t))
        np.testing.assert_allclose(value, losses, rtol=1e-14)
        np.testing.assert_allclose(backward(np.ones(4)), slopes, rtol=1e-14)


def test_the_weight_of_positive_targets_is_theirs_alone() -> None:
    value, backward = BCEWithLogitsLoss(reduction="none", pos_weight=np.array(3.0)).forward(np.zeros(2), np.arange(2.0))
    assert value.tolist() == pytest.approx([math.log(2), 3 * math.log(2)])
    assert backward(np.ones(2)).tolist() == pytest.approx([0.5, -1.5])


def test_the_summed_loss_is_that_of_each_output_added_up() -> None:
    rng = np.random.default_rng(0)
    p, t = rng.uniform(0.1, 0.9, (4, 10)), np.eye(10)[rng.integers(0, 10, 4)]
    value, backward = SummedBCELoss().forward(p, t)
    assert value == pytest.approx(10 * BCELoss().forward(p, t)[0], rel=1e-14)
    # Behind a sigmoid, whose derivative is p (1 - p), the plain difference is left.
    np.testing.assert_allclose(backward(ONE) * p * (1 - p), (p - t) / 4, rtol=1e-13)


def test_whole_numbers_are_taken_as_numbers() -> None:
    value, backward = MSELoss().forward(np.array([1, 2, 4]), np.array([1, 1, 1]))
    assert value == 10 / 3
    np.testing.assert_allclose(backward(ONE), [0, 2 / 3, 2])
    assert BCELoss().forward(np.array([0.5]), np.array([True]))[0] == math.log(2)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_both_engines_train_with_a_weighted_loss(dtype: Any) -> None:  # noqa: ANN401
    rng = np.random.default_rng(0)
    model = Linear(rng.standard_normal((3, 4)), np.zeros(3)).astype(dtype)
    loss = CrossEntropyLoss(np.array([1.0, 3.0, 10.0]), label_smoothing=0.1)
    batch = rng.standard_normal((5, 4)).astype(dtype), np.array([0, 1, 2, -100, 2])
    ours, theirs = (
        engine(model.astype(dtype), loss, SGD()).step(*batch, 0.1, Context(training=True))
        for engine in (NumpyEngine, TorchEngine)
    )
    assert ours.loss.dtype == theirs.loss.dtype == dtype
    np.testing.assert_allclose(ours.loss, theirs.loss, rtol=10 * np.finfo(dtype).eps)


def test_an_absolute_error_of_nan_has_no_gradient_as_in_torch() -> None:
    value, backward = L1Loss(reduction="sum").forward(np.array([np.nan, 2.0]), np.zeros(2))
    assert np.isnan(value)
    np.testing.assert_array_equal(backward(np.ones(())), [0, 1])
