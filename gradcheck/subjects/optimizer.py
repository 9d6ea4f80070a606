"""Anybody's optimizer, as one of the contract: how it is called is found by calling copies."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from gradcheck.contract import Array, Case, Gradients, Optimizer
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.held_parameters import Place, arrays_of, held_parameters
from gradcheck.subjects.optimizer_calls import (
    KEPT,
    MANY_UNITS,
    RATES,
    UNITS,
    Argument,
    Call,
    Container,
    Dicts,
    Layers,
    Lists,
    Objects,
    Own,
    OwnAndGradients,
    Pairs,
    Rate,
    Role,
    Running,
    Single,
    arguments_of,
    copy_of,
)

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

METHODS = (
    "step",
    "update",
    "apply",
    "apply_gradients",
    "apply_grads",
    "update_params",
    "update_parameters",
    "update_weights",
    "optimize",
    "__call__",
)

# Dicts below an optimizer that may hold its rate.
OPTIONS = ("config", "hyperparameters", "hyperparams", "hparams", "defaults", "options", "optim_config", "settings")

# A rate that a step works with, beside the one that it was made with.
CURRENT = ("current_learning_rate", "current_lr")

# Shapes of tensors that no rule can confuse, and names that people give to them.
SHAPES: tuple[tuple[int, ...], ...] = ((3, 2), (4,), (2, 1, 3), ())
COURSE = ("W1", "b1", "W2", "b2")
NAMINGS = (
    (("W", "dW"), ("b", "db")),
    (("w", "dw"), ("b", "db")),
    (("weights", "dweights"), ("biases", "dbiases")),
    (("weights", "dweights"), ("bias", "dbias")),
    (("weight", "dweight"), ("bias", "dbias")),
    (("weights", "grad_weights"), ("bias", "grad_bias")),
    (("weight", "grad_weight"), ("bias", "grad_bias")),
    (("weights", "weights_grad"), ("bias", "bias_grad")),
)

TRIALS = 2  # steps of a trial: a rule may move nothing in the first
RATE_OF_TRIALS = 0.01
FALLS = 1e-3  # of a rate that is nearly none: what comes back then is the parameters, or nearly nothing


class Found(NamedTuple):
    """How an optimizer is called, and the tensors that it is called with."""

    call: Call
    rate: Rate
    params: dict[str, Array]
    manner: str


@dataclass(eq=False, kw_only=True)
class ForeignOptimizer(Optimizer):
    """Anybody's optimizer or update function, called as ``call`` says, with its rate where ``rate`` says.

    Its reference is another one, or else the torch optimizer that ``make_twin`` returns for a list of parameters.
    """

    optimizer: Any
    call: Call
    rate: Rate
    names: tuple[str, ...]
    manner: str
    make_twin: Callable[[list[Any]], Any] | None = None
    reference: ForeignOptimizer | None = None
    _running: Running | None = field(default=None, init=False, repr=False)

    @property
    def name(self) -> str:
        """Return the name of the object's class, or of the function."""
        return name_of(self.optimizer)

    @property
    def base_lr(self) -> float:
        """Return the rate that the object was made with."""
        return RATE_OF_TRIALS if self.rate.base is None else self.rate.base

    @property
    def sets_rate(self) -> bool:
        """Return whether the rate of both sides can be set; else both keep those that they were made with."""
        return self.rate.known and (self.reference is None or self.reference.rate.known)

    @property
    def holds(self) -> bool:
        """Return whether the optimizer holds the gradients, too, so that what it does to them is its own affair."""
        return isinstance(self.call.container, Own)

    @property
    def reading(self) -> str:
        """Return how the optimizer is called, in words."""
        how = {"in place": "moved in place", "replaced": "new arrays put in their places"}.get(self.manner, self.manner)
        one_each = "; one copy of it for each" if self.call.own else ""
        own = f"{self.call.words(self.name)}, {how}{one_each}; {self.rate}"
        return own if self.reference is None else f"{own}; its reference as: {self.reference.reading}"

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        if self._running is None:
            dtype = next(iter(params.values())).dtype
            self._running = Running(self.optimizer, self.call, self.rate, dtype)
        self._running.step(params, grads, lr if self.sets_rate else None)

    @property
    def widened(self) -> bool:
        """Return whether parameters came back in a higher precision than they were given in."""
        return self._running is not None and self._running.widened

    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        if self.make_twin is None:
            raise AdapterError(f"{self.name} has no twin")
        made: torch.optim.Optimizer = self.make_twin(list(params))
        return made

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AdapterError("a foreign optimizer is tried on what it is given")


