"""Traces: what is written is read, what is damaged is named, and two are told apart without their programs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gradcheck.contract import Array, Context
from gradcheck.numerics.agreement import Verdict
from gradcheck.report.traces import describe_traces, summarise_traces
from gradcheck.trajectory.engine import Batch, Step, execution_order, observed, step_of, tensors_of
from gradcheck.trajectory.recording import record, record_along
from gradcheck.trajectory.trace import Entry, Header, Trace, TraceError
from gradcheck.trajectory.trace_comparison import Obstacle, compare_traces
from tests.gradcheck.trajectory.neuron import Neuron, batches, weights

STEPS = 12


def recorded(
    folder: Path,
    engine: Neuron | None = None,
    steps: Iterable[Batch] | None = None,
    *,
    every: int = 1,
    shadows: int = 3,
) -> Trace:
    """Return the trace of an engine that trained by itself."""
    steps = batches(STEPS) if steps is None else steps
    record(engine or Neuron(weights()), steps, folder, program="neuron", every=every, shadows=shadows)
    return Trace(folder)


def followed(folder: Path, trace: Trace, engine: Neuron | None = None, *, shadows: int = 24) -> Trace:
    """Return the trace of an engine that took the steps of another."""
    record_along(engine or Neuron(weights(seed=9)), trace, folder, program="follower", shadows=shadows)
    return Trace(folder)


def scaled(factor: float, begin: int = 0) -> Callable[[int, Array], Array]:
    return lambda step, grad: grad * factor if step >= begin else grad


def test_what_is_written_is_read(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "trace")
    assert (trace.header.program, trace.header.dtype, trace.header.noise) == ("neuron", "float64", "free")
    engine = Neuron(weights())
    for index, (batch, one) in enumerate(zip(batches(STEPS), trace.steps(), strict=True)):
        state, step = engine.state(), observed(engine, batch, Context(training=True))
        tensors = one.tensors()
        assert list(tensors) == execution_order(step)
        assert all(np.array_equal(array, tensors_of(step)[name]) for name, array in tensors.items())
        assert (one.entry.step, one.entry.lr, one.entry.loss) == (index, 0.01, float(step.loss))
        before = one.before()
        assert before.keys() == state.keys()
        assert all(np.array_equal(before[key], state[key]) for key in state)
        assert one.batch(tensors).x.tobytes() == batch.x.tobytes()
        assert set(one.entry.noise) == {name for name in tensors if not name.startswith("data/")} - {"update/step"}


class Untapped(Neuron):
    """A neuron that shows taps, and ignores what they return."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        return super().step(x, y, lr, context.tapped_by(lambda name, array: (context.tap(name, array), array)[1]))


def test_an_engine_that_ignores_its_taps_has_noise_of_nudged_inputs_and_parameters(tmp_path: Path) -> None:
    theirs = recorded(tmp_path / "theirs", Neuron(weights(), direction=-1), shadows=0)
    free = recorded(tmp_path / "free", Untapped(weights()), shadows=24)
    along = followed(tmp_path / "along", theirs, Untapped(weights()))
    for ours in (free, along):
        assert all(one.entry.noise["backward/0.weight"] > 0 for one in ours.steps())
        assert compare_traces(ours, theirs)
    wrong = followed(tmp_path / "wrong", theirs, Untapped(weights(), corrupt=scaled(1 + 1e-10)))
    found = compare_traces(wrong, theirs).first_divergence
    assert found is not None
    assert (found.step, found.tensor) == (0, "0.weight")


def test_a_step_is_what_its_tensors_say() -> None:
    step = observed(Neuron(weights()), batches(1)[0], Context(training=True))
    again = step_of({name: tensors_of(step)[name] for name in execution_order(step)})
    assert execution_order(again) == execution_order(step)
    assert list(again.grads) == list(step.grads)
    assert again.updated.keys() == step.updated.keys()


def test_the_same_recording_has_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        followed(tmp_path / f"along {name}", recorded(tmp_path / name))
    for first, second in (("a", "b"), ("along a", "along b")):
        files = [path.relative_to(tmp_path / first) for path in (tmp_path / first).rglob("*.*")]
        assert len(files) == STEPS + 1
        assert all((tmp_path / first / path).read_bytes() == (tmp_path / second / path).read_bytes() for path in files)


