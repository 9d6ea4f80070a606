"""Items: what may be named in a suite or a module, whether it is a layer or a loss, and with which options."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import gradcheck.checks
import gradcheck.subjects.loss
from gradcheck import AdapterError, Case
from gradcheck.contract import Array
from gradcheck.items import Effort, Item, is_loss, item_of
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.layer import ForeignLayer
from gradcheck.testing import Item as ItemOfSuites
from nets.layers import Linear, Tanh
from nets.losses import MSELoss

RNG = np.random.default_rng(0)
X, T = RNG.standard_normal((4, 3)), RNG.standard_normal((4, 3))
DIFFERENCES = "gradients_agree_with_differences"


class Scaled:
    """Scales its input by an array, whose gradient it keeps under a name of its own."""

    factor = 1.0

    def __init__(self) -> None:
        self.size = np.array([1.0, 2.0, 3.0])

    def go(self, x: Array) -> Array:
        self.x = x
        return x * self.size

    def come(self, dy: Array) -> Array:
        self.change = self.factor * (dy * self.x).sum(axis=0)
        return dy * self.size


class WronglyScaled(Scaled):
    """The same, with a gradient that is 3 times too large."""

    factor = 3.0


OPTIONS: dict[str, Any] = {"forward": "go", "backward": "come", "params": {"size": "size"}, "grads": {"size": "change"}}


def product(x: Array, w: Array) -> tuple[Array, tuple[Array, Array]]:
    return x @ w, (x, w)


def product_backward(dy: Array, cache: tuple[Array, Array]) -> tuple[Array, Array]:
    x, w = cache
    return dy @ w.T, x.T @ dy


def wrong_product_backward(dy: Array, cache: tuple[Array, Array]) -> tuple[Array, Array]:
    x, w = cache
    return dy @ w.T, 2 * x.T @ dy


def squares(prediction: Array, target: Array) -> tuple[float, Array]:
    return float(np.sum((prediction - target) ** 2)), prediction - target


def squares_backward(cache: Array) -> Array:
    return 2 * cache


def half_of_squares_backward(cache: Array) -> Array:
    return cache


def squares_with_gradient(prediction: Array, target: Array) -> tuple[float, Array]:
    return float(np.sum((prediction - target) ** 2)), 2 * (prediction - target)


def verdict_of(item: object, claim: str = DIFFERENCES) -> Verdict:
    each = item_of(item)
    return each.check([c for c in each.claims() if c.__name__ == claim], Effort()).verdict


@pytest.mark.short(3)
@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (Item(Scaled(), X, **OPTIONS), Item(WronglyScaled(), X, **OPTIONS)),
        (((product, product_backward), X, T.T), ((product, wrong_product_backward), X, T.T)),
        (((squares, squares_backward), X, T), ((squares, half_of_squares_backward), X, T)),
        ((squares_with_gradient, X, T), (lambda prediction, target: (np.sum((prediction - target) ** 2), X), X, T)),
        (Case(Tanh(), (X,)), Item(WronglyScaled(), X, **OPTIONS | {"claims": [DIFFERENCES]})),
    ],
    ids=["options", "a pair of functions", "a loss in two functions", "a loss in one", "a case"],
)
def test_a_right_item_passes_and_a_wrong_one_fails(right: object, wrong: object) -> None:
    assert verdict_of(right) is Verdict.PASS
    assert verdict_of(wrong) is Verdict.FAIL


def test_the_wrong_weight_of_a_pair_of_functions_is_named() -> None:
    item = Item((product, wrong_product_backward), X, T.T)
    assert (item.name, item.loss) == ("product", False)
    (finding,) = item.check(item.claims()[:1], Effort()).failures
    assert finding.worst is not None
    assert finding.worst.tensor == "w"


class Embedding:
    """A layer of times, one a sample: two inputs, and both have a gradient."""

    def forward(self, x: Array, t: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class Distance:
    """A number of two inputs, neither of which is a target."""

    def forward(self, a: Array, b: Array) -> float:
        raise NotImplementedError

    def backward(self) -> tuple[Array, Array]:
        raise NotImplementedError


class CostVolume:
    """A layer of two images, whatever its name."""

    def forward(self, left: Array, right: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> tuple[Array, Array]:
        raise NotImplementedError


class SoftmaxWithLoss:
    """A loss whose backward has a default."""

    def forward(self, x: Array, t: Array) -> float:
        raise NotImplementedError

    def backward(self, dout: float = 1) -> Array:
        raise NotImplementedError


class Squares:
    """A loss in Keras's order."""

    def forward(self, y_true: Array, y_pred: Array) -> float:
        raise NotImplementedError

    def backward(self, dvalue: float) -> Array:
        raise NotImplementedError


class Apart:
    """A loss that keeps nothing between its two methods."""

    def loss(self, prediction: Array, target: Array) -> float:
        raise NotImplementedError

    def grad(self, prediction: Array, target: Array) -> Array:
        raise NotImplementedError


class Network:
    """A network that returns a value and the gradients of its parameters at once: no loss, it has some."""

    def loss(self, x: Array, y: Array) -> tuple[float, dict[str, Array]]:
        raise NotImplementedError


class Reversed:
    """A layer of indices."""

    def forward(self, x: Array, order: Array) -> Array:
        raise NotImplementedError

    def backward(self, dy: Array) -> Array:
        raise NotImplementedError


class Counted:
    """A loss of classes, whose second argument is named like nothing."""

    def forward(self, a: Array, b: Array) -> float:
        raise NotImplementedError

    def backward(self) -> Array:
        raise NotImplementedError


CLASSES = np.array([0, 1, 2, 0])


