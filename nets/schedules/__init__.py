"""The learning-rate schedules. A new one is a class here and its name in ``SCHEDULES``."""

from gradcheck.contract import Schedule
from nets.schedules.decay import ConstantRate, CosineAnnealingLR, ExponentialLR, MultiStepLR, StepLR
from nets.schedules.linear_warmup import LinearWarmup
from nets.schedules.reduce_lr_on_plateau import ReduceLROnPlateau

SCHEDULES: tuple[type[Schedule], ...] = (
    ConstantRate,
    StepLR,
    MultiStepLR,
    ExponentialLR,
    CosineAnnealingLR,
    LinearWarmup,
    ReduceLROnPlateau,
)

__all__ = [
    "SCHEDULES",
    "ConstantRate",
    "CosineAnnealingLR",
    "ExponentialLR",
    "LinearWarmup",
    "MultiStepLR",
    "ReduceLROnPlateau",
    "StepLR",
]
