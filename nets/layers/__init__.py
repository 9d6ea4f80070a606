"""The layers. A new one is a file here and its line below: what is imported is registered."""

from gradcheck.contract import Layer
from nets.layers.adaptive_avg_pool2d import AdaptiveAvgPool2d as AdaptiveAvgPool2d
from nets.layers.avg_pool2d import AvgPool2d as AvgPool2d
from nets.layers.batch_norm import BatchNorm1d as BatchNorm1d
from nets.layers.batch_norm import BatchNorm2d as BatchNorm2d
from nets.layers.containers import Residual as Residual
from nets.layers.containers import Sequential as Sequential
from nets.layers.conv1d import Conv1d as Conv1d
from nets.layers.conv2d import Conv2d as Conv2d
from nets.layers.conv_transpose2d import ConvTranspose2d as ConvTranspose2d
from nets.layers.dropout import Dropout as Dropout
from nets.layers.dropout import Dropout2d as Dropout2d
from nets.layers.elu import ELU as ELU
from nets.layers.elu import SELU as SELU
from nets.layers.embedding import Embedding as Embedding
from nets.layers.flatten import Flatten as Flatten
from nets.layers.gelu import GELU as GELU
from nets.layers.group_norm import GroupNorm as GroupNorm
from nets.layers.layer_norm import LayerNorm as LayerNorm
from nets.layers.linear import Linear as Linear
from nets.layers.max_pool2d import MaxPool2d as MaxPool2d
from nets.layers.rectifiers import LeakyReLU as LeakyReLU
from nets.layers.rectifiers import PReLU as PReLU
from nets.layers.rectifiers import ReLU as ReLU
from nets.layers.sigmoid import Sigmoid as Sigmoid
from nets.layers.sigmoid import SiLU as SiLU
from nets.layers.softmax import LogSoftmax as LogSoftmax
from nets.layers.softmax import Softmax as Softmax
from nets.layers.softplus import Softplus as Softplus
from nets.layers.tanh import Tanh as Tanh

LAYERS: tuple[type[Layer], ...] = tuple(
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, Layer) and each is not Layer
)
