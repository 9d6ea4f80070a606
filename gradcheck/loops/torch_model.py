"""What there is to watch in a model of torch and its optimizers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gradcheck.trajectory.torch_modules import showing, unwrapped
from gradcheck.trajectory.trees import leaves

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Watched:
    """A model's parts by name, and the optimizers that train it.

    ``roots`` are the modules that the loop calls, the name of a single one is "". ``modules`` are those inside whose
    results are seen: those without modules inside, or with parameters of their own; none of a ``compiled`` model, since
    torch does not run their hooks. ``owners`` are the modules that hold buffers, by the name of the buffer: a module
    may put another tensor in its place.
    """

    roots: dict[str, torch.nn.Module]
    modules: dict[str, torch.nn.Module]
    params: dict[str, torch.Tensor]
    owners: dict[str, torch.nn.Module]
    optimizers: tuple[Any, ...]
    compiled: bool

    def buffers(self) -> dict[str, torch.Tensor]:
        """Return the buffers as they are now."""
        found = {name: owner._buffers.get(name.rpartition(".")[2]) for name, owner in self.owners.items()}
        return {name: buffer for name, buffer in found.items() if buffer is not None}

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients that parameters have now as ``backward/...``, the last first, as they are made."""
        found = {f"backward/{name}": param.grad for name, param in reversed(self.params.items())}
        return {key: grad for key, grad in found.items() if grad is not None}


def watched(model: object, optimizers: tuple[Any, ...]) -> Watched:
    """Return what there is to watch: of a module, of a mapping or sequence of modules or tensors, or of None.

    Parameters that the model does not have are named by their place in the optimizers.
    """
    import torch

    roots = _roots(model)
    root = torch.nn.ModuleDict(roots) if roots and "" not in roots else roots.get("")
    inner, compiled = (None, False) if root is None else unwrapped(root)
    params = dict(inner.named_parameters() if inner is not None else leaves(model))
    known = {id(param) for param in params.values()}
    trained = [param for optimizer in optimizers for group in optimizer.param_groups for param in group["params"]]
    unknown = [param for param in trained if id(param) not in known]
    return Watched(
        roots,
        {} if inner is None else showing(inner, compiled=compiled),
        params | {f"parameter{place}": param for place, param in enumerate(unknown)},
        dict(_owners(inner)) if inner is not None else {},
        optimizers,
        compiled,
    )


def _roots(model: object) -> dict[str, torch.nn.Module]:
    """Return the modules that a loop calls, by name; the name of a single one is ""."""
    import torch

    if isinstance(model, torch.nn.Module):
        return {"": model}
    several: dict[Any, Any] = {}
    if isinstance(model, Mapping):
        several = dict(model)
    elif isinstance(model, (list, tuple)):
        several = dict(enumerate(model))
    if several and all(isinstance(one, torch.nn.Module) for one in several.values()):
        return {str(name): one for name, one in several.items()}
    return {}


def _owners(inner: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    for name, module in inner.named_modules():
        for buffer in module._buffers:
            yield f"{name}.{buffer}".lstrip("."), module
