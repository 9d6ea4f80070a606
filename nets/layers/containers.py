"""Layers made of layers: a chain, and a branch beside the identity."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import (
    EVALUATION,
    Array,
    Backward,
    Case,
    Context,
    Gradients,
    Into,
    Kinks,
    Layer,
    Pullback,
    ShapeError,
    pulled,
    untapped,
)
from nets.floating import floating
from nets.refusals import kind_of, require_layer

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy


WRITTEN = "write Sequential((a, b))"


@dataclass(frozen=True, eq=False)
class Sequential(Layer):
    """Composition ``y = f_n(... f_1(x))`` of layers, itself a layer.

    Every child is tapped at its boundaries: its output in ``forward``, the gradient of its input in ``backward``.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Sequential.html
    """

    layers: tuple[Layer, ...]

    def __new__(cls, *layers: object, **named: object) -> Self:  # noqa: ARG004  for __init__
        """Say of torch's own form how it is written here."""
        if len(layers) > 1:
            raise TypeError(f"{cls.__name__} needs one tuple of layers, got {len(layers)} arguments: {WRITTEN}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if isinstance(self.layers, list):
            object.__setattr__(self, "layers", tuple(self.layers))
        if not isinstance(self.layers, tuple):
            raise TypeError(f"{type(self).__name__} needs a tuple of layers, got {kind_of(self.layers)}: {WRITTEN}")
        for i, layer in enumerate(self.layers):
            require_layer(f"{type(self).__name__} needs a layer in place {i}", layer)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        pullbacks: list[tuple[str, Context, Backward]] = []
        for place, layer in enumerate(self.layers):
            name = str(place)
            inner = context.child(name)
            y, pullback = layer.forward(x, inner)
            x = inner.tapped("forward", "output", y)
            pullbacks.append((name, inner, pullback))

        def pull(dy: Array, into: Into, needed: bool) -> tuple[Array, Gradients]:
            grads: Gradients = {}
            # What nobody needs or sees is not computed: nothing flows further back than to the first parameters.
            shown = needed or context.tap is not untapped
            last = 0 if shown else self._first_with_parameters
            for place in range(len(pullbacks) - 1, last - 1, -1):
                name, inner, pullback = pullbacks[place]
                dx, inner_grads = pulled(pullback, dy, into.child(name), shown or place > last)
                dy = inner.tapped("backward", "input", dx)
                grads.update({f"{name}.{key}": grad for key, grad in inner_grads.items()})
            return dy, grads

        return x, Pullback(pull)

    @cached_property
    def _first_with_parameters(self) -> int:
        """The place of the first layer with parameters, or 0."""
        return next((place for place, layer in enumerate(self.layers) if layer.parameters()), 0)

    def twin(self) -> torch.nn.Module:
        import torch

        return torch.nn.Sequential(*(layer.twin() for layer in self.layers))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides
        from nets.layers.batch_norm import BatchNorm1d
        from nets.layers.dropout import Dropout
        from nets.layers.flatten import Flatten
        from nets.layers.linear import Linear
        from nets.layers.sigmoid import Sigmoid

        def norms(features: int) -> SearchStrategy[Layer]:
            mean, variance = arrays((features,)), arrays((features,), 2.0**-5, 4)
            statistics = (mean, variance, st.just(np.asarray(1, np.int64)))
            return st.builds(BatchNorm1d, arrays((features,)), arrays((features,)), *statistics, st.just(0.5))

        def of_sizes(batch: int, height: int, width: int, hidden: int, outputs: int) -> SearchStrategy[Case]:
            first = st.builds(Linear, arrays((hidden, height * width), -1, 1), arrays((hidden,)))
            second = st.builds(Linear, arrays((outputs, hidden)), st.none() | arrays((outputs,)))
            square = st.builds(Linear, arrays((hidden, hidden), -1, 1), arrays((hidden,)))
            # What depends on the mode, or has state, at depths 1, 2 and 3.
            modal = st.one_of(st.just(Dropout(0.25)), norms(hidden))
            branch = st.one_of(st.just(Sigmoid()), st.tuples(square, modal).map(cls))
            middle = st.one_of(st.just(Sigmoid()), modal, branch.map(Residual))
            inner = st.tuples(first, middle).map(cls)
            chain = st.tuples(st.just(Flatten()), inner, second).map(cls)
            return cases(chain, arrays((batch, height, width)))

        return st.tuples(sides(2, 3), *[sides(maximum=3)] * 4).flatmap(lambda sizes: of_sizes(*sizes))


def kinks_along(layer: Layer, x: Array, taps: Mapping[str, Array], path: str = "") -> Iterator[tuple[str, Kinks]]:
    """Yield the kinks in chains and residual branches, by path, at the inputs that a recorded forward pass gave."""
    if not isinstance(layer, (Sequential, Residual)):
        kinks = layer.kinks(x)
        if kinks is not None:
            yield path, kinks
        return
    for name, child in layer.children():
        inner = f"{path}.{name}" if path else name
        yield from kinks_along(child, x, taps, inner)
        x = taps[f"forward/{inner}.output"]


@dataclass(frozen=True, eq=False)
class Residual(Layer):
    """Sum ``y = x + branch(x)`` of the input and of what a layer makes of it; ``dx = dy + dbranch``.

    The branch is tapped at its boundaries, as the layers of a `Sequential` are. Raises `ShapeError` where it changes
    the shape of x.
    He et al. (2016), https://arxiv.org/abs/1512.03385
    """

    branch: Layer

    def __post_init__(self) -> None:
        require_layer("Residual needs a layer for its branch", self.branch)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        inner = context.child("branch")
        y, pullback = self.branch.forward(x, inner)
        if y.shape != x.shape:
            raise ShapeError(f"Residual needs a branch whose output has the shape {x.shape} of x, got {y.shape}")
        y = inner.tapped("forward", "output", y)

        def pull(dy: Array, into: Into, needed: bool) -> tuple[Array, Gradients]:
            shown = needed or context.tap is not untapped
            dx, grads = pulled(pullback, dy, into.child("branch"), shown)
            dx = inner.tapped("backward", "input", dx)
            return dy + dx if needed else dy, {f"branch.{name}": grad for name, grad in grads.items()}

        return floating(x) + y, Pullback(pull)

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Module):
            """The branch under its name here, and the sum."""

            def __init__(self, branch: torch.nn.Module) -> None:
                super().__init__()
                self.branch = branch

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                y: torch.Tensor = self.branch(x)
                return x + y

        return Twin(self.branch.twin())

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st

        from gradcheck.strategies import arrays, cases, sides
        from nets.layers.dropout import Dropout
        from nets.layers.linear import Linear
        from nets.layers.rectifiers import ReLU
        from nets.layers.tanh import Tanh

        def of_sizes(leading: list[int], features: int, hidden: int) -> SearchStrategy[Case]:
            square = st.builds(Linear, arrays((features, features)), st.none() | arrays((features,)))
            wide = st.builds(Linear, arrays((hidden, features), -1, 1), arrays((hidden,), -1, 1))
            narrow = st.builds(Linear, arrays((features, hidden)), st.none() | arrays((features,)))
            bottleneck = st.tuples(wide, st.sampled_from([Dropout(0.5), Tanh(), Dropout(0.25)]), narrow).map(Sequential)
            dropouts = st.sampled_from([Dropout(0.5), Dropout(0.25)])  # what depends on the mode and the place
            branches = st.one_of(square, bottleneck, square.map(cls), dropouts, dropouts.map(cls), st.just(ReLU()))
            return cases(branches.map(cls), arrays((*leading, features)))

        sizes = st.tuples(st.lists(sides(maximum=3), min_size=1, max_size=2), sides(), sides())
        return sizes.flatmap(lambda drawn: of_sizes(*drawn))
