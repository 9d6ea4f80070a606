"""A run's folder as what it was: the program that was trained, its weights, and the data that it was tried on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.configuration import FILE
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cli.runs.finished import FinishedRun
    from gradcheck.contract import Array
    from nets.datasets.scaling import Scaling
    from nets.inference import Network
    from nets.run import Run

WEIGHTS = "weights.safetensors"

# Of all test images, those whose two largest outputs another library may round to the other order.
ROUNDED = 1e-3


@dataclass(frozen=True, eq=False)
class KeptRun:
    """A finished run's network, by both engines, and on demand its images.

    ``options`` are those of ``mnistcheck train`` that made it.
    """

    finished: FinishedRun
    options: Mapping[str, Any]
    network: Network

    @cached_property
    def run(self) -> Run:
        """The run with its data; raises DataError where that is missing, or is not what the run was made of."""
        from cli.experiment import prepared_run
        from nets.datasets.dataset import DataError

        try:
            made = prepared_run(self.options)
        except click.UsageError as error:
            raise DataError(f"the data of {self.finished.path} cannot be had: {error.format_message()}") from None
        told = self.finished.document["dataset"]
        if made.dataset.sha256 != told["sha256"]:
            raise DataError(
                f"{self.finished.path} was made of {told['name']} with SHA-256 {told['sha256'][:12]}...,"
                f" what is there now has {made.dataset.sha256[:12]}...: say where its data is with --data-dir"
            )
        return made

    @cached_property
    def scaling(self) -> Scaling:
        """How ink becomes what the network is given; of two numbers it is known without the data."""
        from nets.datasets.scaling import fixed_scaling

        return fixed_scaling(self.network.program.preset.scaling) or self.run.scaling

    def inputs(self, ink: Array) -> Array:
        """Return what the network is given for ink in [0, 1], (n, 28, 28)."""
        return self.network.program.inputs_of(ink, self.scaling)

    @cached_property
    def predictions(self) -> dict[str, Array]:
        """What each engine gives to the classes (n, 10) of the run's test images, in their order.

        Raises DataError where that is not what the run has told of its weights.
        """
        from nets.datasets.dataset import DataError

        found = self.network.predict_all(self.run.chunks(self.run.test))
        for side in self.network.sides:
            told = self.finished.document[side]
            accuracy = float((found[side].argmax(axis=1) == self.run.test.labels).mean())
            if told is not None and abs(accuracy - told["test_accuracy"]) > ROUNDED:
                raise DataError(
                    f"{self.finished.path / WEIGHTS} recognises {accuracy:.2%} of the test images with {SIDES[side]},"
                    f" where run.json says {told['test_accuracy']:.2%}: one of the two is not of this run"
                )
        return found


def read_kept_run(finished: FinishedRun, data_dir: Path | None = None) -> KeptRun:
    """Return a finished run with what it trained; raises DataError or CheckpointError, in one line, for damage.

    ``data_dir`` says where its data is, if that has moved.
    """
    from cli.experiment import chosen_preset
    from cli.training_options import options_in
    from gradcheck.trajectory.engine import below
    from nets.datasets.dataset import DataError
    from nets.inference import Network
    from nets.run import DTYPES, Program
    from nets.weights import CheckpointError, read

    path = finished.path
    moved = [] if data_dir is None else ["--data-dir", str(data_dir)]
    try:
        options = options_in(path / FILE, *moved)
        program = Program(chosen_preset(options), options["seed"], DTYPES[options["dtype"]])
    except click.ClickException as error:
        raise DataError(f"{path / FILE} says what was trained, and cannot be read: {error.format_message()}") from None
    arrays = read(path / WEIGHTS)
    weights = {side: found for side in SIDES if (found := below(f"{side}/", arrays))}
    if not weights:
        raise CheckpointError(f"{path / WEIGHTS} holds the weights of neither side")
    try:
        return KeptRun(finished, options, Network(program, weights))
    except ValueError as error:
        raise CheckpointError(f"{path / WEIGHTS} is not of this run: {error}") from None