def drawn_parameters(rng: np.random.Generator) -> tuple[Array, ...]:
    """Return tensors of shapes that no rule can take for one another."""
    return tuple(np.asarray(rng.standard_normal(shape)) for shape in SHAPES)


def name_of(optimizer: object) -> str:
    """Return the name of a function or of an object's class."""
    owner = optimizer.func if isinstance(optimizer, functools.partial) else optimizer
    return str(getattr(owner, "__name__", type(owner).__name__))


@np.errstate(all="ignore")  # some rules divide by zero
def read_optimizer(
    optimizer: object,
    params: Mapping[str, Array] | Sequence[Array] | None,
    rng: np.random.Generator,
    lr: str | None = None,
) -> tuple[ForeignOptimizer, tuple[Array, ...]]:
    """Return an optimizer as one of the contract, and the tensors to move: those given, or held, or drawn.

    Copies are called in one way after the other, and the first that moves something is taken. Raises `AdapterError`
    if there is none, with what was tried.
    """
    name, tried = name_of(optimizer), _Tried()
    for method in _methods(optimizer):
        for call, tensors in _calls(optimizer, method, params, rng, tried):
            found = _works(optimizer, call, tensors, lr, tried)
            if found is None:
                continue
            if not _repeats(optimizer, found):
                raise AdapterError(
                    f"two copies of {name} move the same tensors otherwise: it keeps what it remembers outside "
                    "itself, where no copy has its own, or it draws random numbers; give the object itself"
                )
            foreign = ForeignOptimizer(
                optimizer=optimizer, call=found.call, rate=found.rate, names=tuple(found.params), manner=found.manner
            )
            return foreign, tuple(found.params.values())
    raise AdapterError(tried.message(name, _methods(optimizer)))


WRITE = "write a method step(params, grads) that moves the arrays of the dict params in place"


