"""What may be checked: layers, losses, optimizers, schedules and initialisers, and the cases drawn for them."""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from gradcheck.streams import stream

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

Array = NDArray[Any]
Gradients = dict[str, Array]
Backward = Callable[[Array], tuple[Array, Gradients]]  # or a `Pullback`, which can be called as one
LossBackward = Callable[[Array], Array]
Tap = Callable[[str, Array], Array]
Phase = Literal["data", "forward", "loss", "backward", "update"]
PHASES: tuple[Phase, ...] = ("data", "forward", "loss", "backward", "update")


class ShapeError(ValueError):
    """An array has a shape that the receiver cannot take."""


class Key(NamedTuple):
    """What counter-based randomness is keyed by: the same key always draws the same numbers.

    ``path`` is the place of the layer in the network, such as ``3.branch``.
    """

    seed: int = 0
    step: int = 0
    path: str = ""

    def child(self, name: str) -> Key:
        """Return the key of the child layer ``name``."""
        return Key(self.seed, self.step, f"{self.path}.{name}" if self.path else name)

    def generator(self) -> np.random.Generator:
        """Return a generator of its own for this key (Philox; Salmon et al. 2011): each call starts it anew."""
        path = int.from_bytes(hashlib.blake2b(self.path.encode(), digest_size=8).digest(), "little")
        return np.random.Generator(np.random.Philox(key=[self.seed % 2**64, path], counter=[0, 0, 0, self.step]))


def untapped(_: str, array: Array) -> Array:
    """Return ``array``: the tap of a pass that nobody observes."""
    return array


@dataclass(frozen=True, slots=True)
class Context:
    """Where and how a forward pass happens.

    ``tap(name, array) -> array`` is shown every tapped array under the name ``phase/path.tensor`` and may record or
    replace it. ``updates`` takes new values of buffers, named like the buffers; whoever runs the pass commits them or
    throws them away, so that forward stays pure.
    """

    training: bool = False
    key: Key = Key()
    tap: Tap = untapped
    updates: dict[str, Array] | None = None

    def child(self, name: str) -> Context:
        """Return the context of the child layer ``name``."""
        return Context(self.training, self.key.child(name), self.tap, self.updates)

    def tapped_by(self, tap: Tap) -> Context:
        """Return this context with another tap, and no updates of buffers so far."""
        return Context(self.training, self.key, tap, {})

    def tapped(self, phase: Phase, tensor: str, array: Array) -> Array:
        """Show one of the layer's arrays to the tap and return what is to be used in its place."""
        return array if self.tap is untapped else self.tap(f"{phase}/{self._at(tensor)}", array)

    def update(self, buffer: str, value: Array) -> None:
        """Propose a new value for one of the layer's buffers."""
        if self.updates is not None:
            self.updates[self._at(buffer)] = value

    def _at(self, name: str) -> str:
        return self.key.child(name).path


EVALUATION = Context()


class Into(NamedTuple):
    """Arrays, by name, that gradients of parameters may be written to; those of one layer begin with ``prefix``.

    Their next use overwrites them.
    """

    arrays: Mapping[str, Array] = {}
    prefix: str = ""

    def child(self, name: str) -> Into:
        """Return the arrays of the child layer ``name``."""
        return Into(self.arrays, f"{self.prefix}{name}.")

    def array(self, name: str, *factors: Array) -> Array | None:
        """Return the array for a gradient made of ``factors``; None where there is none, or one of another dtype."""
        array = self.arrays.get(self.prefix + name)
        if array is None or any(one.dtype != array.dtype for one in factors):
            return None
        return array


@dataclass(frozen=True, slots=True)
class Pullback:
    """A pullback ``dy -> (dx, parameter gradients)`` that a caller may spare some of its work.

    ``pull(dy, into, needed)`` may write gradients to the arrays of ``into``; unless dx is ``needed``, it returns
    anything in its place. A layer whose pullback has nothing to spare returns a function, which `pulled` calls, too.
    """

    pull: Callable[[Array, Into, bool], tuple[Array, Gradients]]

    def __call__(self, dy: Array) -> tuple[Array, Gradients]:
        """Return dx and the gradients, all of them new arrays."""
        return self.pull(dy, Into(), True)


