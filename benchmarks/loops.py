"""Training loops compared: verdicts on right and on wrong pairs in drawn settings.

python benchmarks/loops.py [--part right|wrong] [--pairs 200] [--seed 0]
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

import gradcheck

# What check_loops gives to a loop: called with a model and an optimizer, it returns a context manager.
Watching = Callable[[nn.Module, torch.optim.Optimizer], AbstractContextManager[object]]
Loop = Callable[[Watching], None]

STEPS = 12
ACTIVATIONS = (nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Softplus, nn.LeakyReLU)
NORMS = (None, None, nn.BatchNorm1d, nn.LayerNorm)
OPTIMIZERS: tuple[tuple[Callable[..., torch.optim.Optimizer], dict[str, Any]], ...] = (
    (torch.optim.SGD, {"lr": 0.1}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}),
    (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "nesterov": True}),
    (torch.optim.Adam, {"lr": 0.01}),
    (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
    (torch.optim.RMSprop, {"lr": 0.01, "momentum": 0.5}),
    (torch.optim.Adagrad, {"lr": 0.1}),
)


@dataclass(frozen=True)
class Setting:
    """What a pair of loops has in common, and ``fault``, what is wrong with ours."""

    activation: type[nn.Module]
    norm: Any
    optimizer: Callable[..., torch.optim.Optimizer]
    options: dict[str, Any]
    dtype: torch.dtype
    width: int
    batch: int
    clip: float | None
    scheduled: bool
    seed: int
    fault: str = ""

    def build(self) -> nn.Module:
        """Return the model, with the same parameters each time."""
        torch.manual_seed(self.seed)
        norm = [] if self.norm is None else [self.norm(self.width)]
        layers = [nn.Linear(6, self.width), *norm, self.activation(), nn.Linear(self.width, 4)]
        return nn.Sequential(*layers).to(self.dtype)

    def loop(self, *, ours: bool) -> Loop:
        """Return a loop: ours takes each batch in two, if no layer forbids that, and updates tensor by tensor."""
        fault = self.fault if ours else ""

        def train(watch: Watching) -> None:
            model, options = self.build(), dict(self.options)
            if fault == "decay":
                options["weight_decay"] = options.get("weight_decay", 0.0) + 1e-4
            if fault == "rate":
                options["lr"] *= 1.5
            if fault == "amsgrad":
                options["amsgrad"] = True
            optimizer = self.optimizer(model.parameters(), foreach=not ours, **options)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
            rng = np.random.default_rng(self.seed)
            parts = 2 if ours and self.norm is not nn.BatchNorm1d else 1
            with watch(model, optimizer):
                for step in range(STEPS):
                    x = torch.from_numpy(rng.standard_normal((self.batch, 6))).to(self.dtype)
                    y = torch.from_numpy(rng.integers(0, 4, self.batch))
                    if fault == "samples":
                        x = x.roll(1, 0)
                    if fault != "zero_grad":
                        optimizer.zero_grad()
                    for part, labels in zip(x.chunk(parts), y.chunk(parts), strict=True):
                        smoothing = 0.1 if fault == "smoothing" else 0.0
                        loss = nn.functional.cross_entropy(model(part), labels, label_smoothing=smoothing)
                        torch.autograd.backward(loss if fault == "sum" else loss / parts)
                    if fault == "bias":
                        scale_gradient(next(p for p in model.parameters() if p.ndim == 1), 0.0)
                    if fault == "scale":
                        scale_gradient(next(model.parameters()), 1.001)
                    if self.clip and fault != "clip":
                        nn.utils.clip_grad_norm_(model.parameters(), self.clip)
                    optimizer.step()
                    if self.scheduled and not (fault == "late" and step == 0):
                        schedule.step()

        return train


def scale_gradient(parameter: torch.Tensor, factor: float) -> None:
    """Multiply a parameter's gradient."""
    if parameter.grad is not None:
        parameter.grad.mul_(factor)


