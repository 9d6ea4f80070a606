"""Mistakes in schedules are named with the epochs that they are in, and nothing is said of unusual ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from gradcheck.checks import check_schedule

torch = pytest.importorskip("torch")

S = torch.optim.lr_scheduler
Twin = Callable[[Any], Any]
COS = math.cos


def step(optimizer: Any) -> Any:
    return S.StepLR(optimizer, 3, 0.5)


def milestones(optimizer: Any) -> Any:
    return S.MultiStepLR(optimizer, [30, 80], 0.1)


def cosine(optimizer: Any) -> Any:
    return S.CosineAnnealingLR(optimizer, 20, 0.02)


def exponential(optimizer: Any) -> Any:
    return S.ExponentialLR(optimizer, 0.9)


def power(optimizer: Any) -> Any:
    return S.PolynomialLR(optimizer, 30, 2.0)


def warm_up(optimizer: Any) -> Any:
    return S.LinearLR(optimizer, 0.25, 1.0, 3)


def warm_up_and_cosine(optimizer: Any) -> Any:
    rise = S.LambdaLR(optimizer, lambda epoch: (epoch + 1) / 10)
    return S.SequentialLR(optimizer, [rise, S.CosineAnnealingLR(optimizer, 40)], [10])


def constant(optimizer: Any) -> Any:
    return S.ConstantLR(optimizer, 1.0)


def half(wave: float, low: float = 0.02) -> float:
    return low + (0.1 - low) * (1 + wave) / 2


def risen(epoch: int, progress: float) -> float:
    return 0.1 * (epoch + 1) / 10 if epoch < 10 else 0.05 * (1 + COS(math.pi * min(progress, 1.0)))


MISTAKES: dict[str, tuple[Callable[[int], float], Twin, str, str]] = {
    "late": (lambda e: 0.1 * 0.5 ** (max(e - 1, 0) // 3), step, "epoch late: the first rate comes twice", "epoch 3"),
    "early": (lambda e: 0.1 * 0.5 ** ((e + 1) // 3), step, "every rate comes one epoch early", "epoch 2"),
    "late by >": (lambda e: 0.1 * 0.1 ** sum(e > m for m in (30, 80)), milestones, "one epoch late", "epochs 30, 80"),
    "every 4": (lambda e: 0.1 * 0.5 ** (e // 4), step, "a step comes every 4 epochs, in torch every 3", "epoch 3"),
    "no whole division": (lambda e: 0.1 * 0.5 ** (e / 3), step, "the division is not a whole one", "epoch 1"),
    "once": (lambda e: 0.1 * (0.5 if e >= 3 else 1), step, "the rate falls once, and not again", "epoch 6"),
    "one of gamma": (lambda e: 0.1 * 0.7 ** (e // 3), lambda o: S.StepLR(o, 3, 0.3), "takes 1 - gamma", "epoch 3"),
    "from zero": (lambda e: 0.1 * min(e / 4, 1), warm_up, "one epoch late, after a rate of 0", "epoch 0"),
    "another base": (lambda e: 0.3 * 0.9**e, exponential, "3 times the reference's, as for a rate of 0.3", "epoch 0"),
    "a factor": (lambda e: 0.5 ** (e // 3), step, "it returns the factor, not the rate", "epoch 0"),
    "constant": (lambda e: 0.1, step, "the rate never changes", "epoch 3"),
    "twice a constant": (lambda e: 0.2, constant, "every rate is 2 times the reference's", "epoch 0"),
    "steps for epochs": (
        lambda e: 0.1 * 0.1 ** sum(10 * e >= m for m in (30, 80)), milestones, "10 times too fast", "epoch 3",
    ),
    "epochs for steps": (
        lambda e: 0.1 * 0.1 ** sum(e // 5 >= m for m in (30, 80)), milestones, "stays for 5 epochs", "epoch 30",
    ),
    "1 - gamma": (lambda e: 0.1 * 0.1**e, exponential, "the factor is 1 - gamma", "epoch 1"),
    "exp": (lambda e: 0.1 * math.exp(-0.1 * e), exponential, "exp(-(1 - gamma) epoch)", "epoch 1"),
    "no power": (lambda e: 0.1 * max(1 - e / 30, 0), power, "the power is left out", "epoch 1"),
    "degrees": (lambda e: half(COS(180 * min(e, 20) / 20)), cosine, "is given degrees, and takes radians", "epoch 1"),
    "a whole period": (lambda e: half(COS(2 * math.pi * min(e, 20) / 20)), cosine, "2 pi for pi", "epoch 1"),
    "a quarter": (lambda e: half(COS(math.pi * min(e, 20) / 40)), cosine, "a quarter of a period", "epoch 1"),
    "not halved": (lambda e: 0.02 + 0.08 * (1 + COS(math.pi * min(e, 20) / 20)), cosine, "not halved", "epoch 0"),
    "a sine": (lambda e: half(math.sin(math.pi * min(e, 20) / 20)), cosine, "a sine where the cosine", "epoch 0"),
    "no least rate": (lambda e: half(COS(math.pi * min(e, 20) / 20), 0), cosine, "eta_min, is left out", "epoch 1"),
    "a line": (lambda e: 0.02 + 0.08 * max(1 - e / 20, 0), cosine, "along a line where a cosine", "epoch 1"),
    "19 for 20": (lambda e: half(COS(math.pi * min(e, 19) / 19)), cosine, "19 epochs in place of 20", "epoch 1"),
    "warm-up counted": (
        lambda e: risen(e, (e - 10) / 50) if e < 50 else 0.0, warm_up_and_cosine, "those before it are counted",
        "epoch 11",
    ),
    "from some epoch on": (
        lambda e: 0.1 * min(1, (e + 1) / 30) * (1.1 if e > 40 else 1),
        lambda o: S.LambdaLR(o, lambda e: min(1, (e + 1) / 30)),
        "right up to epoch 40; from epoch 41 on every rate is 1.1 times the reference's", "epoch 41",
    ),
    "one epoch repeated": (
        lambda e: 0.1 * 0.9 ** (5 if e == 6 else e), exponential, "epoch 6 repeats the rate of epoch 5", "6 alone",
    ),
    "stops": (
        lambda e: 0.1 * 0.9 ** min(e, 9), exponential, "from epoch 10 on the rate stays as it is", "epoch 10",
    ),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_schedule_are_named(mistake: str) -> None:
    schedule, twin, said, where = MISTAKES[mistake]
    (finding,) = check_schedule(schedule, twin).failures
    assert said in finding.diagnosis, finding
    assert where in finding.message, finding


class Compounding:
    """Applies the factor of each epoch to the rate that is left of the one before."""

    def __init__(self) -> None:
        self.lr = 0.1

    def __call__(self, epoch: int) -> float:
        self.lr *= 0.9**epoch
        return self.lr


def test_a_rate_that_compounds_is_named() -> None:
    report = check_schedule(Compounding(), exponential)
    assert "it compounds" in str(report)
    assert {finding.property for finding in report.failures} == {
        "rates_agree_with_twin",
        "rates_do_not_depend_on_earlier_calls",
    }


RIGHT: list[tuple[Callable[[int], float], Twin]] = [
    (lambda e: 0.1 * 0.5 ** (e // 3), step),
    (lambda e: 0.1 * 0.1 ** sum(e >= m for m in (30, 80)), milestones),
    (lambda e: half(COS(math.pi * e / 20)), cosine),
    (lambda e: half(COS(math.pi * min(e, 20) / 20)), cosine),
    (lambda e: 0.1 * 0.9**e, exponential),
    (lambda e: 0.1 * max(1 - e / 30, 0) ** 2, power),
    (lambda e: 0.1 * (1 - e / 30) ** 2, power),
    (lambda e: 0.1 * min((e + 1) / 4, 1), warm_up),
    (lambda e: risen(e, (e - 10) / 40), warm_up_and_cosine),
]


@pytest.mark.parametrize(("schedule", "twin"), RIGHT)
def test_schedules_without_mistakes_pass(schedule: Callable[[int], float], twin: Twin) -> None:
    report = check_schedule(schedule, twin)
    assert report, str(report)


@pytest.mark.parametrize(
    ("schedule", "twin"),
    [(lambda e: 0.1 / (1 + e), cosine), (lambda e: 0.1 * 0.5 ** (e // 3) + 1e-6 * (e % 5), step)],
)
def test_of_other_mistakes_nothing_is_said(schedule: Callable[[int], float], twin: Twin) -> None:
    (finding,) = check_schedule(schedule, twin).failures
    assert finding.diagnosis == ""
