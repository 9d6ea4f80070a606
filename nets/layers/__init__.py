"""The layers. A new one is a file here and its name in ``LAYERS``."""

from gradcheck.contract import Layer
from nets.layers.flatten import Flatten
from nets.layers.linear import Linear
from nets.layers.relu import ReLU
from nets.layers.sigmoid import Sigmoid
from nets.sequential import Sequential

LAYERS: tuple[type[Layer], ...] = (Linear, Sigmoid, ReLU, Flatten, Sequential)

__all__ = ["LAYERS", "Flatten", "Linear", "ReLU", "Sequential", "Sigmoid"]
