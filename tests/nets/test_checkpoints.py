"""A run that is stopped after any step and goes on ends as if it had not been, bit for bit."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import nets.checkpoints
from nets.checkpoints import load_checkpoint, save_checkpoint
from nets.datasets.dataset import Dataset
from nets.datasets.digits import load_digits
from nets.presets import PRESETS, configured
from nets.run import Run, prepare
from nets.training import SIDES, Training
from nets.weights import CheckpointError
from tests.nets.refused import refusal
from tests.nets.states import bits

NETWORK = "Linear(784, 8), ReLU(), Linear(8, 10)"
CONFIGURATIONS: dict[str, dict[str, str]] = {
    "momentum": {"network": NETWORK, "optimizer": "SGD(momentum=0.9, nesterov=True)"},
    "adam": {"network": NETWORK, "optimizer": "Adam(amsgrad=True)", "schedule": "StepLR(0.01, step_size=1)"},
    "clipped": {"network": NETWORK, "optimizer": "ClippedByNorm(RMSprop(momentum=0.5), 0.1)"},
    "adagrad": {"network": NETWORK, "optimizer": "Adagrad(initial_accumulator_value=0.1)"},
    "augmented": {"network": NETWORK, "augmentation": "Augmentation(shift=2, rotation=10)"},
    "plateau": {"network": NETWORK, "schedule": "ReduceLROnPlateau(0.5, mode='max', factor=0.5, patience=0)"},
    "regularised": {},
}
STEPS = 9  # three epochs of 21 images


@cache
def digits() -> Dataset:
    return load_digits()


def run_of(name: str, **given: Any) -> Run:  # noqa: ANN401  the arguments of prepare
    """Return three epochs of three steps, the last of them smaller."""
    preset = configured(PRESETS["regularised" if name == "regularised" else "fair"], CONFIGURATIONS[name])
    usual = {"train_size": 21, "validation_size": 15, "test_size": 10, "epochs": 3, "batch_size": 8}
    return prepare(preset, given.pop("data", digits()), **(usual | given))


def training_of(name: str, dtype: str = "float64", **given: Any) -> Training:  # noqa: ANN401  as above
    return Training(run_of(name, dtype=dtype, **given), patience=3)


def after(training: Training, steps: int | None = None) -> Training:
    """Take some steps, or all that are left."""
    for _ in islice(training.steps(), steps):
        pass
    return training


def without_seconds(training: Training) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return everything that a run has come to but how long that took."""
    arrays, numbers = training.state()
    for side in numbers["sides"].values():
        del side["seconds"]
        for epoch in side["epochs"]:
            del epoch["seconds"]
    return numbers, bits(arrays)


# Before the first step, within an epoch, at its end, within the last, and after the last step; or after any.
STOPS = [pytest.param((0, 2, 3, 7, STEPS), id="few"), pytest.param(range(STEPS + 1), id="all", marks=pytest.mark.long)]


@pytest.mark.short(4)
@pytest.mark.parametrize("stops", STOPS)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, "float64") for name in CONFIGURATIONS),
        # Arrays are kept alike, whatever they are of.
        *(
            pytest.param(name, "float32", marks=() if name == "regularised" else pytest.mark.long)
            for name in CONFIGURATIONS
        ),
    ],
)
def test_a_run_that_is_stopped_after_any_step_ends_as_if_it_had_not_been(
    name: str, dtype: str, stops: Sequence[int], tmp_path: Path
) -> None:
    whole = after(training_of(name, dtype))
    assert whole.step == STEPS
    expected, outcomes = without_seconds(whole), whole.finish().outcomes
    for stop in stops:
        path = tmp_path / f"{stop}.safetensors"
        stopped = after(training_of(name, dtype), stop)
        save_checkpoint(path, stopped)
        fresh = training_of(name, dtype)
        load_checkpoint(path, fresh)
        assert without_seconds(fresh) == without_seconds(stopped)
        after(fresh)
        assert without_seconds(fresh) == expected
        for side, outcome in fresh.finish().outcomes.items():
            assert replace(outcome, seconds=0) == replace(outcomes[side], seconds=0)
        # Nor is the one that was looked at changed by it.
        assert without_seconds(after(stopped)) == expected


@pytest.mark.long
@given(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(list(CONFIGURATIONS)))
def test_a_run_may_be_stopped_again_and_again(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], name: str
) -> None:
    path = tmp_path_factory.mktemp("stops") / "last.safetensors"
    training = training_of(name)
    for some in steps:
        save_checkpoint(path, after(training, some))
        training = training_of(name)
        load_checkpoint(path, training)
    assert without_seconds(after(training)) == without_seconds(after(training_of(name)))


def test_the_plateau_of_these_runs_is_reached() -> None:
    plateau = after(training_of("plateau")).sides["numpy"]
    assert len({one.lr for one in plateau.epochs}) > 1


def test_a_run_that_has_stopped_early_stays_stopped(tmp_path: Path) -> None:
    def ruined() -> Training:
        preset = configured(PRESETS["fair"], {"network": NETWORK, "schedule": "PiecewiseConstant(0.5, (1,), (100,))"})
        run = prepare(preset, digits(), train_size=21, validation_size=15, test_size=10, epochs=9, batch_size=8)
        return Training(run, patience=1)

    stopped = after(ruined())
    assert 3 < stopped.step < 27
    save_checkpoint(tmp_path / "last.safetensors", stopped)
    fresh = ruined()
    load_checkpoint(tmp_path / "last.safetensors", fresh)
    assert list(fresh.steps()) == []
    assert without_seconds(fresh) == without_seconds(stopped)


