# mypy: allow-untyped-calls
"""What a user can do wrong has one clear line; objects and generators stay as they were; reports repeat themselves."""

from __future__ import annotations

import json
import pickle
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import gradcheck
from gradcheck.checks import check_layer, check_loss, check_optimizer, check_schedule
from gradcheck.contract import Array
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from gradcheck.subjects.copies import copier, fresh
from nets.layers import ReLU
from nets.optimizers import SGD as NativeSGD
from nets.schedules import ConstantRate
from tests.gradcheck.subjects.right import (
    RIGHT,
    SGD,
    W_B,
    Add,
    DropoutOfGenerator,
    Embedding,
    FlatLinear,
    LinearOfAttributes,
    LinearOfDicts,
    Tanh,
    X,
    torch_module,
)  # fmt: skip
from tests.long import later


class Bare:
    """Doubles."""

    def forward(self, x: Any) -> Any:
        return 2 * x


class Doubled(Bare):
    def __init__(self, result: Callable[[Any], Any] = lambda dy: 2 * dy) -> None:
        self.result = result

    def backward(self, dy: Any) -> Any:
        return self.result(dy)


def locked() -> Any:
    double: Any = Doubled()
    double.lock = threading.Lock()
    return double


def texts() -> Any:
    double: Any = Doubled()
    double.params = {"name": "weights"}
    return double


def plateau(optimizer: Any) -> Any:
    import torch

    return torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, cooldown=1)


def halved_on_plateaus(epoch: int, losses: Sequence[float], late: int = 0) -> float:
    """Return .1, halved after 2 losses in turn that do not improve by 1e-4; ``late`` is a mistake."""
    rate, best, waited, resting = 0.1, np.inf, 0, 0
    for loss in losses[: epoch - late]:
        best, waited = (loss, 0) if loss < best * (1 - 1e-4) else (best, waited + 1)
        if resting:
            resting, waited = resting - 1, 0
        if waited > 1:
            rate, waited, resting = rate / 2, 0, 1
    return rate


def test_a_schedule_of_ones_own_may_follow_the_losses() -> None:
    assert check_schedule(halved_on_plateaus, plateau)
    assert check_schedule(lambda epoch, history=(): halved_on_plateaus(epoch, history), plateau)
    report = check_schedule(lambda epoch, losses: halved_on_plateaus(epoch, losses, late=1), plateau)
    assert [finding.property for finding in report.failures] == ["rates_agree_with_twin"]