def pulled(backward: Backward, dy: Array, into: Into, needed: bool = True) -> tuple[Array, Gradients]:
    """Return dx, or anything unless it is ``needed``, and the gradients, some of which may be arrays of ``into``."""
    return backward.pull(dy, into, needed) if isinstance(backward, Pullback) else backward(dy)


class Kinks(NamedTuple):
    """The discrete choices of a layer at an input, and how far each is from tipping over.

    ``choice`` is the mask or the winner, ``margin`` (same shape, >= 0, in units of the input) the distance to the
    nearest input that chooses otherwise, inf where there is none.
    """

    choice: Array
    margin: Array


def parameter(initial: Initializer | None = None) -> Array:
    """Declare a field that holds a trainable array, or None; ``initial`` is what torch fills it by.

    Typed as what the field holds, which is what a type checker takes its default for.
    """
    declared: Array = field(metadata={"role": "parameter", "initial": initial})
    return declared


def buffer() -> Array:
    """Declare a field that holds an array that is part of the state but not trained, or None; typed likewise."""
    declared: Array = field(metadata={"role": "buffer"})
    return declared


def require_shape(who: str, name: str, array: Array, *shape: int | str) -> None:
    """Raise `ShapeError` unless ``array`` has ``shape``; a word stands for any extent, a leading "..." for any axes.

    >>> require_shape("Linear", "x", np.zeros((3, 4)), "...", 4)
    """
    free = bool(shape) and shape[0] == "..."
    wanted = shape[1:] if free else shape
    actual = array.shape[-len(wanted) :] if free and wanted else array.shape
    if len(actual) != len(wanted) or any(map(_is_other, wanted, actual)):
        text = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        raise ShapeError(f"{who} needs {name} of shape ({text}), got {array.shape}")


def _is_other(want: int | str, have: int) -> bool:
    return want != have and not isinstance(want, str)


