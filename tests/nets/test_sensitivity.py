"""What a network's run says that it would have caught, it catches."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.check import Evaluation
from gradcheck.trajectory.engine import Batch, Engine
from gradcheck.trajectory.faults import Fault, GradientScale
from gradcheck.trajectory.sensitivity import SmallestFault
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.faults import DropoutInEvaluation, MomentumLost
from nets.initializers import initialize
from nets.layers import Dropout, Flatten, Linear, Sequential, Sigmoid
from nets.losses import CrossEntropyLoss
from nets.optimizers import SGD
from tests.long import later
from tests.nets.states import bits

pytestmark = pytest.mark.rounding

DTYPES = [np.float64, np.float32]
DROPOUT = Dropout(0.25)
TENSORS = ["1.weight", "1.bias", "4.weight", "4.bias"]


def engines(dtype: type, start: int = 0) -> tuple[NumpyEngine, TorchEngine]:
    model = Sequential((Flatten(), Linear.create(20, 8), Sigmoid(), DROPOUT, Linear.create(8, 3)))
    initialize(model, np.random.default_rng(start))
    model = model.astype(dtype)
    rule = [SGD(momentum=0.9) for _ in range(2)]
    return NumpyEngine(model, CrossEntropyLoss(), rule[0]), TorchEngine(model, CrossEntropyLoss(), rule[1])


def batches(dtype: type) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [Batch(rng.random((4, 4, 5)).astype(dtype), rng.integers(0, 3, 4), 0.1) for _ in range(3)]


@functools.cache
def passed(dtype: type, evaluated: bool) -> tuple[TrajectoryReport, list[dict[str, bytes]]]:
    """Prove a right network right; return the report, and what both sides hold after it."""
    faults = {"dropout": DropoutInEvaluation({"3": DROPOUT}), "momentum": MomentumLost(), "nothing": Fault()}
    pair = engines(dtype)
    report = check_trajectory(*pair, batches(dtype), evaluation=evaluation_of(dtype, evaluated), faults=faults)
    return report, states_of(*pair)


def evaluation_of(dtype: type, evaluated: bool) -> Evaluation | None:
    return Evaluation(batches(dtype)[0].x, every=2) if evaluated else None


def states_of(*pair: Engine) -> list[dict[str, bytes]]:
    return [bits(one.state()) for one in pair]


def smallest_of(dtype: type, tensor: str) -> SmallestFault:
    found = passed(dtype, True)[0].sensitivity
    assert found is not None
    assert [*found.by_tensor] == TENSORS
    one = found.by_tensor[tensor]
    assert one is not None
    return one


def with_fault(fault: GradientScale, dtype: type, seed: int = 0, start: int = 0) -> TrajectoryReport:
    """Compare a wrong network with a right one."""
    ours, theirs = engines(dtype, start)
    given = batches(dtype)
    evaluation = evaluation_of(dtype, True)
    return check_trajectory(ours.planted(fault), theirs, given, evaluation=evaluation, seed=seed, sensitivity=False)


@pytest.mark.short(1)
@pytest.mark.short(2)
@pytest.mark.parametrize("dtype", later(DTYPES, 1))
@pytest.mark.parametrize("tensor", TENSORS)
def test_the_size_that_is_reported_fails_this_very_run_in_the_step_that_is_named(dtype: type, tensor: str) -> None:
    one = smallest_of(dtype, tensor)
    assert np.finfo(dtype).eps < one.size < 1e4 * np.finfo(dtype).eps
    report = with_fault(GradientScale(tensor, 1 + one.size, begin=one.step), dtype)
    assert report.lock_step.first_failure is not None
    assert report.lock_step.first_failure.step == one.step
    # Whether a gradient or, through it, its update is told first is a matter of the last place.
    assert report.lock_step.first_failure.tensor.endswith(tensor)


@pytest.mark.parametrize("dtype", later(DTYPES, 1))
@pytest.mark.parametrize(
    ("seed", "start", "tensor"),
    [
        pytest.param(2, 1, tensor, marks=() if tensor == "4.bias" else pytest.mark.long)  # other weights and shadows
        for tensor in TENSORS
    ],
)
def test_the_size_that_is_reported_is_caught_in_another_run_and_a_hundredth_of_it_is_not(
    dtype: type, tensor: str, seed: int, start: int
) -> None:
    one = smallest_of(dtype, tensor)
    assert with_fault(GradientScale(tensor, 1 + one.size), dtype, seed, start).lock_step.failed_steps
    assert with_fault(GradientScale(tensor, 1 + one.size / 100), dtype, seed, start).verdict is Verdict.PASS


@pytest.mark.parametrize(("dtype", "evaluated"), later([(np.float64, True), (np.float32, False)], 1))
def test_dropout_left_on_is_caught_only_where_something_is_evaluated(dtype: type, evaluated: bool) -> None:
    found = passed(dtype, evaluated)[0].sensitivity
    assert found is not None
    assert "momentum" in found.caught
    assert found.missed == (("nothing",) if evaluated else ("dropout", "nothing"))
    assert ("dropout" in found.caught) == evaluated


def test_planting_leaves_both_engines_as_they_are_bitwise() -> None:
    pair = engines(np.float64)
    evaluation = evaluation_of(np.float64, True)
    assert check_trajectory(*pair, batches(np.float64), evaluation=evaluation, sensitivity=False)
    assert states_of(*pair) == passed(np.float64, True)[1]
