"""The checks as arguments of a test, without a session of pytest around them: what is made of items, and what skips."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from gradcheck import AdapterError
from gradcheck.contract import Array, Case
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.report.results import GradientMismatch
from gradcheck.testing import Item, UncheckedWarning, parametrize_with_checks
from gradcheck.testing.parametrization import Check
from gradcheck.testing.pytest_plugin import FrontDoor
from nets.initializers import Constant
from nets.schedules import ConstantRate

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

X = np.random.default_rng(0).standard_normal((4, 3))
DIFFERENCES = "gradients_agree_with_differences"


class Scaled:
    """Scales its input, and keeps the gradient of what it scales by."""

    factor = 1.0

    def __init__(self) -> None:
        self.gain = np.array([1.0, 2.0, 3.0])

    def fprop(self, x: Array) -> Array:
        self.x = x
        return x * self.gain

    def bprop(self, dy: Array) -> Array:
        self.dgain = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.gain


class WronglyScaled(Scaled):
    """The same, with a gradient that is 3 times too large."""

    factor = 3.0


class Forgetful(Scaled):
    """The same, without that gradient."""

    def bprop(self, dy: Array) -> Array:
        return dy * self.gain


def checks_of(*items: object, **options: Any) -> dict[str, Check]:  # noqa: ANN401  of parametrize_with_checks
    """Return the checks by the ids of their tests."""
    return {str(each.id): each.values[0] for each in parametrize_with_checks(items, **options).args[1]}


def skipped(check: Check) -> str:
    """Return why a check skips its test."""
    with pytest.raises(pytest.skip.Exception) as caught:
        check()
    return str(caught.value.msg)


def sine(x: Array) -> tuple[Array, Array]:
    return np.sin(x), x


def cosine(dy: Array, cache: Array) -> Array:
    return dy * np.cos(cache)


def minus_cosine(dy: Array, cache: Array) -> Array:
    return -dy * np.cos(cache)


def test_objects_are_read_as_check_layer_reads_them() -> None:
    checks = checks_of(
        (Scaled(), X), (WronglyScaled(), X), ((sine, cosine), X), ((sine, minus_cosine), X), claims=[DIFFERENCES]
    )
    assert list(checks) == [f"{name}-{DIFFERENCES}" for name in ("Scaled", "WronglyScaled", "sine_1", "sine_2")]
    right, wrong, sines, minus = checks.values()
    assert right()
    assert sines()
    for check in (wrong, minus):
        with pytest.raises(GradientMismatch, match="FAIL"):
            check()


def test_a_class_whose_cases_raise_is_an_error_of_one_line_in_its_own_tests_alone() -> None:
    class Undrawable(Constant):
        @classmethod
        def cases(cls) -> SearchStrategy[Case]:
            raise LookupError("no idea\nwhatever")

    wrong, right = checks_of(Undrawable, Constant, claims=["draws_agree_with_twin"]).values()
    with pytest.raises(AdapterError, match=r"^Undrawable\.cases\(\) raises LookupError: no idea; it returns .*$"):
        wrong()
    assert right()


def test_ids_name_the_items_and_those_of_the_same_name_are_numbered() -> None:
    items = [(Scaled(), X)] * 4
    checks = checks_of(*items, ids=["alice-Dense", "bob-Dense", "bob-Dense", None], claims=[DIFFERENCES])
    names = ["alice-Dense", "bob-Dense_1", "bob-Dense_2", "Scaled"]
    assert list(checks) == [f"{name}-{DIFFERENCES}" for name in names]
    own = checks_of(Item(Scaled(), X, name="alice-Dense"), (Scaled(), X), claims=DIFFERENCES)
    assert list(own) == [f"alice-Dense-{DIFFERENCES}", f"Scaled-{DIFFERENCES}"]
    with pytest.raises(ValueError, match="ids needs one name an item, got 1 for 4 items"):
        checks_of(*items, ids=["alice-Dense"])


def test_claims_are_properties_or_their_names() -> None:
    names = checks_of((Scaled(), X), Constant, claims=[gradients_agree_with_differences, "draws_agree_with_twin"])
    assert list(names) == [f"Scaled-{DIFFERENCES}", "Constant-draws_agree_with_twin"]
    own = checks_of(Item(Scaled(), X, claims=["precisions_agree"]), (Scaled(), X))
    assert [name for name in own if name.startswith("Scaled_1")] == ["Scaled_1-precisions_agree"]


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        (["gradients_agree_with_difference"], f"which no item has; did you mean '{DIFFERENCES}'"),
        (["rates_agree_with_twin"], "claims= leaves nothing of Scaled to check; it has gradients_agree"),
    ],
)
def test_claims_that_check_nothing_are_refused(claims: list[str], said: str) -> None:
    with pytest.raises(AdapterError, match=said):
        checks_of((Scaled(), X), ConstantRate, claims=claims)


def test_expected_failures_are_named_by_id_class_or_property() -> None:
    expected = {f"bob-Dense-{DIFFERENCES}": "a", "Scaled-precisions_agree": "b", "backward_is_linear": "c"}
    marked = parametrize_with_checks(
        [(Scaled(), X), (Scaled(), X)], ids=["alice-Dense", "bob-Dense"], expected_failures=expected
    ).args[1]
    reasons = {each.id: each.marks[0].kwargs for each in marked if each.marks}
    assert {name: each["reason"] for name, each in reasons.items()} == {
        f"bob-Dense-{DIFFERENCES}": "a",
        **{f"{student}-Dense-precisions_agree": "b" for student in ("alice", "bob")},
        **{f"{student}-Dense-backward_is_linear": "c" for student in ("alice", "bob")},
    }
    assert all(each["strict"] and each["raises"] is AssertionError for each in reasons.values())


def test_a_skip_says_why() -> None:
    checks = checks_of(
        (Scaled(), X), Item(Forgetful(), np.full_like(X, np.nan), name="nan"),
        Item(Scaled(), X, seconds=1e-9, name="late"), Item(Scaled(), X, dtypes=["float64"], name="wide"),
    )  # fmt: skip
    late = "left out after 1e-09 s (seconds= gives it more)"
    said = {
        "Scaled-evaluation_is_not_random": "evaluation_is_not_random does not apply: "
        "the layer has no modes, or is checked in training mode alone",
        "wide-precisions_agree": "precisions_agree does not apply: float32 is not among the dtypes",
        f"nan-{DIFFERENCES}": f"nan-{DIFFERENCES} is inconclusive: the output is not finite",
        "late-modes_are_restored": f"late-modes_are_restored is inconclusive: {late}",
    }
    assert {name: skipped(checks[name]) for name in said} == said


def test_what_was_not_looked_at_is_said_with_a_skip() -> None:
    class Rounded(Forgetful):
        """Adds what hides the derivative."""

        def fprop(self, x: Array) -> Array:
            return super().fprop(x) + 1e13

    (check,) = checks_of((Rounded(), X), claims=[DIFFERENCES]).values()
    assert "; NOT CHECKED: gain" in skipped(check)


def test_a_pass_warns_of_what_was_not_looked_at() -> None:
    warned = checks_of((Forgetful(), X))
    line = "Forgetful: NOT CHECKED: gain: the output depends on it, and no gradient was found"
    with pytest.warns(UncheckedWarning, match=f"^{line}") as caught:
        assert warned[f"Forgetful-{DIFFERENCES}"]()
    assert caught[0].filename == __file__
    with pytest.warns(UncheckedWarning, match=f"^{line}") as caught:
        assert FrontDoor().check_layer(Forgetful(), X, claims=[DIFFERENCES])
    assert caught[0].filename == __file__
    assert warned["Forgetful-precisions_agree"]()  # which says nothing of gradients


@pytest.mark.parametrize(
    "item",
    [
        (Scaled(), X),
        Item(Forgetful(), X, constant="gain"),
        Item(WronglyScaled(), X, params={"gain": "gain"}, grads={"gain": "x"}, claims=["precisions_agree"]),
    ],
    ids=["found", "constant", "named"],
)
def test_a_pass_does_not_warn_where_all_was_looked_at(item: object) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert next(iter(checks_of(item).values()))()


def test_what_cannot_be_read_is_an_error_that_names_the_item_and_no_expected_failure() -> None:
    typo = Item(Scaled(), X, params={"gain": "gian"}, name="typo")
    for check in checks_of(typo, claims=[DIFFERENCES, "precisions_agree"]).values():
        with pytest.raises(AdapterError, match=r"^typo: Scaled has no gian: .*; did you mean gain"):
            check()


@pytest.mark.parametrize("make", [lambda: 3, lambda: Scaled(), lambda: (Scaled, X)])
def test_what_is_no_item_is_named_by_its_place(make: Callable[[], object]) -> None:
    with pytest.raises(AdapterError, match=r"^parametrize_with_checks, items\[1\]: an item is a tuple \(layer, x\)"):
        checks_of((Scaled(), X), make())
