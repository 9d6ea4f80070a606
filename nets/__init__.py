"""Networks from scratch in NumPy, and their torch twins."""

from nets.initializers import INITIALIZERS
from nets.layers import LAYERS
from nets.losses import LOSSES
from nets.optimizers import OPTIMIZERS
from nets.schedules import SCHEDULES

__all__ = ["INITIALIZERS", "LAYERS", "LOSSES", "OPTIMIZERS", "SCHEDULES"]