MISTAKES: dict[str, tuple[Callable[[], Any], str]] = {
    "no input": (lambda: gradcheck.check_layer(Tanh()), "needs an input"),
    "no backward": (lambda: gradcheck.check_layer(Bare(), X), "needs a method backward"),
    "text for an input": (lambda: gradcheck.check_layer(Tanh(), ["a"]), "arrays of numbers"),
    "ragged lists": (lambda: gradcheck.check_layer(Tanh(), [[1.0], [1.0, 2.0]]), "input"),
    "float16": (lambda: gradcheck.check_layer(Tanh(), X.astype(np.float16)), "float64 or float32"),
    "a lock in it": (lambda: gradcheck.check_layer(locked(), X), "cannot be copied"),
    "text for a parameter": (lambda: gradcheck.check_layer(texts(), X), "needs to be floating-point"),
    "a parameter that is not there": (lambda: gradcheck.check_layer(Tanh(), X, params={"W": "W"}), "there is no 'W'"),
    "an array of inputs": (lambda: gradcheck.check_gradients(np.tanh, X, lambda _, dy: (dy,)), "write (x,)"),
    "no twin of an optimizer": (lambda: gradcheck.check_optimizer(SGD()), "needs a twin"),
    "no rate": (lambda: gradcheck.check_optimizer(SGD(), lambda _: None, lr="rate"), "no attribute rate"),
    "no schedule": (lambda: gradcheck.check_schedule(0.1), "cannot be called"),
    "a plateau without losses": (
        lambda: gradcheck.check_schedule(lambda epoch, factor=0.5: 0.1 * factor**epoch, plateau),
        "<lambda> is given the epoch alone: let it be called as schedule(epoch, history)",
    ),
    "a whole-numbered prediction": (lambda: gradcheck.check_loss(Tanh(), [1], [1]), "floating-point prediction"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_have_one_clear_line(mistake: str) -> None:
    call, text = MISTAKES[mistake]
    with pytest.raises(AdapterError) as caught:
        call()
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


UNREADABLE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "None": (lambda _: None, "returns no gradient, and leaves none"),
    "two": (lambda dy: (dy, dy), "backward(dy) returns 2 values: let it return one gradient for each of x"),
    "an error": (lambda dy: dy @ dy, "backward(dy) raises ValueError"),
}


@pytest.mark.parametrize("result", UNREADABLE)
def test_a_backward_that_cannot_be_read_is_no_failure_but_says_so(result: str) -> None:
    wrong, text = UNREADABLE[result]
    with pytest.raises(AdapterError, match=re.escape(text)) as caught:
        gradcheck.check_layer(Doubled(wrong), X)
    assert "\n" not in str(caught.value)


def test_a_gradient_of_another_shape_is_a_failure_that_says_so() -> None:
    report = gradcheck.check_layer(Doubled(lambda dy: 2 * dy[0]), X)
    assert report.verdict is Verdict.FAIL
    assert "shape" in str(report)


class WithoutBiasGradient(LinearOfAttributes):
    def backward(self, dy: Any) -> Any:
        self.dW = self.x.T @ dy
        return dy @ self.W.T


def test_a_missing_gradient_is_named() -> None:
    with pytest.raises(AdapterError, match=r"no gradient of b after backward.*grads=\{'b': 'db'\}"):
        gradcheck.check_layer(WithoutBiasGradient(), X, params=W_B["params"])
    assert "NOT CHECKED: b" in str(gradcheck.check_layer(WithoutBiasGradient(), X))


def test_a_twin_with_other_names_says_how_to_name_them() -> None:
    pytest.importorskip("torch")
    with pytest.raises(AdapterError, match=re.escape("name them with params={'weight': 'W.T', 'bias': 'b'}")):
        gradcheck.check_layer(LinearOfDicts(), X, twin=torch_module("Linear", 3, 2)())


TAKEN: dict[str, Callable[[], gradcheck.Report]] = {
    "lists": lambda: gradcheck.check_layer(Tanh(), [[0.5, -1.0], [0.25, 2.0]]),
    "gaps": lambda: gradcheck.check_layer(Tanh(), normal_with_gaps()),
    "integers alone": lambda: gradcheck.check_layer(Embedding(), [1, 1, 3]),
    "a number": lambda: gradcheck.check_layer(Tanh(), 0.5),
}


def normal_with_gaps() -> Any:
    return np.random.default_rng(0).standard_normal((8, 6))[::2, ::-2]


@pytest.mark.parametrize("inputs", TAKEN)
def test_inputs_of_every_kind_are_taken(inputs: str) -> None:
    report = TAKEN[inputs]()
    assert report.verdict is Verdict.PASS, str(report)


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.array([[1.0, np.nan]]), np.array([[np.inf, 1.0]])])
def test_what_can_tell_nothing_is_no_failure(x: Any) -> None:
    assert gradcheck.check_layer(Tanh(), x).verdict is not Verdict.FAIL


def test_objects_and_generators_stay_as_they_were() -> None:
    layer = DropoutOfGenerator()
    x = X.copy()
    before, state = pickle.dumps(layer), pickle.dumps(np.random.get_state())
    gradcheck.check_layer(layer, x)
    assert pickle.dumps(layer) == before
    assert pickle.dumps(np.random.get_state()) == state
    assert np.array_equal(x, X)


@pytest.mark.parametrize("dtype", [None, np.float32])
def test_every_copy_is_as_the_first_and_shares_memory_as_its_original_does(dtype: type | None) -> None:
    layer = FlatLinear()
    before, copied = pickle.dumps(layer), copier(layer, dtype)
    expected = pickle.dumps(fresh(layer, dtype))
    for _ in range(3):
        copy = copied({})
        assert pickle.dumps(copy) == expected
        assert {array.dtype for array in (copy.flat, *copy.params.values())} == {np.dtype(dtype or np.float64)}
        copy.flat[...] = 7
        assert (copy.params["W"] == 7).all()
        assert (copy.params["b"] == 7).all()
    assert pickle.dumps(layer) == before


