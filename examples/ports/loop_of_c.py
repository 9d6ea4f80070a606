"""The loop of trace_of_c.c in torch, compared with the trace that it has written.

cc examples/ports/trace_of_c.c -o trace_of_c && ./trace_of_c THEIRS
mnistcheck compare-loops examples/ports/loop_of_c.py:train THEIRS
"""

import torch

BATCH, SIZE, STEPS = 4, 6, 12


def numbers():
    state = 1
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield (state >> 11) / 2**52 - 1


def train(watch, wrong=False):
    drawn = numbers()
    model = torch.nn.Linear(SIZE, 1, bias=False).double()
    torch.nn.init.zeros_(model.weight)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with watch(model, optimizer):
        for _ in range(STEPS):
            rows = [[next(drawn) for _ in range(SIZE + 1)] for _ in range(BATCH)]
            batch = torch.tensor(rows, dtype=torch.float64)
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(batch[:, :SIZE])[:, 0], batch[:, SIZE])
            (loss if wrong else loss / 2).backward()
            optimizer.step()


def forgets_the_half(watch):
    train(watch, wrong=True)
