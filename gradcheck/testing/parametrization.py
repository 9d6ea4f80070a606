"""One test an item and property: the checks as arguments of a test function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from gradcheck.items import NEEDED, AnyItem, Effort, item_of
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import DTYPES, Mode, Property, Settings
from gradcheck.report.absences import describe_absence
from gradcheck.report.readings import unchecked
from gradcheck.report.results import DECIDING, Report
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.parameters import nearest
from gradcheck.testing.unchecked import warn_of_unchecked
from gradcheck.trials import EXAMPLES

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True)
class Check:
    """One property of one item. Calling it makes the check, in a test of pytest.

    Returns the report of a pass, raises `GradientMismatch` for a failure, and skips the test where the property does
    not apply or nothing could be told. Where gradients pass although some were not found, it warns.
    """

    label: str
    claim: Property
    item: AnyItem
    effort: Effort

    def __call__(self) -> Report:
        import pytest

        __tracebackhide__ = True
        name = self.claim.__name__
        try:
            report = self.item.check((self.claim,), self.effort)
        except AdapterError as error:
            raise error.with_traceback(None) from None  # the item is what is wrong
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            pytest.skip(f"{self!r} is inconclusive: PyTorch is not installed: pip install 'mnistcheck[torch]'")
        if not report.findings:
            pytest.skip(describe_absence(name))
        report.raise_if_failed()
        if report.verdict is Verdict.INCONCLUSIVE:
            pytest.skip(f"{self!r} is inconclusive: {_silence(report)}")
        if name in DECIDING:
            warn_of_unchecked(report, self.label)
        return report

    @property
    def names(self) -> tuple[str, ...]:
        """Return what an expected failure may be called: of this test, of items of its name or class, and of all."""
        claim = self.claim.__name__
        return tuple(dict.fromkeys([*(f"{of}-{claim}" for of in (self.label, self.item.name, self.item.kind)), claim]))

    def __repr__(self) -> str:
        return self.names[0]


def parametrize_with_checks(
    items: Iterable[object],
    *,
    ids: Iterable[str | None] | None = None,
    claims: Iterable[Property | str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
    seed: int = 0,
    examples: int = EXAMPLES,
    mode: Mode = "auto",
    seconds: float | None = None,
    max_evaluations: int | None = None,
    dtypes: Sequence[str] = DTYPES,
) -> pytest.MarkDecorator:
    """Return a decorator that gives a test function one ``check`` an item and property; its body is ``check()``.

    An item is anybody's ``(layer, *inputs)`` or ``(loss, prediction, target)``, where a pair of functions ``(forward,
    backward)`` may stand for the object; an `Item` of these, with options of `check_layer` or `check_loss`; a `Case`;
    or a class of `Layer`, `Loss`, `Optimizer`, `Schedule` or `Initializer`, for which ``examples`` cases are drawn, or
    an object of one. The items are named by ``ids``, by default after their classes; those of the same name are
    numbered. ``claims`` are the properties to check, or their names. ``expected_failures`` says why a property is known
    not to hold, by its name or, of one item, by that of the test such as ``Dense-precisions_agree``: the test then has
    to fail. The other arguments are those of `check_layer`; what an `Item` says goes before them.

    Raises `AdapterError` for any other item, and ValueError for an expected failure of a property that is not tested.
    """
    import pytest

    __tracebackhide__ = True
    effort = Effort(examples, seed, Settings(mode, max_evaluations, tuple(dtypes), seconds=seconds))
    found = list(map(_numbered, count(), items))
    if not found:
        raise AdapterError(f"parametrize_with_checks needs items to check: {NEEDED}")
    wanted = None if claims is None else _names(claims, found)
    checks = [
        Check(label, claim, item, effort)
        for label, item in zip(_labels(_named(found, ids)), found, strict=True)
        for claim in _chosen(item, wanted)
    ]
    reasons = _reasons(checks, expected_failures or {})
    # A check that could not be made, which is a TypeError, has not failed as expected.
    marks = [
        () if why is None else (pytest.mark.xfail(strict=True, reason=why, raises=AssertionError),) for why in reasons
    ]
    values = [pytest.param(check, id=repr(check), marks=own) for check, own in zip(checks, marks, strict=True)]
    return pytest.mark.parametrize("check", values)


def _numbered(place: int, value: object) -> AnyItem:
    """Return an item; raises `AdapterError` for what is none, by its place in the list."""
    __tracebackhide__ = True
    try:
        return item_of(value)
    except AdapterError as error:
        raise AdapterError(f"parametrize_with_checks, items[{place}]: {error}") from None


def _silence(report: Report) -> str:
    """Return why a report of one property could tell nothing, and what of the object was not looked at at all."""
    reason = report.findings[0].message or "no case told anything"
    line = unchecked(report.reading) if report.reading is not None else ""
    return f"{reason}; {line}" if line else reason


def _named(items: Sequence[AnyItem], ids: Iterable[str | None] | None) -> list[str]:
    """Return the names of items: those that are given, and their own in the place of None."""
    __tracebackhide__ = True
    own = [item.name for item in items]
    given = own if ids is None else list(ids)
    if len(given) != len(own):
        raise ValueError(f"ids needs one name an item, got {len(given)} for {len(own)} items")
    return [name or other for name, other in zip(given, own, strict=True)]


def _names(claims: Iterable[Property | str], items: Sequence[AnyItem]) -> set[str]:
    """Return the names of the properties that are asked for; raises `AdapterError` for one that no item has."""
    __tracebackhide__ = True
    known = dict.fromkeys(claim.__name__ for item in items for claim in item.claims())
    wanted = [claims] if isinstance(claims, str) else claims
    names = [claim if isinstance(claim, str) else claim.__name__ for claim in wanted]
    if unknown := [name for name in names if name not in known]:
        close = nearest(unknown[0], known)
        raise AdapterError(
            f"claims= names {unknown[0]!r}, which no item has; "
            + (f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}")
        )
    return set(names)


def _chosen(item: AnyItem, wanted: set[str] | None) -> tuple[Property, ...]:
    """Return those properties of an item that are asked for; raises `AdapterError` if it has none of them."""
    __tracebackhide__ = True
    chosen = tuple(claim for claim in item.claims() if wanted is None or claim.__name__ in wanted)
    if not chosen:
        raise AdapterError(
            f"claims= leaves nothing of {item.name} to check; it has "
            f"{', '.join(claim.__name__ for claim in item.claims())}"
        )
    return chosen


def _labels(names: Sequence[str]) -> list[str]:
    """Return the names, those that occur more than once with a number: ``Dense_1``, ``Dense_2``."""
    seen: Counter[str] = Counter()
    often = Counter(names)
    labels = []
    for name in names:
        seen[name] += 1
        labels.append(name if often[name] == 1 else f"{name}_{seen[name]}")
    return labels


def _reasons(checks: Sequence[Check], expected: Mapping[str, str]) -> list[str | None]:
    """Return why each check is expected to fail, or None; the name of one test goes before that of a property."""
    __tracebackhide__ = True
    known = {name: None for check in checks for name in check.names}
    if unknown := [name for name in expected if name not in known]:
        claims = dict.fromkeys(check.claim.__name__ for check in checks)
        labels = dict.fromkeys(check.label for check in checks)
        raise ValueError(
            f"expected_failures names {', '.join(unknown)}, which no test checks; there are {', '.join(claims)}, "
            f"alone or after {', '.join(f'{label}-' for label in labels)}"
        )
    if mute := [name for name, reason in expected.items() if not reason]:
        raise ValueError(f"expected_failures needs a reason for {', '.join(mute)}")
    return [next((expected[name] for name in check.names if name in expected), None) for check in checks]
