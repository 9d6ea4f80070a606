"""Traces and replays as a user types them: what they print, where they fail, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cli.main import run
from tests.long import later

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "examples" / "plain_torch_trace.py"
DIGITS = ("--dataset", "digits", "--steps", "6")

Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mnistcheck(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Terminal:
    """Return the command line in this process: exit code, stdout and stderr; its cache is a new folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("MNISTCHECK_DATA_DIR", raising=False)

    def call(*args: object) -> tuple[int, str, str]:
        code = run([str(arg) for arg in args])
        return code, *capsys.readouterr()

    return call


def plain_torch(out: Path, *args: object, right: str = "", wrong: str = "") -> None:
    """Run the example in this process, with one thing in it changed."""
    source = SCRIPT.read_text(encoding="utf-8")
    assert source.count(right) == 1 or not right
    dtype = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
        patch.setattr(sys, "argv", [str(SCRIPT), str(out), *map(str, args)])
        try:
            exec(compile(source.replace(right, wrong) if right else source, SCRIPT, "exec"), {})  # noqa: S102  our own
        finally:
            torch.set_default_dtype(dtype)


@pytest.mark.parametrize("alone", later([False, True], 1), ids=["here", "in a process of its own"])
def test_plain_torch_is_proved_the_same_program(tmp_path: Path, mnistcheck: Terminal, alone: bool) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    if alone:
        subprocess.run([sys.executable, SCRIPT, theirs], check=True, cwd=tmp_path)
    else:
        plain_torch(theirs)
    code, out, err = mnistcheck("record", "--engine", "numpy", "--preset", "fair", "--along", theirs, ours)
    assert (code, err) == (0, "")
    assert out == f"20 steps, 33.0 MB in {ours}\n"
    code, out, err = mnistcheck("compare-traces", ours, theirs)
    assert (code, err) == (0, "")
    first, second, *_, last = out.splitlines()
    assert (first, second) == (
        f"{ours}: numpy: 784-128-10 Sigmoid, CrossEntropyLoss, SGD 0.05",
        f"{theirs}: plain torch",
    )
    assert f"only in {ours}: " in out
    assert "judged as in lock-step: both took every step from the same state" in out
    assert last == f"PASS: {ours} and {theirs} are of the same program: all of 20 steps agree within rounding noise."


def test_plain_torch_on_mnist(tmp_path: Path, mnistcheck: Terminal, mnist_dir: Path) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    files = [next((mnist_dir / "MNIST" / "raw").glob(f"train-{what}*")) for what in ("images", "labels")]
    plain_torch(theirs, *files)
    assert mnistcheck("record", "--along", theirs, "--steps", "5", ours)[0] == 0
    code, out, _ = mnistcheck("compare-traces", ours, theirs)
    assert (code, "all of 5 steps agree" in out) == (0, True)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("right", "wrong", "place"),
    [
        ("lr=RATE)", "lr=RATE * 1.0001)", "step 0, update, param/0.weight["),
        (
            "    optimizer.step()",
            "    if step == 3:\n        net[2].weight.grad *= 1.0001\n    optimizer.step()",
            "step 3, update, param/2.weight[",
        ),
        *(
            pytest.param(*row, marks=pytest.mark.long)
            for row in (
                ("    loss.backward()", "    (loss * 1.0001).backward()", "step 0, backward, loss.prediction["),
                ("_entropy(net(x), y)", "_entropy(net(x), y, label_smoothing=0.01)", "step 0, loss, loss.value: "),
                ("torch.nn.Sigmoid()", "torch.nn.Tanh()", "step 0, forward, 1.output["),
            )
        ),
    ],
)
def test_one_thing_changed_is_found(tmp_path: Path, mnistcheck: Terminal, right: str, wrong: str, place: str) -> None:
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    plain_torch(theirs, right=right, wrong=wrong)
    assert mnistcheck("record", "--along", theirs, ours)[0] == 0
    code, out, _ = mnistcheck("compare-traces", ours, theirs)
    assert code == 1
    last = out.splitlines()[-1]
    assert last.startswith(f"FAIL: {ours} and {theirs} are not of the same program. They part at {place}")
    found = json.loads(mnistcheck("compare-traces", ours, theirs, "--json")[1])
    assert (found["verdict"], found["judged_by"]) == ("fail", "lock-step")
    assert f"step {found['first_divergence']['step']}, {found['first_divergence']['phase']}, " in place
    assert found["first_divergence"]["ours"] != found["first_divergence"]["theirs"]


