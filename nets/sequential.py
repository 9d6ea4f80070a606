"""A chain of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Kinks, Layer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True, eq=False)
class Sequential(Layer):
    """Composition ``y = f_n(... f_1(x))`` of layers, itself a layer.

    Every child is tapped at its boundaries: its output in ``forward``, the gradient of its input in ``backward``.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html
    """

    layers: tuple[Layer, ...]

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        pullbacks: list[tuple[str, Context, Backward]] = []
        for name, layer in self.children():
            inner = context.child(name)
            y, pullback = layer.forward(x, inner)
            x = inner.tapped("forward", "output", y)
            pullbacks.append((name, inner, pullback))

        def backward(dy: Array) -> tuple[Array, Gradients]:
            grads: Gradients = {}
            for name, inner, pullback in reversed(pullbacks):
                dx, inner_grads = pullback(dy)
                dy = inner.tapped("backward", "input", dx)
                grads.update({f"{name}.{key}": grad for key, grad in inner_grads.items()})
            return dy, grads

        return x, backward

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Sequential(*(layer.twin() for layer in self.layers))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides
        from nets.layers.flatten import Flatten
        from nets.layers.linear import Linear
        from nets.layers.sigmoid import Sigmoid

        def of_sizes(batch: int, height: int, width: int, hidden: int, outputs: int) -> SearchStrategy[Case]:
            first = st.builds(Linear, arrays((hidden, height * width), -1, 1), arrays((hidden,)))
            second = st.builds(Linear, arrays((outputs, hidden)), st.none() | arrays((outputs,)))
            inner = st.tuples(first, st.just(Sigmoid())).map(cls)
            chain = st.tuples(st.just(Flatten()), inner, second).map(cls)
            return cases(chain, arrays((batch, height, width)))

        return st.tuples(*[sides(maximum=3)] * 5).flatmap(lambda sizes: of_sizes(*sizes))


def kinks_along(layer: Layer, x: Array, taps: Mapping[str, Array], path: str = "") -> Iterator[tuple[str, Kinks]]:
    """Yield the kinks of every layer of a chain, by path, at the inputs that a recorded forward pass gave them."""
    if not isinstance(layer, Sequential):
        kinks = layer.kinks(x)
        if kinks is not None:
            yield path, kinks
        return
    for name, child in layer.children():
        inner = f"{path}.{name}" if path else name
        yield from kinks_along(child, x, taps, inner)
        x = taps[f"forward/{inner}.output"]
