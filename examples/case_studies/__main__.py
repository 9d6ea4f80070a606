"""The faults of four published comparisons, and a fifth: all case studies, as one page of Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from examples.case_studies import another_loss, divided_twice, missing_axis, stuck_output, tied_maxima
from examples.case_studies.page import Study, tell


def opening(study: Study) -> Iterator[str]:
    """Tell what the page is."""
    yield "# Case studies"
    yield (
        "Four published comparisons of NumPy with PyTorch report a gap. In each, the two sides are not the same"
        " program. Here each cause is rebuilt in a few lines of our own. The checker names it, and the accuracy is"
        f" measured with and without it, on `{study.dataset.name}`. The headings give what was published. The quotes"
        " below them and the boxes are the checker's output, word for word, or the code that was run. The fifth fault"
        " is from no publication, but many programs have it."
    )
    yield (
        "`python -m examples.case_studies --data-dir DIR` prints this page, `python -m"
        " examples.case_studies.divided_twice --data-dir DIR` one case of it. `--quick` takes fewer images, steps and"
        " seeds. The whole page takes about five minutes on one core. The checks have `seconds=300`, more than they"
        " take, so that what they say is the same on every machine."
    )


if __name__ == "__main__":
    tell(opening, divided_twice.story, another_loss.story, missing_axis.story, stuck_output.story, tied_maxima.story)
