"""The optimizers and their registry."""

from __future__ import annotations

from gradcheck.contract import Optimizer
from nets.optimizers.adagrad import Adagrad
from nets.optimizers.adam import Adam, AdamW
from nets.optimizers.clipping import ClippedByNorm, ClippedByValue
from nets.optimizers.rmsprop import RMSprop
from nets.optimizers.sgd import SGD

OPTIMIZERS: tuple[type[Optimizer], ...] = (SGD, Adam, AdamW, RMSprop, Adagrad, ClippedByNorm, ClippedByValue)

__all__ = ["OPTIMIZERS", "SGD", "Adagrad", "Adam", "AdamW", "ClippedByNorm", "ClippedByValue", "RMSprop"]
