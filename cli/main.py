"""The ``mnistcheck`` command: its subcommands, and every exit code in one place."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence

import click

from cli.commands.compare import compare
from cli.commands.data import data
from cli.commands.loops import compare_loops
from cli.commands.predict import predict
from cli.commands.presets import presets
from cli.commands.replay import replay
from cli.commands.report import report
from cli.commands.traces import compare_traces, record
from cli.commands.train import train
from cli.commands.verify import verify
from cli.exit_codes import ExitCode
from cli.extras import missing_part


@click.group(context_settings={"auto_envvar_prefix": "MNISTCHECK", "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mnistcheck", prog_name="mnistcheck")
def mnistcheck() -> None:
    """Prove that a NumPy network and its PyTorch twin are the same program.

    Exit codes: 0 pass, 1 fail (a mismatch), 2 usage, 3 inconclusive, 4 missing or bad data, file or dependency,
    5 internal error, 130 interrupted. Any option can come from the environment, as MNISTCHECK_TRAIN_SEED=1 or
    MNISTCHECK_VERIFY_EXAMPLES=100.
    """


for command in (train, presets, predict, compare, report, verify, record, compare_traces, compare_loops, replay, data):
    mnistcheck.add_command(command)


def main() -> None:
    """Run the command line and exit with its code."""
    sys.unraisablehook = _interrupted_again
    code = run(sys.argv[1:])
    if code == ExitCode.INTERRUPTED and hasattr(signal, "pthread_sigmask"):
        # ``python -m`` ends by SIGINT, whatever was caught and returned, if the interrupt had passed through an exec(),
        # as those of dataclasses are; where that signal is blocked, with 130 after all.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    sys.exit(code)


def _interrupted_again(lost: sys.UnraisableHookArgs) -> None:
    """Interrupt again where Python drops what is raised: in a destructor, or what is called when garbage is collected.

    Hypothesis has such a call, amid which Control-C would go unheard.
    """
    if issubclass(lost.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()  # when that call is over
    else:
        sys.__unraisablehook__(lost)


def run(args: Sequence[str]) -> int:
    """Run the command line with ``args`` and return its exit code.

    Commands return their verdict's code. Click's own choices (1 for errors and aborts) are replaced here.
    """
    try:
        result = mnistcheck.main(list(args), prog_name="mnistcheck", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except (BrokenPipeError, SystemExit):
        # Click and rich exit by themselves for one reason, a reader that has gone, and with 1, which would mean a
        # mismatch; but for shell completion, whose exits are click's business.
        if "_MNISTCHECK_COMPLETE" in os.environ:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what Python would still flush at exit goes nowhere
        return ExitCode.INTERRUPTED
    except Exception as error:  # the outermost handler: what is not foreseen is explained, and ends in an exit code
        return _explain(error)
    return result if isinstance(result, int) else ExitCode.PASS


def _explain(error: Exception) -> int:
    from gradcheck.trajectory.replay import ReplayError
    from gradcheck.trajectory.trace import TraceError
    from nets.datasets.dataset import DataError
    from nets.weights import CheckpointError

    if isinstance(error, click.FileError):
        click.echo(f"Error: {error.format_message()}", err=True)
        return ExitCode.MISSING
    if isinstance(error, (CheckpointError, DataError, TraceError, ReplayError)):
        click.echo(f"Error: {error}", err=True)
        return ExitCode.MISSING
    if isinstance(error, ModuleNotFoundError) and (part := missing_part(error)):
        click.echo(f"Error: this command needs {part}", err=True)
        return ExitCode.MISSING
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        return ExitCode.MISSING
    traceback.print_exception(error)
    click.echo("Internal error: this is a bug of mnistcheck, not yours; please report the lines above", err=True)
    return ExitCode.INTERNAL


if __name__ == "__main__":
    main()
