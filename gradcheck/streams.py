"""Random numbers for one purpose each, which nobody else draws."""

from __future__ import annotations

import hashlib

import numpy as np

# Users draw inputs with ``np.random.default_rng(0)``. A cotangent from the same stream equals the input; then x^T dy is
# symmetric, and a transposed weight gradient looks right. This constant keeps the streams apart.
OURS = 0x67726164636865636B


def stream(purpose: str, *keys: int) -> np.random.Generator:
    """Return the generator of a purpose, such as ``cotangent``, and of keys >= 0; each call starts it anew.

    Streams of other purposes, of other keys and of other programs are independent of it (`numpy.random.SeedSequence`).
    """
    word = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
    return np.random.default_rng(np.random.SeedSequence([OURS, word, *keys]))