class _Tried:
    """The ways that were tried, and why each was none, with what to do about it where that is known."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.remedies: list[str] = []

    def add(self, reason: str, remedy: str = "") -> None:
        known = self.remedies if remedy else self.reasons
        text = f"{reason}: {remedy}" if remedy else reason
        if text not in known:
            known.append(text)

    def message(self, name: str, methods: Sequence[str]) -> str:
        """Return in one line why no way was found, and what to write."""
        if not methods:
            return f"{name} needs a method step(params, grads), and has none of {', '.join(METHODS[:-1])}: {WRITE}"
        if self.remedies:
            return f"{name} could not be called: {self.remedies[0]}"
        return f"{name} could not be called: {'; '.join(self.reasons[:2]) or 'nothing that it takes is known'}; {WRITE}"


def _methods(optimizer: object) -> list[str]:
    """Return the methods that may move parameters, or the empty name for a function."""
    if inspect.isroutine(optimizer) or isinstance(optimizer, functools.partial):
        return [""]
    return [name for name in METHODS if callable(getattr(optimizer, name, None))]


def _calls(
    optimizer: object,
    method: str,
    params: Mapping[str, Array] | Sequence[Array] | None,
    rng: np.random.Generator,
    tried: _Tried,
) -> Iterator[tuple[Call, dict[str, Array]]]:
    """Yield the ways in which a method may be called, each with the tensors to try it on."""
    arguments = tuple(arguments_of(getattr(optimizer, method) if method else optimizer))  # type: ignore[arg-type]  # callable
    written = f"{method or name_of(optimizer)}({', '.join(argument.name for argument in arguments)})"
    unknown = [argument.name for argument in arguments if argument.role is Role.UNKNOWN]
    if unknown:
        bound = ", ".join(f"{argument}=..." for argument in unknown)
        tried.add(f"{written} has arguments that are not known", f"bind them, as by functools.partial(..., {bound})")
        return
    states = ["{}", "zeros", "None"] if any(a.role is Role.STATE for a in arguments) else ["{}"]
    if any(a.role is Role.STATE and a.name in KEPT for a in arguments):
        states = ["zeros", "{}", "None"]
    if all(not a.required for a in arguments if a.role is Role.STATE):
        states = [*states[:1], "None"] if len(states) > 1 else states
    for (container, tensors), initial in product(
        _containers(optimizer, written, arguments, params, rng, tried), states
    ):
        yield Call(method, arguments, container, initial), tensors


def _containers(
    optimizer: object,
    written: str,
    arguments: Sequence[Argument],
    params: Mapping[str, Array] | Sequence[Array] | None,
    rng: np.random.Generator,
    tried: _Tried,
) -> Iterator[tuple[Container, dict[str, Array]]]:
    required = [argument for argument in arguments if argument.required]
    names = [argument.name.lower().strip("_") for argument in required]
    given = _named(params)
    tensors = given or {f"p{i}": array for i, array in enumerate(drawn_parameters(rng))}
    roles = [argument.role for argument in required if argument.role not in (Role.RATE, Role.COUNT, Role.STATE)]
    if not roles:
        held = tuple(held_parameters(optimizer))
        if held:
            yield Own(held), _values(optimizer, [one.param for one in held], given)
        else:
            tried.add(
                f"{written} is given no tensors, and no arrays were found in it that have a gradient beside them",
                "make it with parameters, such as objects with data and grad, or dicts params and grads",
            )
    elif len(roles) == 1:
        yield from _of_one_argument(optimizer, names[0], given, tensors)
    elif Role.NAME in roles:
        yield Single(), tensors
    else:
        yield Dicts(), tensors
        yield Dicts("d"), tensors
        if given is None:
            course = dict(zip(COURSE, tensors.values(), strict=True))
            yield Dicts("d"), course
            yield Dicts(), course
        yield Lists(), tensors
        yield Single(), tensors
        if given is None:
            yield Single(), {name: array for name, array in tensors.items() if array.ndim}


def _of_one_argument(
    optimizer: object, name: str, given: dict[str, Array] | None, tensors: dict[str, Array]
) -> Iterator[tuple[Container, dict[str, Array]]]:
    grads, others = "grad" in name, any(word in name for word in ("param", "var", "weight"))
    if grads and others:
        first = name.index("grad") == 0
        yield from ((Pairs(gradient_first), tensors) for gradient_first in (first, not first))
    if grads:
        places = arrays_of(optimizer)
        if places:
            yield OwnAndGradients(tuple(places)), _values(optimizer, places, given)
        return
    if name not in UNITS and name not in MANY_UNITS:
        yield Objects(), tensors
        yield from ((Pairs(gradient_first), tensors) for gradient_first in (False, True))
    for naming in [_naming(given)] if given else NAMINGS:
        layers = given or _layers([param for param, _ in naming], list(tensors.values()))
        for each in (True, False) if name not in MANY_UNITS else (False, True):
            yield Layers(naming, each), {k if "." in k else f"0.{k}": array for k, array in layers.items()}


def _naming(given: Mapping[str, Array]) -> tuple[tuple[str, str], ...]:
    """Return the attributes of layers that have parameters of some names, with a d before that of each gradient."""
    names = dict.fromkeys(name.rpartition(".")[2] for name in given)
    return tuple((name, f"d{name}") for name in names)


def _layers(names: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    """Return arrays as the parameters of layers that have as many as there are names each."""
    return {f"{i // len(names)}.{names[i % len(names)]}": array for i, array in enumerate(arrays)}


def _named(params: Mapping[str, Array] | Sequence[Array] | None) -> dict[str, Array] | None:
    if params is None or isinstance(params, Mapping):
        return None if params is None else dict(params)
    return {f"p{i}": array for i, array in enumerate(params)}


def _values(owner: object, places: Sequence[Place], given: dict[str, Array] | None) -> dict[str, Array]:
    """Return the arrays that an optimizer holds, by where it holds them, with the values that are given, if any."""
    own = {str(place): np.array(place.read(owner)) for place in places}
    if given is None:
        return own
    shapes, wanted = [array.shape for array in given.values()], [array.shape for array in own.values()]
    if shapes != wanted:
        raise AdapterError(f"{name_of(owner)} holds parameters of shapes {wanted}, and params= are of shapes {shapes}")
    return dict(zip(own, given.values(), strict=True))


def _works(optimizer: object, call: Call, params: dict[str, Array], lr: str | None, tried: _Tried) -> Found | None:
    """Return how an optimizer is called, if a call of this kind moves something; else note why not."""
    name = name_of(optimizer)
    rate = _rate(optimizer, call, lr)
    try:
        if call.container.each and Role.NAME not in [argument.role for argument in call.arguments]:
            call = _shared_or_own(optimizer, call, rate, params)
        running, moved = _run(optimizer, call, rate, params)
    except AdapterError:
        raise
    except Exception as error:
        tried.add(*_problem(optimizer, call, params, error))
        return None
    if all(np.array_equal(moved[name], array) for name, array in params.items()):
        tried.add(
            f"{call.words(name)} returns nothing that is the parameters, and moves nothing",
            "return the new arrays, or move the given ones in place, as by p -= ... or p[...] = ...",
        )
        return None
    if not rate.known and call.states:
        rate = _rate_of_state(running, rate)
    if not rate.known and lr is not None:
        raise AdapterError(f"{name} has no attribute {lr}: name the one that holds its learning rate with lr=")
    _refuse_changes(optimizer, call, rate, params, running.manner)
    return Found(call, _effective(optimizer, call, rate, params, explicit=lr is not None), params, running.manner)


def _run(
    optimizer: object, call: Call, rate: Rate, params: dict[str, Array], lr: float | None = RATE_OF_TRIALS
) -> tuple[Running, dict[str, Array]]:
    """Return a copy of the optimizer after some steps, and the parameters that it has moved."""
    running = Running(optimizer, call, rate, np.float64)
    moved = {name: np.array(array, np.float64) for name, array in params.items()}
    for step in range(TRIALS):
        waves = {name: np.sin(1.0 + step + np.arange(array.size)) for name, array in params.items()}
        grads = {name: wave.reshape(params[name].shape) for name, wave in waves.items()}
        running.step(moved, grads, lr if rate.known else None)
    return running, moved


def _problem(optimizer: object, call: Call, params: dict[str, Array], error: Exception) -> tuple[str, str]:
    """Return why a call raised an error, and what to do about it, where that is known."""
    raised = f"raises {type(error).__name__}: {error}".replace("\n", " ")
    try:
        copy_of(optimizer, np.float64)
    except Exception:
        return f"it cannot be copied, copy.deepcopy {raised}", "checks work on copies"
    if isinstance(error, KeyError) and error.args and error.args[0] in params:
        problem = f"it does not know the parameter {error.args[0]!r}"
        return problem, "give those that it was made for, by name, as params={...}"
    return f"{call.words(name_of(optimizer))} {raised}", ""


def _repeats(optimizer: object, found: Found) -> bool:
    """Return whether two copies do the same: what a function keeps in a global has no copy."""
    runs = [_run(optimizer, found.call, found.rate, found.params)[1] for _ in range(2)]
    return all(np.array_equal(array, runs[1][name], equal_nan=True) for name, array in runs[0].items())


def _shared_or_own(optimizer: object, call: Call, rate: Rate, params: dict[str, Array]) -> Call:
    """Return the call with one object for all tensors, or with a copy for each.

    One object that keeps something of a tensor, and does not keep tensors apart, mixes them up, or fails for their
    shapes. So a copy for each is right unless one for all does the same.
    """
    own = replace(call, own=True)
    try:
        shared, apart = (_run(optimizer, each, rate, params)[1] for each in (call, own))
    except Exception:
        return own
    return call if all(np.array_equal(shared[n], apart[n], equal_nan=True) for n in params) else own


def _rate(optimizer: object, call: Call, lr: str | None) -> Rate:
    """Return where the rate is, by its usual names, or by the name that is given."""
    argument = next((a for a in call.arguments if a.role is Role.RATE), None)
    attribute = "" if lr is None else lr
    if argument is not None and attribute in ("", argument.name):
        base = argument.default if isinstance(argument.default, (int, float)) else None
        return Rate(argument=argument.name, base=base if base is not None else _held_rate(optimizer))
    if lr is not None:
        state = any(a.role is Role.STATE for a in call.arguments)
        first = lr.partition(".")[0]
        if state and not hasattr(optimizer, first):
            return Rate(key=lr)
        return _at(optimizer, [Place.of(optimizer, lr)])
    places = _rates(optimizer)
    return _at(optimizer, places) if places else Rate()


def _held_rate(optimizer: object) -> float | None:
    places = _rates(optimizer)
    return None if not places else float(places[0].read(optimizer))  # type: ignore[arg-type]  # a number


def _at(optimizer: object, places: Sequence[Place]) -> Rate:
    try:
        return Rate(tuple(places), base=float(places[0].read(optimizer)))  # type: ignore[arg-type]  # a number
    except (TypeError, ValueError):
        raise AdapterError(f"{name_of(optimizer)}'s {places[0]} is no number; lr= names its learning rate") from None


def _rates(optimizer: object) -> list[Place]:
    """Return the place of the rate by its usual names: an attribute, a key of a dict of options, or of each group."""
    for name in RATES:
        if _is_rate(getattr(optimizer, name, None)):
            partners = [partner for partner in CURRENT if _is_rate(getattr(optimizer, partner, None))]
            return [Place(((each, True),)) for each in (name, *partners)]
    groups = getattr(optimizer, "param_groups", None)
    if isinstance(groups, list) and groups and isinstance(groups[0], dict) and _is_rate(groups[0].get("lr")):
        return [Place((("param_groups", True), (i, False), ("lr", False))) for i in range(len(groups))]
    for options in OPTIONS:
        held = getattr(optimizer, options, None)
        key = next((key for key in RATES if isinstance(held, dict) and _is_rate(held.get(key))), None)
        if key is not None:
            return [Place(((options, True), (key, False)))]
    return []


def _is_rate(value: object) -> bool:
    return isinstance(value, (int, float, np.floating)) and not isinstance(value, bool)


def _rate_of_state(running: Running, rate: Rate) -> Rate:
    """Return the rate that a function has put into its state, by its usual names."""
    state = next((kept[0] for kept in running.kept.values() if kept), None)
    key = next((key for key in RATES if isinstance(state, dict) and _is_rate(state.get(key))), None)
    return rate if key is None or not isinstance(state, dict) else Rate(key=key, base=float(state[key]))


def _effective(optimizer: object, call: Call, rate: Rate, params: dict[str, Array], *, explicit: bool) -> Rate:
    """Return the rate, or of several attributes with usual names the one that makes a difference, if any does."""
    if explicit or rate.argument or rate.key or len(rate.places) != 1 or len(rate.places[0].path) != 1:
        return rate
    for name in RATES:
        if not _is_rate(getattr(optimizer, name, None)):
            continue
        candidate = _at(optimizer, [Place(((name, True),))])
        runs = [_run(optimizer, call, candidate, params, lr)[1] for lr in (RATE_OF_TRIALS, 2 * RATE_OF_TRIALS)]
        if any(not np.array_equal(runs[0][n], runs[1][n]) for n in params):
            return candidate
    return rate


def _refuse_changes(optimizer: object, call: Call, rate: Rate, params: dict[str, Array], manner: str) -> None:
    """Raise `AdapterError` where what comes back is by how much to move: at a tiny rate, that is nearly 0."""
    if manner != "returned" or not rate.known:
        return
    small = _run(optimizer, call, rate, params, RATE_OF_TRIALS * FALLS**3)[1]
    if all(np.abs(small[name]).max() < FALLS * np.abs(array).max() for name, array in params.items() if array.size):
        raise AdapterError(
            f"{call.words(name_of(optimizer))} returns by how much to move, not the new parameters: "
            "give a function that returns them, such as lambda w, dw: w - opt.update(w, dw)"
        )
