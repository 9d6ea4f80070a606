"""A report as one page of HTML, with everything that it shows inside."""

from __future__ import annotations

import base64
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.finished_run import repetition
from cli.replay import CASE
from cli.run_tables import SIDES, mistake_rows, outcome_rows, proof_rows, recall_rows, summary_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cli.finished_run import FinishedRun
    from cli.kept_run import KeptRun


@dataclass(frozen=True, eq=False)
class Shown:
    """A run as a page shows it: its figures by name, as SVG and in words, and its worst mistakes.

    ``missing`` says why there is nothing of its weights and images, if so.
    """

    run: FinishedRun
    figures: Mapping[str, tuple[bytes, str]]
    mistakes: Sequence[tuple[str, ...]]
    missing: str | None


def shown(run: FinishedRun, data_dir: Path | None) -> Shown:
    """Return what a page shows of a run, having drawn its figures."""
    from cli import figures

    sketches, mistakes, missing = [*figures.of_proof(run), *figures.of_learning(run)], [], None
    try:
        kept = _kept(run, data_dir)
        sketches += figures.of_network(kept)
        mistakes = mistake_rows(kept)
    except UnreadableError as error:
        missing = str(error)
    drawn = figures.written(run.path, sketches)
    says = {sketch.name: sketch.says for sketch in sketches}
    return Shown(run, {name: (svg, says[name]) for name, svg in drawn.items()}, mistakes, missing)


class UnreadableError(Exception):
    """A run's weights or images cannot be had."""


def _kept(run: FinishedRun, data_dir: Path | None) -> KeptRun:
    """Return a run with its predictions; raises `UnreadableError` where its weights, its data or a part are missing."""
    from cli.extras import missing_part
    from cli.kept_run import read_kept_run
    from nets.datasets.dataset import DataError
    from nets.weights import CheckpointError

    try:
        kept = read_kept_run(run, data_dir)
        _ = kept.predictions
        import sklearn  # noqa: F401  which counts what is taken for what
    except (CheckpointError, DataError) as error:
        raise UnreadableError(str(error)) from None
    except ModuleNotFoundError as error:
        part = missing_part(error)
        if part is None:
            raise
        raise UnreadableError(f"they need {part}") from None
    return kept


def page(runs: Sequence[Shown]) -> str:
    """Return the report of some runs; of more than one, a table of them comes first."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cli", "html"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
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
    """Return names and values of what decided the run."""
    told = {name: value for name, value in document["configuration"].items() if value is not None}
    told |= {name: value for name, value in (document["settings"] or {}).items() if value is not None}
    for name in ("preset", "data_dir"):  # the one is told already, the other is nobody else's
        told.pop(name, None)
    words = {True: "yes", False: "no"}
    return [
        (name.replace("_", " "), words[value] if isinstance(value, bool) else value) for name, value in told.items()
    ]


def _told(shown: Shown) -> dict[str, Any]:
    """Return what the template tells of a run."""
    from gradcheck.report import (
        SENSITIVITY,
        SENSITIVITY_COLUMNS,
        describe_crossing,
        describe_other_faults,
        describe_setting,
        describe_verdict,
        sensitivity_rows,
        summarise_trajectory,
    )

    run, document = shown.run, shown.run.document
    verdict = document["verdict"]
    compared = verdict is not None
    case = run.path / CASE
    sensitivity = document["sensitivity"] if compared else None
    recalls = recall_rows(document)
    return {
        "run": document,
        "setting": describe_setting(document),
        "clause": describe_verdict(verdict, *SIDES.values()) if compared else None,
        "details": _details(summarise_trajectory(document, SIDES)) if compared else None,
        "proof": proof_rows(document) if compared else [],
        "outcomes": outcome_rows(document),
        "recalls": [("", *map(str, range(len(recalls[0]) - 1))), *recalls] if recalls else [],
        "replay": case.is_file() and shlex.join(["mnistcheck", "replay", str(case)]),
        "crossings": [describe_crossing(*crossing) for crossing in run.curves.crossings] if run.curves else [],
        "sensitivity": [SENSITIVITY_COLUMNS, *sensitivity_rows(sensitivity)] if sensitivity else [],
        "others": describe_other_faults(sensitivity) if sensitivity else "",
        "words": {"sensitivity": SENSITIVITY},
        "configuration": _configuration(document),
        "curves": run.curves is not None,
        "figures": {name: (_address(svg), says) for name, (svg, says) in shown.figures.items()},
        "mistakes": shown.mistakes,
        "missing": shown.missing,
        "command": shlex.join(repetition(document)),
    }


def _details(sentence: str) -> str:
    """Return what the sentence that ends a run says besides the verdict, which a page has as its headline."""
    *_, details = re.split(r"same program[:.] |^INCONCLUSIVE: ", sentence, maxsplit=1)
    return details[:1].upper() + details[1:]


def _address(svg: bytes) -> str:
    """Return an SVG file as an address that holds it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
