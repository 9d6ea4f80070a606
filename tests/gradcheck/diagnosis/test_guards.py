"""An eps inside a logarithm, or a bound, is told from a fault; what is wrong besides is found as ever."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import gradcheck
from gradcheck.contract import Array
from gradcheck.diagnosis.fits import Comparison
from gradcheck.diagnosis.guards import Moved, Place, guard_of
from gradcheck.diagnosis.losses import sigmoid, softmax
from gradcheck.numerics.agreement import Verdict
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.report.results import Finding
from tests.long import later

Value = Callable[[Array, Array], float]
Gradient = Callable[[Array, Array], Array]

RNG = np.random.default_rng(0)
Z, CLASSES = RNG.standard_normal((4, 6)), np.array([1, 0, 5, 2])
SHARES = RNG.uniform(0.05, 0.95, (4, 3))
HARD, SOFT = (RNG.random((4, 3)) > 0.5) * 1.0, RNG.uniform(0.1, 0.9, (4, 3))
MIXED = softmax(RNG.standard_normal((4, 6)), 1)
ONE = np.asarray(1.0)


def rows(x: Array, t: Array) -> Array:
    return t if t.shape == x.shape else np.eye(x.shape[1])[t]


def of_classes(eps: float) -> Gradient:
    """Return the gradient of ``-sum t log(softmax + eps)``."""

    def gradient(x: Array, t: Array) -> Array:
        p, q = softmax(x, 1), rows(x, t)
        kept = q * p / (p + eps)
        return np.asarray(p * kept.sum(axis=1, keepdims=True) - kept)

    return gradient


def of_two(eps: float) -> Gradient:
    return lambda p, t: (1 - t) / (1 - p + eps) - t / (p + eps)


def of_logits(eps: float) -> Gradient:
    def gradient(x: Array, t: Array) -> Array:
        s = sigmoid(x)
        return np.asarray(s * (1 - s) * of_two(eps)(s, t))

    return gradient


def of_likelihood(eps: float) -> Gradient:
    return lambda p, t: -rows(p, t) / (p + eps)


FAMILIES: dict[str, tuple[Callable[[float], Gradient], Array, Array]] = {
    "classes": (of_classes, Z, CLASSES),
    "rows": (of_classes, Z, MIXED),
    "two": (of_two, SHARES, HARD),
    "two, soft": (of_two, SHARES, SOFT),
    "logits": (of_logits, 2 * Z, (Z > 0) * 1.0),
    "logits, soft": (of_logits, 2 * Z, MIXED),
    "likelihood": (of_likelihood, MIXED, CLASSES),
}


def compared(analytic: Array, numeric: Array, relative: float = 1e-12) -> Comparison:
    return Comparison(analytic, numeric, relative * np.abs(numeric) + 1e-14)


def moved(gradient: Gradient, x: Array, t: Array, weights: Array = ONE) -> Moved:
    smaller = x * (1 - np.linspace(0.06, 0.12, x.size).reshape(x.shape))
    return Moved(smaller, weights * gradient(smaller, t))


@pytest.mark.parametrize("eps", [1e-5, 1e-7, 3.3e-9, 1e-10])
@pytest.mark.parametrize("family", FAMILIES)
def test_an_eps_is_read_off_a_loss_whatever_its_weights(family: str, eps: float) -> None:
    gradient, x, t = FAMILIES[family]
    weights = np.arange(1.0, 1 + len(x))[:, None]
    plain, guarded = weights * gradient(0.0)(x, t), weights * gradient(eps)(x, t)
    for own, analytic, numeric, place in (
        (gradient(0.0), plain, guarded, Place.LOGARITHM),
        (gradient(eps), guarded, plain, Place.DIVISOR),
    ):
        found = guard_of(compared(analytic, numeric), x, ONE, t, moved(own, x, t, weights))
        assert found is not None
        assert found.sure
        assert found.place is place
        assert found.eps == pytest.approx(eps, rel=1e-3)
        freed, allowed = found.without(numeric, np.full(numeric.shape, 1e-13))
        assert np.all(np.abs(freed - analytic) <= allowed + 1e-13 * np.abs(analytic))


@pytest.mark.short(2)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_eps_is_read_off_beside_a_fault(family: str) -> None:
    gradient, x, t = FAMILIES[family]
    right = gradient(0.0)(x, t)
    for wrong in (-right, 4 * right, np.where(np.arange(len(x))[:, None] == 1, 2 * right, right)):
        found = guard_of(compared(wrong, gradient(1e-7)(x, t)), x, ONE, t, None)
        assert found is not None
        assert found.eps == 1e-7
        freed, _ = found.without(gradient(1e-7)(x, t), np.zeros(x.shape))
        np.testing.assert_allclose(freed, right, rtol=1e-9)


WRONG: dict[str, Gradient] = {
    "by a factor": lambda x, t: of_classes(0.0)(x, t) * (1 + 1e-6),
    "by a smaller factor": lambda x, t: of_classes(0.0)(x, t) * (1 - 1e-8),
    "in one row": lambda x, t: of_classes(0.0)(x, t) * np.where(np.arange(4) == 1, 1 + 1e-6, 1)[:, None],
    "in one class": lambda x, t: of_classes(0.0)(x, t) * np.where(np.arange(6) == 1, 1 + 1e-6, 1),
    "in its temperature": lambda x, t: of_classes(0.0)(x * (1 + 1e-6), t),
    "in its classes": lambda x, t: of_classes(0.0)(x, rows(x, t) * (1 - 1e-6) + 1e-6 / 6),
    "by a constant": lambda x, t: of_classes(0.0)(x, t) + 1e-7,
    "by a penalty": lambda x, t: of_classes(0.0)(x, t) + 1e-7 * x,
    "in proportion to x": lambda x, t: of_classes(0.0)(x, t) * (1 + 1e-7 * x),
    "by a power": lambda x, t: of_classes(0.0)(x, t) * (1 + 1e-8 / softmax(x, 1) ** 2),
}


@pytest.mark.short(3)
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_small_fault_is_no_guard(wrong: Gradient) -> None:
    for one, other in ((wrong, of_classes(0.0)), (of_classes(0.0), wrong)):
        analytic, numeric = one(Z, CLASSES), other(Z, CLASSES)
        assert guard_of(compared(analytic, numeric), Z, ONE, CLASSES, moved(one, Z, CLASSES)) is None


def test_of_one_sample_only_a_usual_eps_is_sure() -> None:
    x, t, right = Z[:1], CLASSES[:1], of_classes(0.0)(Z[:1], CLASSES[:1])
    there = moved(of_classes(0.0), x, t)
    for eps, sure in ((1e-7, True), (3.3e-9, False)):
        found = guard_of(compared(right, of_classes(eps)(x, t)), x, ONE, t, there)
        assert found is not None
        assert found.sure is sure
    found = guard_of(compared(right, of_classes(3.3e-9)(x, t)), x, ONE, t, there, {3.3e-9: 1e-15})
    assert found is not None
    assert found.sure
    assert guard_of(compared(4 * right, right), x, ONE, t, there) is None


def overlap(p: Array, t: Array, eps: float) -> Array:
    """Return the gradient of ``1 - 2 sum(p t) / (sum(p + t) + eps)``, which has two values only where t has."""
    size = p.sum() + t.sum() + eps
    return np.asarray(-2 * (t * size - (p * t).sum()) / size**2)


@pytest.mark.parametrize("seed", [2, 3, 7, 21, 33, 43])
def test_a_gradient_of_two_values_is_no_logarithms(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p, t = rng.uniform(0.1, 0.9, (4, 5)), (rng.random((4, 5)) > 0.5) * 1.0

    def right(p: Array, t: Array) -> Array:
        return overlap(p, t, 0.0)

    assert guard_of(compared(overlap(p, t, 0.0), overlap(p, t, 1e-6)), p, ONE, t, moved(right, p, t)) is None


class Guarded:
    """Cross-entropy of a softmax with something inside its logarithm, and a gradient of its own."""

    def __init__(self, inside: Callable[[Array], Array], factor: float = 1.0, divisor: float | None = None) -> None:
        self.inside, self.factor, self.divisor = inside, factor, divisor

    def forward(self, x: Array, t: Array) -> float:
        self.p, self.t = softmax(x, 1), t
        return float(-np.mean(np.log(self.inside(self.p[np.arange(len(t)), t]))))

    def backward(self) -> Array:
        return self.factor * (self.p - np.eye(self.p.shape[1])[self.t]) / (self.divisor or len(self.t))


def judged(loss: object, x: Array, t: Array, *, variations: bool = False) -> Finding:
    claims = [gradients_agree_with_differences]
    return gradcheck.check_loss(loss, x, t, claims=claims, variations=variations).findings[0]


@pytest.mark.short(1)
@pytest.mark.parametrize("eps", [1e-7, 1e-12, float(np.finfo(np.float64).eps)])
def test_a_loss_that_is_guarded_in_its_value_alone_passes(eps: float) -> None:
    found = judged(Guarded(lambda p: p + eps), Z, CLASSES, variations=True)
    assert found.verdict is Verdict.PASS, found
    if eps == 1e-7:
        assert found.remarks[0] == (
            "prediction: off by 1e-06 of the gradient, as eps = 1e-07 inside the value's logarithm explains"
        )


@pytest.mark.short(1)
@pytest.mark.parametrize(
    "inside", [lambda p: np.maximum(p, 1e-7), lambda p: np.clip(p, 1e-7, 1 - 1e-7)], ids=["maximum", "clip"]
)
@pytest.mark.parametrize(("rows", "scale"), [(1, 4), (4, 2)])
def test_a_bound_that_only_a_variation_meets_accuses_nobody(
    inside: Callable[[Array], Array], rows: int, scale: int
) -> None:
    found = judged(Guarded(inside), scale * Z[:rows], CLASSES[:rows], variations=True)
    assert found.verdict is Verdict.PASS, found
    assert "are not judged: there the value is clipped, and flat" in found.remarks[0]


class Clipped:
    """Binary cross-entropy of probabilities that are clipped in the value alone."""

    factor = 1.0

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def forward(self, p: Array, t: Array) -> float:
        self.p, self.t = p, t
        q = np.clip(p, self.low, 1 - self.high)
        return float(-np.sum(t * np.log(q) + (1 - t) * np.log(1 - q)))

    def backward(self) -> Array:
        return self.factor * ((1 - self.t) / (1 - self.p) - self.t / self.p)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1e-7, 1e-7, Verdict.PASS),
        pytest.param(1e-5, 1e-5, Verdict.PASS, marks=pytest.mark.long),
        (1e-3, 1e-7, Verdict.FAIL),
        (1e-7, 1e-3, Verdict.FAIL),
        (1e-4, 1e-4, Verdict.FAIL),
    ],
)
def test_how_far_a_value_is_clipped_shows_just_above_any_guard(low: float, high: float, verdict: Verdict) -> None:
    p, t = np.random.default_rng(3).uniform(0.2, 0.8, (4, 3)), np.ones((4, 3))
    p[0, 1], p[2, 0], t[2] = 1e-9, 1 - 1e-9, 0.0
    assert judged(Clipped(low, high), p, t, variations=True).verdict is verdict


@pytest.mark.short(2)
@pytest.mark.parametrize(("eps", "beyond"), [(1e-7, 1e-9), (1e-12, 1e-13)])
@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_answers_that_are_right_and_surer_than_a_bound_accuse_nobody(eps: float, beyond: float, factor: float) -> None:
    p, t = np.random.default_rng(0).uniform(0.2, 0.8, (4, 3)), np.random.default_rng(9).integers(0, 2, (4, 3)) * 1.0
    p[0, 1], t[0, 1], p[2, 0], t[2, 0] = beyond, 0, 1 - beyond, 1
    loss = Clipped(eps, eps)
    loss.factor = factor
    report = gradcheck.check_loss(loss, p, t, claims=[gradients_agree_with_differences], variations=False)
    assert report.verdict is (Verdict.PASS if factor == 1 else Verdict.FAIL), str(report)


def test_answers_that_are_sure_and_go_the_wrong_way_are_no_bound() -> None:
    class Reversed(Clipped):
        def backward(self) -> Array:
            return np.where(np.minimum(self.p, 1 - self.p) < 1e-3, -1.0, 1.0) * super().backward()

    p, t = np.random.default_rng(0).uniform(0.2, 0.8, (4, 3)), np.ones((4, 3))
    p[2, 0] = 1 - 1e-9
    report = gradcheck.check_loss(
        Reversed(1e-7, 1e-7), p, t, claims=[gradients_agree_with_differences], variations=False
    )
    assert report.verdict is Verdict.FAIL, str(report)


class AtZero:
    """A function of each element, or their sum, whose gradient is wrong where the input is 0, or next to it."""

    def __init__(self, of: Callable[[Array], Array], slope: Callable[[Array], Array], *, summed: bool) -> None:
        self.of, self.slope, self.summed = of, slope, summed

    def forward(self, x: Array) -> Array:
        self.x = x
        return np.asarray(self.of(x).sum()) if self.summed else self.of(x)

    def backward(self, dy: Array) -> Array:
        return np.where(np.abs(self.x) < 1e-6, 5.0, self.slope(self.x)) * dy


RELU = (lambda x: np.maximum(x, 0), lambda x: x > 0)
SQUARE = (np.square, lambda x: 2 * x)


@pytest.mark.short(3)
@pytest.mark.parametrize("small", [0.0, 1e-9])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize(("of", "slope"), [RELU, SQUARE], ids=["relu", "square"])
def test_a_gradient_that_is_wrong_at_zero_alone_is_no_bound(
    of: Callable[[Array], Array], slope: Callable[[Array], Array], summed: bool, small: float
) -> None:
    x = np.random.default_rng(0).standard_normal((3, 4))
    x[0, 0] = x[1, 2] = small
    layer = AtZero(of, slope, summed=summed)
    report = gradcheck.check_layer(layer, x, claims=[gradients_agree_with_differences], variations=False)
    assert report.verdict is Verdict.FAIL, str(report)


class GuardedInTraining:
    """A logarithm with an eps in its value alone; in evaluation the gradient is twice what it should be."""

    def forward(self, p: Array, training: bool = True) -> Array:
        self.p, self.training = p, training
        return np.asarray((3.0 if training else 1.0) * np.log(p + 1e-7))

    def backward(self, dy: Array) -> Array:
        return dy / self.p * (3.0 if self.training else 2.0)


def test_a_guard_is_still_one_in_training_where_evaluation_is_wrong() -> None:
    p = np.random.default_rng(0).uniform(0.1, 0.9, (4, 5))
    (found,) = gradcheck.check_layer(GuardedInTraining(), p, claims=[gradients_agree_with_differences]).findings
    assert found.verdict is Verdict.FAIL
    assert found.message.startswith("wrong in evaluation mode only, right in training mode"), found


@pytest.mark.parametrize("scale", later([4, 8], 1))
def test_logits_that_a_guard_cuts_off_are_not_taken_for_probabilities(scale: int) -> None:
    found = judged(Guarded(lambda p: np.maximum(p, 1e-7)), scale * Z, CLASSES)
    assert found.verdict is Verdict.PASS, found


def test_a_bound_that_cuts_off_a_part_of_a_sum_is_told_from_a_fault() -> None:
    x = 16 * Z
    p = softmax(x, 1)
    kept = np.where(p > 1e-9, MIXED, 0.0)
    numeric = p * kept.sum(axis=1, keepdims=True) - kept
    there = moved(of_classes(0.0), x, MIXED)
    found = guard_of(compared(p - MIXED, numeric), x, ONE, MIXED, there)
    assert found is not None
    assert found.eps == 0
    assert np.array_equal(found.outside, np.abs(p - MIXED - numeric) > 1e-12)
    dropped = np.where(p > p.max(axis=1, keepdims=True) / 2, MIXED, 0.0)
    numeric = p * dropped.sum(axis=1, keepdims=True) - dropped
    assert guard_of(compared(p - MIXED, numeric), x, ONE, MIXED, there) is None


def test_a_fault_beside_a_guard_is_named() -> None:
    found = judged(Guarded(lambda p: p + 1e-7, divisor=1.0), Z, CLASSES)
    assert found.verdict is Verdict.FAIL
    assert found.diagnosis.startswith("prediction's gradient is exactly 4 times the numerical one; 4 is the batch size")
    found = judged(Guarded(lambda p: np.maximum(p, 1e-7), factor=-1.0), 2 * Z, CLASSES)
    assert found.verdict is Verdict.FAIL
    assert "the sign is wrong" in found.diagnosis


def test_a_large_eps_is_no_guard() -> None:
    found = judged(Guarded(lambda p: p + 1e-2), Z, CLASSES)
    assert found.verdict is Verdict.FAIL
    assert found.diagnosis == (
        "prediction's gradient is that without the eps = 0.01 inside the value's logarithm, "
        "off by up to 0.11 of itself: no mere guard"
    )


@pytest.mark.parametrize("factor", later([1 - 1e-9, 1 + 1e-6], 1))
def test_a_small_factor_beside_a_guard_fails(factor: float) -> None:
    assert judged(Guarded(lambda p: p + 1e-7, factor), Z, CLASSES).verdict is Verdict.FAIL


class Halves:
    """``y = max(x, bound)``, without the mask."""

    def forward(self, x: Array) -> Array:
        return np.maximum(x, 1e-7)

    def backward(self, dy: Array) -> Array:
        return dy


@pytest.mark.parametrize("x", later([Z, -np.abs(Z), np.abs(Z)], 1), ids=["both", "negative", "positive"])
def test_a_rectifier_without_its_mask_has_no_bound_to_excuse_it(x: Array) -> None:
    # Of positive inputs alone none below the bound are made; then nothing is wrong with it.
    report = gradcheck.check_layer(Halves(), x, claims=[gradients_agree_with_differences], domain="any")
    assert report.verdict is Verdict.FAIL


def test_a_function_without_a_target_may_be_guarded() -> None:
    report = gradcheck.check_gradients(
        lambda p: np.log(p + 1e-8), (SHARES,), lambda inputs, dy: (dy / inputs[0],), mode="full"
    )
    assert report.verdict is Verdict.PASS
    assert "eps = 1e-08 inside the value's logarithm" in str(report)


@pytest.mark.short(2)
@pytest.mark.parametrize("more", [1e-5, -1e-7])
@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (np.square, lambda x, c: 2 * x + c),
        (lambda x: (1 - x) ** 2, lambda x, c: 2 * (x - 1) + c),
        (lambda x: x**3, lambda x, c: 3 * x**2 + c),
        (lambda x: x**3, lambda x, c: 3 * x**2 + c * x),
        (np.log, lambda x, c: 1 / x + abs(c) / x**2),
    ],
)
@pytest.mark.parametrize("x", later([SHARES[0], SHARES[0, :1], SHARES], 1), ids=["three", "one", "twelve"])
def test_a_small_term_of_another_degree_guards_nothing(
    f: Callable[[Array], Array], slope: Callable[[Array, float], Array], more: float, x: Array
) -> None:
    report = gradcheck.check_gradients(f, (x,), lambda inputs, dy: dy * slope(inputs[0], more), variations=False)
    assert report.verdict is Verdict.FAIL, str(report)


class Network:
    """Two layers that end in a guarded cross-entropy, with a fault of some size in the first, or none."""

    def __init__(self, eps: float, fault: float = 0.0) -> None:
        rng = np.random.default_rng(1)
        self.params = {"v": rng.standard_normal((3, 4)) / 2, "w": rng.standard_normal((4, 3)) / 2}
        self.eps, self.fault, self.grads = eps, fault, dict[str, Array]()

    def forward(self, x: Array, t: Array) -> float:
        self.x, self.t, self.h = x, t, np.tanh(x @ self.params["v"])
        self.p = softmax(self.h @ self.params["w"], 1)
        return float(-np.mean(np.log(self.p[np.arange(len(t)), t] + self.eps)))

    def backward(self, dy: Array) -> tuple[Array, None]:
        dz = dy * (self.p - np.eye(3)[self.t]) / len(self.t)
        dh = dz @ self.params["w"].T * (1 - self.h**2) * (1 + self.fault)
        self.grads = {"v": self.x.T @ dh, "w": self.h.T @ dz}
        return dh @ self.params["v"].T, None


@pytest.mark.short(2)
@pytest.mark.parametrize(
    ("network", "verdict"),
    [
        (Network(1e-7), Verdict.PASS),
        (Network(1e-12), Verdict.PASS),
        (Network(1e-7, 1e-6), Verdict.FAIL),
        (Network(0.0, 1e-8), Verdict.FAIL),
        (Network(1e-2), Verdict.FAIL),
    ],
    ids=["guarded", "below what is seen", "fault beside a guard", "small fault", "large eps"],
)
def test_the_guard_of_a_network_is_read_off_each_sample(network: Network, verdict: Verdict) -> None:
    x, t = np.random.default_rng(2).standard_normal((4, 3)), np.array([0, 2, 1, 1])
    report = gradcheck.check_layer(network, x, t, claims=[gradients_agree_with_differences], variations=False)
    (found,) = report.findings
    assert found.verdict is verdict, found
    if network.eps == 1e-7 and verdict is Verdict.PASS:
        assert "as eps = 1e-07 inside the value's logarithm explains" in found.remarks[0]
    if network.eps == 1e-2:
        assert "without the eps = 0.01 inside the value's logarithm" in found.diagnosis


@pytest.mark.parametrize(("side", "verdict"), [(1, Verdict.PASS), (-1, Verdict.FAIL)])
def test_a_failure_is_not_said_to_be_explained_by_an_eps_that_is_on_the_wrong_side(side: int, verdict: Verdict) -> None:
    eps, rng = 1e-8, np.random.default_rng(5)
    p, t = rng.uniform(0.1, 0.9, (4, 3)), (rng.random((4, 3)) > 0.5).astype(float)

    def loss(p: Array, t: Array) -> Array:
        return np.asarray(-(t * np.log(p + eps) + (1 - t) * np.log(1 - p + eps)))

    def gradient(p: Array, t: Array) -> Array:
        return np.asarray(-t / (p + eps) + (1 - t) / (1 - p + side * eps))

    report = gradcheck.check_loss((loss, gradient), p, t, claims=[gradients_agree_with_differences], variations=False)
    assert report.verdict is verdict
    assert "explains" not in str(report)
    assert ("where the target is zero only" in str(report)) is (verdict is Verdict.FAIL)
