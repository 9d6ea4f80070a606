"""Programs of the usual kinds, written in two ways that are both right, and with one mistake each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss, softplus

import gradcheck
from gradcheck.numerics.agreement import Verdict
from tests.gradcheck.loops.programs import SGD, Loop, network
from tests.long import later

STEPS = 6


def pairs() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield inputs and classes."""
    return ((torch.from_numpy(x), torch.from_numpy(y)) for x, y in SGD.data())


def update(optimizer: torch.optim.Optimizer, *losses: torch.Tensor, retain: bool = False) -> None:
    """Take one step down the sum of losses, each with a backward pass of its own."""
    optimizer.zero_grad()
    for loss in losses:
        torch.autograd.backward(loss, retain_graph=retain or len(losses) > 1)
    optimizer.step()


def two_heads(*, apart: bool, share: float = 0.5) -> Loop:
    """Train one body by two losses, added or sent backward one after the other."""

    def loop(watch: Any) -> None:  # noqa: ANN401  what check_loops gives
        torch.manual_seed(1)
        body, labels, sizes = nn.Linear(5, 6).double(), nn.Linear(6, 3).double(), nn.Linear(6, 1).double()
        nets = {"body": body, "labels": labels, "sizes": sizes}
        optimizer = torch.optim.Adam([p for net in nets.values() for p in net.parameters()], lr=0.01)
        with watch(nets, optimizer):
            for x, y in pairs():
                hidden = torch.tanh(body(x))
                first, second = cross_entropy(labels(hidden), y), share * mse_loss(sizes(hidden)[:, 0], x[:, 0])
                update(optimizer, *((first, second) if apart else (first + second,)))

    return loop


def averaged(*, inplace: bool, decay: float = 0.9) -> Loop:
    """Train towards what a slow copy of the network returns."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        model, slow = network(), network().requires_grad_(requires_grad=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch({"model": model, "slow": slow}, optimizer):
            for x, y in pairs():
                update(optimizer, cross_entropy(model(x), y) + mse_loss(model(x), slow(x)))
                with torch.no_grad():
                    for kept, new in zip(slow.parameters(), model.parameters(), strict=True):
                        if inplace:
                            kept.mul_(decay).add_(new, alpha=1 - decay)
                        else:
                            kept.copy_(decay * kept + (1 - decay) * new)

    return loop


def adversaries(*, cut: bool, zeroed: bool = True) -> Loop:
    """Train a judge and a maker; unless ``cut``, the judge's loss leaves gradients in the maker."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        torch.manual_seed(2)
        maker, judge = nn.Linear(4, 5).double(), nn.Linear(5, 1).double()
        of_judge, of_maker = (torch.optim.Adam(net.parameters(), lr=0.01) for net in (judge, maker))
        with watch({"maker": maker, "judge": judge}, [of_judge, of_maker]):
            for x, _ in pairs():
                made = maker(torch.randn(8, 4, dtype=torch.float64))
                shown = made.detach() if cut else made
                update(of_judge, softplus(-judge(x)).mean() + softplus(judge(shown)).mean(), retain=True)
                if zeroed:
                    of_maker.zero_grad()
                torch.autograd.backward(softplus(-judge(made)).mean())
                of_maker.step()

    return loop


def scaled_inputs(*, once: bool, scale: float = 0.3081) -> Loop:
    """Shift and scale pixels in one operation or in three."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        model, rng = network(), np.random.default_rng(3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer):
            for _, y in pairs():
                pixels = torch.from_numpy(rng.integers(0, 256, (8, 5))).double()
                x = pixels * (1 / (255 * scale)) - 0.1307 / scale if once else (pixels / 255 - 0.1307) / scale
                update(optimizer, cross_entropy(model(x), y))

    return loop


def drawn(*, by_root: bool) -> Loop:
    """Scale initial weights by the root of a quotient, or by a quotient of roots."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        torch.manual_seed(1)
        model = network()
        for parameter in model.parameters():
            normal = torch.randn(parameter.shape, dtype=torch.float64)
            parameter.data.copy_(normal * (2 / 6) ** 0.5 if by_root else normal * 2**0.5 / 6**0.5)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer):
            for x, y in pairs():
                update(optimizer, cross_entropy(model(x), y))

    return loop


