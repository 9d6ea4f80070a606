"""Train 784-128-10 in plain PyTorch and write a trace of it: any program can, and need not know who will read it.

python plain_torch_trace.py OUT [IMAGES LABELS]      MNIST's idx files, gzipped or not; else noise
mnistcheck record --preset fair --along OUT MINE     the same steps, taken by the NumPy network
mnistcheck compare-traces MINE OUT
"""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

STEPS, RATE = 20, 0.05
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
net = torch.nn.Sequential(torch.nn.Linear(784, 128), torch.nn.Sigmoid(), torch.nn.Linear(128, 10))
optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
shown: dict[str, torch.Tensor] = {}  # of one step, in the order of execution


def show(name: str, tensor: torch.Tensor) -> None:
    """Keep a copy of what the step has computed."""
    shown[name] = tensor.detach().clone()


def show_output(index: int, output: torch.Tensor) -> None:
    """Keep the output of a module, and the gradient that comes back to it."""
    show(f"forward/{index}.output", output)
    name = "backward/loss.prediction" if index == len(net) - 1 else f"backward/{index + 1}.input"
    output.register_hook(lambda gradient: show(name, gradient))


for i, layer in enumerate(net):
    layer.register_forward_hook(lambda _, __, output, i=i: show_output(i, output))
for name, parameter in net.named_parameters():
    parameter.register_post_accumulate_grad_hook(lambda p, name=name: show(f"backward/{name}", p.grad))

out = Path(sys.argv[1])
(out / "steps").mkdir(parents=True)
if len(sys.argv) > 2:
    raw = [Path(path).read_bytes() for path in sys.argv[2:4]]
    files = [gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content for content in raw]
    images = np.frombuffer(files[0], np.uint8, 784 * STEPS, offset=16).reshape(STEPS, 784) / 255
    labels = np.frombuffer(files[1], np.uint8, STEPS, offset=8).astype(np.int64)
else:
    images, labels = np.random.default_rng(0).random((STEPS, 784)), np.arange(STEPS) % 10
lines = [{"format": "mnistcheck-trace", "version": 1, "program": "plain torch", "dtype": "float64"}]
for step in range(STEPS):
    before = {f"before/param/{name}": p.detach().clone() for name, p in net.named_parameters()} if step == 0 else {}
    shown.clear()
    x, y = torch.from_numpy(images[step : step + 1]), torch.from_numpy(labels[step : step + 1])
    show("data/x", x)
    show("data/y", y)
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(x), y)
    show("loss/loss.value", loss)
    loss.backward()
    optimizer.step()
    for name, p in net.named_parameters():
        show(f"update/param/{name}", p)
    file = f"steps/{step:06d}.safetensors"
    save_file(shown | before, out / file)
    lines.append({"step": step, "lr": RATE, "loss": loss.item(), "file": file, "tensors": list(shown)})
(out / "trace.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
