"""From `--policy...` to a policy factory: the one place that knows every kind of policy.

Factories are picklable and built in the parent; policies are built in the worker that uses them.
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vega_policy.checkpoints import named, shipped_names
from vega_policy.cli.parsing import parse, refuse_unknown

if TYPE_CHECKING:
    import gymnasium

    from vega_policy.configuration_vega import VegaConfig
    from vega_policy.envs.experts.expert import Expert
    from vega_policy.rollouts.episode import Policy
    from vega_policy.rollouts.stage import PolicyFactory
    from vega_policy.runtime.acting import ActingPolicy

POLICY_TYPES = ("expert", "hold", "random")

WORKER_THREADS = 1
"""Of torch on the CPU in each worker that plays episodes. With another number sums are rounded otherwise, and
an episode would depend on how many workers share the cores."""


@dataclass
class PolicyConfig:
    """What acts: exactly one of path and type."""

    path: str | None = None  # vega-tiny, a checkpoint folder, a Hub id, or a YAML for an untrained policy
    type: str | None = None  # expert, hold or random
    device: str | None = None  # of a learned policy, e.g. cuda; its own if not given

    def __post_init__(self) -> None:
        if (self.path is None) == (self.type is None):
            raise ValueError(
                "expected either --policy.path=DIR or --policy.type=expert|hold|random, "
                f"got path={self.path} and type={self.type}"
            )
        if self.type is not None:
            refuse_unknown([self.type], POLICY_TYPES, "--policy.type")


@dataclass(frozen=True)
class MakeExpert:
    """Policy factory of the scripted expert, which reads the simulator's state."""

    needs_images: bool = False

    def __call__(self, env: "gymnasium.Env[Any, Any]") -> "Expert":
        """Attach an expert to a LIBERO environment."""
        from vega_policy.envs.experts.expert import Expert

        return Expert(env)


YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class MakeLearned:
    """Policy factory of LeRobot checkpoints, VEGA's or others; a worker loads one once."""

    path: str
    device: str | None = None
    num_threads: int = 0  # for torch on the CPU, so that workers share the cores; 0 leaves torch's choice
    needs_images: bool = True

    def __call__(self, env: "gymnasium.Env[Any, Any]") -> "Policy":  # noqa: ARG002
        """Load the policy, or give the one that this worker has."""
        return self.load()

    def load(self) -> "ActingPolicy":
        """Load the policy without an environment."""
        return _learned_policy(self.path, self.device, self.num_threads)


@functools.cache
def _learned_policy(path: str, device: str | None, num_threads: int) -> "ActingPolicy":
    import torch

    import lerobot_policy_vega  # noqa: F401  (registers VEGA with LeRobot)
    from vega_policy.runtime.acting import ActingPolicy

    if num_threads:
        torch.set_num_threads(num_threads)
    if Path(path).suffix not in YAML:
        return ActingPolicy.from_checkpoint(path, device)
    return ActingPolicy.untrained(load_policy_config(path, device))


def load_policy_config(path: str, device: str | None = None) -> "VegaConfig":
    """Reads a file of `configs/policy`.

    Args:
        path: The YAML file.
        device: Overrides the file's; torch's best when neither names one.

    Raises:
        SystemExit: An unknown key or a bad value, with a message that names it.
    """
    from vega_policy.configuration_vega import VegaConfig

    device_option = [f"--device={device}"] if device else []
    return parse(VegaConfig, [f"--config_path={path}", *device_option], prog=Path(path).name)


def policy_factory(
    config: PolicyConfig, num_workers: int = 1, num_threads: int | None = None
) -> "PolicyFactory":
    """Return the factory of the policy that a configuration names.

    Args:
        config: Its path or type.
        num_workers: Processes that will share this machine's cores.
        num_threads: Of torch on the CPU in each of them; a process's share of the cores if not given.

    Raises:
        ValueError: If there is nothing at the path, or no such device.
    """
    from vega_policy.rollouts.baselines import MakeHold, MakeRandom

    match config.type:
        case "expert":
            return MakeExpert()
        case "hold":
            return MakeHold()
        case "random":
            return MakeRandom()
        case _:
            _refuse_absent_device(config.device)
            share = max(1, (os.cpu_count() or 1) // num_workers)
            path = located(str(config.path))
            if Path(path).suffix in YAML:
                load_policy_config(path, config.device)  # a mistake in it is told of before any worker starts
            return MakeLearned(path, config.device, num_threads or share)


def _refuse_absent_device(device: str | None) -> None:
    """Each worker would find it out anew."""
    import torch

    try:
        asked = torch.device(device or "cpu")
    except RuntimeError as error:
        raise ValueError(f"expected --policy.device as torch names it, cuda:0 say: {error}") from error
    here = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.mps.is_available())}
    if (asked.index or 0) >= here.get(asked.type, 1):
        raise ValueError(f"expected a device that is here, got --policy.device={device}, which torch lacks")


def located(path: str) -> str:
    """The folder of a shipped checkpoint for its name, where nothing else has that name; else `path`.

    Raises:
        ValueError: If there is nothing at a path that can only be one on this disk.
    """
    found = named(path)
    _refuse_missing(found)
    return found


def _refuse_missing(path: str) -> None:
    """A path that looks like one on this disk must be there; anything else may be a Hub id."""
    looks_local = path.count("/") != 1 or path.startswith((".", "/", "~")) or path.endswith(YAML)
    is_local = looks_local or Path(path).exists()
    if not is_local or Path(path).is_file() or (Path(path) / "config.json").is_file():
        return
    raise ValueError(
        "expected --policy.path to be a checkpoint folder (with config.json), a YAML file, a Hub id or one "
        f"of {shipped_names()}; there is nothing of the kind at {path}"
    )
