"""``mnistcheck report``: a finished run as tables, a figure and one page to pass on."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from cli.finished_run import FinishedRun

PAGE = "report.html"


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--json", is_flag=True, help="Print the run's JSON document instead of tables.")
def report(directory: Path, json: bool) -> int:
    """Show a run that train --out has written, and write DIRECTORY/report.html.

    The page is one file, with the figure inside, and asks for nothing from elsewhere. A figure that is missing from the
    folder is drawn anew.

    The exit code is 0 if the report was made, whatever the run's verdict is.
    """
    from cli.console import print_json, results
    from cli.figure import draw_if_possible
    from cli.finished_run import read_run
    from cli.run_tables import print_run
    from gradcheck.files import write_whole

    run = read_run(directory)
    page = _page(run, draw_if_possible(run))
    write_whole(directory / PAGE, page.encode(errors="xmlcharrefreplace"))
    if json:
        print_json(run.raw)
    else:
        print_run(results(), run.document)
        results().print(f"written to {directory / PAGE}", markup=False, soft_wrap=True)
    return ExitCode.PASS


def _page(run: FinishedRun, figure: str | None) -> str:
    """Return the report as HTML. The figure is the one drawn now, never what a file of the folder says."""
    import jinja2
    from markupsafe import Markup

    from cli.finished_run import repetition
    from cli.run_tables import SIDES, outcome_rows, proof_rows, recall_rows
    from gradcheck.report import (
        SENSITIVITY,
        SENSITIVITY_COLUMNS,
        describe_crossing,
        describe_divergence,
        describe_other_faults,
        describe_setting,
        describe_verdict,
        divergence_from_json,
        sensitivity_rows,
        summarise_trajectory,
    )

    document = run.document
    verdict = document["verdict"]
    compared = verdict is not None
    divergence = document["first_divergence"] if compared else None
    sensitivity = document["sensitivity"] if compared else None
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("cli", "html"), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("report.html.jinja").render(
        run=document,
        setting=describe_setting(document),
        clause=describe_verdict(verdict, *SIDES.values()) if compared else None,
        details=_details(summarise_trajectory(document, SIDES)) if compared else None,
        proof=proof_rows(document) if compared else [],
        outcomes=outcome_rows(document),
        recalls=[("", *map(str, range(len(recalls[0]) - 1))), *recalls] if (recalls := recall_rows(document)) else [],
        sides=SIDES,
        divergence=divergence
        and describe_divergence(
            divergence_from_json(divergence, document["factor"], *SIDES), document["factor"], *SIDES.values()
        ),
        crossings=[describe_crossing(*crossing) for crossing in run.curves.crossings] if run.curves else [],
        sensitivity=sensitivity_rows(sensitivity) if sensitivity else [],
        others=describe_other_faults(sensitivity) if sensitivity else "",
        words={"sensitivity": SENSITIVITY, "columns": SENSITIVITY_COLUMNS},
        curves=run.curves is not None,
        figure=figure and Markup(inlined(figure)),  # noqa: S704  drawn by us; its text is outlines
        command=shlex.join(repetition(document)),
    )


def _details(sentence: str) -> str:
    """Return what the sentence that ends a run says besides the verdict, which a page has as its headline."""
    *_, details = re.split(r"same program[:.] |^INCONCLUSIVE: ", sentence, maxsplit=1)
    return details[:1].upper() + details[1:]


def inlined(svg: str) -> str:
    """Return an SVG file as an element of a page, which needs no prolog, no names of formats and no fixed size."""
    element = re.sub(r"<!--.*?-->", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    head, body = element.split(">", 1)
    head = re.sub(r' (xmlns(:\w+)?|width|height|version)="[^"]*"', "", head)
    return f"{head}>{re.sub(r'<metadata>.*?</metadata>', '', body, flags=re.DOTALL)}"
