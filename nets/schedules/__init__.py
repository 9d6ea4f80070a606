"""The schedules. A new one is a class here and its line below: what is imported is registered."""

from gradcheck.contract import Schedule
from nets.schedules.decay import ConstantRate as ConstantRate
from nets.schedules.decay import CosineAnnealingLR as CosineAnnealingLR
from nets.schedules.decay import ExponentialLR as ExponentialLR
from nets.schedules.decay import MultiStepLR as MultiStepLR
from nets.schedules.decay import PiecewiseConstant as PiecewiseConstant
from nets.schedules.decay import StepLR as StepLR
from nets.schedules.linear_warmup import LinearWarmup as LinearWarmup
from nets.schedules.reduce_lr_on_plateau import ReduceLROnPlateau as ReduceLROnPlateau

SCHEDULES: tuple[type[Schedule], ...] = tuple(
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, Schedule) and each is not Schedule
)
