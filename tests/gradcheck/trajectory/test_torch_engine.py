"""An engine of any torch module trains as torch does, and a fault in one of two is found at its first step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gradcheck.contract import Context, Key
from gradcheck.numerics.agreement import Verdict
from gradcheck.subjects.attributes import AdapterError
from gradcheck.trajectory import TorchEngine, check_trajectory
from gradcheck.trajectory.check import Evaluation, Silence, check_evaluation
from gradcheck.trajectory.engine import Batch, observed, tensors_of
from gradcheck.trajectory.probing import Trait
from tests.long import later

LR = 0.05
Rule = Callable[[Any], torch.optim.Optimizer]

RULES: dict[str, Rule] = {
    "SGD": lambda params: torch.optim.SGD(params, LR),
    "momentum": lambda params: torch.optim.SGD(params, LR, momentum=0.9, dampening=0.1),
    "Adagrad": lambda params: torch.optim.Adagrad(params, LR),
    "AdamW": lambda params: torch.optim.AdamW(params, LR, amsgrad=True),
    "NAdam": lambda params: torch.optim.NAdam(params, LR),
    "Rprop": lambda params: torch.optim.Rprop(params, LR),
}


class Recurrent(nn.Module):
    """An LSTM, whose results are nested, a tied matrix, a module called twice, and a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(5, 6, batch_first=True)
        self.norm = nn.BatchNorm1d(6)
        self.inner = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)
        self.scale = nn.Parameter(torch.ones(6))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        out, (hidden, _) = self.cell(x)
        h = self.norm(out[:, -1]) * self.scale
        return self.head(self.inner(torch.relu(self.inner(h)))), hidden


def loss_of(results: Any, y: torch.Tensor) -> torch.Tensor:  # noqa: ANN401  a tensor or a tuple
    return cross_entropy(results[0] if isinstance(results, tuple) else results, y)


def dense() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3))


def engine(
    make: Callable[[], nn.Module] = dense,
    rule: Rule = RULES["momentum"],
    dtype: torch.dtype = torch.float64,
    loss: Callable[[Any, torch.Tensor], torch.Tensor] = loss_of,
) -> TorchEngine:
    torch.manual_seed(1)
    module = make().to(dtype)
    return TorchEngine(module, loss, rule(module.parameters()))


def batches(count: int, shape: tuple[int, ...] = (4, 5), dtype: type = np.float64) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [Batch(rng.standard_normal(shape).astype(dtype), rng.integers(0, 3, shape[0]), LR) for _ in range(count)]


def taken(one: TorchEngine, given: list[Batch], first: int = 0) -> None:
    for index, batch in enumerate(given, first):
        observed(one, batch, Context(training=True, key=Key(0, index)))


