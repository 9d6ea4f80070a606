"""What a run learns from, and in which order; and that two engines learn it alike."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Step, observed
from gradcheck.trajectory.faults import GradientScale
from nets.datasets.catalogue import load_dataset
from nets.datasets.dataset import Dataset
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine, one_thread_each
from nets.metrics import score
from nets.presets import PRESETS
from nets.run import Run, default_sizes, prepare
from nets.schedules import MultiStepLR
from nets.training import train_both, train_fair
from tests.long import later
from tests.nets.states import bits

pytestmark = pytest.mark.rounding


def labels_of(run: Run) -> list[int]:
    """Return the labels of a run's batches, in order."""
    return [int(label) for batch in run.batches() for label in np.atleast_1d(batch.y)]


def test_an_epoch_visits_every_sample_once_and_each_epoch_in_its_own_order(digits: Dataset) -> None:
    run = prepare(PRESETS["fair"], digits, train_size=50, epochs=2, batch_size=8)
    batches = list(run.batches())
    assert [len(batch.x) for batch in batches] == [8, 8, 8, 8, 8, 8, 2] * 2
    first, second = (np.concatenate([batch.x for batch in batches[i : i + 7]]) for i in (0, 7))
    everything = digits.pixels(run.train, np.float64)
    for seen in (first, second):
        assert sorted(map(bytes, seen)) == sorted(map(bytes, everything))
    assert not np.array_equal(first, second)


def test_the_order_is_that_of_the_seed_and_the_same_in_both_precisions(digits: Dataset) -> None:
    runs = [prepare(PRESETS["fair"], digits, seed=s, dtype=d, epochs=1) for s, d in ((3, "float64"), (3, "float32"))]
    assert labels_of(runs[0]) == labels_of(runs[1])
    assert labels_of(runs[0]) != labels_of(prepare(PRESETS["fair"], digits, seed=4, epochs=1))
    weights = [run.numpy_engine().params["0.weight"] for run in runs]
    assert np.array_equal(weights[0].astype(np.float32), weights[1])


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({}, 3000),
        ({"epochs": 1}, 1000),
        ({"steps": 7}, 7),
        ({"steps": 5000}, 5000),
        ({"steps": 5000, "epochs": 2}, 2000),
        ({"batch_size": 64}, 48),
        ({"train_size": 10}, 30),
    ],
)
def test_steps_and_epochs(digits: Dataset, given: dict[str, int], steps: int) -> None:
    run = prepare(PRESETS["fair"], digits, **given)  # type: ignore[arg-type]
    assert run.steps == steps
    assert sum(1 for _ in run.batches()) == steps


def test_the_rate_is_that_of_the_epoch(digits: Dataset) -> None:
    preset = replace(PRESETS["fair"], schedule=MultiStepLR(0.1, (1, 2), 0.5))
    run = prepare(preset, digits, train_size=2, epochs=3, lr=0.2)
    assert [batch.lr for batch in run.batches()] == [0.2, 0.2, 0.1, 0.1, 0.05, 0.05]


def test_targets_are_what_the_loss_compares_with(digits: Dataset) -> None:
    (batch,) = prepare(PRESETS["nielsen"], digits, steps=1, dtype="float32").batches()
    assert batch.y.shape == (10, 10)
    assert batch.y.dtype == np.float32
    assert batch.y.sum(axis=1).tolist() == [1.0] * 10


def test_a_small_dataset_is_trained_on_in_part(digits: Dataset) -> None:
    assert default_sizes(PRESETS["nielsen"], digits) == (1000, 200)
    assert default_sizes(PRESETS["fair"], digits) == (1000, 0)
    assert default_sizes(PRESETS["nielsen"], digits, 1700) == (1700, 96)


def test_accuracy_is_the_share_of_right_classes() -> None:
    def same(x: Array) -> Array:
        return x

    chunks = [(np.eye(3, 4), np.array([0, 1, 0])), (np.eye(2, 4), np.array([0, 2]))]
    found = score(same, chunks, 4)
    assert found.accuracy == 3 / 5
    assert found.recalls == (2 / 3, 1.0, 0.0, None)
    assert [score(lambda x: x - 2, chunks[i:], 4).peaks.tolist() for i in (0, 1)] == [
        [-1, -1, -1, -2],
        [-1, -1, -2, -2],
    ]
    with pytest.raises(ValueError, match="a score needs at least one sample, got none"):
        score(same, [], 4)


