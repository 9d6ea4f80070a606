"""Parts that some commands cannot do without, and the extras that bring them."""

from __future__ import annotations

EXTRAS = {
    "torch": ("PyTorch", "torch"),
    "jinja2": ("Jinja2", "report"),
    "markupsafe": ("Jinja2", "report"),
    "matplotlib": ("Matplotlib", "figures"),
    "PIL": ("Pillow", "figures"),
    "pooch": ("pooch", "data"),
    "sklearn": ("scikit-learn", "digits"),
}


def missing_part(error: ModuleNotFoundError) -> str | None:
    """Return what is missing and how to get it, or None for a module that is no such part."""
    part, extra = EXTRAS.get((error.name or "").partition(".")[0], (None, None))
    return part and f"{part}: pip install 'mnistcheck[{extra}]'"
