"""One test an item and property: the checks as arguments of a test function."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from gradcheck.checks import check_class, check_layer, check_loss, check_variations
from gradcheck.collection import CONTRACTS, is_loss
from gradcheck.contract import Case, Layer, Loss
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties import DTYPES, PROPERTIES, Mode, Property, Settings
from gradcheck.report.results import Report
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.subjects.loss import ForeignLoss
from gradcheck.trials import EXAMPLES, properties_of

if TYPE_CHECKING:
    import pytest

NEEDED = (
    "a class or an object of Layer, Loss, Optimizer, Schedule or Initializer, a tuple (layer, x) or "
    "(loss, prediction, target), or a Case"
)
OF_TWINS = "_with_twin"  # ends the name of a property that asks nothing of a foreign object without a twin


@dataclass(frozen=True)
class Item:
    """Something to check: its name, what it is asked, and how one claim is."""

    name: str
    claims: tuple[Property, ...]
    check: Callable[..., Report]  # of claims=(claim,)


@dataclass(frozen=True)
class Check:
    """One property of one item. Calling it makes the check, in a test of pytest.

    Returns the report of a pass, raises `GradientMismatch` for a failure, and skips the test where the property does
    not apply or nothing could be told.
    """

    label: str
    claim: Property
    item: Item

    def __call__(self) -> Report:
        import pytest

        __tracebackhide__ = True
        try:
            report = self.item.check(claims=(self.claim,))
        except AdapterError as error:
            raise error.with_traceback(None) from None  # the item is what is wrong
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            pytest.skip("inconclusive: PyTorch is not installed: pip install 'mnistcheck[torch]'")
        if not report.findings:
            pytest.skip("does not apply")
        report.raise_if_failed()
        if report.verdict is Verdict.INCONCLUSIVE:
            pytest.skip(f"inconclusive: {report.findings[0].message or 'no case told anything'}")
        return report

    @property
    def names(self) -> tuple[str, str, str]:
        """Return what an expected failure may be called: of this test, of items of its class, and of all items."""
        claim = self.claim.__name__
        return f"{self.label}-{claim}", f"{self.item.name}-{claim}", claim

    def __repr__(self) -> str:
        return self.names[0]


def parametrize_with_checks(
    items: Iterable[object],
    *,
    expected_failures: Mapping[str, str] | None = None,
    seed: int = 0,
    examples: int = EXAMPLES,
    mode: Mode = "auto",
    max_evaluations: int | None = None,
    dtypes: Sequence[str] = DTYPES,
) -> pytest.MarkDecorator:
    """Return a decorator that gives a test function one ``check`` an item and property; its body is ``check()``.

    An item is a class of `Layer`, `Loss`, `Optimizer`, `Schedule` or `Initializer`, or an object of one, which stands
    for its class: ``examples`` cases are drawn from ``cases()``; or anybody's ``(layer, x)`` or ``(loss, prediction,
    target)``, or a `Case`, which are varied as `check_layer` does. ``expected_failures`` says why a property is known
    not to hold, by its name or, of one item, by that of the test such as ``Linear-precisions_agree``: the test then has
    to fail. Items of the same class are numbered. The other arguments are those of `check_layer`.

    Raises `AdapterError` for any other item, and ValueError for an expected failure of a property that is not tested.
    """
    import pytest

    __tracebackhide__ = True
    settings = Settings(mode, max_evaluations, tuple(dtypes))
    found = list(map(partial(_item, examples=examples, seed=seed, settings=settings), items))
    if not found:
        raise AdapterError(f"parametrize_with_checks needs items to check: {NEEDED}")
    checks = [
        Check(label, claim, item)
        for label, item in zip(_labels([item.name for item in found]), found, strict=True)
        for claim in item.claims
    ]
    reasons = _reasons(checks, expected_failures or {})
    marks = [() if why is None else (pytest.mark.xfail(strict=True, reason=why),) for why in reasons]
    values = [pytest.param(check, id=repr(check), marks=own) for check, own in zip(checks, marks, strict=True)]
    return pytest.mark.parametrize("check", values)


def _item(item: Any, examples: int, seed: int, settings: Settings) -> Item:  # noqa: ANN401  anybody's
    """Return what is to be checked; nothing of it is called yet."""
    __tracebackhide__ = True
    if isinstance(item, CONTRACTS):
        item = type(item)
    if isinstance(item, type) and issubclass(item, CONTRACTS):
        if inspect.isabstract(item):
            missing = ", ".join(sorted(item.__abstractmethods__))
            raise AdapterError(f"{item.__name__} cannot be checked yet: it lacks {missing}")
        check = partial(check_class, item, examples=examples, seed=seed, settings=settings)
        return Item(item.__name__, properties_of(item), check)
    if isinstance(item, Case):
        subject, inputs, seed, twin = item.subject, item.inputs, item.seed, item.twin
        if isinstance(subject, tuple(PROPERTIES)):
            name = getattr(subject, "name", type(subject).__name__)
            return Item(name, _asked(subject, twin), partial(check_variations, item, settings=settings))
    elif isinstance(item, tuple) and len(item) > 1:
        subject, inputs, twin = item[0], item[1:], None
    else:
        raise _refusal(item)
    ready = isinstance(subject, (Layer, Loss)) or (_can(subject, "forward") and _can(subject, "backward"))
    if isinstance(subject, type) or not ready:
        raise _refusal(subject)
    name = type(subject).__name__
    if isinstance(subject, Loss) and len(inputs) != 2:
        raise AdapterError(f"a Loss needs a prediction and a target: write ({name.lower()}, prediction, target)")
    options: dict[str, Any] = {
        "twin": twin, "seed": seed, "mode": settings.mode, "max_evaluations": settings.max_evaluations,
        "dtypes": settings.dtypes,
    }  # fmt: skip
    if len(inputs) == 2 and is_loss(subject):
        kind: type = Loss if isinstance(subject, Loss) else ForeignLoss
        return Item(name, _asked(kind, twin), partial(check_loss, subject, *inputs, **options))
    kind = Layer if isinstance(subject, Layer) else ForeignLayer
    return Item(name, _asked(kind, twin), partial(check_layer, subject, *inputs, **options))


def _refusal(item: object) -> AdapterError:
    """Return what to write in place of an item that cannot be checked."""
    if isinstance(item, type):
        got = f"the class {item.__name__}: write ({item.__name__}(...), x)"
    elif _can(item, "forward"):
        name = type(item).__name__
        got = f"an object of {name} without an input: write ({name.lower()}, x)"
    else:
        got = f"{item!r:.60}"
    return AdapterError(f"parametrize_with_checks needs {NEEDED}; got {got}")


def _can(subject: object, method: str) -> bool:
    return callable(getattr(subject, method, None))


def _asked(subject: object, twin: object) -> tuple[Property, ...]:
    """Return the properties of a subject, less those of twins where there is none."""
    claims = properties_of(subject)
    kind = subject if isinstance(subject, type) else type(subject)
    if twin is not None or not issubclass(kind, (ForeignLayer, ForeignLoss)):
        return claims
    return tuple(claim for claim in claims if not claim.__name__.endswith(OF_TWINS))


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
