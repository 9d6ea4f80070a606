"""Optimizers: known values, what is refused, clipping, and one pass over all parameters against one a tensor."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from numpy.typing import DTypeLike

from gradcheck.contract import Array, Case, Gradients, Optimizer, ShapeError
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.twin import twin_updates
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch
from gradcheck.trials import drawn_cases
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.initializers import Normal, XavierNormal, initialize
from nets.layers import Linear, Sequential, Sigmoid
from nets.losses import CrossEntropyLoss
from nets.optimizers import OPTIMIZERS, SGD, Adagrad, Adam, AdamW, ClippedByNorm, ClippedByValue, RMSprop
from nets.optimizers.flat_arrays import FlatArrays
from tests.long import later
from tests.nets.faults.sgd import RateInTheVelocity
from tests.nets.refused import needs, refusal

pytestmark = pytest.mark.rounding

if TYPE_CHECKING:
    from gradcheck.contract import Layer

SHAPES: dict[str, tuple[int, ...]] = {"a": (3, 4), "b": (4,), "c": (1,), "d": (), "e": (2, 0)}
RULES = [
    SGD(0.9, 0.1, 0.01),
    SGD(0.9, nesterov=True),
    Adam(amsgrad=True),
    AdamW(maximize=True),
    RMSprop(momentum=0.5, centered=True),
    Adagrad(0.1, initial_accumulator_value=0.1),
    ClippedByNorm(Adagrad(), 0.5),
    ClippedByValue(ClippedByNorm(RMSprop(), 2.0), 0.3),
]


def drawn(seed: int, dtype: DTypeLike = np.float64) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def bytes_of(arrays: dict[str, Array]) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()}


def test_sgd_moves_in_place_and_skips_what_has_no_gradient() -> None:
    params = {"a": np.array([1.0, 2.0]), "b": np.array([3.0])}
    held = params["a"]
    SGD().step(params, {"a": np.array([1.0, -1.0])}, 0.5)
    assert params["a"] is held
    assert (held.tolist(), params["b"].tolist()) == ([0.5, 2.5], [3.0])


def test_momentum_is_dampened_from_the_second_step_on() -> None:
    optimizer, params = SGD(0.5, 0.25), {"a": np.zeros(1)}
    for expected in (-1.0, -2.25, -3.625):  # velocities 1, .5 + .75, .625 + .75
        optimizer.step(params, {"a": np.ones(1)}, 1.0)
        assert params["a"].tolist() == [expected]


@pytest.mark.parametrize(
    "optimizer", [Adam(eps=0.0), AdamW(eps=0.0, weight_decay=0.0), RMSprop(0.0, 0.0), Adagrad(eps=0.0)]
)
def test_the_first_step_is_the_rate(optimizer: Optimizer) -> None:
    params = {"a": np.zeros(3)}
    optimizer.step(params, {"a": np.array([1e-6, -1.0, 1e6])}, 0.125)
    np.testing.assert_allclose(params["a"], [-0.125, 0.125, -0.125], rtol=1e-15)


def test_decay_beside_the_gradient_shrinks_what_has_a_gradient_of_zero() -> None:
    params = {"a": np.array([2.0])}
    AdamW(weight_decay=0.5).step(params, {"a": np.zeros(1)}, 0.5)
    assert params["a"].tolist() == [1.5]


@pytest.mark.parametrize(("norm_type", "norm"), [(2.0, 5.0), (1.0, 7.0), (float("inf"), 4.0)])
def test_a_norm_is_that_of_all_gradients_together(norm_type: float, norm: float) -> None:
    params, grads = {"a": np.zeros(1), "b": np.zeros(1), "c": np.ones(1)}, {"a": np.array([3.0]), "b": np.array([4.0])}
    ClippedByNorm(SGD(), 1.0, norm_type).step(params, grads, 1.0)
    expected = [-3.0 / (norm + 1e-6), -4.0 / (norm + 1e-6), 1.0]
    np.testing.assert_allclose([float(array[0]) for array in params.values()], expected, rtol=1e-15)
    assert (grads["a"].tolist(), grads["b"].tolist()) == ([3.0], [4.0])


def test_a_norm_that_is_small_enough_or_of_nothing_changes_nothing() -> None:
    optimizer = ClippedByNorm(SGD(), 5.1)
    for grads in ({"a": np.array([3.0, 4.0])}, {"a": np.zeros(2)}, {}):
        assert optimizer.clipped(grads) is grads


def test_a_norm_that_is_not_finite_makes_nan_as_in_torch() -> None:
    for value in (np.nan, np.inf):
        optimizer, grads = ClippedByNorm(SGD(), 1.0), {"a": np.array([1.0, value])}
        (theirs,) = twin_updates(optimizer, {"a": np.zeros(2)}, [(grads, 1.0)])
        with np.errstate(invalid="ignore"):
            params = {"a": np.zeros(2)}
            optimizer.step(params, grads, 1.0)
        np.testing.assert_array_equal(params["a"], theirs["a"])


def test_values_are_moved_to_the_nearest_bound() -> None:
    params = {"a": np.zeros(3)}
    ClippedByValue(SGD(), 0.5).step(params, {"a": np.array([-2.0, 0.25, 0.75])}, 1.0)
    assert params["a"].tolist() == [0.5, -0.25, -0.5]


FOR_NESTEROV = "momentum above 0 and dampening of 0 for nesterov, "


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(SGD, -0.5), "momentum of at least 0, got -0.5"),
        (partial(SGD, weight_decay=float("nan")), "weight_decay of at least 0, got nan"),
        (partial(SGD, nesterov=True), FOR_NESTEROV + "got momentum 0.0 and dampening 0.0"),
        (partial(SGD, 0.9, 0.1, nesterov=True), FOR_NESTEROV + "got momentum 0.9 and dampening 0.1"),
        (partial(Adam, (0.9, 1.0)), "two betas in [0, 1), got (0.9, 1.0)"),
        (partial(AdamW, eps=-1e-8), "eps of at least 0, got -1e-08"),
        (partial(RMSprop, 1.5), "alpha in [0, 1], got 1.5"),
        (partial(Adagrad, -1.0), "lr_decay of at least 0, got -1.0"),
        (partial(ClippedByNorm, SGD(), -1.0), "max_norm of at least 0, got -1.0"),
        (partial(ClippedByNorm, SGD(), 1.0, 0.0), "norm_type above 0, got 0.0"),
        (partial(ClippedByValue, SGD(), -1.0), "clip_value of at least 0, got -1.0"),
        (
            partial(FlatArrays, {"a": np.zeros(1), "b": np.zeros(1, np.float32)}),
            "arrays of one dtype, got float32 and float64",
        ),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    assert needs(ValueError, make) == message


X = np.zeros(2)
GIVEN_TO_STEP = "the parameters and the rate are given to step"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(SGD, [X], 0.1), f"a number as momentum, got a list: {GIVEN_TO_STEP}"),  # type: ignore[arg-type]
        (partial(Adam, 0.1), f"a tuple of two betas, got a float: {GIVEN_TO_STEP}"),  # type: ignore[arg-type]
        (partial(RMSprop, [X]), f"a number as alpha, got a list: {GIVEN_TO_STEP}"),  # type: ignore[arg-type]
        (partial(ClippedByNorm, SGD, 1.0), f"an optimizer, such as SGD(), got {SGD!r}"),  # type: ignore[arg-type]
        (partial(ClippedByValue, SGD(), "1"), f"a number as clip_value, got a str: {GIVEN_TO_STEP}"),  # type: ignore[arg-type]
    ],
)
def test_arguments_of_another_kind_are_refused(make: Callable[[], object], message: str) -> None:
    assert needs(TypeError, make) == message


@pytest.mark.parametrize("optimizer", [Adam(), ClippedByNorm(Adam(), 1.0), ClippedByValue(Adam(), 1.0)])
@pytest.mark.parametrize(
    ("params", "grads", "error", "message"),
    [
        ({"a": X, "b": X}, {"c": X}, ValueError, "needs gradients of a, b, got one of c"),
        (
            {"a": X},
            {"a": None},
            TypeError,
            "needs an array as the gradient of a, got None: leave it out to skip the parameter",
        ),
        ({"a": X}, {"a": [1.0, 2.0]}, TypeError, "needs an array as the gradient of a, got [1.0, 2.0]"),
        ([X], [X], TypeError, "needs params as a dict of arrays by name, got a list"),
        ({"a": X}, [X], TypeError, "needs grads as a dict of arrays by name, got a list"),
    ],
)
def test_gradients_that_are_not_of_the_parameters_are_refused(
    optimizer: Optimizer,
    params: Any,  # noqa: ANN401  the mistakes
    grads: Any,  # noqa: ANN401
    error: type[Exception],
    message: str,
) -> None:
    assert refusal(error, optimizer.step, params, grads, 0.1) == f"{type(optimizer).__name__} {message}"


def test_a_gradient_of_another_shape_is_refused() -> None:
    for params in ({"a": np.zeros((2, 3))}, FlatArrays({"a": np.zeros((2, 3))})):
        with pytest.raises(ShapeError, match=r"^SGD needs the gradient of a of shape \(2, 3\), got \(3, 2\)$"):
            SGD().step(params, {"a": np.ones((3, 2))}, 1.0)


def test_flat_arrays_and_their_copies_are_views_of_one_array() -> None:
    arrays = drawn(0)
    flat = FlatArrays(arrays)
    for each in (flat, copy.deepcopy(flat), pickle.loads(pickle.dumps(flat))):  # noqa: S301  our own
        assert bytes_of(each) == bytes_of(arrays)
        each.flat += 1
        for name, array in arrays.items():
            np.testing.assert_array_equal(each[name], array + 1)
            assert not np.shares_memory(each[name], array)
    assert FlatArrays({}).flat.size == 0


def assert_one_pass_is_a_pass_for_each(case: Case, dtype: DTypeLike, missing_from: int | None) -> None:
    """Take steps of flat arrays and of a plain dict; gradients come in any order, some of them now and then not."""
    rng = case.rng("steps")
    arrays = {name: array.astype(dtype) for name, array in drawn(case.seed).items()}
    plain, flat = {name: array.copy() for name, array in arrays.items()}, FlatArrays(arrays)
    by_tensor, at_once = copy.deepcopy(case.subject), copy.deepcopy(case.subject)
    for index in range(12):
        names = [str(name) for name in rng.permutation(list(arrays))]
        grads = {name: np.asarray(rng.standard_normal(arrays[name].shape), dtype) for name in names}
        if index % 4 == missing_from:
            del grads["b"]
        if index == 8:  # what is kept moves to another object, as one array a tensor
            at_once = copy.deepcopy(at_once)
            at_once.state = {key: array.copy() for key, array in at_once.state.items()}
        by_tensor.step(plain, grads, 0.1)
        at_once.step(flat, grads, 0.1)
        assert bytes_of(flat) == bytes_of(plain)
        assert bytes_of(at_once.state) == bytes_of(by_tensor.state)


@pytest.mark.parametrize("examples", [pytest.param(5, id="few"), pytest.param(10, id="all", marks=pytest.mark.long)])
@pytest.mark.parametrize("rule", OPTIMIZERS, ids=lambda rule: rule.__name__)
def test_one_pass_is_bit_for_bit_what_a_pass_for_each_tensor_is(rule: type[Optimizer], examples: int) -> None:
    for case in drawn_cases(rule, examples, seed=0):
        for dtype in (np.float64, np.float32):
            for missing_from in (None, 0, 2):
                assert_one_pass_is_a_pass_for_each(case, dtype, missing_from)


class JoinedAsTheyCome(SGD):
    """Joins gradients in their own order to move all parameters at once, and not in that of the parameters."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        if isinstance(params, FlatArrays) and grads.keys() == params.keys():
            joined, begin, grads = np.concatenate([grad.ravel() for grad in grads.values()]), 0, {}
            for name, param in params.items():
                grads[name] = joined[begin : begin + param.size].reshape(param.shape)
                begin += param.size
        super().step(params, grads, lr)


