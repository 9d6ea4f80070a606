"""Mistakes in writing an engine are found before it is judged: mended and told, or refused in one sentence."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradcheck.contract import Array, Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory import TrajectoryReport, check_trajectory
from gradcheck.trajectory.check import Silence, check_evaluation
from gradcheck.trajectory.engine import Batch, Engine, State, Step
from gradcheck.trajectory.probing import Trait
from gradcheck.trajectory.recording import record, record_along
from gradcheck.trajectory.trace import Trace
from gradcheck.trajectory.trace_comparison import compare_traces
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights


class Plain(Engine):
    """Least squares, updated in place. What subclasses do to it is no fault of the mathematics."""

    name = "param/0.weight"

    def __init__(self) -> None:
        self.w, self.steps = weights(), 0

    def state(self) -> State:
        return {self.name: self.w.copy(), "step": np.asarray(self.steps)}

    def load(self, state: Mapping[str, Array]) -> None:
        self.w, self.steps = state[self.name].copy(), int(state["step"])

    def gradient(self, grad: Array) -> Array:
        return grad

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        out = context.tapped("forward", "0.output", x @ self.w)
        error = context.tapped("backward", "0.input", out - y)
        grad = self.gradient(error @ x)
        self.w -= lr * grad
        self.steps += 1
        return Step(np.asarray((error @ error) / 2), out, {"0.weight": grad}, self.state())


class OwnArrays(Plain):
    """Shows its own array."""

    def state(self) -> State:
        return {self.name: self.w, "step": np.asarray(self.steps)}


class KeptArrays(Plain):
    """Keeps the array that it is given."""

    def load(self, state: Mapping[str, Array]) -> None:
        self.w, self.steps = state[self.name], int(state["step"])


class Numbers(Plain):
    """Counts its steps by an int."""

    def state(self) -> State:
        return {self.name: self.w.copy(), "step": self.steps}  # type: ignore[dict-item]


class Tensors(Plain):
    """Shows tensors, and loads nothing else."""

    def state(self) -> State:
        import torch

        return {self.name: torch.tensor(self.w), "step": torch.tensor(self.steps)}  # type: ignore[dict-item]

    def load(self, state: Mapping[str, Array]) -> None:
        self.w, self.steps = state[self.name].clone().numpy(), int(state["step"])  # type: ignore[attr-defined]


class Uncounted(Plain):
    """Shows no number of steps."""

    def state(self) -> State:
        return {self.name: self.w.copy()}

    def load(self, state: Mapping[str, Array]) -> None:
        assert set(state) == {self.name}
        self.w = state[self.name].copy()


class Bare(Plain):
    """Names its weight as its gradient."""

    name = "0.weight"


class Velocity(Plain):
    """Keeps a velocity that its state does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.v = np.zeros(6)

    def gradient(self, grad: Array) -> Array:
        self.v = 0.9 * self.v + grad
        return grad

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        before = self.w.copy()
        step = super().step(x, y, lr, context)
        self.w = before - lr * self.v
        return replace(step, updated=self.state())


class Accumulates(Plain):
    """Adds its gradients up."""

    def __init__(self) -> None:
        super().__init__()
        self.g = np.zeros(6)

    def gradient(self, grad: Array) -> Array:
        self.g = self.g + grad
        return self.g.copy()


class Phases(Plain):
    """Taps an array in a phase that there is not."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        context.tapped("foo", "bar", x)  # type: ignore[arg-type]
        return super().step(x, y, lr, context)


class Untapped(Plain):
    """Shows no intermediate."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        return super().step(x, y, lr, Context())


class Noisy(Plain):
    """Draws from a generator, of NumPy or of Python, its own, or that of the step."""

    def __init__(self, draw: str) -> None:
        super().__init__()
        self.rng = np.random.default_rng(3)
        self.draw, self.key = draw, Key()

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        self.key = context.key
        return super().step(x, y, lr, context)

    def gradient(self, grad: Array) -> Array:
        if self.draw == "own":
            return grad * self.rng.uniform(0.5, 1.0)
        if self.draw == "key":
            return grad * self.key.generator().uniform(0.5, 1.0)
        drawn = np.random.uniform(0.5, 1.0) if self.draw == "numpy" else random.uniform(0.5, 1.0)  # noqa: NPY002, S311
        return grad * drawn


class Restless(Plain):
    """Gives other numbers whenever it is asked."""

    calls = itertools.count()

    def gradient(self, grad: Array) -> Array:
        return grad * (1 + 0.01 * next(Restless.calls))


