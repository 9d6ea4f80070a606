"""The optimizers. A new one is a class here and its line below: what is imported is registered."""

from gradcheck.contract import Optimizer
from nets.optimizers.adagrad import Adagrad as Adagrad
from nets.optimizers.adam import Adam as Adam
from nets.optimizers.adam import AdamW as AdamW
from nets.optimizers.clipping import ClippedByNorm as ClippedByNorm
from nets.optimizers.clipping import ClippedByValue as ClippedByValue
from nets.optimizers.rmsprop import RMSprop as RMSprop
from nets.optimizers.sgd import SGD as SGD

OPTIMIZERS: tuple[type[Optimizer], ...] = tuple(
    each
    for each in list(globals().values())
    if isinstance(each, type) and issubclass(each, Optimizer) and each is not Optimizer
)
