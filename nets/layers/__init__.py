"""The layers. A new one is a file here and its name in ``LAYERS``."""

from gradcheck.contract import Layer
from nets.layers.flatten import Flatten
from nets.layers.layer_norm import LayerNorm
from nets.layers.leaky_relu import LeakyReLU
from nets.layers.linear import Linear
from nets.layers.relu import ReLU
from nets.layers.sigmoid import Sigmoid
from nets.layers.tanh import Tanh
from nets.sequential import Sequential

LAYERS: tuple[type[Layer], ...] = (Linear, Sigmoid, Tanh, ReLU, LeakyReLU, Flatten, LayerNorm, Sequential)

__all__ = ["LAYERS", "Flatten", "LayerNorm", "LeakyReLU", "Linear", "ReLU", "Sequential", "Sigmoid", "Tanh"]
