"""``train``, as a user types it: configurations, runs that stop and go on, weights to start from, what is refused."""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import gradcheck.files
from cli.commands.train import train
from cli.main import run
from cli.runs.finished import read_run, repetition
from nets.checkpoints import save_checkpoint
from nets.datasets.digits import load_digits
from nets.engines.torch_engine import TorchEngine
from nets.presets import PRESETS
from nets.weights import read

pytestmark = pytest.mark.usefixtures("undrawn")

ROOT = Path(__file__).parent.parent.parent
FEW = (
    "--dataset", "digits", "--train-size", "21", "--test-size", "20", "--batch-size", "8",
    "--network", "Linear(784, 8), ReLU(), Linear(8, 10)",
)  # fmt: skip
SMALL = ("train", *FEW, "--validation-size", "15", "--epochs", "3")

Streams = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True, scope="module")
def _plain() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("MNISTCHECK_")]:
            patch.delenv(name)
        patch.setenv("COLUMNS", "200")
        yield


def last(text: str) -> str:
    """Return the last line of a stream, of which an error has one."""
    return (text.splitlines() or [""])[-1]


def refused(capsys: Streams, code: int, *args: str | Path) -> str:
    """Return the error of a command that is refused with ``code``, in one line and without a traceback."""
    assert run([*map(str, args)]) == code
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert errors == [last(err)]
    assert out == ""
    return errors[0].removeprefix("Error: ")


def strict(text: str) -> Any:  # noqa: ANN401  any JSON
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def document(folder: Path) -> Any:  # noqa: ANN401  any JSON
    return strict((folder / "run.json").read_text())


def timeless(value: object) -> object:
    """Return JSON without what depends on the clock, and on the command that was typed."""
    if isinstance(value, dict):
        return {key: timeless(item) for key, item in value.items() if key not in ("seconds", "command")}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def remains(folder: Path) -> tuple[dict[str, bytes], object, object]:
    """Return what a run has come to: weights to the byte, its metrics and its document."""
    weights = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".safetensors", ".npz")}
    tensors = torch.load(folder / "torch.pt", weights_only=True) if (folder / "torch.pt").exists() else {}
    weights |= {f"torch/{name}": tensor.numpy().tobytes() for name, tensor in tensors.items()}
    lines = [strict(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return weights, timeless(lines), timeless(document(folder))


# Runs that stop, and go on.


# A process that is sent a signal right after its fourth checkpoint has appeared, so that it is sent at no other time.
SIGNALLED = """
import os, sys, nets.checkpoints
from cli.main import main

how, save, count = int(sys.argv.pop()), nets.checkpoints.save_checkpoint, 0

def counted(path, training):
    global count
    save(path, training)
    count += 1
    if count == 4:
        os.kill(os.getpid(), how)

nets.checkpoints.save_checkpoint = counted
main()
"""
REGULARISED = (
    "train", "--dataset", "digits", "--preset", "regularised", "--train-size", "100", "--test-size", "20",
    "--validation-size", "20", "--augmentation", "Augmentation(shift=1)", "--checkpoint-every", "3",
)  # fmt: skip
OF_NUMPY = ("--engine", "numpy")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that nothing has stopped."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run([*REGULARISED, "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of such a run of NumPy alone: a process without torch takes a third of the time."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert run([*REGULARISED, *OF_NUMPY, "--out", str(folder)]) == 0
    return folder


def seen_to_go_on(folder: Path, errors: str, whole: Path, *, killed: bool) -> None:
    """See a run that a signal has stopped after its fourth checkpoint say how to go on, and go on."""
    assert "Traceback" not in errors
    assert not (folder / "run.json").exists()
    kept = [strict(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert 0 < len(kept) < 3
    if not killed:
        said = re.fullmatch(r"interrupted after step \d+; go on with: (.*)", last(errors))
        assert said
        assert shlex.split(said[1]) == ["mnistcheck", "train", "--resume", str(folder)]
    assert run(["train", "--resume", str(folder)]) == 0
    assert remains(folder) == remains(whole)
    assert (folder / "config.toml").read_text() == (whole / "config.toml").read_text()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_what_a_signal_has_stopped_goes_on_as_if_nothing_had_been(
    how: signal.Signals, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    count = itertools.count(1)

    def counted(path: Path, training: Any) -> None:  # noqa: ANN401  a training
        save_checkpoint(path, training)
        if next(count) == 4:
            signal.raise_signal(how)

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr("nets.checkpoints.save_checkpoint", counted)
        assert run([*REGULARISED, "--out", str(tmp_path / "a folder")]) == 130
    seen_to_go_on(tmp_path / "a folder", capsys.readouterr().err, whole, killed=False)


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGINT, signal.SIGTERM))]
)
def test_a_process_that_is_stopped_goes_on_as_if_nothing_had_been(
    how: signal.Signals, alone: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "a folder"
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, *REGULARISED, *OF_NUMPY, "--out", str(folder), str(int(how))],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    seen_to_go_on(folder, done.stderr, alone, killed=how == signal.SIGKILL)


class Stop(BaseException):
    """What nothing catches."""


def stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, *args: str, after: int = 2) -> None:
    """Leave a run in ``folder`` that was ended right after some checkpoints."""
    count = 0

    def counted(path: Path, training: Any) -> None:  # noqa: ANN401  a training
        nonlocal count
        save_checkpoint(path, training)
        count += 1
        if count == after:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr("nets.checkpoints.save_checkpoint", counted)
        with pytest.raises(Stop):
            run([*SMALL, "--out", str(folder), *args])


