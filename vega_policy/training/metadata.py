"""What a LeRobotDataset says of itself, with errors that name the folder and what to do.

LeRobot takes a folder without a dataset for one that is to be fetched, and asks the Hub for its made-up name.
"""

import json
from pathlib import Path

import httpx
import pyarrow.parquet as parquet
from lerobot.datasets.dataset_metadata import CODEBASE_VERSION, LeRobotDatasetMetadata
from lerobot.datasets.utils import CompatibilityError
from lerobot.utils.constants import HF_LEROBOT_HOME

LOCAL = "local/"
"""Begins the names of datasets that no Hub has."""

INFO = Path("meta") / "info.json"


def load_metadata(
    repo_id: str, root: str | Path | None = None, revision: str | None = None
) -> LeRobotDatasetMetadata:
    """Read the metadata of a dataset, which is fetched from the Hub where it is not in its folder.

    Args:
        repo_id: Its name on the Hub; one that begins with `local/` has none.
        root: Its folder; LeRobot's cache if not given.
        revision: On the Hub.

    Raises:
        OSError: It is in no folder, and cannot be had from the Hub either.
        RuntimeError: On the Hub no version of it is tagged.
        ValueError: It is of another version of LeRobot's format.
    """
    if repo_id.startswith(LOCAL) and not (Path(root or HF_LEROBOT_HOME / repo_id) / INFO).is_file():
        raise FileNotFoundError(
            f"expected a LeRobotDataset in {root}, there is no {INFO}"
            if root
            else "expected a dataset: a folder as root, or a repo_id on the Hub such as lerobot/libero"
        )
    try:
        return LeRobotDatasetMetadata(repo_id, root=root, revision=revision)
    except (CompatibilityError, NotImplementedError) as error:  # the latter for what is older than 2.1
        raise ValueError(
            f"expected a LeRobotDataset {CODEBASE_VERSION} in {root or repo_id}, it is of another version: "
            "python -m lerobot.scripts.convert_dataset_v21_to_v30 converts 2.1, an earlier LeRobot older "
            "ones, and newer ones need a newer LeRobot"
        ) from error
    except httpx.HTTPError as error:
        raise ConnectionError(f"cannot reach the Hub for {repo_id}, which is not here: {error}") from error


def is_whole(root: Path) -> bool:
    """Whether all files of a dataset are there that its metadata name; some may still be to be fetched."""
    listings = sorted((root / "meta" / "episodes").glob("**/*.parquet"))
    if not (root / INFO).is_file() or not listings:
        return False
    info = json.loads((root / INFO).read_text(encoding="utf-8"))
    films = [key for key, feature in info["features"].items() if feature["dtype"] == "video"]
    patterns = {f"videos/{key}": info["video_path"].replace("{video_key}", key) for key in films}
    named: set[str] = set()
    for place, pattern in {"data": info["data_path"], **patterns}.items():
        numbers = ("chunk_index", "file_index")
        for file in listings:
            columns = parquet.read_table(file, columns=[f"{place}/{number}" for number in numbers]).columns
            pairs = zip(*(column.to_pylist() for column in columns), strict=True)
            named |= {pattern.format(**dict(zip(numbers, pair, strict=True))) for pair in pairs}
    return all((root / file).is_file() for file in named)
