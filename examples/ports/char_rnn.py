"""A character RNN, ported from NumPy to torch: both loops as people write them, and whether they are the same program.

The NumPy side is a plain recurrent network with the backward pass by hand, in the manner of the well-known 112 lines:
column vectors, a loss summed over the characters, gradients clipped element by element, Adagrad. Run it:

    python examples/ports/char_rnn.py
"""

import numpy as np
import torch

import gradcheck

TEXT = "the quick brown fox jumps over the lazy dog. " * 4
LETTERS = sorted(set(TEXT))
CODES = np.array([LETTERS.index(letter) for letter in TEXT])
SIZE, HIDDEN, LENGTH, RATE = len(LETTERS), 16, 9, 0.1


def initial():
    rng = np.random.default_rng(0)
    shapes = {"Wxh": (HIDDEN, SIZE), "Whh": (HIDDEN, HIDDEN), "Why": (SIZE, HIDDEN), "bh": (HIDDEN, 1), "by": (SIZE, 1)}
    return {name: 0.1 * rng.standard_normal(shape) * (name[0] == "W") for name, shape in shapes.items()}


def pieces():
    for start in range(0, len(CODES) - LENGTH, LENGTH):
        yield CODES[start : start + LENGTH], CODES[start + 1 : start + LENGTH + 1]


def loss_and_gradients(p, inputs, targets, hidden):
    xs, hs, ps, loss = [], [hidden], [], 0.0
    for letter, target in zip(inputs, targets):
        xs.append(np.eye(SIZE)[:, [letter]])
        hs.append(np.tanh(p["Wxh"] @ xs[-1] + p["Whh"] @ hs[-1] + p["bh"]))
        scores = p["Why"] @ hs[-1] + p["by"]
        ps.append(np.exp(scores - scores.max()) / np.exp(scores - scores.max()).sum())
        loss -= np.log(ps[-1][target, 0])
    d = {name: np.zeros_like(array) for name, array in p.items()}
    dh_next = np.zeros_like(hidden)
    for t in reversed(range(len(inputs))):
        dy = ps[t].copy()
        dy[targets[t]] -= 1
        d["Why"] += dy @ hs[t + 1].T
        d["by"] += dy
        draw = (1 - hs[t + 1] ** 2) * (p["Why"].T @ dy + dh_next)
        d["bh"] += draw
        d["Wxh"] += draw @ xs[t].T
        d["Whh"] += draw @ hs[t].T
        dh_next = p["Whh"].T @ draw
    for grad in d.values():
        np.clip(grad, -5, 5, out=grad)
    return loss, d, hs[-1]


def in_numpy(watch):
    p = initial()
    memory = {name: np.zeros_like(array) for name, array in p.items()}
    hidden = np.zeros((HIDDEN, 1))
    watch.start(p)
    for inputs, targets in pieces():
        loss, grads, hidden = loss_and_gradients(p, inputs, targets, hidden)
        for name, grad in grads.items():
            memory[name] += grad * grad
            p[name] -= RATE * grad / np.sqrt(memory[name] + 1e-8)
        watch.step(params=p, grads=grads, loss=loss, data=(inputs, targets), lr=RATE)


class Rnn(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = torch.nn.RNN(SIZE, HIDDEN, batch_first=True)
        self.head = torch.nn.Linear(HIDDEN, SIZE)

    def forward(self, letters, hidden):
        outputs, hidden = self.cell(torch.nn.functional.one_hot(letters, SIZE).double(), hidden)
        return self.head(outputs), hidden


def in_torch(watch, **options):
    model = Rnn().double()
    given = {name: torch.from_numpy(array) for name, array in initial().items()}
    with torch.no_grad():
        model.cell.weight_ih_l0.copy_(given["Wxh"])
        model.cell.weight_hh_l0.copy_(given["Whh"])
        model.head.weight.copy_(given["Why"])
        for bias in (model.cell.bias_ih_l0, model.cell.bias_hh_l0, model.head.bias):
            bias.zero_()
    model.cell.bias_hh_l0.requires_grad_(False)  # torch has two biases where the original has one
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adagrad(trained, lr=RATE, **options)
    hidden = torch.zeros(1, HIDDEN, dtype=torch.float64)
    with watch(model, optimizer):
        for inputs, targets in pieces():
            optimizer.zero_grad()
            scores, hidden = model(torch.from_numpy(inputs), hidden.detach())
            torch.nn.functional.cross_entropy(scores, torch.from_numpy(targets), reduction="sum").backward()
            torch.nn.utils.clip_grad_value_(model.parameters(), 5)
            optimizer.step()


def first_port(watch):
    """The optimizer that everybody would take: eps is added to the root."""
    in_torch(watch, eps=1e-8)


def right_port(watch):
    """The sum of squares begins with the eps: sqrt(sum + eps), as the original has it."""
    in_torch(watch, eps=0.0, initial_accumulator_value=1e-8)


NAMES = {"cell.bias_ih_l0": "bh", "head.bias": "by"}

if __name__ == "__main__":
    for port in (first_port, right_port):
        print(gradcheck.check_loops(in_numpy, port, steps=18, names=NAMES), end="\n\n")