def test_noise_grows_with_a_run_and_not_along_another(tmp_path: Path) -> None:
    chaos = [batch._replace(lr=0.8) for batch in batches(60)]
    free = recorded(tmp_path / "free", steps=chaos)
    along = followed(tmp_path / "along", free, shadows=3)
    noise = {
        trace.header.program: [one.entry.noise["update/param/0.weight"] for one in trace.steps()]
        for trace in (free, along)
    }
    assert max(noise["neuron"][-10:]) > 1e2 * noise["neuron"][0]
    sizes = [np.abs(one.tensors()["update/param/0.weight"]).max() for one in along.steps()]
    assert max(np.divide(noise["follower"], sizes)) < 1e-14


@pytest.mark.parametrize("every", [1, 5])
def test_two_orders_of_one_sum_are_one_program(tmp_path: Path, every: int) -> None:
    other = recorded(tmp_path / "other", Neuron(weights(), direction=-1), every=every, shadows=0)
    for lock_step, ours in ((False, recorded(tmp_path / "free")), (True, followed(tmp_path / "along", other))):
        report = compare_traces(ours, other)
        assert report
        assert (report.verdict, report.lock_step, report.obstacle) == (Verdict.PASS, lock_step, None)
        assert report.steps_compared == len(range(0, STEPS, every))
        assert (report.horizon_step, report.first_divergence, report.failed_steps) == (None, None, ())
        assert report.ratios.size == 7 * report.steps_compared
        assert (report.only_ours, report.only_theirs, report.unmeasured) == ((), (), ())
    assert compare_traces(other, Trace(tmp_path / "along")).lock_step
    assert compare_traces(followed(tmp_path / "third", other), Trace(tmp_path / "along")).lock_step


def test_a_scaled_gradient_is_found_where_it_begins(tmp_path: Path) -> None:
    wrong = recorded(tmp_path / "wrong", Neuron(weights(), corrupt=scaled(1 + 1e-9, 7)), shadows=0)
    for ours in (recorded(tmp_path / "free"), followed(tmp_path / "along", wrong)):
        report = compare_traces(ours, wrong)
        assert report.verdict is Verdict.FAIL
        found = report.first_divergence
        assert found is not None
        assert (found.step, found.phase, found.layer, found.tensor) == (7, "backward", "0", "0.weight")
        assert found.theirs / found.ours == pytest.approx(1 + 1e-9, rel=1e-11)
        assert found.ratio > 1
    assert report.failed_steps == tuple(range(7, STEPS))


def test_along_another_a_late_small_fault_shows_where_free_it_drowns(tmp_path: Path) -> None:
    chaos = [batch._replace(lr=0.8) for batch in batches(60)]
    wrong = recorded(tmp_path / "wrong", Neuron(weights(), corrupt=scaled(1 + 1e-14, 50)), chaos, shadows=0)
    assert compare_traces(recorded(tmp_path / "free", steps=chaos), wrong)
    assert not compare_traces(followed(tmp_path / "along", wrong), wrong, factor=2)


def test_a_wrong_update_and_a_wrong_rate_are_named(tmp_path: Path) -> None:
    ours = recorded(tmp_path / "ours")
    update = recorded(tmp_path / "update", Neuron(weights(), dynamics=lambda w, grad, lr: w - 1.01 * lr * grad))
    rate = recorded(tmp_path / "rate", steps=[batch._replace(lr=0.011) for batch in batches(STEPS)])
    for theirs, phase, tensor in ((update, "update", "param/0.weight"), (rate, "data", "lr")):
        found = compare_traces(ours, theirs).first_divergence
        assert found is not None
        assert (found.step, found.phase, found.tensor) == (0, phase, tensor)


class Chaotic(Neuron):
    """w becomes 4 w (1 - w), which doubles an error at every step, whatever it learns."""

    def step(self, x: Array, y: Array, lr: float, context: Context) -> Step:
        self.dynamics = lambda w, _, __: context.tapped("update", "map", 4 * w * (1 - w))
        return super().step(x, y, lr, context)