def test_two_engines_that_train_by_themselves(tmp_path: Path, mnistcheck: Terminal) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert mnistcheck("record", *DIGITS, "--every", "2", "--shadows", "3", ours)[:2] == (
        0,
        f"3 steps, 7.4 MB in {ours}\n",
    )
    assert mnistcheck("record", "--engine", "torch", *DIGITS, theirs)[0] == 0
    code, out, _ = mnistcheck("compare-traces", ours, theirs)
    assert code == 0
    assert "judged as in free-run: each trained by itself, so the allowance grows with the run" in out
    assert "all of 3 steps agree within rounding noise" in out
    result = json.loads(mnistcheck("compare-traces", ours, theirs, "--json")[1])
    assert (result["command"], result["verdict"], result["judged_by"]) == ("compare-traces", "pass", "free-run")
    assert (result["steps_compared"], result["horizon_step"], result["reason"]) == (3, None, None)
    assert result["theirs"]["program"].startswith("torch: 784-128-10")
    code, out, _ = mnistcheck("compare-traces", theirs, theirs)
    assert code == 0
    assert "comparisons, as shares of the allowance: median 0, 99.9 % up to 0, largest 0" in out
    assert mnistcheck("compare-traces", ours, theirs, "--factor", "1e-3")[0] == 1


@pytest.mark.long
def test_torch_follows_too(tmp_path: Path, mnistcheck: Terminal) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert mnistcheck("record", *DIGITS, "--preset", "regularised", ours)[0] == 0
    assert mnistcheck("record", "--engine", "torch", "--preset", "regularised", "--along", ours, theirs)[0] == 0
    code, out, _ = mnistcheck(
        "compare-traces", theirs, ours
    )  # by what torch rounds by, which nudges of ours do not show
    assert (code, "judged as in lock-step" in out) == (0, True)
    third = tmp_path / "third"
    assert mnistcheck("record", "--preset", "regularised", "--along", ours, third)[0] == 0
    assert mnistcheck("compare-traces", third, theirs)[0] == 0


def test_a_run_that_diverges_ends_its_recording(tmp_path: Path, mnistcheck: Terminal) -> None:
    code, out, _ = mnistcheck("record", *DIGITS, "--lr", "1e308", "--shadows", "1", tmp_path / "trace")
    assert code == 3
    first, second = out.splitlines()
    assert first.startswith("2 steps, ")
    assert second.startswith("ended at step 1, where ")
    assert second.endswith(" is not finite; lower the learning rate.")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--along", "TRACE", "--lr", "1", "--dataset", "digits"), "precision from the trace; drop --dataset, --lr"),
        (("--preset", "resnet"), "there is no preset 'resnet'"),
        (("--along", "TRACE", "--preset", "resnet"), "there is no preset 'resnet'"),
        (("--every", "0"), "0 is not in the range x>=1"),
        (("--shadows", "0"), "0 is not in the range x>=1"),
        (("--engine", "jax"), "'jax' is not one of 'numpy', 'torch'"),
    ],
)  # fmt: skip
def test_misuse_of_record_exits_with_2(
    tmp_path: Path, mnistcheck: Terminal, args: tuple[str, ...], message: str
) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    (trace / "trace.jsonl").write_text(json.dumps(HEADER))
    code, out, err = mnistcheck("record", *(trace if arg == "TRACE" else arg for arg in args), tmp_path / "out")
    assert (code, out) == (2, "")
    assert message in err
    code, _, err = mnistcheck("record", trace)
    assert (code, f"OUT needs a new or empty folder; {trace} has something in it" in err) == (2, True)