class OneCountAtOnce(Adam):
    """Moves all parameters at once by the largest of their counts."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        counts = [array for key, array in self.state.items() if key.startswith("step/")]
        if isinstance(params, FlatArrays) and counts:
            largest = max(counts)
            for count in counts:
                count[...] = largest
        super().step(params, grads, lr)


@pytest.mark.parametrize(("wrong", "missing_from"), [(JoinedAsTheyCome(0.9), None), (OneCountAtOnce(), 0)])
def test_one_pass_that_is_another_is_seen(wrong: Optimizer, missing_from: int | None) -> None:
    with pytest.raises(AssertionError):
        assert_one_pass_is_a_pass_for_each(Case(wrong), np.float64, missing_from)


@pytest.mark.parametrize("optimizer", [SGD(0.9), Adam(), RMSprop(), Adagrad(), ClippedByNorm(Adam(), 1.0)])
def test_what_is_kept_of_flat_parameters_is_gathered_once(optimizer: Optimizer) -> None:
    flat, grads = FlatArrays(drawn(0)), drawn(1)
    optimizer = copy.deepcopy(optimizer)
    optimizer.step(flat, grads, 0.1)
    optimizer.state = {key: array.copy() for key, array in optimizer.state.items()}
    optimizer.step(flat, grads, 0.1)
    kept = dict(optimizer.state)
    optimizer.step(flat, grads, 0.1)
    assert all(optimizer.state[key] is array for key, array in kept.items())
    for slot in {key.partition("/")[0] for key in kept}:
        owners = {id(array.base) for key, array in kept.items() if key.startswith(f"{slot}/")}
        assert len(owners) == 1


@pytest.mark.parametrize("optimizer", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_is_kept_is_named_shaped_and_valued_as_in_torch(optimizer: Optimizer, dtype: DTypeLike) -> None:
    params, optimizer = drawn(0, dtype), copy.deepcopy(optimizer)
    tensors = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in params.items()}
    twin = optimizer.twin(list(tensors.values()), 0.1)
    for seed in (1, 2, 3):
        grads = drawn(seed, dtype)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name])
        optimizer.step(params, grads, 0.1)
        twin.step()
    theirs = {
        f"{slot}/{name}": value.detach().numpy()
        for name, tensor in tensors.items()
        for slot, value in twin.state[tensor].items()
        if value is not None
    }
    assert {k: (a.dtype, a.shape) for k, a in optimizer.state.items()} == {
        k: (a.dtype, a.shape) for k, a in theirs.items()
    }
    for key, array in optimizer.state.items():
        np.testing.assert_allclose(array, theirs[key], rtol=20 * np.finfo(dtype).eps, atol=1e-7 * (dtype is np.float32))


@pytest.mark.short(3)
@pytest.mark.parametrize("optimizer", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize(("dtype", "steps"), later([(np.float64, 6), (np.float64, 20), (np.float32, 6)], 1))
def test_engines_take_the_same_steps(optimizer: Optimizer, dtype: DTypeLike, steps: int) -> None:
    model: Layer = Sequential((Linear.create(12, 8), Sigmoid(), Linear.create(8, 3)))
    initialize(model, np.random.default_rng(0), XavierNormal(), Normal(std=0.1))
    ours, theirs = (
        engine(model.astype(dtype), CrossEntropyLoss(), copy.deepcopy(optimizer))
        for engine in (NumpyEngine, TorchEngine)
    )
    rng = np.random.default_rng(1)
    batches = [Batch(rng.random((4, 12)).astype(dtype), rng.integers(0, 3, 4), 0.01) for _ in range(steps)]
    report = check_trajectory(ours, theirs, batches, sensitivity=False)
    assert report.verdict is Verdict.PASS, report.first_divergence
    assert report.lock_step.uninformative == ()
    theirs.load(ours.state())
    assert bytes_of(theirs.state()) == bytes_of(ours.state())


class ScaledGradients(RMSprop):
    """Scales the gradients of each tensor by another number."""

    def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
        super().step(params, {name: (1 + 3 * i) * grads[name] for i, name in enumerate(grads)}, lr)


def furthest(optimizer: Optimizer, rates: Sequence[float]) -> float:
    """Return how far from its twin, relative to how far both go, an optimizer comes with a step for each rate."""
    before, steps = drawn(0), [(drawn(i + 1), rate) for i, rate in enumerate(rates)]
    theirs, params = twin_updates(optimizer, before, steps)[-1], drawn(0)
    for grads, rate in steps:
        optimizer.step(params, grads, rate)
    return max(float(np.abs((params[k] - theirs[k]) / np.abs(theirs[k] - before[k]).max()).max()) for k in ("a", "b"))


ROUNDING = 1e-13  # of twenty steps in float64, each of some ten operations on numbers near 1


def test_a_rate_in_the_velocity_shows_only_when_it_changes() -> None:
    assert furthest(RateInTheVelocity(0.9), [0.1] * 20) < ROUNDING
    assert furthest(RateInTheVelocity(0.9), [0.1] * 10 + [0.01] * 10) > 0.01


@pytest.mark.parametrize("settings", [{}, {"momentum": 0.9}, {"centered": True}])
def test_scaled_gradients_show_only_beside_eps(settings: dict[str, Any]) -> None:
    assert furthest(ScaledGradients(eps=0.0, **settings), [0.1] * 20) < ROUNDING
    assert furthest(ScaledGradients(eps=0.1, **settings), [0.1] * 20) > 0.01