def test_a_free_comparison_ends_at_the_horizon(tmp_path: Path) -> None:
    start, steps = np.random.default_rng(0).uniform(0.1, 0.9, 6), batches(80)
    ours = recorded(tmp_path / "ours", Chaotic(start), steps)
    theirs = recorded(tmp_path / "theirs", Chaotic(start, direction=-1), steps)
    report = compare_traces(ours, theirs)
    assert report.verdict is Verdict.PASS
    assert report.horizon_step is not None
    assert 20 < report.horizon_step < 80
    assert report.steps_compared == report.horizon_step
    text = "\n".join([*describe_traces(report, "A", "B"), summarise_traces(report, "A", "B")])
    assert f"horizon at step {report.horizon_step}: from there rounding alone parts any two runs" in text
    told = f"{report.horizon_step} steps before the horizon, all within rounding noise"
    assert f"PASS: A and B are of the same program as far as can be told: {told}." in text
    assert compare_traces(followed(tmp_path / "along", theirs, Chaotic(start)), theirs).steps_compared == 80


def test_traces_that_tell_nothing_say_why(tmp_path: Path) -> None:
    ours, silent = recorded(tmp_path / "ours"), recorded(tmp_path / "silent", shadows=0)
    late = _reworded(recorded(tmp_path / "late"), lambda line: line.update(step=line["step"] + 99))
    apart = recorded(tmp_path / "apart", Neuron(weights(seed=5)))
    along = followed(tmp_path / "along", silent)
    rounded = recorded(tmp_path / "rounded", Neuron(weights(), direction=-1), shadows=0)
    zero = [Batch(batch.x, batch.x @ weights() * 0, batch.lr) for batch in batches(3)]
    nothing = recorded(tmp_path / "nothing", Neuron(np.zeros(6)), zero)
    chaos = _reworded(recorded(tmp_path / "chaos"), lambda line: line["noise"].update({"update/param/0.weight": 1.0}))
    bare = _edited(recorded(tmp_path / "bare"), lambda arrays: arrays.pop("never", None), ["data/x", "data/y"])
    for a, b, obstacle, words in (
        (silent, rounded, Obstacle.NO_NOISE, "neither has recorded rounding noise for what both have"),
        (ours, late, Obstacle.NO_STEP, "they have no step in common"),
        (ours, bare, Obstacle.NO_TENSOR, "they have no tensor in common, but what they were given"),
        (nothing, nothing, Obstacle.NO_INFORMATION, "nothing compared could tell right from wrong"),
        (chaos, chaos, Obstacle.HORIZON, "rounding alone parts any two runs from their first step in common"),
        (ours, apart, Obstacle.OTHER_START, "they do not start from the same state"),
        (along, ours, Obstacle.OTHER_STATES, "one was recorded along a trace that is not the other"),
    ):
        report = compare_traces(a, b)
        assert (report.verdict, report.obstacle, bool(report)) == (Verdict.INCONCLUSIVE, obstacle, False)
        sentence = summarise_traces(report, "A", "B")
        assert sentence.startswith(f"INCONCLUSIVE: A and B cannot be compared: {words}")


