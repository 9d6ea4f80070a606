"""Why an optimizer is wrong: which usual mistake in a rule gives exactly the parameters that came of it.

The rules are those of torch, written so that a part of them may be exchanged. Where the rule itself gives what torch's
optimizer gives, and the rule with a mistake in it gives what the optimizer under test gives, in every judged element of
every step, the mistake is the cause. Without torch's rule, one step is compared with the reference's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from gradcheck.contract import Array, Gradients
from gradcheck.diagnosis.fits import ONE, PRECISION, Comparison, factor_of, multiple_of, rounded

Options = dict[str, Any]
Kept = dict[str, Array]  # by slot


class Now(NamedTuple):
    """The learning rate of a step, and its number, from 1."""

    lr: float
    t: int


Rule = Callable[[Array, Array, Kept, Now, Options], Array]  # a number of NumPy's where that has no axes

# From how many tolerances on an element tells something: see `gradcheck.trajectory.causes`.
LEVELS = (PRECISION, 100.0)

# What rules are usually written with, where it is not said.
EPS = (0.0, 1e-16, 1e-12, 1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
FIRST_BETAS = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99)
SECOND_BETAS = (0.0, 0.9, 0.95, 0.98, 0.99, 0.999, 0.9999)

BEYOND = 2.0  # allowances that an explanation may be off by: its own rounding comes to that of the optimizer


@dataclass(frozen=True)
class Run:
    """An optimizer and its reference over some steps: parameters at first, gradients, rates, and what came of them.

    ``rule`` is the name of torch's optimizer and its hyper-parameters, if the reference is one.
    """

    params: Mapping[str, Array]
    grads: Sequence[Gradients]
    rates: Sequence[float]
    ours: Sequence[Mapping[str, Array]]
    theirs: Sequence[Mapping[str, Array]]
    allowed: Sequence[Mapping[str, float]]
    rule: tuple[str, Options] | None = None

    def comparison(self, step: int) -> Comparison:
        """Return all parameters of both sides after a step, in one array each."""
        names = list(self.params)
        spread = [np.full(self.params[name].size, self.allowed[step][name]) for name in names]
        return Comparison(
            _flat(self.ours[step], names), _flat(self.theirs[step], names), np.concatenate(spread), LEVELS
        )

    def before(self, step: int) -> Array:
        """Return all parameters of the optimizer before a step, in one array."""
        return _flat(self.ours[step - 1] if step else self.params, list(self.params))


class Mistake(NamedTuple):
    """A part of a rule that is exchanged, and the sentence that says so."""

    change: Options
    sentence: str


def explain_updates(run: Run, first: int, *, pairs: bool = True) -> str:
    """Return why parameters are wrong from the step ``first`` on, as a sentence, or the empty text.

    With ``pairs``, two mistakes together are tried, too, where none alone explains what is seen.
    """
    with np.errstate(all="ignore"):
        return _mistakes_in_rule(run, pairs=pairs) or _moves(run) or _step(run, first)


def _mistakes_in_rule(run: Run, *, pairs: bool) -> str:
    if run.rule is None or run.rule[0] not in RULES:
        return ""
    family, options = RULES[run.rule[0]], run.rule[1]
    if not _gives(run, family, options, run.theirs):
        return ""
    mistakes = list(_mistakes(family, options))
    alone = [one.sentence for one in mistakes if _explains(run, family, options | one.change)]
    if alone or not pairs:
        return "; or ".join(alone[:2])
    for one, other in combinations(mistakes, 2):
        if not one.change.keys() & other.change.keys() and _explains(run, family, options | one.change | other.change):
            return f"{one.sentence}; and {other.sentence}"
    return ""


def _explains(run: Run, family: Family, options: Options) -> bool:
    """Return whether a rule gives all that the optimizer under test gave, and could have been seen not to."""
    if not _gives(run, family, options, run.ours):
        return False
    for step, after in enumerate(_simulated(run, family, options)):
        comparison = run.comparison(step)
        if comparison.explained_by(_flat(after, list(run.params)), BEYOND * comparison.allowed, ONE):
            return True
    return False


def _gives(run: Run, family: Family, options: Options, wanted: Sequence[Mapping[str, Array]]) -> bool:
    for step, after in enumerate(_simulated(run, family, options)):
        for name, array in after.items():
            off = np.abs(array - wanted[step][name])
            same = (off <= (1 + BEYOND) * run.allowed[step][name]) | (np.isnan(array) & np.isnan(wanted[step][name]))
            if not np.all(same | (array == wanted[step][name])):
                return False
    return True


def _simulated(run: Run, family: Family, options: Options) -> Iterator[Mapping[str, Array]]:
    """Yield the parameters after each step of a rule, in float64."""
    params = {name: np.asarray(array, dtype=np.float64) for name, array in run.params.items()}
    kept: dict[str, Kept] = {name: {} for name in params}
    options = family.defaults | options
    for step, (grads, lr) in enumerate(zip(run.grads, run.rates, strict=True)):
        rate = {"given": lr, "first": run.rates[0], "none": 1.0, "squared": lr * lr}[options["rate"]]
        sign = -1.0 if options["maximize"] else 1.0
        for place, (name, grad) in enumerate(grads.items()):
            t = step * len(grads) + place + 1 if options["count"] == "of tensors" else step + 1
            params[name] = np.asarray(
                family.rule(params[name], sign * grad.astype(np.float64), kept[name], Now(rate, t), options)
            )
        yield dict(params)


def _decayed(p: Array, g: Array, lr: float, o: Options) -> tuple[Array, Array]:
    """Return parameters and gradient after weight decay: beside the gradient, or in it."""
    decay = o["weight_decay"]
    if not decay:
        return p, g
    if o["decoupled"] == "times":
        return p, g * (1 + decay * p)
    if o["decoupled"]:
        return p * (1 - decay * (lr if o["decoupled"] == "by the rate" else 1.0)), g
    return p, g + decay * p


def _sgd(p: Array, g: Array, kept: Kept, now: Now, o: Options) -> Array:
    lr = now.lr
    p, g = _decayed(p, g, lr, o)
    mu: float = o["momentum"]
    old = kept.get("velocity")
    if not mu:
        return p - lr * g
    if o["velocity"] == "of rates":  # v = mu v - lr g
        old = np.zeros_like(g) if old is None else old
        v: Array = mu * old - lr * (1 - o["dampening"]) * g
        kept["velocity"] = v
        if not o["nesterov"]:
            return p + v
        ahead = v if o["ahead"] == "of the new" else old
        return p + (mu * mu * ahead - (1 + mu) * lr * g)
    first = g if o["velocity"] == "of torch" else (1 - o["dampening"]) * g
    kept["velocity"] = v = first if old is None else mu * old + (1 - o["dampening"]) * g
    if not o["nesterov"]:
        return p - lr * v
    if o["ahead"] == "in the velocity":
        kept["velocity"] = v = g + mu * v
        return p - lr * v
    return p - lr * (g + (-mu if o["ahead"] == "subtracted" else mu) * v)


def _adam(p: Array, g: Array, kept: Kept, now: Now, o: Options) -> Array:
    lr = now.lr
    p, g = _decayed(p, g, lr, o)
    b1: float = o["beta1"]
    b2: float = o["beta2"]
    eps: float = o["eps"]
    zero = np.zeros_like(g)
    if o["mean"] == "forgotten":
        kept.clear()
    kept["mean"] = m = b1 * kept.get("mean", zero) + (1.0 if o["mean"] == "sum" else 1 - b1) * g
    kept["square"] = v = b2 * kept.get("square", zero) + (1.0 if o["square"] == "sum" else 1 - b2) * g * g
    if o["amsgrad"]:
        kept["most"] = v = np.maximum(v, kept.get("most", zero))
    at = now.t + {"late": -1, "early": 1}.get(o["correction"], 0)
    first, second = np.float64(1 - b1**at), np.float64(1 - b2**at)  # which may be 0 where the count is wrong
    if o["correction"] == "without the power":
        first, second = np.float64(1 - b1), np.float64(1 - b2)
    if o["correction"] == "times the step":
        first, second = np.float64(1 - b1 * now.t), np.float64(1 - b2 * now.t)
    first = np.float64(1) if o["correction"] in ("none", "second") else first
    second = np.float64(1) if o["correction"] in ("none", "first") else second
    if o["eps_at"] == "before the correction":
        rate: np.float64 = lr * np.sqrt(second) / first
        return p - rate * m / (_root(v, o) + eps)
    if o["eps_at"] == "in the root":
        return p - lr * (m / first) / np.sqrt(v / second + eps)
    return p - lr * (m / first) / (_root(v / second, o) + eps)


def _rmsprop(p: Array, g: Array, kept: Kept, now: Now, o: Options) -> Array:
    lr = now.lr
    p, g = _decayed(p, g, lr, o)
    zero = np.zeros_like(g)
    first = g * g if o["square"] == "from the first" else zero
    weight = 1.0 if o["square"] == "sum" else 1 - o["alpha"]
    kept["square"] = v = o["alpha"] * kept.get("square", first) + weight * g * g
    if o["centered"]:
        kept["mean"] = mean = o["alpha"] * kept.get("mean", zero) + (1 - o["alpha"]) * g
        v = v - mean * mean
    scaled: Array = g / (np.sqrt(v + o["eps"]) if o["eps_at"] == "in the root" else _root(v, o) + o["eps"])
    if o["momentum"]:
        inside = lr if o["velocity"] == "of rates" else 1.0
        kept["velocity"] = scaled = o["momentum"] * kept.get("velocity", zero) + inside * scaled
        lr = lr / inside
    return p - lr * scaled


def _adagrad(p: Array, g: Array, kept: Kept, now: Now, o: Options) -> Array:
    lr = now.lr
    p, g = _decayed(p, g, lr, o)
    before = np.full_like(g, o["initial_accumulator_value"])
    kept["sum"] = s = (before if o["square"] == "of this step" else kept.get("sum", before)) + g * g
    scaled: Array = g / (np.sqrt(s + o["eps"]) if o["eps_at"] == "in the root" else _root(s, o) + o["eps"])
    rate: float = lr / (1 + (now.t - 1) * o["lr_decay"])
    return p - rate * scaled


def _root(v: Array, o: Options) -> Array:
    return v if o["eps_at"] == "no root" else np.asarray(np.sqrt(v))


@dataclass(frozen=True)
class Family:
    """A rule, what its parts are where nothing is wrong, and the mistakes in parts that it has beyond those of all."""

    rule: Rule
    defaults: Options
    mistakes: tuple[Mistake, ...] = ()
    usual: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # values that a hyper-parameter often has


OF_ALL: Options = {"rate": "given", "count": "of steps", "maximize": False, "weight_decay": 0.0, "decoupled": ""}
MISTAKES_OF_ALL = (
    Mistake({"rate": "none"}, "the learning rate is left out: moves are as for a rate of 1"),
    Mistake({"rate": "squared"}, "the learning rate is there twice: moves are as for its square"),
    Mistake({"rate": "first"}, "the first learning rate is kept: a later change has no effect"),
)
EPS_PLACES = (
    Mistake({"eps_at": "in the root"}, "eps is inside the square root, where torch adds it after the root"),
    Mistake({"eps_at": "no root"}, "the square root is left out: the mean of squares itself divides"),
)
OF_SQUARES = {"eps_at": "after the root", "square": "mean"}

RATE_IN_VELOCITY = (
    "the learning rate is inside the velocity, v = mu v - lr g: once the rate changes, what the velocity holds still "
    "has the old one, where torch's v has none"
)

SGD = Family(
    _sgd,
    OF_ALL | {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "velocity": "of torch", "ahead": ""},
    (
        Mistake({"momentum": 0.0}, "the velocity is not kept from step to step: only the gradient moves"),
        Mistake({"velocity": "of rates"}, RATE_IN_VELOCITY),
        Mistake({"ahead": "subtracted"}, "Nesterov's step ahead is subtracted where it is to be added"),
        Mistake({"ahead": "in the velocity"}, "Nesterov's step ahead is written into the velocity, and so kept"),
        Mistake(
            {"velocity": "of rates", "ahead": "of the new"},
            "Nesterov's step takes the new velocity where the one before belongs",
        ),
    ),
)
ADAM = Family(
    _adam,
    OF_ALL
    | {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False, "mean": "mean", "correction": "both"}
    | OF_SQUARES,
    (
        *EPS_PLACES,
        Mistake(
            {"eps_at": "before the correction"},
            "eps is added to the root of the mean of squares before its bias correction, as in the paper's short form, "
            "where torch adds it after",
        ),
        Mistake({"correction": "none"}, "there is no bias correction"),
        Mistake({"correction": "first"}, "the mean of squares has no bias correction"),
        Mistake({"correction": "second"}, "the mean has no bias correction"),
        Mistake({"correction": "late"}, "the bias correction is that of the step before: its count starts at 0"),
        Mistake({"correction": "early"}, "the bias correction is that of the step after: its count is one ahead"),
        Mistake(
            {"correction": "without the power"},
            "the bias correction is that of the first step in every step: beta has no power t",
        ),
        Mistake({"count": "of tensors"}, "the count goes up with every tensor, where it is to go up with every step"),
        Mistake({"correction": "times the step"}, "the bias correction is 1 - beta t in place of 1 - beta^t"),
        Mistake({"mean": "forgotten"}, "the moments are not kept from step to step, while the count goes on"),
        Mistake({"mean": "sum"}, "the gradient enters its mean without the factor 1 - beta1"),
        Mistake({"square": "sum"}, "the squared gradient enters its mean without the factor 1 - beta2"),
    ),
    {"beta1": FIRST_BETAS, "beta2": SECOND_BETAS, "eps": EPS},
)
RMSPROP = Family(
    _rmsprop,
    OF_ALL | {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False, "velocity": "of torch"} | OF_SQUARES,
    (
        Mistake({"velocity": "of rates"}, RATE_IN_VELOCITY),
        *EPS_PLACES,
        Mistake({"square": "sum"}, "the squared gradient enters its mean without the factor 1 - alpha"),
        Mistake({"square": "from the first"}, "the mean of squares begins with the first square, in torch with 0"),
        Mistake({"momentum": 0.0}, "the momentum is left out"),
    ),
    {"alpha": SECOND_BETAS, "eps": EPS},
)
ADAGRAD = Family(
    _adagrad,
    OF_ALL | {"lr_decay": 0.0, "eps": 1e-10, "initial_accumulator_value": 0.0} | OF_SQUARES,
    (
        *EPS_PLACES,
        Mistake({"square": "of this step"}, "the squares are not added up: each step has its own alone"),
        Mistake({"lr_decay": 0.0}, "lr_decay is left out"),
    ),
    {"eps": EPS},
)
RULES = {"SGD": SGD, "Adam": ADAM, "AdamW": ADAM, "RMSprop": RMSPROP, "Adagrad": ADAGRAD}

FLAGS = {"nesterov": "Nesterov's step ahead", "amsgrad": "amsgrad", "centered": "centering"}


def _mistakes(family: Family, options: Options) -> Iterator[Mistake]:
    """Yield the usual mistakes in a rule with some hyper-parameters, the likeliest first."""
    given = family.defaults | options
    yield Mistake({"maximize": not given["maximize"]}, "the sign is wrong: it moves up the gradient, not down")
    for mistake in family.mistakes:
        differs = any(given[key] != value for key, value in mistake.change.items())
        if differs and (given.get("nesterov", True) or "ahead" not in mistake.change):
            yield mistake
    yield from MISTAKES_OF_ALL
    yield from _of_decay(given)
    if given.get("momentum") and "dampening" in given:
        if given["dampening"]:
            yield Mistake({"dampening": 0.0}, "the dampening is left out")
        else:
            dampened = "the gradient enters the velocity times 1 - momentum, where torch adds it whole"
            yield Mistake({"dampening": given["momentum"], "velocity": "from zero"}, dampened)
            yield Mistake({"dampening": given["momentum"]}, f"{dampened}, from the second step on")
    for flag, name in FLAGS.items():
        if flag in given:
            yield Mistake({flag: not given[flag]}, f"{name} is left out" if given[flag] else f"{name} is not torch's")
    if "beta1" in given and given["beta1"] != given["beta2"]:
        yield Mistake({"beta1": given["beta2"], "beta2": given["beta1"]}, "beta1 and beta2 are exchanged")
    for name, values in family.usual.items():
        one_less = (rounded(1 - given[name]),) if name != "eps" else ()
        for value in (*one_less, *values):
            if value != given[name]:
                yield Mistake({name: value}, f"{name} is as if it were {value:g}, where torch's is {given[name]:g}")


def _of_decay(given: Options) -> Iterator[Mistake]:
    decay = given["weight_decay"]
    if not decay:
        return
    yield Mistake({"weight_decay": 0.0}, "the weight decay is left out")
    yield Mistake({"weight_decay": 2 * decay}, "the weight decay is done twice, or is that of w p^2, twice as strong")
    yield Mistake({"weight_decay": decay / 2}, "the weight decay is half of torch's")
    yield Mistake({"weight_decay": -decay}, "the weight decay has the wrong sign")
    if given["decoupled"]:
        yield Mistake({"decoupled": ""}, "the weight decay is in the gradient, where torch's is beside it")
    else:
        beside = "the weight decay is beside the gradient, where torch adds it to the gradient"
        yield Mistake({"decoupled": "by the rate"}, beside)
    yield Mistake({"decoupled": "whole"}, "the weight decay is beside the gradient, and without the learning rate")
    yield Mistake({"decoupled": "times"}, "the gradient is multiplied by 1 + w p, where w p is to be added")


def _moves(run: Run) -> str:
    """Explain all steps by one factor between the moves of both sides, which may have the learning rate in it."""
    names = list(run.params)
    moves, others, spread = [], [], []
    for step in range(len(run.ours)):
        comparison = run.comparison(step)
        moves.append(comparison.analytic - run.before(step))
        others.append(comparison.numeric - _flat(run.theirs[step - 1] if step else run.params, names))
        spread.append(BEYOND * comparison.allowed)
    rates = np.repeat(np.asarray(run.rates, dtype=np.float64), moves[0].size)
    ours, theirs, allowed = np.concatenate(moves), np.concatenate(others), np.concatenate(spread)
    found = factor_of(Comparison(ours, theirs, allowed, LEVELS), ())
    if found is not None:
        return _factor_in_words(_number(found), run.rates[0])
    for power, sentence in ((-1, MISTAKES_OF_ALL[0].sentence), (1, MISTAKES_OF_ALL[1].sentence)):
        scaled = theirs * rates**power
        if Comparison(ours, theirs, allowed, LEVELS).explained_by(scaled, allowed * rates**power, ONE):
            return sentence
    kept = theirs * run.rates[0] / rates
    explained = Comparison(ours, theirs, allowed, LEVELS).explained_by(kept, allowed * run.rates[0] / rates, ONE)
    return MISTAKES_OF_ALL[2].sentence if explained else ""


def _factor_in_words(factor: float, lr: float) -> str:
    if factor == -1:
        return "the sign is wrong: every move is the opposite of the reference's"
    if abs(factor * lr - 1) <= 1 / PRECISION:
        return MISTAKES_OF_ALL[0].sentence
    rates = f"a learning rate of {rounded(factor * lr):g} for {lr:g}"
    return f"every move is {factor:.6g} times the reference's, as with {rates}"


def _step(run: Run, first: int) -> str:
    """Explain the first wrong step: tensors that stay, a factor, or a term of weight decay."""
    comparison, before = run.comparison(first), run.before(first)
    if stayed(comparison, before):
        return "nothing is moved"
    found = moved_by(moved(comparison, before))
    if found is not None:
        return f"in step {first} every move is {_number(found):.6g} times the reference's"
    decay = decay_of(comparison, before, run.rates[first])
    if decay is not None:
        return (
            f"step {first} is off by {decay['decay']:g} times the learning rate times the parameter itself: "
            f"a weight decay of {decay['decay']:g} is {'one too many' if decay['more'] else 'missing'}"
        )
    wrong = [name for name in run.params if _tensor(run, first, name).failing.any()]
    idle = all(
        stayed(_tensor(run, first, name), run.params[name] if not first else run.ours[first - 1][name])
        for name in wrong
    )
    return f"{', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} not moved" if idle else ""


def _tensor(run: Run, step: int, name: str) -> Comparison:
    ours, theirs = (np.asarray(side[step][name], dtype=np.float64) for side in (run.ours, run.theirs))
    return Comparison(ours, theirs, np.full(theirs.shape, run.allowed[step][name]), LEVELS)


def _flat(arrays: Mapping[str, Array], names: Sequence[str]) -> Array:
    return np.concatenate([np.asarray(arrays[name], dtype=np.float64).reshape(-1) for name in names])


def _number(found: Mapping[str, Any]) -> float:
    factor = found["factor"]
    return float(np.divide(*factor)) if isinstance(factor, tuple) else float(factor)


def stayed(after: Comparison, before: Array) -> bool:
    """Return whether a tensor is wrong, and is as it was before."""
    return bool(np.array_equal(after.analytic, before) and after.failing.any())


def moved(after: Comparison, before: Array) -> Comparison:
    """Return how far both sides have moved a tensor."""
    return Comparison(after.analytic - before, after.numeric - before, after.allowed, after.levels)


def moved_by(moves: Comparison) -> dict[str, Any] | None:
    """Return the one factor between the moves of both sides, or None."""
    return factor_of(moves, ())


def decay_of(after: Comparison, before: Array, lr: float) -> dict[str, Any] | None:
    """Return the weight decay that is missing, or one too many (``more``), where a tensor is off by that alone."""
    multiple = multiple_of(after, np.asarray(before, dtype=np.float64)) if lr else None
    return None if multiple is None else {"decay": rounded(abs(multiple) / lr), "more": multiple < 0}


@dataclass(frozen=True)
class Moments:
    """Adam's moments after a step, its count, and the betas by which they came about."""

    mean: Array
    square: Array
    t: float
    betas: tuple[float, float]
    lr: float

    @classmethod
    def of(
        cls, t: float, after: tuple[Array, Array], before: tuple[Array | None, Array | None], grad: Array, lr: float
    ) -> Moments | None:
        """Return the moments with the betas that lead from ``before`` to ``after``, or None if none in [0, 1) do."""
        betas = []
        for old, new, towards in zip(before, after, (grad, grad * grad), strict=True):
            away = (np.zeros_like(new) if old is None else old) - towards
            size = float(np.sum(away * away))
            if not size > 0:
                return None
            # Betas are written with few digits, which rounding, in float32, does not give back.
            betas.append(round(float(np.sum(away * (new - towards))) / size, 4))
        if not all(0 <= beta < 1 for beta in betas):
            return None
        return cls(*after, t, (betas[0], betas[1]), lr)

    def move(self, t: float, eps: float) -> Array:
        """Return how Adam moves the parameter with the bias correction of step ``t``, or none for inf."""
        first, second = (1 - beta**t for beta in self.betas)
        return np.asarray(-self.lr * (self.mean / first) / (np.sqrt(self.square / second) + eps))
