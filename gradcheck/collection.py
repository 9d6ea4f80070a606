"""What of a module can be checked, and how: classes of the contract, and foreign ones that say what to try them on."""

from __future__ import annotations

import dataclasses
import dis
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from types import FunctionType, ModuleType

import numpy as np

from gradcheck.contract import Layer, Loss
from gradcheck.items import CONTRACTS, AnyItem, ClassItem, Effort, Item, item_of
from gradcheck.report.readings import unchecked
from gradcheck.report.results import Finding, Report
from gradcheck.report.values import Shape
from gradcheck.subjects.attributes import AdapterError, raised
from gradcheck.subjects.signatures import BACKWARDS, FORWARDS
from gradcheck.trials import Subject, drawn_cases

EXAMPLES_OF_DOMAIN = 200  # cases, of which the values of a hyper-parameter are told


@dataclass(frozen=True)
class Collected:
    """What of a module is checked under one name: a class of the contract, or items, by where they come from."""

    name: str
    items: dict[str, AnyItem]

    @classmethod
    def of(cls, subject: Subject) -> Collected:
        """Return a class of the contract."""
        return cls(subject.__name__, {subject.__name__: ClassItem(subject)})

    @property
    def drawn(self) -> Subject | None:
        """Return the class whose cases are drawn, or None."""
        return next((item.subject for item in self.items.values() if isinstance(item, ClassItem)), None)

    def claims(self) -> tuple[str, ...]:
        """Return what is checked at a time: each property of a class, all those of other items, under no name."""
        if self.drawn is None or len(self.items) > 1:
            return ("",)
        return tuple(claim.__name__ for item in self.items.values() for claim in item.claims())

    def read(self) -> None:
        """Find out how the items are called; raises `AdapterError` with one line for each of which this cannot be."""
        lines = []
        for place, item in self.items.items():
            try:
                if isinstance(item, Item):
                    item.check((), Effort())
            except AdapterError as error:
                lines.append(f"{place}: {error}")
        if lines:
            raise AdapterError("\n".join(lines))

    def check(self, claim: str, effort: Effort) -> Report:
        """Check one property of a class, or all that apply of every item."""
        findings: list[Finding] = []
        evaluations = 0
        for number, item in enumerate(self.items.values(), 1):
            claims = [each for each in item.claims() if claim in ("", each.__name__)]
            report = item.check(claims, effort)
            name = self.name if len(self.items) == 1 else f"{self.name} {number}"
            found = [replace(finding, subject=name) for finding in report.findings]
            line = unchecked(report.reading) if report.reading is not None else ""
            if line and found:
                found[0] = replace(found[0], remarks=(line, *found[0].remarks))
            findings += found
            evaluations += report.evaluations
        return Report(self.name, tuple(findings), evaluations, effort.seed, effort.settings)


def collect(module_name: str, names: Iterable[str] = ()) -> list[Collected]:
    """Return what can be checked of a module that is imported by name.

    That is: its own subclasses of the contract; what a static method ``cases()`` of its own classes returns, items such
    as ``(layer, *inputs)``, or for a loss ``(loss, prediction, target)``; and the like in a list ``CASES``. What a
    package takes from its modules is its own. Raises `AdapterError` if there is nothing, and for a class that goes
    forward and backward and is tried on nothing, unless ``names`` are what is to be checked; and whatever the import
    raises.
    """
    module = importlib.import_module(module_name)
    found: dict[str, Collected] = {}
    untried: dict[str, type] = {}
    for name, value in _own_classes(module):
        if issubclass(value, CONTRACTS):
            if not inspect.isabstract(value):
                found[name] = Collected(name, {name: ClassItem(value)})
        elif callable(cases := getattr(value, "cases", None)) and (items := _of_class(name, value, cases)):
            found[name] = Collected(name, items)
        elif _goes_both_ways(value):
            untried[name] = value  # its cases(), if it has any, are inherited, and of objects of another class
    for place, item in _of_list(module).items():
        untried = {name: value for name, value in untried.items() if type(item.subject) is not value}
        same = found.get(item.name)
        name = item.name if same is None or same.drawn is None else f"{item.name} of CASES"
        found[name] = Collected(name, {**(found[name].items if name in found else {}), place: item})
    if untried and not names:
        raise AdapterError(
            f"{module_name} does not say what to try {', '.join(untried)} on: give the class a static method cases() "
            "of its own that returns (layer, x) tuples, or the module a list CASES of them; or name what is to be tried"
        )
    if not found:
        raise AdapterError(
            f"{module_name} has nothing to check: no subclass of Layer, Loss, Optimizer, Schedule or Initializer, no "
            "class with cases(), and no CASES"
        )
    return list(found.values())