def _reworded(trace: Trace, change: Callable[[dict[str, Any]], object]) -> Trace:
    """Change the line of every step of a trace."""
    header, *lines = (json.loads(line) for line in (trace.folder / "trace.jsonl").read_text().splitlines())
    for line in lines:
        change(line)
    (trace.folder / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    return Trace(trace.folder)


def _edited(trace: Trace, change: Callable[[dict[str, Array]], object], tensors: list[str] | None = None) -> Trace:
    """Change the arrays of every step of a trace, and name those in its lines that are there, or some of them."""
    lines = [json.loads(line) for line in (trace.folder / "trace.jsonl").read_text().splitlines()]
    for line in lines[1:]:
        arrays = load_file(trace.folder / line["file"])
        change(arrays)
        line["tensors"] = [name for name in tensors or line["tensors"] if name in arrays]
        kept = {name: array for name, array in arrays.items() if name in line["tensors"] or name[:6] == "before"}
        save_file(kept, trace.folder / line["file"])
    (trace.folder / "trace.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return Trace(trace.folder)


def test_what_one_lacks_is_said_and_the_rest_compared(tmp_path: Path) -> None:
    ours = recorded(tmp_path / "ours")
    theirs = _edited(recorded(tmp_path / "theirs"), lambda arrays: arrays.pop("forward/0.output"))
    report = compare_traces(ours, theirs)
    assert report
    assert (report.only_ours, report.only_theirs) == (("forward/0.output",), ())
    assert compare_traces(theirs, ours).only_theirs == ("forward/0.output",)
    ours = _reworded(ours, lambda line: line["noise"].pop("loss/loss.value"))
    rounded = recorded(tmp_path / "n", Neuron(weights(), direction=-1), shadows=0)
    assert compare_traces(ours, rounded).unmeasured == ("loss/loss.value",)


def test_what_is_equal_bit_for_bit_needs_no_noise(tmp_path: Path) -> None:
    silent = recorded(tmp_path / "silent", shadows=0)
    report = compare_traces(silent, silent)
    assert report
    assert report.ratios.max() == 0
    assert compare_traces(silent, recorded(tmp_path / "again", shadows=0))


def test_without_noise_half_of_the_digits_decide_in_the_first_step(tmp_path: Path) -> None:
    silent = recorded(tmp_path / "silent", shadows=0)
    for factor, verdict in ((1 + 1e-6, Verdict.FAIL), (1 + 1e-11, Verdict.INCONCLUSIVE)):
        other = recorded(tmp_path / str(factor), Neuron(weights(), corrupt=scaled(factor)), shadows=0)
        report = compare_traces(other, silent)
        assert report.verdict is verdict
        assert (report.first_divergence is not None) == (verdict is Verdict.FAIL)
        assert "record" in str(report)
    late = recorded(tmp_path / "late", Neuron(weights(), corrupt=scaled(1.5, begin=1)), shadows=0)
    found = compare_traces(late, silent).first_divergence
    assert found is not None  # the state before step 1 is equal bit for bit
    assert (found.step, found.phase, found.tensor) == (1, "backward", "0.weight")


def test_without_noise_a_kink_may_decide_what_flows_back_in_float32(tmp_path: Path) -> None:
    start, steps = weights(dtype=np.float32), batches(STEPS, dtype=np.float32)
    silent = recorded(tmp_path / "silent", Neuron(start), steps, shadows=0)
    engine = Neuron(start, corrupt=lambda _, grad: grad * np.float32(1.5))
    report = compare_traces(recorded(tmp_path / "other", engine, steps, shadows=0), silent)
    assert (report.verdict, report.obstacle) == (Verdict.INCONCLUSIVE, Obstacle.NO_NOISE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda array: array[None], "has shape (1, 6), the reference's (6,)"),
        (lambda array: array.astype(np.float32), "is float32, the reference's float64"),
    ],
)
def test_another_shape_or_precision_is_a_failure(
    tmp_path: Path, change: Callable[[Array], Array], message: str
) -> None:
    def altered(arrays: dict[str, Array]) -> None:
        arrays["backward/0.weight"] = change(arrays["backward/0.weight"])

    found = compare_traces(_edited(recorded(tmp_path / "a"), altered), recorded(tmp_path / "b")).first_divergence
    assert found is not None
    assert (found.phase, found.tensor, found.message) == ("backward", "0.weight", message)


def test_nan_is_data(tmp_path: Path) -> None:
    def poisoned(arrays: dict[str, Array]) -> None:
        arrays["backward/0.weight"][2] = math.nan

    a = _edited(recorded(tmp_path / "a"), poisoned)
    report = compare_traces(a, recorded(tmp_path / "b"))
    assert report.first_divergence is not None
    assert (report.first_divergence.index, report.first_divergence.ratio) == ((2,), math.inf)
    assert compare_traces(a, _edited(recorded(tmp_path / "c"), poisoned))


def test_a_run_that_is_no_longer_finite_ends_its_recording(tmp_path: Path) -> None:
    done = record(Neuron(weights()), batches(400, lr=1e3), tmp_path / "trace", program="neuron", shadows=1)
    assert done.stopped_by is not None
    assert done.steps == done.stopped_by.step + 1 < 400
    *_, last = Trace(tmp_path / "trace").steps()
    assert last.entry.loss is not None
    assert not math.isfinite(last.entry.loss)
    assert done.size == sum(path.stat().st_size for path in (tmp_path / "trace").rglob("*.*"))


def test_an_engine_needs_an_empty_folder(tmp_path: Path) -> None:
    recorded(tmp_path / "trace")
    with pytest.raises(FileExistsError):
        recorded(tmp_path / "trace")