@dataclass(frozen=True, eq=False)
class Layer(ABC):
    """A differentiable function of one array, with named parameters.

    Where the input holds integers, such as indices, it has no gradient, and a pullback's dx is zeros of its shape.

    A subclass is a frozen dataclass. Fields made by `parameter` and `buffer` hold arrays or None; other fields are
    hyper-parameters, child layers, or tuples of child layers. Names are found by walking the fields: ``weight``,
    ``branch.weight`` for a child in the field ``branch``, ``0.weight`` for the first of a tuple.
    """

    @abstractmethod
    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        """Return the value and its pullback ``dy -> (dx, parameter gradients)``; nothing is cached on the layer."""

    @abstractmethod
    def twin(self) -> torch.nn.Module:
        """Return the torch module of the same architecture, with its own initial weights.

        A module that draws random numbers has an attribute ``key``, is given the layer's `Key` there before every
        call, and draws from ``key.generator()`` as the layer does.
        """

    @classmethod
    @abstractmethod
    def cases(cls) -> SearchStrategy[Case]:
        """Draw a layer and an input for it, from the domain in which both are defined."""

    def kinks(self, x: Array) -> Kinks | None:
        """Return the discrete choices made at ``x``, or None for a layer without any."""
        return None

    def initial(self, name: str) -> Initializer | None:
        """Return what torch fills the layer's own parameter ``name`` by, or None if nothing is said of it."""
        rule: Initializer | None = next(spec.metadata.get("initial") for spec in fields(self) if spec.name == name)
        return rule

    def frozen(self) -> dict[str, Array]:
        """Return masks, by parameter, of the elements that get no gradient although the value depends on them."""
        return {f"{name}.{inner}": mask for name, child in self.children() for inner, mask in child.frozen().items()}

    def children(self) -> Iterator[tuple[str, Layer]]:
        """Yield the child layers with their names, in the order of the fields."""
        for name, _ in _roles(type(self)):
            value = getattr(self, name)
            if isinstance(value, Layer):
                yield name, value
            elif isinstance(value, tuple):
                yield from ((str(i), child) for i, child in enumerate(value) if isinstance(child, Layer))

    def parameters(self) -> dict[str, Array]:
        """Return the trainable arrays by name, as they are: writing into them changes the layer."""
        return dict(self._arrays("parameter"))

    def buffers(self) -> dict[str, Array]:
        """Return the untrained arrays of the state by name, as they are."""
        return dict(self._arrays("buffer"))

    def _arrays(self, role: str) -> Iterator[tuple[str, Array]]:
        for name, own in _roles(type(self)):
            if own == role and (value := getattr(self, name)) is not None:
                yield name, value
        for name, child in self.children():
            yield from ((f"{name}.{inner}", value) for inner, value in child._arrays(role))

    def replace_arrays(self, arrays: Mapping[str, Array]) -> Self:
        """Return a copy that holds ``arrays``, by name, in place of its own; unnamed ones are kept as they are."""
        return self._replaced(arrays, dataclasses.replace)

    def holding(self, arrays: Mapping[str, Array]) -> Self:
        """Return what `replace_arrays` does, but by no constructor: many times faster.

        The layer `keeps_what_it_is_given`, and arrays have the shapes of those that they replace.
        """
        return self._replaced(arrays, _holding)

    def keeps_what_it_is_given(self) -> bool:
        """Return whether the constructor, called with the layer's own fields, stores these and nothing else."""
        if type(self).replace_arrays is not Layer.replace_arrays:
            return False
        names = [name for name, _ in _roles(type(self))]
        made = vars(dataclasses.replace(self)) if hasattr(self, "__dict__") else {}
        kept = made.keys() == set(names) and all(made[name] is getattr(self, name) for name in names)
        return kept and all(child.keeps_what_it_is_given() for _, child in self.children())

    def _replaced(self, arrays: Mapping[str, Array], make: Callable[..., Any]) -> Self:
        def below(name: str, child: object) -> object:
            if not isinstance(child, Layer):
                return child
            own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
            return child.holding(own) if make is _holding else child.replace_arrays(own)

        def new(name: str, value: object) -> object:
            if isinstance(value, tuple):
                return tuple(below(str(i), item) for i, item in enumerate(value))
            return arrays.get(name, value) if isinstance(value, np.ndarray) else below(name, value)

        made: Self = make(self, **{name: new(name, getattr(self, name)) for name, _ in _roles(type(self))})
        return made

    def astype(self, dtype: DTypeLike) -> Self:
        """Return a copy of the layer whose parameters and floating-point buffers have ``dtype``."""
        arrays = self.parameters() | self.buffers()
        return self.replace_arrays(
            {k: a.astype(dtype if np.issubdtype(a.dtype, np.floating) else a.dtype) for k, a in arrays.items()}
        )

    def require(self, x: Array, *shape: int | str) -> None:
        """Raise `ShapeError` unless the input has ``shape``, written as for `require_shape`."""
        require_shape(type(self).__name__, "x", x, *shape)


def _holding(layer: Layer, **held: object) -> Layer:
    made = object.__new__(type(layer))
    vars(made).update(held)
    return made


@cache
def _roles(kind: type[Layer]) -> tuple[tuple[str, str | None], ...]:
    """Return the fields of a class of layers, in their order, and what each holds."""
    return tuple((spec.name, spec.metadata.get("role")) for spec in fields(kind))


@dataclass(frozen=True, eq=False)
class Loss(ABC):
    """A number that says how far a prediction is from its target."""

    # True: targets are class indices (batch, ...), predictions (batch, classes, ...); False: both are of one shape
    class_targets: ClassVar[bool] = False

    @abstractmethod
    def forward(self, prediction: Array, target: Array, context: Context = EVALUATION) -> tuple[Array, LossBackward]:
        """Return the value and its pullback ``dvalue -> dprediction``."""

    @abstractmethod
    def twin(self) -> torch.nn.Module:
        """Return the torch module that computes the same loss."""

    @classmethod
    @abstractmethod
    def cases(cls) -> SearchStrategy[Case]:
        """Draw a loss, a prediction and a target."""

    def require(self, prediction: Array, target: Array) -> None:
        """Raise `ShapeError` unless prediction and target fit together."""
        who = type(self).__name__
        if self.class_targets:
            places = [f"d{i}" for i in range(1, prediction.ndim - 1)]
            require_shape(who, "predictions", prediction, "batch", "classes", *places)
            require_shape(who, "targets", target, prediction.shape[0], *prediction.shape[2:])
        else:
            require_shape(who, "targets", target, *prediction.shape)


