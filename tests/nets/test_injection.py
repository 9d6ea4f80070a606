"""Faults by name: what is refused, and why."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from nets.datasets.dataset import Dataset
from nets.injection import KINDS, FaultKind, parse_fault
from nets.optimizers import SGD, ClippedByNorm
from nets.presets import PRESETS
from nets.run import Run, prepare
from nets.schedules import StepLR

SCALE = "grad-scale needs grad-scale:TENSOR:FACTOR[@STEP], such as grad-scale:0.weight:1.0001@1500; got "


def run_of(digits: Dataset, preset: str, steps: int = 40, batch_size: int | None = None, dtype: str = "float64") -> Run:
    return prepare(PRESETS[preset], digits, steps=steps, batch_size=batch_size, dtype=dtype)


@pytest.mark.parametrize(
    ("preset", "text", "message"),
    [
        ("fair", "sign:0.weight", "there is no fault 'sign'; there are grad-scale, grad-sign, grad-transpose, "),
        ("fair", "", "there is no fault ''; there are grad-scale, "),
        ("fair", "Grad-Sign:0.weight", "there is no fault 'Grad-Sign'; "),
        ("fair", "grad-scale", SCALE + "'grad-scale'"),
        ("fair", "grad-scale:0.weight", SCALE),
        ("fair", "grad-scale:0.weight:two", SCALE),
        ("fair", "grad-scale:0.weight:nan", SCALE),
        ("fair", "grad-scale:0.weight:inf", SCALE),
        ("fair", "grad-scale:0.weight:2@", SCALE),
        ("fair", "grad-scale:0.weight:2@-1", SCALE),
        ("fair", "grad-scale:0.weight:2@1e3", SCALE),
        ("fair", "grad-scale:0.weight:2@1@2", SCALE),
        ("fair", "label-shift:1", "label-shift needs label-shift[@STEP], such as label-shift@5; got 'label-shift:1'"),
        ("fair", "grad-scale:9.weight:2", "grad-scale knows no tensor '9.weight'; there are 0.weight, 0.bias, "),
        ("fair", "grad-sign:9.weight", "grad-sign knows no tensor '9.weight'; there are 0.weight, 0.bias"),
        ("fair", "grad-stale:9.weight", "grad-stale knows no tensor '9.weight'; "),
        ("fair", "grad-scale:0.weight:1", "grad-scale has no effect: a factor of 1.0 is 1 in float64"),
        ("fair", "grad-scale:0.weight:2@40", "grad-scale begins at step 40; the run has steps 0 to 39"),
        ("fair", "lr-epoch@40", "lr-epoch begins at step 40; the run has steps 0 to 39"),
        ("fair", "grad-transpose:0.weight", "needs a square tensor, 0.weight has shape (128, 784); fair has none"),
        ("nnmnist", "grad-transpose:2.bias", "needs a square tensor, 2.bias has shape (10,); there are 2.weight"),
        ("fair", "grad-zero:0.weight", "grad-zero needs grad-zero:TENSOR[INDEX][@STEP], such as grad-zero:0.weight["),
        ("fair", "grad-zero:0.weight[128,0]", "needs an element of 0.weight, of shape (128, 784), got [128, 0]"),
        ("fair", "grad-zero:0.weight[1]", "needs an element of 0.weight, of shape (128, 784), got [1]"),
        ("fair", "grad-zero:0.weight[3,7]", "what it would change in 0.weight's gradient is 0 for every image"),
        ("fair", "bias-mean:0.weight", "bias-mean knows no bias '0.weight'; there are 0.bias, 2.bias"),
        ("fair", "bias-mean:0.bias", "bias-mean has no effect at batch 1, where a sum and its mean are the same"),
        ("fair", "momentum-lost", "momentum-lost needs an optimizer with momentum, fair has SGD"),
        ("nnmnist", "momentum-lost", "momentum-lost needs an optimizer with momentum, nnmnist has Adam"),
        ("fair", "adam-t", "adam-t needs Adam, fair has SGD"),
        ("fair", "lr-epoch", "lr-epoch has no effect: the rate of every epoch is 0.05, and that of the next too"),
        ("fair", "dropout-on", "dropout-on needs a network with dropout, fair has none"),
        ("regularised", "dropout-on@1", "the run evaluates before every 100th step, and before none from 1 on"),
        ("fair", "cast:9", "cast knows no layer '9'; there are 0, 1, 2"),
    ],
)  # fmt: skip
def test_what_would_change_nothing_is_refused(digits: Dataset, preset: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        parse_fault(text, run_of(digits, preset))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("preset", "text"), [("fair", "grad-stale:0.weight"), ("regularised", "momentum-lost"), ("nnmnist", "adam-t")]
)
def test_a_single_step_forgets_nothing(digits: Dataset, preset: str, text: str) -> None:
    message = "has no effect in the first step of a run, and this run has no other"
    with pytest.raises(ValueError, match=message):
        parse_fault(text, run_of(digits, preset, steps=1))


def test_a_factor_must_fit_the_precision(digits: Dataset) -> None:
    with pytest.raises(ValueError, match=r"needs a factor that fits float32, got 1e\+39"):
        parse_fault("grad-scale:0.weight:1e39", run_of(digits, "fair", dtype="float32"))
    with pytest.raises(ValueError, match=r"a factor of 1\.00000001 is 1 in float32"):
        parse_fault("grad-scale:0.weight:1.00000001", run_of(digits, "fair", dtype="float32"))


def test_a_last_batch_of_one_sample_has_no_mean(digits: Dataset) -> None:
    run = prepare(PRESETS["fair"], digits, train_size=5, batch_size=2, epochs=1)
    parse_fault("bias-mean:0.bias@1", run)
    with pytest.raises(ValueError, match="has no effect at batch 1"):
        parse_fault("bias-mean:0.bias@2", run)


def test_a_rate_that_is_not_reached_is_not_that_of_the_next_epoch(digits: Dataset) -> None:
    preset = replace(PRESETS["regularised"], schedule=StepLR(0.01, step_size=2))
    with pytest.raises(ValueError, match=r"the rate of every epoch is 0\.01, and that of the next too"):
        parse_fault("lr-epoch", prepare(preset, digits, train_size=32, steps=2))
    parse_fault("lr-epoch", prepare(preset, digits, train_size=32, steps=3))


def test_inner_layers_and_inner_optimizers_are_found(digits: Dataset) -> None:
    network = "Sequential((Dropout(0.5), Linear(784, 10)))"
    preset = replace(PRESETS["fair"], network=network, optimizer=ClippedByNorm(SGD(momentum=0.5), 1.0))
    run = prepare(preset, digits, steps=3)
    parse_fault("momentum-lost", run)
    parse_fault("dropout-on", run)
    with pytest.raises(ValueError, match=r"there are 0\.0, 0\.1, 0$"):
        parse_fault("cast:1", run)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_example_of_every_kind_is_one(digits: Dataset, kind: FaultKind) -> None:
    for preset in ("fair", "nnmnist", "regularised"):
        try:
            fault = parse_fault(kind.example, run_of(digits, preset, steps=2000, batch_size=2))
        except ValueError:
            continue
        assert fault.begin == int(kind.example.partition("@")[2] or 0)
        return
    pytest.fail("no preset has it")
