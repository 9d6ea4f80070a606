"""The layers. A new one is a file here and its name in ``LAYERS``."""

from gradcheck.contract import Layer
from nets.layers.adaptive_avg_pool2d import AdaptiveAvgPool2d
from nets.layers.avg_pool2d import AvgPool2d
from nets.layers.batch_norm import BatchNorm1d, BatchNorm2d
from nets.layers.conv2d import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.flatten import Flatten
from nets.layers.layer_norm import LayerNorm
from nets.layers.leaky_relu import LeakyReLU
from nets.layers.linear import Linear
from nets.layers.max_pool2d import MaxPool2d
from nets.layers.relu import ReLU
from nets.layers.sigmoid import Sigmoid
from nets.layers.tanh import Tanh
from nets.sequential import Sequential

LAYERS: tuple[type[Layer], ...] = (
    Linear,
    Conv2d,
    MaxPool2d,
    AvgPool2d,
    AdaptiveAvgPool2d,
    Sigmoid,
    Tanh,
    ReLU,
    LeakyReLU,
    Flatten,
    LayerNorm,
    BatchNorm1d,
    BatchNorm2d,
    Dropout,
    Sequential,
)

__all__ = [
    "LAYERS",
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
]
