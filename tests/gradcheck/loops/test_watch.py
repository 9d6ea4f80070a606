"""One line around a loop: what is seen of it, what is not, and that the loop stays what it was."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gradcheck
from gradcheck.loops.seen import Seen
from gradcheck.loops.watch import Keeping, Watch
from tests.gradcheck.loops.programs import SGD, Numpy, Torch, network


def watched(loop: Torch, **options: Any) -> list[Seen]:  # noqa: ANN401  of watch
    """Return the steps that are seen of a loop."""
    kept: list[Watch] = []

    def watch(model: nn.Module, optimizer: torch.optim.Optimizer) -> Watch:
        kept.append(gradcheck.watch(model, optimizer, **options))
        return kept[0]

    loop(watch)
    assert isinstance(kept[0].onlooker, Keeping)
    return kept[0].onlooker.steps


def trained(loop: Torch, watch: Any = None) -> dict[str, torch.Tensor]:  # noqa: ANN401  what the loop is given
    """Return the parameters that a loop ends with."""
    made: list[nn.Module] = []

    def make() -> nn.Module:
        made.append(loop.make())
        return made[0]

    class Unwatched:
        def __enter__(self) -> None: ...
        def __exit__(self, *_: object) -> None: ...

    torch.manual_seed(0)
    replace(loop, make=make)(watch or (lambda *_: Unwatched()))
    return made[0].state_dict()


CLIPPED = replace(SGD, make=lambda: network(nn.BatchNorm1d(6), nn.Dropout(0.5)), clip=0.1, micro=2)


@pytest.mark.parametrize("loop", [SGD, CLIPPED])
def test_a_watched_loop_computes_what_it_did(loop: Torch) -> None:
    bare, seen = trained(loop), trained(loop, gradcheck.watch)
    assert all(torch.equal(bare[name], seen[name]) for name in bare)


def test_gradients_and_updates_are_those_of_torch() -> None:
    first = watched(SGD)[0].tensors
    net = network()
    x, y = (torch.from_numpy(array) for array in next(SGD.data()))
    hidden = net[1](net[0](x))
    hidden.retain_grad()
    loss = nn.functional.cross_entropy(net[2](hidden), y)
    torch.autograd.backward(loss)
    assert first["loss/loss.value"] == loss.item()
    assert np.array_equal(first["data/x"], x.numpy())
    assert np.array_equal(first["data/y"], y.numpy())
    assert np.array_equal(first["forward/1.output"], hidden.detach().numpy())
    assert hidden.grad is not None
    assert np.array_equal(first["backward/1.output"], hidden.grad.numpy())
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None
        assert np.array_equal(first[f"backward/{name}"], parameter.grad.numpy())
        moved = parameter.detach() - 0.1 * parameter.grad
        assert np.allclose(first[f"update/param/{name}"], moved.numpy(), rtol=1e-14, atol=0)
        assert np.array_equal(first[f"update/optim/momentum_buffer/{name}"], parameter.grad.numpy())


def test_passes_of_one_step_are_numbered_and_their_losses_added() -> None:
    whole, parts = watched(SGD)[0].tensors, watched(replace(SGD, micro=4))[0].tensors
    assert [name for name in parts if name.startswith("data/x")] == ["data/x", "data/x@1", "data/x@2", "data/x@3"]
    joined = np.concatenate([parts[f"forward/0.output{at}"] for at in ("", "@1", "@2", "@3")])
    assert np.allclose(joined, whole["forward/0.output"], rtol=1e-14, atol=0)
    assert np.allclose(parts["loss/loss.value"], whole["loss/loss.value"], rtol=1e-14, atol=0)


def test_gradients_are_shown_before_and_after_they_are_clipped() -> None:
    plain, clipped = watched(SGD)[0].tensors, watched(replace(SGD, clip=0.1))[0].tensors
    names = [name for name in clipped if name.endswith(".unclipped")]
    assert len(names) == 4
    assert all(np.array_equal(clipped[name], plain[name.removesuffix(".unclipped")]) for name in names)
    norm = np.sqrt(sum((clipped[name.removesuffix(".unclipped")] ** 2).sum() for name in names))
    assert np.isclose(norm, 0.1, rtol=1e-5)
    assert not any(name.endswith(".unclipped") for name in plain)


def test_a_parameter_that_is_moved_between_steps_is_seen_before_the_next() -> None:
    def clamped(model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.data.clamp_(-0.2, 0.2)

    first, second, *_ = watched(replace(SGD, after=clamped))
    assert np.abs(first.tensors["update/param/0.weight"]).max() > 0.2
    assert np.abs(second.start["param/0.weight"]).max() == 0.2
    assert watched(SGD)[1].start == {}


def test_an_evaluation_is_no_part_of_a_step() -> None:
    def evaluated(model: nn.Module) -> None:
        with torch.no_grad():
            model(torch.zeros(2, 5, dtype=torch.float64))

    assert list(watched(replace(SGD, after=evaluated))[1].tensors) == list(watched(SGD)[1].tensors)


@pytest.mark.parametrize(("options", "steps"), [({"every": 10}, [0, 10, 20, 30]), ({"every": 3, "limit": 2}, [0, 3])])
def test_so_many_steps_are_seen(options: dict[str, int], steps: list[int]) -> None:
    assert [seen.step for seen in watched(SGD, **options)] == steps


@pytest.mark.parametrize("options", [{"every": 0}, {"limit": 0}])
def test_bounds_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="watch needs every and limit of at least 1"):
        gradcheck.watch(**options)


def test_hooks_are_gone_at_the_end_and_after_an_error() -> None:
    model, before = network(), (torch.autograd.backward, torch.amp.GradScaler.scale, torch.amp.GradScaler.step)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(KeyError), gradcheck.watch(model, optimizer):
        raise KeyError("in the loop")
    assert (torch.autograd.backward, torch.amp.GradScaler.scale, torch.amp.GradScaler.step) == before
    assert not any(module._forward_hooks for module in model.modules())
    assert not optimizer._optimizer_step_post_hooks


def own_loss(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return -torch.log_softmax(scores, dim=1)[torch.arange(len(labels)), labels].mean()


def test_what_cannot_be_seen_is_listed() -> None:
    assert watched(SGD)[0].unseen == ()
    told = watched(replace(SGD, loss=own_loss))[0].unseen
    assert told == ("the targets: the loss is none of torch's own, or has none",)


def test_a_trace_is_written_that_can_be_compared(tmp_path: Path) -> None:
    for name, loop in (("ours", SGD), ("theirs", SGD), ("other", replace(SGD, zeroed=lambda step: step != 3))):
        loop(lambda model, optimizer, name=name: gradcheck.watch(model, optimizer, out=tmp_path / name, limit=5))
    ours = gradcheck.Trace(tmp_path / "ours")
    assert ours.header.program == "ours"
    assert len(list(ours.steps())) == 5
    first = next(ours.steps())
    assert np.array_equal(first.before()["param/0.bias"], np.zeros(6))
    assert first.batch(first.tensors()).lr == 0.1
    report = gradcheck.compare_traces(ours, gradcheck.Trace(tmp_path / "other"))
    assert report.verdict != "pass"


def test_a_loop_in_numpy_leaves_a_trace_too(tmp_path: Path) -> None:
    with gradcheck.watch(out=tmp_path / "ours", limit=3) as watch:
        Numpy()(watch)
    entries = list(gradcheck.Trace(tmp_path / "ours").steps())
    assert len(entries) == 3
    assert np.array_equal(entries[0].before()["param/b1"], np.zeros(6))
    assert {"backward/W1", "forward/hidden", "update/optim/velocity.W1"} <= set(entries[0].entry.tensors)


def test_tensors_without_a_module_are_watched() -> None:
    w = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.5)
    with gradcheck.watch({"w": w}, optimizer) as watch:
        torch.autograd.backward((w * torch.arange(3.0)).sum())
        optimizer.step()
    assert isinstance(watch.onlooker, Keeping)
    seen = watch.onlooker.steps[0]
    assert np.array_equal(seen.tensors["backward/w"], [0, 1, 2])
    assert np.array_equal(seen.tensors["update/param/w"], [0, -0.5, -1])
    assert "inputs and results: no module was given" in seen.unseen


class Twice(nn.Module):
    """Calls one layer twice, and reads what comes out by the layer's own weight."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.out = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.out.weight = self.layer.weight
        self.layer.bias.requires_grad = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.tanh(self.layer(torch.tanh(self.layer(x))))
        return self.out(hidden)


