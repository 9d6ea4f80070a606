"""Small training loops, in torch and NumPy, with switches for what can be written otherwise, and for mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from gradcheck.contract import Array

Loop = Callable[[Any], None]

FEATURES, HIDDEN, CLASSES, BATCH = 5, 6, 3, 8


def weights() -> dict[str, Array]:
    """Return the parameters that every loop begins with, as (in, out)."""
    rng = np.random.default_rng(11)
    w1, w2 = rng.standard_normal((FEATURES, HIDDEN)), rng.standard_normal((HIDDEN, CLASSES))
    return {"W1": w1 / 2, "b1": np.zeros(HIDDEN), "W2": w2 / 2, "b2": np.zeros(CLASSES)}


def batches(count: int = 40) -> Iterator[tuple[Array, Array]]:
    """Yield inputs and classes."""
    rng = np.random.default_rng(12)
    for _ in range(count):
        yield rng.standard_normal((BATCH, FEATURES)), rng.integers(0, CLASSES, BATCH)


def network(*middle: nn.Module, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    """Return two linear layers with the parameters of `weights`; ``middle`` comes after the first."""
    net = nn.Sequential(nn.Linear(FEATURES, HIDDEN), *middle, activation(), nn.Linear(HIDDEN, CLASSES)).double()
    given = weights()
    last = len(net) - 1
    names = {"0.weight": "W1", "0.bias": "b1", f"{last}.weight": "W2", f"{last}.bias": "b2"}
    state = {name: torch.from_numpy(given[own].T.copy()) for name, own in names.items()}
    net.load_state_dict(net.state_dict() | state)
    return net


@dataclass(frozen=True)
class Torch:
    """A loop of torch: what it trains, by what, and its body. ``micro`` is the number of micro-batches a step."""

    make: Callable[[], nn.Module] = network
    optimizer: Callable[[Any], torch.optim.Optimizer] = lambda params: torch.optim.SGD(params, lr=0.1, momentum=0.9)
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = nn.functional.cross_entropy
    dtype: torch.dtype = torch.float64
    zeroed: Callable[[int], bool] = lambda _: True
    micro: int = 1
    divided: bool = True
    clip: float | None = None
    clip_each: float | None = None
    schedule: Callable[[Any], Any] | None = None
    data: Callable[[], Iterator[tuple[Array, Array]]] = batches
    after: Callable[[nn.Module], None] = lambda _: None

    def __call__(self, watch: Any) -> None:  # noqa: ANN401  what check_loops gives
        model = self.make().to(self.dtype)
        optimizer = self.optimizer(model.parameters())
        schedule = self.schedule(optimizer) if self.schedule else None
        with watch(model, optimizer):
            for step, (x, y) in enumerate(self.data()):
                if self.zeroed(step):
                    optimizer.zero_grad()
                inputs, labels = torch.from_numpy(x).to(self.dtype), torch.from_numpy(y)
                for part, targets in zip(inputs.chunk(self.micro), labels.chunk(self.micro), strict=True):
                    loss = self.loss(model(part), targets)
                    torch.autograd.backward(loss / self.micro if self.divided else loss)
                    if self.clip_each:
                        nn.utils.clip_grad_norm_(model.parameters(), self.clip_each)
                if self.clip:
                    nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                optimizer.step()
                self.after(model)
                if schedule is not None:
                    schedule.step()


@dataclass(frozen=True)
class Numpy:
    """The same in NumPy, by hand, with momentum or Adam."""

    momentum: float = 0.9
    adam: bool = False
    beta2: float = 0.999
    eps_inside: bool = False
    dtype: type[np.floating] = np.float64
    layout: str = "own"  # of the parameters: own arrays, copies, or copies and what is returned is used
    shows_start: bool = True
    shows_state: bool = True
    shows_taps: bool = True
    one_hot: bool = False
    rate_in_velocity: bool = False
    loss_times: float = 1.0
    wrong: Callable[[dict[str, Array]], dict[str, Array]] = lambda grads: grads

    def __call__(self, watch: Any) -> None:  # noqa: ANN401  as above
        params = {name: array.astype(self.dtype) for name, array in weights().items()}
        first, second = ({name: np.zeros_like(array) for name, array in params.items()} for _ in range(2))
        state = {"m": first, "v": second} if self.adam else {"velocity": first}
        rate, used = 0.01 if self.adam else 0.1, self.layout == "returned"
        if self.shows_start:
            given, _ = watch.start({k: a.copy() for k, a in params.items()} if self.layout != "own" else params, state)
            params = given if used else params
        for step, (x, y) in enumerate(batches()):
            x = x.astype(self.dtype)
            hidden = np.tanh(x @ params["W1"] + params["b1"])
            scores = hidden @ params["W2"] + params["b2"]
            shifted = scores - scores.max(axis=1, keepdims=True)
            log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
            d_scores = (np.exp(log_p) - np.eye(CLASSES)[y]).astype(self.dtype) / self.dtype(BATCH)
            d_hidden = (d_scores @ params["W2"].T) * (1 - hidden**2)
            grads = {"W1": x.T @ d_hidden, "b1": d_hidden.sum(0), "W2": hidden.T @ d_scores, "b2": d_scores.sum(0)}
            grads = self.wrong(grads)
            for name, grad in grads.items():
                move = self._adam(first, second, name, grad, step) if self.adam else self._sgd(first, name, grad, rate)
                params[name] = params[name] - self.dtype(rate) * move
            shown = {name: array.copy() for name, array in params.items()} if self.layout != "own" else params
            given, _ = watch.step(
                params=shown,
                grads=grads,
                state=state if self.shows_state else None,
                loss=-self.loss_times * log_p[np.arange(BATCH), y].mean(),
                data=(x, np.eye(CLASSES)[y] if self.one_hot else y),
                taps={"hidden": hidden, "scores": scores} if self.shows_taps else None,
                lr=rate,
            )
            params = given if used else params

    def _sgd(self, velocity: dict[str, Array], name: str, grad: Array, rate: float) -> Array:
        kept, scale = self.dtype(self.momentum), self.dtype(-rate if self.rate_in_velocity else 1)
        velocity[name][...] = kept * velocity[name] + scale * grad
        return np.asarray(velocity[name] / scale)

    def _adam(self, first: dict[str, Array], second: dict[str, Array], name: str, grad: Array, step: int) -> Array:
        first[name][...] = 0.9 * first[name] + 0.1 * grad
        second[name][...] = self.beta2 * second[name] + (1 - self.beta2) * grad**2
        mean, square = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - self.beta2 ** (step + 1))
        return np.asarray(mean / (np.sqrt(square + 1e-8) if self.eps_inside else np.sqrt(square) + 1e-8))


SGD, ADAM = Torch(), Torch(optimizer=lambda params: torch.optim.Adam(params, lr=0.01))


class Separate(nn.Module):
    """Attention with a matrix each for queries, keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(FEATURES, FEATURES) for _ in range(3))
        self.out = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.softmax(self.q(x) @ self.k(x).T / FEATURES**0.5, dim=-1)
        return self.out(weights @ self.v(x))