# By name: whether a setting shows it.
FAULTS: dict[str, Callable[[Setting], bool]] = {
    "zero_grad": lambda _: True,
    "decay": lambda _: True,
    "samples": lambda _: True,
    "smoothing": lambda _: True,
    "bias": lambda setting: setting.norm is not nn.BatchNorm1d,  # a bias before it has no gradient
    "scale": lambda _: True,
    "sum": lambda setting: setting.norm is not nn.BatchNorm1d,
    "clip": lambda setting: setting.clip is not None,
    "late": lambda setting: setting.scheduled,
    "rate": lambda _: True,
    "amsgrad": lambda setting: setting.optimizer is torch.optim.Adam,
}

# By name: what the sentence that names the cause has in it.
CAUSES = {
    "zero_grad": "zero_grad is missing",
    "decay": "weight decay of 0.0001",
    "samples": "are the reference's, moved along the batch by 1",  # of micro-batches the labels, beside the samples
    "smoothing": "label smoothing of 0.1",
    "bias": "zero",
    "scale": "1.001 times",
    "sum": "micro-batches",
    "clip": "clipped",
    "late": "the schedule is late",
    "rate": "1.5 times that of theirs in every step",
    "amsgrad": "by AMSGrad",
}


def drawn(seed: int) -> Setting:
    """Return a setting."""
    rng = np.random.default_rng([seed, 17])
    optimizer, options = OPTIMIZERS[rng.integers(len(OPTIMIZERS))]
    return Setting(
        activation=ACTIVATIONS[rng.integers(len(ACTIVATIONS))],
        norm=NORMS[rng.integers(len(NORMS))],
        optimizer=optimizer,
        options=options,
        dtype=(torch.float64, torch.float32)[rng.integers(2)],
        width=int(rng.integers(3, 40)),
        batch=int(2 * rng.integers(2, 33)),
        clip=(None, 0.1)[rng.integers(2)],
        scheduled=bool(rng.integers(2)),
        seed=seed,
    )


def right(pairs: int, seed: int) -> None:
    """Print the verdicts on right pairs."""
    verdicts: Counter[str] = Counter()
    largest = []
    for number in range(seed, seed + pairs):
        setting = drawn(number)
        report = gradcheck.check_loops(setting.loop(ours=True), setting.loop(ours=False), steps=STEPS)
        verdicts[f"{report.verdict}{f' ({report.doubt})' if report.doubt else ''}"] += 1
        largest.append(report.ratios.max())
        if report.verdict == "fail":
            print(setting, report, sep="\n")
    shares = ", ".join(f"{share:.2g}" for share in np.quantile(largest, [0.5, 0.99, 1.0]))
    print(f"{pairs} right pairs: {dict(verdicts)}; largest ratio of a pair, median, 99 %, all: {shares}")


def wrong(pairs: int, seed: int) -> None:
    """Print for each fault how many of the pairs fail, at which step, and how many with the cause; then of them all."""
    caught = named = 0
    for fault, shows in FAULTS.items():
        found: Counter[str] = Counter()
        steps: Counter[int] = Counter()
        causes: Counter[str] = Counter()
        number = seed
        while sum(found.values()) < max(1, pairs // len(FAULTS)):
            setting = replace(drawn(number), fault=fault)
            number += 1
            if not shows(setting):
                continue
            report = gradcheck.check_loops(setting.loop(ours=True), setting.loop(ours=False), steps=STEPS)
            found[str(report.verdict)] += 1
            if report.first_divergence is not None:
                steps[report.first_divergence.step] += 1
                said = report.first_divergence.diagnosis
                causes["none" if said is None else "right" if CAUSES[fault] in said else f"other: {said}"] += 1
        caught, named = caught + sum(steps.values()), named + causes["right"]
        print(f"{fault:>10}: {dict(found)}, at step {dict(steps)}, cause named: {dict(causes)}")
    print(f"cause named in {named} of {caught} caught, {named / max(1, caught):.0%}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["right", "wrong"])
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.part in (None, "right"):
        right(arguments.pairs, arguments.seed)
    if arguments.part in (None, "wrong"):
        wrong(arguments.pairs, arguments.seed)
