"""The engines: pure under observation, resumable from their state, and the same program on rectified networks too."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gradcheck.contract import (
    EVALUATION,
    Array,
    Backward,
    Case,
    Context,
    Gradients,
    Into,
    Key,
    Layer,
    Optimizer,
    Pullback,
    buffer,
    parameter,
    pulled,
)
from gradcheck.numerics.agreement import Verdict
from gradcheck.trajectory import check_trajectory
from gradcheck.trajectory.engine import Batch, Engine, Step, execution_order, observed
from gradcheck.trajectory.faults import GradientFault, GradientScale
from gradcheck.trajectory.reference import ReferenceRounding
from nets.engines.numpy_engine import NumpyEngine
from nets.engines.torch_engine import TorchEngine
from nets.initializers import Normal, XavierNormal, initialize
from nets.layers import (
    ELU,
    AdaptiveAvgPool2d,
    BatchNorm1d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    Flatten,
    LayerNorm,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    Sigmoid,
)
from nets.losses import CrossEntropyLoss, MSELoss
from nets.optimizers import SGD, Adam
from tests.long import later
from tests.nets.faults.sgd import VelocityForgotten
from tests.nets.states import bits

pytestmark = pytest.mark.rounding

if TYPE_CHECKING:
    import torch
    from hypothesis.strategies import SearchStrategy

ENGINES: list[type[NumpyEngine] | type[TorchEngine]] = [NumpyEngine, TorchEngine]


def network(dtype: type = np.float64, activation: type[Layer] = Sigmoid) -> Layer:
    inner = Sequential((Linear.create(20, 8), activation()))
    model = Sequential((Flatten(), inner, Linear.create(8, 3)))
    initialize(model, np.random.default_rng(0), XavierNormal(), Normal(std=0.1))
    return model.astype(dtype)


def batches(count: int, dtype: type = np.float64, size: int = 2) -> list[Batch]:
    rng = np.random.default_rng(1)
    return [Batch(rng.random((size, 4, 5)).astype(dtype), rng.integers(0, 3, size), 0.1) for _ in range(count)]


def momentum() -> SGD:
    return SGD(momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("engine_type", ENGINES)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_run_with_taps_is_bitwise_the_run_without(engine_type: type[Engine], dtype: type) -> None:
    plain, tapped = (engine_type(network(dtype), CrossEntropyLoss(), SGD()) for _ in range(2))  # type: ignore[call-arg]
    for index, batch in enumerate(batches(20, dtype)):
        context = Context(training=True, key=Key(step=index))
        step, shown = plain.step(*batch, context), observed(tapped, batch, context)
        assert step.loss.tobytes() == shown.loss.tobytes()
        assert bits(step.grads) == bits(shown.grads)
    assert bits(plain.state()) == bits(tapped.state())


def test_both_engines_show_the_same_tensors_in_execution_order() -> None:
    (batch,) = batches(1)
    ours, theirs = (
        observed(engine(network(), CrossEntropyLoss(), SGD()), batch, Context(training=True)) for engine in ENGINES
    )
    assert execution_order(theirs) == [
        "data/x",
        "data/y",
        "forward/0.output",
        "forward/1.0.output",
        "forward/1.1.output",
        "forward/1.output",
        "forward/2.output",
        "forward/outputs",
        "loss/loss.value",
        "backward/loss.prediction",
        "backward/2.weight",
        "backward/2.bias",
        "backward/2.input",
        "backward/1.1.input",
        "backward/1.0.weight",
        "backward/1.0.bias",
        "backward/1.0.input",
        "backward/1.input",
        "backward/0.input",
        "update/param/1.0.weight",
        "update/param/1.0.bias",
        "update/param/2.weight",
        "update/param/2.bias",
        "update/step",
    ]
    assert set(execution_order(theirs)) <= set(execution_order(ours))


@pytest.mark.parametrize("engine_type", ENGINES)
@pytest.mark.parametrize("optimizer", [SGD, momentum, Adam])
def test_an_engine_that_loads_a_state_goes_on_bitwise(
    engine_type: Callable[..., Engine], optimizer: Callable[[], Optimizer]
) -> None:
    engine, other = (engine_type(network(), CrossEntropyLoss(), optimizer()) for _ in range(2))
    for index, batch in enumerate(batches(5)):
        engine.step(*batch, Context(training=True, key=Key(step=index)))
    other.load(engine.state())
    for batch in batches(5):
        first, second = (one.step(*batch, Context(training=True)) for one in (engine, other))
        assert first.loss.tobytes() == second.loss.tobytes()
    assert bits(engine.state()) == bits(other.state())
    assert int(other.state()["step"]) == 10


def test_a_copied_engine_is_independent() -> None:
    engine = NumpyEngine(network(), CrossEntropyLoss(), momentum())
    copied, before = copy.deepcopy(engine), engine.state()
    for batch in batches(3):
        copied.step(*batch, Context(training=True))
    assert bits(engine.state()) == bits(before)


def test_a_copied_torch_engine_shows_its_own_taps() -> None:
    engine = TorchEngine(network(), CrossEntropyLoss(), momentum())
    report = check_trajectory(
        engine, TorchEngine(network(), CrossEntropyLoss(), momentum()), batches(10), sensitivity=False
    )
    assert report.lock_step.verdict is not Verdict.FAIL
    assert report.lock_step.ratios.max() == 0


@dataclass(frozen=True, eq=False)
class Scaled(Layer):
    """Anybody's layer: ``f(f(scale x))``, where f is called twice in the context of the layer itself."""

    f: Layer
    scale: Array = parameter()

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        inner, first = self.f.forward(self.scale * x, context)
        y, second = self.f.forward(inner, context)

        def backward(dy: Array) -> tuple[Array, Gradients]:
            dinner, late = second(dy)
            dscaled, early = first(dinner)
            grads = {f"f.{name}": early[name] + late[name] for name in early}
            return self.scale * dscaled, grads | {"scale": np.asarray((dscaled * x).sum())}

        return y, backward

    def twin(self) -> torch.nn.Module:
        raise NotImplementedError

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise NotImplementedError