HEADER = {"format": "mnistcheck-trace", "version": 1, "program": "C", "dtype": "float64"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "is no trace: it has no trace.jsonl"),
        (["{"], "line 1 is not JSON: "),
        ([json.dumps(HEADER | {"version": 7})], "has version 7; version 1 can be read"),
        ([json.dumps(HEADER), '{"step": 0'], "line 2 is not JSON: "),
        (
            [json.dumps(HEADER), '{"step": 0, "lr": 1, "file": "cut.safetensors", "tensors": []}'],
            "cut.safetensors is no safetensors file: ",
        ),
        ([json.dumps(HEADER), '{"step": 0, "lr": 1, "file": "gone", "tensors": []}'], "gone is missing"),
    ],
)
def test_a_damaged_trace_is_one_line_and_exits_with_4(
    tmp_path: Path, mnistcheck: Terminal, lines: list[str] | None, message: str
) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    save_file({"data/x": np.zeros(3)}, trace / "cut.safetensors")
    (trace / "cut.safetensors").write_bytes((trace / "cut.safetensors").read_bytes()[:-1])
    if lines is not None:
        (trace / "trace.jsonl").write_text("\n".join(lines))
    for args in (("compare-traces", trace, trace), ("record", "--along", trace, tmp_path / "out")):
        code, out, err = mnistcheck(*args)
        assert (code, out) == (4, "")
        (line,) = err.splitlines()
        assert line.startswith(f"Error: {trace}")
        assert message in line


@pytest.mark.long
def test_a_trace_of_another_precision_or_network_cannot_be_followed(tmp_path: Path, mnistcheck: Terminal) -> None:
    trace = tmp_path / "trace"
    trace.mkdir()
    (trace / "trace.jsonl").write_text(json.dumps(HEADER | {"dtype": "bfloat16"}))
    code, _, err = mnistcheck("record", "--along", trace, tmp_path / "out")
    assert (code, err) == (4, f"Error: {trace} is of dtype 'bfloat16'; float64 and float32 can be followed\n")
    assert mnistcheck("record", *DIGITS, tmp_path / "fair")[0] == 0
    code, _, err = mnistcheck("record", "--preset", "mlp", "--along", tmp_path / "fair", tmp_path / "mlp")
    assert code == 4
    assert (
        "step 0: the engine needs param/2.weight to be float64 of shape (64, 128), got float64 of shape (10, 128)"
        in err
    )


