"""Playing chunks against the clock: each row has its moment, and once that has passed it is never played.

Row k of a chunk belongs to the period that begins at `observed_at_s + k * period_s`. A chunk arrives late by
the time its computation took, so playing starts in its middle; Diffusion Policy's environment for real robots
does the same (Chi et al. 2023, arXiv 2303.04137). Everything here is a pure function.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vega_policy.names import nearest_name_error

RULES = ("open_loop", "temporal_ensemble", "rtc")


@dataclass
class Playback:
    """How chunks follow each other.

    Attributes:
        rule: `open_loop` plays the newest chunk and switches as soon as one arrives. `temporal_ensemble`
            averages what all chunks say of the moment. `rtc` switches like `open_loop`, but fades over, and
            hands the rows still to be played to the policy, whose next chunk continues them (real-time
            chunking, Black et al. 2025, arXiv 2506.07339).
        replan_rows: rows after its observation at which the next chunk is asked for.
        ensemble_decay: m in ACT's weights exp(-m i), i = 0 for the oldest chunk (Zhao et al. 2023, arXiv
            2304.13705, where it is 0.01).
        blend_rows: rows over which `rtc` fades from one chunk to the next; 0 switches at once.
    """

    rule: str = "open_loop"
    replan_rows: int = 8
    ensemble_decay: float = 0.01
    blend_rows: int = 2

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise nearest_name_error("playback rule", self.rule, RULES)
        if self.replan_rows < 1 or self.blend_rows < 0 or not np.isfinite(self.ensemble_decay):
            raise ValueError(
                "playback needs replan_rows >= 1, blend_rows >= 0 and a finite ensemble_decay; got "
                f"{self.replan_rows}, {self.blend_rows}, {self.ensemble_decay}"
            )


@dataclass(frozen=True, eq=False)
class Chunk:
    """Actions in the policy's units, and when they are meant for. Their values are the guard's to judge.

    Attributes:
        actions: one row per period.
        observed_at_s: when the observation was taken from which they were computed.
        period_s: of the control rate the policy was trained at.
        arrived_at_s: when the chunk could first be played.
    """

    actions: Float[np.ndarray, "rows 7"]
    observed_at_s: float
    period_s: float
    arrived_at_s: float

    def __post_init__(self) -> None:
        if self.actions.ndim != 2 or len(self.actions) == 0 or self.actions.shape[1] != 7:
            raise ValueError(
                f"expected a chunk of shape (rows, 7), got {self.actions.shape}: check the policy's head"
            )
        if not (self.period_s > 0 and self.observed_at_s <= self.arrived_at_s < np.inf):
            raise ValueError(
                "expected a positive period and a chunk that arrives after its observation; got period_s "
                f"{self.period_s}, observed_at_s {self.observed_at_s}, arrived_at_s {self.arrived_at_s}"
            )

    def index(self, now_s: float) -> int:
        """The row whose period `now_s` lies in; may be past the end or, of a time before it, negative."""
        # A tick on time may come a rounding error before its row's moment.
        return int(np.floor((now_s - self.observed_at_s) / self.period_s + 1e-6))

    def row(self, now_s: float) -> Float[np.ndarray, " 7"] | None:
        """The action for `now_s`, if the chunk has one."""
        index = self.index(now_s)
        return self.actions[index] if 0 <= index < len(self.actions) else None


@dataclass(frozen=True, eq=False)
class PlayedRow:
    """An action and the time of the newest observation behind it."""

    action: Float[np.ndarray, " 7"]
    observed_at_s: float


def admit(chunks: Sequence[Chunk], new: Chunk) -> tuple[Chunk, ...]:
    """The chunks to play from, oldest first, once `new` has arrived; one that was overtaken is left out."""
    if chunks and new.observed_at_s <= chunks[-1].observed_at_s:
        return tuple(chunks)
    return (*(chunk for chunk in chunks if chunk.row(new.arrived_at_s) is not None), new)


def play(chunks: Sequence[Chunk], now_s: float, playback: Playback) -> PlayedRow | None:
    """What the chunks, oldest first, say of `now_s`; None when none of them has a row for it."""
    rows = [(chunk, row) for chunk in chunks if (row := chunk.row(now_s)) is not None]
    if not rows:
        return None
    newest, action = rows[-1]
    if playback.rule == "temporal_ensemble":
        weights = np.exp(-playback.ensemble_decay * np.arange(len(rows)))
        action = np.average([row for _, row in rows], axis=0, weights=weights)
    elif playback.rule == "rtc":
        action = _faded(rows, now_s, playback.blend_rows)
    return PlayedRow(action, newest.observed_at_s)


def rows_ahead(chunks: Sequence[Chunk], from_s: float) -> Float[np.ndarray, "rows 7"]:
    """The rows of the newest chunk from a moment on; none without a chunk or past its end."""
    if not chunks:
        return np.zeros((0, 7))
    return chunks[-1].actions[max(chunks[-1].index(from_s), 0) :]


def rows_of_delay(chunks: Sequence[Chunk]) -> int:
    """How many rows of the newest chunk had passed when it arrived: the best guess for the next one."""
    return chunks[-1].index(chunks[-1].arrived_at_s) if chunks else 0


def _faded(
    rows: Sequence[tuple[Chunk, Float[np.ndarray, " 7"]]], now_s: float, blend_rows: int
) -> Float[np.ndarray, " 7"]:
    """Each chunk fades in over those before it, from its arrival on, in equal steps."""
    action = rows[0][1]
    for chunk, row in rows[1:]:
        played = chunk.index(now_s) - chunk.index(chunk.arrived_at_s) + 1
        weight = min(played / (blend_rows + 1), 1.0)
        action = row if weight == 1.0 else (1 - weight) * action + weight * row
    return action
