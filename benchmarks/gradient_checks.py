"""What the gradient checker says of right code and of wrong, and what torch's own says of wrong code.

``--part alarms`` draws cases of every registered layer, loss and optimizer and prints the distribution of ratios;
``--part sensitivity`` finds the smallest fault in one element of a parameter's gradient that is caught;
``--part rivals`` shows which of five faults `gradcheck.check_layer` and `torch.autograd.gradcheck` catch.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from gradcheck.checks import check_class
from gradcheck.contract import Array, Case, Context, Layer
from gradcheck.numerics.agreement import Verdict
from gradcheck.numerics.functions import Arrays, Function, Pullback, function_of
from gradcheck.properties import Mode, Outcome, Property, Settings
from gradcheck.properties.gradients import gradients_agree_with_differences
from gradcheck.report.results import Finding
from gradcheck.subjects.function import PlainFunction
from gradcheck.trials import Subject, check_case, properties_of
from nets import LAYERS, LOSSES, OPTIMIZERS
from nets.engines.torch_engine import one_thread_each
from nets.layers.batch_norm import BatchNorm2d
from nets.layers.conv2d import Conv2d
from nets.layers.layer_norm import LayerNorm
from nets.layers.linear import Linear

if TYPE_CHECKING:
    import torch

SLOW_FOR_TORCH = 10**6  # elements of a matrix, whose slow check would take hours

COMPARING = (  # the properties whose ratio is a disagreement over an allowance
    "gradients_agree_with_differences",
    "forward_agrees_with_twin",
    "gradients_agree_with_twin",
    "buffers_agree_with_twin",
    "precisions_agree",
    "updates_agree_with_twin",
)


def alarms(cases: int) -> None:
    """Print, for every part, what its comparing properties find in drawn cases, and of all of them together."""
    subjects: list[Subject] = [*LAYERS, *LOSSES, *OPTIMIZERS]
    pairs = [(s, claim) for s in subjects for claim in properties_of(s) if claim.__name__ in COMPARING]
    each = -(-cases // len(pairs))
    everything: list[float] = []
    total = failed = unclear = 0
    print(f"{each} cases of each of {len(pairs)} pairs of a part and a property\n")
    print("| part | cases | failures | inconclusive | median ratio | 99 % | largest |")
    print("|---|---|---|---|---|---|---|")
    for subject in subjects:
        ratios: list[float] = []
        counts = [0, 0, 0]
        for claim in (claim for owner, claim in pairs if owner is subject):

            def kept(
                case: Case, settings: Settings, claim: Property = claim, ratios: list[float] = ratios
            ) -> Outcome | None:
                outcome = claim(case, settings)
                if outcome is not None and outcome.worst is not None and outcome.verdict is Verdict.PASS:
                    ratios.append(outcome.worst.ratio)
                return outcome

            kept.__name__ = claim.__name__
            found: tuple[Finding, ...] = check_class(subject, claims=[kept], examples=each, seed=1).findings
            for finding in found:
                counts = [
                    a + b
                    for a, b in zip(counts, (finding.examples, finding.failing, finding.inconclusive), strict=True)
                ]
                if finding.failing:
                    print(finding)
        everything += ratios
        total, failed, unclear = total + counts[0], failed + counts[1], unclear + counts[2]
        print(_row(subject.__name__, counts, ratios))
    print(_row("all", [total, failed, unclear], everything))


def _row(name: str, counts: list[int], ratios: list[float]) -> str:
    median, tail, largest = np.quantile(ratios, [0.5, 0.99, 1]) if ratios else (np.nan,) * 3
    share = f"{counts[2] / max(1, counts[0]):.1%}"
    return f"| {name} | {counts[0]:,} | {counts[1]} | {share} | {median:.3f} | {tail:.3f} | {largest:.3f} |"


def parametric_layers(rng: np.random.Generator) -> dict[str, tuple[Layer, Array]]:
    """Return layers with parameters, and inputs, of the sizes that the comparison with torch uses."""
    norm = BatchNorm2d.create(4).replace_arrays({"weight": rng.standard_normal(4), "bias": rng.standard_normal(4)})
    return {
        "Linear 20->10, batch 5": (
            Linear(rng.standard_normal((10, 20)), rng.standard_normal(10)),
            rng.standard_normal((5, 20)),
        ),
        "Conv2d 3->4, 3 x 3, on 6 x 6, batch 2": (
            Conv2d(rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4)),
            rng.standard_normal((2, 3, 6, 6)),
        ),
        "LayerNorm 12, batch 5": (
            LayerNorm(rng.standard_normal(12), rng.standard_normal(12)),
            rng.standard_normal((5, 12)),
        ),
        "BatchNorm2d 4 on 5 x 5, batch 3, training": (norm, rng.standard_normal((3, 4, 5, 5))),
    }


def sensitivity(trials: int) -> None:
    """Print the smallest relative fault in one element of a parameter's gradient that full and fast mode catch."""
    print(
        "| layer | parameter | full: smallest always caught | fast: smallest always caught | fast: of those of full |"
    )
    print("|---|---|---|---|---|")
    rng = np.random.default_rng(0)
    for name, (layer, x) in parametric_layers(rng).items():
        for parameter in layer.parameters():
            modes: tuple[Mode, ...] = ("full", "fast")
            shares = {
                mode: {size: _caught(layer, x, parameter, size, mode, trials) for size in 10.0 ** np.arange(-14, 0)}
                for mode in modes
            }
            smallest = {
                mode: next((s for s in found if all(v == 1 for t, v in found.items() if t >= s)), np.nan)
                for mode, found in shares.items()
            }
            at = shares["fast"].get(smallest["full"], np.nan)
            print(f"| {name} | {parameter} | {smallest['full']:.0e} | {smallest['fast']:.0e} | {at:.0%} |")


