"""The losses and their registry."""

from gradcheck.contract import Loss
from nets.losses.absolute import HuberLoss, L1Loss
from nets.losses.binary import BCELoss, BCEWithLogitsLoss, SummedBCELoss
from nets.losses.cross_entropy import CrossEntropyLoss, NLLLoss
from nets.losses.squared import MSELoss, QuadraticCost

LOSSES: tuple[type[Loss], ...] = (
    MSELoss,
    QuadraticCost,
    L1Loss,
    HuberLoss,
    BCELoss,
    BCEWithLogitsLoss,
    SummedBCELoss,
    CrossEntropyLoss,
    NLLLoss,
)

__all__ = [
    "LOSSES",
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "MSELoss",
    "NLLLoss",
    "QuadraticCost",
    "SummedBCELoss",
]
