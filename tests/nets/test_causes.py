"""Why a step is wrong: right steps of three networks, each made wrong in one tensor and in one way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from gradcheck.contract import Array, Context
from gradcheck.trajectory.causes import diagnose_step, explained
from gradcheck.trajectory.divergence import Moment, unlike
from nets.datasets.digits import load_digits
from nets.injection import parse_fault
from nets.optimizers import SGD, Adam
from nets.presets import PRESETS, Preset
from nets.run import prepare
from nets.training import train_fair

Corrupt = Callable[[Moment, Array], Array]
Given = dict[str, Moment]

# The optimizers that are not the presets' own.
DECAYED = replace(PRESETS["fair"], name="decayed", optimizer=SGD(weight_decay=0.1), batch_size=8)
PLAIN = replace(PRESETS["fair"], name="plain", batch_size=16)
SLOW = replace(PRESETS["nnmnist"], name="slow", optimizer=Adam(betas=(0.8, 0.99)))
NETWORKS: list[Preset] = [
    *(PRESETS[name] for name in ("nielsen", "regularised", "nnmnist")), DECAYED, PLAIN, SLOW,
]  # fmt: skip
STEP = 4


class Moments(dict[str, Moment]):
    """The fifth steps of some networks, as the reference took them: ours are made the same."""

    def __missing__(self, name: str) -> Moment:
        (preset,) = (one for one in NETWORKS if one.name == name)
        run = prepare(preset, load_digits(), steps=STEP + 1, train_size=200, test_size=20)
        weight = next(iter(run.numpy_engine().params))
        fault = parse_fault(f"grad-scale:{weight}:2@{STEP}", run)
        report = train_fair(run, fault=fault, sensitivity=False).report
        assert report is not None
        moment = report.lock_step.moment
        assert moment is not None
        self[name] = replace(moment, ours={name: array.copy() for name, array in moment.theirs.items()})
        return self[name]


@pytest.fixture(scope="module")
def moments() -> Given:
    """Return what makes each network's step when it is first asked for."""
    return Moments()


def told(moment: Moment, name: str, ours: Array, training: bool = True) -> str | None:
    """Return what is said of a step in which one tensor of ours is another."""
    context = moment.context if training else Context(key=moment.context.key)
    wrong = replace(moment, ours=moment.ours | {name: ours}, context=context)
    return explained(unlike(STEP, name, ""), wrong)


def after(moment: Moment, tensor: str, factor: float) -> Array:
    """Return a tensor moved by a multiple of how far the reference moved it."""
    before = moment.before[tensor]
    return before + factor * (moment.theirs[f"update/{tensor}"] - before)


def moved_by_adam(moment: Moment, t: float, betas: tuple[float, float] = (0.9, 0.999)) -> Array:
    """Return the first weight after a move of Adam with the bias correction of ``t``."""
    mean, square = (moment.theirs[f"update/optim/{slot}/0.weight"] for slot in ("exp_avg", "exp_avg_sq"))
    first, second = (1 - beta**t for beta in betas)
    return moment.before["param/0.weight"] - moment.batch.lr * (mean / first) / (np.sqrt(square / second) + 1e-8)


DECAY, FAST = "0.weight's update is off by a multiple of the parameter: ", "0.weight's velocity (momentum_buffer) "
WEIGHT, VELOCITY = "update/param/0.weight", "update/optim/momentum_buffer/0.weight"

