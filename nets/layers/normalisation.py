"""What normalisations have in common: deviations in units of their own size, and a weight and bias after them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradcheck.contract import Array, Context, require_shape


def normalised(x: Array, axes: tuple[int, ...], eps: float, context: Context) -> tuple[Array, Callable[[Array], Array]]:
    """Return ``n = (x - mean) / sqrt(var + eps)`` and its pullback, with ``mean`` and ``var`` taken over ``axes``.

    ``var`` is the mean squared deviation, and ``dx = (dn - mean(dn) - n mean(dn n)) / sqrt(var + eps)``.
    """
    # Where x is nearly constant, the rounding of its mean is large beside its deviations.
    mean = context.tapped("forward", "mean", x.mean(axis=axes, keepdims=True))
    centred = x - mean
    variance = context.tapped("forward", "variance", (centred * centred).mean(axis=axes, keepdims=True))
    deviation = np.sqrt(variance + eps)
    normal = centred / deviation

    def pullback(dn: Array) -> Array:
        along = (dn * normal).mean(axis=axes, keepdims=True)
        return np.asarray((dn - dn.mean(axis=axes, keepdims=True) - normal * along) / deviation)

    return normal, pullback


def require_affine(who: str, weight: Array | None, bias: Array | None, *shape: int) -> None:
    """Raise `ShapeError` unless weight and bias have ``shape``, and ValueError for a bias without a weight."""
    if weight is None and bias is not None:
        raise ValueError(f"{who} needs a weight beside its bias, got None")
    for name, array in (("weight", weight), ("bias", bias)):
        if array is not None:
            require_shape(who, name, array, *shape)


def without_bias(weight: Array | None, bias: Array | None) -> dict[str, bool]:
    """Return the argument that leaves the bias of a torch module out; older torches have none such to be given."""
    return {"bias": False} if weight is not None and bias is None else {}
