"""What suites and modules name to be checked: objects with their inputs and options, cases, classes of the contract."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np

from gradcheck.checks import ReadOnce, check_class, check_layer, check_loss, check_variations, claims_of
from gradcheck.contract import Case, Initializer, Layer, Loss, Optimizer, Schedule
from gradcheck.properties import PROPERTIES, Property, Settings
from gradcheck.report.results import Report
from gradcheck.subjects.attributes import AdapterError, member
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import FORWARDS_OF_LOSSES, ForeignLoss
from gradcheck.subjects.parameters import nearest
from gradcheck.subjects.signatures import (
    CACHES,
    CERTAIN_PREDICTIONS,
    CERTAIN_TARGETS,
    TARGETS,
    WHOLES,
    parameters_of,
    plain,
    positional,
    required,
)
from gradcheck.subjects.signatures import name_of as name_of_function
from gradcheck.subjects.ways import way_back, way_forward
from gradcheck.trials import EXAMPLES, Subject, properties_of

CONTRACTS = (Layer, Loss, Optimizer, Schedule, Initializer)
NEEDED = (
    "a tuple (layer, x), ((forward, backward), x) or (loss, prediction, target), an Item, which takes options, a Case, "
    "or a class or an object of Layer, Loss, Optimizer, Schedule or Initializer"
)
OF_TWINS = "_with_twin"  # ends the name of a property that a foreign object without a twin does not have

USUAL = (*FORWARDS_OF_LOSSES, *WHOLES)  # methods, one of which an object has unless its own is named

# In the name of a class or function: it may be a loss.
LOSSES = ("loss", "cost", "criterion", "entropy", "mse", "mae", "bce", "nll")


@dataclass(frozen=True)
class Effort:
    """How thoroughly items are checked; what an item says itself goes before it.

    ``examples`` are drawn for each property of a class of the contract.
    """

    examples: int = EXAMPLES
    seed: int = 0
    settings: Settings = Settings()


@dataclass(frozen=True)
class ClassItem:
    """A class of the contract, whose cases are drawn."""

    subject: Subject

    @property
    def name(self) -> str:
        """Return the name of the class."""
        return self.subject.__name__

    @property
    def kind(self) -> str:
        """Return the name of the class."""
        return self.subject.__name__

    def claims(self) -> tuple[Property, ...]:
        """Return the properties to check."""
        return properties_of(self.subject)

    def check(self, claims: Sequence[Property], effort: Effort) -> Report:
        """Check some of the properties."""
        return check_class(
            self.subject, claims=claims, examples=effort.examples, seed=effort.seed, settings=effort.settings
        )


@dataclass(frozen=True)
class CaseItem:
    """A `Case` of an object of the contract, or of one that was read already."""

    case: Case

    @property
    def subject(self) -> object:
        """Return the object."""
        return self.case.subject

    @property
    def name(self) -> str:
        """Return the name of the object's class."""
        return str(getattr(self.case.subject, "name", type(self.case.subject).__name__))

    @property
    def kind(self) -> str:
        """Return the name of the object's class."""
        return self.name

    def claims(self) -> tuple[Property, ...]:
        """Return the properties to check."""
        return _asked(type(self.case.subject), self.case.twin)

    def check(self, claims: Sequence[Property], effort: Effort) -> Report:
        """Check some of the properties of the case and of its variations."""
        return check_variations(self.case, claims=claims, settings=effort.settings)