def test_comparing_traces_needs_neither_program(tmp_path: Path, mnistcheck: Terminal) -> None:
    trace = tmp_path / "trace"
    assert mnistcheck("record", *DIGITS, "--shadows", "1", trace)[0] == 0
    code = (
        "import sys; from cli.main import run; code = run(['compare-traces', *sys.argv[1:]])\n"
        "print(code, *{'nets', 'torch', 'sklearn', 'hypothesis'} & sys.modules.keys())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, trace, trace], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "0"


SMALL = ("--network", "Linear(784, 8), Sigmoid(), Linear(8, 10)", "--train-size", "60")
FAIR = ("train", "--fair", *DIGITS, *SMALL, "--no-sensitivity", "--test-size", "20")
FAULT = ("--inject", "grad-scale:0.weight:1.01@3")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of the step at which a run has failed."""
    folder = tmp_path_factory.mktemp("failed") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cli.figures.sketches.written", lambda *_: {})
        assert run([*FAIR, *FAULT, "--out", str(folder)]) == 1
    return folder / "replay.safetensors"


def test_a_run_that_fails_keeps_the_step_and_says_how_to_see_it_again(mnistcheck: Terminal) -> None:
    code, out, err = mnistcheck(*FAIR, *FAULT)
    assert (code, err) == (1, "")
    last = out.splitlines()[-1]
    head, _, file = last.rpartition(" ")
    assert head == "see that step again: mnistcheck replay"
    assert Path(file).parent.name == "replays"
    assert Path(file).name.startswith("fair-float64-seed0-step3-")
    assert mnistcheck(*FAIR, *FAULT)[1].splitlines()[-1] == last
    code, out, err = mnistcheck("replay", file)
    assert (code, err) == (1, "")
    what, then, now, torch, verdict = out.splitlines()
    assert what.startswith("training step 3: preset fair, ")
    assert what.endswith("inject grad-scale:0.weight:1.01@3")
    assert then.startswith("then: step 3, backward, 0.weight[")
    assert now.startswith(then.replace("then:", "now: ").partition(" (difference")[0])
    assert torch == "PyTorch still gives the same bits"
    assert verdict == "FAIL: NumPy and PyTorch still part at step 3, with the very same values."


def test_a_step_in_the_folder_of_its_run_as_json(tmp_path: Path, mnistcheck: Terminal) -> None:
    code, out, _ = mnistcheck(*FAIR, *FAULT, "--json", "--out", tmp_path / "run")
    file = tmp_path / "run" / "replay.safetensors"
    assert (code, json.loads(out)["replay"], file.is_file()) == (1, str(file), True)
    code, out, _ = mnistcheck("replay", file, "--json")
    result = json.loads(out)
    assert (code, result["command"], result["verdict"], result["torch_changed"]) == (1, "replay", "fail", [])
    assert (result["configuration"]["inject"], result["training"]) == (FAULT[1], True)
    saved, now = result["saved_divergence"], result["divergence"]
    assert {**saved, "allowed": 0, "ratio": 0} == {**now, "allowed": 0, "ratio": 0}


def test_a_run_that_passes_keeps_nothing(tmp_path: Path, mnistcheck: Terminal) -> None:
    code, out, _ = mnistcheck(*FAIR, "--json", "--out", tmp_path / "run")
    assert (code, json.loads(out)["replay"]) == (0, None)
    assert not (tmp_path / "run" / "replay.safetensors").exists()


def _told_anew(file: Path, out: Path, **told: Any) -> Path:  # noqa: ANN401  any JSON
    """Write a saved step anew, with another configuration."""
    with safe_open(file, framework="np") as opened:
        about = json.loads(opened.metadata()["replay"])
    about["configuration"] |= told
    save_file(load_file(file), out, {"replay": json.dumps(about)})
    return out


@pytest.mark.long
def test_once_mended_the_step_passes(failed: Path, tmp_path: Path, mnistcheck: Terminal) -> None:
    file = _told_anew(failed, tmp_path / "replay.safetensors", inject=None)
    code, out, _ = mnistcheck("replay", file)
    assert code == 0
    assert out.splitlines()[-1] == "PASS: step 3 agrees within rounding noise now."


def test_a_replay_without_torch_compares_with_what_it_gave(failed: Path, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = subprocess.run(
        [sys.executable, "-c", "from cli.main import main; main()", "replay", failed],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "PyTorch was not asked again: what it gave then is what counts" in done.stdout


DEEPER = "Linear(784, 8), ReLU(), Linear(8, 64), ReLU(), Linear(64, 10)"


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"preset": "resnet"}, "cannot be taken again here: there is no preset 'resnet'"),
        ({"settings": {"network": DEEPER}}, "the saved step is not one of this engine: needs param/2.weight to be"),
        (
            {"settings": {"network": "Linear(784, 5), Sigmoid(), Linear(5, 10)"}},
            "the saved step is not one of this engine: needs param/0.weight to be",
        ),
        (
            {"settings": {"network": "Liner(784, 10)"}},
            "ValueError(\"layer 'Liner(784, 10)': there is no Liner; did you",
        ),
        ({"settings": {"loss": 3}}, "does not say how to make its engines: ValueError("),
        ({"settings": 3}, "does not say how to make its engines: "),
        ({"dtype": "float16"}, "does not say how to make its engines: KeyError('float16')"),
        ({"seed": "many"}, "does not say how to make its engines: ValueError("),
        ({"inject": "magic"}, "cannot be taken again here: there is no fault 'magic'"),
    ],
)
def test_a_replay_of_something_else_is_one_line_and_exits_with_4(
    failed: Path, tmp_path: Path, mnistcheck: Terminal, told: dict[str, Any], message: str
) -> None:
    code, out, err = mnistcheck("replay", _told_anew(failed, tmp_path / "replay.safetensors", **told))
    assert (code, out) == (4, "")
    (line,) = err.splitlines()
    assert line.startswith("Error: ")
    assert message in line


def test_a_damaged_replay_is_one_line_and_exits_with_4(tmp_path: Path, mnistcheck: Terminal) -> None:
    file = tmp_path / "case.safetensors"
    for content, message in ((None, "is missing"), (b"nonsense", "is no safetensors file: ")):
        if content is not None:
            file.write_bytes(content)
        code, out, err = mnistcheck("replay", file)
        assert (code, out, len(err.splitlines())) == (4, "", 1)
        assert err.startswith(f"Error: {file} {message}")


def test_a_step_that_cannot_be_kept_costs_no_verdict(mnistcheck: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
    code, out, err = mnistcheck(*FAIR, *FAULT)
    assert code == 1
    assert out.splitlines()[-1].startswith("FAIL: ")
    assert err.startswith("the step that failed is not kept: /dev/null/mnistcheck/replays/fair-")
    assert err.endswith("cannot be written: Not a directory\n")
