"""Arrays in nested dicts, lists, tuples and dataclasses, by the path to each, and put back in their places."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from gradcheck.contract import Array

Tree = Any


def as_array(value: object) -> Array | None:
    """Return a copy of an array of NumPy, torch, JAX or a number; None if it is nothing of the kind.

    NumPy has no bfloat16: it becomes float32, which holds every bfloat16 exactly.
    """
    if hasattr(value, "detach"):  # a torch tensor
        tensor: Any = value.detach().cpu()
        if str(tensor.dtype) == "torch.bfloat16":
            tensor = tensor.float()
        return np.array(tensor.numpy())
    if isinstance(value, (bool, int, float, np.generic, np.ndarray)) or hasattr(value, "__array__"):
        array = np.array(value)
        if array.dtype.kind in "fiub":
            return array
        return array.astype(np.float32) if str(array.dtype) == "bfloat16" else None
    return None


def leaves(tree: Tree, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield everything in a tree that is an array or a number, with the path to it: ``layers.0.w``."""
    children = _children(tree)
    if children is None:
        if tree is not None:
            yield path, tree
        return
    for name, child in children:
        yield from leaves(child, f"{path}.{name}" if path else name)


def arrays(tree: Tree) -> dict[str, Array]:
    """Return copies of the arrays and numbers of a tree, by the path to each; a single array has the path ""."""
    found = {path: as_array(leaf) for path, leaf in leaves(tree)}
    return {path: array for path, array in found.items() if array is not None}


def filled(tree: Tree, values: Mapping[str, Array], path: str = "") -> Tree:
    """Return a tree whose arrays have other values, given by path.

    Arrays that can be written to are written to, in place, and are themselves in the tree that is returned. So a loop
    that keeps them, and one that goes on with what is returned, both go on from the new values.
    """
    children = _children(tree)
    if children is None:
        return _written(tree, values[path]) if path in values else tree
    inner = [(name, child, filled(child, values, f"{path}.{name}" if path else name)) for name, child in children]
    if all(new is old for _, old, new in inner):
        return tree
    return _rebuilt(tree, {name: new for name, _, new in inner})


def _children(tree: Tree) -> list[tuple[str, Any]] | None:
    if isinstance(tree, Mapping):
        return [(str(key), child) for key, child in tree.items()]
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return [(name, getattr(tree, name)) for name in tree._fields]
    if isinstance(tree, (list, tuple)):
        return [(str(i), child) for i, child in enumerate(tree)]
    if is_dataclass(tree) and not isinstance(tree, type):
        return [(one.name, getattr(tree, one.name)) for one in fields(tree)]
    return None


def _rebuilt(tree: Tree, values: dict[str, Any]) -> Tree:
    if isinstance(tree, dict):
        for key in tree:
            tree[key] = values[str(key)]
        return tree
    if isinstance(tree, list):
        tree[:] = values.values()
        return tree
    if isinstance(tree, tuple):
        return type(tree)(*values.values()) if hasattr(tree, "_fields") else tuple(values.values())
    maker: Callable[..., Any] = type(tree)
    return maker(**values)


def _written(leaf: Any, value: Array) -> Any:  # noqa: ANN401  an array of any library
    """Return an array or number with another value: itself, written to, if that can be done."""
    if isinstance(leaf, np.ndarray) and leaf.flags.writeable:
        np.copyto(leaf, value.reshape(leaf.shape), casting="same_kind")
        return leaf
    if hasattr(leaf, "detach"):
        leaf.detach().copy_(leaf.new_tensor(value.reshape(tuple(leaf.shape))))
        return leaf
    if isinstance(leaf, (bool, int, float)):
        return type(leaf)(value.item())
    shaped = value.reshape(np.shape(leaf)).astype(np.asarray(leaf).dtype)
    return leaf.at[...].set(shaped) if hasattr(leaf, "at") else shaped  # JAX arrays stay what they are
