"""Embedding at known values, what it refuses, and training through it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gradcheck import check_layer
from gradcheck.contract import Array, Case, Context, Layer, Optimizer
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch, execution_order, observed
from gradcheck.trials import check_case, properties_of
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.initializers import Normal, ZeroRow, initialize
from nets.layers import BatchNorm1d, Embedding, Flatten, Linear, ReLU, Residual, Sequential
from nets.losses import CrossEntropyLoss
from nets.optimizers import SGD, Adam
from nets.refusals import UnsupportedArgumentError
from tests.long import later
from tests.nets.refused import needs

pytestmark = pytest.mark.rounding


def test_repeated_indices_add_up_and_the_padding_gets_nothing() -> None:
    weight = np.arange(8.0).reshape(4, 2)
    x = np.array([[2, 0, 2], [3, 2, 3]])
    y, backward = Embedding(weight, padding_idx=-1).forward(x)
    assert y.tolist() == [[[4, 5], [0, 1], [4, 5]], [[6, 7], [4, 5], [6, 7]]]
    dx, grads = backward(np.arange(12.0).reshape(2, 3, 2))
    assert grads["weight"].tolist() == [[2, 3], [0, 0], [0 + 4 + 8, 1 + 5 + 9], [0, 0]]
    assert (dx.shape, dx.any()) == (x.shape, False)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (5,)])
def test_indices_may_have_any_shape_and_any_type_of_integers(shape: tuple[int, ...], dtype: Any) -> None:  # noqa: ANN401
    y, backward = Embedding(np.ones((300, 3))).forward(np.full(shape, 255, dtype))
    assert y.shape == (*shape, 3)
    assert backward(np.ones(y.shape))[1]["weight"].sum() == y.size


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.array([0.0, 1.0]), "x of integers, got float64"),
        (np.array([True]), "x of integers, got bool"),
        (np.array([0, 4]), "indices of 0 to 3, got 4"),
        (np.array([[0, -1]]), "indices of 0 to 3, got -1"),
    ],
)
def test_what_is_no_index_is_refused(x: Array, message: str) -> None:
    assert needs(ValueError, Embedding.create(4, 2).forward, x) == message


@pytest.mark.parametrize("padding", [4, -5])
def test_a_padding_that_has_no_row_is_refused(padding: int) -> None:
    assert needs(ValueError, Embedding.create, 4, 2, padding) == f"padding_idx of -4 to 3, got {padding}"


@pytest.mark.parametrize(
    "argument", ["max_norm", "norm_type", "scale_grad_by_freq", "sparse", "_weight", "_freeze", "device", "dtype"]
)
def test_what_torch_has_besides_is_refused(argument: str) -> None:
    with pytest.raises(UnsupportedArgumentError, match=f"Embedding does not support {argument}: "):
        Embedding.create(4, 2, **{argument: 5})


def test_an_embedding_is_filled_as_torch_does() -> None:
    assert Embedding.create(4, 2).initial("weight") == Normal()
    assert Embedding.create(4, 2, -2).initial("weight") == ZeroRow(Normal(), -2)
    layer = Embedding.create(4, 2, -2)
    initialize(layer, np.random.default_rng(0))
    assert layer.weight.any(axis=1).tolist() == [True, True, False, True]


def network(dtype: type) -> Layer:
    rectified = Residual(Sequential((Linear.create(12, 12), ReLU())))
    model = Sequential((Embedding.create(7, 4, padding_idx=2), Flatten(), rectified, Linear.create(12, 3)))
    initialize(model, np.random.default_rng(0))
    return model.astype(dtype)


def sentences(count: int) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [Batch(rng.integers(0, 7, (5, 3)), rng.integers(0, 3, 5), 0.1) for _ in range(count)]


@pytest.mark.short(1)
@pytest.mark.parametrize("dtype", later([np.float64, np.float32], 1))
@pytest.mark.parametrize("optimizer", [SGD, lambda: SGD(momentum=0.9), Adam])
def test_a_network_of_indices_is_the_same_program(dtype: type, optimizer: Callable[[], Optimizer]) -> None:
    ours, theirs = (engine(network(dtype), CrossEntropyLoss(), optimizer()) for engine in (NumpyEngine, TorchEngine))
    before = ours.state()["param/0.weight"]
    report = check_trajectory(ours, theirs, sentences(8), sensitivity=False)
    assert report, report.first_divergence
    after = ours.state()["param/0.weight"]
    assert (before != after).any(axis=1).tolist() == [True, True, False, True, True, True, True]


def test_both_engines_show_the_same_of_a_network_of_indices() -> None:
    (batch,) = sentences(1)
    ours, theirs = (
        execution_order(observed(engine(network(np.float64), CrossEntropyLoss(), SGD()), batch, Context(True)))
        for engine in (NumpyEngine, TorchEngine)
    )
    ours_alone = {name for name in ours if name not in theirs and "/loss." not in name}
    assert ours_alone == {"backward/0.input"}  # zeros, as indices have no gradient
    assert set(theirs) <= set(ours)


def test_every_property_copes_with_a_chain_that_begins_with_indices() -> None:
    rng = np.random.default_rng(0)
    norm = BatchNorm1d.create(3).replace_arrays({"running_mean": rng.random(3), "running_var": rng.random(3)})
    chain = Sequential((Embedding(rng.standard_normal((5, 3)), 1), norm))
    for training in (True, False):
        for claim in properties_of(chain):
            outcome = check_case(Case(chain, (np.array([0, 1, 4, 4]),), training=training), claim)
            assert outcome is None or outcome.verdict is Verdict.PASS, (claim, outcome)


def test_the_front_door_takes_indices() -> None:
    report = check_layer(Embedding(np.random.default_rng(0).standard_normal((6, 2)), 0), np.array([[1, 2], [0, 1]]))
    assert report, str(report)
