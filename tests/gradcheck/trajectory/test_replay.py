"""A step that failed, kept and taken again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import gradcheck
from gradcheck.contract import Array, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.traces import summarise_replay
from gradcheck.trajectory.check import Evaluation, check_trajectory
from gradcheck.trajectory.engine import Step
from gradcheck.trajectory.replay import Replay, ReplayError, load_replay, replay, save_replay
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights


def wrong(step: int, grad: Array) -> Array:
    return grad * (1 + 1e-9) if step >= 3 else grad


def failed(engine: Neuron, **settings: Any) -> Replay:  # noqa: ANN401  those of check_trajectory
    """Return the step at which an engine fails."""
    lock = check_trajectory(engine, Neuron(weights(), direction=-1), batches(5), **settings).lock_step
    assert lock.moment is not None
    assert lock.first_failure is not None
    return Replay(lock.moment, lock.first_failure, configuration={"preset": "neuron", "seeds": [1, 2]})


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    case = failed(Neuron(weights(), corrupt=wrong))
    save_replay(tmp_path / "case.safetensors", case)
    again = load_replay(tmp_path / "case.safetensors")
    assert (again.divergence, again.configuration) == (case.divergence, case.configuration)
    assert (again.factor, again.shadows) == (case.factor, case.shadows)
    for side in ("before", "ours", "theirs"):
        old, new = getattr(case.moment, side), getattr(again.moment, side)
        assert all(np.array_equal(old[name], new[name]) for name in old.keys() | new.keys())
    assert list(again.moment.theirs) == list(case.moment.theirs)
    assert again.moment.batch.x.tobytes() == case.moment.batch.x.tobytes()
    assert (again.moment.batch.lr, again.moment.allowed) == (case.moment.batch.lr, case.moment.allowed)
    assert (again.moment.context.key, again.moment.context.training) == (case.moment.context.key, True)
    save_replay(tmp_path / "twice.safetensors", again)
    assert (tmp_path / "twice.safetensors").read_bytes() == (tmp_path / "case.safetensors").read_bytes()


def test_a_fault_fails_again_and_once_mended_passes() -> None:
    case = failed(Neuron(weights(), corrupt=wrong))
    result = replay(case, Neuron(weights(seed=8), corrupt=wrong))
    assert (result.verdict, bool(result), result.reference_changed) == (Verdict.FAIL, False, None)
    now, then = result.divergence, case.divergence
    assert now is not None
    assert (now.step, now.phase, now.tensor, now.index, now.ours, now.theirs) == (
        (then.step, then.phase, then.tensor, then.index, then.ours, then.theirs)
    )
    assert (now.step, now.tensor) == (3, "0.weight")
    mended = replay(case, Neuron(weights()))
    assert (mended.verdict, bool(mended), mended.divergence) == (Verdict.PASS, True, None)


def test_a_reference_is_asked_for_its_bits() -> None:
    case = failed(Neuron(weights(), corrupt=wrong))
    assert replay(case, Neuron(weights()), Neuron(weights(), direction=-1)).reference_changed == ()
    changed = replay(case, Neuron(weights()), Neuron(weights(), direction=-1, corrupt=wrong)).reference_changed
    assert changed == ("backward/0.weight", "update/param/0.weight")


class Evaluated(Neuron):
    """A neuron that can be evaluated, and gives ``scale`` times the right output there."""

    scale = 1.0

    def evaluate(self, x: Array, context: Context) -> Array:
        products = (x * self.weight)[:, :: self.direction]
        return context.tapped("forward", "0.output", np.cumsum(products, axis=1)[:, -1] * self.scale)


class Inflated(Evaluated):
    """One that is wrong by one in a thousand."""

    scale = 1.001


def test_an_evaluation_is_taken_again() -> None:
    inputs = Evaluation(np.ones((3, 6)), every=2)
    lock = check_trajectory(
        Inflated(weights()), Evaluated(weights(), direction=-1), batches(2), evaluation=inputs
    ).lock_step
    assert lock.moment is not None
    assert lock.first_failure is not None
    case = Replay(lock.moment, lock.first_failure)
    result = replay(case, Inflated(weights()))
    assert result.divergence is not None
    assert (result.divergence.tensor, result.divergence.training) == ("0.output", False)
    assert replay(case, Evaluated(weights()), Evaluated(weights(), direction=-1)).reference_changed == ()


def test_an_engine_that_raises_now_fails() -> None:
    def raising(_: int, __: Array) -> Array:
        raise ZeroDivisionError("mended badly")

    case = failed(Neuron(weights(), corrupt=wrong))
    result = replay(case, Neuron(weights(), corrupt=raising))
    assert result.divergence is not None
    assert result.divergence.message == "raises ZeroDivisionError: mended badly"


def test_what_is_not_finite_is_kept(tmp_path: Path) -> None:
    case = failed(Neuron(weights(), corrupt=lambda _, grad: grad * np.nan))
    save_replay(tmp_path / "case.safetensors", case)
    again = load_replay(tmp_path / "case.safetensors")
    assert math.isnan(again.divergence.ours)
    assert again.divergence.ratio == math.inf


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Neuron(weights(4)), "needs param/0.weight to be float64 of shape (4,), got float64 of shape (6,)"),
        (Neuron(weights(dtype=np.float32)), "needs param/0.weight to be float32 of shape (6,), got float64"),
        (Neuron(weights(), tap="dense.output"), "the engine shows no forward/0.output, which was compared"),
    ],
)
def test_an_engine_of_another_network_is_refused(engine: Neuron, message: str) -> None:
    with pytest.raises(ReplayError) as caught:
        replay(failed(Neuron(weights(), corrupt=wrong)), engine)
    assert message in str(caught.value)


def retold(**told: Any) -> Callable[[dict[str, Any]], object]:  # noqa: ANN401  any JSON
    return lambda about: about.update(told)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (retold(format="other"), "is no saved step of mnistcheck train --fair"),
        (retold(version=9), "has version 9; version 1 can be read"),
        (lambda about: about.pop("lr"), "it lacks 'lr'"),
        (retold(lr=[]), "float() argument must be"),
        (retold(key=[0]), "not enough values to unpack"),
        (retold(order=["forward/outputs", "forward/9.output"]), "it lacks 'ours/forward/9.output'"),
        (retold(order=["data/x"]), "it lacks 'backward/0.weight'"),
        (retold(divergence={"phase": "data", "index": []}), "missing 8 required positional arguments"),
        (lambda about: about["divergence"].update(ours="much"), "could not convert string to float: 'much'"),
        (retold(shadows=10**9), "shadows 1000000000 are not those of one"),
        (retold(factor=0), "factor 0.0 and"),
        (retold(configuration=3), "'int' object is not iterable"),
    ],
)
def test_a_file_that_says_something_else_is_one_line(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = tmp_path / "case.safetensors"
    save_replay(path, failed(Neuron(weights(), corrupt=wrong)))
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  no dict
        about = json.loads(file.metadata()["replay"])
    change(about)
    save_file(arrays, path, {"replay": json.dumps(about)})
    with pytest.raises(ReplayError) as caught:
        load_replay(path)
    assert str(caught.value).startswith(f"{path} ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_none_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "case.safetensors"
    with pytest.raises(ReplayError, match=r"case.safetensors is missing"):
        load_replay(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ReplayError, match=r"case.safetensors is no safetensors file: "):
        load_replay(path)
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(ReplayError, match=r"case.safetensors is no saved step of mnistcheck train --fair"):
        load_replay(path)


def test_the_front_door_has_it(tmp_path: Path) -> None:
    save_replay(str(tmp_path / "case.safetensors"), failed(Neuron(weights(), corrupt=wrong)))
    case = load_replay(str(tmp_path / "case.safetensors"))
    assert gradcheck.replay(case, Neuron(weights()))


class Carries(Neuron):
    """Adds up the gradients of all its steps; no state shows what it has added up."""

    def __init__(self) -> None:
        super().__init__(weights())
        self.left = np.zeros(6)

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        self.corrupt = self.added  # of this copy
        return super().step(x, y, lr, context)

    def added(self, _: int, grad: Array) -> Array:
        self.left = self.left + grad
        return self.left


def test_what_is_carried_over_from_the_step_before_fails_again_and_once_mended_passes() -> None:
    case = failed(Carries())
    assert case.divergence.step == 1
    again = replay(case, Carries())
    assert (again.verdict, again.hidden) == (Verdict.FAIL, True)
    assert again.divergence is not None
    assert again.divergence.ours == case.divergence.ours
    mended = replay(case, Neuron(weights()))
    assert (mended.verdict, mended.hidden) == (Verdict.PASS, False)


def test_what_is_carried_over_from_further_back_is_no_pass() -> None:
    case = failed(Carries())
    alone = replay(Replay(replace(case.moment, earlier=None), case.divergence), Carries())
    assert (alone.verdict, alone.divergence, alone.hidden) == (Verdict.INCONCLUSIVE, None, True)
    told = summarise_replay(case, alone, "ours", "theirs")
    assert told.startswith("INCONCLUSIVE: step 1 does not fail now, but ours carries over what its state does not show")
