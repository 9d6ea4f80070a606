"""What a twin keeps from the way back, too, is meant; what it does not is a fault."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import gradcheck
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.properties.modes import modes_are_restored, repeated_calls_agree
from gradcheck.report.results import Finding
from tests.long import later

X = np.random.default_rng(0).standard_normal((2, 3))


class Rounds:
    """``y = round(x)``, through which dy passes."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def forward(self, x: Array) -> Array:
        return np.rint(x)

    def backward(self, dy: Array) -> Array:
        return self.factor * dy


class RoundsInTorch(torch.nn.Module):
    """The same in torch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (torch.round(x) - x).detach() + x


class Norms:
    """``y = x / |x|``, whose norm counts as a constant."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor = factor

    def forward(self, x: Array) -> Array:
        self.norm = np.sqrt((x**2).sum(axis=1, keepdims=True))
        return x / self.norm

    def backward(self, dy: Array) -> Array:
        return self.factor * dy / self.norm


class NormsInTorch(torch.nn.Module):
    """The same in torch."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x / torch.sqrt((x**2).sum(dim=1, keepdim=True)).detach()


class Table:
    """Rows of a table, the first of which has no gradient."""

    def __init__(self, factor: float = 1.0) -> None:
        self.weight, self.factor = np.random.default_rng(1).standard_normal((4, 3)), factor

    def forward(self, index: Array) -> Array:
        self.index = index
        return self.weight[index]

    def backward(self, dy: Array) -> None:
        self.dweight = np.zeros_like(self.weight)
        np.add.at(self.dweight, self.index, self.factor * dy)
        self.dweight[0] = 0


class Scales:
    """``y = w x``, whose w is frozen, or has its gradient times a factor."""

    def __init__(self, factor: float = 0.0) -> None:
        self.w, self.factor = np.random.default_rng(1).standard_normal(3), factor

    def forward(self, x: Array) -> Array:
        self.x = x
        return self.w * x

    def backward(self, dy: Array) -> Array:
        self.dw = self.factor * (dy * self.x).sum(axis=0)
        return self.w * dy


class ScalesInTorch(torch.nn.Module):
    """The same in torch, frozen or not."""

    def __init__(self, *, frozen: bool) -> None:
        super().__init__()
        self.w, self.frozen = torch.nn.Parameter(torch.zeros(3)), frozen

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.w.detach() if self.frozen else self.w) * x


class Kept(torch.nn.Module):
    """Returns what it was made with, whatever is given."""

    def __init__(self, y: Array) -> None:
        super().__init__()
        self.y = y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.tensor(self.y, dtype=x.dtype)


TABLE = {"params": {"weight": "weight"}, "grads": {"weight": "dweight"}}
W = {"params": {"w": "w"}, "grads": {"w": "dw"}}
INDEX = np.array([0, 1, 2, 0, 1])


def judged(
    layer: object,
    x: Array,
    twin: torch.nn.Module | None,
    names: dict[str, dict[str, str]] | None = None,
    *,
    variations: bool = False,
) -> Finding:
    claims = [gradients_agree_with_differences]
    report = gradcheck.check_layer(layer, x, twin=twin, claims=claims, variations=variations, **(names or {}))  # type: ignore[arg-type]
    return report.findings[0]


@pytest.mark.parametrize(
    ("kind", "x", "twin", "names"),
    later(
        [
            (Table, INDEX, torch.nn.Embedding(4, 3, padding_idx=0), TABLE),
            (Norms, X, NormsInTorch(), {}),
            (Rounds, X, RoundsInTorch(), {}),
        ],
        after=1,
    ),
)
def test_a_gradient_that_torch_stops_too_passes_and_twice_it_does_not(
    kind: type[Rounds], x: Array, twin: torch.nn.Module, names: dict[str, dict[str, str]]
) -> None:
    found = judged(kind(), x, twin, names, variations=True)
    assert found.verdict is Verdict.PASS
    assert found.remarks[0].startswith("torch stops this gradient, too: ")
    assert judged(kind(2.0), x, twin, names).verdict is Verdict.FAIL
    assert judged(kind(), x, None, names).verdict is Verdict.FAIL


def test_a_frozen_parameter_is_one_in_torch_too_or_forgotten() -> None:
    assert judged(Scales(), X, ScalesInTorch(frozen=True), W, variations=True).verdict is Verdict.PASS
    assert judged(Scales(2.0), X, ScalesInTorch(frozen=True), W).verdict is Verdict.FAIL
    assert judged(Scales(), X, ScalesInTorch(frozen=False), W).verdict is Verdict.FAIL


class Doubles:
    """``y = 2 x``, without a gradient."""

    def forward(self, x: Array) -> Array:
        return 2 * x

    def backward(self, dy: Array) -> Array:
        return np.zeros_like(dy)


def test_a_twin_that_depends_on_nothing_excuses_nothing() -> None:
    assert judged(Doubles(), X, Kept(2 * X)).verdict is Verdict.FAIL


class Counts:
    """``y = n x`` in training mode, where n counts its calls; ``steps`` is by how much."""

    def __init__(self, steps: float = 1.0) -> None:
        self.n, self.steps, self.training = np.ones(1), steps, False

    def forward(self, x: Array) -> Array:
        if self.training:
            self.n += self.steps
        return self.n * x

    def backward(self, dy: Array) -> Array:
        return self.n * dy


class CountsInTorch(torch.nn.Module):
    """The same in torch, by ones."""

    n: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.n += 1
        return self.n * x


class Drifts(Counts):
    """Moves in the last places only, in any mode."""

    def forward(self, x: Array) -> Array:
        self.n *= 1 + 1e-15
        return self.n * x


def test_a_state_that_moves_as_torchs_does_is_no_fault_of_calls() -> None:
    claims = [repeated_calls_agree, modes_are_restored]
    report = gradcheck.check_layer(Counts(), X, twin=CountsInTorch(), claims=claims)
    assert report.verdict is Verdict.PASS
    assert "in evaluation mode what it does in training mode, as torch's does" in str(report)
    for layer, twin in ((Counts(2.0), CountsInTorch()), (Counts(), None)):
        assert gradcheck.check_layer(layer, X, twin=twin, claims=claims).verdict is Verdict.FAIL
    assert "it keeps a state in n" in str(gradcheck.check_layer(Drifts(), X, twin=torch.nn.Identity(), claims=claims))
