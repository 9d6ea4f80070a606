"""Schedules at rates known in closed form, where they meet, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import pytest

from gradcheck.contract import Schedule
from nets import SCHEDULES
from nets.refusals import UnsupportedArgumentError
from nets.schedules import (
    ConstantRate,
    CosineAnnealingLR,
    ExponentialLR,
    LinearWarmup,
    MultiStepLR,
    PiecewiseConstant,
    ReduceLROnPlateau,
    StepLR,
)
from tests.nets.refused import needs


def rates(schedule: Schedule, epochs: int) -> list[float]:
    """Return the rates of the first epochs."""
    return [schedule(epoch) for epoch in range(epochs)]


@pytest.mark.parametrize(
    ("schedule", "known"),
    [
        (ConstantRate(0.3), [0.3, 0.3, 0.3]),
        (StepLR(1.0, 2, 0.5), [1.0, 1.0, 0.5, 0.5, 0.25]),
        (StepLR(1.0, 3), [1.0, 1.0, 1.0, 0.1]),
        (MultiStepLR(1.0, (2, 4), 0.5), [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]),
        (MultiStepLR(1.0, iter([3, 1, 1]), 0.5), [1.0, 0.25, 0.25, 0.125, 0.125]),
        (MultiStepLR(1.0, [0], 0.5), [0.5, 0.5]),
        (PiecewiseConstant(0.5, (1, 3), (0.5, 4.0)), [0.5, 0.25, 0.25, 2.0, 2.0]),
        (PiecewiseConstant(0.5, (0,), (0.0,)), [0.0, 0.0]),
        (PiecewiseConstant(0.5, (), ()), [0.5, 0.5]),
        (ExponentialLR(8.0, 0.5), [8.0, 4.0, 2.0, 1.0]),
        (CosineAnnealingLR(1.0, 1), [1.0, 0.0, 1.0, 0.0]),
        (LinearWarmup(1.0, ConstantRate(1.0), 0.25, 3), [0.25, 0.5, 0.75, 1.0, 1.0]),
        (LinearWarmup(1.0, StepLR(1.0, 2, 0.5), 0.5, 1), [0.5, 1.0, 1.0, 0.5, 0.5, 0.25]),
        (LinearWarmup(1.0, ExponentialLR(1.0, 0.5), 0.5, 0), [1.0, 0.5, 0.25]),
        (LinearWarmup(1.0, LinearWarmup(1.0, ExponentialLR(1.0, 0.5), 0.25, 1), 0.5, 1), [0.5, 0.25, 1.0, 0.5]),
    ],
    ids=repr,
)
def test_rates_at_known_values(schedule: Schedule, known: list[float]) -> None:
    assert rates(schedule, len(known)) == known


def test_a_cosine_reaches_both_ends_exactly() -> None:
    for half in range(1, 60):
        cosine = CosineAnnealingLR(0.3, half, 0.07)
        assert (cosine(0), cosine(half)) == (0.3, 0.07)
        falling = rates(cosine, half + 1)
        assert falling == sorted(falling, reverse=True)
        assert cosine(2 * half) == pytest.approx(0.3, rel=1e-14)
    quarter = CosineAnnealingLR(2.0, 4, 1.0)
    assert quarter(1) == pytest.approx(1.5 + math.sqrt(0.125), rel=1e-15)


@pytest.mark.parametrize(
    "after", [CosineAnnealingLR(0.3, 7, 0.01), StepLR(0.3, 3), ExponentialLR(0.3, 0.9), MultiStepLR(0.3, [2, 5])]
)
@pytest.mark.parametrize("length", [1, 2, 5, 9])
def test_a_warm_up_moves_at_once_rises_evenly_and_hands_over_at_the_top(after: Schedule, length: int) -> None:
    warm = LinearWarmup(0.3, after, start_factor=0.1, total_iters=length)
    assert warm(0) == pytest.approx(0.03)
    steps = [warm(epoch + 1) - warm(epoch) for epoch in range(length)]  # the last of them over the hand-over
    assert steps == pytest.approx([0.27 / length] * length)
    assert warm(length) == 0.3 == max(rates(warm, 40))
    assert rates(warm, 40)[length:] == rates(after, 40 - length)


def test_a_warm_up_of_another_rate_takes_what_follows_along() -> None:
    warm = LinearWarmup(0.3, CosineAnnealingLR(0.3, 7, 0.01), total_iters=2).with_lr(0.6)
    assert warm == LinearWarmup(0.6, CosineAnnealingLR(0.6, 7, 0.01), total_iters=2)
    assert StepLR(1.0, 2).with_lr(0.5) == StepLR(0.5, 2)


PLATEAU = ReduceLROnPlateau(1.0, factor=0.5, patience=1, threshold=0.0)


@pytest.mark.parametrize(
    ("schedule", "history", "known"),
    [
        (PLATEAU, [3.0, 2.0, 1.0], [1.0, 1.0, 1.0, 1.0]),
        # Better, equal, equal: two epochs without a new best are more than a patience of one.
        (PLATEAU, [3.0, 3.0, 3.0, 3.0, 3.0], [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]),
        # The best stays: 2 is no improvement on 1, nor is it after the rate has fallen.
        (PLATEAU, [1.0, 2.0, 2.0, 1.5, 1.25], [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]),
        (PLATEAU, [2.0, math.nan, math.nan, 1.0], [1.0, 1.0, 1.0, 0.5, 0.5]),
        (replace(PLATEAU, patience=0), [2.0, 2.0, 1.0, 2.0], [1.0, 1.0, 0.5, 0.5, 0.25]),
        (replace(PLATEAU, patience=0, cooldown=2), [2.0] * 5, [1.0, 1.0, 0.5, 0.5, 0.5, 0.25]),
        (replace(PLATEAU, patience=0, mode="max"), [2.0, 3.0, 1.0, 3.0], [1.0, 1.0, 1.0, 0.5, 0.25]),
        (replace(PLATEAU, patience=0, threshold=0.25), [4.0, 3.0, 2.0], [1.0, 1.0, 0.5, 0.5]),
        (replace(PLATEAU, patience=0, threshold=1.0, threshold_mode="abs"), [4.0, 3.0, 2.0], [1.0, 1.0, 0.5, 0.5]),
        (replace(PLATEAU, patience=0, min_lr=0.4), [1.0] * 4, [1.0, 1.0, 0.5, 0.4, 0.4]),
        (replace(PLATEAU, patience=0, min_lr=2.0), [1.0] * 3, [1.0, 1.0, 1.0, 1.0]),
        # It counts from where it begins: a loss of the rise is neither its best nor an epoch without one.
        (LinearWarmup(1.0, PLATEAU, 0.5, 2), [1.0, 1.0, 3.0, 3.0, 3.0], [0.5, 0.75, 1.0, 1.0, 1.0, 0.5]),
        (replace(PLATEAU, patience=0, eps=0.25), [1.0] * 4, [1.0, 1.0, 0.5, 0.5, 0.5]),
    ],
    ids=str,
)
def test_a_plateau_lowers_the_rate_of_the_epochs_after_it(
    schedule: Schedule, history: list[float], known: list[float]
) -> None:
    assert [schedule(epoch, history[:epoch]) for epoch in range(len(known))] == known
    # What comes later changes nothing.
    assert [schedule(epoch, history) for epoch in range(len(known))] == known


def test_defaults_are_torchs() -> None:
    import inspect

    import torch

    for schedule in SCHEDULES:
        theirs = getattr(torch.optim.lr_scheduler, schedule.__name__, None)
        if theirs is None:
            assert schedule in (ConstantRate, LinearWarmup, PiecewiseConstant)
            continue
        arguments = list(inspect.signature(theirs).parameters.values())[1:]
        expected = [(p.name, p.default) for p in arguments if p.name != "last_epoch"]
        own = list(inspect.signature(schedule).parameters.values())
        assert own[0].name == "lr"
        assert [(p.name, p.default) for p in own[1:]] == expected
    rise = inspect.signature(torch.optim.lr_scheduler.LinearLR).parameters
    assert {f.name: f.default for f in fields(LinearWarmup)[2:]} == {
        name: rise[name].default for name in ("start_factor", "total_iters")
    }


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(StepLR, 0.1, 0), "step_size of at least 1, got 0"),
        (partial(StepLR, 0.1, 2, -0.5), "gamma of at least 0, got -0.5"),
        (partial(StepLR, 0.1, 2, math.nan), "gamma of at least 0, got nan"),
        (partial(MultiStepLR, 0.1, [3, -1]), "milestones of at least 0, got (3, -1)"),
        (partial(MultiStepLR, 0.1, [3], -1), "gamma of at least 0, got -1"),
        (
            partial(PiecewiseConstant, 0.1, (3, 1), (0.5, 0.1)),
            "milestones that rise, from 0 or above, got (3, 1) and (0.5, 0.1)",
        ),
        (partial(PiecewiseConstant, 0.1, (3,), (-0.5,)), "factors of at least 0, got (3,) and (-0.5,)"),
        (partial(PiecewiseConstant, 0.1, (3,), ()), "a factor for each milestone, got (3,) and ()"),
        (partial(ExponentialLR, 0.1, -1), "gamma of at least 0, got -1"),
        (partial(CosineAnnealingLR, 0.1, 0), "T_max of at least 1, got 0"),
        (partial(CosineAnnealingLR, 0.1, 3, -0.1), "eta_min of at least 0, got -0.1"),
        (partial(LinearWarmup, 0.1, ConstantRate(0.1), 0.0), "a start_factor in (0, 1], got 0.0"),
        (partial(LinearWarmup, 0.1, ConstantRate(0.1), 1.5), "a start_factor in (0, 1], got 1.5"),
        (partial(LinearWarmup, 0.1, ConstantRate(0.1), total_iters=-1), "total_iters of at least 0, got -1"),
        (partial(LinearWarmup, 0.1, ConstantRate(0.3)), "its own lr of 0.1 after it, got 0.3"),
        (partial(ReduceLROnPlateau, 0.1, factor=1.0), "a factor in [0, 1), got 1.0"),
        (partial(ReduceLROnPlateau, 0.1, patience=-1), "patience of at least 0, got -1"),
        (partial(ReduceLROnPlateau, 0.1, threshold=-1), "threshold of at least 0, got -1"),
        (partial(ReduceLROnPlateau, 0.1, cooldown=-1), "cooldown of at least 0, got -1"),
        (partial(ReduceLROnPlateau, 0.1, min_lr=-1), "min_lr of at least 0, got -1"),
        (partial(ReduceLROnPlateau, 0.1, eps=-1), "eps of at least 0, got -1"),
        (partial(ReduceLROnPlateau, 0.1, min_lr=[0.1, 0.2]), "one min_lr, as it has one lr, got [0.1, 0.2]"),  # type: ignore[arg-type]  # torch's
        (partial(ReduceLROnPlateau, 0.1, "least"), "mode min or max, got 'least'"),  # type: ignore[arg-type]
        (partial(ReduceLROnPlateau, 0.1, threshold_mode="relative"), "threshold_mode rel or abs, got 'relative'"),  # type: ignore[arg-type]
        (partial(PLATEAU, 3, [1.0]), "the 3 losses before epoch 3, got 1"),
    ],
)
def test_what_is_out_of_range_is_refused(make: Callable[[], object], message: str) -> None:
    assert needs(ValueError, make) == message


@pytest.mark.parametrize("after", [None, StepLR, 0.1])
def test_a_warm_up_into_no_schedule_is_refused(after: Any) -> None:  # noqa: ANN401  the mistakes
    assert needs(TypeError, LinearWarmup, 0.1, after) == f"a schedule after it, such as ConstantRate(lr), got {after!r}"


@pytest.mark.parametrize(
    ("schedule", "arguments", "name"),
    [
        (StepLR, {"lr": 0.1, "step_size": 1}, "last_epoch"),
        (MultiStepLR, {"lr": 0.1, "milestones": []}, "last_epoch"),
        (ExponentialLR, {"lr": 0.1, "gamma": 0.5}, "last_epoch"),
        (CosineAnnealingLR, {"lr": 0.1, "T_max": 3}, "last_epoch"),
        (LinearWarmup, {"lr": 0.1, "after": ConstantRate(0.1)}, "last_epoch"),
        (LinearWarmup, {"lr": 0.1, "after": ConstantRate(0.1)}, "end_factor"),
    ],
)
def test_what_torch_has_more_is_refused_by_name(schedule: type, arguments: dict[str, object], name: str) -> None:
    with pytest.raises(UnsupportedArgumentError, match=f"{schedule.__name__} does not support {name}: it is "):
        schedule(**arguments, **{name: 1})
