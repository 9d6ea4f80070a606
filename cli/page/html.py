"""A report as one page of HTML, with everything that it shows inside."""

from __future__ import annotations

import base64
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.runs.directory import CASE
from cli.runs.finished import repetition
from cli.runs.tables import SIDES, outcome_rows, proof_rows, recall_rows, summary_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cli.figures.sketches import Sketch
    from cli.runs.finished import FinishedRun
    from cli.runs.kept import KeptRun
    from cli.runs.predictions import Prediction

Mistakes = tuple[str, list[tuple[str, ...]]]  # a sentence and a table
MISTAKES, LISTED = 24, 8  # misclassified images that are drawn, and of these those that are listed

TOLD_ELSEWHERE = ("preset", "dataset", "data_dir", "train_size", "test_size")  # or is nobody else's


class UnreadableError(Exception):
    """A run's weights or images cannot be had, or say nothing."""


@dataclass(frozen=True, eq=False)
class Illustrated:
    """A run with what a page shows of it besides its own numbers.

    ``figures`` holds by name a figure as SVG, the same for a phone, and what it says; ``mistakes`` a sentence and a
    table of the surest ones. ``missing`` says why there is nothing of its weights and images, if so.
    """

    run: FinishedRun
    figures: Mapping[str, tuple[bytes, bytes, str]]
    mistakes: Mistakes | None
    missing: str | None


def illustrated(run: FinishedRun, data_dir: Path | None) -> Illustrated:
    """Return a run with its figures, and write those into its folder."""
    from cli.figures import sketches

    shown, mistakes, missing = [*sketches.of_proof(run), *sketches.of_learning(run)], None, None
    try:
        network, mistakes = _of_network(run, data_dir)
        shown += network
    except UnreadableError as error:
        missing = str(error)
    drawn = sketches.written(run.path, shown)
    narrow = sketches.narrow(shown) if drawn else {}
    told = {one.name: (drawn[one.name], narrow[one.name], one.says) for one in shown if one.name in drawn}
    return Illustrated(run, told, mistakes, missing)


def _mistakes(kept: KeptRun, found: Sequence[Prediction]) -> Mistakes:
    """Return how much is misclassified, in a sentence, and the surest mistakes as a table."""
    from cli.runs.predictions import prediction_rows

    side, test = kept.network.sides[0], kept.run.test
    wrong = int((kept.predictions[side].argmax(axis=1) != test.labels).sum())
    drawn = f"Drawn are the {len(found)}" if wrong > len(found) else "Drawn are those"
    told = (
        f"{SIDES[side]} takes {wrong:,} of {len(test):,} test images for what they are not. {drawn} of whose wrong"
        f" class it is the surest; the first {min(LISTED, len(found))} of these are listed."
    )
    return told, prediction_rows(found[:LISTED], kept.network.told)


def _of_network(run: FinishedRun, data_dir: Path | None) -> tuple[list[Sketch], Mistakes | None]:
    """Return the figures of a run's network, and its surest mistakes if it makes any; raises `UnreadableError`."""
    from cli.extras import missing_part
    from cli.figures import sketches
    from cli.runs.kept import read_kept_run
    from cli.runs.predictions import surest_mistakes
    from nets.datasets.dataset import DataError
    from nets.engines.torch_engine import one_thread_each
    from nets.weights import CheckpointError

    try:
        kept = read_kept_run(run, data_dir)
        with one_thread_each():
            found = surest_mistakes(kept, MISTAKES)
            return [*sketches.of_network(kept, found)], _mistakes(kept, found) if found else None
    except (CheckpointError, DataError) as error:
        raise UnreadableError(str(error)) from None
    except ModuleNotFoundError as error:
        part = missing_part(error)
        if part is None:
            raise
        raise UnreadableError(f"they need {part}") from None


