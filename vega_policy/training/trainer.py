"""LeRobot's trainer with VEGA's policy: what a run adds to it, and where it is put in.

LeRobot's `train` takes an accelerator, and calls a few functions of its module by name; for the time of one
run four of these are replaced: the pipelines (scaled to this dataset), the update (to average and log), the
checkpoint (to be atomic, then played in the simulator) and the link to it. Nothing of the training loop is
repeated here.
"""

import logging
import math
import sys
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
    remove_unfinished,
    save_atomically,
)
from vega_policy.training.config import Pipeline, TrainConfig, pipeline
from vega_policy.training.demonstrations import recorded_conditions
from vega_policy.training.libero_data import check_films, check_libero_dataset
from vega_policy.training.logs import METRICS, MetricLog, read_metrics
from vega_policy.training.metadata import load_metadata

PlayCheckpoint = Callable[[Path, int], Mapping[str, float]]
"""Plays episodes with the policy in a folder after so many steps and gives success rates by name."""

MIXED_PRECISION = {"float32": "no", "bfloat16": "bf16"}
LOGS_DIR, CLOSED_LOOP = "logs", "closed_loop"


class Run:
    """One training run, from `start` to its last checkpoint.

    Args:
        config: Its settings.
        play: Evaluates a checkpoint in the simulator; needed where `closed_loop.every` is set.

    Raises:
        FileNotFoundError: If there is nothing to start from.
        FileExistsError: If `output_dir` is there and `resume` is not set.
        ValueError: If the dataset is not one of LIBERO's form, or settings contradict each other.
    """

    def __init__(self, config: TrainConfig, play: PlayCheckpoint | None = None) -> None:
        self._config, self._play = config, play
        self._pipeline: Pipeline = pipeline(config)
        self._first_step = int(self._pipeline.checkpoint_path.name) if self._pipeline.checkpoint_path else 0
        self._step = self._first_step
        self._log: MetricLog | None = None
        assert self._pipeline.policy is not None
        dtype = getattr(self._pipeline.policy, "dtype", "float32")
        self._accelerator = TrainingAccelerator(
            self._pipeline.policy.device,
            MIXED_PRECISION[dtype],
            config.cache,
            config.ema_decay,
            lambda loss: self._write({"held_out/loss": loss}),
        )
        with self._accelerator.main_process_first():  # one process fetches, the others find it there
            self._look_at_dataset()
        self._accelerator.wait_for_everyone()  # nobody writes before all have looked at the folder

    @property
    def is_main_process(self) -> bool:
        """Whether this is the one process of the run that writes."""
        return bool(self._accelerator.is_main_process)

    def start(self) -> None:
        """Train.

        Raises:
            FloatingPointError: If a loss or a gradient is not finite.
        """
        if self._config.num_threads:
            torch.set_num_threads(self._config.num_threads)
        if self.is_main_process:
            self._tidy()
            self._play_what_was_missed()
        with self._hooks():
            # Without its decorator, which takes no other configuration class but reads the command line.
            lerobot_train.train.__wrapped__(self._pipeline, accelerator=self._accelerator)
        if self._log is not None:
            self._log.close()

    def _look_at_dataset(self) -> None:
        """Refuse one that cannot be trained from, and note how it was recorded."""
        data = self._config.dataset
        meta = load_metadata(data.repo_id, data.root, data.revision)
        check_libero_dataset(meta)
        if self._config.cache.enabled:
            check_films(meta)
        self._pipeline.policy.trained_with = recorded_conditions(meta.root)

    def _tidy(self) -> None:
        """Remove what a killed run left that this one will not go on with."""
        remove_unfinished(self._config.output_dir)
        if self._pipeline.checkpoint_path is not None:
            link_last(self._pipeline.checkpoint_path)  # it may have been killed before that
        if not self._pipeline.resume:  # TensorBoard would show what comes to nothing beside what comes again
            for events in (self._config.output_dir / LOGS_DIR).glob("events.out.tfevents.*"):
                events.unlink()

    @contextmanager
    def _hooks(self) -> Iterator[None]:
        with patch.multiple(
            lerobot_train,
            make_pre_post_processors=self._scaled_to_dataset(lerobot_train.make_pre_post_processors),
            update_policy=self._averaged_and_logged(lerobot_train.update_policy),
            save_checkpoint=self._save,
            update_last_checkpoint=link_last,
        ):
            yield

    def _scaled_to_dataset(self, make: Callable[..., Any]) -> Callable[..., Any]:
        """New pipelines, with the quantiles of this dataset's frames, unless a run goes on.

        For a checkpoint that only gives the first weights LeRobot would load its pipelines and put the
        averages of `meta/stats.json` into them, over the gripper's identity too.
        """

        def made(*, pretrained_path: Any, **options: Any) -> Any:
            return make(pretrained_path=pretrained_path if self._pipeline.resume else None, **options)

        return made

    def _averaged_and_logged(self, update_policy: Callable[..., Any]) -> Callable[..., Any]:
        """LeRobot's update, then the average and the log."""

        def update(
            metrics: Any, policy: Any, batch: Any, optimizer: Any, grad_clip_norm: float, **options: Any
        ) -> Any:
            if self._step == self._first_step and self._pipeline.checkpoint_path and self._average:
                load_average(self._pipeline.checkpoint_path, self._average)
            with _naming(self._step + 1, batch):
                # At 0 LeRobot neither clips nor looks at the norm; up to infinity it only looks.
                limit = grad_clip_norm or math.inf
                found = update_policy(metrics, policy, batch, optimizer, limit, **options)
            self._step += 1
            if self._average is not None:
                self._average.update()
            if self._step % self._config.log_freq == 0:
                metrics.reduce_across_ranks()  # before LeRobot does, which then changes nothing
                self._write(_window_means(metrics))
            return found

        return update

    @property
    def _average(self) -> WeightAverage | None:
        return self._accelerator.average

    def _save(self, checkpoint_dir: Path, **parts: Any) -> None:
        save_atomically(checkpoint_dir, self._average, **parts)
        self._play_if_due(checkpoint_dir)

    def _play_what_was_missed(self) -> None:
        """Play the checkpoint to resume from, if the run was killed before its results were logged."""
        checkpoint, file = self._pipeline.checkpoint_path, self._config.output_dir / LOGS_DIR / METRICS
        if checkpoint is None:
            return
        known = read_metrics(file) if file.is_file() else []
        here = [entry for entry in known if entry["step"] == self._step]
        if not any(name.startswith(f"{CLOSED_LOOP}/") for entry in here for name in entry):
            self._play_if_due(checkpoint)

    def _play_if_due(self, checkpoint_dir: Path) -> None:
        every = self._config.closed_loop.every
        if self._play is None or not every or self._step % every:
            return
        acting = AVERAGED_MODEL_DIR if self._config.ema_decay is not None else PRETRAINED_MODEL_DIR
        link_last(checkpoint_dir)  # LeRobot does so after this, too late for a run that is killed meanwhile
        rates = self._play(checkpoint_dir / acting, self._step)
        logging.info("step %d: closed loop %s", self._step, rates)
        scalars = {f"{CLOSED_LOOP}/{name}": rate for name, rate in rates.items()}
        self._write(scalars)
        _tell_wandb(scalars, self._step)

    def _write(self, scalars: Mapping[str, Any]) -> None:
        if not self.is_main_process or not scalars:
            return
        if self._log is None:
            self._log = MetricLog(self._config.output_dir / LOGS_DIR, self._first_step)
        self._log.write(self._step, scalars)


def _tell_wandb(scalars: Mapping[str, float], step: int) -> None:
    """Put numbers that LeRobot does not know of beside its own, where it has begun a page."""
    wandb = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        wandb.log(dict(scalars), step=step)


@contextmanager
def _naming(step: int, batch: Mapping[str, Any]) -> Iterator[None]:
    """Say in which step, and with which samples, a number was not finite."""
    try:
        yield
    except FloatingPointError as error:
        frames = batch["index"].tolist() if "index" in batch else "unknown"
        raise FloatingPointError(f"step {step}, a batch of the dataset's frames {frames}: {error}") from error


def _window_means(metrics: Any) -> dict[str, float]:
    """Means since the last logged step, of what has been measured."""
    return {f"train/{name}": meter.avg for name, meter in metrics.metrics.items() if meter.count}