class Node:
    """Holds what is copied by many rules: containers, itself, an object twice, and objects with rules of their own."""

    def __init__(self) -> None:
        self.own = self
        self.table: dict[Any, Any] = {"w": np.ones(2), 3: [np.zeros(1), "text", (np.ones(1),)]}
        self.first = self.second = Slotted(1.5)
        self.late, self.counted, self.listed = Without({"a": 1}), Counted(), Listed([1, 2])


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value


class Without:
    def __init__(self, kept: dict[str, int]) -> None:
        self.kept, self.cache = kept, np.ones(3)

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}


class Counted:
    copies = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Counted:
        copied = Counted()
        copied.copies = self.copies + 1
        return copied


class Listed(list[int]):
    pass


def test_a_copy_keeps_to_the_rules_of_every_object_in_it() -> None:
    node = Node()
    copied = fresh(node)
    assert copied is not node
    assert copied.own is copied
    assert copied.first is copied.second is not node.first
    assert copied.first.value == 1.5
    assert vars(copied.late) == {"kept": {"a": 1}}
    assert copied.late.kept is not node.late.kept
    assert copied.counted.copies == 1
    assert isinstance(copied.listed, Listed)
    assert copied.listed == [1, 2]
    held, original = copied.table[3], node.table[3]
    assert held[1] == "text"
    for mine, theirs in ((copied.table["w"], node.table["w"]), (held[0], original[0]), (held[2][0], original[2][0])):
        assert np.array_equal(mine, theirs)
        assert not np.shares_memory(mine, theirs)


def test_a_large_layer_takes_far_fewer_calls_than_it_has_elements() -> None:
    layer = LinearOfDicts(200, 200)
    report = gradcheck.check_layer(layer, np.random.default_rng(0).standard_normal((2, 200)))
    assert report
    assert report.evaluations < layer.params["W"].size / 10


def test_reports_are_strict_json() -> None:
    for report in (gradcheck.check_layer(Add(), X, X), gradcheck.check_layer(Doubled(lambda dy: dy * np.nan), X)):
        json.loads(report.to_json(), parse_constant=lambda name: pytest.fail(name))


class Tripled:
    def forward(self, x: Any) -> Any:
        return 3 * x

    def backward(self, dy: Any) -> Any:
        return 2 * dy


def local() -> Any:
    class Local(Tripled):
        scale = 2

        def backward(self, dy: Any) -> Any:
            return self.scale * dy

    return Local()


@pytest.mark.parametrize("make", later([local, LinearOfDicts, Tripled], 1))
def test_a_report_is_repeated_by_a_fresh_interpreter(make: Callable[[], Any]) -> None:
    report = gradcheck.check_layer(make(), X, variations=False)
    program = report.reproduce()
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr + program
    assert without_ratio(run.stdout) == without_ratio(str(report))


def without_ratio(text: str) -> str:
    """Return a report without its largest disagreement: sums round by where their arrays lie in memory."""
    return re.sub(r"largest disagreement.*", "", text).strip()


def test_the_right_objects_are_many() -> None:
    assert len(RIGHT) > 60


class TruncatingRelu:
    """Makes its gradient in the type of its input, which for pixels is that of whole numbers."""

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.maximum(x, 0)

    def backward(self, dy: Array) -> Array:
        dx = np.zeros_like(self.x)
        dx[...] = dy * (self.x > 0)
        return dx


class GuardedLogarithm:
    """Has a value at 0, as its guard is there alone, and no gradient."""

    def forward(self, p: Array) -> Array:
        self.p = p
        return np.log(p + 1e-7)

    def backward(self, dy: Array) -> Array:
        return dy / self.p


