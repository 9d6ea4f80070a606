"""Copies of tensors, made while a loop trains: cheap then, and turned into arrays when somebody asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.contract import Array

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, eq=False)
class Copies:
    """Copies of several tensors: ``flats`` has all that have one dtype, one after the other.

    ``order`` has the names of all, ``parts`` the names and shapes in each of the flats.
    """

    order: tuple[str, ...]
    flats: tuple[torch.Tensor, ...]
    parts: tuple[tuple[tuple[str, Any], ...], ...]

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the copies by name, in order."""
        found: dict[str, torch.Tensor] = {}
        for flat, parts in zip(self.flats, self.parts, strict=True):
            start = 0
            for name, shape in parts:
                end = start + shape.numel()
                found[name] = flat[start:end].view(shape)
                start = end
        return {name: found[name] for name in self.order}

    def coarse(self) -> list[str]:
        """Return the names of those in bfloat16."""
        return [
            name for flat, parts in zip(self.flats, self.parts, strict=True) if is_coarse(flat) for name, _ in parts
        ]

    def are(self, other: Copies) -> bool:
        """Return whether two copies have the same names, types, shapes and bits."""
        return (
            self.order == other.order
            and self.parts == other.parts
            and all(_same_bits(*both) for both in zip(self.flats, other.flats, strict=True))
        )


class Mirror:
    """Memory into which the same tensors are copied again and again, to see whether they are what they were."""

    def __init__(self) -> None:
        self.like: Copies | None = None
        self.views: dict[str, torch.Tensor] = {}

    def shows(self, tensors: Mapping[str, torch.Tensor], copies: Copies) -> bool:
        """Return whether tensors are still what their copies are, bit for bit."""
        import torch

        if copies.order != tuple(tensors):
            return False
        if self.like is None or self.like.parts != copies.parts:
            self.like = Copies(copies.order, tuple(torch.empty_like(flat) for flat in copies.flats), copies.parts)
            self.views = self.like.tensors()
        dense = [tensor if tensor.layout is torch.strided else tensor.to_dense() for tensor in tensors.values()]
        if any(one.dtype is not view.dtype for one, view in zip(dense, self.views.values(), strict=True)):
            return False
        with torch.no_grad():
            torch._foreach_copy_(list(self.views.values()), dense)
        return self.like.are(copies)


def copied(tensors: Mapping[str, torch.Tensor]) -> Copies:
    """Copy tensors; those of a sparse layout as dense ones."""
    import torch

    kinds: dict[Any, tuple[list[torch.Tensor], list[tuple[str, Any]]]] = {}
    with torch.no_grad():
        for name, tensor in tensors.items():
            dense = tensor if tensor.layout is torch.strided else tensor.to_dense()
            kind = dense.dtype if dense.is_cpu else (dense.dtype, dense.device)
            held, parts = kinds.get(kind) or kinds.setdefault(kind, ([], []))
            held.append(dense)
            parts.append((name, dense.shape))
        flats = tuple([_flat(held) for held, _ in kinds.values()])
    return Copies(tuple(tensors), flats, tuple([tuple(parts) for _, parts in kinds.values()]))


def _flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    """Return a copy of dense tensors of one dtype and device, as one of a single axis, on the CPU."""
    import torch

    flatten: Any = torch._C._nn.flatten_dense_tensors
    if len(tensors) == 1:
        return tensors[0].cpu().reshape(-1).clone()  # flattening makes no copy of a single one
    flat: torch.Tensor = flatten(tensors)
    return flat.cpu()


def _same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two flat tensors have the same bits. NumPy compares them much faster than `torch.equal`."""
    import torch

    if one.dtype is not other.dtype or one.shape != other.shape:
        return False
    whole = one.nbytes // 8 * 8  # eight bytes at a time
    mine, theirs = (flat.view(torch.uint8).numpy() for flat in (one, other))
    words = mine[:whole].view(np.int64), theirs[:whole].view(np.int64)
    return np.array_equal(*words) and np.array_equal(mine[whole:], theirs[whole:])


def is_coarse(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is in bfloat16, which NumPy does not have."""
    return str(tensor.dtype) == "torch.bfloat16"


def to_array(tensor: torch.Tensor) -> Array:
    """Return a tensor as an array, which may share its memory; in float32, which holds all of bfloat16, for that."""
    tensor = tensor.detach().cpu()
    return np.asarray((tensor.float() if is_coarse(tensor) else tensor).numpy())


def as_arrays(copies: Copies) -> dict[str, Array]:
    """Return copies as arrays."""
    return {name: to_array(tensor) for name, tensor in copies.tensors().items()}
