"""Weights that do not fit are refused whole, with their names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gradcheck.contract import Array, ShapeError
from nets.layers import BatchNorm1d, BatchNorm2d, Conv2d, Flatten, Linear, ReLU, Sequential, Sigmoid
from nets.weights import (
    FORMATS,
    CheckpointError,
    decode,
    encode,
    from_torch,
    load,
    load_state_dict,
    save,
    state_dict,
    to_torch,
)
from tests.nets.refused import refusal


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
        ({"0.bias": None}, CheckpointError, "the weights lack 0.bias; they have 0.weight, 2.weight"),
        ({"3.weight": np.ones(1)}, CheckpointError, "the network has no 3.weight; it has 0.weight, 0.bias, 2.weight"),
        ({"0.weight": np.ones((2, 3))}, ShapeError, "0.weight needs shape (3, 2), got (2, 3)"),
        (
            {"2.weight": np.ones((1, 3), np.float32)},
            CheckpointError,
            "2.weight needs float64, got float32: cast one side first, as layer.astype(dtype) does",
        ),
    ],
)
def test_weights_that_do_not_fit_change_nothing(
    change: dict[str, Array | None], error: type[Exception], message: str
) -> None:
    ours = network()
    before = {name: array.copy() for name, array in state_dict(ours).items()}
    changed = {name: array + 1 for name, array in before.items()} | change
    arrays = {name: array for name, array in changed.items() if array is not None}
    assert refusal(error, load_state_dict, ours, arrays) == message
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


@pytest.mark.parametrize("form", FORMATS)
def test_damaged_files_are_refused_in_one_line(form: str, tmp_path: Path) -> None:
    good, rng, path = encode(state_dict(network()), form), np.random.default_rng(0), tmp_path / f"weights{form}"
    before = {name: array.copy() for name, array in state_dict(network()).items()}
    for length in [0, 1, *rng.integers(2, len(good), 40)]:
        path.write_bytes(good[:length])
        assert refusal(CheckpointError, load, network(), path).startswith(f"{path}: these bytes are not a")
    for _ in range(200):
        bytes_ = np.frombuffer(good, np.uint8).copy()
        bytes_[rng.integers(len(good), size=4)] = rng.integers(256, size=4)
        path.write_bytes(bytes_.tobytes())
        ours = network()
        try:
            load(ours, path)
        except (CheckpointError, ShapeError):
            assert all(np.array_equal(state_dict(ours)[name], array) for name, array in before.items())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("weights.h5", b"", "weights are kept in .safetensors, .npz, .pt files, got weights.h5"),
        ("gone.npz", None, "{path} cannot be read: No such file or directory"),
        ("list.pt", [torch.zeros(2)], "{path}: a state dict is needed, tensors by name, as torch.save(module."),
        ("half.pt", {"w": torch.zeros(2, dtype=torch.bfloat16)}, "{path}: NumPy cannot hold these tensors: "),
        ("code.pt", torch.nn.Linear(1, 1), "{path}: these bytes are not a torch file of weights alone: "),
        ("half.safetensors", {"w": torch.zeros(2, dtype=torch.bfloat16)}, "{path}: NumPy cannot hold these tensors: "),
        ("array.npz", np.zeros(2), "{path}: these bytes are not an npz file of arrays: "),
        ("objects.npz", {"w": np.array([None])}, "{path}: these bytes are not an npz file of arrays: "),
    ],
)
def test_files_of_other_things_are_refused(name: str, content: object, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(content, path)
    elif name.endswith(".safetensors") and isinstance(content, dict):
        save_file(content, path)
    elif isinstance(content, dict):
        np.savez(path, allow_pickle=True, **content)
    elif isinstance(content, np.ndarray):
        with path.open("wb") as file:
            np.save(file, content)
    told = refusal(CheckpointError, load, network(), path)
    assert told.startswith(message.format(path=path))
    assert "\x1b" not in told
    assert name == "objects.npz" or "allow_pickle" not in told


def test_a_plain_torch_script_and_ours_read_each_others_files(tmp_path: Path) -> None:
    theirs = torch.nn.Sequential(
        torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3, padding=1), torch.nn.BatchNorm2d(2), torch.nn.ReLU()),
        torch.nn.Flatten(),
        torch.nn.Linear(32, 3),
    )
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    block = Sequential((Conv2d.create(1, 2, 3, padding=1), BatchNorm2d.create(2), ReLU()))
    ours = Sequential((block, Flatten(), Linear.create(32, 3))).astype(np.float32)
    load(ours, tmp_path / "theirs.pt")
    for name, tensor in theirs.state_dict().items():
        assert state_dict(ours)[name].tobytes() == tensor.numpy().tobytes()
    for array in ours.parameters().values():
        array[...] *= 2
    save(ours, tmp_path / "ours.pt")
    theirs.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True))
    for name, tensor in theirs.state_dict().items():
        assert state_dict(ours)[name].tobytes() == tensor.numpy().tobytes()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "weights.npz"
    save(network(), path)
    kept = path.read_bytes()
    (tmp_path / ".weights.npz.partial").mkdir()  # which cannot be written to
    with pytest.raises(OSError, match="partial"):
        save(network(), path)
    assert path.read_bytes() == kept
    with pytest.raises(OSError, match="No such file"):
        save(network(), tmp_path / "nowhere" / "weights.pt")
    with pytest.raises(FileNotFoundError, match=r"nowhere'$"):
        save(network(), tmp_path / "nowhere" / "weights.pt")