def test_whole_numbers_without_a_gradient_say_nothing_of_integers() -> None:
    claim = "integers_are_taken_as_numbers"
    assert check_layer(GuardedLogarithm(), np.array([[0.2, 0.4], [0.9, 0.3]]), claims=[claim]).findings == ()


def test_truncation_of_integers_is_told_but_not_failed_where_floats_were_given() -> None:
    report = check_layer(TruncatingRelu(), np.random.default_rng(0).standard_normal((4, 3)))
    (told,) = [finding for finding in report.findings if finding.property == "integers_are_taken_as_numbers"]
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "cast integers before they come here" in told.message
    assert report


class WholeWeights:
    """Holds its weights as integers, which no difference can move."""

    def __init__(self) -> None:
        self.params, self.grads = {"W": np.array([[1, 2], [3, 4], [5, 6]])}, {}  # type: ignore[var-annotated]  # empty

    def forward(self, x: Array) -> Array:
        self.x = x
        return x @ self.params["W"]

    def backward(self, dy: Array) -> Array:
        self.grads["W"] = self.x.T @ dy
        return dy @ self.params["W"].T


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: check_layer(TruncatingRelu, x), "check_layer needs a layer, got the class TruncatingRelu: make one"),
        (
            lambda x: check_layer(TruncatingRelu(), x, twin=5),  # type: ignore[arg-type]  # the mistake
            "twin is a torch.nn.Module, got a int",
        ),
        (
            lambda x: check_layer(TruncatingRelu(), x, twin=TruncatingRelu),  # type: ignore[arg-type]  # the mistake
            "twin is a torch.nn.Module, got the class TruncatingRelu",
        ),
        (lambda x: check_optimizer(object(), print), "object needs a method step(params, grads)"),
        (lambda x: check_optimizer(NativeSGD(), print), "SGD brings its own twin, and takes no other"),
        (lambda x: check_schedule(ConstantRate(0.1), print), "ConstantRate brings its own twin, and takes no other"),
        (
            lambda x: gradcheck.check_gradients(lambda a, b: a @ b, (x, x.T), lambda a: a),
            "it is called as vjp(inputs, dy), with a tuple of the inputs, and returns one gradient of each",
        ),
        (
            lambda x: check_layer((lambda a, b, c: a, lambda dy: dy), x),
            "<lambda> also needs b, c: give every argument",
        ),
        (
            lambda x: check_layer(WholeWeights(), x),
            "parameter W at params.W needs to be floating-point numbers",
        ),
    ],
)
def test_what_is_given_wrongly_is_said_at_the_door(call: Callable[[Array], object], message: str) -> None:
    with pytest.raises(AdapterError, match=re.escape(message)):
        call(np.ones((2, 3)))


class Preallocated:
    """Momentum whose velocities are made beforehand, by name."""

    def __init__(self, params: dict[str, Array]) -> None:
        self.lr, self.velocities = 0.1, {name: np.zeros_like(array) for name, array in params.items()}

    def step(self, params: dict[str, Array], grads: dict[str, Array]) -> None:
        for name, grad in grads.items():
            self.velocities[name] = 0.9 * self.velocities[name] + grad
            params[name] -= self.lr * self.velocities[name]


def test_an_optimizer_made_for_some_parameters_is_tried_on_those() -> None:
    import torch

    params = {"w": np.ones((2, 3)), "b": np.ones(3)}

    def twin(tensors: list[torch.Tensor]) -> torch.optim.Optimizer:
        return torch.optim.SGD(tensors, lr=0.1, momentum=0.9)

    for given in (params, None):  # without them, what it keeps says what they are like
        assert check_optimizer(Preallocated(params), twin, params=given)
    with pytest.raises(AdapterError, match="Preallocated could not be called: it does not know the parameter 'p0'"):
        check_optimizer(Preallocated(params), twin, params=[*params.values()])