# What is said, of which network and tensor, and what is made of the step and of what is right.
TOLD: dict[str, tuple[str, str, Corrupt]] = {
    "the samples are the reference's, moved along the batch by 1 forwards": (
        "plain", "data/x", lambda _, right: np.roll(right, 1, axis=0)),
    "the samples are the reference's in another order": ("plain", "data/x", lambda _, right: right[::-1]),
    "the labels are the reference's, moved along the batch by 2 backwards": (
        "plain", "data/y", lambda _, right: np.roll(right, -2)),
    "the labels are the reference's in another order": ("plain", "data/y", lambda _, right: np.sort(right)),
    "every label is 2 classes below the reference's": ("plain", "data/y", lambda _, right: (right + 8) % 10),
    "every label is 3 classes above the reference's": ("nielsen", "data/y", lambda _, right: np.roll(right, 3, axis=1)),
    "x is 255 times the reference's: another range of the input": ("plain", "data/x", lambda _, right: right * 255),
    "x is 2 times the reference's - 1: another range of the input": (
        "plain", "data/x", lambda _, right: right * 2 - 1),
    "5.output has no dropout in it, of which the reference has p = 0.25": (
        "regularised", "forward/5.output", lambda m, _: m.theirs["forward/4.output"]),
    "0.output is the reference's, rounded to float16": (
        "regularised", "forward/0.output", lambda _, right: right.astype(np.float16)),
    "0.output is the reference's, rounded to float32": (
        "regularised", "forward/0.output", lambda _, right: right.astype(np.float32).astype(float)),
    "0.output is exactly -1 times the reference's, the sign is wrong": (
        "plain", "forward/0.output", lambda _, right: -right),
    "0.output is identically zero": ("plain", "forward/0.output", lambda _, right: right * 0),
    "loss.value is exactly 16 times the reference's; 16 is the batch size": (
        "plain", "loss/loss.value", lambda _, right: right * 16),
    "the gradient of loss.prediction is exactly 16 times the reference's; 16 is the batch size": (
        "plain", "backward/loss.prediction", lambda _, right: right * 16),
    "2.bias's gradient is the reference's of the step before: it is stale": (
        "plain", "backward/2.bias", lambda m, _: m.previous["2.bias"]),
    "2.bias's gradient is not summed over the batch: its shape is (16, 10), the tensor's (10,)": (
        "plain", "backward/2.bias", lambda m, _: m.theirs["backward/loss.prediction"]),
    "2.weight's gradient is the transpose of the reference's": (
        "plain", "backward/2.weight", lambda _, right: right.T),
    "0.bias's gradient is what 2.bias's should be": (
        "nnmnist", "backward/0.bias", lambda m, _: m.theirs["backward/2.bias"]),
    "2.weight's gradient is off by 0.1 times the tensor itself: a penalty's term, or one like it": (
        "plain", "backward/2.weight", lambda m, right: right + 0.1 * m.before["param/2.weight"]),
    "0.weight is what it was before the step: it is not updated": (
        "plain", WEIGHT, lambda m, _: m.before["param/0.weight"]),
    "the update of 0.weight is 1/2 times the reference's": (
        "plain", WEIGHT, lambda m, _: after(m, "param/0.weight", 0.5)),
    "the update of 0.weight is -1 times the reference's": (
        "plain", WEIGHT, lambda m, _: after(m, "param/0.weight", -1.0)),
    "the update of 0.weight is 1.0001 times the reference's": (
        "plain", WEIGHT, lambda m, _: after(m, "param/0.weight", 1.0001)),
    DECAY + "as by a weight decay of 0.1 less than the reference's": (
        "decayed", WEIGHT, lambda m, _: m.before["param/0.weight"] - m.batch.lr * m.theirs["backward/0.weight"]),
    DECAY + "as by a weight decay of 0.1 more than the reference's": (
        "decayed", WEIGHT, lambda m, right: right - 0.1 * m.batch.lr * m.before["param/0.weight"]),
    FAST + "is the gradient alone: what it was before the step is not kept": (
        "regularised", VELOCITY, lambda m, _: m.theirs["backward/0.weight"]),
    FAST + "is off by -0.4 times what it was before the step: another momentum, or none": (
        "regularised", VELOCITY, lambda m, right: right - 0.4 * m.before["optim/momentum_buffer/0.weight"]),
    "1.running_mean is what it was before the step: it is not updated": (
        "regularised", "update/buffer/1.running_mean", lambda m, _: m.before["buffer/1.running_mean"]),
    "0.weight moved as by Adam's bias correction for t = 1, where t is 5: the power t is missing, or t is not counted "
    "on": ("nnmnist", WEIGHT, lambda m, _: moved_by_adam(m, 1)),
    "0.weight moved as by Adam's bias correction for t = 6, where t is 5": (
        "nnmnist", WEIGHT, lambda m, _: moved_by_adam(m, 6)),
    "0.weight moved as by Adam without its bias correction": (
        "nnmnist", WEIGHT, lambda m, _: moved_by_adam(m, np.inf)),
    "0.weight moved as by Adam's bias correction for t = 4, where t is 5": (
        "slow", WEIGHT, lambda m, _: moved_by_adam(m, 4, (0.8, 0.99))),
    "the update of 0.weight is 1/10 times the reference's": (
        "nnmnist", WEIGHT, lambda m, _: after(m, "param/0.weight", 0.1)),
}  # fmt: skip


@pytest.mark.short(12)
@pytest.mark.parametrize("sentence", TOLD, ids=[sentence[:60] for sentence in TOLD])
def test_a_wrong_tensor_is_explained(moments: Given, sentence: str) -> None:
    network, name, corrupt = TOLD[sentence]
    moment = moments[network]
    assert told(moment, name, corrupt(moment, moment.theirs[name])) == sentence


