"""Datasets into one, such as demonstrations and the rounds of DAgger after them, as LeRobot aggregates them.

LeRobot's tool drops the provenance, from which training learns under which conditions the data were recorded.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lerobot.datasets.aggregate import aggregate_datasets
from lerobot.datasets.io_utils import load_info, load_stats, write_stats

from vega_policy.quantiles import read_column
from vega_policy.training.demonstrations import CONDITIONS, PROVENANCE, read_provenance, recorded_conditions
from vega_policy.training.files import give_usual_modes, in_one_step
from vega_policy.training.metadata import INFO, load_metadata
from vega_policy.training.statistics import column_stats

SIZE = ("total_episodes", "total_frames")
"""Entries of `info.json`: how much a dataset has."""

SCENE = ("suite", "task_id", "seed")
"""Of an episode's facts: what determines how its objects stand."""


def merge_datasets(roots: Sequence[Path], output_dir: Path, *, resume: bool = False) -> None:
    """Write one dataset with the episodes of several, in their order.

    Args:
        roots: Folders of datasets with the same features and rate.
        output_dir: The new dataset's folder; its provenance has theirs under `merged`.
        resume: Leave a dataset that was merged of the same ones, in this order, as it is.

    Raises:
        ValueError: They were recorded under different conditions, have different features or rates, or are of
            another version of LeRobot's format.
        FileNotFoundError: There is no dataset in one of the folders.
        FileExistsError: There is something in `output_dir`, and it is not to be kept.
    """
    for root in roots:
        load_metadata(f"local/{root.name}", root)
    origins = {str(root): _provenance(root) for root in roots}
    if output_dir.exists():
        if resume and read_provenance(output_dir).get("merged") == list(origins.values()):
            return
        found = ", and was not merged of these in this order" if resume else ""
        raise FileExistsError(f"{output_dir} exists already{found}; remove it or choose another --output_dir")
    _warn_of_shared_scenes(origins)
    environment = _common_conditions({str(root): recorded_conditions(root) for root in roots})
    provenance = {"environment": environment, "merged": list(origins.values())}
    names = [f"local/{root.name}" for root in roots]
    with in_one_step(output_dir) as partial:
        aggregate_datasets(names, f"local/{output_dir.name}", list(roots), partial)
        _write_exact_stats(partial)
        give_usual_modes(partial)
        (partial / PROVENANCE).write_text(json.dumps(provenance, indent=2) + "\n", encoding="utf-8")


def _write_exact_stats(root: Path) -> None:
    """Replace LeRobot's averages of quantiles by quantiles; those of pictures, which take decoding, stay."""
    features, stats = load_info(root).features, load_stats(root) or {}
    columns = [key for key in stats if key in features and _is_of_numbers(features[key])]
    write_stats({**stats, **{key: column_stats(read_column(root, key)) for key in columns}}, root)


def _is_of_numbers(feature: Mapping[str, Any]) -> bool:
    """Whether a column has a vector or a number per frame, no picture, text or table."""
    return len(feature["shape"]) == 1 and feature["dtype"].startswith(("float", "int"))


def _common_conditions(by_root: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What all of them say, refusing what they contradict each other in."""
    for name in CONDITIONS:
        told = {root: conditions[name] for root, conditions in by_root.items() if name in conditions}
        if len(set(told.values())) > 1:
            raise ValueError(
                f"expected datasets that were recorded with the same {name}, got "
                + ", ".join(f"{value} in {root}" for root, value in told.items())
            )
    first, *others = by_root.values()
    return {name: value for name, value in first.items() if all(name in other for other in others)}


def _warn_of_shared_scenes(provenances: Mapping[str, Mapping[str, Any]]) -> None:
    """Rounds of DAgger with the seed of the demonstrations show the learner only scenes that it knows."""
    known: dict[tuple[Any, ...], str] = {}
    for root, provenance in provenances.items():
        scenes = [tuple(episode.get(name) for name in SCENE) for episode in _episodes(provenance)]
        again = [known[scene] for scene in scenes if scene in known and None not in scene]
        if again:
            logging.warning(
                "%d of %d episodes of %s begin in scenes of %s; give each round a --seed of its own",
                len(again), len(scenes), root, ", ".join(sorted(set(again))),
            )  # fmt: skip
        known |= dict.fromkeys(scenes, root)


def _episodes(provenance: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What is known of the episodes of a dataset, also of one that was merged itself."""
    inner = [episode for part in provenance.get("merged", ()) for episode in _episodes(part)]
    return [*provenance.get("episodes", ()), *inner]


def _provenance(root: Path) -> dict[str, Any]:
    """Where a dataset comes from, and how much it has: one from elsewhere tells no more than that."""
    info = json.loads((root / INFO).read_text(encoding="utf-8"))
    return {"root": root.name, **{name: info[name] for name in SIZE}, **read_provenance(root)}
