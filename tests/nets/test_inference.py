"""What a network says of images, against torch: probabilities of every loss, and agreement that hides nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, Backward, Context, Loss
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory.check import EvaluationReport
from gradcheck.trajectory.engine import Engine
from nets import inference
from nets.engines.torch_engine import TorchEngine
from nets.inference import PROBABILITIES, Network
from nets.layers import ReLU
from nets.losses import LOSSES, CrossEntropyLoss
from nets.presets import PRESETS
from nets.run import DTYPES, Program
from nets.training import SIDES

# torch.nn.functional's own words for what a loss takes its inputs to be; None where these are no probabilities.
TORCH: dict[str, Callable[[torch.Tensor], torch.Tensor] | None] = {
    "CrossEntropyLoss": lambda outputs: torch.softmax(outputs, dim=1),
    "NLLLoss": torch.exp,  # of log-probabilities
    "BCEWithLogitsLoss": torch.sigmoid,
    "BCELoss": torch.clone,
    "SummedBCELoss": torch.clone,
    "MSELoss": None,
    "QuadraticCost": None,
    "L1Loss": None,
    "HuberLoss": None,
}


def test_of_every_loss_it_is_known_whether_it_knows_probabilities() -> None:
    assert {loss.__name__ for loss in LOSSES} == set(TORCH)
    assert {loss.__name__ for loss in PROBABILITIES} == {name for name, convert in TORCH.items() if convert}


@pytest.mark.parametrize("loss", PROBABILITIES, ids=lambda loss: loss.__name__)
def test_probabilities_are_torch_s(loss: type[Loss]) -> None:
    outputs = np.random.default_rng(0).normal(scale=4, size=(6, 10))
    if loss.__name__ == "NLLLoss":
        outputs = np.log(np.random.default_rng(1).dirichlet(np.ones(10), 6))
    elif "Logits" not in loss.__name__ and loss is not CrossEntropyLoss:
        outputs = np.random.default_rng(2).uniform(size=(6, 10))
    convert = TORCH[loss.__name__]
    assert convert is not None
    np.testing.assert_allclose(PROBABILITIES[loss](outputs), convert(torch.tensor(outputs)).numpy(), rtol=1e-13)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_what_a_network_says_is_called_what_it_is(loss: type[Loss]) -> None:
    program = Program(replace(PRESETS["mlp"], loss=loss()), 0, DTYPES["float64"])
    assert network(program).told == ("output" if TORCH[loss.__name__] is None else "probability")


def network(program: Program | None = None) -> Network:
    """Return an untrained network, whose sides have the same weights."""
    program = program or Program(PRESETS["mlp"], 0, DTYPES["float64"])
    return Network(program, {side: program.model().parameters() for side in SIDES})


def inputs() -> Array:
    return np.random.default_rng(0).uniform(size=(3, 784))


REPORTS = [
    EvaluationReport(Verdict.PASS, 2.0, None),
    EvaluationReport(Verdict.PASS, 1.0, None),
    EvaluationReport(Verdict.INCONCLUSIVE, 0.5, None),
    EvaluationReport(Verdict.FAIL, 9.0, None),
    EvaluationReport(Verdict.FAIL, math.nan, None),
]


@pytest.mark.parametrize(
    ("one", "other", "worst"),
    [(0, 1, 0), (1, 0, 0), (0, 2, 2), (2, 0, 2), (0, 4, 4), (4, 0, 4), (2, 3, 3), (3, 2, 3), (3, 4, 4), (4, 3, 4)],
)
def test_agreement_is_the_worse_of_both_sides_weights(
    one: int, other: int, worst: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Iterator[EvaluationReport] = iter((REPORTS[one], REPORTS[other]))
    monkeypatch.setattr(inference, "EvaluationCheck", lambda *_, **__: lambda _: next(found))
    assert network().agreement(inputs()) is REPORTS[worst]


@pytest.mark.parametrize("side", SIDES)
def test_the_weights_of_each_side_are_put_to_both_engines(side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that is wrong of large numbers only is seen by the side whose weights make such."""
    right = ReLU.forward

    def wrong(self: ReLU, x: Array, context: Context) -> tuple[Array, Backward]:
        y, backward = right(self, x, context)
        return np.where(y > 100, y * (1 + 1e-9), y), backward

    monkeypatch.setattr(ReLU, "forward", wrong)
    program = Program(PRESETS["mlp"], 0, DTYPES["float64"])
    weights = {one: dict(program.model().parameters()) for one in SIDES}
    assert Network(program, weights).agreement(inputs())
    first = next(iter(weights[side]))
    weights[side][first] = weights[side][first] * 1000
    assert Network(program, weights).agreement(inputs()).verdict is Verdict.FAIL


@pytest.mark.parametrize(("dtype", "other"), [("float32", np.float64), ("float64", np.float32)])
def test_the_other_precision_is_asked_for_its_opinion(dtype: str, other: type, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Engine | None] = []

    def told(*_args: Engine, opinion: Engine | None = None, **_: int) -> Callable[[Array], EvaluationReport]:
        asked.append(opinion)
        return lambda _: REPORTS[0]

    monkeypatch.setattr(inference, "EvaluationCheck", told)
    network(Program(PRESETS["mlp"], 0, DTYPES[dtype])).agreement(inputs())
    assert len(asked) == 2
    for opinion in asked:
        assert isinstance(opinion, TorchEngine)
        assert {array.dtype for key, array in opinion.state().items() if key.startswith("param/")} == {np.dtype(other)}
