"""A training run to be started by torchrun: `distributed_run.py DATASET OUTPUT_DIR MODE`.

Epochs of nine steps, of which the last is filled up, and a checkpoint in the second. MODE is whole, stop
(after that checkpoint) or resume.
"""

import sys
from pathlib import Path

from lerobot.configs.default import DatasetConfig
from small_data import make_policy_config

from vega_policy.training.cache.dataset import CacheConfig
from vega_policy.training.config import TrainConfig
from vega_policy.training.trainer import Run

if __name__ == "__main__":
    dataset, output_dir, mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    config = TrainConfig(
        output_dir=output_dir,
        dataset=DatasetConfig(repo_id="local/data", root=dataset),
        policy=make_policy_config(),
        steps=20,
        batch_size=2,
        log_freq=1,
        save_freq=10,
        num_threads=1,
        ema_decay=0.9,
        cache=CacheConfig(enabled=True, root=output_dir.with_name("cache")),
        resume=mode == "resume",
    )
    run = Run(config)
    if mode == "stop":
        write = run._write

        def interrupted(scalars):
            write(scalars)
            if run._step == 11:
                raise SystemExit(0)

        run._write = interrupted
    run.start()
