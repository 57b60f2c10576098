"""LeRobot's trainer with VEGA's policy: what a run adds to it, and where it is put in.

LeRobot's `train` takes an accelerator, and calls a few functions of its module by name; for the time of one
run three of these are replaced: the update (to average and log), the checkpoint (to be atomic, then played in
the simulator) and the link to it. Nothing of the training loop is repeated here.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from lerobot.scripts import lerobot_train
from lerobot.utils.constants import PRETRAINED_MODEL_DIR

import vega_policy.processor_vega  # noqa: F401  (registers the steps of saved pipelines)
from vega_policy.training.accelerator import TrainingAccelerator
from vega_policy.training.averaging import WeightAverage
from vega_policy.training.checkpoints import (
    AVERAGED_MODEL_DIR,
    link_last,
    load_average,
    save_atomically,
)
from vega_policy.training.config import Pipeline, TrainConfig, pipeline
from vega_policy.training.demonstrations import recorded_conditions
from vega_policy.training.libero_data import check_libero_dataset
from vega_policy.training.logs import TrainingLog

PlayCheckpoint = Callable[[Path, int], Mapping[str, float]]
"""Plays episodes with the policy in a folder after so many steps and gives success rates by name."""

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16"}


class Run:
    """One training run, from `start` to its last checkpoint.

    Args:
        config: Its settings.
        play: Evaluates a checkpoint in the simulator; needed where `closed_loop.every` is set.

    Raises:
        FileNotFoundError: If there is nothing to resume or start from.
        FileExistsError: If `output_dir` is there and `resume` is not set.
    """

    def __init__(self, config: TrainConfig, play: PlayCheckpoint | None = None) -> None:
        self._config, self._play = config, play
        self._pipeline: Pipeline = pipeline(config)
        self._first_step = int(self._pipeline.checkpoint_path.name) if self._pipeline.checkpoint_path else 0
        self._step = self._first_step
        self._log: TrainingLog | None = None
        assert self._pipeline.policy is not None
        dtype = getattr(self._pipeline.policy, "dtype", "float32")
        self._accelerator = TrainingAccelerator(
            self._pipeline.policy.device, MIXED_PRECISION[dtype], config.cache, config.ema_decay
        )

    def start(self) -> None:
        """Train.

        Raises:
            ValueError: If the dataset is not one of LIBERO's form.
            FloatingPointError: If a loss or a gradient is not finite.
        """
        if self._config.num_threads:
            torch.set_num_threads(self._config.num_threads)
        with self._hooks():
            # Without its decorator, which takes no other configuration class but reads the command line.
            lerobot_train.train.__wrapped__(self._pipeline, accelerator=self._accelerator)
        if self._log is not None:
            self._log.close()

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        make_datasets = lerobot_train.make_train_eval_datasets

        def checked_datasets(cfg: Any) -> Any:
            datasets = make_datasets(cfg)
            check_libero_dataset(datasets[0].meta)
            cfg.policy.trained_with = recorded_conditions(datasets[0].root)
            return datasets

        with patch.multiple(
            lerobot_train,
            make_train_eval_datasets=checked_datasets,
            update_policy=self._following(lerobot_train.update_policy),
            save_checkpoint=self._save,
            update_last_checkpoint=link_last,
        ):
            yield

    def _following(self, update_policy: Callable[..., Any]) -> Callable[..., Any]:
        """LeRobot's update, then the average and the log."""

        def update(metrics: Any, policy: Any, *arguments: Any, **options: Any) -> Any:
            if self._step == self._first_step and self._pipeline.checkpoint_path and self._average:
                load_average(self._pipeline.checkpoint_path, self._average)
            found = update_policy(metrics, policy, *arguments, **options)
            self._step += 1
            if self._average is not None:
                self._average.update()
            if self._step % self._config.log_freq == 0 and self._accelerator.is_main_process:
                self._write(_averages(metrics))
            return found

        return update

    @property
    def _average(self) -> WeightAverage | None:
        return self._accelerator.average

    def _save(self, checkpoint_dir: Path, **parts: Any) -> None:
        save_atomically(checkpoint_dir, self._average, **parts)
        every = self._config.closed_loop.every
        if self._play is not None and every and self._step % every == 0:
            acting = AVERAGED_MODEL_DIR if self._average is not None else PRETRAINED_MODEL_DIR
            link_last(checkpoint_dir)
            rates = self._play(checkpoint_dir / acting, self._step)
            logging.info("step %d: closed loop %s", self._step, rates)
            self._write({f"closed_loop/{name}": rate for name, rate in rates.items()})

    def _write(self, scalars: Mapping[str, Any]) -> None:
        if self._log is None:
            self._log = TrainingLog(self._config.output_dir / "logs", self._first_step)
        self._log.write(self._step, scalars)


def _averages(metrics: Any) -> dict[str, float]:
    """Means since the last logged step, of what has been measured."""
    return {f"train/{name}": meter.avg for name, meter in metrics.metrics.items() if meter.count}