def test_a_factor_is_above_zero(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "trace")
    with pytest.raises(ValueError, match="compare_traces needs a factor above 0, got 0"):
        compare_traces(trace, trace, factor=0)


def read(folder: Path) -> None:
    """Read all of a trace."""
    for one in Trace(folder).steps():
        one.tensors()


HEADER = {"format": "mnistcheck-trace", "version": 1, "program": "C", "dtype": "float64"}
LINE = {"step": 0, "lr": 0.1, "file": "0.safetensors", "tensors": ["data/x"]}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "is no trace: it has no trace.jsonl"),
        ([], "trace.jsonl is empty: its first line says what it is"),
        (["{"], "trace.jsonl, line 1 is not JSON: "),
        (["[" * 100_000], "trace.jsonl, line 1 is not JSON: "),
        (["[]"], "trace.jsonl, line 1 is no JSON object"),
        (["\udcff"], "trace.jsonl, line 1 is not JSON: "),
        (["1" * (1 << 24) + "1"], "trace.jsonl, line 1 is longer than 16,777,216 bytes"),
        ([{}], 'is no trace: its first line needs "format": "mnistcheck-trace"'),
        ([HEADER | {"version": 2}], "trace.jsonl has version 2; version 1 can be read"),
        ([HEADER | {"program": None}], 'line 1 needs a text "program", got None'),
        ([HEADER | {"seed": -1}], 'line 1 needs a count "seed", got -1'),
        ([HEADER | {"seed": True}], 'line 1 needs a count "seed", got True'),
        ([HEADER | {"noise": "loud"}], "line 1 needs \"noise\" to be one of free, step, got 'loud'"),
        ([HEADER, LINE | {"noise": {"data/x": 1}}], 'line 2 has noise, but line 1 no "noise": free or step'),
        ([HEADER | {"along": 3}], 'line 1 needs a text "along", got 3'),
        ([HEADER | {"configuration": []}], 'line 1 needs an object "configuration", got []'),
        ([HEADER, "nonsense"], "trace.jsonl, line 2 is not JSON: "),
        ([HEADER, LINE | {"step": 1.5}], 'line 2 needs a count "step", got 1.5'),
        ([HEADER, LINE | {"step": 2**63}], f'line 2 needs a count "step", got {2**63}'),
        ([HEADER, LINE | {"lr": "fast"}], "line 2 needs a number \"lr\", got 'fast'"),
        ([HEADER, LINE | {"lr": 10**400}], 'line 2 needs a finite "lr", got inf'),
        ([HEADER, LINE | {"loss": []}], 'line 2 needs a number "loss", got []'),
        ([HEADER, LINE | {"noise": {"data/x": None}}], 'line 2 needs a number "noise of data/x", got None'),
        ([HEADER, LINE | {"tensors": "data/x"}], 'line 2 needs "tensors", the names of its tensors in the order of'),
        ([HEADER, LINE | {"tensors": ["x"]}], "line 2: 'x' is not one tensor of the phases data, forward, loss"),
        ([HEADER, LINE | {"tensors": ["data/x", "data/x"]}], "line 2: 'data/x' is not one tensor of the phases"),
        ([HEADER, LINE | {"file": 1}], 'line 2 needs a text "file", got 1'),
        ([HEADER, LINE | {"file": "../0.safetensors"}], "'../0.safetensors' is not inside the trace's folder"),
        ([HEADER, LINE | {"file": "/etc/passwd"}], "'/etc/passwd' is not inside the trace's folder"),
        ([HEADER, LINE, LINE], "line 3: step 0 comes after step 0"),
        ([HEADER, LINE | {"file": "missing.safetensors"}], "missing.safetensors is missing"),
        ([HEADER, LINE | {"file": "text.safetensors"}], "text.safetensors is no safetensors file: "),
        ([HEADER, LINE | {"file": "cut.safetensors"}], "cut.safetensors is no safetensors file: "),
        ([HEADER, LINE | {"file": "half.safetensors"}], "half.safetensors holds what NumPy cannot: "),
        ([HEADER, LINE | {"file": "bool.safetensors"}], "bool.safetensors: data/x is bool, not integers or floating"),
        ([HEADER, LINE | {"tensors": ["data/x", "data/y"]}], "0.safetensors lacks data/y"),
        ([HEADER, LINE | {"tensors": []}], "0.safetensors has, unnamed in its line, data/x"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_one_line(tmp_path: Path, lines: list[Any] | None, message: str) -> None:
    save_file({"data/x": np.zeros((2, 3))}, tmp_path / "0.safetensors")
    content = (tmp_path / "0.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[:-8])
    header = b'{"data/x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "half.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    (tmp_path / "text.safetensors").write_text("not at all")
    save_file({"data/x": np.zeros(3, bool)}, tmp_path / "bool.safetensors")
    if lines is not None:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (tmp_path / "trace.jsonl").write_text("".join(f"{text}\n" for text in texts), errors="surrogateescape")
    with pytest.raises(TraceError) as caught:
        read(tmp_path)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("data/y"), "lacks data/y, which a step needs"),
        (
            lambda arrays: arrays.pop("before/param/0.weight", 0),
            "the engine needs param/0.weight to begin with, got step",
        ),
        (
            lambda arrays: arrays.update({"before/param/0.weight": np.zeros(2)}),
            "step 0: the engine needs param/0.weight to be float64 of shape (6,), got float64 of shape (2,)",
        ),
        (
            lambda arrays: arrays.update({"before/param/0.weight": np.zeros(6, np.float32)}),
            "step 0: the engine needs param/0.weight to be float64 of shape (6,), got float32 of shape (6,)",
        ),
        (lambda arrays: arrays.update({"before/param/9.weight": np.zeros(2)}), "the engine knows no param/9.weight"),
        (lambda arrays: arrays.update({"before/step": np.zeros(2)}), "the engine cannot load the state: TypeError"),
        (
            lambda arrays: arrays.update({"data/x": np.zeros((2, 5))}),
            "the engine raises ValueError: operands could not",
        ),
    ],
)
def test_a_trace_that_cannot_be_followed_says_why(
    tmp_path: Path, change: Callable[[dict[str, Array]], object], message: str
) -> None:
    trace = _edited(recorded(tmp_path / "trace"), change)
    with pytest.raises(TraceError) as caught:
        followed(tmp_path / "along", trace)
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_step_from_nowhere_cannot_be_followed(tmp_path: Path) -> None:
    trace = recorded(tmp_path / "trace")
    lines = (trace.folder / "trace.jsonl").read_text().splitlines()
    (trace.folder / "trace.jsonl").write_text("\n".join(lines[:3] + lines[4:]))
    with pytest.raises(TraceError, match=r"step 3 has no before/\.\.\., and no step before it: from where is not said"):
        followed(tmp_path / "along", Trace(trace.folder))


