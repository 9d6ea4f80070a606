"""A copy lies in memory as its array does, and shares nothing with it."""

from __future__ import annotations

import numpy as np
import pytest

from gradcheck.contract import Array
from gradcheck.numerics.memory import copied

BASE = np.arange(24.0).reshape(4, 6)
ARRAYS = {
    "rows": BASE,
    "columns first": np.asfortranarray(BASE),
    "backwards": BASE[::-1, ::-1],
    "every second": BASE[:, ::2],
    "one number repeated": np.broadcast_to(np.array(3.0), (2, 3)),
    "a number": np.array(2.5),
    "nothing": np.empty((0, 3)),
    "integers": np.arange(6)[::-1],
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_a_copy_has_the_numbers_strides_and_rights_of_its_array_and_memory_of_its_own(array: Array) -> None:
    copy = copied(array)
    assert np.array_equal(copy, array)
    assert (copy.dtype, copy.strides) == (array.dtype, array.strides)
    assert copy.flags.writeable == array.flags.writeable
    assert not np.shares_memory(copy, array)


def test_what_lies_between_the_elements_of_a_copy_is_no_number_of_its_array() -> None:
    copy = copied(BASE[:, ::2])
    between = np.lib.stride_tricks.as_strided(copy, (23,), (8,))[1::2]
    assert np.isnan(between).all()
