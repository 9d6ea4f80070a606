"""Why loops part: each mistake is planted in a small loop, and named; what comes near one is not called so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

import gradcheck
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from tests.gradcheck.loops.programs import (
    BATCH,
    CLASSES,
    SGD,
    Loop,
    Numpy,
    Torch,
    batches,
    network,
    weights,
    with_optimizer,
)
from tests.long import later

STEPS = 3
Tensor = torch.Tensor


def with_loss(loss: Callable[[Tensor, Tensor], Tensor], micro: int = 1) -> Torch:
    return replace(SGD, loss=loss, micro=micro)


def smoothed(a: float) -> nn.CrossEntropyLoss:
    return nn.CrossEntropyLoss(label_smoothing=a)


def penalised(outputs: Tensor, labels: Tensor) -> Tensor:
    """Add a tenth of the uniform term to cross-entropy, and take nothing off: no smoothing."""
    return functional.cross_entropy(outputs, labels) - 0.1 * torch.log_softmax(outputs, 1).mean()


def squares(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.mse_loss(torch.softmax(outputs, 1), functional.one_hot(labels, CLASSES).double())


def of_ten() -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(12)
    for _ in range(STEPS):
        yield rng.standard_normal((10, 5)), rng.integers(0, CLASSES, 10)


TEN = replace(SGD, data=of_ten)


class Weighted(nn.CrossEntropyLoss):
    """A mean that counts the first samples more than the others."""

    def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
        shares = torch.linspace(1.5, 0.5, len(labels), dtype=outputs.dtype)
        return (functional.cross_entropy(outputs, labels, reduction="none") * shares).mean()


class Within(nn.Module):
    """An activation between two matrices, called as a function."""

    def __init__(self, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.fc1, self.fc2, self.activation = nn.Linear(5, 6), nn.Linear(6, CLASSES), activation
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return cast("Tensor", self.fc2(self.activation(self.fc1(x))))


def within(activation: Callable[[Tensor], Tensor]) -> Torch:
    return replace(SGD, make=lambda: Within(activation))


def between(*modules: Callable[[], nn.Module]) -> Torch:
    return replace(SGD, make=lambda: network(*(make() for make in modules)))


class Norm(nn.Module):
    """Batch normalisation by hand."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, less: int = 0, less_running: int = 1, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
        self.register_buffer("running_mean", torch.zeros(6))
        self.register_buffer("running_var", torch.ones(6))
        self.less, self.less_running, self.momentum, self.eps = less, less_running, momentum, eps

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(0), x.var(0, correction=self.less)
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(x.var(0, correction=self.less_running), self.momentum)
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


NORM = between(lambda: nn.BatchNorm1d(6))


class Attention(nn.Module):
    """Attention of two heads; each position sees ``ahead`` further ones, and not those more than ``back`` behind it."""

    def __init__(self, ahead: int, back: int = 9, scale: float = 4**-0.5) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.embed, self.qkv = nn.Linear(5, 8), nn.Linear(8, 24)
        self.out, self.head = nn.Linear(8, 8), nn.Linear(8, CLASSES)
        self.ahead, self.back, self.scale = ahead, back, scale
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in self.qkv(self.embed(x)).chunk(3, -1))
        seen = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril(self.ahead).triu(-self.back)
        scores = (q @ k.transpose(-1, -2) * self.scale).masked_fill(~seen, -1e9)
        return cast("Tensor", self.head(self.out((torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(-2))))


def sequences() -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(1)
    for _ in range(STEPS):
        yield rng.standard_normal((4, 6, 5)), rng.integers(0, CLASSES, (4, 6))


def of_positions(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), labels.flatten())


def attention(ahead: int = 0, **options: Any) -> Torch:  # noqa: ANN401  of `Attention`
    return replace(SGD, make=lambda: Attention(ahead, **options), data=sequences, loss=of_positions)


class Cell(nn.Module):
    """A recurrent layer that keeps ``carried`` times its state from step to step."""

    def __init__(self, kind: Any, carried: float) -> None:  # noqa: ANN401  one of torch's layers
        super().__init__()
        torch.manual_seed(2)
        self.cell, self.head = kind(5, 6, batch_first=True), nn.Linear(6, CLASSES)
        self.carried = carried
        self.state: Any = None
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        results, state = self.cell(x, self.state)
        pair = state if isinstance(state, tuple) else (state,)
        kept = tuple(self.carried * part.detach() for part in pair)
        self.state = kept if isinstance(state, tuple) else kept[0]
        return cast("Tensor", self.head(results))


