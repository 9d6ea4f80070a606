"""Whether data is what was published: by SHA-256, file by file, or array by array in formats that pack them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gradcheck.contract import Array
from nets.datasets.catalogue import Source
from nets.datasets.dataset import DataError, Dataset, digest
from nets.datasets.idx import as_idx, read_idx
from nets.datasets.mnist import FILES, locate, raw_folder

UNPUBLISHED = "nothing is published to compare it with"


@dataclass(frozen=True)
class Checked:
    """A file, or an array in one: its SHA-256 (None if it has none to take), a verdict, and why.

    ``verdict`` is pass, fail (it is missing or damaged) or inconclusive (nothing is published to compare it with).
    """

    what: str
    sha256: str | None
    verdict: str
    note: str


def verify_source(source: Source) -> list[Checked]:
    """Compare a dataset with what is published of MNIST's files.

    Raises `DataError` for a dataset that cannot be read, but for MNIST's own files: what is wrong with one is its
    verdict.
    """
    if source.kind == "mnist":
        return list(_idx_files(Source(source.name, "idx", raw_folder(source.path))))
    if source.kind == "idx":
        checked = list(_idx_files(source))
        if any(one.verdict == "pass" for one in checked) or any(one.sha256 is None for one in checked):
            return checked
        return [Checked(one.what, one.sha256, "inconclusive", UNPUBLISHED) for one in checked]
    dataset = source.load()
    whole = Checked("scikit-learn's digits" if source.kind == "digits" else str(source.path), dataset.sha256,
                    "inconclusive", UNPUBLISHED)  # fmt: skip
    parts = list(_parts(dataset))
    if not any(one.verdict == "pass" for one in parts):
        return [whole]
    return [Checked(whole.what, whole.sha256, "inconclusive", "its arrays are compared below, as IDX files"), *parts]


def verdict_of(checked: list[Checked]) -> str:
    """Return fail if anything is missing or damaged, pass if nothing is and something is as published."""
    verdicts = {one.verdict for one in checked}
    return next((verdict for verdict in ("fail", "pass") if verdict in verdicts), "inconclusive")


def _idx_files(source: Source) -> Iterator[Checked]:
    for name, (shape, published) in FILES.items():
        path = locate(source.path, name)
        if path is None:
            yield Checked(str(source.path / name), None, "fail", "missing")
            continue
        try:
            _, content = read_idx(path, (None, *shape[1:]))
        except DataError as error:
            yield Checked(str(path), None, "fail", str(error).removeprefix(f"{path} "))
            continue
        same = digest(content) == published
        yield Checked(str(path), digest(content), *(("pass", "as published") if same else ("fail", "not as published")))


def _parts(dataset: Dataset) -> Iterator[Checked]:
    """Yield the arrays of a dataset, compared with MNIST's files, which hold the same arrays.

    Validation samples are MNIST's last training samples.
    """
    train, validation, test = dataset.train, dataset.validation, dataset.test
    images, labels = [train.images], [train.labels]
    if validation is not None:
        images.append(validation.images)
        labels.append(validation.labels)
    arrays: list[Array] = [np.concatenate(images), np.concatenate(labels)]
    arrays += [] if test is None else [test.images, test.labels]
    names = ("training images", "training labels", "test images", "test labels")
    for what, array, (name, (_, published)) in zip(names, arrays, FILES.items(), strict=False):
        sha256 = digest(as_idx(array))
        if sha256 == published:
            yield Checked(what, sha256, "pass", f"as published in {name}")
        else:
            yield Checked(what, sha256, "fail", f"not as published in {name}, though other arrays are")
