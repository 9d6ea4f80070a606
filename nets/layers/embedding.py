"""Rows of a table, looked up by index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from gradcheck.contract import EVALUATION, Array, Backward, Case, Context, Gradients, Initializer, Layer, parameter
from nets.initializers import Normal, ZeroRow
from nets.refusals import PLACEMENT, refuses

if TYPE_CHECKING:
    import torch
    from hypothesis import strategies as st
    from hypothesis.strategies import SearchStrategy


@refuses(
    max_norm="a forward pass would change the weight",
    norm_type="there is no max_norm for it to measure",
    scale_grad_by_freq="what comes of it is no gradient",
    sparse="gradients are dense arrays",
    _weight="the constructor takes the weight",
    _freeze="every parameter is trained",
    **PLACEMENT,
)
@dataclass(frozen=True, eq=False)
class Embedding(Layer):
    """Look-up ``y = weight[x]`` of indices 0 .. num_embeddings - 1, from (...) to (..., embedding_dim).

    The gradient of a row is the sum of ``dy`` over all places of its index, however often that is repeated; that of row
    ``padding_idx``, which counts from the end if negative, is zero. Indices have no gradient: ``dx`` is zeros. Raises
    ValueError for x that holds no integers, or an index without a row.
    https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html
    """

    weight: Array = parameter(Normal())  # (num_embeddings, embedding_dim)
    padding_idx: int | None = None

    def __post_init__(self) -> None:
        rows = len(self.weight)
        if self.padding_idx is not None and not -rows <= self.padding_idx < rows:
            raise ValueError(f"Embedding needs padding_idx of {-rows} to {rows - 1}, got {self.padding_idx}")

    @classmethod
    def create(cls, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None) -> Self:
        """Return a layer of zeros, for an initialiser to fill."""
        return cls(np.zeros((num_embeddings, embedding_dim)), padding_idx)

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        rows, width = self.weight.shape
        if x.dtype.kind not in "iu":
            raise ValueError(f"Embedding needs x of integers, got {x.dtype}")
        if x.size and not 0 <= x.min() <= x.max() < rows:
            wrong = x.max() if x.min() >= 0 else x.min()
            raise ValueError(f"Embedding needs indices of 0 to {rows - 1}, got {wrong}")

        def backward(dy: Array) -> tuple[Array, Gradients]:
            # Numbers at flat places, not rows at indices: for those NumPy's add.at has a fast path.
            places = x.reshape(-1, 1).astype(np.intp) * width + np.arange(width)
            dweight = np.zeros(rows * width, dy.dtype)
            np.add.at(dweight, places.reshape(-1), dy.reshape(-1))
            dweight = dweight.reshape(rows, width)
            if self.padding_idx is not None:
                dweight[self.padding_idx] = 0
            return np.zeros(x.shape, dy.dtype), {"weight": dweight}

        return self.weight[x], backward

    def initial(self, name: str) -> Initializer | None:
        rule = super().initial(name)
        return rule if rule is None or self.padding_idx is None else ZeroRow(rule, self.padding_idx)

    def frozen(self) -> dict[str, Array]:
        if self.padding_idx is None:
            return {}
        mask = np.zeros(self.weight.shape, bool)
        mask[self.padding_idx] = True
        return {"weight": mask}

    def twin(self) -> torch.nn.Module:
        import torch

        rows, width = self.weight.shape
        return torch.nn.Embedding(rows, width, self.padding_idx)

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        from hypothesis import strategies as st
        from hypothesis.extra import numpy as hnp

        from gradcheck.strategies import arrays, cases, sides

        @st.composite
        def drawn(draw: st.DrawFn) -> Case:
            rows, width = draw(sides(2, 6)), draw(sides())
            # 0, which is falsy, and -1 are the paddings that mistakes are about.
            padding = draw(st.sampled_from([0, -1, None]) | st.integers(-rows, rows - 1))
            layer = cls(draw(arrays((rows, width))), padding)
            shape = draw(st.lists(sides(maximum=4), max_size=3).map(tuple))
            return draw(cases(st.just(layer), hnp.arrays(np.int64, shape, elements=st.integers(0, rows - 1))))

        return drawn()