@dataclass(eq=False)
class Optimizer(ABC):
    """A rule that moves parameters in place. ``state`` holds its arrays as ``slot/parameter``."""

    state: dict[str, Array] = field(default_factory=dict, init=False)

    @abstractmethod
    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        """Move every parameter that has a gradient, in place; one without is skipped wholly, state included."""

    @abstractmethod
    def twin(self, params: Sequence[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
        """Return the torch optimizer of the same rule over ``params``."""

    @classmethod
    @abstractmethod
    def cases(cls) -> SearchStrategy[Case]:
        """Draw an optimizer and the parameters it is to move."""


@dataclass(frozen=True)
class Schedule(ABC):
    """A learning rate for every epoch, as a pure function."""

    lr: float

    @abstractmethod
    def __call__(self, epoch: int, history: Sequence[float] = ()) -> float:
        """Return the rate of epoch 0, 1, ...; ``history`` holds the validation losses of the epochs before."""

    def with_lr(self, lr: float) -> Self:
        """Return the schedule with another base rate."""
        return dataclasses.replace(self, lr=lr)

    @abstractmethod
    def twin(self, optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Return the torch scheduler of the same rule; the optimizer's initial rate is ``lr``."""

    @classmethod
    @abstractmethod
    def cases(cls) -> SearchStrategy[Case]:
        """Draw a schedule."""


@dataclass(frozen=True)
class Initializer(ABC):
    """A distribution for the elements of a weight (out, in, ...) or a bias."""

    @abstractmethod
    def draw(self, shape: tuple[int, ...], rng: np.random.Generator, fans: tuple[int, int] | None = None) -> Array:
        """Return a float64 array of ``shape``; ``fans`` (in, out) are those of the weight, of which a bias has none."""

    @abstractmethod
    def twin(self, tensor: torch.Tensor) -> None:
        """Fill ``tensor`` in place from the same distribution, by ``torch.nn.init``."""

    @classmethod
    @abstractmethod
    def cases(cls) -> SearchStrategy[Case]:
        """Draw an initialiser and an array of the shape that it is to fill."""


@dataclass
class Tally:
    """How often a subject has been called, in a case and its variations.

    And which ``eps`` were seen in its value, with how far each may be off.
    """

    evaluations: int = 0
    eps: dict[float, float] = field(default_factory=dict)


# Where cases call a layer: inside a network, so that one that forgets its place is seen.
PLACE = "2.branch"

# And in the middle of a run, in a step that the seed draws from as many, so that one that forgets the step is.
STEPS = 1000


@dataclass(frozen=True, eq=False)
class Case:
    """One subject with the arrays to try it on.

    ``inputs`` is ``(x,)`` for a layer, ``(prediction, target)`` for a loss, the parameters for an optimizer and
    empty for a schedule; an initialiser's is an array of the shape to fill, and where that is not the weight, an array
    of the weight's shape and of as many elements. ``seed`` draws whatever else a property
    needs, such as cotangents, and keys the randomness of layers that have some; ``training`` is the mode that they are
    called in. ``twin`` is a torch module to use in place of the subject's own; ``twin_params`` says which part of the
    twin's parameters each of the subject's is, such as ``weight_ih_l0[0:3].T``, where that has not the same name.
    """

    subject: Any  # a Layer, Loss, Optimizer, Schedule or Initializer, or an adapter of a foreign one
    inputs: tuple[Array, ...] = ()
    seed: int = 0
    training: bool = False
    twin: torch.nn.Module | None = field(default=None, repr=False)
    twin_params: dict[str, str] = field(default_factory=dict, repr=False)
    tally: Tally = field(default_factory=Tally, repr=False)
    # What was measured of the subject, once for this case and all that are derived from it.
    measured: dict[str, Any] = field(default_factory=dict, repr=False)
    # What several properties ask for; init=False, so that a case derived from this one begins anew.
    found: dict[tuple[str, ...], Any] = field(default_factory=dict, init=False, repr=False)

    def context(self, tap: Tap = untapped) -> Context:
        """Return the context to call the subject in: this case's mode and key, with updates of buffers collected.

        Their names begin with the key's path.
        """
        return Context(self.training, Key(self.seed, 1 + self.seed % STEPS, PLACE), tap, {})

    def rng(self, purpose: str) -> np.random.Generator:
        """Return the generator of this case for one purpose, such as ``cotangent``; each call starts it anew."""
        return stream(purpose, self.seed)