SLOW_OR_VARIANTS = [name for name in PRESETS if ":" in name or name in ("cnn", "mlp-wide")]


def steps_of(preset: str, *, few: bool) -> int:
    """Return how many steps of a preset to prove."""
    if few:
        return 2 if preset in SLOW_OR_VARIANTS else 3
    return 5 if preset in SLOW_OR_VARIANTS else 20  # up to the third look at how a reference rounds, and the fourth


# The first presets in few steps, and all of them in more; precisions take turns.
DTYPES = ("float64", "float32")
SHORT_RUNS = 5
FAIR_RUNS = [
    pytest.param(
        preset,
        dtype,
        few,
        id=f"{preset}-{dtype}-{'few' if few else 'all'}",
        marks=() if few else pytest.mark.long,
    )
    for few in (True, False)
    for place, preset in enumerate(PRESETS)
    for dtype in [DTYPES[(place + (not few)) % 2]]
    if not few or place < SHORT_RUNS
]


@pytest.mark.parametrize(("preset", "dtype", "few"), FAIR_RUNS)
def test_a_fair_run_passes_on_digits(digits: Dataset, preset: str, dtype: str, few: bool) -> None:
    steps, sizes = steps_of(preset, few=few), (100, 40) if few else (500, 200)
    batch = 2 if few and preset == "cnn" else None  # its convolutions take longest
    run = prepare(
        PRESETS[preset],
        digits,
        train_size=sizes[0],
        test_size=sizes[1],
        steps=steps,
        dtype=dtype,
        batch_size=batch,
    )
    pair = train_fair(run, sensitivity=preset == "fair" and not few)
    report = pair.report
    assert report is not None
    assert report.verdict is Verdict.PASS
    assert report.lock_step.steps_compared == steps
    assert report.lock_step.uninformative == ()
    assert pair.outcomes["numpy"].test_accuracy == pair.outcomes["torch"].test_accuracy


@pytest.mark.short(6)
@pytest.mark.parametrize("dtype", later(DTYPES, 1))
@pytest.mark.parametrize("preset", list(PRESETS))
def test_taps_change_no_bit_of_a_run(digits: Dataset, preset: str, dtype: str) -> None:
    run = prepare(PRESETS[preset], digits, train_size=100, test_size=20, steps=3, dtype=dtype)
    for make in (run.numpy_engine, run.torch_engine):
        plain, tapped, nothing = make(), make(), make()
        for index, batch in enumerate(run.batches()):
            context = Context(training=True, key=Key(run.seed, index))
            steps = [
                observed(tapped, batch, context),  # first, so that what it leaves behind would show in the others
                plain.step(*batch, context),
                observed(nothing, batch, context, forced={}),
            ]
            assert len({step.loss.tobytes() for step in steps}) == 1
            assert len({step.outputs.tobytes() for step in steps}) == 1
            for name in steps[0].grads:
                assert len({step.grads[name].tobytes() for step in steps}) == 1, name
            evaluated = [
                observed(tapped, batch, replace(context, training=False)).outputs,
                plain.evaluate(batch.x, replace(context, training=False)),
            ]
            assert evaluated[0].tobytes() == evaluated[1].tobytes()
        assert bits(plain.state()) == bits(tapped.state()) == bits(nothing.state())


@pytest.mark.parametrize("preset", ["regularised", "cnn"])
def test_an_evaluation_changes_no_bit_of_a_run(digits: Dataset, preset: str) -> None:
    run = prepare(PRESETS[preset], digits, train_size=100, test_size=20, steps=3)
    x = run.inputs(run.test)
    for make in (run.numpy_engine, run.torch_engine):
        plain, evaluated = make(), make()
        for index, batch in enumerate(run.batches()):
            context = Context(training=True, key=Key(run.seed, index))
            before = evaluated.state()
            observed(evaluated, batch._replace(x=x), replace(context, training=False))
            assert bits(before) == bits(evaluated.state())
            steps = [observed(one, batch, context) for one in (plain, evaluated)]
            assert steps[0].outputs.tobytes() == steps[1].outputs.tobytes()
        assert bits(plain.state()) == bits(evaluated.state())


