"""Residuals at known values, and what is shown of them in training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gradcheck.contract import Array, Context, Key, Layer, Optimizer, ShapeError
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch, execution_order, observed
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.initializers import initialize
from nets.layers import BatchNorm1d, Dropout, Linear, ReLU, Residual, Sequential
from nets.layers.containers import kinks_along
from nets.losses import CrossEntropyLoss
from nets.optimizers import SGD, Adam
from tests.nets.refused import needs

pytestmark = pytest.mark.rounding


def test_the_branch_is_added_and_its_gradient_too() -> None:
    layer = Residual(Linear(np.array([[0.0, 2.0], [0.0, 0.0]]), np.array([10.0, 0.0])))
    y, backward = layer.forward(np.array([[1.0, 3.0]]))
    assert y.tolist() == [[17.0, 3.0]]
    dx, grads = backward(np.array([[1.0, 100.0]]))
    assert dx.tolist() == [[1.0, 102.0]]
    assert set(grads) == set(layer.parameters()) == {"branch.weight", "branch.bias"}


@pytest.mark.parametrize("outputs", [1, 3])
def test_a_branch_that_changes_the_shape_is_refused(outputs: int) -> None:
    told = needs(ShapeError, Residual(Linear.create(2, outputs)).forward, np.ones((4, 2)))
    assert told == f"a branch whose output has the shape (4, 2) of x, got (4, {outputs})"


def network(dtype: type) -> Layer:
    block = Sequential((Linear.create(6, 6), BatchNorm1d.create(6), ReLU(), Dropout(0.25)))
    nested = Residual(Sequential((Residual(block), ReLU())))
    model = Sequential((Linear.create(4, 6), nested, Residual(Linear.create(6, 6)), Linear.create(6, 3)))
    initialize(model, np.random.default_rng(0))
    return model.astype(dtype)


def batches(count: int, dtype: type) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [Batch(rng.standard_normal((5, 4)).astype(dtype), rng.integers(0, 3, 5), 0.1) for _ in range(count)]


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("optimizer", "dtype", "steps"), [(SGD, np.float64, 6), (Adam, np.float64, 20), (SGD, np.float32, 20)]
)
def test_residual_networks_are_the_same_program(optimizer: Callable[[], Optimizer], dtype: type, steps: int) -> None:
    ours, theirs = (engine(network(dtype), CrossEntropyLoss(), optimizer()) for engine in (NumpyEngine, TorchEngine))
    report = check_trajectory(ours, theirs, batches(steps, dtype), sensitivity=False)
    assert report, report.first_divergence
    # What the layer before adds everywhere the normalisation takes away: its gradient is nothing but rounding.
    uninformative = {name.rpartition("/")[2] for name in report.lock_step.uninformative}
    assert uninformative == {"1.branch.0.branch.0.bias"}


def test_both_engines_show_the_branch_under_the_same_names() -> None:
    (batch,) = batches(1, np.float64)
    ours, theirs = (
        observed(engine(network(np.float64), CrossEntropyLoss(), SGD()), batch, Context(training=True))
        for engine in (NumpyEngine, TorchEngine)
    )
    shown = set(execution_order(theirs))
    assert shown <= set(execution_order(ours))
    assert {"forward/2.branch.output", "backward/2.branch.input", "backward/2.input", "forward/2.output"} <= shown
    np.testing.assert_allclose(ours.taps["backward/2.branch.input"], theirs.taps["backward/2.branch.input"], rtol=1e-12)


def test_kinks_are_found_inside_a_branch() -> None:
    model, taps = network(np.float64), dict[str, Array]()
    (batch,) = batches(1, np.float64)

    def keep(name: str, array: Array) -> Array:
        taps[name] = array
        return array

    model.forward(batch.x, Context(True, Key(), keep))
    found = dict(kinks_along(model, batch.x, taps))
    assert set(found) == {"1.branch.0.branch.2", "1.branch.1"}
    before = taps["forward/1.branch.0.branch.1.output"]
    assert np.array_equal(found["1.branch.0.branch.2"].margin, np.abs(before))


def test_the_mode_and_a_key_of_its_own_reach_every_child() -> None:
    model, x = Residual(Sequential((Residual(Dropout(0.5)), Dropout(0.5)))), np.ones((8, 8))
    shown: dict[str, Array] = {}
    context = Context(training=True, tap=lambda name, array: shown.setdefault(name, array))
    model.forward(x, context)
    masks = [shown[f"forward/branch.{name}"] != 0 for name in ("0.branch.output", "1.output")]
    assert not np.array_equal(*masks)
    assert np.array_equal(model.forward(x)[0], 3 * x)
