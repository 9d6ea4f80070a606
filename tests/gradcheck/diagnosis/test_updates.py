"""Mistakes in the rules of optimizers are named, and nothing is said of those that are none of the usual ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from gradcheck.checks import check_optimizer
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict

torch = pytest.importorskip("torch")

State = dict[str, Any]
Rule = Callable[[Array, Array, State, float, int], tuple[Array, State]]


def sgd(w: Array, g: Array, state: State, lr: float, t: int, *, decay: float = 0.0) -> tuple[Array, State]:
    return w - lr * (g + decay * w), state


def ascent(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return w + lr * g, state


def without_rate(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return w - g, state


def rate_twice(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return w - lr * lr * g, state


def first_rate(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    first = state.get("lr", lr)
    return w - first * g, {"lr": first}


def tripled(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return w - 3 * lr * g, state


def shrunk(w: Array, g: Array, state: State, lr: float, t: int, *, decay: float) -> tuple[Array, State]:
    return w * (1 - decay) - lr * g, state


def momentum(
    w: Array, g: Array, state: State, lr: float, t: int, *, mu: float = 0.9, new: float = 1.0, ahead: float = 0.0
) -> tuple[Array, State]:
    v = mu * state.get("v", 0) + new * g
    return w - lr * (ahead * mu * v + g if ahead else v), {"v": v}


def folded(w: Array, g: Array, state: State, lr: float, t: int, *, sign: float = 1.0) -> tuple[Array, State]:
    v = 0.9 * state.get("v", 0) - lr * g
    return w + sign * v, {"v": v}


def decayed_beside(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    v = 0.9 * state.get("v", 0) + g
    return w * (1 - lr * 0.1) - lr * v, {"v": v}


def adam(
    w: Array,
    g: Array,
    state: State,
    lr: float,
    t: int,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-4,
    correction: Callable[[float, int], float] = lambda beta, t: 1 - beta**t,
    divisor: Callable[[Array, float], Array] = lambda v, eps: np.sqrt(v) + eps,
    weights: tuple[float, float] | None = None,
    decay: float = 0.0,
) -> tuple[Array, State]:
    first, second = betas
    into = weights or (1 - first, 1 - second)
    g = g + decay * w
    m, v = first * state.get("m", 0) + into[0] * g, second * state.get("v", 0) + into[1] * g * g
    mean, square = m / correction(first, t), v / correction(second, t)
    return w - lr * mean / divisor(square, eps), {"m": m, "v": v}


def forgetful(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return adam(w, g, {}, lr, t)[0], state


def multiplied(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return w - lr * g * (1 + 0.1 * w), state


def hat(w: Array, g: Array, state: State, lr: float, t: int, *, eps: float = 1e-4) -> tuple[Array, State]:
    m, v = 0.9 * state.get("m", 0) + 0.1 * g, 0.999 * state.get("v", 0) + 0.001 * g * g
    return w - lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(v) + eps), {"m": m, "v": v}


def rmsprop(
    w: Array, g: Array, state: State, lr: float, t: int, *, alpha: float = 0.9, inside: bool = False, root: bool = True
) -> tuple[Array, State]:
    v = alpha * state.get("v", 0) + (1 - alpha) * g * g
    below = np.sqrt(v + 1e-2) if inside else (np.sqrt(v) if root else v) + 1e-2
    return w - lr * g / below, {"v": v}


def adagrad(w: Array, g: Array, state: State, lr: float, t: int, *, kept: bool = True) -> tuple[Array, State]:
    s = state.get("s", 0) * kept + g * g
    return w - lr * g / (np.sqrt(s) + 1e-2), {"s": s}


def squares_of_cubes(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    v = 0.9 * state.get("v", 0) + 0.1 * np.abs(g) ** 3
    return w - lr * g / (np.sqrt(v) + 1e-2), {"v": v}


OPTIM = torch.optim
SGD = partial(OPTIM.SGD, lr=0.1)
DECAYED = partial(OPTIM.SGD, lr=0.1, weight_decay=0.1)
MOMENTUM = partial(OPTIM.SGD, lr=0.1, momentum=0.9)
NESTEROV = partial(OPTIM.SGD, lr=0.1, momentum=0.9, nesterov=True)
DAMPENED = partial(OPTIM.SGD, lr=0.1, momentum=0.9, dampening=0.5)
ADAM = partial(OPTIM.Adam, lr=0.1, eps=1e-4)
L2 = partial(OPTIM.Adam, lr=0.1, eps=1e-4, weight_decay=0.1)
ADAMW = partial(OPTIM.AdamW, lr=0.1, eps=1e-4, weight_decay=0.1)
RMSPROP = partial(OPTIM.RMSprop, lr=0.1, alpha=0.9, eps=1e-2)
ADAGRAD = partial(OPTIM.Adagrad, lr=0.1, eps=1e-2)

MISTAKES: dict[str, tuple[Rule, Any, str]] = {
    "sign": (ascent, SGD, "the sign is wrong"),
    "no rate": (without_rate, SGD, "the learning rate is left out"),
    "rate twice": (rate_twice, SGD, "the learning rate is there twice"),
    "rate kept": (first_rate, SGD, "the first learning rate is kept"),
    "factor": (tripled, SGD, "every move is 3 times the reference's"),
    "no decay": (sgd, DECAYED, "the weight decay is left out"),
    "decay twice": (partial(sgd, decay=0.2), DECAYED, "the weight decay is done twice"),
    "decay of another sign": (partial(sgd, decay=-0.1), DECAYED, "the weight decay has the wrong sign"),
    "decay without rate": (partial(shrunk, decay=0.1), DECAYED, "and without the learning rate"),
    "decay where none is": (partial(sgd, decay=0.05), SGD, "a weight decay of 0.05 is one too many"),
    "decay as a factor": (multiplied, DECAYED, "multiplied by 1 + w p, where w p is to be added"),
    "moments forgotten": (forgetful, ADAM, "the moments are not kept from step to step"),
    "no momentum": (sgd, MOMENTUM, "the velocity is not kept"),
    "another momentum dampened": (
        partial(momentum, new=0.1),
        MOMENTUM,
        "times 1 - momentum, where torch adds it whole",
    ),
    "not dampened": (momentum, DAMPENED, "the dampening is left out"),
    "rate in the velocity": (folded, MOMENTUM, "the learning rate is inside the velocity"),
    "and its sign": (
        partial(folded, sign=-1.0),
        MOMENTUM,
        "the sign is wrong: it moves up the gradient, not down; and",
    ),
    "no step ahead": (momentum, NESTEROV, "Nesterov's step ahead is left out"),
    "a step ahead": (partial(momentum, ahead=1.0), MOMENTUM, "Nesterov's step ahead is not torch's"),
    "a step back": (partial(momentum, ahead=-1.0), NESTEROV, "Nesterov's step ahead is subtracted"),
    "decay beside": (decayed_beside, partial(MOMENTUM, weight_decay=0.1), "the weight decay is beside the gradient"),
    "no correction": (partial(adam, correction=lambda beta, t: 1.0), ADAM, "there is no bias correction"),
    "count one ahead": (partial(adam, correction=lambda beta, t: 1 - beta ** (t + 1)), ADAM, "count is one ahead"),
    "no power": (partial(adam, correction=lambda beta, t: 1 - beta), ADAM, "beta has no power t"),
    "the mean alone": (
        partial(adam, correction=lambda b, t: 1 - b**t if b < 0.95 else 1.0),
        ADAM,
        "squares has no bias",
    ),
    "eps inside": (partial(adam, divisor=lambda v, eps: np.sqrt(v + eps)), ADAM, "eps is inside the square root"),
    "no root": (partial(adam, divisor=lambda v, eps: v + eps), ADAM, "the square root is left out"),
    "eps before": (hat, ADAM, "before its bias correction, as in the paper's short form"),
    "another eps": (partial(adam, eps=1e-8), ADAM, "eps is as if it were 1e-08, where torch's is 0.0001"),
    "both of these": (partial(hat, eps=1e-7), ADAM, "and eps is as if it were 1e-07"),
    "betas exchanged": (partial(adam, betas=(0.999, 0.9)), ADAM, "beta1 and beta2 are exchanged"),
    "another beta": (partial(adam, betas=(0.9, 0.99)), ADAM, "beta2 is as if it were 0.99, where torch's is 0.999"),
    "mean that is a sum": (partial(adam, weights=(1.0, 1e-3)), ADAM, "its mean without the factor 1 - beta1"),
    "decay in the gradient": (partial(adam, decay=0.1), ADAMW, "in the gradient, where torch's is beside it"),
    "no decay of adam": (adam, L2, "the weight decay is left out"),
    "alpha the wrong way round": (partial(rmsprop, alpha=0.1), RMSPROP, "alpha is as if it were 0.1"),
    "eps inside the root": (partial(rmsprop, inside=True), RMSPROP, "eps is inside the square root"),
    "no root of the mean": (partial(rmsprop, root=False), RMSPROP, "the square root is left out"),
    "squares not added": (partial(adagrad, kept=False), ADAGRAD, "the squares are not added up"),
}


def check(rule: Rule, twin: Any, **options: Any) -> Any:
    return check_optimizer(named(rule), twin, 6, dtypes=("float64",), **options)


def named(rule: Rule) -> Callable[..., Any]:
    def update(param: Array, grad: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
        return rule(param, grad, state, lr, t)

    return update


@pytest.mark.short(10)
@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_rule_are_named(mistake: str) -> None:
    rule, twin, said = MISTAKES[mistake]
    (finding,) = check(rule, twin).failures
    assert said in finding.diagnosis


RIGHT: list[tuple[Rule, Any]] = [
    (sgd, SGD),
    (partial(sgd, decay=0.1), DECAYED),
    (momentum, MOMENTUM),
    (partial(momentum, ahead=1.0), NESTEROV),
    (adam, ADAM),
    (partial(adam, decay=0.1), L2),
    (rmsprop, RMSPROP),
    (adagrad, ADAGRAD),
]


@pytest.mark.parametrize(("rule", "twin"), RIGHT)
def test_the_rules_without_mistakes_pass(rule: Rule, twin: Any) -> None:
    report = check(rule, twin)
    assert report, str(report)


@pytest.mark.parametrize(("rule", "twin"), [(squares_of_cubes, RMSPROP), (adam, RMSPROP), (adagrad, SGD)])
def test_of_other_mistakes_nothing_is_said(rule: Rule, twin: Any) -> None:
    (finding,) = check(rule, twin).failures
    assert finding.diagnosis == ""


def test_one_wrong_element_is_explained_by_nothing() -> None:
    def nearly(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
        moved = w + lr * g
        if moved.shape == (4,):
            moved[3] += 1e-9
        return moved, state

    (finding,) = check(nearly, SGD).failures
    assert finding.diagnosis == ""


def stays(w: Array, g: Array, state: State, lr: float, t: int) -> tuple[Array, State]:
    return (w if w.shape == (4,) else w - lr * g), state


def test_without_torchs_rule_a_step_is_explained() -> None:
    for rule, said in (
        (ascent, "the sign is wrong: every move is the opposite of the reference's"),
        (without_rate, "the learning rate is left out"),
        (first_rate, "the first learning rate is kept"),
        (partial(sgd, decay=0.05), "a weight decay of 0.05 is one too many"),
        (stays, "p1 is not moved"),
    ):
        (finding,) = check(rule, None, reference=named(sgd)).failures
        assert said in finding.diagnosis, finding


def test_a_count_that_goes_up_with_every_tensor_is_named() -> None:
    class CountsTensors:
        def __init__(self) -> None:
            self.lr, self.t, self.state = 0.1, 0, {}  # type: ignore[var-annotated]  # empty

        def step(self, params: dict[str, Array], grads: dict[str, Array]) -> None:
            for key, g in grads.items():
                self.t += 1
                params[key], self.state[key] = adam(params[key], g, self.state.get(key, {}), self.lr, self.t)

    report = check_optimizer(CountsTensors(), ADAM, 6, dtypes=("float64",))
    assert report.verdict is Verdict.FAIL
    assert "the count goes up with every tensor" in str(report)
