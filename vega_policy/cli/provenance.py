"""What a result was made with: versions, device, code revision, checkpoint."""

import hashlib
import importlib.metadata
import platform
import subprocess
from pathlib import Path

import vega_policy

DISTRIBUTIONS = {
    "vega_policy": "lerobot_policy_vega",
    "torch": "torch",
    "lerobot": "lerobot",
    "mujoco": "mujoco",
    "robosuite": "robosuite",
    "libero": "hf-libero",
}


def installed_versions() -> dict[str, str | None]:
    """Versions of the distributions that results depend on; None for one that is not installed."""
    return {name: _version(distribution) for name, distribution in DISTRIBUTIONS.items()}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def device_name(device: str | None = None) -> str:
    """The name of the GPU that `device` means, None being the one that torch would use; or the CPU."""
    import torch

    if torch.cuda.is_available() and (device is None or device.startswith("cuda")):
        return torch.cuda.get_device_name(device)
    return f"cpu ({platform.processor() or platform.machine()})"


def git_revision() -> str | None:
    """Commit of the checkout, with `-dirty` after it if files differ; None outside a checkout."""
    root = Path(vega_policy.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def local_checkpoint(path: str) -> Path:
    """A policy's files on this disk, fetched from the Hub once, before any worker would.

    A link (`checkpoints/last`) is followed here and now: training may move it while workers still load.

    Raises:
        OSError: If `path` is neither here nor a repository that the Hub gives.
    """
    if Path(path).exists():
        return Path(path).resolve()
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(path))


def checkpoint_sha256(checkpoint: Path) -> dict[str, str]:
    """Hash of each file a policy is made from, by name: a folder's weights and settings, or one YAML file."""
    found = checkpoint.iterdir() if checkpoint.is_dir() else [checkpoint]
    files = sorted(path for path in found if path.suffix in (".safetensors", ".json", ".yaml", ".yml"))
    return {path.name: _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