def recurrent(carried: float, kind: Any = nn.GRU) -> Torch:  # noqa: ANN401  one of torch's layers
    return replace(SGD, make=lambda: Cell(kind, carried), data=sequences, loss=of_positions)


def handed_on(carried: float) -> Loop:
    """Return a loop that hands the state of a recurrent layer to the model."""

    def loop(watch: Any) -> None:  # noqa: ANN401  what check_loops gives
        torch.manual_seed(2)
        cell, head = nn.RNN(5, 6, batch_first=True).double(), nn.Linear(6, CLASSES).double()

        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.cell, self.head = cell, head

            def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
                results, state = self.cell(x, state)
                return self.head(results), state

        model, state = Model(), torch.zeros(1, 4, 6).double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with watch(model, optimizer):
            for x, y in sequences():
                optimizer.zero_grad()
                outputs, state = model(torch.from_numpy(x), state)
                torch.autograd.backward(of_positions(outputs, torch.from_numpy(y)))
                optimizer.step()
                state = carried * state.detach()

    return loop


class Chunks(nn.Module):
    """A recurrent layer that goes through a sequence in two parts: what it hands on may be detached, or halved."""

    def __init__(self, kind: Any, hand: Callable[[Tensor], Tensor]) -> None:  # noqa: ANN401  as above
        super().__init__()
        torch.manual_seed(2)
        self.cell, self.head, self.hand = kind(5, 6, batch_first=True), nn.Linear(6, CLASSES), hand
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        first, state = self.cell(x[:, :2])
        handed = tuple(map(self.hand, state)) if isinstance(state, tuple) else self.hand(state)
        return cast("Tensor", self.head(torch.cat([first, self.cell(x[:, 2:], handed)[0]], 1)))


def in_chunks(hand: Callable[[Tensor], Tensor] = Tensor.clone, kind: Any = nn.RNN) -> Torch:  # noqa: ANN401  as above
    return replace(SGD, make=lambda: Chunks(kind, hand), data=sequences, loss=of_positions)


def halved(state: Tensor) -> Tensor:
    """Let half of the gradient through."""
    return 0.5 * state + 0.5 * state.detach()


def changed(change: Callable[[list[Tensor]], object], times: float = 1.0) -> Loop:
    """Return the loop with gradients that are changed in place before the step, and a loss times a number."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        with watch(model, optimizer):
            for x, y in batches():
                optimizer.zero_grad()
                loss = functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
                torch.autograd.backward(times * loss)
                change([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
                optimizer.step()

    return loop


def times(factor: float) -> Callable[[list[Tensor]], object]:
    return lambda grads: [grad.mul_(factor) for grad in grads]


def cut(bound: float) -> Callable[[list[Tensor]], object]:
    return lambda grads: [grad.clamp_(-bound, bound) for grad in grads]


def first_before_clipping(factor: float) -> Callable[[list[Tensor]], object]:
    def change(grads: list[Tensor]) -> None:
        grads[1].mul_(factor)
        norm = float(torch.sqrt(torch.stack([(grad * grad).sum() for grad in grads]).sum()))
        times(0.1 / norm)(grads)

    return change


class Rule(torch.optim.Optimizer):
    """A step of one's own of each parameter."""

    def __init__(self, params: Any, rule: Callable[..., object]) -> None:  # noqa: ANN401  as torch's
        super().__init__(params, {"lr": 0.1})
        self.rule = rule

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                self.rule(p, p.grad, self.state[p], group["lr"])


def by(rule: Callable[..., object]) -> Torch:
    return replace(SGD, optimizer=lambda params: Rule(params, rule))


