"""Faults planted in any engine: from their step on and not before, in copies too, and nothing without."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Array, Context, Key, Optimizer
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch, Engine, FaultyEngine, State, Step, observed
from gradcheck.trajectory.faults import (
    Fault,
    GradientMean,
    GradientScale,
    GradientStale,
    GradientTranspose,
    GradientZero,
    LabelShift,
    OutputCast,
    Planted,
)
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights

BEGIN = 3


def steps(engine: Engine, given: list[Batch]) -> Iterator[Step]:
    """Take steps and yield what each shows."""
    for index, batch in enumerate(given):
        yield observed(engine, batch, Context(training=True, key=Key(step=index)))


@pytest.mark.parametrize(
    ("fault", "phase", "tensor"),
    [
        (GradientScale("0.weight", 1.001, begin=BEGIN), "backward", "0.weight"),
        (GradientScale("0.weight", -1.0, begin=BEGIN), "backward", "0.weight"),
        (GradientZero("0.weight", (2,), begin=BEGIN), "backward", "0.weight"),
        (GradientMean("0.weight", begin=BEGIN), "backward", "0.weight"),
        (GradientStale("0.weight", begin=BEGIN), "backward", "0.weight"),
        (OutputCast("0", np.float32, begin=BEGIN), "forward", "0.output"),
    ],
    ids=repr,
)
def test_a_foreign_engine_makes_a_fault_from_its_step_on(fault: Fault, phase: str, tensor: str) -> None:
    report = check_trajectory(Neuron(weights()).planted(fault), Neuron(weights()), batches(8))
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (BEGIN, phase, tensor)
    assert report.lock_step.failed_steps == tuple(range(BEGIN, 8))


def test_a_foreign_engine_is_given_other_labels() -> None:
    given = [batch._replace(y=np.arange(2) % 3) for batch in batches(5)]
    engine = Neuron(weights()).planted(LabelShift(3, begin=BEGIN))
    found = check_trajectory(engine, Neuron(weights()), given).first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor, found.index) == (BEGIN, "data", "y", (0,))


def test_labels_are_shifted_as_indices_and_as_rows() -> None:
    batch = Batch(np.zeros((3, 2)), np.array([0, 3, 1]), 0.1)
    assert LabelShift(4).batch(0, batch).y.tolist() == [1, 0, 2]
    rows = LabelShift(4).batch(0, batch._replace(y=np.eye(4)[batch.y])).y
    assert rows.argmax(axis=1).tolist() == [1, 0, 2]


def test_a_matrix_is_transposed() -> None:
    grads = {"0.weight": np.arange(4.0).reshape(2, 2)}
    faulty = GradientTranspose("0.weight").gradients(0, grads, {}, 1)
    assert faulty["0.weight"].tolist() == [[0, 2], [1, 3]]
    assert grads["0.weight"].tolist() == [[0, 1], [2, 3]]


def test_a_planted_engine_leaves_the_one_it_was_made_of_alone() -> None:
    engine = Neuron(weights())
    planted = engine.planted(GradientScale("0.weight", 2.0))
    list(steps(planted, batches(3)))
    assert np.array_equal(engine.weight, weights())
    assert planted.state()["step"] == 3


def test_an_engine_with_no_fault_in_it_is_bitwise_the_engine() -> None:
    plain, planted = Neuron(weights()), Neuron(weights()).planted(Fault())
    for one, other in zip(steps(plain, batches(5)), steps(planted, batches(5)), strict=True):
        assert one.grads["0.weight"].tobytes() == other.grads["0.weight"].tobytes()
        assert one.updated["param/0.weight"].tobytes() == other.updated["param/0.weight"].tobytes()


def test_a_copy_is_planted_and_remembers_by_itself() -> None:
    planted = Neuron(weights()).planted(GradientStale("0.weight"))
    given = batches(3)
    seen = [step.grads["0.weight"].copy() for step in steps(planted, given[:2])]
    assert np.array_equal(seen[0], seen[1])  # at first there is none before, then there is the first
    other = copy.deepcopy(planted)
    context = Context(training=True, key=Key(step=2))
    state = planted.state()
    first = planted.step(*given[2], context).grads["0.weight"]
    planted.load(state)
    again = planted.step(*given[2], context).grads["0.weight"]
    assert np.array_equal(first, again)
    assert np.array_equal(first, other.step(*given[2], context).grads["0.weight"])
    assert not np.array_equal(first, seen[0])


def test_a_gradient_is_stale_only_after_a_step() -> None:
    plant = Planted(GradientStale("w"))
    grads = [{"w": np.array([float(step)])} for step in range(4)]
    assert plant.gradients(0, grads[0], 1)["w"] == 0
    assert plant.gradients(1, grads[1], 1)["w"] == 0
    assert plant.gradients(3, grads[3], 1)["w"] == 3  # step 2 was never taken


def test_an_evaluation_is_cast_too() -> None:
    class Evaluated(Neuron):
        def evaluate(self, x: Array, context: Context) -> Array:
            return context.tapped("forward", "0.output", (x * self.weight).sum(axis=1))

    planted = Evaluated(weights()).planted(OutputCast("0", np.float32, begin=1))
    x = batches(1)[0].x
    assert planted.evaluate(x, Context(key=Key(step=0))).dtype == np.float64
    assert planted.evaluate(x, Context(key=Key(step=1))).dtype == np.float32


def test_a_wrapped_engine_knows_its_kinks() -> None:
    start = weights()
    report = check_trajectory(
        Neuron(start, rectified=True).planted(Fault()), Neuron(start, rectified=True, direction=-1), batches(30)
    )
    assert report.verdict is Verdict.PASS
    assert isinstance(Neuron(start).planted(Fault()), FaultyEngine)


def test_a_fault_inside_an_update_is_refused_by_an_engine_that_cannot_make_it() -> None:
    class Frozen(Fault):
        inside = True

        def update(
            self, step: int, optimizer: Optimizer, params: dict[str, Array], grads: dict[str, Array], lr: float
        ) -> None:
            raise AssertionError("never called")

    with pytest.raises(ValueError, match="Neuron cannot make Frozen, a fault inside its update"):
        Neuron(weights()).planted(Frozen())


@pytest.mark.parametrize(
    ("fault", "diagnosis"),
    [
        (GradientMean("0.weight"), "0.weight's gradient is exactly 1/2 of the reference's; 2 is the batch size"),
        (GradientZero("0.weight", (2,)), "element [2] of 0.weight's gradient is zero; the other 5 elements agree"),
        (GradientStale("0.weight"), "0.weight's gradient is the reference's of the step before: it is stale"),
        (GradientScale("0.weight", 0.0), "0.weight's gradient is identically zero"),
        (OutputCast("0", np.float32), None),  # two samples could be two accidents
    ],
    ids=repr,
)
def test_a_foreign_engines_fault_is_named(fault: Fault, diagnosis: str | None) -> None:
    found = check_trajectory(Neuron(weights()).planted(fault), Neuron(weights()), batches(3)).first_divergence
    assert found is not None
    assert found.diagnosis == diagnosis


def test_another_shape_in_one_tensor_hinders_no_diagnosis_of_another() -> None:
    def halved(w: Array, grad: Array, lr: float) -> Array:
        return w - 0.5 * lr * grad

    class Wider(Neuron):
        def state(self) -> State:
            return super().state() | {"param/1.weight": np.zeros(1)}

    class Reshaped(Wider):
        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            step = super().step(x, y, lr, context)
            return replace(step, updated=step.updated | {"param/1.weight": np.zeros(2)})

    report = check_trajectory(Reshaped(weights(), dynamics=halved), Wider(weights()), batches(1))
    assert report.first_divergence is not None
    assert report.first_divergence.diagnosis == "the update of 0.weight is 1/2 times the reference's"


def test_a_foreign_gradient_of_another_shape_is_named() -> None:
    engine = Neuron(weights(), corrupt=lambda _, grad: grad[None], dynamics=lambda w, grad, lr: w - lr * grad[0])
    found = check_trajectory(engine, Neuron(weights()), batches(1)).first_divergence
    assert found is not None
    assert (found.message, found.diagnosis) == ("has shape (1, 6), the reference's (6,)", None)
