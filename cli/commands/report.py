"""``mnistcheck report``: finished runs as tables, figures and one page to pass on."""

from __future__ import annotations

from pathlib import Path

import click

from cli.exit_codes import ExitCode
from cli.experiment import DATA_DIR

PAGE, SUFFIXES = "report.html", (".html", ".htm")


@click.command()
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The page.  [default: report.html in RUN, of several runs here]",
)
@DATA_DIR
@click.option("--json", is_flag=True, help="Print what the runs have written as JSON instead of tables.")
def report(runs: tuple[Path, ...], out: Path | None, data_dir: Path | None, json: bool) -> int:
    """Show runs that train --out has written, and write them as one page.

    The page is one file, with the figures inside, and asks for nothing from elsewhere. The figures are files in the
    run's folder, too, as SVG and PNG; those that are not there are drawn. What the network makes of the test images is
    computed from its weights, for which the run's data must be there.

    The exit code is 0 if the report was made, whatever the verdicts are.
    """
    from cli.console import print_json, remark, results, say
    from cli.page.html import illustrated, page
    from cli.runs.finished import read_run
    from cli.runs.tables import print_run, print_summary
    from gradcheck.files import write_whole

    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--out {out} is no page: a name that ends in .html is needed")
    found = [read_run(run) for run in runs]
    out = out or (runs[0] / PAGE if len(runs) == 1 else Path(PAGE))
    told = [illustrated(run, data_dir) for run in found]
    write_whole(out, page(told).encode(errors="xmlcharrefreplace"))
    for one in told:
        if one.missing:
            remark(f"{one.run.path}: nothing is shown of its weights and of the test images: {one.missing}")
    if json:
        documents = [run.raw for run in found]
        print_json(documents[0] if len(documents) == 1 else {"command": "report", "runs": documents})
        return ExitCode.PASS
    if len(found) == 1:
        print_run(results(), found[0].document)
    else:
        print_summary(results(), [(str(run.path), run.document) for run in found])
    say(results(), f"written to {out}")
    return ExitCode.PASS
