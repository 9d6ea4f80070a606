"""The state of a loop of torch: copied, and overwritten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.torch_copies import Copies, as_arrays, copied
from gradcheck.loops.torch_model import Watched
from gradcheck.trajectory.engine import State
from gradcheck.trajectory.trees import as_array, leaves

if TYPE_CHECKING:
    import torch


# What L-BFGS writes anew before it reads it is carried nowhere, though it is beside what it keeps.
SCRATCH = "al"


@dataclass(frozen=True, eq=False)
class StateCopy:
    """Copies of the parameters, of the other tensors of a state, and of its numbers, as arrays."""

    params: Copies
    others: Copies
    numbers: State

    def arrays(self) -> State:
        """Return all of it as arrays."""
        return as_arrays(self.params) | as_arrays(self.others) | self.numbers


class HeldState:
    """The state of a loop: ``param/...``, ``buffer/...`` and, for what optimizers keep, ``optim/slot/...``."""

    def __init__(self, model: Watched) -> None:
        self.model = model
        self.params = {f"param/{name}": param for name, param in model.params.items()}
        self.names = {id(param): name for name, param in model.params.items()}
        self.keys: dict[tuple[int, str], str] = {}  # of slots, since names take longer to make than to find

    def names_of(self, optimizer: Any) -> frozenset[str]:  # noqa: ANN401  any optimizer
        """Return what the gradients are called that an optimizer uses."""
        trained = [id(param) for group in optimizer.param_groups for param in group["params"]]
        return frozenset([f"backward/{self.names[place]}" for place in trained if place in self.names])

    def copy(self) -> StateCopy:
        """Copy everything."""
        tensors = {f"buffer/{name}": buffer for name, buffer in self.model.buffers().items()}
        numbers: State = {}
        for key, value in self._slots():
            if hasattr(value, "detach"):
                tensors[key] = value
            elif (array := as_array(value)) is not None:
                numbers[key] = array
        return StateCopy(copied(self.params), copied(tensors), numbers)

    def _slots(self) -> Iterator[tuple[str, Any]]:
        for optimizer in self.model.optimizers:
            for param, slots in optimizer.state.items():
                for slot, value in slots.items() if isinstance(slots, dict) else leaves(slots):
                    if isinstance(value, list) and slot == SCRATCH:
                        continue
                    if isinstance(value, (dict, list, tuple)):
                        yield from ((self._key(param, f"{slot}.{path}"), one) for path, one in leaves(value))
                    elif value is not None:
                        yield self._key(param, slot), value

    def _key(self, param: object, slot: str) -> str:
        place = id(param), slot
        if place not in self.keys:
            self.keys[place] = f"optim/{slot}/{self.names.get(id(param), '')}".rstrip("/")
        return self.keys[place]

    def put(self, state: Mapping[str, Array]) -> None:
        """Overwrite the state by what is given; keys that are not known are ignored."""
        import torch

        with torch.no_grad():
            buffers = {f"buffer/{name}": buffer for name, buffer in self.model.buffers().items()}
            for key, tensor in (*self.params.items(), *buffers.items()):
                if key in state:
                    _write(tensor, state[key])
            for optimizer in self.model.optimizers:
                for param, slots in optimizer.state.items():
                    for slot in list(slots):
                        slots[slot] = self._put(param, slot, slots[slot], state)

    def _put(self, param: object, path: str, value: Any, state: Mapping[str, Array]) -> Any:  # noqa: ANN401  whatever is kept
        """Return a slot with the values that are given: of a list, such as the history of L-BFGS, as many as these."""
        import torch

        if isinstance(value, dict):
            for name in list(value):
                value[name] = self._put(param, f"{path}.{name}", value[name], state)
        elif isinstance(value, (list, tuple)):
            parts = [self._put(param, f"{path}.{place}", one, state) for place, one in enumerate(value)]
            return self._as_many(param, path, parts, state) if type(value) is list else value
        elif (key := self._key(param, path)) not in state:
            return value
        elif isinstance(value, torch.Tensor):
            _write(value, state[key])
        elif isinstance(value, (int, float)):
            return type(value)(state[key].item())
        return value

    def _as_many(self, param: object, path: str, parts: list[Any], state: Mapping[str, Array]) -> list[Any]:
        """Return a list with as many tensors as are given, if any are."""
        import torch

        given = 0
        while (key := self._key(param, f"{path}.{given}")) in state:
            if given == len(parts) and parts:
                like = parts[0]
                parts.append(torch.from_numpy(np.array(state[key])).to(like))
            given += 1
        full = given and all(isinstance(one, torch.Tensor) for one in parts)
        return parts[:given] if full else parts


def _write(tensor: torch.Tensor, array: Array) -> None:
    """Write what is other than it was: autograd refuses a graph whose parameters have been written to."""
    import torch

    given = torch.from_numpy(np.array(array)).reshape(tensor.shape)
    if not torch.equal(tensor.detach().to("cpu", given.dtype), given):
        tensor.data.copy_(given)
