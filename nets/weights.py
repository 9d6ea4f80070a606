"""Moving weights between NumPy and torch, bit for bit, and to files and back."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from gradcheck.contract import Array, Layer, ShapeError
from gradcheck.files import write_whole

if TYPE_CHECKING:
    import torch


CAST = "cast one side first, as layer.astype(dtype) does"


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


def save(layer: Layer, path: str | Path) -> None:
    """Write the weights of ``layer`` to a .safetensors, .npz or .pt file, bit for bit; it appears whole or not at all.

    A .pt file is a torch state dict: ``module.load_state_dict(torch.load(path, weights_only=True))`` takes it.
    Raises `CheckpointError` for another suffix, OSError where nothing can be written.
    """
    path = Path(path)
    write_whole(path, encode(state_dict(layer), _format_of(path)))


def load(layer: Layer, path: str | Path) -> None:
    """Copy the weights of a file, of the formats of `save`, into ``layer``, bit for bit.

    What ``torch.save(module.state_dict(), path)`` wrote is one of them. Raises as `read` and as `load_state_dict`.
    """
    load_state_dict(layer, read(path))


def read(path: str | Path) -> dict[str, Array]:
    """Return the arrays of a .safetensors, .npz or .pt file by name.

    Raises `CheckpointError` for another suffix, and for a file that is not there or cannot be read.
    """
    path = Path(path)
    form = _format_of(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return decode(content, form)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def encode(arrays: Mapping[str, Array], form: str = ".safetensors") -> bytes:
    """Return ``arrays`` as the content of a file of the given format, bit for bit."""
    return FORMATS[form].encode({name: np.asarray(array, order="C") for name, array in arrays.items()})


def decode(content: bytes, form: str = ".safetensors") -> dict[str, Array]:
    """Return the arrays of a file of the given format; raises `CheckpointError` if it is none."""
    return FORMATS[form].decode(content)


def _to_safetensors(arrays: dict[str, Array]) -> bytes:
    from safetensors.numpy import save as to_bytes

    return bytes(to_bytes(arrays))


def _from_safetensors(content: bytes) -> dict[str, Array]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    try:
        return dict(from_bytes(content))
    except SafetensorError as error:
        raise CheckpointError(f"these bytes are not a safetensors file: {error}") from None
    except KeyError as error:
        raise CheckpointError(f"NumPy cannot hold these tensors: it has no {error.args[0]}") from None


def _to_npz(arrays: dict[str, Array]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # numpy.savez takes no array by the name of its own argument, file
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return file.getvalue()


def _from_npz(content: bytes) -> dict[str, Array]:
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise CheckpointError("these bytes are not an npz file of arrays: they are no zip archive")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # noqa: BLE001  a parser of damaged bytes raises what it likes
        raise CheckpointError(f"these bytes are not an npz file of arrays: {_line(error)}") from None


def _to_torch_file(arrays: dict[str, Array]) -> bytes:
    import torch

    file = io.BytesIO()
    torch.save({name: torch.tensor(array) for name, array in arrays.items()}, file)
    return file.getvalue()


def _from_torch_file(content: bytes) -> dict[str, Array]:
    import torch

    try:
        tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  as above
        raise CheckpointError(f"these bytes are not a torch file of weights alone: {_line(error)}") from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise CheckpointError(
            "a state dict is needed, tensors by name, as torch.save(module.state_dict(), path) writes"
        )
    try:
        return {name: tensor.numpy(force=True) for name, tensor in tensors.items()}
    except TypeError as error:
        raise CheckpointError(f"NumPy cannot hold these tensors: {_line(error)}") from None


def _line(error: BaseException) -> str:
    """Return the first line of an error, in plain letters; torch explains at length, and in bold."""
    return re.sub(r"\x1b\[[0-9;]*m", "", (str(error).splitlines() or [type(error).__name__])[0])


class Format(NamedTuple):
    """How arrays are written to a file, and read."""

    encode: Callable[[dict[str, Array]], bytes]
    decode: Callable[[bytes], dict[str, Array]]


FORMATS: dict[str, Format] = {
    ".safetensors": Format(_to_safetensors, _from_safetensors),
    ".npz": Format(_to_npz, _from_npz),
    ".pt": Format(_to_torch_file, _from_torch_file),
}


def _format_of(path: Path) -> str:
    if path.suffix not in FORMATS:
        raise CheckpointError(f"weights are kept in {', '.join(FORMATS)} files, got {path.name}")
    return path.suffix


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
            raise CheckpointError(f"{name} needs {array.dtype}, got {other.dtype}: {CAST}")
