"""Evaluations beside the steps: compared where they are asked for, and without a trace."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.contract import Array, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import TrajectoryMismatch, check_trajectory
from gradcheck.trajectory.check import Evaluation, check_evaluation
from gradcheck.trajectory.engine import Engine
from gradcheck.trajectory.faults import Fault
from tests.gradcheck.trajectory.neuron import Evaluated, Neuron, WrongInEvaluation, batches, weights

X = batches(1, seed=9)[0].x


@pytest.mark.parametrize(
    ("engine", "reference"),
    [(Neuron, Evaluated), (Evaluated, Neuron), (Neuron, Neuron)],
)
def test_an_engine_that_cannot_be_evaluated_is_refused_in_one_line(
    engine: type[Neuron], reference: type[Neuron]
) -> None:
    line = r"^an evaluation needs engines with evaluate\(x, context\), got Neuron without$"
    with pytest.raises(ValueError, match=line):
        check_trajectory(
            engine(weights()), reference(weights()), batches(1), evaluation=Evaluation(X), sensitivity=False
        )


def test_all_that_cannot_be_evaluated_are_named() -> None:
    class Other(Neuron):
        pass

    with pytest.raises(ValueError, match="got Neuron and Other without"):
        check_trajectory(Neuron(weights()), Other(weights()), batches(1), evaluation=Evaluation(X), sensitivity=False)


def test_an_evaluation_says_so_of_an_engine_that_hides_another() -> None:
    wrapped = Neuron(weights()).planted(Fault())
    report = check_trajectory(wrapped, Evaluated(weights()), batches(1), evaluation=Evaluation(X), sensitivity=False)
    with pytest.raises(TrajectoryMismatch, match=r"Neuron\s+has\s+no\s+evaluate\(x,\s+context\),\s+so\s+evaluation"):
        report.raise_if_failed()


@pytest.mark.parametrize("every", [0, -1])
def test_an_evaluation_before_no_step_is_refused(every: int) -> None:
    with pytest.raises(ValueError, match=f"^Evaluation needs every of at least 1, got {every}$"):
        Evaluation(X, every)


@pytest.mark.parametrize(("every", "steps"), [(1, range(10)), (4, (0, 4, 8)), (100, (0,))])
def test_evaluations_come_before_every_so_many_steps(every: int, steps: tuple[int, ...]) -> None:
    reference = Evaluated(weights(), direction=-1)
    report = check_trajectory(
        Evaluated(weights()), reference, batches(10), evaluation=Evaluation(X, every), sensitivity=False
    )
    assert report
    assert report.lock_step.evaluations_compared == len(steps)
    assert report.lock_step.steps_compared == 10
    assert reference.evaluations == tuple(steps)


def test_evaluations_are_compared_at_steps_that_are_not() -> None:
    planted = Evaluated(weights()).planted(WrongInEvaluation(begin=3))
    report = check_trajectory(
        planted, Evaluated(weights()), batches(10), every=100, evaluation=Evaluation(X, 2), sensitivity=False
    )
    assert report.lock_step.failed_steps == (4, 6, 8)


@pytest.mark.parametrize("begin", [0, 5])
def test_a_fault_in_evaluation_is_found_at_its_step_and_said_to_be_one(begin: int) -> None:
    planted = Evaluated(weights()).planted(WrongInEvaluation(begin=begin))
    report = check_trajectory(
        planted, Evaluated(weights()), batches(10), evaluation=Evaluation(X, 3), sensitivity=False
    )
    found = report.first_divergence
    assert report.verdict is Verdict.FAIL
    assert found is not None
    assert (found.step, found.phase, found.tensor, found.training) == (-(-begin // 3) * 3, "forward", "0.output", False)
    assert found.ours == 2 * found.theirs
    with pytest.raises(TrajectoryMismatch, match="in evaluation"):
        report.raise_if_failed()
    again = Evaluated(weights()).planted(WrongInEvaluation(begin=begin))
    assert check_trajectory(
        again, Evaluated(weights()), batches(10), sensitivity=False
    )  # in training there is nothing wrong


def test_an_evaluation_that_raises_is_a_failure_of_the_evaluation() -> None:
    class Broken(Evaluated):
        def evaluate(self, x: Array, context: Context) -> Array:
            if context.key.step == 4:
                raise ZeroDivisionError("no")
            return super().evaluate(x, context)

    report = check_trajectory(
        Broken(weights()), Evaluated(weights()), batches(6), evaluation=Evaluation(X, 2), sensitivity=False
    )
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.training, found.message) == (4, False, "raises ZeroDivisionError: no")
    assert report.lock_step.steps_compared == 6


def test_an_evaluation_changes_nothing_bitwise() -> None:
    states = []
    for evaluation in (None, Evaluation(X, 1)):
        engines: tuple[Engine, Engine] = Evaluated(weights()), Evaluated(weights(), direction=-1)
        assert check_trajectory(*engines, batches(10), evaluation=evaluation, sensitivity=False)
        states.append([{key: array.tobytes() for key, array in one.state().items()} for one in engines])
    assert states[0] == states[1]


def test_an_evaluation_that_trains_is_caught() -> None:
    class Learning(Evaluated):
        def evaluate(self, x: Array, context: Context) -> Array:
            outputs = super().evaluate(x, context)
            self.weight = self.weight * (1 + 1e-6)
            return outputs

    report = check_trajectory(
        Evaluated(weights()), Learning(weights()), batches(6), evaluation=Evaluation(X, 2), sensitivity=False
    )
    assert report.lock_step.failed_steps[0] == 0


def test_two_orders_of_one_sum_evaluate_alike() -> None:
    ours, theirs = Evaluated(weights()), Evaluated(weights(), direction=-1)
    report = check_evaluation(ours, theirs, X)
    assert report
    assert 0 < report.noise <= 8
    assert report.first_divergence is None


def test_the_engine_evaluates_in_the_references_state_and_neither_is_changed() -> None:
    ours, theirs = Evaluated(weights(seed=1)), Evaluated(weights(seed=2))
    before = [engine.state() for engine in (ours, theirs)]
    assert check_evaluation(ours, theirs, X)
    for engine, state in zip((ours, theirs), before, strict=True):
        assert {key: array.tolist() for key, array in engine.state().items()} == {
            key: array.tolist() for key, array in state.items()
        }


def test_an_evaluation_that_is_wrong_fails_and_is_located() -> None:
    report = check_evaluation(Evaluated(weights()).planted(WrongInEvaluation()), Evaluated(weights()), X)
    assert report.verdict is Verdict.FAIL
    found = report.first_divergence
    assert found is not None
    assert (found.phase, found.tensor) == ("forward", "0.output")
    assert found.ours == 2 * found.theirs


def test_outputs_that_are_nothing_but_rounding_tell_nothing() -> None:
    size = X.shape[1]
    cancelling = Evaluated(np.full(size, 1 / 3) * np.array([1, -1] * (size // 2)))
    report = check_evaluation(cancelling, cancelling, np.ones((2, size)))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert not report