class WrittenTwice(Scaled):
    """Lets both calls of f write to the same arrays."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        inner, first = self.f.forward(self.scale * x, context)
        y, second = self.f.forward(inner, context)

        def pull(dy: Array, into: Into, needed: bool) -> tuple[Array, Gradients]:
            dinner, late = pulled(second, dy, into.child("f"))
            dscaled, early = pulled(first, dinner, into.child("f"), needed)
            grads = {f"f.{name}": early[name] + late[name] for name in early}
            return self.scale * dscaled, grads | {"scale": np.asarray((dscaled * x).sum())}

        return y, Pullback(pull)


def gradients_agree(model: Layer, optimizer: Optimizer, x: Array) -> bool:
    """Return whether an engine learns from, and shows, the gradients of a pullback that is given no arrays."""
    engine, y, context = NumpyEngine(model, MSELoss(), optimizer), np.ones((len(x), 3)), Context(training=True)
    for _ in range(3):
        outputs, backward = engine.model.forward(x, context)
        value, of_loss = engine.loss.forward(outputs, y)
        _, grads = backward(of_loss(np.ones_like(value)))
        step = engine.step(x, y, 0.1, context)
        if bits(dict(sorted(step.grads.items()))) != bits(dict(sorted(grads.items()))):
            return False
    return True


@pytest.mark.parametrize("optimizer", [SGD, momentum, Adam])
def test_arrays_that_are_kept_for_gradients_change_none(optimizer: Callable[[], Optimizer]) -> None:
    rng = np.random.default_rng(2)
    images = Sequential((Conv2d(rng.random((2, 1, 2, 2)), rng.random(2)), MaxPool2d(2), Flatten(), Linear.create(8, 3)))
    anybodys = Scaled(Linear(rng.random((3, 3)), rng.random(3)), np.asarray(0.5))
    for model, shape in ((network(), (2, 4, 5)), (images, (2, 1, 5, 5)), (Sequential((anybodys,)), (1, 3))):
        assert gradients_agree(model, optimizer(), rng.random(shape))
    assert not gradients_agree(WrittenTwice(anybodys.f, anybodys.scale), optimizer(), rng.random((2, 3)))


def test_what_a_step_shows_lasts_until_the_next_of_the_same_engine() -> None:
    engine = NumpyEngine(network(), CrossEntropyLoss(), momentum())
    other, (first, second) = copy.deepcopy(engine), batches(2)
    step = engine.step(*first, Context(training=True))
    kept = bits({**step.grads, **step.updated})
    other.step(*second, Context(training=True))
    engine.evaluate(second.x)
    assert bits({**step.grads, **step.updated}) == kept


def test_gradients_that_do_not_fit_are_named() -> None:
    class Flat(GradientFault):
        def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
            return grad[None]

    ours = NumpyEngine(network(), CrossEntropyLoss(), SGD()).planted(Flat("2.bias"))
    found = check_trajectory(ours, TorchEngine(network(), CrossEntropyLoss(), SGD()), batches(2)).first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (0, "backward", "2.bias")
    assert found.message == "has shape (1, 3), its parameter (3,)"


def test_a_state_is_a_copy() -> None:
    for engine_type in ENGINES:
        engine = engine_type(network(), CrossEntropyLoss(), SGD())
        state = engine.state()
        engine.step(*batches(1)[0], Context(training=True))
        assert not np.array_equal(state["param/2.weight"], engine.state()["param/2.weight"])


@pytest.mark.short(3)
@pytest.mark.parametrize(("activation", "steps"), later([(ReLU, 6), (ReLU, 40), (Sigmoid, 40)], 1))
@pytest.mark.parametrize(
    ("optimizer", "size", "dtype"),
    [
        (SGD, 1, np.float64),
        (SGD, 1, np.float32),
        (momentum, 7, np.float64),
        (Adam, 1, np.float64),
        (Adam, 7, np.float32),
    ],
)
def test_numpy_and_torch_are_the_same_program(
    activation: type[Layer], steps: int, optimizer: Callable[[], Optimizer], size: int, dtype: type
) -> None:
    ours, theirs = (engine(network(dtype, activation), CrossEntropyLoss(), optimizer()) for engine in ENGINES)
    report = check_trajectory(ours, theirs, batches(steps, dtype, size), sensitivity=False)
    assert report, report.first_divergence
    assert report.lock_step.uninformative == ()


@pytest.mark.parametrize(("scale", "verdict"), [(1.0, Verdict.PASS), (1.5, Verdict.FAIL)])
def test_what_underflows_behind_a_deviation_is_no_fault(scale: float, verdict: Verdict) -> None:
    model = Sequential((Linear.create(8, 4), LayerNorm.create(4), ELU(), Linear.create(4, 3)))
    initialize(model, np.random.default_rng(0), XavierNormal(), Normal(std=0.1))
    for name, array in model.parameters().items():
        array *= {"3.bias": 1.0, "3.weight": 1e-22}.get(name, 1e-20)
    rng = np.random.default_rng(1)
    given = [Batch(rng.standard_normal((32, 8)).astype(np.float32), rng.integers(0, 3, 32), 0.01) for _ in range(6)]
    ours, theirs = (engine(model.astype(np.float32), CrossEntropyLoss(), SGD()) for engine in ENGINES)
    report = check_trajectory(ours.planted(GradientScale("3.bias", scale)), theirs, given, sensitivity=False)
    assert report.verdict is verdict, report.first_divergence


def convolutional(dtype: type) -> Layer:
    block = (Conv2d.create(1, 4, 3, padding=1), MaxPool2d(2), BatchNorm2d.create(4), ReLU(), Dropout(0.25))
    model = Sequential(
        (Sequential(block), Conv2d.create(4, 4, 2, groups=2), Dropout(0.25), Flatten(), Linear.create(16, 3))
    )
    initialize(model, np.random.default_rng(0), XavierNormal(), Normal(std=0.1))
    return model.astype(dtype)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("optimizer", "dtype", "steps"),
    [(SGD, np.float64, 4), (momentum, np.float64, 20), (Adam, np.float64, 20), (Adam, np.float32, 20)],
)
def test_convolutional_networks_are_the_same_program(
    optimizer: Callable[[], Optimizer], dtype: type, steps: int
) -> None:
    rng = np.random.default_rng(1)
    images = [Batch(rng.random((4, 1, 7, 6)).astype(dtype), rng.integers(0, 3, 4), 0.01) for _ in range(steps)]
    ours, theirs = (engine(convolutional(dtype), CrossEntropyLoss(), optimizer()) for engine in ENGINES)
    report = check_trajectory(ours, theirs, images, sensitivity=False)
    assert report, report.first_divergence
    # What the first layer adds everywhere the normalisation takes away: its gradient is nothing but rounding.
    assert {name.rpartition("/")[2] for name in report.lock_step.uninformative} == {"0.0.bias"}
    assert ours.state()["buffer/0.2.num_batches_tracked"] == len(images)


def test_momentum_that_is_forgotten_is_one_of_the_update() -> None:
    class Forgetful(SGD):
        def step(self, params: dict[str, Array], grads: Gradients, lr: float) -> None:
            super().step(params, grads, lr)
            self.state = {slot: array * 0 for slot, array in self.state.items()}

    ours = NumpyEngine(network(), CrossEntropyLoss(), Forgetful(momentum=0.9))
    report = check_trajectory(
        ours, TorchEngine(network(), CrossEntropyLoss(), SGD(momentum=0.9)), batches(3), sensitivity=False
    )
    assert report.first_divergence is not None
    assert (report.first_divergence.step, report.first_divergence.phase) == (0, "update")
    assert report.first_divergence.tensor == "optim/momentum_buffer/1.0.weight"


@pytest.mark.short(1)
@pytest.mark.parametrize(("dtype", "other"), [(np.float64, np.float32), (np.float32, np.float64)])
def test_a_fault_is_not_excused_by_a_second_opinion(dtype: type, other: type) -> None:
    ours = NumpyEngine(network(dtype), CrossEntropyLoss(), SGD()).planted(GradientScale("2.weight", 1.001))
    theirs, opinion = (TorchEngine(network(dtype).astype(one), CrossEntropyLoss(), SGD()) for one in (dtype, other))
    report = check_trajectory(ours, theirs, batches(5, dtype), opinion=opinion, sensitivity=False)
    assert report.first_divergence is not None
    assert (report.first_divergence.step, report.first_divergence.tensor) == (0, "2.weight")


class Cancelling(Layer):
    """The identity, whose twin rounds on a detour, ``(x + 4) - 4``: an error that no shadow of ours shows."""

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        return x.copy(), lambda dy: (dy.copy(), {})

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return (x + 4.0) - 4.0

        return Twin()

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AssertionError("not drawn from")


def unknown(_: ReferenceRounding, names: Mapping[str, float], *__: object) -> dict[str, float]:
    return dict.fromkeys(names, 0.0)


@pytest.mark.parametrize(("dtype", "other"), [(np.float32, np.float64)])
def test_the_references_own_error_widens_the_allowance_and_is_counted(
    dtype: type, other: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Sequential((Flatten(), Cancelling(), Linear.create(20, 3)))
    initialize(model, np.random.default_rng(0), XavierNormal(), Normal(std=0.1))
    model = model.astype(dtype)
    small = [Batch(batch.x * dtype(1e-3), batch.y, batch.lr) for batch in batches(3, dtype)]
    ours = NumpyEngine(model, CrossEntropyLoss(), SGD())
    theirs, opinion = (TorchEngine(model.astype(one), CrossEntropyLoss(), SGD()) for one in (dtype, other))
    state = ours.state()
    rounding = check_trajectory(ours, theirs, small, sensitivity=False)
    assert rounding.lock_step.second_opinions > 0
    assert rounding, rounding.first_divergence
    ours.load(state)
    theirs.load(state)
    monkeypatch.setattr(ReferenceRounding, "by_differences", unknown)
    alone = check_trajectory(ours, theirs, small)
    assert alone.first_divergence is not None
    assert alone.first_divergence.tensor == "1.output"
    ours.load(state)
    theirs.load(state)
    report = check_trajectory(ours, theirs, small, opinion=opinion, sensitivity=False)
    assert report.lock_step.second_opinions > 0
    assert report.lock_step.first_failure is None


def normalised(dtype: type) -> Sequential:
    """Return a network whose normalisation, over thousands of values, takes the bias before it away: it rounds."""
    convolution = (Conv2d.create(1, 4, 3, padding="same"), BatchNorm2d.create(4), ReLU())
    model = Sequential((*convolution, AdaptiveAvgPool2d(3), Flatten(), Linear.create(36, 4)))
    initialize(model, np.random.default_rng(1))
    return model.astype(dtype)


def pictures(count: int, dtype: type, seed: int = 4) -> list[Batch]:
    rng = np.random.default_rng(100 + seed)
    return [Batch(rng.random((16, 1, 20, 20)).astype(dtype), rng.integers(0, 4, 16), 0.01) for _ in range(count)]


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("dtype", "optimizer", "seed", "count"),
    [
        (np.float64, Adam, 4, 2),
        (np.float64, Adam, 4, 5),
        (np.float32, partial(SGD, 0.9), 5, 14),
    ],
)
def test_what_torch_rounds_in_sums_of_thousands_is_no_fault(
    dtype: type, optimizer: Callable[[], Optimizer], seed: int, count: int
) -> None:
    ours, theirs = (engine(normalised(dtype), CrossEntropyLoss(), optimizer()) for engine in ENGINES)
    report = check_trajectory(ours, theirs, pictures(count, dtype, seed), seed=seed, sensitivity=False)
    assert report, report.first_divergence


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("tensor", "dtype"),
    [
        ("0.bias", np.float64),
        ("5.bias", np.float32),
        ("0.weight", np.float64),
        ("1.weight", np.float32),
        ("0.bias", np.float32),
    ],
)
def test_what_torch_rounds_by_excuses_no_wrong_gradient(dtype: type, tensor: str) -> None:
    # The true gradient of 0.bias is zero, and what rounding leaves of it is around 100 eps.
    wrong, step = dtype(1e5 * np.finfo(dtype).eps), 1

    class Slight(GradientFault):
        def wrong(self, grad: Array, previous: Array | None, size: int) -> Array:
            return np.asarray(grad + wrong if tensor == "0.bias" else grad * dtype(1.0001))

    ours = NumpyEngine(normalised(dtype), CrossEntropyLoss(), Adam()).planted(Slight(tensor, begin=step))
    found = check_trajectory(
        ours, TorchEngine(normalised(dtype), CrossEntropyLoss(), Adam()), pictures(step + 1, dtype), sensitivity=False
    ).first_divergence
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (step, "backward", tensor)


@pytest.mark.long
@pytest.mark.parametrize(("dtype", "bias"), later([(np.float64, 1 / 6400), (np.float32, 1e-2)], 1))
def test_what_torch_rounds_by_excuses_no_biased_running_variance(dtype: type, bias: float) -> None:
    class Biased(BatchNorm2d):
        def _track(self, context: Context, mean: Array, variance: Array) -> None:
            super()._track(context, mean, variance * dtype(1 - bias))

    model = normalised(dtype)
    norm = model.layers[1]
    assert isinstance(norm, BatchNorm2d)
    biased = Biased(norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.num_batches_tracked)
    faulty = Sequential((model.layers[0], biased, *model.layers[2:]))
    ours, theirs = (
        engine(one, CrossEntropyLoss(), SGD()) for engine, one in zip(ENGINES, (faulty, model), strict=True)
    )
    report = check_trajectory(ours, theirs, pictures(3, dtype), sensitivity=False)
    assert report.lock_step.failed_steps == (0, 1, 2)
    assert report.lock_step.first_failure is not None
    assert report.lock_step.first_failure.tensor == "buffer/1.running_var"


@pytest.mark.long
@pytest.mark.parametrize("dtype", later([np.float64, np.float32], 1))
def test_what_torch_rounds_by_excuses_no_forgotten_momentum(dtype: type) -> None:
    ours = NumpyEngine(normalised(dtype), CrossEntropyLoss(), VelocityForgotten(momentum=0.9))
    theirs = TorchEngine(normalised(dtype), CrossEntropyLoss(), SGD(momentum=0.9))
    report = check_trajectory(ours, theirs, pictures(4, dtype), sensitivity=False)
    assert report.lock_step.failed_steps == (1, 2, 3)


def test_what_torch_rounds_by_excuses_no_drift_that_lock_step_cannot_see() -> None:
    class Drifting(NumpyEngine):
        def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
            step = super().step(x, y, lr, context)
            shown = replace(step, updated=self.state())
            self.params["0.bias"] += 1e-13
            return shown

        def __deepcopy__(self, memo: dict[int, object]) -> NumpyEngine:
            return Drifting(self.model, self.loss, copy.deepcopy(self.optimizer, memo))

    ours = Drifting(normalised(np.float64), CrossEntropyLoss(), SGD())
    theirs = TorchEngine(normalised(np.float64), CrossEntropyLoss(), SGD())
    report = check_trajectory(ours, theirs, pictures(5, np.float64), sensitivity=False)
    assert report.lock_step.verdict is Verdict.PASS
    assert report.free_run.first_failure is not None
    assert report.free_run.first_failure.tensor == "param/0.bias"


class ChannelsLast(TorchEngine):
    """Torch with another layout of its arrays, in which its sums round otherwise."""

    def __init__(self, *given: object) -> None:
        import torch

        super().__init__(*given)  # type: ignore[arg-type]
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch gives it no type
        self.module.register_forward_pre_hook(lambda _, given: (given[0].to(memory_format=torch.channels_last),))

    def __deepcopy__(self, memo: dict[int, object]) -> TorchEngine:
        other = ChannelsLast(self.parts[0].astype(self.dtype), *self.parts[1:])
        other.load(self.state())
        return other


@pytest.mark.long
def test_what_lock_step_excuses_by_the_rounding_of_the_reference_free_run_does() -> None:
    layers = (Conv2d.create(1, 4, 3, padding=1), BatchNorm2d.create(4), ReLU(), AdaptiveAvgPool2d((1, 1)), Flatten())
    model = Sequential((*layers, Linear.create(4, 4)))
    initialize(model, np.random.default_rng(2), XavierNormal(), Normal(std=0.1))
    rng = np.random.default_rng(2)
    given = [Batch(rng.random((16, 1, 14, 14)).astype(np.float32) ** 4, rng.integers(0, 4, 16), 0.01) for _ in range(3)]
    parts = model.astype(np.float32), CrossEntropyLoss(), SGD()
    report = check_trajectory(TorchEngine(*parts), ChannelsLast(*parts), given, sensitivity=False)
    assert report, report.first_divergence
    wrong = TorchEngine(*parts).planted(GradientScale("5.weight", 1.001))
    assert not check_trajectory(wrong, ChannelsLast(*parts), given, sensitivity=False)


@dataclass(frozen=True, eq=False)
class Running(Layer):
    """Subtracts nothing, and keeps the mean of its last training batch: a layer with a buffer."""

    mean: Array = buffer()

    def forward(self, x: Array, context: Context = EVALUATION) -> tuple[Array, Backward]:
        if context.training:
            context.update("mean", x.mean(axis=0))
        return x.copy(), lambda dy: (dy.copy(), {})

    def twin(self) -> torch.nn.Module:
        import torch

        class Twin(torch.nn.Module):
            mean: torch.Tensor

            def __init__(self, size: int) -> None:
                super().__init__()
                self.register_buffer("mean", torch.zeros(size))

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                if self.training:
                    with torch.no_grad():
                        self.mean.copy_(x.mean(dim=0))
                return x

        return Twin(len(self.mean))

    @classmethod
    def cases(cls) -> SearchStrategy[Case]:
        raise AssertionError("not drawn from")


def test_buffers_are_committed_by_the_engine_and_compared() -> None:
    model = Sequential((Flatten(), Running(np.zeros(20)), Linear.create(20, 3)))
    initialize(model, np.random.default_rng(0), XavierNormal(), Normal(std=0.1))
    ours, theirs = NumpyEngine(model, MSELoss(), SGD()), TorchEngine(model, MSELoss(), SGD())
    targets = [Batch(batch.x, np.eye(3)[batch.y], batch.lr) for batch in batches(20)]
    report = check_trajectory(ours, theirs, targets, sensitivity=False)
    assert report, report.first_divergence
    np.testing.assert_allclose(ours.state()["buffer/1.mean"], targets[-1].x.reshape(2, 20).mean(axis=0), rtol=1e-15)
    ours.model.forward(targets[0].x, Context(training=True))  # a pass without a place for updates changes nothing
    np.testing.assert_allclose(ours.model.buffers()["1.mean"], targets[-1].x.reshape(2, 20).mean(axis=0), rtol=1e-15)


def test_statistics_are_kept_without_a_place_for_updates() -> None:
    model = Sequential((BatchNorm1d.create(3), Linear.create(3, 2)))
    engine, context = NumpyEngine(model, MSELoss(), SGD()), Context(training=True)
    engine.step(np.arange(6.0).reshape(2, 3), np.zeros((2, 2)), 0.1, context)
    assert engine.state()["buffer/0.num_batches_tracked"] == 1
    assert context.updates is None


def test_a_layer_that_is_used_twice_is_refused() -> None:
    layer = Linear.create(3, 3)
    with pytest.raises(ValueError, match=r"needs arrays of their own, got one for 0\.weight and 1\.weight: make two"):
        NumpyEngine(Sequential((layer, layer)), MSELoss(), SGD())
    relu = ReLU()
    assert not NumpyEngine(Sequential((relu, relu)), MSELoss(), SGD()).params  # it has no arrays


def test_a_loss_of_many_numbers_is_refused() -> None:
    engine = NumpyEngine(Linear.create(3, 2), MSELoss(reduction="none"), SGD())
    with pytest.raises(ValueError, match=r"needs a loss of one number, got shape \(4, 2\): reduce it"):
        engine.step(np.ones((4, 3)), np.ones((4, 2)), 0.1, Context(training=True))
