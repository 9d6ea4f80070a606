"""Every kind of fault, planted in a run: caught from its step on, in its phase and tensor, and rightly named."""

from __future__ import annotations

import copy

import pytest

from gradcheck.contract import Context, Key
from gradcheck.trajectory import TrajectoryMismatch
from gradcheck.trajectory.engine import observed
from gradcheck.trajectory.faults import Fault
from nets.datasets.dataset import Dataset
from nets.injection import KINDS, parse_fault
from nets.presets import PRESETS
from nets.run import DTYPES, prepare
from nets.training import train_fair
from tests.nets.states import bits

pytestmark = pytest.mark.rounding

# In float32 some are caught, but are too near to rounding to be told from others.
VELOCITY = "optim/momentum_buffer/0.weight"
FLOAT64 = ("float64",)

# Preset, fault, and where it is found: step, mode, phase and tensor; then what it is called, and in which precisions.
CAUGHT = [
    ("fair", "grad-scale:0.weight:1.5@3", (3, "backward", "0.weight"), "is exactly 3/2 times the reference's", DTYPES),
    ("fair", "grad-scale:0.weight:1.0001@3", (3, "backward", "0.weight"), "is 1.0001 times the reference's", FLOAT64),
    ("fair", "grad-sign:2.weight", (0, "backward", "2.weight"), "is exactly -1 times the reference's", DTYPES),
    ("nnmnist", "grad-transpose:2.weight@2", (2, "backward", "2.weight"), "is the transpose of the ref", DTYPES),
    ("regularised", "grad-zero:6.weight[3,5]@1", (1, "backward", "6.weight"), "Element [3, 5] of 6.weight", DTYPES),
    ("nielsen", "grad-stale:0.weight", (1, "backward", "0.weight"), "is the reference's of the step before", DTYPES),
    ("regularised", "grad-stale:6.bias@3", (3, "backward", "6.bias"), "is the reference's of the step before", DTYPES),
    ("regularised", "bias-mean:1.bias@1", (1, "backward", "1.bias"), "exactly 1/16 of the reference's; 16 is", DTYPES),
    ("regularised", "momentum-lost", (1, "update", VELOCITY), "is the gradient alone", DTYPES),
    ("regularised", "momentum-lost@3", (3, "update", VELOCITY), "is the gradient alone", DTYPES),
    ("nnmnist", "adam-t", (1, "update", "param/0.weight"), "bias correction for t = 1, where t is 2", FLOAT64),
    ("nnmnist", "adam-t@3", (3, "update", "param/0.weight"), "bias correction for t = 1, where t is 4", FLOAT64),
    ("regularised", "lr-epoch@2", (2, "update", "param/0.weight"), "learning rate of 0.005 in place of 0.01", DTYPES),
    ("nnmnist", "label-shift@1", (1, "data", "y"), "Every label is 1 class above the reference's", DTYPES),
    ("nielsen", "label-shift", (0, "data", "y"), "Every label is 1 class above the reference's", DTYPES),
    ("regularised", "dropout-on", (0, "forward", "5.output"), "has dropout in it, p = 0.25, which is left on", DTYPES),
    ("regularised", "cast:4@2", (2, "forward", "4.output"), "the reference's", DTYPES),
    ("fair", "cast:1", (0, "forward", "1.output"), "the reference's", DTYPES),
]  # fmt: skip


# Kinds that are caught from another step, in another preset or in another precision, too.
AGAIN = {
    "cast:4@2", "momentum-lost@3", "grad-stale:6.bias@3", "adam-t@3", "label-shift", "grad-scale:0.weight:1.0001@3",
}  # fmt: skip


def marks_of(preset: str, text: str, dtype: str) -> list[pytest.MarkDecorator]:
    """Mark what is caught elsewhere, too, and in float32 what is no fault of the simplest network: see float64."""
    again = dtype == "float32" and not (preset == "fair" and text.startswith("grad-scale"))
    return [pytest.mark.long] if text in AGAIN or again else []