class Item:
    """A layer or a loss, what it is tried on, and the options of its check.

    ``Item(layer, *inputs, **options)`` stands where a tuple ``(layer, *inputs)`` may stand, with the options of
    `check_layer`, or of `check_loss` for a loss. The layer may be a pair of functions ``(forward, backward)``. ``name``
    is by default that of the class. ``loss`` says whether it is a loss, where names do not. The object is read once,
    however many of its properties are checked.

    Raises `AdapterError`, in one line, for what `check_layer` cannot take and for an option that it does not have.
    """

    def __init__(
        self,
        subject: object,
        *inputs: object,
        name: str = "",
        loss: bool | None = None,
        claims: Iterable[Property | str] | None = None,
        **options: object,
    ) -> None:
        __tracebackhide__ = True  # pytest shows the line that called
        self.subject, self.inputs, self.options = subject, inputs, options
        _require_subject(subject, inputs, options)
        self.kind = name_of(subject)
        self.name = name or self.kind
        methods = (str(options.get(way, "")) for way in ("forward", "backward"))
        if isinstance(subject, (Layer, Loss)):
            loss = isinstance(subject, Loss)
        self.loss = len(inputs) > 1 and is_loss(subject, inputs, *methods) if loss is None else loss
        self._function: Callable[..., Report] = check_loss if self.loss else check_layer
        self._require_inputs()
        self._require_options()
        self._claims = self._known() if claims is None else claims_of(self._adapted(), claims)
        self._shared = ReadOnce(subject)

    def claims(self) -> tuple[Property, ...]:
        """Return the properties to check: those of ``claims=``, or all that the object may have."""
        return self._claims

    def check(self, claims: Sequence[Property], effort: Effort) -> Report:
        """Check some of the properties; raises `AdapterError`, which names the item, for what cannot be read."""
        settings = effort.settings
        options = {
            "seed": effort.seed, "mode": settings.mode, "max_evaluations": settings.max_evaluations,
            "dtypes": settings.dtypes, "seconds": settings.seconds,
        }  # fmt: skip
        try:
            return self._function(self._shared, *self.inputs, **(options | self.options | {"claims": claims}))
        except AdapterError as error:
            name = "" if str(error).startswith(self.name) else f"{self.name}: "
            raise AdapterError(f"{name}{error}{self._hint(str(error))}") from error

    def _adapted(self) -> type:
        """Return the class whose properties the object has."""
        if isinstance(self.subject, (Layer, Loss)):
            return type(self.subject)
        return ForeignLoss if self.loss else ForeignLayer

    def _known(self) -> tuple[Property, ...]:
        return _asked(self._adapted(), self.options.get("twin"))

    def _hint(self, message: str) -> str:
        """Return how to write the option that a message names, where there is none so far, or that it is a loss."""
        hints = []
        named = next((option for option in _options(self._function) if f"{option}=" in message), None)
        if named is not None and not self.options:
            hints.append(f"options are written as gradcheck.testing.Item(layer, x, {named}=...)")
        if len(self.inputs) > 1 and not self.loss and "backward" in message:
            hints.append("for a loss, write gradcheck.testing.Item(loss, prediction, target, loss=True)")
        return f" ({'; '.join(hints)})" if hints else ""

    def _require_inputs(self) -> None:
        __tracebackhide__ = True
        if isinstance(self.subject, Layer) and len(self.inputs) != 1:
            raise AdapterError(f"a Layer has one input: write ({self.kind.lower()}, x), got {len(self.inputs)}")
        contract = isinstance(self.subject, Loss)
        if (self.loss and len(self.inputs) < 2) or (contract and len(self.inputs) != 2):
            what = "a Loss" if contract else "a loss"
            raise AdapterError(
                f"{what} needs a prediction and a target: write ({self.kind.lower()}, prediction, target)"
            )

    def _require_options(self) -> None:
        __tracebackhide__ = True
        known = _options(self._function)
        if unknown := [option for option in self.options if option not in known]:
            close = nearest(unknown[0], known)
            raise AdapterError(
                f"{self._function.__name__}, which checks {self.kind}, has no option {unknown[0]}; "
                + (f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}")
            )


AnyItem = Item | ClassItem | CaseItem


def item_of(value: object) -> AnyItem:
    """Return what is to be checked; nothing of it is called yet. Raises `AdapterError` for what is no item."""
    __tracebackhide__ = True
    if isinstance(value, (Item, ClassItem, CaseItem)):
        return value
    if isinstance(value, CONTRACTS):
        value = type(value)
    if isinstance(value, type) and issubclass(value, CONTRACTS):
        if inspect.isabstract(value):
            missing = ", ".join(sorted(value.__abstractmethods__))
            raise AdapterError(f"{value.__name__} cannot be checked yet: it lacks {missing}")
        return ClassItem(value)
    if isinstance(value, Case):
        if isinstance(value.subject, tuple(PROPERTIES)):
            return CaseItem(value)
        options: dict[str, Any] = {"seed": value.seed} | ({} if value.twin is None else {"twin": value.twin})
        return Item(value.subject, *value.inputs, **options)
    if isinstance(value, tuple) and len(value) > 1:
        return Item(*value)
    raise _refusal(value)


def name_of(subject: object) -> str:
    """Return the name of an object's class, or of a function, of a pair that which goes forward."""
    first = subject[0] if isinstance(subject, (tuple, list)) and subject else subject
    return name_of_function(first)


