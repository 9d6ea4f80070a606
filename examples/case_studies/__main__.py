"""The faults of four published comparisons, and a fifth: all case studies, as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from examples.case_studies import another_loss, divided_twice, missing_axis, stuck_output, tied_maxima
from examples.case_studies.page import Study, tell


def opening(study: Study) -> Iterator[str]:
    """Tell what the page is."""
    yield "# Case studies"
    yield (
        "Four published comparisons of NumPy with PyTorch report a gap. In none of them are the two sides the same"
        " program. Here each cause is rebuilt in a few lines of our own, the checker is asked what it is, and the"
        f" number is measured with it and without it, on `{study.dataset.name}`. The headings are what was published;"
        " the lines below them and the boxes are what the checker says, letter by letter, or the code that was run. A"
        " fifth fault is no publication's, and in many programs."
    )
    yield (
        "`python -m examples.case_studies --data-dir DIR` prints this page, `python -m"
        " examples.case_studies.divided_twice --data-dir DIR` one case of it, and `--quick` a"
        " glance. The whole page takes about five minutes on one core."
    )


if __name__ == "__main__":
    tell(opening, divided_twice.story, another_loss.story, missing_axis.story, stuck_output.story, tied_maxima.story)
