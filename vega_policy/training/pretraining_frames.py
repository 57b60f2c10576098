"""Videos of a LeRobotDataset as one array of small pictures in a memory-mapped file, decoded once.

Every n-th frame is kept, fitted into the square canvas that the simulator sees. Rows of one camera of one
episode are neighbours, so a clip is a row and some before it; where the episode had not begun yet its first
frame stands in, as for a running policy.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from lerobot.datasets.lerobot_dataset import LeRobotDataset
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vega_policy.simulators.geometry import letterbox
from vega_policy.training.files import claim_space, write_text
from vega_policy.training.libero_data import check_films
from vega_policy.training.metadata import LOCAL, load_metadata
from vega_policy.training.pretraining_config import VideosConfig

ARRAY, INDEX = "frames.npy", "frames.json"


@dataclass(frozen=True)
class Film:
    """One camera's video of one episode, as part of a file.

    Attributes:
        file: The video file.
        episode: Whose it is.
        start: Its first frame in the file.
        length: Its frames.
        is_held_out: Whether it is for validation.
    """

    file: Path
    episode: int
    start: int
    length: int
    is_held_out: bool


class Frames:
    """The kept frames of all films.

    Attributes:
        pictures: Square pictures.
        first_rows: For each row the first row of its film.
        training_rows: Rows to learn from.
        validation_rows: Rows of held-out episodes.
    """

    def __init__(
        self, pictures: UInt8[NDArray[np.uint8], "rows side side 3"], index: Mapping[str, Any], gap: int
    ) -> None:
        lengths, held_out = np.array(index["lengths"]), np.array(index["held_out"], bool)
        self.pictures = pictures
        self.first_rows: Int64[NDArray[np.int64], " rows"] = np.repeat(np.cumsum(lengths) - lengths, lengths)
        is_held_out = np.repeat(held_out, lengths)
        self.training_rows, self.validation_rows = np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
        self._gap = gap

    def clips(
        self, newest: Int64[NDArray[np.int64], " batch"], length: int
    ) -> Float[Tensor, "batch length 3 side side"]:
        """Clips that end at the given rows, oldest frame first, pixels in [0, 1]."""
        past = np.arange(length - 1, -1, -1) * self._gap
        rows = np.maximum(newest[:, None] - past, self.first_rows[newest][:, None])
        return torch.from_numpy(self.pictures[rows]).permute(0, 1, 4, 2, 3).float() / 255


def load_frames(config: VideosConfig, side_px: int, token_px: int, folder: Path) -> Frames:
    """Decodes the videos, or takes what an earlier call with the same settings left in `folder`.

    Args:
        config: The dataset and what to keep of it.
        side_px: Side of the square canvas.
        token_px: Side of a simulator's token, on whose multiples padding falls.
        folder: Where the array is kept.

    Raises:
        OSError: The dataset, or a film of it, is not there and not on the Hub.
        ValueError: The dataset has no films, or too few episodes to hold one out.
    """
    films = list_films(config)
    _fetch(config, films)
    index = {
        "settings": json.loads(json.dumps(asdict(config), default=str)) | {"side_px": side_px},
        "lengths": [len(range(0, film.length, config.keep_every)) for film in films],
        "held_out": [film.is_held_out for film in films],
    }
    file = folder / INDEX
    if not file.is_file() or json.loads(file.read_text()) != index:
        file.unlink(missing_ok=True)
        _decode_all(films, config.keep_every, folder / ARRAY, sum(index["lengths"]), side_px, token_px)
        write_text(file, json.dumps(index))
    pictures = np.load(folder / ARRAY, mmap_mode="r")
    return Frames(pictures, index, config.frame_stride // config.keep_every)


def list_films(config: VideosConfig) -> list[Film]:
    """The films of the chosen episodes, every so many of them held out, in the order of their files.

    Raises:
        OSError: The dataset is not there and not on the Hub.
        ValueError: The dataset has no films, or too few episodes to hold one out.
    """
    meta = load_metadata(config.repo_id, config.root)
    check_films(meta)
    if meta.total_episodes < 2:
        raise ValueError(f"expected at least two episodes, one to hold out, got {meta.total_episodes}")
    wanted = min(config.max_episodes or meta.total_episodes, meta.total_episodes)
    chosen = np.linspace(0, meta.total_episodes - 1, wanted).round().astype(int)
    num_held_out = min(max(1, round(config.validation_share * len(chosen))), len(chosen) - 1)
    held_out = set(chosen[np.linspace(0, len(chosen) - 1, num_held_out + 2).round().astype(int)[1:-1]])
    films = []
    for episode in chosen:
        facts = meta.episodes[int(episode)]
        for key in meta.video_keys:
            start = round(facts[f"videos/{key}/from_timestamp"] * meta.fps)
            file = Path(meta.root) / meta.get_video_file_path(int(episode), key)
            films.append(Film(file, int(episode), start, facts["length"], episode in held_out))
    return sorted(films, key=lambda film: (str(film.file), film.start))


def _fetch(config: VideosConfig, films: Sequence[Film]) -> None:
    """Have LeRobot download the films that are not there; the metadata comes without them.

    Raises:
        FileNotFoundError: The dataset is not on the Hub.
    """
    missing = [film.file for film in films if not film.file.is_file()]
    if missing and config.repo_id.startswith(LOCAL):
        raise FileNotFoundError(f"expected a film at {missing[0]}, as the metadata in {config.root} says")
    if missing:
        LeRobotDataset(config.repo_id, root=config.root, episodes=sorted({film.episode for film in films}))


def _decode_all(
    films: list[Film], keep_every: int, file: Path, num_rows: int, side_px: int, token_px: int
) -> None:
    shape = (num_rows, side_px, side_px, 3)
    pictures = np.lib.format.open_memmap(file, "w+", np.uint8, shape)
    claim_space(file)
    row = 0
    with tqdm(total=num_rows, desc="decoding", unit="frame") as bar:
        for frames in _by_film(films):
            kept = frames[::keep_every]
            pictures[row : row + len(kept)] = _fit(kept, side_px, token_px)
            row += len(kept)
            bar.update(len(kept))
    pictures.flush()


def _by_film(films: list[Film]) -> Iterator[UInt8[NDArray[np.uint8], "frames height width 3"]]:
    """Decodes each file once, from its beginning to the last film wanted of it."""
    decoder, position, current = None, 0, None
    for film in films:
        if film.file != current:
            decoder, position, current = _decode(film.file), 0, film.file
        assert decoder is not None
        frames = []
        while position < film.start + film.length:
            frame = next(decoder, None)
            if frame is None:
                raise ValueError(f"{film.file} ends at frame {position}, expected {film.start + film.length}")
            if position >= film.start:
                frames.append(frame.to_ndarray(format="rgb24"))
            position += 1
        yield np.stack(frames)


def _decode(file: Path) -> Iterator[Any]:
    import av

    with av.open(str(file)) as container:
        yield from container.decode(video=0)


def _fit(
    frames: UInt8[NDArray[np.uint8], "frames height width 3"], side_px: int, token_px: int
) -> UInt8[NDArray[np.uint8], "frames side side 3"]:
    if frames.shape[1:3] == (side_px, side_px):
        return frames
    clips = torch.from_numpy(frames).permute(0, 3, 1, 2).unsqueeze(1).float() / 255
    canvas, _ = letterbox(clips, side_px, token_px)
    return (canvas.squeeze(1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
