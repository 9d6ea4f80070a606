"""An MLP in torch, ported to JAX with optax: both loops, and whether they are the same program.

Needs `pip install jax optax`. Run it: `python examples/ports/jax_mlp.py`
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

import gradcheck

jax.config.update("jax_enable_x64", True)
RNG = np.random.default_rng(0)
SHAPES = {"w1": (5, 8), "b1": (8,), "w2": (8, 3), "b2": (3,)}
START = {name: 0.5 * RNG.standard_normal(shape) for name, shape in SHAPES.items()}
BATCHES = [(RNG.standard_normal((16, 5)), RNG.integers(0, 3, 16)) for _ in range(30)]


def in_torch(watch):
    model = torch.nn.Sequential(torch.nn.Linear(5, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)).double()
    with torch.no_grad():
        for parameter, array in zip(model.parameters(), START.values()):
            parameter.copy_(torch.from_numpy(array.T))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    with watch(model, optimizer):
        for x, y in BATCHES:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y)).backward()
            optimizer.step()


def in_jax(watch, approximate):
    def loss_of(params, x, y):
        hidden = jax.nn.gelu(x @ params["w1"] + params["b1"], approximate=approximate)
        scores = hidden @ params["w2"] + params["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(scores, y).mean()

    optimizer = optax.adamw(0.01, weight_decay=0.01)
    params = {name: jnp.asarray(array) for name, array in START.items()}
    state = optimizer.init(params)
    params, state = watch.start(params, state)
    for x, y in BATCHES:
        loss, grads = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        params, state = watch.step(params=params, state=state, grads=grads, loss=loss, data=(x, y), lr=0.01)


def first_port(watch):
    """jax.nn.gelu is the tanh form unless told otherwise, torch's is not."""
    in_jax(watch, approximate=True)


def right_port(watch):
    in_jax(watch, approximate=False)


if __name__ == "__main__":
    for port in (first_port, right_port):
        print(gradcheck.check_loops(port, in_torch), end="\n\n")