class Fused(nn.Module):
    """The same with one matrix for all three."""

    def __init__(self, other: Separate) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(FEATURES, 3 * FEATURES), nn.Linear(FEATURES, CLASSES)
        with torch.no_grad():
            self.qkv.weight.copy_(torch.cat([part.weight for part in (other.q, other.k, other.v)]))
            self.qkv.bias.copy_(torch.cat([part.bias for part in (other.q, other.k, other.v)]))
        self.head.load_state_dict(other.out.state_dict())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        return self.head(nn.functional.scaled_dot_product_attention(q[None], k[None], v[None])[0])


def separate() -> Separate:
    """Return attention with the same parameters each time."""
    torch.manual_seed(5)
    return Separate().double()


def shuffled() -> Iterator[tuple[Array, Array]]:
    """Yield the batches with the samples of each turned by one place."""
    for x, y in batches():
        yield np.roll(x, 1, axis=0), np.roll(y, 1)


def scaled(name: str, factor: float) -> Callable[[dict[str, Array]], dict[str, Array]]:
    """Return what multiplies one gradient."""
    return lambda grads: {**grads, name: grads[name] * factor}


def with_optimizer(kind: type[torch.optim.Optimizer], **options: Any) -> Torch:  # noqa: ANN401  of the optimizer
    """Return the loop with another optimizer."""
    return replace(SGD, optimizer=lambda params: kind(params, **options))
