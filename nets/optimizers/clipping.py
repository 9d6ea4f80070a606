"""Gradient clipping: optimizers around another, which is given smaller gradients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Case, Gradients, Optimizer
from nets.optimizers.adam import Adam
from nets.optimizers.elementwise import require_at_least_zero, require_gradients, require_numbers
from nets.optimizers.sgd import SGD
from nets.refusals import refuses

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

ROOM = 1e-6  # torch's, added to the norm, which may be zero
FOREACH = {"foreach": "it says how torch computes, not what"}


@dataclass(eq=False)
class Clipped(Optimizer):
    """Steps of ``optimizer`` by clipped copies of the gradients; what it keeps is this one's ``state``."""

    optimizer: Optimizer

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"{type(self).__name__} needs an optimizer, such as SGD(), got {self.optimizer!r:.60}")
        self.state = self.optimizer.state

    @abstractmethod
    def clipped(self, grads: Gradients) -> Gradients:
        """Return the gradients to step by; those given are not changed."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        require_gradients(self, params, grads)
        self.optimizer.state = self.state  # which may have been replaced by another
        self.optimizer.step(params, self.clipped(grads), lr)
        self.state = self.optimizer.state


@refuses(**FOREACH, error_if_nonfinite="a norm that is not finite makes NaN of the parameters, as torch's default does")
@dataclass(eq=False)
class ClippedByNorm(Clipped):
    """Steps by ``g min(1, c / (n + 1e-6))``, with c = ``max_norm`` and n the norm of all gradients as one vector.

    ``norm_type`` is the p of ``(sum |g|^p)^(1/p)``; inf stands for the largest magnitude. Tensors without a gradient
    do not count. Pascanu et al. (2013), algorithm 1;
    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
    """

    max_norm: float
    norm_type: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_zero(self, "max_norm")
        require_numbers(self, "norm_type")
        if not self.norm_type > 0:
            raise ValueError(f"ClippedByNorm needs norm_type above 0, got {self.norm_type}")

    def clipped(self, grads: Gradients) -> Gradients:
        norms = [float(np.linalg.norm(grad.ravel(), self.norm_type)) for grad in grads.values() if grad.size]
        norm = float(np.linalg.norm(norms, self.norm_type)) if norms else 0.0
        if self.max_norm >= norm + ROOM and norm < np.inf:
            return grads
        factor = self.max_norm / (norm + ROOM)
        return {name: np.asarray(grad * factor) for name, grad in grads.items()}

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        def clip() -> None:
            torch.nn.utils.clip_grad_norm_(params, self.max_norm, self.norm_type)

        return _clipping_first(self.optimizer.twin(params, lr), params, clip)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        def around(case: Case, max_norm: float, norm_type: float) -> Case:
            return replace(case, subject=cls(case.subject, max_norm, norm_type))

        norm_types = st.sampled_from([2.0, 1.0, 3.0, float("inf")])
        return st.builds(
            around, SGD.cases() | Adam.cases(), st.sampled_from([0.5, 2.0, 10.0, 0.0, float("inf")]), norm_types
        )


@refuses(**FOREACH)
@dataclass(eq=False)
class ClippedByValue(Clipped):
    """Steps by gradients with every element moved into [-``clip_value``, ``clip_value``].

    https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_value_.html
    """

    clip_value: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least_zero(self, "clip_value")

    def clipped(self, grads: Gradients) -> Gradients:
        return {name: np.asarray(grad.clip(-self.clip_value, self.clip_value)) for name, grad in grads.items()}

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        import torch

        def clip() -> None:
            torch.nn.utils.clip_grad_value_(params, self.clip_value)

        return _clipping_first(self.optimizer.twin(params, lr), params, clip)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        def around(case: Case, clip_value: float) -> Case:
            return replace(case, subject=cls(case.subject, clip_value))

        return st.builds(around, SGD.cases() | Adam.cases(), st.sampled_from([0.01, 0.5, 2.0, 0.0, float("inf")]))


def _clipping_first(
    twin: torch.optim.Optimizer, params: Sequence[torch.nn.Parameter], clip: Callable[[], object]
) -> torch.optim.Optimizer:
    """Make each step of a torch optimizer begin with ``clip()``, of copies of the gradients."""

    def hook(*_: object) -> None:
        for param in params:
            if param.grad is not None:
                param.grad = param.grad.clone()
        clip()

    handle = twin.register_step_pre_hook(hook)
    # Before the hook of an optimizer inside that clips, too; torch has no argument for that.
    twin._optimizer_step_pre_hooks.move_to_end(handle.id, last=False)  # type: ignore[attr-defined]  # an OrderedDict
    return twin