def checked(ours: Engine, theirs: Engine, count: int = 8) -> TrajectoryReport:
    """Return the report on two engines."""
    return check_trajectory(ours, theirs, batches(count), sensitivity=False)


def traits(report: TrajectoryReport) -> set[tuple[str, Trait]]:
    return {(note.side, note.trait) for note in report.notes}


def test_nothing_is_told_of_engines_as_they_should_be() -> None:
    for engine in (Plain, lambda: Neuron(weights())):
        report = checked(engine(), engine())
        assert report
        assert report.notes == ()


@pytest.mark.short(4)
@pytest.mark.parametrize(
    ("kind", "trait", "told"),
    [
        (OwnArrays, Trait.OWN_ARRAYS, "return array.copy()"),
        (KeptArrays, Trait.KEPT_ARRAYS, "keep array.copy()"),
        (Numbers, Trait.CONVERTED, "which were made arrays: step"),
        (Tensors, Trait.CONVERTED, "which were made arrays: param/0.weight, step"),
        (Uncounted, Trait.COUNTED, "has no 'step'"),
        (Bare, Trait.RENAMED, "param/0.weight for 0.weight"),
        (Phases, Trait.UNKNOWN_PHASES, "taps foo/bar"),
    ],
)
def test_what_can_be_mended_is_and_is_told(kind: Callable[[], Engine], trait: Trait, told: str) -> None:
    for ours, theirs, side in ((kind(), Plain(), "ours"), (Plain(), kind(), "theirs")):
        report = checked(ours, theirs)
        assert report
        assert traits(report) == {(side, trait)}
        assert told in " ".join(str(report).split())
        (note,) = json.loads(report.to_json())["notes"]
        assert (note["side"], note["trait"]) == (side, str(trait))
    mine, other = (np.asarray(next(iter(engine.state().values()))) for engine in (ours, theirs))
    assert np.array_equal(mine, other)  # both are left as trained


def test_one_object_is_compared_with_a_copy_of_itself() -> None:
    one = Plain()
    report = checked(one, one)
    assert report
    assert traits(report) == {("ours", Trait.ONE_OBJECT)}
    assert one.steps == 8


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        (Plain, "ours is the class Plain; give an instance, Plain"),
        (object(), "ours is a object, which is no Engine; derive its class from gradcheck.Engine"),
    ],
    ids=["class", "object"],
)
def test_what_is_no_engine_is_refused(engine: Any, message: str) -> None:  # noqa: ANN401  that is the point
    with pytest.raises(AdapterError) as caught:
        checked(engine, Plain())
    assert str(caught.value).startswith(message)