def page(runs: Sequence[Illustrated]) -> str:
    """Return the report of some runs; of more than one, a table of them comes first."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cli", "page"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    summary = summary_rows([(str(one.run.path), one.run.document) for one in runs])
    return environment.get_template("report.html.jinja").render(
        runs=[_told(one) for one in runs], summary=summary, sides=SIDES, headline=_headline([one.run for one in runs])
    )


def _headline(runs: Sequence[FinishedRun]) -> str:
    """Return what a page is about, in its title: a run and its verdict, or how many runs came to which."""
    verdicts = [run.document["verdict"] for run in runs]
    if len(runs) == 1:
        word = verdicts[0].upper() if verdicts[0] else "Not compared"
        return f"{word}: {runs[0].document['configuration']['network']}"
    counts = {"pass": "pass", "fail": "fail", "inconclusive": "inconclusive", None: "not compared"}
    told = (f"{verdicts.count(verdict)} {word}" for verdict, word in counts.items() if verdict in verdicts)
    return f"{len(runs)} runs: {', '.join(told)}"


def _configuration(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return names and values of what decided the run, without what is told elsewhere on the page."""
    told = {**(document["settings"] or {}), **document["configuration"]}
    named = ((name, value) for name, value in told.items() if value is not None and name not in TOLD_ELSEWHERE)
    return [(name.replace("_", " "), _readable(value)) for name, value in named]


def _readable(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else value


def _told(one: Illustrated) -> dict[str, Any]:
    """Return what the template tells of a run."""
    from gradcheck.report.runs import (
        SENSITIVITY,
        SENSITIVITY_COLUMNS,
        describe_other_faults,
        describe_setting,
        describe_verdict,
        sensitivity_rows,
    )
    from gradcheck.report.steps import describe_crossing

    run, document = one.run, one.run.document
    verdict = document["verdict"]
    compared = verdict is not None
    case = run.path / CASE
    sensitivity = document["sensitivity"] if compared else None
    recalls = recall_rows(document)
    return {
        "run": document,
        "setting": describe_setting(document),
        "clause": describe_verdict(verdict, *SIDES.values()) if compared else None,
        "details": _details(document) if compared else None,
        "proof": proof_rows(document) if compared else [],
        "outcomes": outcome_rows(document),
        "recalls": [("", *map(str, range(len(recalls[0]) - 1))), *recalls] if recalls else [],
        "divergence": _divergence(document) if compared else [],
        "replay": case.is_file() and shlex.join(["mnistcheck", "replay", str(case)]),
        "crossings": [describe_crossing(*crossing) for crossing in run.curves.crossings] if run.curves else [],
        "sensitivity": [SENSITIVITY_COLUMNS, *sensitivity_rows(sensitivity)] if sensitivity else [],
        "others": describe_other_faults(sensitivity) if sensitivity else "",
        "words": {"sensitivity": SENSITIVITY},
        "configuration": _configuration(document),
        "curves": run.curves is not None,
        "figures": {
            name: (_address(wide), _address(narrow), says) for name, (wide, narrow, says) in one.figures.items()
        },
        "mistakes": one.mistakes,
        "missing": one.missing,
        "command": shlex.join(repetition(document)),
    }


def _details(document: dict[str, Any]) -> str:
    """Return what the verdict rests on, in short: where two sides part is told in full further down."""
    from gradcheck.report.runs import describe_result
    from gradcheck.report.steps import sentence

    found = document["first_divergence"]
    if document["verdict"] != "fail" or found is None:
        return _capitalised(describe_result(document, SIDES))
    place = f"They part at step {found['step']:,}, {found['phase']}, {found['tensor']}"
    why = f" {sentence(found['diagnosis'], found['tensor'])}." if found["diagnosis"] else ""
    return f"{place}{_said(found)}.{why}"


def _said(found: Mapping[str, Any]) -> str:
    return f": {SIDES['numpy']} {found['message']}" if found["message"] else ""


def _capitalised(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _divergence(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return where two sides part, a name and a value each."""
    from gradcheck.report.text import noise_units

    found = document["first_divergence"]
    if found is None:
        return []
    factor = document["factor"]
    index = f"[{', '.join(map(str, found['index']))}]"
    told = {
        "step": f"{found['step']:,}{', in evaluation' if found['mode'] == 'evaluation' else ''}",
        "phase": found["phase"],
        "layer": found["layer"],
        "element": f"{found['tensor']}{index if found['index'] else ''}",
        **({} if found["message"] else {name: repr(found[side]) for side, name in SIDES.items()}),
        "allowed": f"{found['allowed']:.3g}",
        "apart by": f"{noise_units(found['ratio'], factor)} x rounding noise, {factor:g} allowed",
        "what": _said(found).removeprefix(": "),
        "why": found["diagnosis"],
    }
    return [(name, value) for name, value in told.items() if value]


def _address(svg: bytes) -> str:
    """Return an SVG file as an address that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
