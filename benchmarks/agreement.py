"""How well each part agrees with torch: the worst ratio of disagreement over allowance in drawn cases.

Above 1 a part fails. Forward and backward are `forward_agrees_with_twin` and `gradients_agree_with_twin`; what stands
for an optimizer is its updates. ``--cases`` are drawn for each part, direction and precision.
"""

from __future__ import annotations

import argparse

from gradcheck.checks import check_class
from gradcheck.properties import DTYPES, Settings
from gradcheck.trials import Subject, properties_of
from nets import LAYERS, LOSSES, OPTIMIZERS

COLUMNS = {
    "forward": ("forward_agrees_with_twin", "updates_agree_with_twin"),
    "backward": ("gradients_agree_with_twin",),
}


def worst(subject: Subject, claims: tuple[str, ...], dtype: str, cases: int) -> str:
    """Return the worst ratio of a part in one direction and precision, and what it is of; a dash for none."""
    wanted = [claim for claim in properties_of(subject) if claim.__name__ in claims]
    findings = check_class(subject, claims=wanted, examples=cases, seed=2, settings=Settings(dtypes=(dtype,))).findings
    found = [finding.worst for finding in findings if finding.worst is not None]
    return f"{found[0].ratio:.3f} ({found[0].tensor.partition(' ')[0]})" if found else "-"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=200, help="cases drawn")
    options = parser.parse_args()
    heads = [f"{direction}, {dtype}" for direction in COLUMNS for dtype in DTYPES]
    print(f"| part | {' | '.join(heads)} |")
    print("|---" * (1 + len(heads)) + "|")
    subjects: list[Subject] = [*LAYERS, *LOSSES, *OPTIMIZERS]
    for subject in subjects:
        cells = [worst(subject, claims, dtype, options.cases) for claims in COLUMNS.values() for dtype in DTYPES]
        print(f"| {subject.__name__} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
