"""Anybody's optimizer, as one of the contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.contract import Array, Case, Gradients, Optimizer
from gradcheck.subjects.attributes import AdapterError

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(eq=False, kw_only=True)
class ForeignOptimizer(Optimizer):
    """An optimizer with ``step(params, grads)``, which moves arrays in place, and a rate in an attribute."""

    optimizer: Any
    make_twin: Callable[[list[Any]], Any]
    rate: str = "lr"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not callable(getattr(self.optimizer, "step", None)):
            raise AdapterError(f"{self.name} needs a method step(params, grads) that moves params in place")
        if not hasattr(self.optimizer, self.rate):
            raise AdapterError(
                f"{self.name} has no attribute {self.rate}: name the one that holds its learning rate with lr="
            )

    @property
    def name(self) -> str:
        """Return the name of the object's class."""
        return type(self.optimizer).__name__

    @property
    def base_lr(self) -> float:
        """Return the rate that the object was made with."""
        return float(getattr(self.optimizer, self.rate))

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        setattr(self.optimizer, self.rate, lr)
        try:
            self.optimizer.step(params, grads)
        except KeyError as error:
            if self.names or error.args[:1] not in [(name,) for name in params] or error.args[0] not in grads:
                raise
            raise AdapterError(
                f"{self.name} does not know the parameter {error.args[0]!r}: give those that it was made for, "
                "by name, as params={...}"
            ) from error

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = self.make_twin(list(params))
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign optimizer is tried on what it is given")