def is_loss(subject: object, inputs: Sequence[Any], forward: str = "", backward: str = "") -> bool:
    """Return whether a subject of several inputs is a loss, by what names say; ``forward``, ``backward`` are methods.

    Where they leave a doubt it is checked as a layer: then the gradients of all inputs are judged.
    """
    if isinstance(subject, (Layer, Loss)):
        return isinstance(subject, Loss)
    go, back = _ways(subject, forward, backward)
    names = {plain(each.name) for each in positional(go)[:2]} if callable(go) else set()
    called = any(word in plain(name_of(subject)) for word in LOSSES)
    if not (names & (TARGETS | {"y"} if called else TARGETS) or _is_of_whole_numbers(inputs[1])):
        return False
    if called:
        return True
    certain, predicts = bool(names & CERTAIN_TARGETS), bool(names & CERTAIN_PREDICTIONS)
    if not callable(back):  # value and gradient come together: perhaps of a whole network, whose parameters have some
        return certain and predicts
    if _takes_nothing_but_a_cache(back):
        return True
    given = {plain(each.name) for each in required(back)} - CACHES
    return certain and (predicts or given <= names)


def _ways(subject: object, forward: str, backward: str) -> tuple[object, object]:
    """Return what is called to go forward and backward; None where there is nothing."""
    if _is_pair(subject):
        return subject[0], subject[1]
    if inspect.isroutine(subject):
        return subject, None
    back = backward or way_back(subject, forward)
    return member(subject, forward or way_forward(subject, back, USUAL)), member(subject, back)


def _takes_nothing_but_a_cache(back: Callable[..., object]) -> bool:
    try:
        return all(plain(name) in CACHES for name in inspect.signature(back).parameters)
    except (TypeError, ValueError):  # Python does not know
        return False


def _is_of_whole_numbers(value: object) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in "iub"


def _is_pair(subject: object) -> TypeGuard[Sequence[Callable[..., object]]]:
    return isinstance(subject, (tuple, list)) and len(subject) == 2 and all(map(callable, subject))


def _require_subject(subject: object, inputs: Sequence[object], options: Mapping[str, Any]) -> None:
    """Raise `AdapterError` for what can be no layer and no loss, whatever its methods are called."""
    __tracebackhide__ = True
    name = name_of(subject)
    if isinstance(subject, type):
        raise _refusal(subject)
    if inspect.isroutine(subject) and len(inputs) == 1 and callable(inputs[0]):
        other = name_of(inputs[0])
        raise AdapterError(f"the functions {name} and {other} need an input: write (({name}, {other}), x)")
    if isinstance(subject, (tuple, list)) and not _is_pair(subject):
        raise AdapterError(f"a pair of functions (forward, backward) is needed, got {subject!r:.60}")
    forward = options.get("forward") or way_forward(subject, way_back(subject), USUAL)
    known = isinstance(subject, (*CONTRACTS, tuple, list)) or callable(member(subject, forward))
    if not known or not inputs:
        raise _refusal(subject)


def _refusal(item: object) -> AdapterError:
    """Return what to write in place of an item that cannot be checked."""
    if isinstance(item, type):
        got = f"the class {item.__name__}: write ({item.__name__}(...), x)"
    elif _is_pair(item):
        got = f"a pair of functions without an input: write (({name_of(item)}, ...), x)"
    elif way_forward(item, way_back(item), USUAL):
        name = type(item).__name__
        got = f"an object of {name} without an input: write ({name.lower()}, x)"
    elif own := [name for name in dir(item) if not name.startswith("_")] if hasattr(item, "__dict__") else []:
        who = f"an object of {type(item).__name__}, which has {', '.join(own[:8])}"
        got = f"{who}: write gradcheck.testing.Item({type(item).__name__.lower()}, x, forward=..., backward=...)"
    else:
        got = f"{item!r:.60}"
    return AdapterError(f"an item is {NEEDED}; got {got}")


def _asked(kind: type, twin: object) -> tuple[Property, ...]:
    """Return the properties of a class, less those of twins where there is none."""
    claims = properties_of(kind)
    if twin is not None or not issubclass(kind, (ForeignLayer, ForeignLoss)):
        return claims
    return tuple(claim for claim in claims if not claim.__name__.endswith(OF_TWINS))


def _options(check: Callable[..., Report]) -> list[str]:
    """Return the names of the options of `check_layer` or `check_loss`."""
    return [each.name for each in parameters_of(check) if each.kind is inspect.Parameter.KEYWORD_ONLY]
