"""Tensors moved by one unit in the last place, wherever a hook sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gradcheck.loops.torch_copies import is_coarse, to_array
from gradcheck.numerics.rounding import nudged

if TYPE_CHECKING:
    import torch


def nudge(tensor: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a tensor whose floating-point numbers are moved by one unit in the last place; gradients flow on."""
    import torch

    if not tensor.is_floating_point():
        return tensor
    array, coarse = to_array(tensor), is_coarse(tensor)
    by = nudged(array, rng, np.float32 if coarse else None) - array
    if coarse:
        by = by * np.float32(2**16)  # the eps of bfloat16 over that of float32
    return tensor + torch.from_numpy(np.asarray(by)).to(tensor)


def nudge_gradient(gradient: torch.Tensor, rng: np.random.Generator) -> None:
    """Nudge a gradient where it is, of a sparse one its values."""
    import torch

    held = gradient.detach() if gradient.layout == torch.strided else gradient._values()
    held.copy_(nudge(held, rng))


def nudge_all(results: object, rng: np.random.Generator) -> object:
    """Return what a module takes or returns with its tensors nudged."""
    import torch

    if isinstance(results, torch.Tensor):
        return nudge(results, rng)
    if isinstance(results, dict):  # those of transformers, too
        for key in results:
            results[key] = nudge_all(results[key], rng)
        return results
    if isinstance(results, tuple) and hasattr(results, "_make"):  # a named tuple
        made: object = results._make(nudge_all(one, rng) for one in results)
        return made
    if isinstance(results, (tuple, list)):
        return type(results)(nudge_all(one, rng) for one in results)
    return results