def _own_classes(module: ModuleType) -> Iterator[tuple[str, type]]:
    """Yield the public classes that a module defines, or a package's modules, once each."""
    seen: set[type] = set()
    for name, value in vars(module).items():
        own = isinstance(value, type) and f"{value.__module__}.".startswith(f"{module.__name__}.")
        if own and value not in seen and not name.startswith("_"):
            seen.add(value)
            yield name, value


def _of_class(name: str, value: type, cases_of: Callable[[], object]) -> dict[str, AnyItem]:
    """Return the items that a class says to try it on; none where it has but inherited those of another class."""
    try:
        cases = cases_of()
    except Exception as error:  # the class is the user's own, and so is what it raises
        raise AdapterError(
            f"{name}.cases() raises {raised(error)}; it is called without an object, as a static method"
        ) from error
    items = _items(f"{name}.cases()", cases)
    inherited = next(kind for kind in value.__mro__ if "cases" in vars(kind)) is not value
    return {} if inherited and not any(isinstance(item.subject, value) for item in items.values()) else items


def _of_list(module: ModuleType) -> dict[str, AnyItem]:
    return _items("CASES", module.CASES) if hasattr(module, "CASES") else {}


def _items(place: str, cases: object) -> dict[str, AnyItem]:
    """Return items by where they stand, ``CASES[0]``; raises `AdapterError` for what is none."""
    if not isinstance(cases, Iterable) or isinstance(cases, (str, dict)):
        raise AdapterError(f"{place} gives a {type(cases).__name__}; a list of (layer, x) tuples is needed")
    items = {}
    for number, case in enumerate(cases):
        where = f"{place}[{number}]"
        try:
            items[where] = item_of(case)
        except AdapterError as error:
            raise AdapterError(f"{where}: {error}") from error
    if not items:
        raise AdapterError(f"{place} gives 0 cases; a list of (layer, x) tuples is needed")
    return items


def _goes_both_ways(value: type) -> bool:
    """Return whether a class has a usual method forward and one backward, and is no mere base of others."""
    ways = [_method(value, usual) for usual in (FORWARDS, BACKWARDS)]
    base = inspect.isabstract(value) or getattr(value, "_is_protocol", False)
    return not base and all(way is not None and _returns(way) for way in ways)


def _method(value: type, usual: Iterable[str]) -> object:
    """Return the first of these methods that a class has; ``__call__`` is not what makes its objects."""
    held = {name: member for kind in reversed(value.__mro__[:-1]) for name, member in vars(kind).items()}
    return next((held[name] for name in usual if callable(held.get(name))), None)


def _returns(method: object) -> bool:
    """Return whether a method can return: one that only raises, NotImplementedError say, is for others to override."""
    if not isinstance(method, FunctionType):
        return True
    return any(step.opname.startswith(("RETURN", "YIELD")) for step in dis.get_instructions(method))


def domain(subject: Subject, examples: int = EXAMPLES_OF_DOMAIN, seed: int = 0) -> dict[str, list[object]]:
    """Return what ``cases()`` of a class draws for each of its fields and for the inputs: values that are equal, once.

    Of an array that is its `Shape`, of a part its name; child layers are left out.
    """
    drawn: dict[str, dict[str, object]] = {}
    for case in drawn_cases(subject, examples, seed):
        values = {spec.name: getattr(case.subject, spec.name) for spec in dataclasses.fields(case.subject) if spec.init}
        if isinstance(case.subject, (Layer, Loss)):
            inputs = ("prediction", "target") if isinstance(case.subject, Loss) else ("x",)
            values |= dict(zip(inputs, case.inputs, strict=True))
        for name, value in values.items():
            parts = value if isinstance(value, tuple) else (value,)
            if not any(isinstance(part, Layer) for part in parts):
                told = Shape(value.shape) if isinstance(value, np.ndarray) else value
                told = type(value).__name__ if isinstance(value, CONTRACTS) else told
                drawn.setdefault(name, {}).setdefault(repr(told), told)
    return {name: list(values.values()) for name, values in drawn.items()}
