"""The layers. A new one is a file here and its name in ``LAYERS``."""

from gradcheck.contract import Layer
from nets.layers.batch_norm import BatchNorm1d, BatchNorm2d
from nets.layers.conv2d import Conv2d
from nets.layers.dropout import Dropout
from nets.layers.elu import ELU, SELU
from nets.layers.flatten import Flatten
from nets.layers.gelu import GELU
from nets.layers.layer_norm import LayerNorm
from nets.layers.leaky_relu import LeakyReLU
from nets.layers.linear import Linear
from nets.layers.max_pool2d import MaxPool2d
from nets.layers.prelu import PReLU
from nets.layers.relu import ReLU
from nets.layers.sigmoid import Sigmoid
from nets.layers.silu import SiLU
from nets.layers.softmax import LogSoftmax, Softmax
from nets.layers.softplus import Softplus
from nets.layers.tanh import Tanh
from nets.sequential import Sequential

LAYERS: tuple[type[Layer], ...] = (
    Linear,
    Conv2d,
    MaxPool2d,
    Sigmoid,
    Tanh,
    ReLU,
    LeakyReLU,
    PReLU,
    ELU,
    SELU,
    GELU,
    SiLU,
    Softplus,
    Softmax,
    LogSoftmax,
    Flatten,
    LayerNorm,
    BatchNorm1d,
    BatchNorm2d,
    Dropout,
    Sequential,
)

__all__ = [
    "ELU",
    "GELU",
    "LAYERS",
    "SELU",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "MaxPool2d",
    "PReLU",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
]