class OneHotCrossEntropy:
    """Softmax and cross-entropy with one-hot targets, as the books have it: the gradient is (y - t) / N."""

    def forward(self, p: Array, t: Array) -> float:
        e = np.exp(p - p.max(axis=1, keepdims=True))
        self.y, self.t = e / e.sum(axis=1, keepdims=True), t
        return float(-(t * np.log(self.y)).sum() / len(p))

    def backward(self) -> Array:
        return (self.y - self.t) / len(self.t)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_books_cross_entropy_passes(dtype: type) -> None:
    p: Array = np.random.default_rng(0).standard_normal((5, 4)).astype(dtype)
    for columns in ([0, 3, 1, 1, 2], [0, 0, 1, 1, 2]):
        t: Array = np.eye(4)[columns].astype(dtype)
        report = check_loss(OneHotCrossEntropy(), p, t)
        assert report, str(report)


class Root:
    """A root, whose derivative at zero is infinite."""

    def forward(self, x: Array) -> Array:
        self.y = np.sqrt(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        return dy / (2 * self.y)


class Sort:
    """A stable sort, whose gradient at ties is one of several right ones."""

    def forward(self, x: Array) -> Array:
        self.order = np.argsort(x, axis=1, kind="stable")
        return np.take_along_axis(x, self.order, 1)

    def backward(self, dy: Array) -> Array:
        dx = np.empty_like(dy)
        np.put_along_axis(dx, self.order, dy, 1)
        return dx


@pytest.mark.parametrize("layer", [Root(), Sort()], ids=["root", "sort"])
def test_where_a_variation_leaves_the_domain_or_kinks_lie_on_kinks_nothing_is_failed(layer: object) -> None:
    for seed in range(5):
        report = check_layer(layer, np.random.default_rng(seed).uniform(0.5, 2, (3, 5)), seed=seed)
        assert report, str(report)


class ThroughMemory(Tanh):
    """Reads dy's memory as if it were contiguous: wrong for an array in Fortran order, which its author never has."""

    def backward(self, dy: Any) -> Any:
        dy = np.lib.stride_tricks.as_strided(dy, dy.shape, (dy.shape[1] * dy.itemsize, dy.itemsize))
        return super().backward(dy)


def test_what_depends_on_the_memory_layout_is_told_but_not_failed() -> None:
    report = check_layer(ThroughMemory(), X)
    (told,) = [each for each in report.findings if each.property == "results_do_not_depend_on_memory_layout"]
    assert told.verdict is Verdict.INCONCLUSIVE
    assert "depends on the memory layout" in told.message
    assert report


def test_arrays_that_are_constant_are_named_and_no_longer_said_to_be_unchecked() -> None:
    report = gradcheck.check_layer(WithoutBiasGradient(), X, constant="b")
    assert report.verdict is Verdict.PASS
    assert "NOT CHECKED" not in str(report)
    assert "constant=('b',)" in report.reproduce() or "constant='b'" in report.reproduce()


@pytest.mark.parametrize("name", ["bb", "W", 1])
def test_a_constant_that_is_none_is_refused_by_its_name(name: str | int) -> None:
    with pytest.raises(AdapterError) as caught:
        gradcheck.check_layer(WithoutBiasGradient(), X, constant=name)
    known = "there are the inputs x and the arrays without a gradient b"
    assert str(caught.value) == f"constant= names {name!r}; {known}"


class OfClasses:
    factor = 2.0

    def __init__(self) -> None:
        self.weights = np.array([1.0, 2.0, 3.0])

    def forward(self, p: Any, t: Any) -> Any:
        self.p, self.t = p, t
        return float(np.sum(self.weights * (p - t) ** 2))

    def backward(self) -> Any:
        return self.factor * self.weights * (self.p - self.t)


class WrongOfClasses(OfClasses):
    factor = 1.0


def test_the_weights_of_a_loss_are_named_as_constant() -> None:
    x = np.random.default_rng(3).standard_normal((4, 3))
    assert "(name it with constant= where there is none)" in str(gradcheck.check_loss(OfClasses(), x, 2 * x))
    assert "NOT CHECKED" not in str(gradcheck.check_loss(OfClasses(), x, 2 * x, constant="weights"))
    assert gradcheck.check_loss(WrongOfClasses(), x, 2 * x, constant=["weights"]).verdict is Verdict.FAIL
    with pytest.raises(AdapterError, match="constant= names 'weight'; there are the arrays without a gradient weights"):
        gradcheck.check_loss(OfClasses(), x, 2 * x, constant="weight")


def test_what_time_has_not_sufficed_for_is_not_what_does_not_apply() -> None:
    report = gradcheck.check_layer(LinearOfDicts(), X, claims=["precisions_agree"], seconds=1e-9)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.findings[0].message == "left out after 1e-09 s (seconds= gives it more)"
    assert gradcheck.check_layer(LinearOfDicts(), X, claims=["modes_are_restored"]).findings == ()


def test_a_function_that_returns_value_and_gradient_has_its_own_name() -> None:
    def squares(prediction: Any, target: Any) -> Any:
        return float(np.sum((prediction - target) ** 2)), 2 * (prediction - target)

    assert gradcheck.check_loss(squares, X, 2 * X, claims=["backward_is_linear"]).subject == "squares"


def test_what_torch_imports_takes_no_time_of_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("gradcheck.properties.outcome.time", SimpleNamespace(thread_time=lambda: clock[0]))
    monkeypatch.setattr("gradcheck.checks.import_torch", lambda: clock.__setitem__(0, clock[0] + 100))
    report = gradcheck.check_layer(ReLU(), X, seconds=1)
    assert report.verdict is Verdict.PASS
    assert "left out after" not in str(report)


def test_a_wrong_gradient_leaves_time_for_what_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("gradcheck.properties.outcome.time", SimpleNamespace(thread_time=lambda: clock[0]))

    class Slow:
        def forward(self, x: Array) -> Array:
            self.x, clock[0] = x, clock[0] + 0.004
            return x**2

        def backward(self, dy: Array) -> Array:
            dy *= self.x
            return dy

    report = gradcheck.check_layer(Slow(), X)
    assert [one.property for one in report.findings if one.verdict is Verdict.FAIL] == [
        "gradients_agree_with_differences",
        "arguments_are_left_untouched",
    ]
    assert "left out after 5 s" in str(report)


def by_products(x: Array, w: Array) -> Array:
    return np.sin(x) * w


def slopes_first(dy: Array, x: Array, w: Array, factor: float = 1.0) -> tuple[Array, Array]:
    return factor * dy * w * np.cos(x), dy * np.sin(x)


def slopes_last(x: Array, w: Array, dy: Array) -> tuple[Array, Array]:
    return slopes_first(dy, x, w)


@pytest.mark.parametrize("vjp", later([slopes_first, slopes_last, lambda inputs, dy: slopes_first(dy, *inputs)], 2))
def test_a_pullback_may_take_its_inputs_one_by_one(vjp: Any) -> None:
    inputs = X, X[::-1].copy()
    assert gradcheck.check_gradients(by_products, inputs, vjp)

    def wrong(dy: Array, x: Array, w: Array) -> tuple[Array, Array]:
        return slopes_first(dy, x, w, factor=1.5)

    report = gradcheck.check_gradients(by_products, inputs, wrong)
    assert report.verdict is Verdict.FAIL
    assert "x's gradient is exactly 3/2 times the numerical one" in str(report)


class Asserting(Bare):
    """A property of it may be asked for after forward alone."""

    seen = None
    factor = 1.0

    @property
    def windows(self) -> Array:
        assert self.seen is not None, "forward was not called"
        return self.seen

    train = test = is_training = windows

    def forward(self, x: Array) -> Array:
        self.seen = x
        return x**2

    def backward(self, dy: Array) -> Array:
        return self.factor * 2 * self.windows * dy


class WronglyAsserting(Asserting):
    factor = 2.0


def test_a_property_that_raises_is_no_attribute() -> None:
    assert check_layer(Asserting(), X, variations=False).verdict is Verdict.PASS
    assert check_layer(WronglyAsserting(), X, variations=False).verdict is Verdict.FAIL


def test_no_cause_is_sought_when_the_time_is_over_and_that_is_said() -> None:
    report = check_layer(WronglyAsserting(), X, seconds=1e-9)
    assert report.verdict is Verdict.FAIL
    assert "what explains the failure was not sought further after 1e-09 s (seconds= gives it more)" in str(report)
