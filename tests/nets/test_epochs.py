"""What a run tells of its epochs, and when it stops, against plain loops and sums that are not ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, mean_squared_error

from gradcheck.contract import Array, Context, Key
from gradcheck.trajectory.engine import Engine, StepError
from gradcheck.trajectory.faults import GradientScale
from nets.datasets.augmentation import Augmentation
from nets.datasets.dataset import Dataset
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import one_thread_each
from nets.losses import MSELoss
from nets.presets import PRESETS, Preset, configured
from nets.run import Run, prepare
from nets.schedules import ConstantRate, LinearWarmup, PiecewiseConstant, ReduceLROnPlateau
from nets.training import Trained, Training, train_fair
from tests.nets.states import bits

SMALL = replace(PRESETS["fair"], network="Linear(784, 16), Sigmoid(), Linear(16, 10)", batch_size=8)
SIDES = ("numpy", "torch")


def small(digits: Dataset, preset: Preset = SMALL, **given: Any) -> Run:  # noqa: ANN401  the arguments of prepare
    """Return a run of few images; 37 fill no whole number of batches."""
    usual = {"train_size": 37, "validation_size": 25, "test_size": 30, "epochs": 3}
    return prepare(preset, digits, **(usual | given))


def trained(run: Run, sides: tuple[str, ...] = SIDES, patience: int | None = None) -> Trained:
    """Train to the end."""
    training = Training(run, sides, patience=patience)
    for _ in training.steps():
        pass
    return training.finish()


def engine_of(run: Run, side: str) -> Engine:
    return run.numpy_engine() if side == "numpy" else run.torch_engine()


def softmax(logits: Array) -> Array:
    """Return the probabilities of classes, by torch."""
    return torch.softmax(torch.tensor(logits), dim=1).numpy()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("preset", [SMALL, replace(PRESETS["regularised"], batch_size=8)], ids=["small", "regularised"])
def test_an_epochs_loss_and_accuracy_are_those_of_its_batches_before_their_steps(
    preset: Preset, side: str, digits: Dataset
) -> None:
    run = small(digits, preset)
    engine = engine_of(run, side)
    losses: list[list[float]] = [[], [], []]
    hits: list[list[bool]] = [[], [], []]
    with one_thread_each():
        for index, batch in enumerate(run.batches()):
            step = engine.step(*batch, Context(training=True, key=Key(run.seed, index), updates={}))
            epoch, labels = index // run.steps_per_epoch, batch.y
            losses[epoch] += list(-np.log(softmax(step.outputs)[np.arange(len(labels)), labels]))
            hits[epoch] += list(step.outputs.argmax(axis=1) == labels)
    told = trained(run, (side,)).epochs[side]
    assert [one.epoch for one in told] == [0, 1, 2]
    assert [one.lr for one in told] == [run.preset.schedule(epoch) for epoch in range(3)]
    for one, each, right in zip(told, losses, hits, strict=True):
        assert len(each) == 37
        assert one.train_loss == pytest.approx(np.mean(each), rel=1e-12)
        assert one.train_accuracy == np.mean(right)
        assert one.seconds > 0


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", ["fair", "sigmoid-mse"])
def test_an_epochs_validation_is_what_its_weights_come_to(name: str, side: str, digits: Dataset) -> None:
    run = small(digits, replace(PRESETS[name], batch_size=8, first=False), epochs=2)
    found = trained(run, (side,))
    one = found.epochs[side][-1]
    weights = {key: torch.tensor(array) for key, array in found.engines[side].state().items()}
    x = torch.tensor(run.validation.images.reshape(25, 784) / digits.black)
    hidden = torch.sigmoid(x @ weights["param/0.weight"].T + weights["param/0.bias"])
    outputs = hidden @ weights["param/2.weight"].T + weights["param/2.bias"]
    if name == "fair":
        expected = log_loss(run.validation.labels, softmax(outputs.numpy()), labels=range(10))
    else:
        outputs = torch.sigmoid(outputs)
        expected = mean_squared_error(np.eye(10)[run.validation.labels], outputs.numpy())
    assert one.validation_loss == pytest.approx(expected, rel=1e-12)
    assert one.validation_accuracy == accuracy_score(run.validation.labels, outputs.numpy().argmax(axis=1))


def test_without_validation_images_there_is_none(digits: Dataset) -> None:
    found = trained(small(digits, validation_size=0, epochs=1))
    for side in SIDES:
        assert found.epochs[side][0].validation_loss is None
        assert found.epochs[side][0].validation_accuracy is None
        assert found.outcomes[side].best_epoch is None
    assert found.best == {}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ["fair", "regularised"])
def test_a_side_alone_is_trained_as_it_is_beside_the_other(name: str, dtype: str, digits: Dataset) -> None:
    run = small(digits, replace(PRESETS[name], batch_size=8), epochs=1, dtype=dtype)
    both = trained(run)
    for side in SIDES:
        alone = trained(run, (side,))
        assert list(alone.engines) == [side]
        assert bits(alone.engines[side].state()) == bits(both.engines[side].state())
        mine, yours = alone.epochs[side][0], both.epochs[side][0]
        assert replace(mine, seconds=0) == replace(yours, seconds=0)


def test_a_whole_epoch_is_validated_even_if_the_run_ends_within_it(digits: Dataset) -> None:
    found = trained(small(digits, epochs=None, steps=7), ("numpy",))
    assert [one.epoch for one in found.epochs["numpy"]] == [0, 1]
    assert found.epochs["numpy"][1].validation_loss is not None


# A rate that is good at first and then ruins what was learned.
RUIN = PiecewiseConstant(0.5, (2,), (400.0,))


@pytest.mark.parametrize("patience", [1, 2])
@pytest.mark.parametrize("side", SIDES)
def test_early_stopping_stops_after_its_patience_and_keeps_the_best_weights(
    side: str, patience: int, digits: Dataset
) -> None:
    run = small(digits, replace(SMALL, schedule=RUIN), epochs=10)
    found = trained(run, (side,), patience)
    losses = [one.validation_loss for one in found.epochs[side]]
    assert losses.index(min(losses)) == 1  # type: ignore[type-var]  # there are images
    assert len(losses) == 2 + patience
    outcome = found.outcomes[side]
    assert outcome.best_epoch == 1
    until = trained(small(digits, replace(SMALL, schedule=RUIN), epochs=2), (side,))
    weights = {key: value for key, value in bits(until.engines[side].state()).items() if key.startswith("param/")}
    assert bits(found.best[side]) == weights
    assert outcome.best_test_accuracy == until.outcomes[side].test_accuracy
    last = trained(small(digits, replace(SMALL, schedule=RUIN), epochs=2 + patience), (side,))
    assert bits(found.engines[side].state()) == bits(last.engines[side].state())
    assert outcome.test_accuracy == last.outcomes[side].test_accuracy


def test_both_sides_stop_together(digits: Dataset) -> None:
    found = trained(small(digits, replace(SMALL, schedule=RUIN), epochs=10), patience=2)
    assert len(found.epochs["numpy"]) == len(found.epochs["torch"]) == 4


@pytest.mark.parametrize(("finite", "epochs", "best"), [((), 2, None), ((1,), 4, 1), ((1, 2), 4, 1)])
def test_a_validation_loss_that_is_not_finite_is_never_the_best(
    finite: tuple[int, ...], epochs: int, best: int | None, digits: Dataset
) -> None:
    training = Training(small(digits, epochs=6), ("numpy",), patience=2)
    side = training.sides["numpy"]
    evaluate = side.engine.evaluate

    def spoilt(x: Array, context: Context) -> Array:
        epoch = len(side.epochs)
        return evaluate(x, context) * (1 + epoch**3 if epoch in finite else math.nan)

    side.engine.evaluate = spoilt  # type: ignore[method-assign]
    for _ in training.steps():
        pass
    assert (len(side.epochs), side.best_epoch) == (epochs, best)


def test_early_stopping_needs_validation_images(digits: Dataset) -> None:
    with pytest.raises(ValueError, match="early stopping needs validation images, got none: give a validation size"):
        Training(small(digits, validation_size=0), patience=1)


PLATEAU = ReduceLROnPlateau(0.1, factor=0.5, patience=0, threshold=1e-4)


def test_a_plateau_is_that_of_a_sides_own_losses_as_torch_counts_it(digits: Dataset) -> None:
    training = Training(small(digits, replace(SMALL, schedule=PLATEAU), epochs=6))
    numpy = training.sides["numpy"]
    assert isinstance(numpy.engine, NumpyEngine)
    numpy.engine = numpy.engine.planted(GradientScale("2.weight", -20.0))  # so that its losses are others
    for _ in training.steps():
        pass
    rates = {}
    for name, side in training.sides.items():
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        scheduler = PLATEAU.twin(optimizer)
        rates[name] = [one.lr for one in side.epochs]
        for one in side.epochs:
            assert one.lr == optimizer.param_groups[0]["lr"]
            scheduler.step(one.validation_loss)  # type: ignore[arg-type]  # which a plateau takes
    assert rates["numpy"] != rates["torch"]
    assert min(rates["numpy"]) < 0.1


@pytest.mark.parametrize("schedule", [PLATEAU, LinearWarmup(0.1, PLATEAU, total_iters=1)])
def test_a_plateau_needs_validation_images_and_is_nothing_for_a_fair_run(
    schedule: LinearWarmup | ReduceLROnPlateau, digits: Dataset
) -> None:
    preset = replace(SMALL, schedule=schedule)
    name = type(schedule).__name__
    with pytest.raises(ValueError, match=f"^{name} needs validation images, got none: give a validation size$"):
        Training(small(digits, preset, validation_size=0))
    with pytest.raises(ValueError, match=f"^{name} needs validation losses, which neither a fair run"):
        train_fair(small(digits, preset))


def test_the_last_batch_is_dropped_and_another_one_each_time(digits: Dataset) -> None:
    run = small(digits, replace(SMALL, drop_last=True), epochs=2)
    assert (run.steps_per_epoch, run.steps, run.dropped) == (4, 8, 5)
    batches = list(run.batches())
    assert {len(batch.x) for batch in batches} == {8}
    first, second = ({bytes(x) for batch in batches[i : i + 4] for x in batch.x} for i in (0, 4))
    assert len(first) == len(second) == 32
    assert first != second
    found = trained(run, ("numpy",)).epochs["numpy"]
    assert all(one.train_accuracy * 32 == round(one.train_accuracy * 32) for one in found)
    with pytest.raises(ValueError, match="drop_last leaves nothing of 7 images in batches of 8"):
        small(digits, replace(SMALL, drop_last=True), train_size=7)


def seen_by(training: Training) -> dict[str, tuple[list[Array], list[Array]]]:
    """Return what each engine is given in its steps and in its evaluations, as it is trained."""
    seen: dict[str, tuple[list[Array], list[Array]]] = {}

    def watch(engine: Engine, steps: list[Array], evaluations: list[Array]) -> None:
        step, evaluate = engine.step, engine.evaluate

        def watched(x: Array, *rest: Any) -> Any:  # noqa: ANN401  as the engine's
            steps.append(x.copy())
            return step(x, *rest)

        def looked_at(x: Array, *rest: Any) -> Array:  # noqa: ANN401  as the engine's
            evaluations.append(x.copy())
            return evaluate(x, *rest)

        engine.step, engine.evaluate = watched, looked_at  # type: ignore[method-assign, assignment]

    for name, side in training.sides.items():
        seen[name] = ([], [])
        watch(side.engine, *seen[name])
    for _ in training.steps():
        pass
    return seen


def test_augmentation_gives_both_engines_the_same_images_and_each_epoch_others(digits: Dataset) -> None:
    moved = replace(SMALL, augmentation=Augmentation(shift=2, rotation=10))
    run = small(digits, moved, train_size=8, epochs=3)
    seen = seen_by(Training(run))
    assert [x.tobytes() for x in seen["numpy"][0]] == [x.tobytes() for x in seen["torch"][0]]
    epochs = [{bytes(image) for image in x} for x in seen["numpy"][0]]
    still = {bytes(image) for image in digits.pixels(run.train, np.float64)}
    assert len(epochs) == 3
    for index, images in enumerate(epochs):
        assert len(images) == 8
        assert not images & still
        assert all(not images & others for others in epochs[index + 1 :])
    for x in seen["numpy"][1]:  # nothing is moved that is only looked at
        assert x.tobytes() == digits.pixels(run.validation, np.float64).tobytes()
    again = small(digits, moved, train_size=8, epochs=3)
    assert [batch.x.tobytes() for batch in again.batches()] == [x.tobytes() for x in seen["torch"][0]]
    other = small(digits, moved, train_size=8, epochs=3, seed=1)
    assert [batch.x.tobytes() for batch in other.batches()] != [x.tobytes() for x in seen["torch"][0]]


def test_an_augmentation_of_nothing_changes_no_bit(digits: Dataset) -> None:
    plain, still = small(digits), small(digits, replace(SMALL, augmentation=Augmentation()))
    assert [batch.x.tobytes() for batch in plain.batches()] == [batch.x.tobytes() for batch in still.batches()]


def test_inputs_are_scaled_by_the_training_images_alone(digits: Dataset) -> None:
    run = small(digits, replace(SMALL, scaling="standard"))
    learned = run.inputs(run.train)
    assert learned.mean() == pytest.approx(0, abs=1e-12)
    assert learned.std() == pytest.approx(1, rel=1e-12)
    ink = run.train.images / digits.black
    expected = (run.test.images.reshape(30, 784) / digits.black - ink.mean()) / ink.std()
    np.testing.assert_allclose(run.inputs(run.test), expected, rtol=1e-10)
    assert np.concatenate([batch.x for batch in run.batches()][:5]).std() == pytest.approx(1, rel=1e-12)
    published = small(digits, replace(SMALL, scaling="0.1307,0.3081"))
    expected = (published.test.images.reshape(30, 784) / digits.black - 0.1307) / 0.3081
    np.testing.assert_allclose(published.inputs(published.test), expected, rtol=1e-12)


def test_the_loss_that_is_told_is_not_the_one_that_is_descended(digits: Dataset) -> None:
    as_told, plain = (
        small(digits, replace(PRESETS[name], batch_size=8, first=False), epochs=2)
        for name in ("sigmoid-bce:as-told", "sigmoid-bce")
    )
    told, descended = trained(as_told), trained(plain)
    for side in SIDES:
        assert bits(told.engines[side].state()) == bits(descended.engines[side].state())
        outputs = told.engines[side].evaluate(as_told.inputs(as_told.validation), Context())
        expected = mean_squared_error(np.eye(10)[as_told.validation.labels], outputs)
        assert told.epochs[side][1].validation_loss == pytest.approx(expected, rel=1e-12)
        assert descended.epochs[side][1].validation_loss != told.epochs[side][1].validation_loss
    engine, errors = as_told.numpy_engine(), []
    with one_thread_each():
        for index, batch in enumerate(as_told.batches()):
            step = engine.step(*batch, Context(training=True, key=Key(0, index), updates={}))
            errors += list(((step.outputs - batch.y) ** 2).mean(axis=1))
    assert told.epochs["numpy"][0].train_loss == pytest.approx(np.mean(errors[:37]), rel=1e-12)


LINEAR = replace(SMALL, network="Linear(784, 16), ReLU(), Linear(16, 10)", loss=MSELoss())


def forward_by_hand(state: Mapping[str, Array], x: Array, targets: Array) -> dict[str, Array]:
    """Return what `LINEAR` computes up to its loss, in the order in which it does."""
    with np.errstate(all="ignore"):
        hidden = x @ state["param/0.weight"].T + state["param/0.bias"]
        rectified = np.maximum(hidden, 0)
        outputs = rectified @ state["param/2.weight"].T + state["param/2.bias"]
        loss = ((outputs - targets) ** 2).mean()
    return {"0.output": hidden, "1.output": rectified, "2.output": outputs, "loss.value": loss}


@pytest.mark.parametrize("rate", [1e200, 1e120, 1e308])
@pytest.mark.parametrize("sides", [("numpy",), ("torch",), SIDES])
def test_a_loss_that_is_not_finite_ends_the_run_and_is_traced_to_its_tensor(
    sides: tuple[str, ...], rate: float, digits: Dataset
) -> None:
    run = small(digits, replace(LINEAR, schedule=ConstantRate(rate)))
    found = trained(run, sides)
    stop = found.stopped_by
    assert stop is not None
    engine = engine_of(run, sides[-1])
    with one_thread_each(), np.errstate(all="ignore"):
        for index, batch in enumerate(run.batches()):
            tensors = forward_by_hand(engine.state(), batch.x, batch.y)
            if index == stop.step:
                break
            assert all(np.isfinite(array).all() for array in tensors.values())
            engine.step(*batch, Context(training=True, key=Key(run.seed, index), updates={}))
    lost = [name for name, array in tensors.items() if not np.isfinite(array).all()]
    assert stop.tensor == lost[0]
    assert stop.layer == lost[0].partition(".")[0]
    assert found.stopped_side == (sides[0] if len(sides) == 1 else None)
    assert found.epochs == dict.fromkeys(sides, ())


def test_a_side_that_is_lost_alone_is_named(digits: Dataset) -> None:
    training = Training(small(digits, replace(LINEAR, schedule=ConstantRate(1e-3))))
    numpy = training.sides["numpy"]
    assert isinstance(numpy.engine, NumpyEngine)
    numpy.engine = numpy.engine.planted(GradientScale("0.weight", 1e300, begin=3))
    assert len(list(training.steps())) == 4
    found = training.finish()
    assert found.stopped_side == "numpy"
    assert found.stopped_by is not None
    assert (found.stopped_by.step, found.stopped_by.tensor) == (4, "loss.value")


def test_a_loss_that_is_lost_late_is_traced_from_the_state_that_was_kept(digits: Dataset) -> None:
    ruined = replace(LINEAR, schedule=PiecewiseConstant(1e-3, (24,), (1e250,)), batch_size=8)
    found = trained(small(digits, ruined, epochs=30), ("numpy",))
    assert found.stopped_by is not None
    assert found.stopped_by.step == 24 * 5 + 1
    assert found.stopped_by.tensor == "2.output"
    assert len(found.epochs["numpy"]) == 24


def test_a_batch_that_the_network_cannot_take_is_named(digits: Dataset) -> None:
    preset = configured(SMALL, {"network": "Linear(784, 10), BatchNorm1d(10)"})
    run = small(digits, preset, train_size=17)
    for side in SIDES:
        training = Training(run, (side,))
        with pytest.raises(StepError, match=r"^step 2 cannot be taken: .*\(1, 10\)|^step 2 cannot be taken: Expected"):
            list(training.steps())


@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        ("CrossEntropyLoss(reduction='sum')", torch.nn.CrossEntropyLoss()),
        ("MSELoss(reduction='sum')", torch.nn.MSELoss(reduction="sum")),
        (
            "CrossEntropyLoss(weight=(9., 1., 1., 1., 1., 1., 1., 1., 1., 2.))",
            torch.nn.CrossEntropyLoss(torch.tensor([9.0] + [1.0] * 8 + [2.0], dtype=torch.float64)),
        ),
    ],
)
def test_a_loss_is_told_as_a_mean_however_the_images_are_cut(
    loss: str, theirs: torch.nn.Module, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset = configured(SMALL, {"loss": loss, "schedule": "ConstantRate(1e-30)"})
    run = small(digits, preset, validation_size=50)
    whole = run.inputs(run.validation)
    outputs = torch.tensor(run.numpy_engine().evaluate(whole))
    targets = torch.tensor(run.targets(run.validation.labels))
    known = float(theirs(outputs, targets)) / (50 if "MSELoss" in loss else 1)
    for chunk in (7, 50):
        monkeypatch.setattr("nets.run.CHUNK", chunk)
        (first, *_) = trained(run, ("numpy",)).epochs["numpy"]
        assert first.validation_loss == pytest.approx(known, rel=1e-9)
    learned = torch.tensor(run.numpy_engine().evaluate(run.inputs(run.train)))
    total = float(theirs(learned, torch.tensor(run.targets(run.train.labels))))
    assert first.train_loss == pytest.approx(total / (len(run.train) if "MSELoss" in loss else 1), rel=1e-6)
