"""``mnistcheck replay``: take the step at which a fair run failed once more."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.exit_codes import ExitCode
from cli.runs.directory import CASE

if TYPE_CHECKING:
    from gradcheck.trajectory.check import TrajectoryReport
    from gradcheck.trajectory.replay import Replay, Replayed
    from nets.engines.numpy_engine import NumpyEngine
    from nets.run import Program, Run


def keep_failure(run: Run, report: TrajectoryReport | None, inject: str | None, folder: Path | None) -> Path | None:
    """Write the step at which a run failed into ``folder``, or else into the user's cache; return the file.

    None where no step failed, or could be taken at all, or where it cannot be written, which is remarked on.
    """
    from cli.console import remark
    from gradcheck.files import write_whole
    from gradcheck.trajectory.replay import Replay, encode_replay
    from nets.presets import configuration as configuration_of

    lock = None if report is None else report.lock_step
    if report is None or lock is None or lock.moment is None or lock.first_failure is None:
        return None
    preset = run.preset
    configuration = {
        "preset": preset.name,
        "settings": configuration_of(preset),
        "batch_size": preset.batch_size,
        "lr": preset.schedule.lr,
        "seed": run.seed,
        "dtype": run.dtype.name,
        "dataset": run.dataset.name,
        "train_size": len(run.train),
        "steps": run.steps,
        "inject": inject,
    }
    content = encode_replay(Replay(lock.moment, lock.first_failure, report.factor, report.shadows, configuration))
    path = folder / CASE if folder else _cached(run, lock.first_failure.step, content)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    except OSError as error:
        remark(f"the step that failed is not kept: {path} cannot be written: {error.strerror}")
        return None
    return path


def _cached(run: Run, step: int, content: bytes) -> Path:
    """Return where the user's cache keeps a step: the same failure of the same run comes to the same place."""
    from platformdirs import user_cache_path

    unique = hashlib.blake2b(content, digest_size=4).hexdigest()
    name = f"{run.preset.name.replace(':', '-')}-{run.dtype.name}-seed{run.seed}-step{step}-{unique}.safetensors"
    return user_cache_path("mnistcheck") / "replays" / name


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", is_flag=True, help="Print one JSON document instead of text.")
def replay(file: Path, json: bool) -> int:
    """Repeat the step at which train --fair failed, from the state and the batch in FILE.

    NumPy's step is compared with what PyTorch computed then, so PyTorch need not be installed. Where it is, it
    repeats its step, too, and must give the same bits. Once the program has been mended, the step passes.
    """
    from threadpoolctl import threadpool_limits

    from gradcheck.trajectory.replay import load_replay
    from gradcheck.trajectory.replay import replay as take_again

    case = load_replay(file)
    program, engine = _made(case, file)
    result = _with_torch(case, program, engine)
    if result is None:
        with threadpool_limits(1):
            result = take_again(case, engine)
    _present(case, result, json)
    return ExitCode.of(result.verdict)


def _made(case: Replay, file: Path) -> tuple[Program, NumpyEngine]:
    """Return the program of a case, and its NumPy engine with the fault that was planted."""
    from cli.experiment import known_preset
    from gradcheck.trajectory.replay import ReplayError
    from nets.injection import fault_again
    from nets.presets import configured
    from nets.run import DTYPES, Program

    made = case.configuration
    try:
        preset = configured(known_preset(made["preset"]), made.get("settings", {})).with_lr(float(made["lr"]))
        preset = replace(preset, batch_size=int(made["batch_size"]))
        program = Program(preset, int(made["seed"]), DTYPES[made["dtype"]])
        engine = program.numpy_engine()
        size, steps = int(made["train_size"]), int(made["steps"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ReplayError(f"{file} does not say how to make its engines: {error!r}") from None
    except click.UsageError as error:
        raise ReplayError(f"{file} cannot be taken again here: {error.message}") from None
    try:
        return program, engine.planted(fault_again(made["inject"], program, size, steps)) if made["inject"] else engine
    except (TypeError, ValueError) as error:
        raise ReplayError(f"{file} cannot be taken again here: {error}") from None


def _with_torch(case: Replay, program: Program, engine: NumpyEngine) -> Replayed | None:
    """Take a step again beside torch, or return None where it is not installed."""
    from gradcheck.trajectory.replay import replay as take_again
    from nets.engines.torch_engine import one_thread_each

    try:
        reference = program.torch_engine()
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        return None
    with one_thread_each():
        return take_again(case, engine, reference)


def _present(case: Replay, result: Replayed, json: bool) -> None:
    from cli.console import STYLES, print_json, results, say
    from gradcheck.report.json import replay_to_json
    from gradcheck.report.traces import describe_replay, summarise_replay

    if json:
        document: dict[str, Any] = replay_to_json(case, result, "numpy", "torch")
        print_json({"command": "replay", **document})
        return
    out = results()
    for line in describe_replay(case, result, "NumPy", "PyTorch"):
        say(out, line)
    say(out, summarise_replay(case, result, "NumPy", "PyTorch"), STYLES[result.verdict])