@pytest.mark.long
@pytest.mark.parametrize(("seed", "steps"), [(0, 10), (1, 20)])
def test_a_normalised_network_that_torch_sums_at_length_passes_both(digits: Dataset, seed: int, steps: int) -> None:
    report = train_fair(prepare(PRESETS["regularised"], digits, steps=steps, seed=seed), sensitivity=False).report
    assert report is not None
    assert report.lock_step.verdict is Verdict.PASS
    assert report.free_run.first_failure is None
    assert report.free_run.steps_compared > 0


class Drifting(NumpyEngine):
    """Moves a weight after a step has been shown, where lock-step cannot see it."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        step = super().step(x, y, lr, context)
        shown = replace(step, updated=self.state())
        self.params["6.weight"] *= 1 + 1e-11
        return shown

    def __deepcopy__(self, memo: dict[int, object]) -> Drifting:
        return Drifting(self.model, self.loss, copy.deepcopy(self.optimizer, memo))


@pytest.mark.long
def test_what_torch_rounds_by_excuses_no_drift_of_a_normalised_network(digits: Dataset) -> None:
    run = prepare(PRESETS["regularised"], digits, steps=3)
    plain = run.numpy_engine()
    drifting = Drifting(plain.model, plain.loss, plain.optimizer)
    report = check_trajectory(drifting, run.torch_engine(), run.batches(), seed=run.seed, sensitivity=False)
    assert report.lock_step.verdict is Verdict.PASS
    assert report.verdict is Verdict.FAIL
    assert report.first_divergence is not None
    assert (report.first_divergence.step, report.first_divergence.phase) == (1, "update")


@pytest.mark.parametrize("preset", later(["regularised", "fair"], 1))
def test_training_side_by_side_is_the_fair_run_without_its_proof(digits: Dataset, preset: str) -> None:
    run = prepare(PRESETS[preset], digits, train_size=10, epochs=3)  # three rates of `regularised`
    fair, plain = train_fair(run, sensitivity=False), train_both(run)
    assert plain.report is None
    for side in fair.engines:
        assert bits(fair.engines[side].state()) == bits(plain.engines[side].state())


TENSORS = ("0.weight", "0.bias", "2.weight", "2.bias")
SCALES = {"float64": 1 + 1e-12, "float32": 1 + 1e-4}


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("dtype", "scale", "tensor", "begin", "steps"),
    [
        *((dtype, SCALES[dtype], tensor, 3, 4) for dtype, tensor in zip(DTYPES, TENSORS[:2], strict=True)),
        *(
            pytest.param(dtype, SCALES[dtype], tensor, 3, 4, marks=pytest.mark.long)
            for dtype, tensor in zip(DTYPES, TENSORS[2:], strict=True)
        ),
        *(
            pytest.param(dtype, scale, tensor, begin, steps, marks=pytest.mark.long)
            for dtype, scale in SCALES.items()
            for tensor, begin, steps in zip(TENSORS, (0, 12) * 2, (1, 13) * 2, strict=True)
        ),
    ],
)
def test_an_injected_fault_is_found_at_its_step_and_tensor(
    digits: Dataset, dtype: str, scale: float, tensor: str, begin: int, steps: int
) -> None:
    run = prepare(PRESETS["fair"], digits, steps=steps, dtype=dtype, train_size=100, test_size=20)
    report = train_fair(run, fault=GradientScale(tensor, scale, begin=begin), sensitivity=False).report
    assert report is not None
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (begin, "backward", tensor)


def test_a_fair_run_asks_for_a_second_opinion(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.dtype[np.floating]] = []
    plain = Run.torch_engine

    def counted(self: Run, dtype: np.dtype[np.floating] | None = None) -> TorchEngine:
        asked.append(dtype or self.dtype)
        return plain(self, dtype)

    monkeypatch.setattr(Run, "torch_engine", counted)
    train_fair(prepare(PRESETS["fair"], digits, steps=1), sensitivity=False)
    assert asked == [np.float64, np.float32]


def test_both_sides_get_one_thread() -> None:
    before = torch.get_num_threads()
    with one_thread_each():
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"} <= {1}
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("steps", [10, pytest.param(100, marks=pytest.mark.long)])
def test_a_fair_run_passes_on_real_mnist(mnist_dir: Path, steps: int) -> None:
    run = prepare(PRESETS["fair"], load_dataset("mnist", mnist_dir), steps=steps)
    report = train_fair(run, sensitivity=steps == 100).report
    assert report
    assert report.lock_step.steps_compared == steps
