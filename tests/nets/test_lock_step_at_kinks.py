"""A rectified network with pools in float32: kinks part every step, and faults are caught all the same.

Whether torch and NumPy round apart is the processor's affair, so here the first layer's outputs are moved by up to one
unit in the last place, each place by its own share, as another order of summation does it. Digits have a flat
background. On one side the pixels of a window there are tied; on the other they are not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from gradcheck.contract import EVALUATION, Array, Backward, Context, Gradients, Optimizer
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.faults import Fault, GradientScale
from gradcheck.trajectory.lockstep import LockStep, Taken
from nets.datasets.digits import load_digits
from nets.engines.numpy_engine import NumpyEngine
from nets.faults import CorrectionWithoutPower
from nets.layers import Conv2d, Sequential
from nets.presets import PRESETS
from nets.run import Run, prepare

pytestmark = pytest.mark.rounding

STEPS = 4

# That of the preset, with fewer channels.
NETWORK = (
    "Conv2d(1, 2, 3, padding=1), ReLU(), MaxPool2d(2), Conv2d(2, 16, 3, padding=1), ReLU(), MaxPool2d(2), "
    "Flatten(), Linear(784, 16), ReLU(), Linear(16, 10)"
)


def run_of(steps: int) -> Run:
    preset = dataclasses.replace(PRESETS["cnn"], network=NETWORK)
    return prepare(preset, load_digits(), train_size=40, test_size=20, batch_size=4, steps=steps, dtype="float32")


class InAnotherOrder(Conv2d):
    """A convolution that rounds otherwise."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        y, backward = super().forward(x, context)
        share = np.random.default_rng(0).uniform(-1, 1, y.shape[1:])
        return np.asarray(y * (1 + np.finfo(y.dtype).eps * share).astype(y.dtype)), backward


@dataclass(frozen=True)
class UpdateDropped(Fault):
    """Parameters that stay as they are, while their optimizer goes on."""

    inside: ClassVar[bool] = True

    def update(self, step: int, optimizer: Optimizer, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        optimizer.step(params, grads, lr if step < self.begin else 0.0)


@dataclass(frozen=True)
class Shifted(Fault):
    """The output of one layer, moved by a share of its largest element."""

    layer: str
    share: float

    def tap(self, context: Context, name: str, array: Array) -> Array:
        if context.key.step < self.begin or not context.training or name != f"forward/{self.layer}.output":
            return array
        return array + array.dtype.type(self.share) * np.abs(array).max()


def report_of(steps: int, fault: Fault | None = None) -> TrajectoryReport:
    run = run_of(steps)
    plain = run.numpy_engine()
    assert isinstance(plain.model, Sequential)
    first, *others = plain.model.layers
    assert isinstance(first, Conv2d)
    moved = InAnotherOrder(**{field.name: getattr(first, field.name) for field in dataclasses.fields(first)})
    engine = NumpyEngine(Sequential((moved, *others)), plain.loss, plain.optimizer)
    return check_trajectory(
        engine.planted(fault or Fault()),
        run.torch_engine(),
        run.batches(),
        seed=run.seed,
        opinion=run.torch_engine(np.dtype(np.float64)),
        sensitivity=False,
    )


def test_a_right_network_passes_though_kinks_part_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    parted: list[int] = []
    agree = LockStep._agree

    def counted(self: LockStep, trial: Taken) -> None:
        parted.append(trial.context.key.step)
        agree(self, trial)

    monkeypatch.setattr(LockStep, "_agree", counted)
    report = report_of(STEPS)
    assert report.verdict is Verdict.PASS
    assert report.lock_step.uninformative == ()
    assert sorted({*parted}) == list(range(STEPS))
    assert {crossing.step for crossing in report.lock_step.crossings} == {*range(STEPS)}
    assert report.lock_step.ratios.max() <= 1


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("fault", "place", "diagnosis"),
    [
        pytest.param(
            GradientScale("9.bias", 2.0),
            (0, "backward", "9.bias"),
            "gradient is exactly 2 times the reference's",
            marks=pytest.mark.long,
        ),
        (GradientScale("0.weight", 2.0, begin=1), (1, "backward", "0.weight"), "gradient is exactly 2 times"),
        pytest.param(
            CorrectionWithoutPower(),
            (1, "update", "param/0.weight"),
            "bias correction for t = 1, where t is 2",
            marks=pytest.mark.long,
        ),
        (UpdateDropped(begin=3), (3, "update", "param/0.weight"), "is what it was before the step"),
    ],
    ids=repr,
)
def test_a_fault_after_a_crossed_kink_is_caught_and_named(
    fault: Fault, place: tuple[int, str, str], diagnosis: str
) -> None:
    found = report_of(place[0] + 1, fault).first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == place
    assert found.diagnosis is not None
    assert diagnosis in found.diagnosis


# The second layer has few units, of which none is near its kink; a tenth carries some across.
@pytest.mark.long
@pytest.mark.parametrize(("layer", "share"), [("0", 1e-3), pytest.param("7", 0.1, marks=pytest.mark.long)])
def test_a_crossing_that_rounding_does_not_explain_fails(layer: str, share: float) -> None:
    report = report_of(2, Shifted(begin=1, layer=layer, share=share))
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (1, "forward", f"{layer}.output")
    assert not all(crossing.explained for crossing in report.lock_step.crossings)