def _caught(layer: Layer, x: Array, parameter: str, size: float, mode: Mode, trials: int) -> float:
    """Return the share of trials in which one element's gradient, off by a factor 1 + size, fails."""
    elements = layer.parameters()[parameter].size
    wrong = (Faulty(layer, parameter, size, int(np.random.default_rng(n).integers(elements))) for n in range(trials))
    return sum(_fails(Case(each, (x,), seed, True), mode) for seed, each in enumerate(wrong)) / trials


def _fails(case: Case, mode: Mode) -> bool:
    outcome = check_case(case, gradients_agree_with_differences, Settings(mode, explain=False))
    return outcome is not None and outcome.verdict is Verdict.FAIL


@dataclass(frozen=True)
class Faulty:
    """A layer with one element of one parameter's gradient scaled by 1 + size."""

    layer: Layer
    parameter: str
    size: float
    element: int

    def function(self, inputs: tuple[Array, ...]) -> Function:
        """Return the layer as a function whose pullback has the fault."""
        right = function_of(Case(self.layer, inputs))

        def call(variables: Arrays, context: Context) -> tuple[Array, Pullback]:
            y, pullback = right.call(variables, context)

            def wrong(dy: Array) -> dict[str, Array]:
                grads = pullback(dy)
                grad = grads[self.parameter].copy()
                grad.flat[self.element] *= 1 + self.size
                return grads | {self.parameter: grad}

            return y, wrong

        return replace(right, call=call)


def rivals() -> None:
    """Print which of five faults torch's gradcheck and ours catch."""
    rng = np.random.default_rng(0)
    print("| fault | torch fast, of 20 | torch slow | ours fast, of 20 | ours full | ours auto | ours auto, s |")
    print("|---|---|---|---|---|---|---|")
    for name, (right, wrong) in _matrices(rng).items():
        with one_thread_each():
            print(f"| {name} | {_catches(right, wrong, rng.standard_normal((right.shape[1],)))} |")


def _matrices(rng: np.random.Generator) -> dict[str, tuple[Array, Array]]:
    """Return matrices, and what a wrong pullback takes for them."""
    identity, positive = np.eye(500), rng.random((64, 4096)) + 0.1
    normal = rng.standard_normal((100, 784))
    permutation = np.eye(2000)[rng.permutation(2000)]
    swapped, dropped, zeroed, flipped, off = (a.copy() for a in (permutation, identity, positive, positive, normal))
    swapped[[3, 1700]] = swapped[[1700, 3]]
    dropped[123, 123] = 0
    zeroed[:, 1000] = 0
    flipped[10, 2000] *= -1
    off[50, 300] += 1e-2
    return {
        "two rows of a 2000 x 2000 permutation swapped": (permutation, swapped),
        "one diagonal entry of a 500 identity dropped": (identity, dropped),
        "one column of a 64 x 4096 matrix zeroed": (positive, zeroed),
        "one sign flipped in a 64 x 4096 matrix": (positive, flipped),
        "one entry of a 100 x 784 matrix off by 1e-2": (normal, off),
    }


def _catches(right: Array, wrong: Array, x: Array) -> str:
    """Return the cells of one fault: in how many of 20 tries, or whether, each side and mode catches it."""
    import torch

    there, back = torch.tensor(right), torch.tensor(wrong)

    class Product(torch.autograd.Function):
        """The product with one matrix, and the pullback of another."""

        @staticmethod
        def forward(_: object, x: torch.Tensor) -> torch.Tensor:
            return there @ x

        @staticmethod
        def backward(_: object, dy: torch.Tensor) -> torch.Tensor:
            return back.T @ dy

    def by_torch(*, fast: bool) -> bool:
        given = (torch.tensor(x, requires_grad=True),)
        return not torch.autograd.gradcheck(Product.apply, given, fast_mode=fast, raise_exception=False)

    def by_us(seed: int, mode: Mode) -> bool:
        return _fails(Case(PlainFunction(lambda x: right @ x, lambda _, dy: (wrong.T @ dy,)), (x,), seed), mode)

    word = {True: "caught", False: "missed"}
    slow = word[by_torch(fast=False)] if right.size < SLOW_FOR_TORCH else "not run"
    begin = time.perf_counter()
    auto = by_us(0, "auto")
    seconds = time.perf_counter() - begin
    fast, ours = (
        sum(each) for each in ([by_torch(fast=True) for _ in range(20)], [by_us(n, "fast") for n in range(20)])
    )
    return f"{fast} | {slow} | {ours} | {word[by_us(0, 'full')]} | {word[auto]} | {seconds:.1f}"


def main() -> None:
    """Run the chosen part, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["alarms", "sensitivity", "rivals"], help="one part only")
    parser.add_argument(
        "--cases",
        type=int,
        default=12_000,
        help="cases drawn for the false alarms, some of which have no buffers to compare",
    )
    parser.add_argument("--trials", type=int, default=20, help="faults planted for each size")
    options = parser.parse_args()
    if options.part in (None, "alarms"):
        alarms(options.cases)
    if options.part in (None, "sensitivity"):
        sensitivity(options.trials)
    if options.part in (None, "rivals"):
        rivals()


if __name__ == "__main__":
    main()