def test_a_loss_that_is_lost_after_going_on_is_traced_to_the_same_tensor(tmp_path: Path) -> None:
    def lost() -> Training:
        preset = configured(
            PRESETS["fair"],
            {"network": NETWORK, "loss": "MSELoss()", "schedule": "PiecewiseConstant(0.001, (2,), (1e250,))"},
        )
        return Training(prepare(preset, digits(), train_size=21, test_size=10, epochs=9, batch_size=8))

    whole = after(lost())
    assert whole.stopped_by is not None
    for stop in (1, 5, 6):
        save_checkpoint(tmp_path / "last.safetensors", after(lost(), stop))
        fresh = lost()
        load_checkpoint(tmp_path / "last.safetensors", fresh)
        after(fresh)
        assert (fresh.stopped_by, fresh.stopped_side) == (whole.stopped_by, whole.stopped_side)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Return a checkpoint in the middle of an epoch."""
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, after(training_of("momentum"), 4))
    return path


def refused(path: Path, training: Training | None = None) -> str:
    """Return the one line in which a checkpoint is refused."""
    told = refusal(CheckpointError, load_checkpoint, path, training or training_of("momentum"))
    assert str(path) in told
    return told


@pytest.mark.parametrize("kept", [0, 7, 100, 0.5, 0.99, -1])
def test_a_checkpoint_that_was_cut_off_is_refused(saved: Path, kept: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    assert "is no safetensors file" in refused(saved)


@given(st.data())
def test_a_checkpoint_with_any_bit_flipped_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "last.safetensors"
    save_checkpoint(path, after(training_of("momentum"), 4))
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little")
    at = data.draw(st.integers(0, 8 + header - 1) | st.integers(8 + header, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.unlink(), "is missing"),
        (lambda path: path.write_text("hello"), "is no safetensors file"),
        (lambda path: save_file({"a": np.zeros(3)}, path), "is no checkpoint of mnistcheck train"),
        (lambda path: save_file({"a": np.zeros(3)}, path, {"checkpoint": "{"}), "is no checkpoint of mnistcheck train"),
        (
            lambda path: save_file({"a": np.zeros(3)}, path, {"checkpoint": "[]"}),
            "is no checkpoint of mnistcheck train",
        ),
        (lambda path: save_file({}, path, {"checkpoint": "[" * 100_000}), "is no checkpoint of mnistcheck train"),
    ],
)
def test_what_is_no_checkpoint_is_refused(saved: Path, write: Callable[[Path], object], message: str) -> None:
    write(saved)
    assert message in refused(saved)


def change(path: Path, **given: Any) -> None:  # noqa: ANN401  any JSON
    """Change what a checkpoint says of itself, with a checksum that is right."""
    arrays = load_file(path)
    with safe_open(path, framework="np") as file:
        about = json.loads(file.metadata()["checkpoint"]) | given
    about.pop("sha256", None)
    about["sha256"] = nets.checkpoints._digest(arrays, about)
    save_file(arrays, path, {"checkpoint": json.dumps(about)})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": 2}, "has version 2; version 1 can be read"),
        ({"format": "other"}, "is no checkpoint of mnistcheck train"),
        ({"run": None}, "is no checkpoint of mnistcheck train"),
        ({"step": 99}, "it is not of this run: it is after step 99, of 9"),
        ({"step": "4"}, "it is not of this run"),
        ({"step": 4.5}, "it is not of this run"),
        ({"sides": {}}, "its engines are not numpy and torch"),
        ({"sides": 3}, "it is not of this run"),
        ({"sides": {"numpy": {}, "torch": {}}}, "it is not of this run"),
        ({"sides": {"numpy": None, "torch": None}}, "it is not of this run"),
    ],
)
def test_a_checkpoint_that_says_what_cannot_be_is_refused(saved: Path, given: dict[str, Any], message: str) -> None:
    change(saved, **given)
    assert message in refused(saved)


OTHER_DATA = replace(digits(), sha256="0" * 64)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seed": 1}, "is of another run: its seed is 0, not 1"),
        ({"dtype": "float32"}, "is of another run: its dtype is float64, not float32"),
        ({"data": OTHER_DATA}, f"is of another run: its data is {digits().sha256}, not {'0' * 64}"),
        ({"train_size": 22}, "is of another run: its training images is 21, not 22"),
        ({"validation_size": 3}, "is of another run: its validation images is 15, not 3"),
        ({"batch_size": 7}, "is of another run: its batch_size is 8, not 7"),
        ({"lr": 0.1}, "its schedule is ConstantRate(lr=0.05), not ConstantRate(lr=0.1)"),
        ({"name": "adam"}, "its optimizer is SGD(momentum=0.9, nesterov=True), not Adam(amsgrad=True)"),
        ({"name": "regularised"}, "is of another run: its network is "),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(saved: Path, given: dict[str, Any], message: str) -> None:
    assert message in refused(saved, training_of(given.pop("name", "momentum"), **given))


def test_a_checkpoint_of_one_side_is_nothing_for_both(tmp_path: Path) -> None:
    alone = Training(run_of("momentum"), ("numpy",))
    save_checkpoint(tmp_path / "one.safetensors", alone)
    assert "its engines are not numpy and torch" in refused(tmp_path / "one.safetensors")


def test_a_full_disk_leaves_the_last_good_checkpoint_alone(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(saved, after(training_of("momentum"), 6))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_checkpoint_holds_the_last_and_the_best_of_each_side(saved: Path) -> None:
    places = {tuple(name.split("/")[:2]) for name in load_file(saved)}
    assert places == {(side, which) for side in SIDES for which in ("last", "best")}
