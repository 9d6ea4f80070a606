"""What torch's own hooks see of a training loop, step by step. The loop stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from gradcheck.contract import Array
from gradcheck.loops.seen import Onlooker, Seen
from gradcheck.numerics.rounding import nudged
from gradcheck.trajectory.engine import State
from gradcheck.trajectory.torch_modules import showing, unwrapped
from gradcheck.trajectory.trees import as_array, leaves

if TYPE_CHECKING:
    import torch

TARGETS = ("_saved_target", "_saved_self_target")  # where torch's losses keep what they compare with
DEPTH = 8  # functions from the loss back to the one that keeps the target: a mean, a scale, a sum of terms

Hook = Any


class TorchHooks:
    """Sees a loop that trains ``model`` by ``optimizers``, and tells ``onlooker`` of every step.

    A step ends with `optimizer.step()`, of any of the optimizers. All forward and backward passes before it are its
    own: of the second and later ones the tensors are named ``0.output@1``, ``0.output@2`` and so on, and the loss is
    the sum of them all. Seen are

    - the arguments and results of the model, and the results of every module that holds parameters or no modules;
    - the gradients of those results, once each backward pass has made them;
    - what `backward` is called on, the loss, and the target, where the loss is one of torch's own;
    - the parameters' gradients as the optimizer gets them, and as they were before if something has changed them, such
      as clipping; the rate of each group; then parameters, buffers and the optimizer's state.

    ``model`` may be a module, a mapping or sequence of modules or of tensors, or None: then parameters are named by
    their place in the optimizers.
    """

    def __init__(self, model: Any, optimizers: tuple[Any, ...], onlooker: Onlooker) -> None:  # noqa: ANN401  a module or tensors
        import torch

        self.torch, self.onlooker, self.optimizers = torch, onlooker, optimizers
        self.roots = _roots(torch, model)
        whole = torch.nn.ModuleDict(self.roots) if "" not in self.roots and self.roots else None
        root = whole or self.roots.get("")
        self.inner: torch.nn.Module | None = None
        self.compiled = False
        if root is not None:
            self.inner, self.compiled = unwrapped(root)
        self.params = dict(self._parameters(model))
        self.buffers = dict(self.inner.named_buffers()) if self.inner is not None else {}
        self.modules = {} if self.inner is None else showing(self.inner, compiled=self.compiled)
        self.hooks: list[Hook] = []
        self.index = 0
        self.scale = 1.0
        self.after: State = {}
        self.nudges: State = {}
        self.unscaled: torch.Tensor | None = None
        self._forget()

    def _parameters(self, model: Any) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ANN401  as above
        if self.inner is not None:
            yield from self.inner.named_parameters()
        elif model is not None:
            yield from leaves(model)
        known = {id(param) for _, param in self.inner.named_parameters()} if self.inner is not None else set()
        known |= {id(param) for _, param in (leaves(model) if self.inner is None and model is not None else ())}
        groups = [group["params"] for optimizer in self.optimizers for group in optimizer.param_groups]
        unknown = [param for group in groups for param in group if id(param) not in known]
        yield from ((f"parameter{place}", param) for place, param in enumerate(unknown))

    # Of a step

    def _forget(self) -> None:
        """Begin a step."""
        self.tensors: dict[str, Array] = {}
        self.coarse: dict[str, float] = {}
        self.calls: dict[str, int] = {}
        self.grads: dict[str, Array] = {}  # after the last backward pass
        self.start: State = {}
        self.losses: list[Array] = []
        self.begun = self.backwards = False
        self.wanted = self.onlooker.wants(self.index)

    def _show(self, name: str, tensor: torch.Tensor) -> None:
        array = as_array(tensor)
        if array is not None:
            self.tensors[name] = array
            if tensor.dtype == self.torch.bfloat16:
                self.coarse[name] = float(self.torch.finfo(tensor.dtype).eps)

    def _numbered(self, name: str) -> str:
        """Return a name that has not been used in this step: ``0.output``, then ``0.output@1``."""
        count = self.calls.get(name, 0)
        self.calls[name] = count + 1
        return f"{name}@{count}" if count else name

    def state(self) -> State:
        """Return copies of the parameters, the buffers and the optimizers' state."""
        found = {f"param/{name}": as_array(param) for name, param in self.params.items()}
        found |= {f"buffer/{name}": as_array(array) for name, array in self.buffers.items()}
        names = {id(param): name for name, param in self.params.items()}
        for optimizer in self.optimizers:
            for param, slots in optimizer.state.items():
                for slot, value in leaves(slots):
                    found[f"optim/{slot}/{names.get(id(param), '')}".rstrip("/")] = as_array(value)
        return {key: array for key, array in found.items() if array is not None}

    def put(self, state: Mapping[str, Array]) -> None:
        """Overwrite what `state` returns by what is given; keys that are not known are ignored."""
        names = {id(param): name for name, param in self.params.items()}
        with self.torch.no_grad():
            for kind, tensors in (("param", self.params), ("buffer", self.buffers)):
                for name, tensor in tensors.items():
                    if (array := state.get(f"{kind}/{name}")) is not None:
                        self._write(tensor, array)
            for optimizer in self.optimizers:
                for param, slots in optimizer.state.items():
                    for slot in list(slots):
                        array = state.get(f"optim/{slot}/{names.get(id(param), '')}".rstrip("/"))
                        if array is None:
                            continue
                        if isinstance(slots[slot], self.torch.Tensor):
                            self._write(slots[slot], array)
                        elif isinstance(slots[slot], (int, float)):
                            slots[slot] = type(slots[slot])(array.item())

    def _write(self, tensor: torch.Tensor, array: Array) -> None:
        """Write what is other than it was: autograd refuses a graph whose parameters have been written to."""
        if self._equal(tensor, array.reshape(tuple(tensor.shape))):
            return
        tensor.data.copy_(self.torch.from_numpy(np.array(array)).reshape(tensor.shape))

    # The hooks

    def attach(self) -> None:
        """Register the hooks, and show the state before the first step."""
        torch = self.torch
        for name, root in self.roots.items():
            self.hooks.append(root.register_forward_pre_hook(self._enter(f"{name}." if name else ""), with_kwargs=True))
            self.hooks.append(root.register_forward_hook(self._leave(f"{name}.outputs" if name else "outputs")))
        for name, module in self.modules.items():
            self.hooks.append(module.register_forward_hook(self._leave(f"{name}.output")))
        for optimizer in self.optimizers:
            self.hooks.append(optimizer.register_step_pre_hook(self._before_update))
            self.hooks.append(optimizer.register_step_post_hook(self._after_update))
        self.backward, torch.autograd.backward = torch.autograd.backward, self._backward
        self.scaler = torch.amp.GradScaler.scale, torch.amp.GradScaler.step
        torch.amp.GradScaler.scale = self._scaling()
        torch.amp.GradScaler.step = self._scaled_step()
        if forced := self.onlooker.start(self.state()):
            self.put(forced)
        self.start = self.after = self.state()
        self._nudge_parameters()

    def detach(self) -> None:
        """Remove the hooks."""
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()
        self.torch.autograd.backward = self.backward
        self.torch.amp.GradScaler.scale, self.torch.amp.GradScaler.step = self.scaler  # type: ignore[method-assign]

    def _looks(self) -> bool:
        """Return whether a forward pass is shown: not if it is an evaluation, in which torch keeps no graph.

        At the first one of a step, see whether the loop has moved its parameters since the last update.
        """
        if not self.wanted or not self.torch.is_grad_enabled():
            return False
        if not self.begun:
            self.begun = True
            self._begin()
        return True

    def _begin(self) -> None:
        known = {name: self.after.get(f"param/{name}") for name in self.params}
        if any(array is None or not self._equal(self.params[name], array) for name, array in known.items()):
            self.start = self.state()

    def _enter(self, prefix: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
            del module
            if not self._looks():
                return None
            for place, (path, value) in enumerate([*leaves(args), *leaves(kwargs)]):
                if isinstance(value, self.torch.Tensor):
                    given = value.requires_grad or (place and value.is_floating_point())  # may be a carried state
                    name = "x" if path == "0" else f"x{path}" if path.replace(".", "").isdigit() else path
                    self._show(
                        self._numbered(f"forward/{prefix}input.{name}" if given else f"data/{prefix}{name}"), value
                    )
            return (self._nudged(args), self._nudged(kwargs)) if self.onlooker.rng is not None else None

        return hook

    def _leave(self, name: str) -> Callable[..., Any]:
        def hook(module: torch.nn.Module, args: object, results: Any) -> Any:  # noqa: ANN401  whatever it returns
            del module, args
            return self._results(name, results) if self._looks() else None

        return hook

    def _results(self, name: str, results: Any) -> Any:  # noqa: ANN401  as above
        """Show what a module returns and, once it is known, the gradient of it; return it nudged, or None."""
        names: list[tuple[str, str]] = []
        for place, (path, value) in enumerate(leaves(results)):
            if isinstance(value, self.torch.Tensor):
                names.append((path, own := self._numbered(name if not place else f"{name}.{path}")))
                if value.requires_grad:  # of the result before it is nudged: others may be computed from that
                    value.register_hook(self._gradient_of(f"backward/{own}"))  # type: ignore[no-untyped-call]
        nudged = self._nudged(results) if self.onlooker.rng is not None else results
        shown = dict(leaves(nudged))
        for path, own in names:
            self._show(f"forward/{own}", shown[path])
        return nudged if self.onlooker.rng is not None else None

    def _gradient_of(self, name: str) -> Callable[[torch.Tensor], Any]:
        def hook(gradient: torch.Tensor) -> Any:  # noqa: ANN401  a tensor or None
            if self.onlooker.rng is not None:
                gradient = self._nudge(gradient)
            self._show(name, gradient if self.scale == 1 else gradient / self.scale)
            return gradient if self.onlooker.rng is not None else None

        return hook

    def _nudged(self, results: Any) -> Any:  # noqa: ANN401  as above
        if isinstance(results, self.torch.Tensor):
            return self._nudge(results)
        if isinstance(results, dict):  # those of transformers, too
            for key in results:
                results[key] = self._nudged(results[key])
            return results
        if isinstance(results, tuple) and hasattr(results, "_fields"):
            return type(results)(*map(self._nudged, results))
        if isinstance(results, (tuple, list)):
            return type(results)(map(self._nudged, results))
        return results

    def _nudge(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor whose floating-point numbers are moved by one unit in the last place; gradients flow on."""
        array = as_array(tensor)
        if self.onlooker.rng is None or array is None or not tensor.is_floating_point():
            return tensor
        by = nudged(array, self.onlooker.rng, None if tensor.dtype != self.torch.bfloat16 else np.float32) - array
        if tensor.dtype == self.torch.bfloat16:
            by = by * np.float32(2**16)  # the eps of bfloat16 over that of float32
        return tensor + self.torch.from_numpy(np.asarray(by)).to(tensor)

    def _backward(self, tensors: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as torch.autograd.backward
        """Take the loss and its target before torch's own `backward`, the gradients after it."""
        roots = [tensors] if isinstance(tensors, self.torch.Tensor) else list(tensors)
        if self.wanted:
            for root in roots:
                loss = root if self.unscaled is None else self.unscaled
                if loss.numel() == 1 and (array := as_array(loss)) is not None:
                    self.losses.append(array.reshape(()))
                    if loss.dtype == self.torch.bfloat16:
                        self.coarse["loss/loss.value"] = float(self.torch.finfo(loss.dtype).eps)
                for target in _targets(root.grad_fn):
                    self._show(self._numbered("data/y"), target)
        self.backwards = True
        done = self.backward(tensors, *args, **kwargs)
        self.unscaled = None
        if self.wanted:
            found = {name: as_array(grad) for name, grad in self._gradients()}
            self.grads = {name: array for name, array in found.items() if array is not None}
        return done

    def _scaling(self) -> Callable[..., Any]:
        """Return a scaler's `scale` that keeps the loss as it was before."""

        def scale(scaler: Any, outputs: Any) -> Any:  # noqa: ANN401  as GradScaler.scale
            done = self.scaler[0](scaler, outputs)
            if isinstance(outputs, self.torch.Tensor) and outputs.numel() == 1:
                self.unscaled, self.scale = outputs.detach(), float(scaler.get_scale())
            return done

        return scale

    def _scaled_step(self) -> Callable[..., Any]:
        """Return a scaler's `step` after which a step that it has skipped is over, too."""

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  as GradScaler.step
            before = self.index
            done = self.scaler[1](scaler, optimizer, *args, **kwargs)
            if self.index == before and optimizer in self.optimizers:
                self._before_update(optimizer)
                self._after_update(optimizer)
            return done

        return step

    def _gradients(self) -> Iterable[tuple[str, torch.Tensor]]:
        return [(name, param.grad) for name, param in self.params.items() if param.grad is not None]

    def _before_update(self, optimizer: Any, *_: object) -> None:  # noqa: ANN401  any optimizer
        self.backwards = False
        if not self.wanted:
            return
        self.rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
        self._take_gradients()

    def _take_gradients(self) -> None:
        """Show the parameters' gradients, and what they were after `backward` if they have been changed since."""
        for name, grad in reversed(list(self._gradients())):
            kept = self.grads.get(name)
            if kept is not None and self.scale == 1 and self._equal(grad, kept) and self.onlooker.rng is None:
                self.tensors[f"backward/{name}"] = kept
                continue
            if kept is not None and not self._equal(grad, unscaled := kept / kept.dtype.type(self.scale)):
                self.tensors[f"backward/{name}.unclipped"] = unscaled
            if self.onlooker.rng is not None:
                grad.detach().copy_(self._nudge(grad))
            self._show(f"backward/{name}", grad)

    def _equal(self, tensor: torch.Tensor, array: Array) -> bool:
        """Return whether a tensor has the values of an array, without a copy of it."""
        return self.torch.equal(
            tensor.detach().to("cpu", self.torch.from_numpy(array).dtype), self.torch.from_numpy(array)
        )

    def _after_update(self, optimizer: object, *_: object) -> None:
        del optimizer
        if self.wanted:
            if self.backwards:  # by a closure
                self._take_gradients()
            self._tell()
        self.index += 1
        self._forget()

    def _tell(self) -> None:
        """Show the step to the onlooker; go on from the state that it returns."""
        ordered = {name: array for name, array in self.tensors.items() if not name.startswith("backward/")}
        if self.losses:
            total = np.sum([loss.astype(np.float64) for loss in self.losses])
            ordered["loss/loss.value"] = np.asarray(total).astype(self.losses[0].dtype)
        ordered |= self.tensors
        self.after = self.state()
        shown = {key: array - self.nudges[key] if key in self.nudges else array for key, array in self.after.items()}
        ordered |= {f"update/{key}": shown[key] for key in sorted(shown, key=_place)}
        for name, param in self.params.items():
            if param.dtype == self.torch.bfloat16:
                eps = float(self.torch.finfo(param.dtype).eps)
                self.coarse |= dict.fromkeys((f"update/param/{name}", f"backward/{name}"), eps)
        rates = self.rates if len(set(self.rates)) > 1 else self.rates[:1]
        for place, rate in enumerate(rates if len(rates) > 1 else ()):
            ordered[f"data/lr{place}"] = np.asarray(rate)
        seen = Seen(
            self.index, ordered, rates[0] if rates else math.nan, self.start, self.coarse, self._unseen(ordered)
        )
        if forced := self.onlooker.step(seen):
            self.put(forced)
            self.after = self.state()  # rounded to the precision of the parameters
        self._nudge_parameters()

    def _nudge_parameters(self) -> None:
        """Nudge the parameters for the next step, which shows how what a module computes inside rounds.

        The nudges are taken off what the step shows. They are written past autograd, which would refuse a graph that
        is still to go backward; there, too, they are but nudges.
        """
        if self.onlooker.rng is None:
            return
        for name, param in self.params.items():
            if param.is_floating_point():
                before = as_array(param)
                param.data.copy_(self._nudge(param.detach()))
                after = as_array(param)
                if before is not None and after is not None:
                    self.after[f"param/{name}"], self.nudges[f"param/{name}"] = after, after - before

    def _unseen(self, shown: Mapping[str, Array]) -> tuple[str, ...]:
        """Return what could not be seen in a step."""
        found = []
        silent = [name for name in self.modules if f"forward/{name}.output" not in shown]
        if self.compiled:
            found.append("the modules inside a compiled model, whose hooks torch does not run; its results are seen")
        if silent:
            found.append(f"the results of {', '.join(silent)}: not called as modules in this step")
        if not self.roots:
            found.append("inputs and results: no module was given")
        elif not any(name.startswith(("data/", "forward/input")) and name[5] != "y" for name in shown):
            found.append("the model's inputs: it was not called as model(x)")
        if not any(name.startswith("data/y") for name in shown):
            found.append("the targets: the loss is none of torch's own, or has none")
        if "loss/loss.value" not in shown:
            found.append("the loss: backward was not called on a single number")
        without = [name for name in self.params if f"backward/{name}" not in shown]
        if without:
            found.append(f"gradients of {', '.join(without)}: there are none")
        return tuple(found)


def _roots(torch: Any, model: Any) -> dict[str, torch.nn.Module]:  # noqa: ANN401  the library; a module, several, or tensors
    """Return the modules that a loop calls, by name; the name of a single one is ""."""
    if isinstance(model, torch.nn.Module):
        return {"": model}
    several = (
        dict(model)
        if isinstance(model, Mapping)
        else dict(enumerate(model))
        if isinstance(model, (list, tuple))
        else {}
    )
    if several and all(isinstance(one, torch.nn.Module) for one in several.values()):
        return {str(name): one for name, one in several.items()}
    return {}


def _targets(function: Any) -> Iterator[torch.Tensor]:  # noqa: ANN401  a node of autograd's graph
    """Yield the targets that the losses behind a node keep, the nearest first."""
    level = [function]
    for _ in range(DEPTH):
        below = []
        for node in level:
            if node is None:
                continue
            kept = next((getattr(node, name) for name in TARGETS if hasattr(node, name)), None)
            if kept is not None:
                yield from () if kept.requires_grad else (kept,)
            else:
                below += [one for one, _ in node.next_functions]
        level = below


def _place(key: str) -> int:
    return next(place for place, kind in enumerate(("buffer/", "optim/", "param/")) if key.startswith(kind))