def without(moment: Moment, *names: str) -> Moment:
    """Return a step as a trace may show it, that lacks some tensors."""
    ours, theirs = ({name: one for name, one in side.items() if name not in names}
                    for side in (moment.ours, moment.theirs))  # fmt: skip
    return replace(moment, ours=ours, theirs=theirs)


def test_what_a_trace_lacks_of_the_outputs_is_done_without(moments: Given) -> None:
    moment = moments["plain"]
    shifted = (moment.theirs["data/y"] + 1) % 10
    shown = without(moment, "forward/outputs")
    assert told(shown, "data/y", shifted) == told(moment, "data/y", shifted)
    assert "every label is 1 class above" in str(told(shown, "data/y", shifted))
    neither = without(shown, "backward/loss.prediction")
    assert told(neither, "data/y", shifted) is None  # nobody says how many classes there are
    sixteenth = moment.theirs["backward/0.weight"] / 16
    assert "16 is the batch size" in str(told(neither, "backward/0.weight", sixteenth))


def test_a_rate_that_all_parameters_share_is_named(moments: Given) -> None:
    moment = moments["plain"]
    keys = [key for key in moment.before if key.startswith("param/")]
    wrong = replace(moment, ours=moment.ours | {f"update/{key}": after(moment, key, 2.0) for key in keys})
    sentence = "every update is 2 times the reference's: as with a learning rate of 0.1 in place of 0.05"
    assert explained(unlike(STEP, WEIGHT, ""), wrong) == sentence


def test_dropout_where_there_is_none(moments: Given) -> None:
    moment = moments["regularised"]
    dropped, full = moment.theirs["forward/5.output"], moment.theirs["forward/4.output"]
    without = replace(moment, theirs=moment.theirs | {"forward/5.output": full})
    in_training = "5.output has dropout in it, p = 0.25, where the reference has none"
    assert told(without, "forward/5.output", dropped) == in_training
    in_evaluation = "5.output has dropout in it, p = 0.25, which is left on in evaluation"
    assert told(without, "forward/5.output", dropped, training=False) == in_evaluation


@pytest.mark.long
def test_a_right_tensor_is_not_explained(moments: Given) -> None:
    for network in NETWORKS:
        moment = moments[network.name]
        for name, array in moment.theirs.items():
            assert diagnose_step(name, moment) is None, name
            assert told(moment, name, array * 1) is None, name


def random_values(array: Array, rng: np.random.Generator) -> Array:
    return rng.standard_normal(array.shape) * np.abs(array).max(initial=1e-3)


def slightly_off(array: Array, rng: np.random.Generator) -> Array:
    return array * (1 + 1e-4 * rng.standard_normal(array.shape))


def half_of_the_signs(array: Array, rng: np.random.Generator) -> Array:
    return array * rng.choice([-1.0, 1.0], array.shape)


def some_doubled(array: Array, rng: np.random.Generator) -> Array:
    return array * rng.choice([1.0, 2.0], array.shape)


def a_bit_less_and_noise(array: Array, rng: np.random.Generator) -> Array:
    return 0.5 * array + 1e-3 * np.abs(array).max(initial=0.0) * rng.standard_normal(array.shape)


@pytest.mark.short(2)
@pytest.mark.parametrize(
    "corrupt", [random_values, slightly_off, half_of_the_signs, some_doubled, a_bit_less_and_noise]
)
def test_what_has_no_simple_cause_is_given_none(
    moments: Given, corrupt: Callable[[Array, np.random.Generator], Array]
) -> None:
    rng = np.random.default_rng(1)
    for network in ("plain", "regularised"):
        moment = moments[network]
        for name, array in moment.theirs.items():
            if array.size < 8 or not np.issubdtype(array.dtype, np.floating):
                continue
            before = moment.before.get(name.removeprefix("update/"), np.zeros(array.shape))
            wrong = before + corrupt(array - before, rng) if name.startswith("update/param") else corrupt(array, rng)
            assert told(moment, name, wrong) is None, name


def test_random_labels_are_given_no_cause(moments: Given) -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        assert told(moments["plain"], "data/y", rng.integers(0, 10, 16)) is None


def test_few_labels_tell_nothing(moments: Given) -> None:
    moment = moments["plain"]
    few = replace(moment, theirs=copy.copy(moment.theirs) | {"data/y": np.array([3, 5])})
    assert told(few, "data/y", np.array([4, 6])) is None
    assert told(few, "data/y", np.array([5, 3])) is None
