"""Weights to and from a checkpoint folder: what belongs in, and nothing silently missing.

Frozen weights that came from the Hub stay out; the configuration records their id and commit, and building
the policy fetches them again. Where the commit is not known they go in. Everything else must be in the file,
name by name and shape by shape; the weights of a simulator from a local folder too, whose architecture the
configuration then holds. The empty prompt's embedding lies beside it, so that loading does not fetch a text
encoder of billions of weights.
"""

import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import save_torch_state_dict, snapshot_download
from safetensors import safe_open
from torch import Tensor

from vega_policy.backbones.config import BackboneConfig
from vega_policy.hub import commit_of
from vega_policy.simulators.config import SimulatorConfig
from vega_policy.simulators.prompt import FILE as PROMPT_FILE
from vega_policy.simulators.prompt import save_prompt

LOOKING = ("revision", "cache_dir", "local_files_only", "token", "force_download")

if TYPE_CHECKING:
    from vega_policy.configuration_vega import VegaConfig
    from vega_policy.modeling_vega import VegaPolicy


def external_names(policy: "VegaPolicy") -> set[str]:
    """Names of weights that the Hub keeps: frozen, and loaded from a Hub id at a known commit."""
    prefixes = tuple(f"{part}." for part, commit in policy.commits.items() if commit is not None)
    if not prefixes:
        return set()
    return {
        name
        for name, parameter in policy.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad and name.startswith(prefixes)
    }


def save_weights(policy: "VegaPolicy", folder: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
    """Writes `config.json`, `model.safetensors` and, where the simulator is the Hub's, its prompt embedding.

    Args:
        policy: The policy to save.
        folder: An existing folder.
        state_dict: A gathered state dict, when the policy's own is sharded.
    """
    simulator = _at(policy.simulator.portable_config, policy.commits["simulator"])
    simulator = replace(simulator, prompt_path=None)
    backbone = _at(policy.config.backbone, policy.commits["backbone"])
    replace(policy.config, simulator=simulator, backbone=backbone)._save_pretrained(folder)
    prompt = getattr(policy.simulator.backbone, "prompt_embedding", None)
    if simulator.is_from_hub and prompt is not None:
        save_prompt(folder / PROMPT_FILE, prompt)
    left_out = external_names(policy)
    weights = {
        name: value for name, value in (state_dict or policy.state_dict()).items() if name not in left_out
    }
    num_bytes = sum(value.numel() * value.element_size() for value in weights.values())
    save_torch_state_dict(weights, str(folder), max_shard_size=max(num_bytes, 1))


def hub_commit(part: SimulatorConfig | BackboneConfig) -> str | None:
    """The commit that a part's weights were loaded at; None if they are not the Hub's, or it is not known."""
    return commit_of(part.source, part.revision) if part.is_from_hub else None


def _at[Part: (SimulatorConfig, BackboneConfig)](part: Part, commit: str | None) -> Part:
    return part if commit is None else replace(part, revision=commit)


def fetched(path: Path | str, **options: Any) -> Path:
    """The folder of a checkpoint that is here or on the Hub.

    Args:
        path: The folder or Hub id.
        options: Those of LeRobot's `from_pretrained` that say where to look; others are ignored.
    """
    if Path(path).is_dir():
        return Path(path)
    where = {name: options[name] for name in LOOKING if options.get(name) is not None}
    return Path(snapshot_download(str(path), allow_patterns=["*.json", "*.safetensors"], **where))


def with_saved_simulator(config: "VegaConfig", folder: Path) -> "VegaConfig":
    """The configuration, with what a checkpoint folder says about its own simulator.

    A checkpoint that holds the simulator's weights is loaded from it alone, also where `config` (a trainer's,
    when it resumes) still names the folder that the weights came from at first.

    Args:
        config: What the policy is to be built from.
        folder: The checkpoint's.
    """
    simulator, file = config.simulator, folder / PROMPT_FILE
    if file.is_file():
        simulator = replace(simulator, prompt_path=str(file))
    if simulator.source is not None and (folder / "config.json").is_file():
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))["simulator"]
        if stored["source"] is None:
            simulator = replace(simulator, source=None, revision=None, architecture=stored["architecture"])
    return replace(config, simulator=simulator)


def load_weights(policy: "VegaPolicy", file: Path, device: str) -> None:
    """Loads a checkpoint's weights into a policy built from its configuration.

    Raises:
        ValueError: A weight is missing, unexpected or of another shape; the message names the first of each.
    """
    with safe_open(file, framework="pt", device=device) as stored:
        names = set(stored.keys())
        shapes = {name: tuple(stored.get_slice(name).get_shape()) for name in names}
        _refuse_mismatch(policy, shapes, file)
        policy.load_state_dict({name: stored.get_tensor(name) for name in names}, strict=False)


def _refuse_mismatch(policy: "VegaPolicy", shapes: Mapping[str, tuple[int, ...]], file: Path) -> None:
    expected = policy.state_dict()
    aliases = _aliases(expected)
    covered = {alias for name in shapes if name in aliases for alias in aliases[name]}
    complaints = {
        "missing": sorted(
            expected.keys() - covered - external_names(policy) - _begun_anew(policy, file.parent)
        ),
        "unexpected": sorted(shapes.keys() - expected.keys()),
        "of another shape": [
            f"{name} (expected {tuple(expected[name].shape)}, got {shape})"
            for name, shape in sorted(shapes.items())
            if name in expected and tuple(expected[name].shape) != shape
        ],
    }
    found = [f"{len(names)} {kind}, first {names[0]}" for kind, names in complaints.items() if names]
    if found:
        raise ValueError(
            f"{file} does not fit the policy that its config.json describes: {'; '.join(found)}. "
            "Was the configuration edited, or the file written by another version?"
        )


def _begun_anew(policy: "VegaPolicy", folder: Path) -> set[str]:
    """Weights that a checkpoint cannot have: of the state's octaves, where it was trained without any."""
    file = folder / "config.json"
    if not file.is_file() or json.loads(file.read_text(encoding="utf-8")).get("proprioception_octaves"):
        return set()
    return {name for name, _ in policy.named_parameters() if name.startswith("proprio.octaves.")}


def _aliases(state_dict: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """For each name all names of the same memory: tied weights are stored once."""
    groups: dict[tuple[int, tuple[int, ...]], set[str]] = defaultdict(set)
    for name, value in state_dict.items():
        groups[(value.data_ptr() or id(value), tuple(value.shape))].add(name)
    return {name: group for group in groups.values() for name in group}
