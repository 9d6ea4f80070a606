"""Whether a loop does the same when it is called again."""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck.loops.judging import near
from gradcheck.loops.results import Doubt, Doubts
from gradcheck.loops.seen import Seen


def not_repeated(name: str, once: Iterable[Seen], again: Iterable[Seen], prefixes: tuple[str, ...] = ("",)) -> Doubts:
    """Return the doubt that a loop repeats itself, if of what it shows below ``prefixes`` something is other again."""
    for one, other in zip(again, once, strict=False):
        moved = [
            key
            for key, array in one.tensors.items()
            if key.startswith(prefixes) and key in other.tensors and not near(array, other.tensors[key])
        ]
        if moved:
            return {Doubt.NOT_REPEATED: (name, ", ".join(moved[:3]))}
    return {}
