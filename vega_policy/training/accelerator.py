"""Accelerate's `Accelerator`, which LeRobot's trainer takes as an argument, with five things added.

It puts the cached dataset behind the loader, stops before a step whose gradient is not finite, keeps the
averaged weights, and hands on the loss on held-out episodes, which LeRobot gives to its own log alone.

Surprising: a loader of Accelerate counts epochs from 0 in every process and sets LeRobot's sampler back to
its own count, so that a run resumed in its third pass over the data would begin with the order of the first.
"""

import copy
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import chain, islice
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from lerobot.datasets.sampler import EpisodeAwareSampler
from torch.utils.data import DataLoader, Sampler

from vega_policy.training.averaging import WeightAverage
from vega_policy.training.cache.dataset import CacheConfig, CachedDataset

PATIENCE = timedelta(days=1)
"""How long processes wait for each other: one fills the cache or plays episodes while the others do nothing,
and torch's ten minutes would end the run."""


class TrainingAccelerator(Accelerator):
    """What LeRobot's `train` runs on.

    Args:
        device: `cpu`, or whatever Accelerate finds for anything else.
        mixed_precision: `no` or `bf16`.
        cache: Whether and how samples are cached.
        ema_decay: Of the averaged weights; None keeps no average.
        on_held_out_loss: Called with each loss on held-out episodes.
    """

    def __init__(
        self,
        device: str | None,
        mixed_precision: str,
        cache: CacheConfig,
        ema_decay: float | None,
        on_held_out_loss: Callable[[float], None],
    ) -> None:
        super().__init__(
            step_scheduler_with_optimizer=False,
            mixed_precision=mixed_precision,
            kwargs_handlers=[
                DistributedDataParallelKwargs(find_unused_parameters=True),
                InitProcessGroupKwargs(timeout=PATIENCE),
            ],
            cpu=device == "cpu",
        )
        self._cache, self._ema_decay, self._on_held_out_loss = cache, ema_decay, on_held_out_loss
        self._policy: torch.nn.Module | None = None
        self.average: WeightAverage | None = None

    def prepare(self, *objects: Any, **options: Any) -> Any:
        """Prepare policy, optimizer, loaders and scheduler, in LeRobot's order."""
        policy = self._policy = next(item for item in objects if isinstance(item, torch.nn.Module))
        for item in objects:
            if isinstance(item, DataLoader):
                _draw_apart(item)
        policy.to(self.device)  # which may be another than the policy's: an average stays where it was made
        if self._ema_decay is not None:
            self.average = WeightAverage(policy, self._ema_decay)
        if self._cache.enabled:
            objects = tuple(self._cached(item, policy) for item in objects)
        if self.num_processes > 1:
            objects = tuple(_in_whole_rounds(item, self.num_processes) for item in objects)
        prepared = super().prepare(*objects, **options)
        for item, loader in zip(objects, prepared if len(objects) > 1 else (prepared,), strict=True):
            if isinstance(item, DataLoader) and isinstance(item.sampler, EpisodeAwareSampler | WholeRounds):
                loader.iteration = item.sampler.state_dict()["epoch"]
        return prepared

    def clip_grad_norm_(self, parameters: Any, max_norm: float, norm_type: float = 2) -> Any:
        """Clip, and refuse to go on where the norm is not finite.

        Raises:
            FloatingPointError: It is not; no weight was changed.
        """
        norm = super().clip_grad_norm_(parameters, max_norm, norm_type)
        if norm is not None and not torch.isfinite(norm):
            raise FloatingPointError(
                f"expected a finite gradient, its norm is {norm.item()}: no weight was changed. "
                "Lower the learning rate, or train in float32"
            )
        return norm

    def reduce(self, tensor: Any, reduction: str = "sum", scale: float = 1.0) -> Any:
        """Reduce over all processes; outside training LeRobot does so with the held-out loss alone."""
        reduced = super().reduce(tensor, reduction, scale)
        if self._policy is not None and not self._policy.training:
            self._on_held_out_loss(float(reduced))
        return reduced

    def _cached(self, item: Any, policy: Any) -> Any:
        """A loader over the cached samples in place of LeRobot's; anything else as it is."""
        if not isinstance(item, DataLoader):
            return item
        is_training = isinstance(item.sampler, EpisodeAwareSampler)  # held-out pictures stay where they are
        with self.main_process_first():  # one process computes, the others find it done
            shift_px = self._cache.shift_px if is_training else 0
            samples = CachedDataset(item.dataset, self._cache.root, shift_px, item.num_workers)
            if self._cache.features and policy.config.fusion.name != "none":
                samples.add_features(item.dataset, self._cache.root, policy, self._cache.dtype)
        loader = _like(item, samples, item.sampler)
        if loader.num_workers:  # LeRobot spawns them for its decoders, 12 s each; these decode nothing
            loader.multiprocessing_context = "fork"
        return loader


class WholeRounds(Sampler[int]):
    """LeRobot's order, each epoch continued with its own head until all processes get equally many batches.

    Accelerate would fill up with what it met first, and after resuming that is the middle of the epoch.

    Args:
        sampler: The order.
        round_size: Samples that all processes take together in one step.
    """

    def __init__(self, sampler: EpisodeAwareSampler, round_size: int) -> None:
        self._sampler, self._missing = sampler, -len(sampler) % round_size

    def __iter__(self) -> Iterator[int]:
        whole = copy.copy(self._sampler)
        whole.load_state_dict({**self._sampler.state_dict(), "start_index": 0})
        return chain(self._sampler, islice(iter(whole), self._missing))

    def __len__(self) -> int:
        return len(self._sampler) + self._missing

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch that comes next."""
        self._sampler.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the order stands."""
        return dict(self._sampler.state_dict())


def _in_whole_rounds(item: Any, num_processes: int) -> Any:
    """A loader whose epochs need no filling up; anything else as it is."""
    if not isinstance(item, DataLoader) or not isinstance(item.sampler, EpisodeAwareSampler):
        return item
    round_size = (item.batch_size or 1) * num_processes
    return _like(item, item.dataset, WholeRounds(item.sampler, round_size))


def _like(loader: DataLoader[Any], samples: Any, sampler: Any) -> DataLoader[Any]:
    """A loader with the same settings over other samples or in another order."""
    return DataLoader(
        samples,
        batch_size=loader.batch_size,
        sampler=sampler,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        drop_last=loader.drop_last,
        collate_fn=loader.collate_fn,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
    )


def _draw_apart(loader: DataLoader[Any]) -> None:
    """Let a loader draw from a generator of its own.

    It draws a number each time it begins, also in the middle of an epoch after resuming; from torch's global
    generator that would shift the training noise, which an uninterrupted run draws from there.
    """
    loader.generator = torch.Generator().manual_seed(torch.initial_seed())