class Locked(Plain):
    """Cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class Itself(Plain):
    """Is its own copy."""

    def __deepcopy__(self, memo: object) -> Itself:
        return self


class Shallow(Plain):
    """Shares its array with its copy."""

    def __deepcopy__(self, memo: object) -> Shallow:
        other = Shallow()
        other.w = self.w
        return other


class Nothing(Plain):
    """Returns no step."""

    def step(self, *args: Any) -> Step:  # noqa: ANN401
        super().step(*args)
        return None  # type: ignore[return-value]


class Renamed(Plain):
    """Calls its gradient otherwise than its weight."""

    def step(self, *args: Any) -> Step:  # noqa: ANN401
        step = super().step(*args)
        return replace(step, grads={"w": step.grads["0.weight"]})


class Gradless(Plain):
    """Shows no gradient."""

    def step(self, *args: Any) -> Step:  # noqa: ANN401
        return replace(super().step(*args), grads={})


class Misnamed(Plain):
    """Calls its weight like nothing that is known."""

    name = "w"


class Transposed(Plain):
    """Shows its weight with another axis."""

    def state(self) -> State:
        return {self.name: self.w[:, None].copy(), "step": np.asarray(self.steps)}

    def load(self, state: Mapping[str, Array]) -> None:
        self.w, self.steps = state[self.name][:, 0].copy(), int(state["step"])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Locked, "ours cannot be copied, copy.deepcopy(Locked) raises TypeError: cannot pickle"),
        (Itself, "ours cannot be copied, copy.deepcopy(Itself) returns the engine itself; write a __deepcopy__"),
        (
            Shallow,
            "ours cannot be copied: a step of copy.deepcopy(Shallow) changed param/0.weight of the engine",
        ),
        (Nothing, "ours: step() of Nothing returns None; it is to return Step(loss, outputs, grads, self.state())"),
        (Renamed, "ours shows no gradient called 0.weight, but one called w; name gradients as parameters"),
        (Gradless, "ours shows no gradient called 0.weight; name gradients as parameters"),
        (
            Misnamed,
            "ours: state() has 'w', which is no param/..., buffer/..., optim/SLOT/... or step; if it is t",
        ),
        (
            Transposed,
            "both states need the same names and shapes:\n  param/0.weight (6, 1) in ours has shape (6,) in the ref",
        ),
    ],
)
def test_what_cannot_be_mended_is_refused(kind: Callable[[], Engine], message: str) -> None:
    engine = kind()
    with pytest.raises(AdapterError) as caught:
        checked(engine, Plain())
    assert str(caught.value).startswith(message)
    assert np.array_equal(np.ravel(next(iter(engine.state().values()))), weights())  # nothing has happened to it


class InPlace(Plain):
    """Writes what it loads into its array, which `Shallow` shares."""

    def load(self, state: Mapping[str, Array]) -> None:
        self.w[:] = state[self.name]
        self.steps = int(state["step"])

    def evaluate(self, x: Array, context: Context) -> Array:
        return context.tapped("forward", "0.output", x @ self.w)


class SharedInPlace(InPlace, Shallow):
    """Shares its array with its copy."""

    def __deepcopy__(self, memo: object) -> SharedInPlace:
        other = SharedInPlace()
        other.w = self.w
        return other


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Itself, "ours cannot be copied, copy.deepcopy(Itself) returns the engine itself"),
        (Shallow, "ours cannot be copied: a step of copy.deepcopy(Shallow) changed param/0.weight of the engine"),
        (Nothing, "ours: step() of Nothing returns None"),
    ],
)
def test_what_cannot_be_mended_is_not_recorded(kind: Callable[[], Engine], message: str, tmp_path: Path) -> None:
    engine = kind()
    with pytest.raises(AdapterError) as caught:
        record(engine, batches(2), tmp_path / "trace", program="mine")
    assert str(caught.value).startswith(message)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("kind", [OwnArrays, KeptArrays, Tensors, Bare])
def test_what_can_be_mended_is_recorded_as_if_it_were_right(kind: Callable[[], Engine], tmp_path: Path) -> None:
    told = record(kind(), batches(4), tmp_path / "ours", program="mine")
    assert {note.trait for note in told.notes} <= {
        Trait.OWN_ARRAYS, Trait.KEPT_ARRAYS, Trait.CONVERTED, Trait.RENAMED,
    }  # fmt: skip
    assert told.notes
    right = record(Plain(), batches(4), tmp_path / "theirs", program="right")
    assert not right.notes
    ours, theirs = (list(Trace(tmp_path / name).steps()) for name in ("ours", "theirs"))
    for a, b in zip(ours, theirs, strict=True):
        assert {name: array.tolist() for name, array in a.tensors().items()} == {
            name: array.tolist() for name, array in b.tensors().items()
        }
    record(Neuron(weights()), batches(4), tmp_path / "neuron", program="neuron", shadows=0)
    along = record_along(kind(), Trace(tmp_path / "neuron"), tmp_path / "along", program="mine")
    assert {note.trait for note in along.notes} == {note.trait for note in told.notes}
    assert compare_traces(Trace(tmp_path / "along"), Trace(tmp_path / "neuron"))


def test_an_evaluation_tries_its_engines() -> None:
    x = batches(1)[0].x
    assert check_evaluation(InPlace(), InPlace(), x)
    shared = SharedInPlace()
    with pytest.raises(
        AdapterError, match=r"ours cannot be copied: load\(\) of copy.deepcopy\(SharedInPlace\) changed"
    ):
        check_evaluation(shared, InPlace(), x)
    assert np.array_equal(shared.w, weights())
    with pytest.raises(AdapterError, match="ours is the class InPlace; give an instance"):
        check_evaluation(InPlace, InPlace(), x)  # type: ignore[arg-type]
    other = InPlace()
    other.name = "param/other"
    with pytest.raises(AdapterError, match="only ours has param/other"):
        check_evaluation(other, InPlace(), x)
    bare = InPlace()
    bare.name = "buffer/0.weight"
    with pytest.raises(AdapterError, match="both states need the same names and shapes"):
        check_evaluation(bare, InPlace(), x)


def test_an_evaluation_that_draws_from_a_global_generator_is_put_back_and_told() -> None:
    class Noisy(InPlace):
        def evaluate(self, x: Array, context: Context) -> Array:
            return super().evaluate(x, context) + np.random.rand()  # noqa: NPY002  what is found

    report = check_evaluation(Noisy(), Noisy(), batches(1)[0].x)
    assert report, report.first_divergence
    assert [note.trait for note in report.notes] == [Trait.GLOBAL_GENERATOR] * 2
    assert "note: ours draws random numbers from the global generator np.random" in str(report).replace("\n    ", " ")


class Momentum(Tensors):
    """Makes its velocity, a tensor, in its first step, and loads nothing but tensors."""

    key = "optim/momentum_buffer/0.weight"

    def __init__(self) -> None:
        super().__init__()
        self.v: Array | None = None

    def state(self) -> State:
        import torch

        made: Any = {} if self.v is None else {self.key: torch.tensor(self.v)}
        return super().state() | made

    def load(self, state: Mapping[str, Array]) -> None:
        super().load(state)
        self.v = state[self.key].clone().numpy() if self.key in state else None  # type: ignore[attr-defined]

    def gradient(self, grad: Array) -> Array:
        self.v = grad if self.v is None else 0.9 * self.v + grad
        return grad

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        before = self.w.copy()
        step = super().step(x, y, lr, context)
        assert self.v is not None
        self.w = before - lr * self.v
        return replace(step, updated=self.state())


def test_a_tensor_that_is_made_in_the_first_step_is_loaded_as_one() -> None:
    report = checked(Momentum(), Momentum())
    assert report, report.first_divergence
    assert {note.trait for note in report.notes} == {Trait.CONVERTED}


class HalfWay(Plain):
    """Goes back half way every fifth step, to where no state says."""

    def __init__(self) -> None:
        super().__init__()
        self.slow, self.taken = self.w.copy(), 0

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        step = super().step(x, y, lr, context)
        self.taken += 1
        if self.taken % 5 == 0:
            self.slow = (self.slow + self.w) / 2
            self.w = self.slow.copy()
        return replace(step, updated=self.state())


def test_what_a_reference_begins_to_carry_late_is_no_rounding_of_it() -> None:
    report = check_trajectory(Plain(), HalfWay(), batches(8), sensitivity=False)
    assert report.first_divergence is not None
    assert (report.first_divergence.step, report.first_divergence.tensor) == (4, "param/0.weight")
    assert report.free_run.first_failure is not None
    assert report.free_run.first_failure.step == 4


def test_other_names_and_values_at_the_start_are_listed() -> None:
    other = Plain()
    other.name = "param/first.weight"
    with pytest.raises(AdapterError) as caught:
        checked(Plain(), other)
    assert str(caught.value).splitlines()[1:] == [
        "  only ours has param/0.weight (6,)",
        "  only the reference has param/first.weight (6,)",
        "  write param/0.weight as param/first.weight, if it is the same",
    ]
    moved = Plain()
    moved.w[2] = 7.0
    with pytest.raises(AdapterError, match=r"param/0.weight\[2\] is 7.0 in ours, .* in the reference"):
        checked(moved, Plain())
    with pytest.raises(AdapterError, match=r"param/0.weight is float32 in ours and is float64 in the reference"):
        checked(Neuron(weights().astype(np.float32)), Neuron(weights()))


def test_batches_that_are_none_are_refused() -> None:
    pairs: Any = [(batch.x, batch.y) for batch in batches(3)]
    with pytest.raises(AdapterError, match=r"^a batch is a tuple of 2; write Batch\(x, y, lr\), whose last is the l"):
        check_trajectory(Plain(), Plain(), pairs, sensitivity=False)
    triples: Any = (tuple(batch) for batch in batches(3))
    assert check_trajectory(Plain(), Plain(), triples, sensitivity=False)


def test_one_buffer_may_hold_every_batch() -> None:
    def reused() -> Any:  # noqa: ANN401  a generator of batches
        x = np.empty((2, 6))
        for batch in batches(8):
            x[...] = batch.x
            yield Batch(x, batch.y, batch.lr)

    one, other = Plain(), Plain()
    assert check_trajectory(one, Plain(), reused(), sensitivity=False)
    assert check_trajectory(other, Plain(), batches(8), sensitivity=False)
    assert np.array_equal(one.w, other.w)


@pytest.mark.parametrize("kind", [Velocity, Accumulates])
def test_hidden_state_on_one_side_fails_where_it_first_counts(kind: Callable[[], Engine]) -> None:
    for ours, theirs, side in ((kind(), Plain(), "ours"), (Plain(), kind(), "theirs")):
        report = checked(ours, theirs)
        assert report.verdict is Verdict.FAIL
        assert report.first_divergence is not None
        assert report.first_divergence.step == 1
        assert traits(report) == {(side, Trait.HIDDEN)}
        assert "has hidden state" in str(report)


@pytest.mark.parametrize("kind", [Velocity, Accumulates])
def test_hidden_state_on_both_sides_is_carried_along(kind: Callable[[], Engine]) -> None:
    report = checked(kind(), kind(), 30)
    assert report
    assert traits(report) == {("ours", Trait.HIDDEN), ("theirs", Trait.HIDDEN)}
    assert report.sensitivity is None


def test_global_generators_are_put_back_before_each_step() -> None:
    stood = random.getstate()
    report = checked(Noisy("python"), Noisy("python"))
    assert report
    assert traits(report) == {("ours", Trait.GLOBAL_GENERATOR), ("theirs", Trait.GLOBAL_GENERATOR)}
    assert random.getstate() == stood
    assert checked(Noisy("numpy"), Noisy("numpy"))


def test_a_generator_of_its_own_is_carried_along() -> None:
    report = checked(Noisy("own"), Noisy("own"))
    assert report
    assert {trait for _, trait in traits(report)} == {Trait.OWN_GENERATOR}


@pytest.mark.short(1)
@pytest.mark.parametrize("others", [("numpy", "python"), ("key", "numpy"), ("own", "key")])
def test_programs_that_draw_other_numbers_are_not_accused(others: tuple[str, str]) -> None:
    report = checked(Noisy(others[0]), Noisy(others[1]))
    assert (report.verdict, report.silence) == (Verdict.INCONCLUSIVE, Silence.OTHER_DRAWS)


def test_numbers_that_one_side_alone_draws_are_a_difference() -> None:
    assert checked(Noisy("key"), Noisy("key"))
    assert checked(Noisy("numpy"), Plain()).verdict is Verdict.FAIL


def test_an_engine_that_does_not_repeat_itself_is_not_accused() -> None:
    report = checked(Restless(), Restless())
    assert (report.verdict, report.silence) == (Verdict.INCONCLUSIVE, Silence.NOT_REPEATABLE)


def test_without_taps_only_what_no_rounding_explains_fails() -> None:
    assert checked(Untapped(), Untapped())
    wrong = Untapped()
    wrong.gradient = lambda grad: 1.01 * grad  # type: ignore[method-assign]
    report = checked(wrong, Untapped())
    assert report.verdict is Verdict.FAIL
    slightly = Untapped()
    slightly.gradient = lambda grad: (1 + 1e-12) * grad  # type: ignore[method-assign]
    report = checked(slightly, Untapped())
    assert (report.verdict, report.silence) == (Verdict.INCONCLUSIVE, Silence.NO_TAPS)
    assert "taps are missing" in " ".join(str(report).split())


def test_without_gradients_on_both_sides_nothing_is_told() -> None:
    report = checked(Gradless(), Gradless())
    assert (report.verdict, report.silence) == (Verdict.INCONCLUSIVE, Silence.NO_GRADIENTS)


class Late(Neuron):
    """Chaotic, and from a step on with a velocity that no state shows."""

    begin, kept = 10**9, np.zeros(6)

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        before = self.weight.copy()
        step = super().step(x, y, lr, context)
        move = context.tapped("update", "map", 4 * before * (1 - before)) - before
        self.weight, kept, self.kept = before + move, self.kept, move
        if self.steps > self.begin:
            self.weight = (self.weight + 0.3 * kept) % 1.0
        return replace(step, updated=self.state())


class LateFrom(Late):
    """Keeps it from step 80 on."""

    begin = 80


@pytest.mark.long
def test_hidden_state_that_begins_beyond_the_horizon_is_found() -> None:
    start = np.random.default_rng(0).uniform(0.1, 0.9, 6)
    same = check_trajectory(Late(start), Late(start, direction=-1), batches(100), sensitivity=False)
    assert same
    assert same.free_run.horizon_step is not None
    assert same.free_run.horizon_step < 80
    report = check_trajectory(LateFrom(start), Late(start), batches(100), sensitivity=False)
    assert report.verdict is Verdict.FAIL
    assert report.lock_step.hidden_from == 80
    assert report.first_divergence is not None
    assert report.first_divergence.step == 80
    assert "from step 80 on, ours carries something over" in " ".join(str(report).split())
    other = check_trajectory(Late(start), LateFrom(start), batches(100), sensitivity=False).first_divergence
    assert other is not None
    assert other.step == 80
    both = check_trajectory(LateFrom(start), LateFrom(start), batches(100), sensitivity=False)
    assert both.verdict is not Verdict.FAIL
    assert both.lock_step.hidden_from == 80
