"""Datasets by name, and which one ``auto`` means."""

from __future__ import annotations

from pathlib import Path

from nets.datasets.dataset import DataError, Dataset
from nets.datasets.digits import load_digits
from nets.datasets.mnist import find_mnist, load_mnist

NAMES = ("auto", "mnist", "digits")


def load_dataset(name: str, data_dir: Path | None) -> Dataset:
    """Return the dataset ``name``; ``auto`` is MNIST where it is found, else the bundled digits.

    MNIST is looked for in ``data_dir`` and in the user's cache; nothing is downloaded. Raises `DataError`.
    """
    if name not in NAMES:
        raise ValueError(f"there is no dataset {name!r}; there are {', '.join(NAMES)}")
    roots = [root for root in (data_dir, cache_dir()) if root is not None]
    root = find_mnist(roots) if name != "digits" else None
    if root is not None:
        return load_mnist(root)
    if name == "mnist":
        looked = " or ".join(str(root / "MNIST" / "raw") for root in roots)
        raise DataError(
            f"MNIST is not in {looked}; torchvision.datasets.MNIST(DIR, download=True) puts it into DIR:"
            " then pass --data-dir DIR"
        )
    return load_digits()


def cache_dir() -> Path:
    """Return the folder where datasets are kept for this user."""
    from platformdirs import user_cache_path

    return user_cache_path("mnistcheck", appauthor=False)
