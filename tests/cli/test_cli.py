"""What a user types and sees: output, streams and exit codes, by the program itself where it is about a process."""

from __future__ import annotations

import importlib
import inspect
import io
import itertools
import json
import os
import pickle
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import pytest

from cli.main import run
from gradcheck.contract import Array, Backward, Context
from nets.engines.numpy_engine import NumpyEngine
from nets.layers import ReLU
from nets.weights import decode
from tests.long import later

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parent.parent.parent
PROGRAM = (sys.executable, "-m", "cli")
SMALL = ("--network", "Linear(784, 8), Sigmoid(), Linear(8, 10)")
TRAINED = ("train", "--dataset", "digits", "--train-size", "60", "--steps", "40", "--test-size", "50", *SMALL)
SENSITIVE = (*TRAINED, "--fair")
DIGITS = (*SENSITIVE, "--no-sensitivity")


HIDDEN = {"XDG_CACHE_HOME": "/dev/null", "COLUMNS": "100"}  # no MNIST is found unless it is given


def program(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MNISTCHECK_")}
    return subprocess.run(
        [*PROGRAM, *args], capture_output=True, text=True, cwd=ROOT, env=inherited | HIDDEN | environment, check=False
    )


def mnistcheck(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, and return what its own would come to."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        for name in [name for name in os.environ if name.startswith("MNISTCHECK_")]:
            patch.delenv(name)
        for name, value in (HIDDEN | environment).items():
            patch.setenv(name, value)
        code = run(args)
    return subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())


Started = Callable[..., subprocess.CompletedProcess[str]]


def strict_json(text: str) -> Any:  # noqa: ANN401  any JSON
    """Parse JSON without the constants that the standard does not have."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("started", later([mnistcheck, program], 1))
def test_a_fair_run_ends_in_one_sentence(started: Started) -> None:
    done = started(*DIGITS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == (
        "PASS: NumPy and PyTorch are the same program: all of 40 steps agree within rounding noise."
    )
    assert "784-8-10 Sigmoid, CrossEntropyLoss, SGD 0.05, batch 1, float64, seed 0" in done.stdout
    assert "horizon not reached" in done.stdout
    assert done.stderr == ""


def test_a_fair_run_as_json_and_again_in_words(tmp_path: Path) -> None:
    size = ("--train-size", "1000", "--test-size", "50", "--steps", "6", "--out", str(tmp_path / "run"))
    done = mnistcheck(*SENSITIVE, "--json", "--seed", "3", "--dtype", "float32", *size)
    assert (done.returncode, done.stderr) == (0, "")
    result = strict_json(done.stdout)
    assert (result["schema_version"], result["command"], result["verdict"]) == (1, "train", "pass")
    assert result["preset"] == "fair"
    assert result["dataset"] == {
        "name": "digits",
        "sha256": result["dataset"]["sha256"],
        "train_size": 1000,
        "test_size": 50,
    }
    assert len(result["dataset"]["sha256"]) == 64
    lock_step, free_run = result["lock_step"], result["free_run"]
    assert (lock_step["verdict"], lock_step["steps_compared"]) == ("pass", 6)
    assert set(lock_step["worst"]) == {"ratio", "step", "phase", "tensor"}
    assert 0 <= lock_step["worst"]["ratio"] <= 1
    assert (free_run["verdict"], free_run["steps_compared"], free_run["horizon_step"]) == ("pass", 6, None)
    assert (free_run["kinks_crossed"], result["first_divergence"]) == (0, None)
    assert 0 <= free_run["max_relative_distance"] < 1e-5
    assert 0 < result["smallest_detectable_fault"] < 1e-4  # in float32
    assert result["smallest_detectable_fault"] == min(
        one["size"] for one in result["sensitivity"]["by_tensor"].values()
    )
    assert result["sensitivity"]["missed"] == []
    assert {"label-shift", "cast:0"} <= set(result["sensitivity"]["caught"])
    for side in ("numpy", "torch"):
        outcome = {"train_accuracy", "test_accuracy", "seconds", "recalls", "best_epoch", "best_test_accuracy", "peaks"}
        assert set(result[side]) == outcome
        assert 0 <= result[side]["test_accuracy"] <= 1
    assert result["configuration"]["dtype"] == "float32"
    assert result["environment"]["versions"]["torch"]
    words = mnistcheck("report", str(tmp_path / "run")).stdout
    assert f"{result['smallest_detectable_fault']:.1e}" in words


@pytest.mark.short(1)
@pytest.mark.parametrize(("fault", "step"), [("grad-scale:0.weight:1.0001", 0), ("grad-scale:2.bias:0.999@25", 25)])
def test_an_injected_fault_fails_and_is_named(fault: str, step: int) -> None:
    done = mnistcheck(*DIGITS, "--steps", str(step + 2), "--json", "--inject", fault)
    assert done.returncode == 1
    result = strict_json(done.stdout)
    found = result["first_divergence"]
    tensor = fault.split(":")[1]
    assert (result["verdict"], found["step"], found["phase"]) == ("fail", step, "backward")
    assert (found["layer"], found["tensor"]) == (tensor[0], tensor)
    assert set(found) >= {"index", "numpy", "torch", "ratio"}
    assert found["ratio"] > 1
    times = "1.0001" if step == 0 else "0.999"
    assert (found["mode"], found["diagnosis"]) == (
        "training",
        f"{tensor}'s gradient is {times} times the reference's everywhere",
    )


def test_an_injected_fault_is_put_into_words() -> None:
    done = mnistcheck(*DIGITS, "--steps", "9", "--inject", "grad-scale:0.weight:1.01@7")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("FAIL: NumPy and PyTorch are not the same program. They part at step 7, backward, 0.weight[")
    assert "relative 0.01:" in last
    assert last.endswith("x rounding noise, 8 allowed). 0.weight's gradient is 1.01 times the reference's everywhere.")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--inject", "grad-scale:9.weight:2"), "knows no tensor '9.weight'; there are 0.weight, 0.bias, 2.weight"),
        (("--inject", "grad-scale:0.weight:1.00000001", "--dtype", "float32"), "1.00000001 is 1 in float32"),
        (("--lr", "1e39", "--dtype", "float32"), "a learning rate of 1e+39 does not fit float32"),
        (("--preset", "resnet"), "there is no preset 'resnet'; there are fair, nnmnist, nnmnist:scratch, nielsen, "),
        (("--dataset", "cifar"), "there is no dataset 'cifar'; there are auto, mnist, digits"),
        (("--train-size", "1797"), "digits has 1797 images to train on, test images included; asked for 1797"),
        (("--lr", "nan"), "nan is not a finite number"),
        (("--lr", "0"), "0.0 is not in the range x>0"),
        (("--steps", "0"), "0 is not in the range x>=1"),
        (("--factor", "0"), "0.0 is not in the range x>0"),
        (("--factor", "nan"), "nan is not a finite number"),
        (("--shadows", "0"), "0 is not in the range 1<=x<=1000"),
        (("--every", "0"), "0 is not in the range x>=1"),
        (("--dtype", "float16"), "'float16' is not one of 'float64', 'float32'"),
        (("--wat",), "No such option"),
    ],
)  # fmt: skip
def test_misuse_exits_with_2_and_says_what_is_needed(args: tuple[str, ...], message: str) -> None:
    done = mnistcheck(*DIGITS, *args)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_fault_without_fair_is_misuse() -> None:
    done = mnistcheck("train", "--inject", "grad-scale:0.weight:2")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith("Error: --inject: for a comparison; add --fair\n")


@pytest.mark.parametrize("option", ["--factor=8", "--shadows=3", "--every=1", "--no-sensitivity"])
def test_what_is_of_a_comparison_is_misuse_without_one(option: str) -> None:
    done = mnistcheck(*TRAINED, option)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{option.partition('=')[0]}: for a comparison; add --fair" in done.stderr


def test_a_run_says_nothing_of_its_sensitivity_where_it_is_told_to() -> None:
    done = mnistcheck(*DIGITS, "--steps", "15", "--json", "--every", "7", "--shadows", "2", "--factor", "16")
    assert done.returncode == 0, done.stderr
    result = strict_json(done.stdout)
    assert (result["sensitivity"], result["smallest_detectable_fault"]) == (None, None)
    assert result["lock_step"]["steps_compared"] == 3
    assert result["free_run"]["steps_compared"] == 15


def test_without_mnist_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    done = mnistcheck("train", "--fair", "--dataset", "mnist", "--data-dir", str(tmp_path))
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"Error: MNIST is not in {tmp_path}")
    assert "torchvision.datasets.MNIST(DIR, download=True)" in line
    assert done.stdout == ""


def test_auto_falls_back_on_the_digits_and_says_so() -> None:
    done = mnistcheck("train", "--fair", "--steps", "3", "--no-sensitivity", "--json", *SMALL)
    assert done.returncode == 0
    assert strict_json(done.stdout)["dataset"]["name"] == "digits"
    (line,) = done.stderr.splitlines()
    assert line.startswith("MNIST not found in the cache: using scikit-learn's bundled digits, scaled to 28 x 28")


def test_damaged_mnist_is_an_error_and_never_a_fallback(tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "train-images-idx3-ubyte").write_bytes(b"garbage")
    done = mnistcheck("train", "--fair", "--steps", "3", MNISTCHECK_DATA_DIR=str(tmp_path))
    assert done.returncode == 4
    assert "train-images-idx3-ubyte is no IDX file" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_real_mnist_comes_from_the_environment(mnist_dir: Path) -> None:
    fair = ("train", "--fair", "--steps", "3", "--no-sensitivity", "--json", *SMALL)
    done = mnistcheck(*fair, MNISTCHECK_DATA_DIR=str(mnist_dir))
    assert done.returncode == 0
    result = strict_json(done.stdout)
    assert (result["dataset"]["name"], result["dataset"]["test_size"]) == ("mnist", 10000)


def test_options_come_from_the_environment() -> None:
    variables = {
        "SEED": "5", "DTYPE": "float32", "PRESET": "nielsen", "DATASET": "digits", "TRAIN_SIZE": "60", "TEST_SIZE": "9",
        "EPOCHS": "2", "STEPS": "5", "BATCH_SIZE": "4", "LR": "0.5", "JSON": "1", "FAIR": "1",
        "INJECT": "grad-scale:2.bias:2@3",
    }  # fmt: skip
    done = mnistcheck("train", **{f"MNISTCHECK_TRAIN_{name}": value for name, value in variables.items()})
    assert done.returncode == 1, done.stderr
    result = strict_json(done.stdout)
    configuration = result["configuration"]
    assert (configuration["seed"], configuration["dtype"], configuration["lr"]) == (5, "float32", 0.5)
    assert (configuration["batch_size"], configuration["steps"], result["preset"]) == (4, 5, "nielsen")
    assert (result["dataset"]["train_size"], result["dataset"]["test_size"]) == (60, 9)
    assert (result["first_divergence"]["step"], result["first_divergence"]["tensor"]) == (3, "2.bias")


def test_a_diverging_run_is_inconclusive_and_names_what_is_not_finite() -> None:
    done = mnistcheck(*DIGITS, "--lr", "1e308")
    assert done.returncode == 3
    last = done.stdout.splitlines()[-1]
    assert last.startswith("INCONCLUSIVE: stopped at step ")
    assert "is not finite on either side; lower the learning rate." in last
    assert "Warning" not in done.stderr


def test_a_chaotic_run_passes_and_says_where_its_horizon_is() -> None:
    done = mnistcheck(*DIGITS, "--json", "--lr", "1e306")
    assert done.returncode == 0
    result = strict_json(done.stdout)
    assert (result["lock_step"]["verdict"], result["free_run"]["verdict"]) == ("pass", "inconclusive")
    assert result["free_run"]["horizon_step"] == result["free_run"]["steps_compared"]


def test_training_without_fair_stops_where_nothing_is_finite() -> None:
    done = mnistcheck(*TRAINED, "--lr", "1e308")
    assert (done.returncode, done.stderr) == (3, "")
    assert re.search(r"stopped at step [12], where ", done.stdout)


@pytest.mark.long
def test_a_fault_is_not_excused_where_the_other_precision_overflows() -> None:
    for lr in ("1e38", "1e40"):
        done = mnistcheck(*DIGITS, "--json", "--lr", lr, "--inject", "grad-scale:2.weight:2@5")
        assert done.returncode == 1, done.stderr
        assert strict_json(done.stdout)["first_divergence"]["step"] == 5


def test_training_without_fair_compares_nothing_and_says_so() -> None:
    done = mnistcheck(*TRAINED)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].startswith("Nothing was compared: --fair proves both the same")
    assert strict_json(mnistcheck(*TRAINED, "--json").stdout)["verdict"] is None


def test_a_run_writes_its_folder(tmp_path: Path) -> None:
    out = tmp_path / "runs" / "first"
    few = (*DIGITS, "--steps", "6")
    done = mnistcheck(*few, "--json", "--out", str(out))
    assert done.returncode == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "config.toml",
        "metrics.jsonl",
        "numpy.npz",
        "run.json",
        "torch.pt",
        "trajectory.png",
        "trajectory.svg",
        "weights.safetensors",
    ]
    assert strict_json((out / "run.json").read_text()) == strict_json(done.stdout)
    lines = [strict_json(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(6))
    assert all(line["rounding_noise"] <= 8 for line in lines)
    arrays = decode((out / "weights.safetensors").read_bytes())
    assert {name: array.shape for name, array in arrays.items() if name.startswith("torch/")} == {
        "torch/0.weight": (8, 784),
        "torch/0.bias": (8,),
        "torch/2.weight": (10, 8),
        "torch/2.bias": (10,),
    }
    assert f"written to {tmp_path / 'second'}" in mnistcheck(*few, "--out", str(tmp_path / "second")).stdout
    again = mnistcheck(*few, "--out", str(out))
    assert (again.returncode, "--out needs a new or empty folder" in again.stderr) == (2, True)


def test_a_folder_that_cannot_be_made_costs_no_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = mnistcheck(*DIGITS, "--out", str(tmp_path / "file" / "run"))
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in done.stderr


@pytest.mark.short(1)
@pytest.mark.parametrize("args", [DIGITS, ("verify", "MultiStepLR")], ids=["train", "verify"])
def test_a_missing_torch_is_one_line(args: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')")
    done = program(*args, PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stderr) == (4, "Error: this command needs PyTorch: pip install 'mnistcheck[torch]'\n")


def test_a_missing_scikit_learn_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    done = mnistcheck(*DIGITS)
    assert done.returncode == 4
    assert "the bundled digits need scikit-learn: pip install 'mnistcheck[digits]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_colour_is_for_terminals() -> None:
    few = (*DIGITS, "--steps", "1")
    assert "\x1b" not in mnistcheck(*few).stdout
    assert "\x1b" in mnistcheck(*few, FORCE_COLOR="1").stdout
    assert "\x1b[1;32m" not in mnistcheck(*few, FORCE_COLOR="1", NO_COLOR="1").stdout


def test_verify_prints_subjects_properties_and_examples() -> None:
    done = mnistcheck("verify", "Linear", "MultiStepLR", "--examples", "2")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["subject", "property", "examples", "worst", "ratio", "verdict"]
    assert "gradients agree with differences" in done.stdout
    assert re.fullmatch(r"PASS: (\d+) properties of 2 subjects \(\1 pass\), \d+ examples", done.stdout.splitlines()[-1])


def test_verify_of_a_whole_module_has_a_line_a_class() -> None:
    done = mnistcheck("verify", "--module", "nets.layers.tanh", "--examples", "2")
    header, line, summary = done.stdout.splitlines()
    assert header.split() == ["subject", "properties", "examples", "worst", "ratio", "verdict"]
    assert re.fullmatch(r"Tanh +(\d+) +\d+ +[\d.e-]+ +pass *", line)
    assert re.fullmatch(r"PASS: \d+ properties of 1 subject \(.*\), \d+ examples", summary)


def test_verify_lists_what_is_drawn() -> None:
    done = mnistcheck("verify", "--list", "Dropout", "AdaptiveAvgPool2d")
    assert (done.returncode, done.stderr) == (0, "")
    assert "None or 1.." in done.stdout
    lines = [line.strip().split(maxsplit=2) for line in done.stdout.splitlines()]
    assert lines[0] == ["subject", "drawn", "values"]
    assert lines[1] == ["Dropout", "p", "0, 0.1, 0.25, 0.5, 0.8, 1"]
    assert any(line[:2] == ["AdaptiveAvgPool2d", "output_size"] for line in lines)
    listed = strict_json(mnistcheck("verify", "--list", "Dropout", "--json").stdout)
    assert listed["drawn"]["Dropout"]["p"] == lines[1][2]


def test_verify_checks_schedules_and_initialisers() -> None:
    done = mnistcheck("verify", "ReduceLROnPlateau", "KaimingUniform", "--examples", "2")
    assert (done.returncode, done.stderr) == (0, "")
    for text in ("rates agree with twin", "draws agree with twin", "draws follow their generator"):
        assert text in done.stdout
    assert "PASS: 4 properties of 2 subjects" in done.stdout


def test_verify_as_json() -> None:
    result = strict_json(mnistcheck("verify", "Sigmoid", "--examples", "2", "--json").stdout)
    assert (result["command"], result["verdict"]) == ("verify", "pass")
    assert {entry["subject"] for entry in result["results"]} == {"Sigmoid"}
    first = result["results"][0]
    assert set(first) == {
        "subject",
        "property",
        "verdict",
        "examples",
        "failing_examples",
        "inconclusive_examples",
        "worst",
        "message",
        "diagnosis",
        "remarks",
    }
    assert set(first["worst"]) == {"tensor", "index", "analytic", "numeric", "allowed", "ratio"}


def test_verify_names_layer_property_and_element_of_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(_: ReLU, x: Array, context: Context = Context()) -> tuple[Array, Backward]:  # noqa: ARG001, B008  as ReLU's
        return np.maximum(x, 0), lambda dy: (dy.copy(), {})

    monkeypatch.setattr(ReLU, "forward", forward)
    done = mnistcheck("verify", "ReLU", "--examples", "2")
    assert done.returncode == 1
    assert "ReLU: gradients agree with differences: FAIL in " in done.stdout
    assert "  input[" in done.stdout
    assert "see it again: mnistcheck verify ReLU --examples 2 --seed 0" in done.stdout
    assert re.match(r"FAIL: \d+ properties of 1 subject \(\d+ pass, \d+ fail\)", done.stdout.splitlines()[-1])


def test_verify_checks_a_module_of_ones_own_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [*PROGRAM, "verify", "--module", "examples.case_studies.layers", "Dense", "DividedTwice", "--mode", "full"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["examples"]
    assert not list(tmp_path.glob("examples/**/__pycache__"))
    assert "W's gradient is exactly 1/4 of the numerical one; 4 is the batch size" in done.stdout
    assert "see it again: mnistcheck verify --module examples.case_studies.layers" in done.stdout


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        (
            "bare_module",
            "class Dense:\n    def forward(self, x): ...\n    def backward(self, dy): ...\n",
            "bare_module does not say what to try Dense on: give the class a static method cases()",
        ),
        ("empty_module", "", "empty_module has nothing to check: no subclass of Layer"),
        ("nowhere_module", None, "there is no module nowhere_module here"),
        (
            "broken_module",
            "import nowhere_to_be_found\n",
            "broken_module cannot be imported: ModuleNotFoundError: No module named 'nowhere_to_be_found'",
        ),
    ],
)
def test_verify_says_what_a_module_lacks(
    module: str, source: str | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if source is not None:
        (tmp_path / f"{module}.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    try:
        done = mnistcheck("verify", "--module", module)
    finally:
        sys.modules.pop(module, None)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


class PickledPool:
    """A pool of processes as far as what goes to them and comes back is concerned: all of it is pickled."""

    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> PickledPool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, call: Callable[..., object], *arguments: Iterable[object]) -> Iterator[object]:
        for each in zip(*arguments, strict=True):
            yield pickle.loads(pickle.dumps(call(*pickle.loads(pickle.dumps(each)))))  # noqa: S301  our own


@pytest.mark.parametrize("pool", [PickledPool, pytest.param(ProcessPoolExecutor, marks=pytest.mark.long)])
def test_verify_in_several_processes_prints_what_one_does(pool: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", pool)
    args = ["verify", "Sigmoid", "MultiStepLR", "--examples", "3", "--json", "--dtype", "float64"]
    one, two = (strict_json(mnistcheck(*args, "--jobs", jobs).stdout) for jobs in ("1", "2"))
    assert one["results"] == two["results"]
    assert "precisions_agree" not in {entry["property"] for entry in one["results"]}


def test_verify_knows_its_names() -> None:
    done = mnistcheck("verify", "Conv9d")
    assert done.returncode == 2
    assert "nothing is named Conv9d; there are " in done.stderr


def test_help_and_version() -> None:
    assert mnistcheck("--version").stdout.startswith("mnistcheck, version ")
    done = mnistcheck("--help")
    assert done.returncode == 0
    assert "train" in done.stdout
    assert "verify" in done.stdout
    assert "momentum-lost             The velocity is not kept" in mnistcheck("train", "--help").stdout


def test_a_bug_of_ours_exits_with_5_and_shows_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("our fault")

    monkeypatch.setattr("cli.commands.verify._choose", broken)
    done = mnistcheck("verify")
    assert done.returncode == 5
    assert "RuntimeError: our fault" in done.stderr
    assert "this is a bug of mnistcheck" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        "presets --json",
        "--help",
        f"{shlex.join(TRAINED)} --steps 3 --engine numpy",
        pytest.param("verify MultiStepLR --json", marks=pytest.mark.long),
        pytest.param(shlex.join(DIGITS), marks=pytest.mark.long),
    ],
)
def test_a_reader_that_leaves_is_no_mismatch(args: str) -> None:
    command = f"{shlex.join(PROGRAM)} {args} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout.strip() in {"0", "130"}  # 0 where everything fitted into the pipe before it was closed
    assert "Traceback" not in done.stderr


# What Control-C may come amid: a dataclass that is being made in an import, or a call of the garbage collector's.
INTERRUPTED = {
    "exec": ["exec('raise KeyboardInterrupt')"],
    "callback": [
        "gc.callbacks.append(lambda *_: gc.callbacks.clear() or signal.raise_signal(signal.SIGINT))",
        "gc.collect()",
        "for _ in range(6000): time.sleep(0.01)",
    ],
}


@pytest.mark.parametrize("place", INTERRUPTED)
def test_an_interrupt_exits_with_130_wherever_it_comes(place: str, tmp_path: Path) -> None:
    lines = [
        "import gc, signal, time, cli.main",
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not",
        "def run(args):",
        "    try:",
        *(f"        {line}" for line in INTERRUPTED[place]),
        "    except KeyboardInterrupt:",
        "        return 130",
        "cli.main.run = run",
        "cli.main.main()",
    ]
    (tmp_path / "interrupted.py").write_text("\n".join(lines))
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (130, "")


FAIR = ("train", "--fair", "--dataset", "digits", "--epochs", "9000")


@pytest.mark.parametrize("args", [("verify", "--examples", "100000"), pytest.param(FAIR, marks=pytest.mark.long)])
def test_control_c_exits_with_130(args: tuple[str, ...], tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "run")) if args[0] == "train" else ()
    process = subprocess.Popen(
        [*PROGRAM, *args, *out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    while not list(tmp_path.iterdir()):  # the run's folder, or that of Hypothesis: the command is under way
        assert process.poll() is None
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # nothing, where it has ended
    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not list((tmp_path / "run").glob("*"))


def test_control_c_in_a_fair_run_exits_with_130_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, taken = NumpyEngine.step, itertools.count(1)

    def interrupted(self: NumpyEngine, *args: Any) -> Any:  # noqa: ANN401  as the engine's
        if next(taken) == 20:
            signal.raise_signal(signal.SIGINT)
        return step(self, *args)

    monkeypatch.setattr(NumpyEngine, "step", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has not
    try:
        done = mnistcheck(*DIGITS, "--out", str(tmp_path / "run"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "interrupted")
    assert not list((tmp_path / "run").glob("*"))


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """Yield the functions that a module defines, and those of its classes."""
    for scope in (module, *(each for each in vars(module).values() if isinstance(each, type))):
        for each in vars(scope).values():
            if isinstance(each, FunctionType) and each.__module__ == module.__name__:
                yield each


def codes_of(code: CodeType) -> Iterator[CodeType]:
    """Yield compiled code, and all that is in it."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from codes_of(each)


@pytest.mark.short(1)
@pytest.mark.parametrize(
    ("module", "right", "wrong", "subject", "element"),
    [
        ("layers.linear", "drows.sum(axis=0)", "drows.mean(axis=0)", "Linear", "bias["),
        ("layers.sigmoid", "dy * ((1 - y) * y)", "dy * ((1 - x) * x)", "Sigmoid", "input["),
        ("losses.reduction", "lambda dvalue: dvalue / count", "lambda dvalue: dvalue", "CrossEntropyLoss", ""),
    ],
)
def test_verify_names_a_fault_in_the_source(
    module: str, right: str, wrong: str, subject: str, element: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty = importlib.import_module(f"nets.{module}")
    source = inspect.getsource(faulty)
    assert source.count(right) == 1
    compiled = {code.co_qualname: code for code in codes_of(compile(source.replace(right, wrong), module, "exec"))}
    for each in functions_of(faulty):
        if each.__qualname__ in compiled:  # and is not made by dataclasses
            monkeypatch.setattr(each, "__code__", compiled[each.__qualname__])
    done = mnistcheck("verify", subject, "--examples", "4")
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    headline = f"{subject}: gradients agree with differences: FAIL in "
    first = next(i for i, line in enumerate(lines) if line.startswith(headline))
    where = next(line for line in lines[first:] if "analytic" in line)
    assert where.startswith(f"  {element or 'prediction['}")
    assert f"mnistcheck verify {subject} --examples 4 --seed 0" in done.stdout
    assert lines[-1].startswith("FAIL: ")