@pytest.mark.parametrize(
    ("subject", "target", "loss"),
    [
        (Embedding(), T, False), (Distance(), T, False), (CostVolume(), T, False), (Network(), CLASSES, False),
        (Reversed(), CLASSES, False), ((product, product_backward), T.T, False),
        (SoftmaxWithLoss(), T, True), (Squares(), T, True), (Apart(), T, True), (Counted(), CLASSES, True),
        ((squares, squares_backward), T, True), (squares_with_gradient, T, True), (MSELoss(), T, True),
    ],
)  # fmt: skip
def test_names_say_what_is_a_loss_and_what_leaves_a_doubt_is_a_layer(
    subject: object, target: Array, loss: bool
) -> None:
    assert is_loss(subject, (X, target)) is loss
    assert Item(subject, X, target).loss is loss


def test_what_names_do_not_say_the_user_does() -> None:
    assert Item(Distance(), X, T, loss=True).loss
    assert not Item(Squares(), X, T, loss=False).loss


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Item(Scaled(), X, parms={"size": "size"}, forward="go"),
         "check_layer, which checks Scaled, has no option parms; did you mean params?"),
        (lambda: Item(squares_with_gradient, X, T, params={}),
         "check_loss, which checks squares_with_gradient, has no option params"),
        (lambda: Item(Scaled(), X, claims=["gradients_agree"], forward="go"), "claims= names 'gradients_agree', which"),
        (lambda: Item(Scaled(), X), r"of Scaled, which has come, factor, go, size: write .*Item\(scaled, x, f"),
        (lambda: Item(Tanh()), r"got an object of Tanh without an input: write \(tanh, x\)"),
        (lambda: Item(Linear, X), r"got the class Linear: write \(Linear\(\.\.\.\), x\)"),
        (lambda: Item(Tanh(), X, X), r"a Layer has one input: write \(tanh, x\), got 2"),
        (lambda: Item(MSELoss(), X), r"a Loss needs a prediction and a target: write \(mseloss, prediction, target\)"),
        (lambda: Item((product, product_backward)), r"a pair of functions without an input: write \(\(product, "),
        (lambda: item_of((product, product_backward)), r"product_backward need an input: write \(\(product, product_b"),
        (lambda: Item((product, 3), X), r"a pair of functions \(forward, backward\) is needed, got \(<function"),
        (lambda: item_of("Linear"), "got 'Linear'"),
        (lambda: item_of([]), r"got \[\]"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_item_is_refused_in_one_line(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(AdapterError, match=said) as caught:
        make()
    assert "\n" not in str(caught.value)


class WithoutBackward:
    """An object whose way back has a name of its own."""

    def forward(self, x: Array) -> Array:
        return x

    def reverse(self, dy: Array) -> Array:
        return dy


class OfTwo:
    """An object whose way back takes what nobody can give, and whose names say nothing."""

    def forward(self, a: Array, b: Array) -> Array:
        return a * b

    def backward(self, one: Array, two: Array, three: Array, four: Array) -> Array:
        return one


def test_what_cannot_be_read_names_the_item_and_says_how_options_are_written() -> None:
    with pytest.raises(AdapterError) as caught:
        verdict_of((WithoutBackward(), X))
    assert str(caught.value) == (
        "WithoutBackward needs a method backward; it has forward, reverse: name its own with backward= "
        "(options are written as gradcheck.testing.Item(layer, x, backward=...))"
    )
    with pytest.raises(
        AdapterError, match=r"^mine: OfTwo\.backward.* \(for a loss, write .*Item\(loss, .*, loss=True\)\)"
    ):
        verdict_of(Item(OfTwo(), X, T, name="mine"))


def test_what_an_item_says_goes_before_what_its_suite_says() -> None:
    item = Item(Scaled(), X, **OPTIONS, seed=3, mode="fast", claims=[DIFFERENCES, "precisions_agree"])
    assert [claim.__name__ for claim in item.claims()] == [DIFFERENCES, "precisions_agree"]
    report = item.check(item.claims(), Effort(seed=1))
    assert (report.seed, report.settings.mode) == (3, "fast")
    assert "seed=3" in report.reproduce()


def test_a_case_keeps_its_seed_and_its_twin() -> None:
    import torch

    item = item_of(Case(WithBackward(), (X,), seed=5, twin=torch.nn.Identity()))
    assert "gradients_agree_with_twin" in {claim.__name__ for claim in item.claims()}
    assert item.check(item.claims()[:1], Effort()).seed == 5


class WithBackward(WithoutBackward):
    """The same with a usual name."""

    backward = WithoutBackward.reverse


@pytest.mark.parametrize(
    ("item", "where"),
    [
        (Item(Scaled(), X, **OPTIONS), gradcheck.checks),
        (Item((product, product_backward), X, T.T), gradcheck.checks),
        (Item(squares_with_gradient, X, T), gradcheck.subjects.loss),
    ],
    ids=["a layer", "a pair", "a loss"],
)
def test_an_object_is_read_once_however_many_properties_are_checked(
    item: Item, where: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, readings = where.read, []

    def counted(*args: object) -> object:
        readings.append(args)
        return read(*args)

    monkeypatch.setattr(where, "read", counted)
    for claim in item.claims():
        assert item.check((claim,), Effort()).verdict is not Verdict.FAIL
    assert len(readings) == 1


def test_what_was_read_already_is_a_case() -> None:
    item = item_of(Case(ForeignLayer.of(WithBackward(), X), (X,)))
    assert (item.name, item.kind) == ("WithBackward", "WithBackward")
    assert "gradients_agree_with_twin" not in {claim.__name__ for claim in item.claims()}


def test_suites_and_modules_name_the_same_items() -> None:
    assert ItemOfSuites is Item