def stepped(scaler: torch.amp.GradScaler | None = None, times: float = 1.0) -> tuple[Seen, Twice, torch.Tensor]:
    """Watch one step, by a scaler if there is one; return it, the model before it, and the inputs."""
    torch.manual_seed(3)
    model, x = Twice(), torch.randn(5, 4)
    before = copy.deepcopy(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with gradcheck.watch(model, optimizer) as watch:
        loss = times * model(x).square().mean()
        if scaler is None:
            torch.autograd.backward(loss)
            optimizer.step()
        else:
            torch.autograd.backward(scaler.scale(loss))
            scaler.step(optimizer)
            scaler.update()
    assert isinstance(watch.onlooker, Keeping)
    return watch.onlooker.steps[0], before, x


def test_frozen_shared_and_repeated_parts_are_shown_as_they_are() -> None:
    seen, model, x = stepped()
    first = model.layer(x)
    second = model.layer(torch.tanh(first))
    for result in (first, second):
        result.retain_grad()
    torch.autograd.backward(model.out(torch.tanh(second)).square().mean())
    for name, result in (("layer.output", first), ("layer.output@1", second)):
        assert np.array_equal(seen.tensors[f"forward/{name}"], result.detach().numpy())
        assert result.grad is not None
        assert np.array_equal(seen.tensors[f"backward/{name}"], result.grad.numpy())
    assert model.layer.weight.grad is not None
    assert np.array_equal(seen.tensors["backward/layer.weight"], model.layer.weight.grad.numpy())
    assert "backward/layer.bias" not in seen.tensors
    assert np.array_equal(seen.tensors["update/param/layer.bias"], model.layer.bias.detach().numpy())
    assert [name for name in seen.tensors if name.startswith("update/")] == [
        "update/param/layer.weight",
        "update/param/layer.bias",
    ]


def test_a_scale_is_taken_off_the_loss_and_all_gradients() -> None:
    plain, scaled = stepped()[0].tensors, stepped(torch.amp.GradScaler("cpu", init_scale=512.0))[0].tensors
    assert list(plain) == list(scaled)
    assert all(np.array_equal(plain[name], scaled[name]) for name in plain)


def test_a_step_that_a_scaler_skips_is_a_step() -> None:
    seen, model, _ = stepped(torch.amp.GradScaler("cpu", init_scale=1e38), times=1e3)  # beyond float32
    assert np.array_equal(seen.tensors["update/param/layer.weight"], model.layer.weight.detach().numpy())
    assert not np.isfinite(seen.tensors["backward/layer.weight"]).all()


class Replacing(nn.Module):
    """Puts another tensor in the place of its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2))
        self.calls: torch.Tensor
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls = self.calls + 1
        return self.w * x


def test_a_buffer_that_is_replaced_is_seen() -> None:
    model = Replacing()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with gradcheck.watch(model, optimizer) as watch:
        for _ in range(2):
            torch.autograd.backward(model(torch.ones(2)).sum())
            optimizer.step()
    assert isinstance(watch.onlooker, Keeping)
    assert [seen.tensors["update/buffer/calls"].item() for seen in watch.onlooker.steps] == [1, 2]


def test_what_is_kept_is_what_was_not_what_is_written_over_it() -> None:
    def overwritten(model: nn.Module) -> None:
        for parameter in model.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()
            parameter.data.zero_()

    first = watched(replace(SGD, after=overwritten))[0].tensors
    plain = watched(SGD)[0].tensors
    assert all(np.array_equal(first[name], plain[name]) for name in plain)
