"""Muon for the weights of linear layers and AdamW for all other parameters, as one optimizer.

Muon (https://kellerjordan.github.io/posts/muon/) makes every singular value of a weight's averaged gradient
about one before it steps. The tiny policy needs about 0.6 of AdamW's steps for the same loss
(docs/runs.md).

Surprising: `torch.optim.Muon` is not used. It takes matrices alone, and multiplies in bfloat16, which most
CPUs only imitate.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, override

import torch
from jaxtyping import Float
from lerobot.optim.optimizers import OptimizerConfig, OptimizerParams
from torch import Tensor, nn
from torch.optim.adamw import adamw

NEWTON_SCHULZ = (
    3.4445,
    -4.7750,
    2.0315,
)  # of the page above: steepest at zero, values end within 0.7 and 1.2
NEWTON_SCHULZ_STEPS = 5
ADAMW_RMS = 0.2  # root mean square of AdamW's usual update, arXiv 2502.16982: one learning rate serves both
TINY = 1e-7


@OptimizerConfig.register_subclass("muon")
@dataclass
class MuonConfig(OptimizerConfig):
    """Settings of `Muon`; `betas` and `eps` are those of its AdamW."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    momentum: float = 0.95
    weight_decay: float = 0.01
    grad_clip_norm: float = 1.0

    @override
    def build(self, params: OptimizerParams) -> "Muon":
        """The optimizer of groups as `linear_and_other` makes them.

        Raises:
            ValueError: They are not, as with `lerobot-train --optimizer.type=muon`.
        """
        groups = list(params)
        if not all(isinstance(group, dict) and "orthogonal" in group for group in groups):
            raise ValueError(
                "expected groups of parameters that say which are linear layers' weights, got others: choose "
                "this optimizer by --policy.optimizer_name=muon, not by --optimizer.type"
            )
        return Muon(
            groups,
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


def linear_and_other(module: nn.Module) -> list[dict[str, Any]]:
    """Two groups of the parameters that learn: linear layers' weights, which Muon moves, and the rest.

    A language model's head that shares its weights with the word embedding belongs to the rest.
    """
    layers = list(module.modules())
    linear = {id(layer.weight) for layer in layers if isinstance(layer, nn.Linear)}
    linear -= {id(layer.weight) for layer in layers if isinstance(layer, nn.Embedding)}
    learning = [value for value in module.parameters() if value.requires_grad]
    return [
        {"params": [value for value in learning if id(value) in linear], "orthogonal": True},
        {"params": [value for value in learning if id(value) not in linear], "orthogonal": False},
    ]


class Muon(torch.optim.Optimizer):
    """Muon for the groups marked `orthogonal`, AdamW for the others.

    Args:
        params: Parameter groups; what is marked `orthogonal` must be matrices.
        lr: Learning rate of both.
        betas: AdamW's.
        eps: AdamW's.
        momentum: Muon's, in Nesterov's form.
        weight_decay: Decoupled, of both.

    Raises:
        ValueError: A parameter of an `orthogonal` group is no matrix.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(params, defaults | {"orthogonal": False})
        matrices = [group["params"] for group in self.param_groups if group["orthogonal"]]
        for value in chain.from_iterable(matrices):
            if value.ndim != 2:
                raise ValueError(f"expected matrices in an orthogonal group, got shape {tuple(value.shape)}")

    @torch.no_grad()
    @override
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (self._muon if group["orthogonal"] else self._adamw)(group)
        return loss

    def _muon(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for value, grad in _with_gradients(group):
            by_shape.setdefault(value.shape, []).append((value, grad))
        for alike in by_shape.values():
            self._muon_alike(group, alike)

    def _muon_alike(self, group: dict[str, Any], alike: list[tuple[Tensor, Tensor]]) -> None:
        """One step of matrices of one shape together: one by one they keep a GPU waiting for kernels."""
        values, grads = [value for value, _ in alike], [grad for _, grad in alike]
        for value in values:
            if not self.state[value]:
                self.state[value]["momentum_buffer"] = torch.zeros_like(value)
        buffers = [self.state[value]["momentum_buffer"] for value in values]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        directions = orthogonalised(torch.stack(torch._foreach_lerp(grads, buffers, group["momentum"])))
        torch._foreach_mul_(values, 1 - group["lr"] * group["weight_decay"])
        rate = -group["lr"] * ADAMW_RMS * max(values[0].shape) ** 0.5
        torch._foreach_add_(values, list(directions), alpha=rate)

    def _adamw(self, group: dict[str, Any]) -> None:
        pairs = _with_gradients(group)
        for value, _ in pairs:
            if not self.state[value]:
                averages = {name: torch.zeros_like(value) for name in ("exp_avg", "exp_avg_sq")}
                self.state[value].update(averages, step=torch.zeros(()))
        states = [self.state[value] for value, _ in pairs]
        adamw(
            [value for value, _ in pairs],
            [grad for _, grad in pairs],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def orthogonalised(matrices: Float[Tensor, "number rows columns"]) -> Float[Tensor, "number rows columns"]:
    """The matrices with all their singular values about one, by the iteration of Newton and Schulz."""
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if is_tall else matrices
    wide = wide / (wide.norm(dim=(1, 2), keepdim=True) + TINY)
    linear, cubic, quintic = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = wide @ wide.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=cubic, alpha=quintic)
        wide = torch.baddbmm(wide, polynomial, wide, beta=linear)
    return wide.mT if is_tall else wide


def _with_gradients(group: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    return [(value, value.grad) for value in group["params"] if value.grad is not None]
