"""What of a module can be checked, and how: classes of the contract, and foreign ones that say what to try them on."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradcheck.checks import check_class, check_layer, check_loss
from gradcheck.contract import Case, Initializer, Layer, Loss, Optimizer, Schedule
from gradcheck.properties import Settings
from gradcheck.report.results import Finding, Report
from gradcheck.report.values import Shape
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trials import Subject, drawn_cases, properties_of

EXAMPLES_OF_DOMAIN = 200  # cases, of which the values of a hyper-parameter are told

CONTRACTS = (Layer, Loss, Optimizer, Schedule, Initializer)


@dataclass(frozen=True)
class Collected:
    """A class, or the cases of a foreign one: ``(layer, *inputs)`` each. Its claims are checked one at a time."""

    name: str
    subject: Any
    cases: tuple[tuple[Any, ...], ...] = ()

    def claims(self) -> tuple[str, ...]:
        """Return the names of the properties to check; a foreign object's are checked together, under no name."""
        return ("",) if self.cases else tuple(claim.__name__ for claim in properties_of(self.subject))

    def check(self, claim: str, examples: int, seed: int, settings: Settings) -> Report:
        """Check one claim, or for a foreign object all that apply."""
        if not self.cases:
            claims = [each for each in properties_of(self.subject) if each.__name__ == claim]
            return check_class(self.subject, claims=claims, examples=examples, seed=seed, settings=settings)
        reports = [_check_foreign(case, seed, settings) for case in self.cases]
        findings: list[Finding] = []
        for number, report in enumerate(reports, 1):
            name = self.name if len(reports) == 1 else f"{self.name} {number}"
            findings += [replace(finding, subject=name) for finding in report.findings]
        return Report(self.name, tuple(findings), sum(r.evaluations for r in reports), seed, settings)


def collect(module_name: str) -> list[Collected]:
    """Return what can be checked of a module that is imported by name.

    That is: its own subclasses of the contract; its classes with ``forward``, ``backward`` and ``cases()``, which
    returns ``(layer, *inputs)`` tuples, or for a loss ``(loss, prediction, target)``; and the like tuples in a list
    ``CASES``. Raises `AdapterError` if there is nothing, and whatever the import raises.
    """
    module = importlib.import_module(module_name)
    found, silent = [], []
    for name, value in vars(module).items():
        if not isinstance(value, type) or value.__module__ != module.__name__ or name.startswith("_"):
            continue
        if issubclass(value, CONTRACTS):
            if not inspect.isabstract(value):
                found.append(Collected(name, value))
        elif callable(getattr(value, "forward", None)) and callable(getattr(value, "backward", None)):
            cases = getattr(value, "cases", None)
            if callable(cases):
                found.append(Collected(name, value, _tuples(name, cases())))
            else:
                silent.append(name)
    by_class: dict[str, list[tuple[Any, ...]]] = {}
    for case in _tuples("CASES", getattr(module, "CASES", ())) if hasattr(module, "CASES") else ():
        by_class.setdefault(type(case[0]).__name__, []).append(case)
    found += [Collected(name, cases[0][0], tuple(cases)) for name, cases in by_class.items()]
    missing = [name for name in silent if name not in by_class]
    if missing:
        raise AdapterError(
            f"{module_name} does not say what to try {', '.join(missing)} on: give the class a static method cases() "
            "that returns (layer, x) tuples, or the module a list CASES of them"
        )
    if not found:
        raise AdapterError(
            f"{module_name} has nothing to check: no subclass of Layer, Loss, Optimizer, Schedule or Initializer, no "
            "class with forward, backward and cases(), and no CASES"
        )
    return found


def _tuples(name: str, cases: object) -> tuple[tuple[Any, ...], ...]:
    if not isinstance(cases, Iterable):
        raise AdapterError(f"{name} gives a {type(cases).__name__}; (layer, x) tuples are needed")
    result = tuple((case.subject, *case.inputs) if isinstance(case, Case) else case for case in cases)
    if not result or not all(isinstance(case, tuple) and len(case) > 1 for case in result):
        raise AdapterError(f"{name} gives {len(result)} cases; each needs to be a tuple (layer, x)")
    return result


def _check_foreign(case: Sequence[Any], seed: int, settings: Settings) -> Report:
    subject, *inputs = case
    options: dict[str, Any] = {
        "seed": seed, "mode": settings.mode, "max_evaluations": settings.max_evaluations, "dtypes": settings.dtypes
    }  # fmt: skip
    if len(inputs) == 2 and is_loss(subject):
        return check_loss(subject, inputs[0], inputs[1], **options)
    return check_layer(subject, *inputs, **options)


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


def is_loss(subject: object) -> bool:
    """Return whether an object's ``backward`` needs no cotangent, which makes it a loss."""
    if isinstance(subject, (Layer, Loss)):
        return isinstance(subject, Loss)
    backward: Any = getattr(subject, "backward", None)
    try:
        needed = inspect.signature(backward).parameters.values()
    except (TypeError, ValueError):
        return False
    return all(p.default is not inspect.Parameter.empty for p in needed)
