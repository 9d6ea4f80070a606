"""How an optimizer is called, found by calling copies of it in one way after the other."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle

import numpy as np

from gradcheck.contract import Array
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.copies import copy_of
from gradcheck.subjects.held_parameters import Place, arrays_of, held_parameters, items_in
from gradcheck.subjects.optimizer import RATE_OF_TRIALS, ForeignOptimizer, name_of
from gradcheck.subjects.optimizer_arguments import KEPT, Argument, Role, arguments_of, couples_of
from gradcheck.subjects.optimizer_calls import Call, Rate, Running
from gradcheck.subjects.optimizer_containers import (
    Container,
    Dicts,
    Layers,
    Lists,
    Nested,
    Objects,
    OfNetwork,
    Own,
    OwnAndGradients,
    Pairs,
    Separate,
    Single,
)
from gradcheck.subjects.optimizer_rates import rate_of_state, rates_of

METHODS = (
    *("step", "update", "apply", "apply_gradients", "apply_grads", "update_params", "update_parameters"),
    *("update_weights", "optimize", "__call__"),
)

# Arguments that are a layer, or all of them.
UNITS = ("layer", "module")
MANY_UNITS = ("layers", "model", "net", "network", "nn")

# Shapes of tensors that no rule can take for one another, and names that people give to tensors and layers.
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
NESTED = (
    *(Nested(list, dict), Nested(list, dict, "d"), Nested(dict, dict), Nested(dict, dict, "d")),
    *(Nested(list, list), Nested(dict, list)),
)

TRIALS = 2  # steps of a trial: a rule may move nothing in the first
SHIFT = 4.0  # by which parameters are moved, to see whether what comes back moves with them

WRITE = "write a method step(params, grads) that moves the arrays of the dict params in place"

Tensors = dict[str, Array]


@np.errstate(all="ignore")  # some rules divide by zero
def read_optimizer(
    optimizer: object,
    params: Mapping[str, Array] | Sequence[Array] | None,
    rng: np.random.Generator,
    lr: str | None = None,
) -> tuple[ForeignOptimizer, tuple[Array, ...]]:
    """Return an optimizer as one of the contract, and the tensors to move: those given, or held, or drawn.

    The first call that moves something is taken. Where none does, and no tensors are given, those are tried that have
    the names and shapes of what the optimizer keeps. ``lr`` names where its rate is. Raises `AdapterError` if there is
    no way, with what was tried.
    """
    given: Tensors | None = None
    if params is not None:
        given = dict(params) if isinstance(params, Mapping) else {f"p{i}": array for i, array in enumerate(params)}
    drawn = drawn_parameters(rng)
    reader = _Reader(optimizer, given, drawn, lr)
    found = reader.read()
    for alike in _kept(optimizer, rng) if found is None and params is None else ():
        found = found or replace(reader, given=alike, reasons=[], remedies=[]).read()
    if found is None:
        raise AdapterError(reader.message())
    return found


def drawn_parameters(rng: np.random.Generator) -> tuple[Array, ...]:
    """Return tensors of shapes that no rule can take for one another."""
    return tuple(np.asarray(rng.standard_normal(shape)) for shape in SHAPES)


def _kept(optimizer: object, rng: np.random.Generator) -> Iterator[Tensors]:
    """Yield tensors like those of each dict or list of arrays that an optimizer keeps, such as its velocities."""
    for value in list(getattr(optimizer, "__dict__", {}).values()):
        alike = {
            key if isinstance(key, str) else f"p{key}": np.asarray(rng.standard_normal(array.shape))
            for key, array in items_in(value)
            if isinstance(array, np.ndarray) and array.dtype.kind == "f"
        }
        if alike and len(alike) == len(items_in(value)):
            yield alike


@dataclass
class _Reader:
    """An optimizer, the tensors to try it on, and why the calls that were tried are none."""

    optimizer: object
    given: Tensors | None
    drawn: tuple[Array, ...]
    lr: str | None
    reasons: list[str] = field(default_factory=list)
    remedies: list[str] = field(default_factory=list)  # reasons of which it is known what to do

    @property
    def name(self) -> str:
        return name_of(self.optimizer)

    @property
    def tensors(self) -> Tensors:
        return self.given or {f"p{i}": array for i, array in enumerate(self.drawn)}

    def message(self) -> str:
        """Return in one line why no call was found, and what to write."""
        if not self._methods():
            return f"{self.name} needs a method step(params, grads), and has none of {', '.join(METHODS[:-1])}: {WRITE}"
        if self.remedies:
            return f"{self.name} could not be called: {self.remedies[0]}"
        reasons = "; ".join(self.reasons[:2]) or "nothing that it takes is known"
        return f"{self.name} could not be called: {reasons}; {WRITE}"

    def read(self) -> tuple[ForeignOptimizer, tuple[Array, ...]] | None:
        """Return the optimizer as it is called first with effect, and the tensors that it was called with."""
        for method in self._methods():
            for call, tensors in self._calls(method):
                found = self._tried(call, tensors)
                if found is not None:
                    return found, tuple(tensors.values())
        return None

    def _methods(self) -> list[str]:
        """Return the methods that may move parameters, or the empty name for a function."""
        if inspect.isroutine(self.optimizer) or isinstance(self.optimizer, functools.partial):
            return [""]
        return [name for name in METHODS if callable(getattr(self.optimizer, name, None))]

    def _calls(self, method: str) -> Iterator[tuple[Call, Tensors]]:
        """Yield the ways in which a method may be called, each with the tensors to try it on."""
        called = getattr(self.optimizer, method) if method else self.optimizer
        arguments = tuple(arguments_of(called))  # type: ignore[arg-type]  # which can be called
        written = f"{method or self.name}({', '.join(argument.name for argument in arguments)})"
        unknown = [argument.name for argument in arguments if argument.role is Role.UNKNOWN]
        if unknown:
            bound = ", ".join(f"{argument}=..." for argument in unknown)
            problem = f"{written} has arguments that are not known"
            self.remedies.append(f"{problem}: bind them, as by functools.partial(..., {bound})")
            return
        states = [argument for argument in arguments if argument.role is Role.STATE]
        initials = ["zeros", "{}", "None"] if any(one.name in KEPT for one in states) else ["{}", "zeros", "None"]
        for container, tensors in self._containers(arguments, written):
            for initial in initials if states else initials[:1]:
                yield Call(method, arguments, container, initial), tensors

    def _containers(self, arguments: Sequence[Argument], written: str) -> Iterator[tuple[Container, Tensors]]:
        """Yield what a method with such arguments may take its tensors in."""
        others = (Role.RATE, Role.COUNT, Role.STATE)
        needed = [argument for argument in arguments if argument.required and argument.role not in others]
        couples = couples_of(arguments)
        if not needed:
            yield from self._of_none(written)
        elif len(needed) == 1:
            yield from self._of_one(needed[0].name.lower().strip("_"))
        elif couples:
            yield from self._of_couples(couples)
        elif any(argument.role is Role.NAME for argument in needed):
            yield Single(), self.tensors
        else:
            yield from self._of_two()

    def _of_none(self, written: str) -> Iterator[tuple[Container, Tensors]]:
        held = tuple(held_parameters(self.optimizer))
        if held:
            yield Own(held), self._values([one.param for one in held])
            return
        problem = f"{written} is given no tensors, and no arrays were found in it that have a gradient beside them"
        remedy = (
            "make it with parameters, such as objects with data and grad, or dicts params and grads, that have been "
            "through a backward pass"
        )
        self.remedies.append(f"{problem}: {remedy}")

    def _of_one(self, name: str) -> Iterator[tuple[Container, Tensors]]:
        grads, params = "grad" in name, any(word in name for word in ("param", "var", "weight"))
        if grads and params:
            first = name.startswith("grad")
            yield from ((Pairs(gradient_first), self.tensors) for gradient_first in (first, not first))
        if grads:
            places = arrays_of(self.optimizer)
            if places:
                for prefix in ("", "d"):
                    yield OwnAndGradients(tuple(places), prefix), self._values(places)
            return
        if name not in UNITS + MANY_UNITS:
            yield Objects(), self.tensors
            yield from ((Pairs(gradient_first), self.tensors) for gradient_first in (False, True))
        for naming in [_naming(self.given)] if self.given else NAMINGS:
            for each in (False, True) if name in MANY_UNITS else (True, False):
                yield Layers(naming, each), self._layers([param for param, _ in naming])
        if name in MANY_UNITS:
            yield OfNetwork(), self.tensors

    def _of_couples(self, couples: tuple[tuple[str, str], ...]) -> Iterator[tuple[Container, Tensors]]:
        params = [param for param, _ in couples]
        if self.given is None:
            yield Separate(couples), dict(zip(params, cycle(self.drawn), strict=False))
            several = {f"{param}.{i}": array.copy() for param in params for i, array in enumerate(self.drawn)}
            yield Separate(couples, lists=True), several
        elif self.given is not None and [*self.given] == params:
            yield Separate(couples), self.given

    def _of_two(self) -> Iterator[tuple[Container, Tensors]]:
        yield Dicts(), self.tensors
        yield Dicts("d"), self.tensors
        if self.given is None:
            course = dict(zip(COURSE, self.drawn, strict=True))
            yield from ((Dicts(prefix), course) for prefix in ("d", ""))
        yield Lists(), self.tensors
        yield Single(), self.tensors
        if self.given is None:
            yield Single(), {name: array for name, array in self.tensors.items() if array.ndim}
        nested = self._layers(["W", "b"])
        if self.given is None or all(name.count(".") == 1 for name in self.given):
            yield from ((container, nested) for container in NESTED)

    def _layers(self, names: Sequence[str]) -> Tensors:
        """Return the tensors that are given, or those drawn as the parameters of layers with such names."""
        if self.given is not None:
            return {name if "." in name else f"0.{name}": array for name, array in self.given.items()}
        return {f"{i // len(names)}.{names[i % len(names)]}": array for i, array in enumerate(self.drawn)}

    def _values(self, places: Sequence[Place]) -> Tensors:
        """Return the arrays that the optimizer holds, by where it does, with the values that are given, if any."""
        own = {str(place): np.array(place.read(self.optimizer)) for place in places}
        if self.given is None:
            return own
        shapes, wanted = [a.shape for a in self.given.values()], [a.shape for a in own.values()]
        if shapes != wanted:
            raise AdapterError(f"{self.name} holds parameters of shapes {wanted}, and params= are of shapes {shapes}")
        return dict(zip(own, self.given.values(), strict=True))

    def _tried(self, call: Call, params: Tensors) -> ForeignOptimizer | None:
        """Return the optimizer as it is called, if a call of this kind moves something; else note why not."""
        rates = rates_of(self.optimizer, call, self.lr)
        try:
            try:
                call, running, moved = self._first(call, rates[0], params)
            except AttributeError:  # as of a frozen object, whose rate cannot be set
                rates = [Rate()] if rates[0].places and self.lr is None else rates
                call, running, moved = self._first(call, rates[0], params)
        except AdapterError:
            raise
        except Exception as error:  # noqa: BLE001  a call that does not fit; if none does, it is told
            self._note(call, params, error)
            return None
        if running.manner == "returned" and not self._are_parameters(call, rates[0], params):
            call = replace(call, ignored=True)
            running, moved = self._ignoring(call, rates[0], params)
        if not _differ(moved, params):
            self.remedies.append(
                f"{call.words(self.name)} returns nothing that is the parameters, and moves nothing: return the new "
                "arrays, or move the given ones in place, as by p -= ... or p[...] = ..."
            )
            return None
        rate = self._effective(call, rates, params) if rates[0].known else rate_of_state(running)
        if _differ(*(self._run(call, rate, params)[1] for _ in range(2))):
            raise AdapterError(
                f"two copies of {self.name} move the same tensors otherwise: it keeps what it remembers outside "
                "itself, where no copy has its own, or it draws random numbers; give the object itself"
            )
        names = tuple(params)
        return ForeignOptimizer(optimizer=self.optimizer, call=call, rate=rate, names=names, manner=running.manner)

    def _ignoring(self, call: Call, rate: Rate, params: Tensors) -> tuple[Running, Tensors]:
        """Return what becomes of parameters if what comes back is something else; raises if nothing does."""
        try:
            running, moved = self._run(call, rate, params)
            if _differ(moved, params):
                return running, moved
        except Exception:  # noqa: BLE001, S110  said below, as of what moves nothing
            pass
        raise AdapterError(
            f"{call.words(self.name)} returns by how much to move, not the new parameters: give a function that "
            "returns them, such as lambda w, dw: w - opt.update(w, dw)"
        )

    def _first(self, call: Call, rate: Rate, params: Tensors) -> tuple[Call, Running, Tensors]:
        """Return the call, with a copy of the optimizer for each tensor if that is needed, and what comes of it."""
        if call.container.each and Role.NAME not in [argument.role for argument in call.arguments]:
            call = self._shared_or_own(call, rate, params)
        return call, *self._run(call, rate, params)

    def _note(self, call: Call, params: Tensors, error: Exception) -> None:
        """Note why a call raised an error, with what to do about it, where that is known."""
        raised = f"raises {type(error).__name__}: {error}".replace("\n", " ")
        try:
            copy_of(self.optimizer)
        except Exception:  # noqa: BLE001  copying is its own code; the remedy says so
            self.remedies.append(f"it cannot be copied, copy.deepcopy {raised}: checks work on copies")
            return
        if self.given is not None and isinstance(error, KeyError) and error.args and error.args[0] in params:
            problem = f"it does not know the parameter {error.args[0]!r}"
            self.remedies.append(f"{problem}: give those that it was made for, by name, as params={{...}}")
        else:
            self.reasons.append(f"{call.words(self.name)} {raised}")

    def _run(self, call: Call, rate: Rate, params: Tensors, lr: float = RATE_OF_TRIALS) -> tuple[Running, Tensors]:
        """Return a copy of the optimizer after some steps, and the parameters that it has moved."""
        running = Running(self.optimizer, call, rate, np.float64)
        moved = {name: np.array(array, np.float64) for name, array in params.items()}
        for step in range(TRIALS):
            waves = {name: np.sin(1.0 + step + np.arange(array.size)) for name, array in params.items()}
            grads = {name: wave.reshape(params[name].shape) for name, wave in waves.items()}
            running.step(moved, grads, lr if rate.known else None)
        return running, moved

    def _shared_or_own(self, call: Call, rate: Rate, params: Tensors) -> Call:
        """Return the call with one object for all tensors, or with a copy for each.

        One object that keeps something of a tensor, and does not keep tensors apart, mixes them up, or fails for their
        shapes. So a copy for each is right unless one for all does the same.
        """
        own = replace(call, own=True)
        try:
            return own if _differ(*(self._run(each, rate, params)[1] for each in (call, own))) else call
        except Exception:  # noqa: BLE001  one for all tensors fails: see above
            return own

    def _are_parameters(self, call: Call, rate: Rate, params: Tensors) -> bool:
        """Return whether what a call returns moves with the parameters, as they do; by how much to move does not."""
        here, there = (
            self._run(call, rate, {name: array + shift for name, array in params.items()})[1] for shift in (0.0, SHIFT)
        )
        shifts = [there[name] - here[name] for name in params]
        return all(bool(np.mean(shift[np.isfinite(shift)]) > SHIFT / 2) for shift in shifts if np.isfinite(shift).any())

    def _effective(self, call: Call, rates: Sequence[Rate], params: Tensors) -> Rate:
        """Return the first of the rates with usual names that makes a difference; what makes none is no rate."""
        if self.lr is not None or not rates[0].places:
            return rates[0]
        for rate in rates:
            runs = (self._run(call, rate, params, lr)[1] for lr in (RATE_OF_TRIALS, 2 * RATE_OF_TRIALS))
            if _differ(*runs):
                return rate
        return Rate()


def _differ(one: Tensors, other: Tensors) -> bool:
    return any(not np.array_equal(array, other[name], equal_nan=True) for name, array in one.items())


def _naming(given: Mapping[str, Array]) -> tuple[tuple[str, str], ...]:
    """Return the attributes of layers that have parameters of some names, with a d before that of each gradient."""
    names = dict.fromkeys(name.rpartition(".")[2] for name in given)
    return tuple((name, f"d{name}") for name in names)
