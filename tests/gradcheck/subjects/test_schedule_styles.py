# mypy: ignore-errors
"""Schedules as people write them: each is read, a right one passes, a wrong one is caught, as far as it changes."""

from __future__ import annotations

import functools
import math
import re
from types import SimpleNamespace

import numpy as np
import pytest

from gradcheck.checks import check_schedule
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError

torch = pytest.importorskip("torch")

S = torch.optim.lr_scheduler


def twin(optimizer):
    return S.StepLR(optimizer, 3, 0.5)


def rate(epoch, late=0):
    return 0.1 * 0.5 ** (max(epoch - late, 0) // 3)


class Callable:
    def __init__(self, late=0):
        self.late = late

    def __call__(self, step):
        return rate(step, self.late)


class Asked(Callable):
    __call__ = None

    def get_lr(self, epoch):
        return rate(epoch, self.late)


class OfAnOptimizer:
    """Steps after each epoch, and sets the rate of an optimizer."""

    def __init__(self, late=0):
        self.optimizer, self.late, self.count = SimpleNamespace(lr=0.1), late, 0

    def step(self):
        self.count += 1
        self.optimizer.lr = rate(self.count, self.late)


class Halving:
    """Steps after each epoch, and keeps its rate."""

    def __init__(self, late=0):
        self.lr, self.late, self.count = 0.1, late, 0

    def step(self):
        self.count += 1
        if self.count > self.late and (self.count - self.late) % 3 == 0:
            self.lr *= 0.5

    def get_last_lr(self):
        return [self.lr]


class Returning:
    """Steps before each epoch, and returns its rate."""

    def __init__(self, late=0):
        self.late, self.count = late, -1

    def step(self):
        self.count += 1
        return rate(self.count, self.late)


class Told:
    """Is told the epoch, and keeps its rate."""

    def __init__(self, late=0):
        self.learning_rate, self.late = None, late

    def step(self, epoch):
        self.learning_rate = rate(epoch, self.late)


def of_the_epoch(late=0):
    return lambda epoch: rate(epoch, late)


def of_the_rate_before(late=0):
    def schedule(epoch, lr):
        return lr * 0.5 if epoch > late and (epoch - late) % 3 == 0 else lr

    return schedule


def of_the_rate_at_first(late=0):
    def schedule(epoch, lr):
        return lr / 0.1 * rate(epoch, late)

    return schedule


def of_a_base_rate(late=0):
    def schedule(base_lr, epoch_num, factor):
        return base_lr * factor ** (max(epoch_num - late, 0) // 3)

    return functools.partial(schedule, factor=0.5)


def adjusting(late=0):
    def adjust_learning_rate(optimizer, epoch):
        for group in optimizer.param_groups:
            group["lr"] = rate(epoch, late)

    return adjust_learning_rate


def setting(late=0):
    def set_rate(epoch, optimizer):
        optimizer.learning_rate = rate(epoch, late)

    return set_rate


def generating(late=0):
    def rates_in_turn():
        epoch = 0
        while True:
            yield rate(epoch, late)
            epoch += 1

    return rates_in_turn


def rates(late=0):
    return [rate(epoch, late) for epoch in range(12)]


def array(late=0):
    return np.array(rates(late))


STYLES = {
    Callable: "read as: Callable(step);",
    Asked: "read as: get_lr(epoch);",
    OfAnOptimizer: "read as: step() once an epoch, rate in optimizer.lr before it;",
    Halving: "read as: step() once an epoch, rate in get_last_lr before it;",
    Returning: "read as: step() once an epoch, rate returned;",
    Told: "read as: step(epoch) once an epoch, rate in learning_rate after it;",
    of_the_epoch: "read as: <lambda>(epoch); looked at epochs 0 to 999: the rate is constant, or as good as 0, from",
    of_the_rate_before: "read as: schedule(epoch, lr), lr being that of the epoch before;",
    of_the_rate_at_first: "read as: schedule(epoch, lr), lr being 0.1 in every epoch, not that before;",
    of_a_base_rate: "read as: schedule(base_lr, epoch_num);",
    adjusting: "read as: adjust_learning_rate(optimizer, epoch), which sets the rate of an optimizer;",
    setting: "read as: set_rate(epoch, optimizer), which sets the rate of an optimizer;",
    generating: "read as: rates_in_turn(), a generator of one rate an epoch;",
    rates: "read as: 12 rates, one an epoch; looked at epochs 0 to 11: the schedule ends there",
    array: "read as: 12 rates, one an epoch; looked at epochs 0 to 11: the schedule ends there",
}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_every_style_is_read_and_a_right_schedule_passes(style) -> None:
    report = check_schedule(style(), twin)
    assert report, str(report)
    assert STYLES[style] in str(report)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
def test_in_every_style_a_schedule_that_is_late_is_caught(style) -> None:
    report = check_schedule(style(late=1), twin)
    assert [finding.property for finding in report.failures] == ["rates_agree_with_twin"]
    assert "every rate comes one epoch late" in str(report)
    assert "first wrong in epoch 3" in str(report)


def cosine_of(epoch, total):
    return 0.05 * (1 + math.cos(math.pi * epoch / total))


def test_the_number_of_epochs_is_the_twins_or_else_is_given() -> None:
    report = check_schedule(cosine_of, lambda optimizer: S.CosineAnnealingLR(optimizer, 20))
    assert report, str(report)
    assert "cosine_of(epoch, total), total being 20" in str(report)

    def reference(epoch):
        return cosine_of(epoch, 8)

    assert check_schedule(cosine_of, reference=reference, epochs=8)
    with pytest.raises(AdapterError, match=re.escape("cosine_of(epoch, total) is to know total: say it with epochs=")):
        check_schedule(cosine_of, reference=reference)


def test_a_schedule_is_a_reference_where_torch_has_none() -> None:
    def square_root(epoch):
        return 0.1 / math.sqrt(epoch + 1)

    assert check_schedule(lambda epoch: 0.1 * (epoch + 1) ** -0.5, reference=square_root)
    assert check_schedule(lambda epoch: 0.1 * (epoch + 2) ** -0.5, reference=square_root).verdict is Verdict.FAIL
    assert check_schedule(rates(), reference=Halving())


def late_in(epoch):
    """A mistake in epoch 600 alone, and in the thousands."""
    return rate(epoch) + 1e-3 * (epoch == 600)


def test_how_far_is_looked_is_said_and_can_be_given() -> None:
    assert "wrong in epoch 600 alone" in str(check_schedule(late_in, twin))
    report = check_schedule(late_in, twin, epochs=20)
    assert report
    assert "looked at epochs 0 to 19: as epochs= says" in str(report)

    def slow(epoch):
        return 0.1 * min(1.0, (epoch + 1) / 4000)

    def of_steps(optimizer):
        return S.LambdaLR(optimizer, lambda epoch: min(1.0, (epoch + 1) / 4000))

    report = check_schedule(slow, of_steps)
    assert "looked at epochs 0 to 4999: the rate is constant, or as good as 0, from epoch 3999 on" in str(report)


def clamped(epoch):
    return 0.05 * (1 + math.cos(math.pi * min(epoch, 20) / 20))


def test_what_follows_the_end_of_torchs_is_told_and_no_fault_unless_it_is_asked_for() -> None:
    def cosine(optimizer):
        return S.CosineAnnealingLR(optimizer, 20)

    report = check_schedule(clamped, cosine)
    assert report
    assert "looked at epochs 0 to 20: torch's has ended in epoch 20, and what follows differs" in str(report)
    assert "it stays at its least rate from epoch 20 on" in str(check_schedule(clamped, cosine, epochs=40))
    assert check_schedule(lambda epoch: clamped(min(epoch, 19)), cosine).verdict is Verdict.FAIL


def test_a_schedule_or_a_twin_that_ends_is_compared_up_to_there() -> None:
    report = check_schedule(lambda epoch: rates()[epoch], twin)
    assert report
    assert "looked at epochs 0 to 11: the schedule ends there: it raises IndexError" in str(report)

    def one_cycle(optimizer):
        return S.OneCycleLR(optimizer, 0.1, total_steps=30)

    report = check_schedule(lambda epoch: 0.1, one_cycle)
    assert report.verdict is Verdict.FAIL
    assert "looked at epochs 0 to 30: the reference ends there" in str(report)


def plateau(optimizer):
    return S.ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.0)


class OnPlateau:
    """Halves its rate after each loss that is not less than the least."""

    def __init__(self, patience=0):
        self.lr, self.best, self.bad, self.patience = 0.1, math.inf, 0, patience

    def step(self, loss):
        self.best, self.bad = (loss, 0) if loss < self.best else (self.best, self.bad + 1)
        if self.bad > self.patience:
            self.lr, self.bad = 0.5 * self.lr, 0


def test_an_object_may_be_told_the_losses() -> None:
    report = check_schedule(OnPlateau(), plateau)
    assert report, str(report)
    assert "the rate follows the losses" in str(report)
    assert check_schedule(OnPlateau(1), plateau).verdict is Verdict.FAIL


MISTAKES = {
    "a number": (lambda: check_schedule(0.1, twin), "float cannot be called"),
    "an object without a rate": (lambda: check_schedule(object(), twin), "steps to no rate that was found"),
    "None": (
        lambda: check_schedule(lambda epoch: None, twin),
        "gives None; the rate of the epoch, a number, is needed",
    ),
    "from 1": (
        lambda: check_schedule(lambda epoch: 1 / epoch, twin),
        "counted from 1, give lambda epoch: f(epoch + 1)",
    ),
    "a longer list": (
        lambda: check_schedule(rates(), twin, epochs=20),
        "12 rates in the list, and epochs= asks for 20",
    ),
    "an unknown argument": (
        lambda: check_schedule(lambda lr0, epoch, decay: lr0, twin),
        "has an argument decay that is not known: give a function of the epoch",
    ),
    "no reference": (lambda: check_schedule(rate), "or a reference=, such as a function from the epoch to the rate"),
    "two references": (lambda: check_schedule(rate, twin, reference=rate), "and not both"),
    "a list for a twin": (lambda: check_schedule(rate, rates()), "got a list"),
    "no scheduler": (lambda: check_schedule(rate, lambda optimizer: 0.1), "a torch scheduler is needed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_read_says_in_one_line_what_to_write(mistake) -> None:
    call, text = MISTAKES[mistake]
    with pytest.raises(AdapterError, match=re.escape(text)) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_objects_stay_as_they_were() -> None:
    schedule = Halving()
    check_schedule(schedule, twin)
    assert (schedule.lr, schedule.count) == (0.1, 0)