def embedded(*, sparse: bool, lr: float = 0.5) -> Loop:
    """Train an embedding, whose gradients are sparse or dense."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        torch.manual_seed(1)
        model = nn.Sequential(nn.Embedding(20, 4, sparse=sparse), nn.Flatten(), nn.Linear(12, 3)).double()
        optimizer, rng = torch.optim.SGD(model.parameters(), lr=lr), np.random.default_rng(3)
        with watch(model, optimizer):
            for _, y in pairs():
                update(optimizer, cross_entropy(model(torch.from_numpy(rng.integers(0, 20, (8, 3)))), y))

    return loop


class Recurrent(nn.Module):
    """A recurrent cell over some words, by torch's module or cell by cell, and the state after it."""

    def __init__(self, *, cells: bool) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.rnn, self.head, self.cells = nn.RNN(5, 6, batch_first=True), nn.Linear(6, 3), cells

    def forward(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.cells:
            hidden, last = self.rnn(x[None], state)
            return self.head(hidden[0]), last
        weights, hidden, h = [p for _, p in self.rnn.named_parameters()], [], state[0, 0]
        for one in x:
            h = torch.tanh(one @ weights[0].T + weights[2] + h @ weights[1].T + weights[3])
            hidden.append(h)
        return self.head(torch.stack(hidden)), h[None, None]


def recurrent(*, cells: bool, carried: bool = True) -> Loop:
    """Hand a state on from step to step."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        model, state = Recurrent(cells=cells).double(), torch.zeros(1, 1, 6, dtype=torch.float64)
        optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
        with watch(model, optimizer):
            for x, y in pairs():
                scores, last = model(x, state)
                update(optimizer, cross_entropy(scores, y))
                state = last.detach() if carried else state

    return loop


def unequal(*, parts: int, weighted: bool = True) -> Loop:
    """Take micro-batches of which the last is smaller."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        model = network()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        with watch(model, optimizer):
            for x, y in pairs():
                split = list(zip(torch.split(x, parts), torch.split(y, parts), strict=True))
                shares = [len(part) / len(x) if weighted else 1 / len(split) for part, _ in split]
                losses = [share * cross_entropy(model(a), b) for share, (a, b) in zip(shares, split, strict=True)]
                update(optimizer, *losses)

    return loop


# Ours and theirs, both right; ours with a mistake, and the step at which it must be found.
PROGRAMS: dict[str, tuple[Loop, Loop, Loop, int]] = {
    "two losses": (two_heads(apart=True), two_heads(apart=False), two_heads(apart=True, share=0.6), 0),
    "computed targets": (averaged(inplace=False), averaged(inplace=True), averaged(inplace=True, decay=0.8), 1),
    "adversaries": (adversaries(cut=False), adversaries(cut=True), adversaries(cut=False, zeroed=False), 1),
    "scaled inputs": (scaled_inputs(once=True), scaled_inputs(once=False), scaled_inputs(once=True, scale=0.3082), 0),
    "sparse gradients": (embedded(sparse=True), embedded(sparse=False), embedded(sparse=True, lr=0.4), 0),
    "a state handed on": (recurrent(cells=True), recurrent(cells=False), recurrent(cells=True, carried=False), 1),
    "unequal micro-batches": (unequal(parts=3), unequal(parts=8), unequal(parts=3, weighted=False), 0),
}  # fmt: skip


@pytest.mark.parametrize("name", later(PROGRAMS, 1))
def test_both_ways_pass_and_the_mistake_fails_where_it_is(name: str) -> None:
    ours, theirs, wrong, step = PROGRAMS[name]
    for both in ((ours, theirs), (theirs, ours)):
        report = gradcheck.check_loops(*both, steps=STEPS)
        assert report, str(report)
    report = gradcheck.check_loops(wrong, theirs, steps=STEPS)
    assert report.verdict is Verdict.FAIL, str(report)
    assert report.first_divergence is not None
    assert report.first_divergence.step == step


def test_weights_that_are_drawn_with_another_rounding_are_the_same() -> None:
    assert gradcheck.check_loops(drawn(by_root=True), drawn(by_root=False), steps=3)
