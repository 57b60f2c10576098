"""What a running policy remembers between calls: the frames it saw and the actions it still owes."""

from collections import deque

import torch
from jaxtyping import Float
from torch import Tensor

from vega_policy.cameras import Clips


class FrameHistory:
    """The last frames of an episode as clips, oldest first; before enough were seen the oldest repeats."""

    def __init__(self, length: int) -> None:
        self._frames: deque[Clips] = deque(maxlen=length)
        self._length = length

    def extend(self, newest: Clips) -> Clips:
        """Takes the newest frame of every camera in and gives the clips that end with it.

        Raises:
            ValueError: The cameras or the batch changed since the policy's last `reset`.
        """
        newest = tuple(clip[:, -1:] for clip in newest)
        self._refuse_change([clip.shape for clip in newest])
        self._frames.append(newest)
        frames = [self._frames[0]] * (self._length - len(self._frames)) + list(self._frames)
        return tuple(torch.cat(camera, dim=1) for camera in zip(*frames, strict=True))

    def _refuse_change(self, shapes: list[torch.Size]) -> None:
        before = [clip.shape for clip in self._frames[-1]] if self._frames else shapes
        if before != shapes:
            raise ValueError(
                f"expected frames of shapes {[tuple(shape) for shape in before]} as before, got "
                f"{[tuple(shape) for shape in shapes]}: call reset() before another batch of episodes"
            )


class ActionQueue:
    """A chunk played row by row, for environments that take one action at a time."""

    def __init__(self, num_actions: int) -> None:
        self._num_actions = num_actions
        self._actions: deque[Tensor] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether a new chunk is needed."""
        return not self._actions

    def fill(self, chunk: Float[Tensor, "batch chunk action_dim"]) -> None:
        """Replaces what is queued by the first actions of a chunk."""
        self._actions = deque(chunk[:, : self._num_actions].unbind(dim=1))

    def pop(self) -> Float[Tensor, "batch action_dim"]:
        """The next action of every sample."""
        return self._actions.popleft()
