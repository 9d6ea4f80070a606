"""Weights that do not fit are refused whole, with their names."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from gradcheck.contract import Array, ShapeError
from nets.layers import BatchNorm1d, Linear, Sequential, Sigmoid
from nets.weights import CheckpointError, decode, encode, from_torch, load_state_dict, state_dict, to_torch


def network(dtype: type = np.float64) -> Sequential:
    rng = np.random.default_rng(0)
    layers = (Linear(rng.standard_normal((3, 2)), rng.standard_normal(3)), Sigmoid())
    return Sequential((*layers, Linear(rng.standard_normal((1, 3)), None))).astype(dtype)


def plain_torch(dtype: torch.dtype = torch.float64) -> torch.nn.Sequential:
    layers = (torch.nn.Linear(2, 3), torch.nn.Sigmoid(), torch.nn.Linear(3, 1, bias=False))
    module, generator = torch.nn.Sequential(*layers).to(dtype), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(generator=generator)
    return module


@pytest.mark.parametrize(("dtype", "name"), [(np.float64, "float64"), (np.float32, "float32")])
def test_a_model_that_torch_wrote_computes_the_same_here_and_back(dtype: type, name: str) -> None:
    module, ours = plain_torch(getattr(torch, name)), network(dtype)
    from_torch(module, ours)
    x: Array = np.random.default_rng(1).standard_normal((4, 2)).astype(dtype)
    with torch.no_grad():
        theirs = module(torch.tensor(x)).numpy()
    # Sums of a few terms of size 1: each is rounded to within eps of 1, whatever it sums to.
    np.testing.assert_allclose(ours.forward(x)[0], theirs, rtol=0, atol=8 * float(np.finfo(dtype).eps))
    other = plain_torch(getattr(torch, name))
    to_torch(ours, other)
    for mine, yours in zip(module.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_special_values_travel_bit_for_bit() -> None:
    ours, module = network(), plain_torch()
    payload = np.array([[0x7FF8DEADBEEF0001, 0x8000000000000000], [1, 0xFFF0000000000000], [0x3FF, 0]], np.uint64)
    ours.parameters()["0.weight"][...] = payload.view(np.float64)
    to_torch(ours, module)
    from_torch(module, ours)
    assert np.array_equal(ours.parameters()["0.weight"].view(np.uint64), payload)
    assert np.array_equal(decode(encode(state_dict(ours)))["0.weight"].view(np.uint64), payload)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda arrays: arrays.pop("0.bias"), CheckpointError, "the weights lack 0.bias; they have 0.weight, 2.weight"),
        (
            lambda arrays: arrays.update({"3.weight": np.ones(1)}),
            CheckpointError,
            "the network has no 3.weight; it has 0.weight, 0.bias, 2.weight",
        ),
        (
            lambda arrays: arrays.update({"0.weight": np.ones((2, 3))}),
            ShapeError,
            "0.weight needs shape (3, 2), got (2, 3)",
        ),
        (
            lambda arrays: arrays.update({"2.weight": np.ones((1, 3), np.float32)}),
            CheckpointError,
            "2.weight needs float64, got float32: cast one side first",
        ),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    change: Callable[[dict[str, Array]], object], error: type[Exception], message: str
) -> None:
    ours = network()
    before = {name: array.copy() for name, array in state_dict(ours).items()}
    arrays = {name: array + 1 for name, array in state_dict(ours).items()}
    change(arrays)
    with pytest.raises(error) as caught:
        load_state_dict(ours, arrays)
    assert str(caught.value) == message
    assert all(np.array_equal(state_dict(ours)[name], array) for name, array in before.items())


def test_counters_keep_their_shape_and_type() -> None:
    ours, module = BatchNorm1d.create(2), torch.nn.BatchNorm1d(2).double()
    module(torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=torch.float64))
    from_torch(module, ours)
    for dtype in (np.float32, np.float64):
        count = decode(encode(state_dict(ours.astype(dtype))))["num_batches_tracked"]
        assert (count.shape, count.dtype, int(count)) == ((), np.int64, 1)


def test_a_module_of_another_shape_is_refused() -> None:
    wide = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.Sigmoid(), torch.nn.Linear(5, 1, bias=False))
    with pytest.raises(ShapeError, match=r"0.weight needs shape \(5, 2\), got \(3, 2\)"):
        to_torch(network(), wide.double())


def test_bytes_that_are_no_weights_are_refused() -> None:
    with pytest.raises(CheckpointError, match="these bytes are not a safetensors file"):
        decode(b"not at all")
