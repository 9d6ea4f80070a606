"""The experiments of presets.toml, and what was measured of them."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from importlib import resources
from typing import Any

from nets.presets.preset import Preset
from nets.presets.text import field_of

FILES = resources.files("nets.presets")


def _presets() -> dict[str, Preset]:
    found: dict[str, Preset] = {}
    for name, told in tomllib.loads(FILES.joinpath("presets.toml").read_text("utf-8")).items():
        given = {"name": name} | {field: field_of(field, value) for field, value in told.items() if field != "like"}
        found[name] = replace(found[told["like"]], **given) if "like" in told else Preset(**given)
    return found


PRESETS = _presets()


def measured() -> dict[str, Any]:
    """Return what benchmarks/presets.py has measured on MNIST, by preset and side: accuracies, and seconds an epoch."""
    found: dict[str, Any] = json.loads(FILES.joinpath("measured.json").read_text("utf-8"))
    return found