def decayed(when: str, decay: float = 0.1) -> Callable[..., object]:
    """Return a step of momentum with a decay of the parameter before or after it, or of the half of it after it."""

    def rule(p: Tensor, grad: Tensor, state: dict[str, Tensor], lr: float) -> None:
        velocity = state.setdefault("momentum_buffer", torch.zeros_like(p)).mul_(0.9).add_(grad)
        if when == "before":
            p.mul_(1 - lr * decay)
        p.sub_(lr * velocity)
        if when in ("after", "half after"):
            (p if when == "after" else p[: len(p) // 2]).mul_(1 - lr * decay)

    return rule


def rounded(to: torch.dtype, noise: float = 0.0) -> Callable[..., object]:
    """Return a step of momentum whose velocity is kept in a precision, or with another error."""

    def rule(p: Tensor, grad: Tensor, state: dict[str, Tensor], lr: float) -> None:
        velocity = state.setdefault("momentum_buffer", torch.zeros_like(p, dtype=to)).mul_(0.9).add_(grad.to(to))
        velocity.mul_(1 + noise * torch.cos(torch.arange(velocity.numel()).reshape(velocity.shape)))
        p.sub_(lr * velocity.to(p.dtype))

    return rule


def held(slot: str, to: torch.dtype, seen: bool = True) -> Callable[..., object]:
    """Return Adam's step with one slot kept in another precision, rounded before it is used or after."""

    def rule(p: Tensor, grad: Tensor, state: dict[str, Tensor], lr: float) -> None:
        step = state.setdefault("step", torch.tensor(0.0)).add_(1)
        moments = []
        for name, beta, power in (("exp_avg", 0.9, 1), ("exp_avg_sq", 0.999, 2)):
            kept = state.setdefault(name, torch.zeros_like(p, dtype=to if name == slot else p.dtype))
            exact = beta * kept.to(p.dtype) + (1 - beta) * grad**power
            kept.copy_(exact)
            moments.append((kept.to(p.dtype) if seen else exact) / (1 - beta ** float(step)))
        p.sub_(lr * moments[0] / (moments[1].sqrt() + 1e-8))

    return rule


def adams(power: float) -> Callable[..., object]:
    """Return a step of Adam whose bias corrections are raised to a power, which is no known rule unless that is 1."""

    def rule(p: Tensor, grad: Tensor, state: dict[str, Tensor], lr: float) -> None:
        step = float(state.setdefault("step", torch.tensor(0.0)).add_(1))
        mean = state.setdefault("exp_avg", torch.zeros_like(p)).mul_(0.9).add_(0.1 * grad)
        square = state.setdefault("exp_avg_sq", torch.zeros_like(p)).mul_(0.999).add_(0.001 * grad**2)
        first, second = (1 - 0.9**step) ** power, (1 - 0.999**step) ** power
        p.sub_(lr * mean / first / ((square / second).sqrt() + 1e-8))

    return rule


def averaging(decay: float, of: str = "after") -> Loop:
    """Return a loop in NumPy with a mean of its parameters, which is part of the state that it shows."""

    def loop(watch: Any) -> None:  # noqa: ANN401  as above
        params = weights()
        mean = {name: array + 0.1 for name, array in params.items()}
        watch.start(params, {"ema": mean})
        for x, y in batches():
            hidden = np.tanh(x @ params["W1"] + params["b1"])
            powers = np.exp(hidden @ params["W2"] + params["b2"])
            d_scores = (powers / powers.sum(1, keepdims=True) - np.eye(CLASSES)[y]) / BATCH
            d_hidden = d_scores @ params["W2"].T * (1 - hidden**2)
            grads = {"W1": x.T @ d_hidden, "b1": d_hidden.sum(0), "W2": hidden.T @ d_scores, "b2": d_scores.sum(0)}
            before = {name: array.copy() for name, array in params.items()}
            for name in params:
                params[name] -= 0.1 * grads[name]
                taken = {"after": params[name], "before": before[name], "twice": 2 * params[name] ** 2}[of]
                mean[name][...] = decay * mean[name] + (1 - decay) * taken
            watch.step(params=params, state={"ema": mean}, grads=grads, data=(x, y), taps={"hidden": hidden}, lr=0.1)

    return loop


class Tied(nn.Module):
    """A language model with one matrix for both ends, or two."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.embed, self.middle, self.head = nn.Linear(7, 5, bias=False), nn.Linear(5, 5), nn.Linear(5, 7, bias=False)
        self.turned = nn.Parameter(self.embed.weight.detach().clone()) if not tied else self.embed.weight
        del self.head
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.middle(self.embed(x))) @ self.turned


def words() -> Iterator[tuple[Array, Array]]:
    rng = np.random.default_rng(3)
    for _ in range(STEPS):
        yield np.eye(7)[rng.integers(0, 7, 8)], rng.integers(0, 7, 8)


def language(*, tied: bool) -> Torch:
    return replace(SGD, make=lambda: Tied(tied=tied), data=words)


def gelu(approximate: str) -> Torch:
    return between(lambda: nn.GELU(approximate))


FIRST = first_before_clipping(1.0)
CLIPPED = replace(SGD, clip=0.1)
UNSHOWN = Numpy(shows_state=False)
COUPLED = (with_optimizer(kind, lr=0.01, weight_decay=0.1) for kind in (torch.optim.Adam, torch.optim.AdamW))
NESTEROV = with_optimizer(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True)

ADAM = with_optimizer(torch.optim.Adam, lr=0.1)
RMSPROP = with_optimizer(torch.optim.RMSprop, lr=0.1)

NAMED: dict[str, tuple[Loop, Loop]] = {
    "gradients reach back through the state that cell hands on to its next call in the reference alone: in ours": (
        in_chunks(Tensor.detach), in_chunks()),
    "ours updates 0.weight by AMSGrad (Adam with amsgrad=True), the reference by Adam": (
        with_optimizer(torch.optim.Adam, lr=0.1, amsgrad=True), ADAM),
    "the loss is cross-entropy with a label smoothing of 0.1, where the reference's is none": (
        with_loss(smoothed(0.1)), SGD),
    "the loss is cross-entropy with no label smoothing, where the reference's is 0.2": (
        replace(SGD, micro=2), with_loss(smoothed(0.2))),
    "the loss is the mean squared error of the softmax, where the reference's is the mean cross-entropy": (
        with_loss(squares), SGD),
    "the loss and every gradient are 7/10 times the reference's: a factor in the loss": (
        with_loss(lambda z, y: 0.7 * functional.cross_entropy(z, y)), SGD),
    "the loss and every gradient are exactly 4 times the reference's: as where ours adds up 4 micro-batches without": (
        replace(SGD, micro=4, divided=False), SGD),
    "as where ours does not divide out a loss scale of 1024": (changed(times(1.0), 1024), SGD),
    "ours clips its gradients before it divides out a loss scale of 1024": (
        changed(lambda grads: (FIRST(grads), times(1 / 1024)(grads)), 1024), changed(FIRST)),
    "ours takes the mean of the means over 3 micro-batches of 4, 4, 2 samples": (replace(TEN, micro=3), TEN),
    "the reference takes the mean of the means over 4 micro-batches of 3, 3, 3, 1 samples": (
        TEN, replace(TEN, micro=4)),
    "the activation in 1.output is GELU by its tanh approximation, where the reference's is GELU by erf": (
        gelu("tanh"), gelu("none")),
    "the activation in fc2.output is GELU by erf, where the reference's is SiLU": (
        within(functional.gelu), within(functional.silu)),
    "1.output is normalised by the unbiased variance, where the reference's is by the biased variance": (
        between(lambda: Norm(less=1)), NORM),
    "1.output is normalised by an eps of 0.001, where the reference's is by an eps of 1e-05": (
        between(lambda: Norm(eps=1e-3)), NORM),
    "1.output is normalised by the running statistics, where the reference's is by the biased variance of the": (
        between(lambda: nn.BatchNorm1d(6).eval()), NORM),
    "1.running_var moved by the biased variance of the batch, where the reference's moved by the unbiased one": (
        between(lambda: Norm(less_running=0)), NORM),
    "1.running_mean moved by a momentum of 0.9, where the reference's is 0.1": (
        between(lambda: Norm(momentum=0.9)), NORM),
    "has a mask that lets each position see one ahead: it is off by one, where the reference's has a causal mask": (
        attention(1), attention()),
    "has no mask, where the reference's has a causal mask": (attention(9), attention()),
    "has scores over the root of the size of all heads, where the reference's has scores over the root of the size": (
        attention(scale=8**-0.5), attention()),
    "input.x1 is zero in ours and not in the reference: as where a hidden state is not carried": (
        handed_on(0.0), handed_on(1.0)),
    "cell.output begins from a hidden state of zero in ours: it is not carried": (recurrent(0.0), recurrent(1.0)),
    "cell.output begins from a hidden state of zero in the reference: it is not carried": (
        recurrent(1.0, nn.LSTM), recurrent(0.0, nn.LSTM)),
    "turned of theirs is turned and embed.weight of ours": (language(tied=False), language(tied=True)),
    "turned of ours is turned and embed.weight of theirs": (language(tied=True), language(tied=False)),
    "the gradients of ours are clipped to a norm of 0.1, the gradients of the reference are not clipped": (
        CLIPPED, SGD),
    "the gradients of ours are clipped to a norm of 0.2, the gradients of the reference are clipped to a norm of 0.1": (
        replace(SGD, clip=0.2), CLIPPED),
    "the gradients of ours are not clipped, the gradients of the reference are clipped to a value of 0.05": (
        SGD, changed(cut(0.05))),
    "ours clips the gradients after each of 4 micro-batches, the sum so far": (
        replace(SGD, micro=4, clip_each=0.1), CLIPPED),
    "0.bias's gradient is zero before clipping, which divides by the norm of all": (
        changed(first_before_clipping(0.0)), changed(FIRST)),
    "the gradient of 2.bias.unclipped is the sum of the reference's of this step and of the step before": (
        replace(CLIPPED, zeroed=lambda step: step == 0), CLIPPED),
    "0.weight's momentum_buffer is kept in bfloat16, where the reference's is in float64": (
        by(rounded(torch.bfloat16)), SGD),
    "0.weight's momentum_buffer is kept in float32, where the reference's is in float64": (
        by(rounded(torch.float32)), SGD),
    "0.weight: ours decays it after its step, by lr x 0.1, where the reference does so before the step": (
        by(decayed("after")), by(decayed("before"))),
    "0.weight: the reference decays it after its step, by lr x 0.1, where ours has none": (
        by(decayed("")), by(decayed("after"))),
    "0.weight: ours adds a weight decay of 0.1 to the gradient, where the reference takes it off the parameter": (
        next(COUPLED), next(COUPLED)),
    "0.weight's square_avg is of the gradient with a weight decay of 0.01 more in it than the reference's": (
        with_optimizer(torch.optim.RMSprop, lr=0.01, weight_decay=0.01), with_optimizer(torch.optim.RMSprop, lr=0.01)),
    "0.weight's sum is of the gradient with a weight decay of 0.01 less in it than the reference's": (
        with_optimizer(torch.optim.Adagrad, lr=0.1), with_optimizer(torch.optim.Adagrad, lr=0.1, weight_decay=0.01)),
    "b2's mean keeps 0.9 of itself, where the reference's keeps 0.99": (averaging(0.9), averaging(0.99)),
    "mean takes in the parameter before the step, where the reference's takes in that after it": (
        averaging(0.9, "before"), averaging(0.9)),
    "0.weight: ours moves by g + 0.9 v, which is Nesterov's momentum, where the reference moves by its velocity v": (
        NESTEROV, SGD),
    "the gradient enters 0.weight's velocity 0.1 times, where it enters the reference's once: as by a dampening": (
        with_optimizer(torch.optim.SGD, lr=0.1, momentum=0.9, dampening=0.9), SGD),
    "0.weight moved as by no momentum, where the reference's is 0.9": (
        with_optimizer(torch.optim.SGD, lr=0.1), SGD),
    "as by a momentum that is 0.1 more in the reference than in ours": (replace(UNSHOWN, momentum=0.8), UNSHOWN),
    "as by a momentum of 0.9 in ours, whose velocity is not shown": (UNSHOWN, replace(UNSHOWN, momentum=0.0)),
    "in ours alone: in the reference it is detached": (
        in_chunks(kind=nn.LSTM), in_chunks(Tensor.detach, nn.LSTM)),
    "ours updates 0.weight by RMSprop, the reference by Adam": (RMSPROP, ADAM),
    "ours updates 0.weight by NAdam, the reference by Adam": (with_optimizer(torch.optim.NAdam, lr=0.1), ADAM),
    "ours updates 0.weight by Adam, the reference by Adamax": (ADAM, with_optimizer(torch.optim.Adamax, lr=0.1)),
    "ours updates 0.weight by Adagrad, the reference by centred RMSprop": (
        with_optimizer(torch.optim.Adagrad, lr=0.1), with_optimizer(torch.optim.RMSprop, lr=0.1, centered=True)),
    "ours updates 0.weight by RMSprop with momentum, the reference by RMSprop": (
        with_optimizer(torch.optim.RMSprop, lr=0.1, momentum=0.5), RMSPROP),
    "updates 0.weight by gradient descent with momentum, the reference by plain gradient descent": (
        with_optimizer(torch.optim.SGD, lr=0.1, momentum=0.9), with_optimizer(torch.optim.SGD, lr=0.1)),
    "0.weight's momentum_buffer is kept in float64, where the reference's is in bfloat16": (
        SGD, by(rounded(torch.bfloat16))),
    "0.weight's exp_avg is kept in float32, where the reference's is in float64": (
        by(held("exp_avg", torch.float32, seen=False)), ADAM),
    "0.weight's exp_avg_sq is kept in float64, where the reference's is in float32": (
        ADAM, by(held("exp_avg_sq", torch.float32))),
}  # fmt: skip


@pytest.mark.parametrize("sentence", later(NAMED, 8))
def test_a_mistake_is_named(sentence: str) -> None:
    report = gradcheck.check_loops(*NAMED[sentence], steps=STEPS)
    assert report.verdict is Verdict.FAIL, str(report)
    assert sentence[1:] in " ".join(str(report).split()), str(report)
    assert sentence[1:] in json.loads(report.to_json())["first_divergence"]["diagnosis"]


# By what is not to be said.
NEARLY: list[tuple[str, Loop, Loop]] = [
    ("smoothing", with_loss(penalised), SGD),
    ("factor in the loss", Numpy(loss_times=2.0), Numpy()),
    ("micro-batches", Numpy(loss_times=4.0), Numpy()),
    ("loss scale", changed(times(1.0), 1000), SGD),
    ("means over", replace(TEN, loss=Weighted()), TEN),
    ("activation", within(lambda x: x * torch.sigmoid(1.6 * x)), within(functional.silu)),
    ("activation", within(lambda x: functional.gelu(x) + 1e-6 * torch.cos(x)), within(functional.gelu)),
    ("normalised", between(lambda: Norm(less=2)), NORM),
    ("normalised", between(lambda: Norm(eps=2e-3)), NORM),
    ("variance", between(lambda: Norm(less_running=2)), NORM),
    ("mask", attention(back=2), attention()),
    ("attention", attention(scale=0.4), attention()),
    ("hidden state", recurrent(0.5), recurrent(1.0)),
    ("hidden state", handed_on(0.5), handed_on(1.0)),
    ("clipped", changed(times(0.3)), SGD),
    ("clipped", changed(lambda grads: times(0.3)(grads[1:])), SGD),
    ("clipped to a value", changed(lambda grads: [grad.clamp_(-0.05, 0.06) for grad in grads]), SGD),
    ("after each", replace(SGD, micro=4, clip_each=0.07), CLIPPED),
    ("kept in", by(rounded(torch.float64, 1e-7)), SGD),
    ("decay", by(decayed("half after")), by(decayed("before"))),
    ("decay", SGD, replace(UNSHOWN, momentum=0.8)),
    ("keeps", averaging(0.9, "twice"), averaging(0.9)),
    ("learning rate of 0.19", NESTEROV, SGD),
    ("reach back", in_chunks(halved), in_chunks()),
    ("by Adam", by(adams(0.5)), RMSPROP),
    ("by Adam", RMSPROP, by(adams(0.5))),
    ("tied", changed(lambda grads: grads[0].mul_(1.5)), SGD),
]


@pytest.mark.parametrize(("cause", "ours", "theirs"), later(NEARLY, 4))
def test_what_comes_near_a_mistake_is_not_called_so(cause: str, ours: Loop, theirs: Loop) -> None:
    report = gradcheck.check_loops(ours, theirs, steps=STEPS)
    assert report.verdict is Verdict.FAIL, str(report)
    assert report.first_divergence is not None
    assert cause not in (report.first_divergence.diagnosis or ""), str(report)
