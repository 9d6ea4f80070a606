"""``mnistcheck predict``: what a trained network says of pictures, by both engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.exit_codes import ExitCode
from cli.experiment import DATA_DIR
from cli.figures.samples import RESOLUTION, form_of
from cli.runs.tables import SIDES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.runs.kept import KeptRun
    from cli.runs.predictions import Prediction

DIGITS = 9  # of a number: no data has as many images
NAMED = 6  # images that a remark names

FILES = {"images": "prediction.png", "grid": "grid.png", "misclassified": "misclassified.png"}


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("images", nargs=-1, metavar="[IMAGE]...")
@click.option("--grid", type=click.IntRange(1, 400), metavar="N", help="The run's first N test images, as a grid.")
@click.option("--misclassified", type=click.IntRange(1, 400), metavar="N",
              help="The N test images of which a wrong class is the surest.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False),
              help="The picture to write, .png or .svg.  [default: in RUN]")  # fmt: skip
@DATA_DIR
@click.option("--json", is_flag=True, help="Print one JSON document.")
def predict(
    run: Path,
    images: tuple[str, ...],
    grid: int | None,
    misclassified: int | None,
    out: Path | None,
    data_dir: Path | None,
    json: bool,
) -> int:
    """Say what a run's network takes images for, by both engines, and draw it.

    RUN is a folder that train --out has written. IMAGE is a PNG or JPEG file with one digit, of any size, dark on light
    or light on dark; or a number, of one of the data's test images, counted from 0.

    Both engines are given the same weights, and must agree to within rounding: the exit code is 1 if they do not. What
    the network takes an image for, rightly or wrongly, changes no exit code.
    """
    from cli.console import remark
    from cli.figures.drawing import unless_undrawable
    from cli.runs.finished import read_run
    from cli.runs.kept import read_kept_run
    from cli.runs.predictions import surest_mistakes
    from nets.engines.torch_engine import one_thread_each

    asked = [name for name, given in (("images", images), ("grid", grid), ("misclassified", misclassified)) if given]
    if len(asked) != 1:
        raise click.UsageError("predict needs either IMAGEs, or --grid N, or --misclassified N")
    path = run / FILES[asked[0]] if out is None else out
    form = form_of(path)
    _require_other(path, images)
    kept = read_kept_run(read_run(run), data_dir)
    with one_thread_each():
        if images:
            found = [_image(kept, one) for one in images]
        else:
            found = _tests(kept, grid) if grid else surest_mistakes(kept, misclassified or 0)
    drawn = unless_undrawable(lambda: _picture(kept, found, asked[0], form)) if found else None
    problem = None if drawn is None else _unwritten(path, drawn)
    code = _tell(kept, found, asked[0], path if drawn is not None and problem is None else None, json)
    if problem is not None:
        if out is not None:
            raise problem
        remark(f"the picture is not written: {path}: {problem.strerror}; --out FILE puts it elsewhere")
    return code


def _require_other(path: Path, images: Sequence[str]) -> None:
    """Raise a usage error if the picture would be written over one of the images that it is of."""
    from nets.datasets.dataset import printable

    for text in images:
        if not _is_number(text) and path.exists() and Path(text).exists() and path.samefile(text):
            raise click.UsageError(f"the picture would be written over {printable(text)}: name another file with --out")


def _unwritten(path: Path, content: bytes) -> OSError | None:
    """Write a file; return why it cannot be, so that what is to be said is said all the same."""
    from gradcheck.files import write_whole

    try:
        write_whole(path, content)
    except OSError as error:
        return error
    return None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= DIGITS


def _image(kept: KeptRun, text: str) -> Prediction:
    from cli.runs.predictions import predicted_picture, predicted_samples

    if not _is_number(text):
        return predicted_picture(kept, Path(text))
    data, number = kept.run.dataset, int(text)
    samples = data.train if data.test is None else data.test
    if number >= len(samples):
        kind = "images" if data.test is None else "test images"
        raise click.UsageError(f"{data.name} has {len(samples):,} {kind}, counted from 0; asked for {number}")
    (one,) = predicted_samples(kept, samples[number : number + 1], from_training=data.test is None)
    return one


def _tests(kept: KeptRun, count: int) -> list[Prediction]:
    from cli.runs.predictions import of_tests

    samples = kept.run.test
    if count > len(samples):
        raise click.UsageError(f"the run has {len(samples):,} test images; asked for {count}")
    return of_tests(kept, samples[:count])


def _heading(kept: KeptRun, found: Sequence[Prediction], asked: str) -> str:
    """Return how many test images are taken for what they are."""
    side = kept.network.sides[0]
    if asked == "grid":
        right = sum(one.classes[side] == one.label for one in found)
        return f"{SIDES[side]} is right about {right:,} of the first {len(found):,} test images"
    wrong = int((kept.predictions[side].argmax(axis=1) != kept.run.test.labels).sum())
    return f"{SIDES[side]} is wrong about {wrong:,} of {len(kept.run.test):,} test images"


def _picture(kept: KeptRun, found: Sequence[Prediction], asked: str, form: str) -> bytes:
    from cli.console import remark
    from cli.figures.drawing import rendered
    from cli.figures.predictions import MOST_ROWS, grid, rows
    from cli.runs.predictions import PLURALS

    told = kept.network.told
    if asked == "images":
        if len(found) > MOST_ROWS:
            remark(f"the picture has the first {MOST_ROWS} of {len(found)} images")
        return rendered(lambda: rows(found, told), form, resolution=RESOLUTION)[0]
    which = f"the first {len(found)} test images" if asked == "grid" else f"the {len(found)} surest mistakes"
    side = kept.network.sides[0]
    whose = f"{PLURALS[told]} by {SIDES[side]}"
    title = f"{Path(kept.run.dataset.name).name}, {which}\n{_heading(kept, found, asked)}\n{whose}"
    return rendered(lambda: grid(found, side, told, title), form, resolution=RESOLUTION)[0]


def _tell(kept: KeptRun, found: Sequence[Prediction], asked: str, picture: Path | None, json: bool) -> int:
    from cli.console import STYLES, print_json, results, say
    from cli.runs.predictions import (
        describe_agreement,
        describe_mistake,
        describe_sides,
        prediction_to_json,
        print_classes,
        print_predictions,
        unicode_of,
        verdict_of,
    )
    from nets.datasets.dataset import printable

    verdict, told = verdict_of(found), kept.network.told
    _remark_on_training(found)
    if json:
        document = {
            "command": "predict",
            "run": unicode_of(kept.finished.path),
            "trained": list(kept.network.sides),
            "verdict": verdict,
            "images": [prediction_to_json(one, told) for one in found],
            "picture": None if picture is None else unicode_of(picture),
        }
        print_json(document)
        return ExitCode.of(verdict)
    out = results()
    shown = found
    if asked != "images":
        shown = [one for one in found if describe_mistake(one)]
        say(out, f"{_heading(kept, found, asked)}{':' if shown else ''}")
    if shown:
        print_predictions(out, shown, told)
    if asked == "images" and len(found) == 1:
        out.print()
        print_classes(out, found[0], told)
    if found:
        out.print()
        say(out, describe_sides(found, kept.network.sides, told))
        say(out, describe_agreement(found), STYLES[verdict])
    if picture is not None:
        say(out, printable(f"written to {picture}"))
    return ExitCode.of(verdict)


def _remark_on_training(found: Sequence[Prediction]) -> None:
    from cli.console import remark

    names = [one.name for one in found if one.trained_on]
    if names:
        told = ", ".join(names) if len(names) <= NAMED else f"{len(names)} of these images"
        remark(f"the run was trained on {told}: what it says of what it has seen proves little")
