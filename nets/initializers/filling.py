"""Filling the parameters of a layer, and of those inside it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradcheck.contract import Array, Initializer, Layer
from nets.initializers.fans import fans_of


def initialize(
    layer: Layer, rng: np.random.Generator, weights: Initializer | None = None, biases: Initializer | None = None
) -> None:
    """Fill every parameter of ``layer`` in place, in order of name.

    Weights of two or more axes are drawn by ``weights`` and the biases beside them by ``biases``; where that is None,
    and everything else, as torch fills them. Raises ValueError for a parameter of which neither says how, and TypeError
    for what is no generator or no initialiser.
    """
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"initialize needs a generator, such as np.random.default_rng(0), got {rng!r:.60}")
    for role, given in (("weights", weights), ("biases", biases)):
        if not isinstance(given, Initializer | None):
            raise TypeError(f"initialize needs an initialiser as {role}, such as KaimingNormal(), got {given!r:.60}")
    for name, (array, rule, fans) in sorted(_filled(layer, weights, biases), key=lambda item: item[0]):
        if rule is None:
            raise ValueError(f"{name} of {type(layer).__name__} has no initialiser: give its field one by parameter()")
        array[...] = rule.draw(array.shape, rng, fans)


def _filled(
    layer: Layer, weights: Initializer | None, biases: Initializer | None, path: str = ""
) -> Iterator[tuple[str, tuple[Array, Initializer | None, tuple[int, int] | None]]]:
    """Yield every parameter with its rule and the fans of its layer's weight."""
    own = {name: array for name, array in layer.parameters().items() if "." not in name}
    matrix = "weight" in own and own["weight"].ndim > 1
    fans = fans_of(own["weight"].shape) if matrix else None
    given = {"weight": weights, "bias": biases} if matrix else {}
    for name, array in own.items():
        yield path + name, (array, given.get(name) or layer.initial(name), fans)
    for name, child in layer.children():
        yield from _filled(child, weights, biases, f"{path}{name}.")
