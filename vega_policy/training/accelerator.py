"""Accelerate's `Accelerator`, which LeRobot's trainer takes as an argument, with three things added.

It puts the cached dataset behind the loader, stops before a step whose gradient is not finite, and after each
step brings the averaged weights along.
"""

from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch.utils.data import DataLoader

from vega_policy.training.averaging import WeightAverage
from vega_policy.training.cache.dataset import CacheConfig, CachedDataset


class TrainingAccelerator(Accelerator):
    """What LeRobot's `train` runs on.

    Args:
        device: `cpu`, or whatever Accelerate finds for anything else.
        mixed_precision: `no` or `bf16`.
        cache: Whether and how samples are cached.
        ema_decay: Of the averaged weights; None keeps no average.
    """

    def __init__(
        self, device: str | None, mixed_precision: str, cache: CacheConfig, ema_decay: float | None
    ) -> None:
        super().__init__(
            step_scheduler_with_optimizer=False,
            mixed_precision=mixed_precision,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
            cpu=device == "cpu",
        )
        self._cache, self._ema_decay = cache, ema_decay
        self.average: WeightAverage | None = None

    def prepare(self, *objects: Any, **options: Any) -> Any:
        """Prepare policy, optimizer, loaders and scheduler, in LeRobot's order."""
        policy = next(item for item in objects if isinstance(item, torch.nn.Module))
        if self._ema_decay is not None:
            self.average = WeightAverage(policy, self._ema_decay)
        if self._cache.enabled:
            policy.to(self.device)
            objects = tuple(self._cached(item, policy) for item in objects)
        return super().prepare(*objects, **options)

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

    def _cached(self, item: Any, policy: Any) -> Any:
        """A loader over the cached samples in place of LeRobot's; anything else as it is."""
        if not isinstance(item, DataLoader):
            return item
        with self.main_process_first():  # one process computes, the others find it done
            samples = CachedDataset(item.dataset, self._cache.root)
            if self._cache.features and policy.config.fusion.name != "none":
                samples.add_features(item.dataset, self._cache.root, policy, self._cache.dtype)
        return DataLoader(
            samples,
            batch_size=item.batch_size,
            sampler=item.sampler,
            num_workers=item.num_workers,
            pin_memory=item.pin_memory,
            drop_last=item.drop_last,
            collate_fn=item.collate_fn,
            prefetch_factor=item.prefetch_factor,
            persistent_workers=item.persistent_workers,
            multiprocessing_context=item.multiprocessing_context,
        )
