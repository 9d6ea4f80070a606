"""What torch's own hooks see of a training loop, step by step. The loop stays as it is."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from gradcheck.loops.seen import Onlooker
from gradcheck.loops.torch_copies import Copies, Mirror, as_arrays, copied
from gradcheck.loops.torch_model import watched
from gradcheck.loops.torch_nudges import nudge, nudge_gradient
from gradcheck.loops.torch_passes import Passes, targets
from gradcheck.loops.torch_patches import Around, patched
from gradcheck.loops.torch_state import HeldState
from gradcheck.loops.torch_steps import Step, changed, seen
from gradcheck.trajectory.engine import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    import torch


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

    def __init__(self, model: object, optimizers: tuple[Any, ...], onlooker: Onlooker) -> None:
        self.model, self.onlooker = watched(model, optimizers), onlooker
        self.state = HeldState(self.model)
        self.passes = Passes(onlooker.rng, self._compare_start)
        self.params, self.gradients = Mirror(), Mirror()
        self.attached = ExitStack()
        self.index = 0
        self.after: Copies | None = None  # the parameters after the last step, if that was shown
        self.nudges: State = {}

    def attach(self) -> None:
        """Register the hooks, and show the state before the first step."""
        passes, hooks = self.passes, []
        for name, root in self.model.roots.items():
            prefix = f"{name}." if name else ""
            hooks.append(root.register_forward_pre_hook(passes.entry(prefix), with_kwargs=True))
            hooks.append(root.register_forward_hook(passes.result(f"{prefix}outputs")))
        hooks += [
            module.register_forward_hook(passes.result(f"{n}.output")) for n, module in self.model.modules.items()
        ]
        for optimizer in self.model.optimizers:
            hooks.append(optimizer.register_step_pre_hook(self._before_update))
            hooks.append(optimizer.register_step_post_hook(self._after_update))
        for hook in hooks:
            self.attached.callback(hook.remove)
        self.attached.enter_context(patched(self._backward, self._scale, self._scaled_step))
        self._begin()
        if forced := self.onlooker.start(self.state.copy().arrays()):
            self.state.put(forced)
        self.step.start = self.state.copy()
        self.after = self.step.start.params
        self._nudge_parameters()

    def detach(self) -> None:
        """Remove the hooks."""
        self.attached.close()

    def _begin(self) -> None:
        self.step = Step()
        self.passes.begin(wanted=self.onlooker.wants(self.index))

    def _compare_start(self) -> None:
        """At the first forward pass, copy the state if the loop has moved its parameters since the last update."""
        if self.after is None or not self.params.shows(self.state.params, self.after):
            self.step.start = self.state.copy()

    def _backward(
        self, own: Around, tensors: torch.Tensor | Iterable[torch.Tensor], *args: object, **kwargs: object
    ) -> None:
        """Copy the loss and its target before torch's own `backward`, the gradients after it."""
        import torch

        self.step.pending = True
        if not self.passes.wanted:
            own(tensors, *args, **kwargs)
            return
        for root in [tensors] if isinstance(tensors, torch.Tensor) else list(tensors):
            unscaled = self.step.unscaled
            loss = root if unscaled is None else unscaled
            if loss.numel() == 1:
                self.step.losses.append(loss.detach().clone())
            for target in targets(root.grad_fn):
                self.passes.show("data/y", target)
        own(tensors, *args, **kwargs)
        self.step.unscaled = None
        self.step.after_backward = copied(self.model.gradients())

    def _scale(self, own: Around, scaler: torch.amp.GradScaler, outputs: object) -> object:
        """Keep the loss as it was before a scaler scales it."""
        import torch

        done: object = own(scaler, outputs)
        if isinstance(outputs, torch.Tensor) and outputs.numel() == 1:
            self.step.unscaled = outputs.detach()
            self.passes.scale = float(scaler.get_scale())
        return done

    def _scaled_step(
        self,
        own: Around,
        scaler: torch.amp.GradScaler,
        optimizer: torch.optim.Optimizer,
        *args: object,
        **kwargs: object,
    ) -> float | None:
        """See that a step which a scaler has skipped is over, too."""
        before = self.index
        done: float | None = own(scaler, optimizer, *args, **kwargs)
        if self.index == before and optimizer in self.model.optimizers:
            self._before_update(optimizer)
            self._after_update(optimizer)
        return done

    def _before_update(self, optimizer: torch.optim.Optimizer, *_: object) -> None:
        self.step.pending = False
        if self.passes.wanted:
            self.step.trained = self.state.names_of(optimizer)
            self.step.rates = [float(group["lr"]) for group in optimizer.param_groups if "lr" in group]
            self._take_gradients()

    def _take_gradients(self) -> None:
        """Copy the gradients that the optimizer gets, and see which are others than they were after `backward`."""
        step, rng = self.step, self.onlooker.rng
        now = {key: grad for key, grad in self.model.gradients().items() if key in step.trained}
        step.scale, step.changed, step.gradients = self.passes.scale, frozenset(), None
        if step.after_backward is not None:
            if step.scale == 1 and self.gradients.shows(now, step.after_backward):
                step.gradients = step.after_backward
            else:
                step.gradients = copied(now)
                step.changed = changed(step.after_backward, step.gradients, step.scale)
        if rng is not None:
            for gradient in now.values():
                nudge_gradient(gradient, rng)
        if rng is not None or step.gradients is None:
            step.gradients = copied(now)

    def _after_update(self, *_: object) -> None:
        if self.passes.wanted:
            if self.step.pending:  # by a closure
                self._take_gradients()
            self._tell()
        else:
            self.after = None
        self.index += 1
        self._begin()

    def _tell(self) -> None:
        """Show the step to the onlooker; go on from the state that it returns."""
        after = self.state.copy()
        shown = [(name, tensor if tensor.is_cpu else tensor.cpu()) for name, tensor in self.passes.shown]
        self.after = after.params
        if forced := self.onlooker.step(partial(seen, self.model, self.index, self.step, shown, after, self.nudges)):
            self.state.put(forced)
            self.after = copied(self.state.params)  # rounded to the precision of the parameters
        self._nudge_parameters()

    def _nudge_parameters(self) -> None:
        """Nudge the parameters for the next step, which shows how what a module computes inside rounds.

        The nudges are taken off what the step shows. They are written past autograd, which would refuse a graph that
        is still to go backward; there, too, they are but nudges.
        """
        if self.onlooker.rng is None:
            return
        before = as_arrays(copied(self.state.params))
        for param in self.state.params.values():
            if param.is_floating_point():
                param.data.copy_(nudge(param.detach(), self.onlooker.rng))
        self.after = copied(self.state.params)
        self.nudges = {name: array - before[name] for name, array in as_arrays(self.after).items()}