@pytest.mark.short(3)
@pytest.mark.parametrize(
    ("preset", "text", "place", "diagnosis", "told", "dtype"),
    [
        pytest.param(*row, dtype, marks=marks_of(row[0], row[1], dtype), id=f"{row[0]}-{row[1]}-{dtype}")
        for dtype in DTYPES
        for row in CAUGHT
        if dtype == "float64" or row[0] == "fair"
    ],
)
def test_a_fault_is_caught_where_it_is_and_named(
    digits: Dataset,
    preset: str,
    text: str,
    place: tuple[int, str, str],
    diagnosis: str,
    told: tuple[str, ...],
    dtype: str,
) -> None:
    run = prepare(PRESETS[preset], digits, steps=place[0] + 1, dtype=dtype, train_size=100, test_size=20)
    report = train_fair(run, fault=parse_fault(text, run), sensitivity=False).report
    assert report is not None
    found = report.first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == place
    assert found.training == (text not in ("dropout-on", "cast:1"))
    with pytest.raises(TrajectoryMismatch) as caught:
        report.raise_if_failed()
    if dtype in told:
        assert diagnosis in " ".join(str(caught.value).split())
    else:
        assert found.diagnosis is None or diagnosis in found.diagnosis  # whether it shows, rounding decides
    assert ("in evaluation" in str(caught.value)) == (not found.training)


def test_every_kind_is_planted() -> None:
    assert {text.partition(":")[0].partition("@")[0] for _, text, *_ in CAUGHT} == {*KINDS}


@pytest.mark.parametrize(
    ("preset", "text"),
    [
        ("fair", "grad-scale:0.weight:2@3"),
        ("regularised", "grad-stale:6.bias@3"),
        ("regularised", "momentum-lost@3"),
        ("nnmnist", "adam-t@3"),
        ("regularised", "lr-epoch@3"),
        ("nnmnist", "label-shift@3"),
        ("regularised", "dropout-on@3"),
        ("regularised", "cast:4@3"),
    ],
)
def test_before_its_step_a_planted_engine_is_bitwise_the_engine(digits: Dataset, preset: str, text: str) -> None:
    run = prepare(PRESETS[preset], digits, steps=120)
    engine = run.numpy_engine()
    planted = engine.planted(parse_fault(text, run))
    for index, batch in zip(range(4), run.batches(), strict=False):
        context = Context(training=True, key=Key(run.seed, index))
        evaluated = Context(key=context.key)
        same = engine.evaluate(batch.x, evaluated).tobytes() == planted.evaluate(batch.x, evaluated).tobytes()
        before = copy.deepcopy(planted)
        steps = [observed(one, batch, context) for one in (engine, planted, before)]
        shown = [[array.tobytes() for array in (*step.taps.values(), *step.updated.values())] for step in steps]
        assert shown[1] == shown[2]  # copies are planted, and remember what is stale
        gone_wrong = shown[0] != shown[1] or not same or steps[0].grads["0.weight"].dtype != engine.params.flat.dtype
        stale = any((steps[0].grads[name] != steps[1].grads[name]).any() for name in steps[0].grads)
        assert (gone_wrong or stale) == (index >= 3)


@pytest.mark.long
def test_a_fault_that_never_begins_changes_nothing(digits: Dataset) -> None:
    run = prepare(PRESETS["regularised"], digits, steps=3, train_size=100, test_size=20)
    plain, planted = (train_fair(run, fault=fault, sensitivity=False) for fault in (None, Fault()))
    assert plain.report is not None
    assert planted.report is not None
    assert plain.report.lock_step.ratios.tobytes() == planted.report.lock_step.ratios.tobytes()
    assert bits(plain.engines["numpy"].state()) == bits(planted.engines["numpy"].state())


@pytest.mark.long
def test_dropout_left_on_is_left_on_in_the_last_evaluation_too(digits: Dataset) -> None:
    run = prepare(PRESETS["regularised"], digits, steps=2, train_size=100, test_size=20)
    plain = train_fair(run, sensitivity=False)
    planted = train_fair(run, fault=parse_fault("dropout-on", run), sensitivity=False)
    assert plain.outcomes["torch"].train_accuracy == planted.outcomes["torch"].train_accuracy
    assert plain.outcomes["numpy"].train_accuracy != planted.outcomes["numpy"].train_accuracy
