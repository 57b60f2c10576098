"""What a LeRobotDataset says of itself, with errors that name the folder and what to do.

LeRobot takes a folder without a dataset for one that is to be fetched, and asks the Hub for its made-up name.
"""

from pathlib import Path
from typing import Literal

from lerobot.datasets.dataset_metadata import CODEBASE_VERSION, LeRobotDatasetMetadata
from lerobot.datasets.utils import CompatibilityError

LOCAL = "local/"
"""Begins the names of datasets that no Hub has."""


def load_metadata(
    repo_id: str,
    root: str | Path | None = None,
    revision: str | None = None,
    repo_type: Literal["dataset", "bucket"] = "dataset",
) -> LeRobotDatasetMetadata:
    """Read the metadata of a dataset, which is fetched from the Hub where it is not in its folder.

    Args:
        repo_id: Its name on the Hub; one that begins with `local/` has none.
        root: Its folder; LeRobot's cache if not given.
        revision: On the Hub.
        repo_type: `dataset`, or `bucket` for a storage bucket.

    Raises:
        FileNotFoundError: It is in no folder, and not on the Hub either.
        ValueError: It is of another version of LeRobot's format.
    """
    if repo_id.startswith(LOCAL) and not (root and (Path(root) / "meta" / "info.json").is_file()):
        raise FileNotFoundError(
            f"expected a LeRobotDataset in {root}, there is no meta/info.json"
            if root
            else "expected a dataset: a folder as root, or a repo_id on the Hub such as lerobot/libero"
        )
    try:
        return LeRobotDatasetMetadata(repo_id, root=root, revision=revision, repo_type=repo_type)
    except (CompatibilityError, NotImplementedError) as error:  # the latter for what is older than 2.1
        raise ValueError(
            f"expected a LeRobotDataset {CODEBASE_VERSION} in {root or repo_id}, it is of another version: "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30 converts 2.1, an earlier LeRobot older ones"
        ) from error
