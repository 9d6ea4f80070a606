"""The losses. A new one is a class here and its line below: what is imported is registered."""

from gradcheck.contract import Loss
from nets.losses.binary import BCELoss as BCELoss
from nets.losses.binary import BCEWithLogitsLoss as BCEWithLogitsLoss
from nets.losses.binary import SummedBCELoss as SummedBCELoss
from nets.losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from nets.losses.cross_entropy import NLLLoss as NLLLoss
from nets.losses.errors import HuberLoss as HuberLoss
from nets.losses.errors import L1Loss as L1Loss
from nets.losses.errors import MSELoss as MSELoss
from nets.losses.errors import QuadraticCost as QuadraticCost

LOSSES: tuple[type[Loss], ...] = tuple(
    each for each in list(globals().values()) if isinstance(each, type) and issubclass(each, Loss) and each is not Loss
)
