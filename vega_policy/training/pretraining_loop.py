"""A training loop for one small network, which can be stopped anywhere and goes on as if it had not been.

What a step does depends on the weights, the optimiser's state and the step's number alone: batches and noise
come from generators seeded by that number. A checkpoint is one safetensors file that replaces the one before
in a single step.
"""

import math
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from vega_policy.training.files import in_one_step
from vega_policy.training.logs import MetricLog
from vega_policy.training.pretraining_config import StageConfig

FINAL_LR_SHARE = 0.01
ADAM_BETAS = (0.9, 0.99)


class Stage(ABC):
    """A network, its loss and its validation.

    Attributes:
        name: Names the checkpoint and the metrics.
        model: What learns.
        config: How.
        seed: Of batches and noise.
    """

    name: str
    model: nn.Module
    config: StageConfig
    seed: int

    @abstractmethod
    def losses(self, step: int) -> dict[str, Tensor]:
        """Scalars of one batch; `loss` is what is minimised."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Metrics on held-out episodes; the same data and noise every time."""

    def rng(self, *key: int) -> tuple[np.random.Generator, torch.Generator]:
        """Generators that depend on the seed, the stage and `key` alone."""
        rng = np.random.default_rng([self.seed, *self.name.encode(), *key])
        return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))


def fit(stage: Stage, folder: Path) -> None:
    """Trains to the last step, from the checkpoint in `folder` if there is one.

    Raises:
        FloatingPointError: The loss or the gradient is not finite; no step is taken with it.
    """
    optimizer = torch.optim.AdamW(
        stage.model.parameters(), stage.config.lr, ADAM_BETAS, weight_decay=stage.config.weight_decay
    )
    file = folder / f"{stage.name}.safetensors"
    first = load_checkpoint(file, stage.model, optimizer) if file.is_file() else 0
    if first == stage.config.steps:
        return
    steps = range(first + 1, stage.config.steps + 1)
    with (
        MetricLog(folder, last_step=first, stage=stage.name) as log,
        tqdm(steps, desc=stage.name, initial=first, total=stage.config.steps) as bar,
    ):
        for step in bar:
            metrics = train_step(stage, optimizer, step)
            bar.set_postfix_str(f"loss {metrics['loss']:.4f}", refresh=False)
            if step % stage.config.validate_every == 0 or step == stage.config.steps:
                metrics |= _validate(stage)
            log.write(step, metrics)
            if step % stage.config.save_every == 0 or step == stage.config.steps:
                save_checkpoint(file, stage.model, optimizer, step)


def train_step(stage: Stage, optimizer: torch.optim.Optimizer, step: int) -> dict[str, float]:
    """One optimiser step, counted from 1; the losses before it."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(stage.config, step)
    losses = stage.losses(step)
    _check_finite(losses["loss"], "loss", stage.name, step)
    optimizer.zero_grad()
    losses["loss"].backward()
    norm = nn.utils.clip_grad_norm_(stage.model.parameters(), stage.config.grad_clip_norm or math.inf)
    _check_finite(norm, "gradient", stage.name, step)
    optimizer.step()
    return {name: value.item() for name, value in losses.items()} | {"grad_norm": norm.item()}


def learning_rate(config: StageConfig, step: int) -> float:
    """Linear warm-up to the peak, then a cosine to its hundredth at the last step."""
    if step <= config.warmup_steps:
        return config.lr * step / config.warmup_steps
    done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return config.lr * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * (1 + math.cos(math.pi * done)) / 2)


def save_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Weights, AdamW's moments and the step, under `file` in one step once they are complete."""
    tensors = {f"model.{name}": value.contiguous() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{key}.{name}"] = value.contiguous()
    with in_one_step(file) as partial:
        save_file(tensors, partial, metadata={"step": str(step)})


def load_checkpoint(file: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Restores what `save_checkpoint` wrote; the number of steps done."""
    parameters = dict(model.named_parameters())
    weights = {}
    with safe_open(file, framework="pt") as stored:
        for entry in stored.keys():  # noqa: SIM118 (not a mapping)
            section, _, name = entry.partition(".")
            if section == "model":
                weights[name] = stored.get_tensor(entry)
            else:
                key, _, name = name.partition(".")
                value = stored.get_tensor(entry)
                on = value if key == "step" else value.to(parameters[name].device)
                optimizer.state[parameters[name]][key] = on.clone()
        step = int(stored.metadata()["step"])
    model.load_state_dict(weights)
    return step


def _validate(stage: Stage) -> dict[str, float]:
    with torch.no_grad():
        return {f"validation_{name}": value for name, value in stage.validate().items()}


def _check_finite(value: Tensor, what: str, stage: str, step: int) -> None:
    if not bool(value.isfinite()):
        raise FloatingPointError(
            f"the {what} of stage {stage} is {value.item()} at step {step}; nothing was changed by it. The "
            "last checkpoint is kept; try a lower learning rate"
        )