def test_recording_leaves_steps_as_they_are(tmp_path: Path) -> None:
    engine, alone = Neuron(weights()), Neuron(weights())
    recorded(tmp_path / "trace", engine, every=3)
    for batch in batches(STEPS):
        alone.step(*batch, Context(training=True))
    assert engine.state()["param/0.weight"].tobytes() == alone.state()["param/0.weight"].tobytes()


def test_the_smallest_trace_of_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "traces.md").read_text(encoding="utf-8")
    lines, header = re.findall(r"```json\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "trace.jsonl").write_text(lines)
    data = np.array([2.0, 4.0, -1.0, 1.0], "<f8").tobytes()
    (tmp_path / "0.safetensors").write_bytes(len(header).to_bytes(8, "little") + header.encode() + data)
    (one,) = Trace(tmp_path).steps()
    tensors = one.tensors()
    assert list(tensors) == ["data/x", "backward/0.weight", "update/param/0.weight"]
    assert (
        tensors["update/param/0.weight"] == one.before()["param/0.weight"] - one.entry.lr * tensors["backward/0.weight"]
    )
    assert one.before()["step"] == 0


def test_the_fields_of_the_docs_are_those_of_a_trace() -> None:
    page = (Path(__file__).parents[3] / "docs" / "traces.md").read_text(encoding="utf-8")
    for title, kind in (("The header", Header), ("The line of a step", Entry)):
        section = page.partition(f"## {title}\n")[2].partition("\n## ")[0]
        told = set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)) - {"format", "version"}
        assert told == {spec.name for spec in fields(kind)}
