"""Moving weights between NumPy and torch, bit for bit, and to files and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.contract import Array, Layer, ShapeError

if TYPE_CHECKING:
    import torch


class CheckpointError(ValueError):
    """Saved or foreign weights do not fit the network."""


def state_dict(layer: Layer) -> dict[str, Array]:
    """Return the parameters and buffers of ``layer`` by name, as they are: writing into them changes the layer."""
    return layer.parameters() | layer.buffers()


def load_state_dict(layer: Layer, arrays: Mapping[str, Array]) -> None:
    """Copy ``arrays`` into the parameters and buffers of ``layer``, bit for bit.

    Nothing is copied unless all of it fits: raises `CheckpointError` for missing or unknown names and for another
    dtype, `ShapeError` for another shape.
    """
    own = state_dict(layer)
    require_fit(own, arrays)
    for name, array in own.items():
        array[...] = arrays[name]


def to_torch(layer: Layer, module: torch.nn.Module) -> None:
    """Copy the weights of ``layer`` into ``module``, bit for bit; raises as `load_state_dict`."""
    import torch

    theirs = module.state_dict()
    require_fit({name: tensor.numpy(force=True) for name, tensor in theirs.items()}, state_dict(layer))
    with torch.no_grad():
        for name, array in state_dict(layer).items():
            theirs[name].copy_(torch.tensor(array))


def from_torch(module: torch.nn.Module, layer: Layer) -> None:
    """Copy the weights of ``module`` into ``layer``, bit for bit; raises as `load_state_dict`."""
    load_state_dict(layer, {name: tensor.numpy(force=True) for name, tensor in module.state_dict().items()})


def encode(arrays: Mapping[str, Array]) -> bytes:
    """Return ``arrays`` as the content of a safetensors file, bit for bit."""
    from safetensors.numpy import save

    return bytes(save({name: np.asarray(array, order="C") for name, array in arrays.items()}))


def decode(content: bytes) -> dict[str, Array]:
    """Return the arrays of a safetensors file; raises `CheckpointError` if it is none."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        return dict(load(content))
    except SafetensorError as error:
        raise CheckpointError(f"these bytes are not a safetensors file: {error}") from None


def require_fit(own: Mapping[str, Array], arrays: Mapping[str, Array]) -> None:
    """Raise `CheckpointError` or `ShapeError` unless ``arrays`` has the names, shapes and dtypes of ``own``."""
    if missing := sorted(own.keys() - arrays.keys()):
        raise CheckpointError(f"the weights lack {', '.join(missing)}; they have {', '.join(arrays) or 'none'}")
    if unknown := sorted(arrays.keys() - own.keys()):
        raise CheckpointError(f"the network has no {', '.join(unknown)}; it has {', '.join(own) or 'none'}")
    for name, array in own.items():
        other = arrays[name]
        if array.shape != other.shape:
            raise ShapeError(f"{name} needs shape {array.shape}, got {other.shape}")
        if array.dtype != other.dtype:
            raise CheckpointError(f"{name} needs {array.dtype}, got {other.dtype}: cast one side first")
