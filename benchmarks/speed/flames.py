"""Where the time goes: python -m benchmarks.speed.flames draws a fair run and a check as flame graphs into docs/images.

The stack is looked at every four milliseconds of the processor. A box is a function, as wide as its share of the
time, below the one that called it. What a library does is one box with the library's name.
"""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING

import numpy as np

import gradcheck
from benchmarks.speed import fair_runs, tables
from benchmarks.speed.__main__ import data
from benchmarks.speed.curves import network
from benchmarks.speed.layer_checks import Dense
from cli.figures.drawing import BLUE, GREY, PURPLE, SKY, VERMILION, WIDE, caption, rendered
from nets.engines.torch_engine import one_thread_each

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Stack = tuple[str, ...]

EVERY = 0.004  # seconds of the processor, which Linux counts in no smaller ones
NARROWEST = 0.004  # of the whole: boxes that are narrower are not drawn
LETTER = 0.0092  # of the whole: what a letter of a label takes
DEEPEST = 22  # rows
ROW = 0.21  # inches

# By the beginning of a box's name, the colour of its room; the first that fits.
COLOURS = {
    "trajectory": BLUE, "numerics": SKY, "subjects": PURPLE, "properties": PURPLE, "nets": "#009E73",
    "torch": VERMILION,
}  # fmt: skip


KEY = (
    "Blue: trajectory; light blue: numerics; pink: subjects and properties; green: nets; orange: torch; grey: the rest."
)


def sampled(work: Callable[[], object]) -> Counter[Stack]:
    """Return how often each stack was seen while some work was done, from the outside in."""
    found: Counter[Stack] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        found[tuple(named(frame))] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
    try:
        work()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    return found


def named(frame: FrameType | None) -> Iterator[str]:
    """Yield the names of the boxes of a stack: room, file and function of ours, the library of all else."""
    frames: list[str] = []
    while frame is not None:
        frames.append(box(frame))
        frame = frame.f_back
    ours = [name.startswith(("gradcheck.", "nets.")) for name in reversed(frames)]
    names = frames[::-1][ours.index(True) :] if True in ours else []
    for place, name in enumerate(names):
        if place == 0 or name != names[place - 1] or name.startswith(("gradcheck.", "nets.")):
            yield name.removeprefix("gradcheck.")


def box(frame: FrameType) -> str:
    """Return the name of a frame's box."""
    module = str(frame.f_globals.get("__name__", "?"))
    top, _, _ = module.partition(".")
    if top not in ("gradcheck", "nets"):
        return top if top in ("torch", "numpy", "scipy", "benchmarks") else "Python"
    function = frame.f_code.co_qualname.replace(".<locals>", "").rpartition(".<")
    return f"{module}: {function[0] or function[2]}"


def figure(stacks: Counter[Stack], text: str) -> Figure:
    """Return the flame graph of stacks, hanging from its top."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    total = sum(stacks.values())
    boxes = list(laid_out(sorted(stacks.items()), total))
    rows = 1 + max(depth for depth, *_ in boxes)
    drawn = Figure(figsize=(WIDE, ROW * rows + 0.6), layout="constrained")
    axes = drawn.subplots()
    axes.set_axis_off()
    axes.set_xlim(0, 1)
    axes.set_ylim(rows, 0)
    for depth, left, width, name in boxes:
        colour = next((colour for start, colour in COLOURS.items() if name.startswith(start)), GREY)
        axes.add_patch(
            Rectangle((left, depth), width, 0.94, facecolor=colour, alpha=0.3, edgecolor="white", linewidth=0.5)
        )
        axes.text(left + 0.003, depth + 0.48, label(name, width), fontsize=6.5, va="center", parse_math=False)
    caption(drawn, f"{text} {total:,} looks at the stack. {KEY}")
    return drawn


def label(name: str, width: float) -> str:
    """Return as much of a box's name as it has room for: the function before its file."""
    room = int(width / LETTER)
    module, _, function = name.partition(": ")
    short = f"{module.rpartition('.')[2]}: {function}" if function else module
    for text in (name, short, function or module):
        if len(text) <= room:
            return text
    return f"{(function or module)[: room - 1]}…" if room > 4 else ""


def laid_out(
    stacks: list[tuple[Stack, int]], total: int, depth: int = 0, left: float = 0.0
) -> Iterator[tuple[int, float, float, str]]:
    """Yield depth, left edge, width and name of every box, widest first among those below one."""
    below: dict[str, list[tuple[Stack, int]]] = {}
    for stack, count in stacks:
        if len(stack) > depth:
            below.setdefault(stack[depth], []).append((stack, count))
    for name, group in sorted(below.items(), key=lambda item: -sum(count for _, count in item[1])):
        width = sum(count for _, count in group) / total
        if width >= NARROWEST and depth < DEEPEST:
            yield depth, left, width, name
            yield from laid_out(group, total, depth + 1, left)
        left += width


def fair_run(count: int) -> None:
    """Compare so many hundred steps of 784-128-10."""
    fair_runs.timed(network(128, 1, 100 * count))


def check(count: int) -> None:
    """Check a foreign layer so many times."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        gradcheck.check_layer(Dense(rng), rng.standard_normal((5, 20)))


WORKS = {
    "flame-fair-run": (fair_run, 2, "A fair run of 784-128-10 at batch 1, 200 steps in float64."),
    "flame-check": (check, 20, "check_layer of a foreign Dense 20->10 at batch 5."),
}


def main() -> None:
    """Draw both, after they have run once."""
    data()
    with one_thread_each():
        for name, (work, count, text) in WORKS.items():
            print(name, file=sys.stderr, flush=True)
            work(1)
            (content,) = rendered(partial(figure, sampled(partial(work, count)), text), "svg")
            (tables.PAGE.parent / "images" / f"{name}.svg").write_bytes(content)


if __name__ == "__main__":
    main()
