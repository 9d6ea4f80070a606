"""What optimizers call what they keep for a parameter, by what torch calls it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

SLOTS = {
    "exp_avg": {"exp_avg", "m", "mu", "mt", "m1", "mean", "first", "first_moment", "moment1", "ms"},
    "exp_avg_sq": {"exp_avg_sq", "v", "nu", "vt", "m2", "var", "second", "second_moment", "moment2", "vs", "s"},
    "momentum_buffer": {"momentum_buffer", "velocity", "vel", "v", "vw", "trace", "momentum", "mom", "buf", "buffer"},
    "square_avg": {"square_avg", "cache", "s", "ms", "nu", "v", "acc", "accumulator", "mean_square"},
    "sum": {"sum", "cache", "g", "h", "acc", "accumulator", "sum_of_squares", "grad_squared"},
    "step": {"step", "steps", "t", "count", "n", "iteration", "iterations", "it", "step_count"},
}


def by_parameter(names: Iterable[str], params: Iterable[str]) -> dict[str, list[tuple[str, str]]]:
    """Return, by parameter, the names that are kept for it, each with its slot; "" has what belongs to none."""
    params = list(params)
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in names:
        words = re.split(r"[./]", name)
        owner, slot = "", name
        for param in params:
            parts = re.split(r"[./]", param)
            places = [i for i in range(len(words) - len(parts) + 1) if words[i : i + len(parts)] == parts]
            if places and len(param) > len(owner):
                owner, slot = param, ".".join(words[: places[0]] + words[places[0] + len(parts) :])
        found[owner].append((name, slot))
    return found


def kinds(slot: str) -> set[str]:
    """Return what torch may call a slot."""
    words = {word.lower() for word in re.split(r"[./]", slot)}
    return {kind for kind, names in SLOTS.items() if words & names}
