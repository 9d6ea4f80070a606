"""Normalisations at known values, and their running statistics over many calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Case, Context, Layer, ShapeError
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.behaviour import gradients_of_samples_do_not_mix
from gradcheck.trials import check_case, properties_of
from nets.layers import BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, Residual, Sequential
from nets.refusals import UnsupportedArgumentError
from nets.weights import to_torch
from tests.nets.refused import needs

pytestmark = pytest.mark.rounding

TRAINING = Context(training=True)


@pytest.mark.parametrize("momentum", [0.1, 1.0, None])
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"), [(BatchNorm1d, (5, 3)), (BatchNorm1d, (4, 3, 2)), (BatchNorm2d, (2, 3, 4, 5))]
)
def test_running_statistics_are_torchs_after_training_and_evaluation_in_turns(
    kind: type[BatchNorm1d], shape: tuple[int, ...], momentum: float | None, tracked: bool
) -> None:
    layer, rng = kind.create(3, momentum=momentum, track_running_stats=tracked), np.random.default_rng(0)
    module = layer.twin().double()
    to_torch(layer, module)
    for step in range(50):
        x, training = rng.normal(3, 2, shape), step % 3 != 2
        updates: dict[str, Array] = {}
        y, _ = layer.forward(x, Context(training=training, updates=updates))
        theirs = module.train(training)(torch.tensor(x)).detach().numpy()
        assert set(updates) == (set(layer.buffers()) if training else set())
        layer = layer.replace_arrays(updates)
        # Sums of some tens of numbers of size 1 to 10, 50 times over.
        np.testing.assert_allclose(y, theirs, rtol=0, atol=1e-13)
        for name, tensor in module.named_buffers():
            np.testing.assert_allclose(layer.buffers()[name], tensor.numpy(), rtol=1e-13)
    assert len(layer.buffers()) == len(list(module.buffers())) == (3 if tracked else 0)
    assert layer.num_batches_tracked is None or layer.num_batches_tracked == 34


def test_a_normalised_batch_has_mean_zero_and_variance_one() -> None:
    x = np.random.default_rng(0).normal(7, 3, (50, 2, 4, 4))
    y, _ = BatchNorm2d.create(2).forward(x, TRAINING)
    np.testing.assert_allclose(y.mean(axis=(0, 2, 3)), 0, atol=1e-14)
    np.testing.assert_allclose(
        y.var(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)) / (x.var(axis=(0, 2, 3)) + 1e-5), rtol=1e-13
    )


def test_without_running_statistics_evaluation_is_as_training() -> None:
    x, layer = np.random.default_rng(0).normal(7, 3, (5, 2)), BatchNorm1d.create(2, track_running_stats=False)
    assert layer.forward(x)[0].tobytes() == layer.forward(x, TRAINING)[0].tobytes()


def test_samples_that_are_refused_alone_are_not_asked_whether_they_mix() -> None:
    equal = Case(BatchNorm1d.create(1), (np.ones((2, 1)),), training=True)  # its output is the bias, of any sample
    assert gradients_of_samples_do_not_mix(equal) is None


def test_samples_that_a_weight_of_zero_hides_are_not_asked_whether_they_mix() -> None:
    layer = BatchNorm1d.create(1).replace_arrays({"weight": np.zeros(1)})
    x = np.random.default_rng(0).standard_normal((2, 1, 3))
    assert gradients_of_samples_do_not_mix(Case(layer, (x,), training=True)) is None


@pytest.mark.parametrize("wrap", [lambda layer: Sequential((layer,)), Residual], ids=["Sequential", "Residual"])
def test_the_mode_reaches_every_child(wrap: Callable[[Layer], Layer]) -> None:
    x, updates = np.arange(6.0).reshape(3, 2), dict[str, Array]()
    model: Layer = BatchNorm1d.create(2)
    for _ in range(2):
        model = Sequential((Residual(wrap(model)),))
    trained, _ = model.forward(x, Context(training=True, updates=updates))
    evaluated, _ = model.forward(x)
    assert not np.allclose(trained, evaluated)
    assert set(updates) == set(model.buffers())


def test_layer_norm_at_known_values() -> None:
    x = np.array([[[1.0, 3.0], [5.0, 7.0]]])
    y, _ = replace(LayerNorm.create(2, eps=3.0), bias=np.array([0.0, 0.25])).forward(x)
    assert y.tolist() == [[[-0.5, 0.75], [-0.5, 0.75]]]  # deviations of 1 over sqrt(1 + 3)
    y, _ = LayerNorm.create((2, 2), eps=11.0, elementwise_affine=False).forward(x)
    assert y.tolist() == [[[-0.75, -0.25], [0.25, 0.75]]]  # deviations of 3 and 1 over sqrt(5 + 11)


def test_group_norm_takes_neighbouring_channels_together() -> None:
    x = np.array([[1.0, 3.0, 10.0, 10.0]])
    assert GroupNorm.create(2, 4, eps=3.0).forward(x)[0].tolist() == [[-0.5, 0.5, 0.0, 0.0]]


def test_group_norm_of_one_group_is_layer_norm_and_of_single_channels_that_of_each_image() -> None:
    x = np.random.default_rng(0).normal(7, 3, (2, 4, 3, 5))
    plain = LayerNorm.create((4, 3, 5), elementwise_affine=False)
    np.testing.assert_allclose(GroupNorm.create(1, 4).forward(x)[0], plain.forward(x)[0], rtol=0, atol=1e-14)
    image = LayerNorm.create((3, 5), elementwise_affine=False)
    np.testing.assert_allclose(GroupNorm.create(4, 4).forward(x)[0], image.forward(x)[0], rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("layer", "names"),
    [
        (LayerNorm.create(3), {"weight", "bias"}),
        (LayerNorm.create(3, bias=False), {"weight"}),
        (LayerNorm.create((2, 3), elementwise_affine=False), set()),
        (GroupNorm.create(2, 4), {"weight", "bias"}),
        (GroupNorm.create(2, 4, bias=False), {"weight"}),
        (GroupNorm.create(2, 4, affine=False), set()),
        (BatchNorm1d.create(3, bias=False), {"weight"}),
        (BatchNorm2d.create(3, affine=False, track_running_stats=False), set()),
    ],
)
def test_a_new_layer_has_torchs_parameters_and_their_initial_values(layer: Layer, names: set[str]) -> None:
    theirs = layer.twin().state_dict()
    own = layer.parameters() | layer.buffers()
    assert set(layer.parameters()) == names
    assert {name: array.tolist() for name, array in own.items()} == {name: t.tolist() for name, t in theirs.items()}


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (BatchNorm1d.create(3), (4, 2), "x of shape (batch, 3), got (4, 2)"),
        (BatchNorm1d.create(3), (4, 2, 5), "x of shape (batch, 3, length), got (4, 2, 5)"),
        (BatchNorm1d.create(3), (4, 3, 5, 5), "x of shape (batch, 3), got (4, 3, 5, 5)"),
        (BatchNorm2d.create(3), (4, 3), "x of shape (batch, 3, height, width), got (4, 3)"),
        (BatchNorm1d.create(3), (1, 3), "x of more than one value per channel in training, got (1, 3)"),
        (
            BatchNorm2d.create(2, track_running_stats=False),
            (1, 2, 1, 1),
            "x of more than one value per channel, got (1, 2, 1, 1)",
        ),
        (LayerNorm.create((2, 3)), (4, 3, 3), "x of shape (..., 2, 3), got (4, 3, 3)"),
        (LayerNorm.create(3), (4, 2), "x of shape (..., 3), got (4, 2)"),
        (GroupNorm.create(2, 4), (2, 3), "x of shape (batch, 4, ...), got (2, 3)"),
        (GroupNorm.create(2, 4), (4,), "x of shape (batch, 4, ...), got (4,)"),
        (GroupNorm.create(4, 4), (1, 4, 1), "x of more than one value per group, got (1, 4, 1)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    assert needs(ShapeError, layer.forward, np.ones(shape), TRAINING) == message


TWO, COUNT = np.ones(2), np.zeros((), np.int64)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(BatchNorm2d, None, TWO, TWO, TWO, COUNT), "a weight beside its bias, got None"),
        (partial(BatchNorm1d, TWO, np.ones(3), TWO, TWO, COUNT), "bias of shape (2,), got (3,)"),
        (partial(BatchNorm1d, TWO, TWO, TWO, np.ones(3), COUNT), "running_var of shape (2,), got (3,)"),
        (
            partial(BatchNorm1d, TWO, TWO, TWO, TWO, None),
            "running_mean, running_var and num_batches_tracked, or none of them",
        ),
        (partial(BatchNorm1d, *(None,) * 5), "num_features of at least 1, got 0"),
        (partial(LayerNorm, None, TWO), "normalized_shape of one axis or more, of at least 1 each, got ()"),
        (partial(LayerNorm, None, TWO, 1e-5, (2,)), "a weight beside its bias, got None"),
        (partial(LayerNorm, TWO, None, 1e-5, (3,)), "weight of shape (3,), got (2,)"),
        (partial(LayerNorm.create, (2, 0)), "normalized_shape of one axis or more, of at least 1 each, got (2, 0)"),
        (partial(GroupNorm.create, 3, 4), "num_groups that divide its 4 channels, got 3"),
        (partial(GroupNorm.create, 0, 4), "num_groups that divide its 4 channels, got 0"),
        (partial(GroupNorm, TWO, None, 2, 4), "weight of shape (4,), got (2,)"),
    ],
)
def test_hyper_parameters_that_do_not_fit_are_refused(make: Callable[[], Layer], message: str) -> None:
    assert needs(ValueError, make) == message


@pytest.mark.parametrize(
    "create",
    [
        lambda: BatchNorm2d.create(2, dtype=np.float32),  # type: ignore[call-arg]
        lambda: LayerNorm.create(2, dtype=np.float32),  # type: ignore[call-arg]
        lambda: GroupNorm.create(1, 2, dtype=np.float32),  # type: ignore[call-arg]
    ],
)
def test_arrays_are_made_in_float64(create: Callable[[], Layer]) -> None:
    with pytest.raises(UnsupportedArgumentError, match="does not support dtype: it is made in float64"):
        create()


@pytest.mark.parametrize("shape", [(4, 2, 28, 28), (32, 2, 28, 28)], ids=str)
def test_batch_statistics_of_many_pixels_agree_with_torch(shape: tuple[int, ...]) -> None:
    # Of one sign, so that torch's sums drift by many units in the last place.
    x = np.abs(np.random.default_rng(0).standard_normal(shape)) * 8
    claims = {"forward_agrees_with_twin", "buffers_agree_with_twin", "gradients_agree_with_twin"}
    layer = BatchNorm2d.create(2)
    for claim in properties_of(layer):
        if claim.__name__ in claims:
            outcome = check_case(Case(layer, (x,), training=True), claim)
            assert outcome is not None
            assert outcome.verdict is Verdict.PASS, outcome