@pytest.mark.parametrize(
    "options",
    [
        ("--engine", "numpy", "--optimizer", "Adam()"),
        ("--engine", "torch", "--dtype", "float32", "--checkpoint-every", "2"),
        ("--patience", "2", "--lr", "0.5", "--checkpoint-every", "1"),
        ("--schedule", "ReduceLROnPlateau(0.1, patience=0)", "--drop-last"),
        ("--epochs", "2", "--steps", "5"),
        ("--lr", "0.3", "--first", "--scaling", "standard"),
    ],
    ids=" ".join,
)
def test_whatever_was_chosen_is_gone_on_with(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path / "one", monkeypatch, *options, after=1)
    assert run(["train", "--resume", str(tmp_path / "one")]) == 0
    assert run([*SMALL, *options, "--out", str(tmp_path / "two")]) == 0
    assert remains(tmp_path / "one") == remains(tmp_path / "two")


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(tmp_path / "one", monkeypatch)
    (tmp_path / "one" / "checkpoint" / "last.safetensors").unlink()
    assert run(["train", "--resume", str(tmp_path / "one")]) == 0
    assert run([*SMALL, "--out", str(tmp_path / "two")]) == 0
    assert remains(tmp_path / "one") == remains(tmp_path / "two")


def test_a_run_goes_on_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = load_digits().train
    learned, rest = digits[:900], digits[900:]
    np.savez(
        tmp_path / "own.npz",
        x_train=learned.images, y_train=learned.labels, x_test=rest.images, y_test=rest.labels,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    stopped(tmp_path / "one", monkeypatch, "--dataset", "own.npz")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert run(["train", "--resume", "../one"]) == 0
    again = repetition(read_run(tmp_path / "one").document)
    assert again[again.index("--dataset") + 1] == str(tmp_path / "own.npz")
    assert run([*again[1:], "--out", "two"]) == 0
    assert remains(Path("two"))[:2] == remains(tmp_path / "one")[:2]


def test_what_cannot_be_resumed_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    folder = tmp_path / "stopped"
    stopped(folder, monkeypatch)
    (tmp_path / "other.toml").write_text("lr = 0.3\n")
    capsys.readouterr()
    for others, message in [
        (("--lr", "0.3"), "--resume goes on with a run as it was; drop --lr"),
        (("--seed", "0", "--fair"), "--resume goes on with a run as it was; drop --seed, --fair"),
        (("--config", str(tmp_path / "other.toml")), "--resume goes on with a run as it was; drop --config"),
        (("--out", str(tmp_path / "new")), "--resume goes on in the run's own folder; drop --out"),
        (("--print-config",), "--resume goes on with a run as it was; drop --print-config"),
    ]:
        assert refused(capsys, 2, "train", "--resume", folder, *others) == message
        assert refused(capsys, 2, "train", *others, "--resume", folder) == message
    assert refused(capsys, 2, "train", "--resume", tmp_path) == f"{tmp_path} holds no run: train --out writes one"
    missing = tmp_path / "missing"
    assert refused(capsys, 2, "train", "--resume", missing) == f"{missing} holds no run: train --out writes one"
    config = folder / "config.toml"
    config.write_text(config.read_text() + "fair = true\n")
    fair = f"{folder} is a fair run, which begins anew: its shadows are not kept"
    assert refused(capsys, 2, "train", "--resume", folder) == fair
    assert run([*SMALL, "--out", str(tmp_path / "done")]) == 0
    capsys.readouterr()
    done = f"{tmp_path / 'done'} is finished; --init-from {tmp_path / 'done' / 'weights.safetensors'} goes on from its"
    assert refused(capsys, 2, "train", "--resume", tmp_path / "done").startswith(done)


def test_a_checkpoint_that_is_damaged_or_of_other_data_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    stopped(tmp_path / "one", monkeypatch)
    stopped(tmp_path / "two", monkeypatch, "--seed", "1")
    capsys.readouterr()
    path = tmp_path / "one" / "checkpoint" / "last.safetensors"
    path.write_bytes((tmp_path / "two" / "checkpoint" / "last.safetensors").read_bytes())
    message = refused(capsys, 4, "train", "--resume", tmp_path / "one")
    assert message == f"{path} is of another run: its seed is 1, not 0"
    path.write_bytes(path.read_bytes()[:1000])
    assert refused(capsys, 4, "train", "--resume", tmp_path / "one").startswith(f"{path} is no safetensors file: ")


def test_a_full_disk_ends_the_run_and_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    folder, count = tmp_path / "full", 0
    write = gradcheck.files.write_whole

    def full(path: Path, content: bytes) -> None:
        nonlocal count
        count += path.name == "last.safetensors"
        if count == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("nets.checkpoints.write_whole", full)
        assert run([*SMALL, "--out", str(folder), "--checkpoint-every", "2"]) == 4
    out, err = capsys.readouterr()
    assert last(err) == "Error: No space left on device"
    assert "Traceback" not in err
    assert out == ""
    assert not (folder / "run.json").exists()
    assert run(["train", "--resume", str(folder)]) == 0
    assert run([*SMALL, "--out", str(tmp_path / "whole"), "--checkpoint-every", "2"]) == 0
    assert remains(folder) == remains(tmp_path / "whole")


# Losses that are lost.


@pytest.mark.parametrize("engine", ["numpy", "torch", "both"])
def test_a_loss_that_is_not_finite_ends_in_3_and_names_step_layer_and_tensor(
    engine: str, tmp_path: Path, capsys: Streams
) -> None:
    args = [*SMALL, "--engine", engine, "--loss", "MSELoss()", "--lr", "1e200"]
    assert run([*args, "--out", str(tmp_path / "lost")]) == 3
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    (line,) = (line for line in out.splitlines() if "not finite" in line)
    stop = document(tmp_path / "lost")["stopped_by"]
    for word in (f"step {stop['step']}", stop["layer"], stop["tensor"]):
        assert word in line
    assert (stop["step"], stop["layer"], stop["tensor"], stop["side"]) == (
        1,
        "2",
        "2.output",
        None if engine == "both" else engine,
    )
    assert run([*args, "--json"]) == 3
    assert strict(capsys.readouterr().out)["stopped_by"] == stop
    assert run(["report", str(tmp_path / "lost")]) == 0
    assert "2.output is not finite" in (tmp_path / "lost" / "report.html").read_text()


@pytest.mark.usefixtures("drawn")
def test_a_run_whose_last_step_ruined_it_can_be_reported(tmp_path: Path, capsys: Streams) -> None:
    args = [*SMALL, "--steps", "1", "--loss", "MSELoss()", "--lr", "1e200", "--out", str(tmp_path / "ruined")]
    assert run(args) == 0
    capsys.readouterr()
    assert run(["report", str(tmp_path / "ruined")]) == 0
    read_run(tmp_path / "ruined")


# Weights to start from.


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run, whose weights may be started from."""
    folder = tmp_path_factory.mktemp("weights") / "run"
    assert run([*SMALL, "--seed", "5", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("file", ["weights.safetensors", "numpy.npz", "torch.pt"])
def test_a_run_starts_from_the_weights_of_a_file(file: str, weights: Path, tmp_path: Path) -> None:
    args = [*SMALL, "--init-from", str(weights / file), "--engine", "numpy", "--steps", "1", "--lr", "1e-300"]
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    side = "torch" if file == "torch.pt" else "numpy"
    kept = {
        name.partition("/")[2]: array for name, array in read(weights / "weights.safetensors").items() if side in name
    }
    for name, array in read(tmp_path / "run" / "numpy.npz").items():
        assert array.tobytes() == kept[name].tobytes()


def test_weights_of_torch_itself_are_started_from_and_rounded(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(784, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10)).double()
    torch.save(module.state_dict(), tmp_path / "own.pt")
    args = [*SMALL, "--init-from", str(tmp_path / "own.pt"), "--steps", "1", "--lr", "1e-30", "--dtype", "float32"]
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    found = read(tmp_path / "run" / "numpy.npz")
    for name, tensor in module.state_dict().items():
        assert found[name].tobytes() == tensor.float().numpy().tobytes()


def test_weights_that_do_not_fit_are_refused_in_one_line(weights: Path, tmp_path: Path, capsys: Streams) -> None:
    capsys.readouterr()
    file = weights / "weights.safetensors"
    wide = refused(capsys, 4, *SMALL, "--network", "Linear(784, 9), ReLU(), Linear(9, 10)", "--init-from", file)
    assert wide == "--init-from: 0.weight needs shape (9, 784), got (8, 784)"
    deep = refused(capsys, 4, *SMALL, "--network", "Linear(784, 10)", "--init-from", file)
    assert deep.startswith("--init-from: the network has no 2.bias, 2.weight; it has ")
    assert refused(capsys, 4, *SMALL, "--init-from", tmp_path / "none.npz").endswith("No such file or directory")
    assert "weights are kept in .safetensors, .npz, .pt files" in refused(capsys, 4, *SMALL, "--init-from", "a.txt")
    for name in ("a.safetensors", "a.npz", "a.pt"):
        (tmp_path / name).write_bytes(b"hello")
        assert refused(capsys, 4, *SMALL, "--init-from", tmp_path / name).startswith(f"{tmp_path / name}: these bytes")
    assert refused(capsys, 4, *SMALL, "--init-from", tmp_path).startswith("weights are kept in")


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "meta", "nonsense", "", "hpu", "mps", "privateuseone"])
def test_a_device_that_is_not_there_is_refused_in_one_line(device: str, capsys: Streams) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():
        pytest.skip("for want of a machine without CUDA (CUDA_VISIBLE_DEVICES= make test)")
    message = refused(capsys, 2, *SMALL, "--device", device)
    assert message.startswith(f"device {device!r} is not to be had here (")


def test_a_device_is_torchs(capsys: Streams) -> None:
    assert refused(capsys, 2, *SMALL, "--fair", "--device", "cuda") == "--fair compares on the CPU; drop --device cuda"
    numpy = refused(capsys, 2, *SMALL, "--engine", "numpy", "--device", "cuda")
    assert numpy == "NumPy trains on the CPU; drop --device cuda"


def test_the_device_is_where_torch_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []
    make = TorchEngine.__init__

    def noted(self: TorchEngine, *args: Any) -> None:  # noqa: ANN401  the engine's own
        make(self, *args)
        devices.append(str(next(iter(self.params.values())).device))

    monkeypatch.setattr(TorchEngine, "__init__", noted)
    assert run([*SMALL, "--device", "cpu"]) == 0
    assert devices == ["cpu"]


# Configurations.

# One value for each option that a run has, none of them the usual one.
EVERY = {
    "preset": "nnmnist", "dataset": "digits", "data-dir": "/nowhere", "train-size": 30, "validation-size": 14,
    "first": True, "epochs": 2, "batch-size": 7, "drop-last": True, "network": "Linear(784, 6), Tanh(), Linear(6, 10)",
    "weights": "Normal(std=0.1)", "biases": "Constant(val=0.5)", "loss": "CrossEntropyLoss(label_smoothing=0.1)",
    "reported-loss": "CrossEntropyLoss()", "optimizer": "SGD(momentum=0.9)",
    "schedule": "StepLR(lr=0.1, step_size=1, gamma=0.5)", "scaling": "standard",
    "augmentation": "Augmentation(shift=1)", "validation-of": "test", "test-of": "train", "lr": 0.2, "steps": 3,
    "seed": 4, "dtype": "float32", "engine": "numpy", "test-size": 12, "patience": 2, "checkpoint-every": 2,
    "device": "cpu", "fair": True, "inject": "label-shift", "factor": 4.0, "shadows": 2, "every": 2,
    "no-sensitivity": True, "init-from": "weights.npz", "out": "somewhere", "json": True, "print-config": True,
}  # fmt: skip


def test_every_option_of_a_run_is_tried_here() -> None:
    options = {str(option.name).replace("_", "-") for option in train.params if not option.is_eager}
    assert set(EVERY) == options


def as_toml(given: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in given.items())


def configured(capsys: Streams, *args: str | Path) -> dict[str, Any]:
    """Return what a command would print as its configuration."""
    assert run(["train", *map(str, args), "--print-config"]) == 0, capsys.readouterr().err
    return tomllib.loads(capsys.readouterr().out)


def test_every_option_can_be_given_in_a_file(tmp_path: Path, weights: Path, capsys: Streams) -> None:
    capsys.readouterr()
    plain = {"init-from", "fair", "inject", "factor", "shadows", "every", "no-sensitivity", "out", "json"}
    of_training = {name: value for name, value in EVERY.items() if name not in plain | {"checkpoint-every"}}
    (tmp_path / "one.toml").write_text(as_toml(of_training))
    told = configured(capsys, "--config", tmp_path / "one.toml")
    expected = {key: value for key, value in of_training.items() if key not in ("lr", "print-config", "epochs")}
    expected |= {"schedule": "StepLR(lr=0.2, step_size=1, gamma=0.5)"}
    assert told == expected
    of_a_comparison = {"dataset": "digits", "fair": True, "inject": "label-shift", "factor": 4.0, "shadows": 2,
        "every": 2, "no-sensitivity": True, "test-size": 12, "json": True, "steps": 4, "out": str(tmp_path / "out"),
    }  # fmt: skip
    (tmp_path / "two.toml").write_text(as_toml(of_a_comparison))
    assert run(["train", "--config", str(tmp_path / "two.toml")]) == 1
    found = strict(capsys.readouterr().out)
    assert (found["factor"], found["shadows"], found["every"], found["sensitivity"]) == (4.0, 2, 2, None)
    assert (found["configuration"]["inject"], found["dataset"]["test_size"]) == ("label-shift", 12)
    assert document(tmp_path / "out")["verdict"] == "fail"
    start = {"init-from": str(weights / "numpy.npz"), "checkpoint-every": 2, "out": str(tmp_path / "three")}
    (tmp_path / "three.toml").write_text(as_toml(start))
    assert run([*SMALL, "--config", str(tmp_path / "three.toml")]) == 0
    assert document(tmp_path / "three")["settings"]["init_from"] == str(weights / "numpy.npz")


@pytest.mark.parametrize("preset", list(PRESETS))
def test_what_is_printed_reads_back_to_the_same(preset: str, tmp_path: Path, capsys: Streams) -> None:
    args = ("train", "--preset", preset, "--dataset", "digits", "--print-config")
    assert run([*args]) == 0
    first = capsys.readouterr().out
    (tmp_path / "run.toml").write_text(first)
    assert run(["train", "--config", str(tmp_path / "run.toml"), "--print-config"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    "args",
    [
        ("--steps", "50", "--epochs", "1"),
        ("--steps", "50"),
        ("--fair", "--factor", "3", "--shadows", "2", "--inject", "label-shift", "--no-sensitivity", "--every", "4"),
        ("--keep-last", "--drawn", "--weights", "none", "--biases", "none", "--reported-loss", "MSELoss()"),
        ("--drop-last", "--first", "--engine", "torch", "--patience", "3", "--validation-size", "10"),
        ("--optimizer", "ClippedByNorm(SGD(momentum=0.5), 1, inf)", "--lr", "1e-7"),
        ("--validation-of", "train", "--test-of", "train"),
    ],
    ids=" ".join,
)
def test_what_is_printed_of_any_options_reads_back_to_the_same(
    args: tuple[str, ...], tmp_path: Path, capsys: Streams
) -> None:
    assert run(["train", "--dataset", "digits", "--train-size", "20", *args, "--print-config"]) == 0
    first = capsys.readouterr().out
    (tmp_path / "run.toml").write_text(first)
    assert run(["train", "--config", str(tmp_path / "run.toml"), "--print-config"]) == 0
    assert capsys.readouterr().out == first


def test_a_configuration_that_was_printed_makes_the_same_run(tmp_path: Path, capsys: Streams) -> None:
    args = [*SMALL, "--steps", "50", "--epochs", "2", "--seed", "3"]
    assert run([*args, "--print-config"]) == 0
    (tmp_path / "run.toml").write_text(capsys.readouterr().out)
    assert run([*args, "--out", str(tmp_path / "one")]) == 0
    assert run(["train", "--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / "two")]) == 0
    assert remains(tmp_path / "one") == remains(tmp_path / "two")


def test_printing_a_configuration_does_nothing_else(tmp_path: Path) -> None:
    assert run([*SMALL, "--out", str(tmp_path / "run"), "--print-config"]) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_comes_before_the_file_and_the_file_before_the_preset(tmp_path: Path, capsys: Streams) -> None:
    (tmp_path / "run.toml").write_text('dataset = "digits"\nseed = 3\nfirst = true\ntrain_size = 20\nlr = 0.5\n')
    told = configured(capsys, "--config", tmp_path / "run.toml", "--seed", "4", "--drawn")
    assert (told["seed"], told["first"], told["train-size"]) == (4, False, 20)
    assert told["schedule"] == "ConstantRate(lr=0.5)"
    assert told["batch-size"] == PRESETS["fair"].batch_size
    told = configured(capsys, "--config", tmp_path / "run.toml")
    assert (told["seed"], told["first"]) == (3, True)


def test_the_layers_of_a_file_may_be_a_list(tmp_path: Path, capsys: Streams) -> None:
    (tmp_path / "run.toml").write_text('dataset = "digits"\nnetwork = ["Linear(784, 5)", "Tanh()", "Linear(5, 10)"]\n')
    told = configured(capsys, "--config", tmp_path / "run.toml")
    assert told["network"] == "Linear(784, 5), Tanh(), Linear(5, 10)"


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("nothing = 3", 2, "{path}: there is no nothing; there are augmentation, batch-size, "),
        ("resume = 'x'", 2, "{path}: there is no resume; there are augmentation, batch-size, "),
        ("config = 'x'", 2, "{path}: there is no config; there are augmentation, batch-size, "),
        ("[seed]\na = 1", 2, "{path}: seed needs a value, not a table"),
        ("[train]\nseed = 1", 2, "{path}: there is no train; there are "),
        ("seed = ", 4, "Could not open file '{path}': it is not TOML: Invalid value"),
        ("seed = 1\nseed = 2", 4, "Could not open file '{path}': it is not TOML: Cannot overwrite a value"),
        ("seed = 1.5", 2, "Invalid value for '--seed': '1.5' is not a valid integer"),
        ("seed = true", 2, "Invalid value for '--seed': 'True' is not a valid integer"),
        ("seed = 1979-05-27", 2, "Invalid value for '--seed': '1979-05-27' is not a valid integer"),
        ("seed = -1", 2, "Invalid value for '--seed': -1 is not in the range 0<=x<=9007199254740992."),
        ("lr = inf", 2, "Invalid value for '--lr': inf is not a finite number."),
        ("lr = true", 2, "Invalid value for '--lr': 'True' is not a valid float"),
        ("fair = 3", 2, "Invalid value for '--fair': '3' is not a valid boolean."),
        ("dtype = 64", 2, "Invalid value for '--dtype': '64' is not one of 'float64', 'float32'."),
        ("network = 5", 2, "layer '5': only names, calls and literals are understood"),
        ("preset = 'nowhere'", 2, "there is no preset 'nowhere'; there are fair, nnmnist, "),
        ("optimizer = 'Adma()'", 2, "optimizer 'Adma()': there is no Adma; did you mean Adam?"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(
    text: str, code: int, message: str, tmp_path: Path, capsys: Streams
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert refused(capsys, code, *SMALL[:3], "--config", path).startswith(message.format(path=path))


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path: Path, capsys: Streams) -> None:
    missing = refused(capsys, 4, *SMALL, "--config", tmp_path / "none.toml")
    assert missing == f"Could not open file '{tmp_path / 'none.toml'}': No such file or directory"
    assert refused(capsys, 4, *SMALL, "--config", tmp_path).endswith(f"'{tmp_path}': Is a directory")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    assert "it is not TOML: 'utf-8' codec" in refused(capsys, 4, *SMALL, "--config", tmp_path / "bytes.toml")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--patience", "2"), "early stopping needs validation images, got none: give a validation size"),
        (("--schedule", "ReduceLROnPlateau(0.1)"), "ReduceLROnPlateau needs validation images, got none: "),
        (
            ("--fair", "--schedule", "ReduceLROnPlateau(0.1)"),
            "ReduceLROnPlateau needs validation losses, which neither a fair",
        ),
        (("--fair", "--patience", "2"), "--patience: for a run that compares nothing; drop --fair"),
        (("--factor", "2"), "--factor: for a comparison; add --fair"),
        (("--checkpoint-every", "2"), "--checkpoint-every needs a folder to write to: add --out DIR"),
        (("--fair", "--engine", "numpy"), "--fair compares both engines; drop --engine numpy"),
        (
            ("--network", "Linear(784, 10), BatchNorm1d(10)", "--train-size", "17"),
            "step 2 cannot be taken: BatchNorm1d",
        ),
        (("--network", "Liner(784, 10)"), "layer 'Liner(784, 10)': there is no Liner; did you mean Linear?"),
        (("--loss", "MSELoss(reduction='none')"), "MSELoss needs to come to one number: reduction mean or sum"),
        (("--loss", "CrossEntropyLoss(weight=(1, 2))"), "CrossEntropyLoss needs weight of shape (10,), got (2,)"),
        (("--schedule", "ConstantRate('a')"), "schedule \"ConstantRate('a')\": ConstantRate needs a number"),
        (("--lr", "1e300", "--dtype", "float32"), "a learning rate of 1e+300 does not fit float32"),
        (("--drop-last", "--batch-size", "30"), "drop_last leaves nothing of 21 images in batches of 30"),
        (("--scaling", "dark"), "there is no scaling 'dark'; there are unit, standard, or MEAN,DEVIATION"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_refused_in_one_line(
    args: tuple[str, ...], message: str, capsys: Streams
) -> None:
    assert refused(capsys, 2, "train", *FEW, *args).startswith(message)


# What is doubtful.


@pytest.mark.short(3)
@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (("--validation-of", "test"), "validated on test images", "the validation images are test images, too"),
        (
            ("--validation-of", "train"),
            "validated on training images",
            "the validation images are training images, too",
        ),
        (("--test-of", "train"), "tested on training images", "the test images are training images, too"),
        (("--reported-loss", "MSELoss()"), "other loss reported", "the loss told is MSELoss, but the one descended is"),
        (("--drop-last",), "images dropped", "the last 5 of 21 images are dropped in every epoch"),
        (("--drop-last", "--fair", "--no-sensitivity"), "images dropped", "the last 5 of 21 images are dropped"),
        (("--test-size", "200", "--epochs", "1"), "class not recalled", "recognises no test image of class"),
    ],
)
def test_what_is_doubtful_is_printed_and_kept(
    args: tuple[str, ...], kind: str, text: str, tmp_path: Path, capsys: Streams
) -> None:
    assert run([*SMALL, *args, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    warnings = document(tmp_path / "run")["warnings"]
    (warning,) = {one["kind"]: one for one in warnings if one["kind"] == kind}.values()
    assert text in warning["text"]
    sides = {None: "", "numpy": "NumPy ", "torch": "PyTorch "}
    printed = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert printed == [f"warning: {sides[one['side']]}{one['text']}" for one in warnings]
    assert run(["report", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert [line for line in shown.splitlines() if line.startswith("warning: ")] == printed
    assert text in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.long
def test_what_is_not_doubtful_is_not_warned_of(tmp_path: Path, capsys: Streams) -> None:
    args = ("train", "--dataset", "digits", "--test-size", "50", "--validation-size", "100", "--epochs", "1")
    assert run([*args, "--out", str(tmp_path / "run")]) == 0
    assert "warning" not in capsys.readouterr().out
    assert document(tmp_path / "run")["warnings"] == []


# Reports of runs that compared nothing.


def comes_to(folder: Path) -> tuple[object, ...]:
    """Return what a run has come to, but for how its number of steps was said."""
    weights, metrics, found = remains(folder)
    assert isinstance(found, dict)
    settings = {name: value for name, value in found.pop("settings").items() if name not in ("epochs", "steps")}
    return weights, metrics, found, settings


@pytest.mark.short(2)
@pytest.mark.parametrize(
    "args",
    [
        ("--preset", "regularised", "--network", "Conv2d(1, 2, 5, stride=3), ReLU(), Flatten(), Linear(128, 10)"),
        ("--engine", "numpy"),
        (),
        ("--engine", "torch", "--dtype", "float32"),
        ("--validation-of", "test", "--drop-last", "--first", "--reported-loss", "MSELoss()"),
        ("--test-of", "train", "--weights", "none", "--biases", "none"),
        ("--validation-of", "test", "--test-of", "train"),
        ("--validation-of", "train", "--test-of", "train"),
        ("--optimizer", "ClippedByNorm(SGD(momentum=0.9), 1.0)", "--schedule", "StepLR(0.3, step_size=1)"),
        ("--patience", "1", "--schedule", "PiecewiseConstant(0.5, (1,), (100,))", "--epochs", "6"),
        ("--steps", "50", "--epochs", "2"),
        ("--preset", "nielsen", "--drawn", "--keep-last"),
        ("--scaling", "0.1307,0.3081", "--augmentation", "Augmentation(shift=1, rotation=5)", "--lr", "0.123456789"),
    ],
    ids=" ".join,
)
def test_the_command_of_a_report_repeats_its_run(args: tuple[str, ...], tmp_path: Path) -> None:
    assert run([*SMALL, *args, "--out", str(tmp_path / "one")]) == 0
    assert run(["report", str(tmp_path / "one")]) == 0
    command = shlex.join(repetition(read_run(tmp_path / "one").document))
    shown = (tmp_path / "one" / "report.html").read_text()
    assert command.replace("'", "&#39;") in shown
    program, *again = shlex.split(command)
    assert program == "mnistcheck"
    assert run([*again, "--out", str(tmp_path / "two")]) == 0
    assert comes_to(tmp_path / "one") == comes_to(tmp_path / "two")


def test_the_command_of_a_report_repeats_what_started_from_weights(weights: Path, tmp_path: Path) -> None:
    args = [*SMALL, "--init-from", str(weights / "torch.pt"), "--out"]
    assert run([*args, str(tmp_path / "one")]) == 0
    again = repetition(read_run(tmp_path / "one").document)
    assert run([*again[1:], "--out", str(tmp_path / "two")]) == 0
    assert comes_to(tmp_path / "one") == comes_to(tmp_path / "two")


def test_auto_is_repeated_with_the_data_that_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    auto = [arg.replace("digits", "auto") for arg in SMALL]
    assert run([*auto, "--out", str(tmp_path / "one")]) == 0
    again = repetition(read_run(tmp_path / "one").document)
    assert again[again.index("--dataset") + 1] == "digits"


def row(text: str) -> list[str]:
    return text.split()


@pytest.mark.short(2)
@pytest.mark.parametrize(
    ("engine", "sides"), [("numpy", ["NumPy"]), ("torch", ["PyTorch"]), ("both", ["NumPy", "PyTorch"])]
)
@pytest.mark.parametrize("validation", ["15", "0"])
def test_a_report_shows_what_each_side_has_learned(
    engine: str, sides: list[str], validation: str, tmp_path: Path, capsys: Streams
) -> None:
    args = [*SMALL, "--engine", engine, "--validation-size", validation, "--out", str(tmp_path / "run")]
    assert run(args) == 0
    trained = capsys.readouterr().out
    assert run(["report", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:-1] == trained.splitlines()[:-1]  # but for where it is written to
    found = document(tmp_path / "run")
    named = {"numpy": "NumPy", "torch": "PyTorch"}
    assert [named[key] for key in named if found[key] is not None] == sides
    table = [row(line) for line in out.splitlines() if line.split()[:1] and line.split()[0] in sides]
    for key, name in named.items():
        if found[key] is not None:
            first = next(cells for cells in table if cells[0] == name)
            assert first[1:3] == [f"{found[key]['test_accuracy']:.2%}", f"{found[key]['train_accuracy']:.2%}"]
            assert (found[key]["best_epoch"] is None) == (validation == "0")
    page = (tmp_path / "run" / "report.html").read_text()
    assert ("One side was trained." in page) == (len(sides) == 1)
    assert ("best epoch" in page) == (validation != "0")
    assert run(["report", str(tmp_path / "run"), "--json"]) == 0
    assert strict(capsys.readouterr().out) == found


@pytest.mark.parametrize(
    "edit",
    [
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[-1]],
        lambda lines: [lines[0].replace('"train_accuracy": 0', '"train_accuracy": 1'), *lines[1:]],
    ],
)
def test_metrics_that_are_not_those_of_the_run_are_refused(
    edit: Callable[[list[str]], list[str]], tmp_path: Path, capsys: Streams
) -> None:
    assert run([*SMALL, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    path = tmp_path / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("".join(f"{line}\n" for line in edit(lines)))
    message = refused(capsys, 4, "report", tmp_path / "run")
    assert message == f"{path} needs the 3 epochs that run.json has, a line each"


def test_the_lines_of_metrics_are_the_epochs_of_the_run(tmp_path: Path) -> None:
    assert run([*SMALL, "--out", str(tmp_path / "run")]) == 0
    lines = [strict(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines == document(tmp_path / "run")["epochs"]
    assert [line["epoch"] for line in lines] == [0, 1, 2]


def test_the_best_weights_are_kept(tmp_path: Path) -> None:
    options = ("--schedule", "PiecewiseConstant(0.5, (1,), (100,))", "--epochs", "6", "--patience", "2")
    assert run([*SMALL, *options, "--out", str(tmp_path / "run")]) == 0
    found = document(tmp_path / "run")
    best = found["numpy"]["best_epoch"]
    assert best < len(found["epochs"]) - 1
    until = ("--schedule", "PiecewiseConstant(0.5, (1,), (100,))", "--epochs", str(best + 1))
    assert run([*SMALL, *until, "--out", str(tmp_path / "until")]) == 0
    kept = read(tmp_path / "run" / "checkpoint" / "best.safetensors")
    expected = read(tmp_path / "until" / "weights.safetensors")
    assert {name: array.tobytes() for name, array in kept.items()} == {
        name: array.tobytes() for name, array in expected.items()
    }
    assert np.isfinite(found["numpy"]["best_test_accuracy"])


def test_a_reader_that_leaves_costs_no_run(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "cli", *SMALL, "--engine", "numpy", "--out", str(tmp_path / "run")])
    subprocess.run(["bash", "-c", f"{command} | head -c 1"], cwd=ROOT, check=True, capture_output=True)
    assert {"run.json", "weights.safetensors"} <= {path.name for path in (tmp_path / "run").iterdir()}


def test_a_disk_that_is_full_at_the_end_costs_no_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Streams
) -> None:
    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr("cli.runs.directory.RunDirectory.checkpoint", lambda *_: None)
    monkeypatch.setattr("cli.runs.directory.RunDirectory.begin", lambda *_: None)
    monkeypatch.setattr(gradcheck.files, "write_whole", full)
    assert run([*SMALL, "--out", str(tmp_path / "run")]) == 4
    out, err = capsys.readouterr()
    assert "test accuracy" in out
    assert last(err) == f"Error: {tmp_path / 'run' / 'metrics.jsonl'}: No space left on device"


def test_a_run_that_stops_early_says_so(tmp_path: Path, capsys: Streams) -> None:
    args = [*SMALL[:-2], "--epochs", "9", "--patience", "1", "--lr", "5", "--out", str(tmp_path / "run")]
    assert run(args) == 0
    found = document(tmp_path / "run")
    taken, planned = found["configuration"]["steps_taken"], found["configuration"]["steps"]
    assert (taken, found["configuration"]["stopped_early"]) == (3 * len(found["epochs"]), True)
    assert taken < planned == 27
    assert f"stopped early, after {taken} of 27 steps" in capsys.readouterr().out


def test_a_run_goes_on_without_the_weights_that_it_began_from(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start.npz"
    start.write_bytes((weights / "numpy.npz").read_bytes())
    stopped(tmp_path / "run", monkeypatch, "--init-from", str(start))
    start.unlink()
    assert run(["train", "--resume", str(tmp_path / "run")]) == 0
    whole = [*SMALL, "--init-from", str(weights / "numpy.npz"), "--out", str(tmp_path / "whole")]
    assert run(whole) == 0
    assert (tmp_path / "run" / "numpy.npz").read_bytes() == (tmp_path / "whole" / "numpy.npz").read_bytes()


def test_numpy_alone_needs_no_torch(tmp_path: Path) -> None:
    blocked = (
        "import sys\n"
        "class Block:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'torch': raise ModuleNotFoundError(name, name='torch')\n"
        "sys.meta_path.insert(0, Block())\n"
        "from cli.main import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", blocked, *SMALL, "--engine", "numpy", "--out", str(tmp_path / "run")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / "torch.pt").exists()


def test_what_a_trace_has_no_use_for_is_refused(tmp_path: Path, capsys: Streams) -> None:
    told = refused(capsys, 2, "record", tmp_path / "trace", "--dataset", "digits", "--reported-loss", "MSELoss()")
    assert told == "a trace has no validation, no test and no loss but its own; drop --reported-loss"