@pytest.mark.parametrize(("make", "shape"), [(dense, (4, 5)), (Recurrent, (4, 3, 5))])
@pytest.mark.parametrize("rule", later(RULES, after=4))
def test_it_trains_bit_for_bit_as_torch_does(rule: str, make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    module = make().double()
    optimizer = RULES[rule](module.parameters())
    given = batches(6, shape)
    for batch in given:
        optimizer.zero_grad()
        loss_of(module(torch.tensor(batch.x)), torch.tensor(batch.y)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    ours = engine(make, RULES[rule])
    taken(ours, given[:3])
    resumed = engine(make, RULES[rule])  # what it carries is in its state
    resumed.load(copy.deepcopy(ours).state())
    taken(resumed, given[3:], 3)
    plain = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    state = resumed.state()
    for name, tensor in plain.items():
        part = "param" if isinstance(tensor, nn.Parameter) else "buffer"
        assert np.array_equal(state[f"{part}/{name}"], tensor.detach().numpy()), name


def test_a_step_shows_every_module_and_the_gradients_of_it() -> None:
    one = engine(Recurrent)
    batch = batches(1, (4, 3, 5))[0]
    step = observed(one, batch, Context(training=True, key=Key(0, 0)))
    assert [name for name in step.taps if not name.startswith("backward/")] == [
        "data/x",
        "data/y",
        "forward/cell.output",
        "forward/cell.output@1",
        "forward/cell.output@2",
        "forward/norm.output",
        "forward/inner.output",
        "forward/inner.output@1",
        "forward/head.output",
    ]
    assert [name for name in step.taps if name.startswith("backward/")][:3] == [
        "backward/loss.prediction",
        "backward/head.output",
        "backward/inner.output@1",
    ]
    assert set(step.grads) == {name for name, _ in one.module.named_parameters()}
    assert not one.module._forward_hooks


def test_nudges_at_taps_reach_what_comes_after_them() -> None:
    one = engine()
    batch = batches(1)[0]
    plain = tensors_of(observed(copy.deepcopy(one), batch, Context(training=True, key=Key(0, 0))))

    def doubled(at: str) -> dict[str, Any]:
        context = Context(training=True, key=Key(0, 0), tap=lambda name, array: 2 * array if name == at else array)
        step = copy.deepcopy(one).step(*batch, context)
        return tensors_of(step)

    assert np.allclose(doubled("backward/0.output")["backward/0.weight"], 2 * plain["backward/0.weight"])
    assert np.array_equal(doubled("backward/0.output")["backward/2.weight"], plain["backward/2.weight"])
    moved = doubled("backward/2.bias")["update/param/2.bias"]
    before = one.state()["param/2.bias"]
    assert np.allclose(moved - before, 2 * (plain["update/param/2.bias"] - before))
    # The gradient of a result is taken where the module returned it, and the output is what the tap returned.
    assert np.allclose(doubled("forward/2.output")["forward/outputs"], 2 * plain["forward/outputs"])


@pytest.mark.short(1)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_forms_of_one_loss_are_the_same_program(dtype: torch.dtype) -> None:
    def naive(results: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        exps = results.exp()
        return -(exps / exps.sum(1, keepdim=True))[torch.arange(len(y)), y].log().mean()

    given = batches(12, dtype=np.float32 if dtype == torch.float32 else np.float64)
    report = check_trajectory(engine(dtype=dtype, loss=naive), engine(dtype=dtype), given, sensitivity=False)
    assert report, report.first_divergence
    assert report.notes == ()


class Wrong(torch.autograd.Function):
    """A row whose gradient is wrong by a millionth."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        del ctx
        return x.clone()

    @staticmethod
    def backward(ctx: Any, dy: torch.Tensor) -> torch.Tensor:  # noqa: ANN401
        del ctx
        return dy * (1 + 1e-6)


class WrongTanh(nn.Tanh):
    """A tanh with that gradient."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(Wrong.apply(x))  # type: ignore[no-untyped-call]


def test_a_wrong_gradient_is_found_in_the_right_tensor_at_the_first_step() -> None:
    wrong = engine(lambda: nn.Sequential(nn.Linear(5, 6), WrongTanh(), nn.Linear(6, 3)))
    report = check_trajectory(wrong, engine(), batches(5))
    found = report.first_divergence
    assert report.verdict is Verdict.FAIL
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (0, "backward", "0.output")


def test_a_wrong_update_is_found_in_the_right_tensor_at_the_first_step() -> None:
    wrong = engine(rule=lambda params: torch.optim.SGD(params, LR, momentum=0.9 + 1e-6, dampening=0.1))
    report = check_trajectory(wrong, engine(), batches(5))
    found = report.first_divergence
    assert report.verdict is Verdict.FAIL
    assert found is not None
    assert (found.step, found.phase, found.tensor) == (1, "update", "optim/momentum_buffer/0.weight")


class Remembering(nn.Module):
    """Adds what it has computed before, of which no buffer is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(5, 3)
        self.last: float = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.inner(x) + self.last
        self.last = float(out.detach().mean())
        return out


def test_hidden_state_is_told_and_carried_along() -> None:
    report = check_trajectory(engine(Remembering), engine(Remembering), batches(6), sensitivity=False)
    assert report
    assert {note.trait for note in report.notes} == {Trait.HIDDEN}


class Dropping(nn.Module):
    """Drops out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(5, 6), nn.Dropout(0.5), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class DroppingMore(Dropping):
    """Draws once more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.rand(3)
        return super().forward(x)


def test_dropout_draws_alike_on_both_sides_and_no_generator_moves() -> None:
    given = batches(3)
    ours, theirs = engine(Dropping), engine(Dropping)
    report = check_trajectory(ours, theirs, given, sensitivity=False, evaluation=Evaluation(given[0].x, 2))
    assert report, report.first_divergence
    assert {note.trait for note in report.notes} == {Trait.GLOBAL_GENERATOR}
    assert ours.module.training
    torch.manual_seed(1)
    stands = torch.get_rng_state()
    check_trajectory(ours, theirs, given[:1], sensitivity=False)
    assert torch.equal(torch.get_rng_state(), stands)
    other = check_trajectory(engine(DroppingMore), engine(Dropping), given[:1], sensitivity=False)
    assert other.silence is Silence.OTHER_DRAWS


def test_groups_of_parameters_keep_their_ratio() -> None:
    torch.manual_seed(1)
    module = dense().double()
    first, last = list(module[0].parameters()), list(module[2].parameters())  # type: ignore[index]
    groups: list[dict[str, Any]] = [{"params": first}, {"params": last, "lr": 0.01}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    one = TorchEngine(module, loss_of, optimizer)
    batch = batches(1)[0]._replace(lr=0.2)
    before = one.state()
    step = one.step(*batch, Context(training=True, key=Key(0, 0)))
    for name, rate in (("0.weight", 0.2), ("2.weight", 0.02)):
        moved = step.updated[f"param/{name}"] - before[f"param/{name}"]
        assert np.allclose(moved, -rate * step.grads[name])


def test_an_evaluation_of_a_module_is_compared_in_evaluation_mode() -> None:
    def normed() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3))

    ours, theirs = engine(normed), engine(normed)
    taken(theirs, batches(3))
    assert check_evaluation(ours, theirs, batches(1)[0].x)
    with torch.no_grad():
        wanted = theirs.module.eval()(torch.tensor(batches(1)[0].x)).numpy()
    assert np.array_equal(theirs.evaluate(batches(1)[0].x), wanted)


def test_a_compiled_module_is_seen_from_outside() -> None:
    def compiled() -> nn.Module:
        return torch.compile(dense(), backend="eager")  # type: ignore[return-value]

    one = engine(compiled)
    assert set(one.state()) == set(engine().state())
    step = observed(one, batches(1)[0], Context(training=True, key=Key(0, 0)))
    assert "forward/0.output" not in step.taps
    assert np.allclose(step.outputs, observed(engine(), batches(1)[0], Context(training=True, key=Key(0, 0))).outputs)


@pytest.mark.parametrize(
    ("make", "rule", "message"),
    [
        (dense, lambda _: torch.optim.SGD(dense().parameters(), LR), "of the optimizer's parameters 4 are not"),
        (lambda: dense().bfloat16(), RULES["SGD"], "0.weight is torch.bfloat16, which NumPy has not"),
        (dense, lambda params: torch.optim.LBFGS(params), r"optimizer.step\(\) raises TypeError"),
    ],
)
def test_what_it_cannot_train_is_refused(make: Callable[[], nn.Module], rule: Rule, message: str) -> None:
    module = make()
    with pytest.raises(AdapterError, match=message):
        TorchEngine(module, loss_of, rule(module.parameters()))


def test_groups_without_a_ratio_are_refused() -> None:
    module = dense()
    first, *rest = module.parameters()
    groups: list[dict[str, Any]] = [{"params": [first], "lr": 0.0}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    with pytest.raises(AdapterError, match="the first group has a rate of 0, others have not"):
        TorchEngine(module, loss_of, optimizer)
