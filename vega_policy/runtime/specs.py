"""What a policy reads and writes, as both ends of the wire agree on it at connect and check it afterwards.

An observation's parts are named by paths: `robot_state/eef/pos`. A sender may nest maps or use flat keys with
slashes, as openpi's robot stacks do; both mean the same.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

PROTOCOL = 1
MAX_AXIS = 8192
MAX_NAMES = 500  # letters
DTYPES = ("uint8", "float", "text")

AHEAD, DELAY = "ahead/actions", "ahead/delay_steps"
"""Of an observation for a policy that continues the chunk being played: the actions of it that are still to
come from the observation on, in the environment's units, and how many of them will have been played when the
answer is there."""

Observation = Mapping[str, Any]


class SpecMismatchError(ValueError):
    """Robot and policy were not made for each other."""


@dataclass(frozen=True)
class Field:
    """A part of an observation, or the actions.

    Attributes:
        dtype: `uint8`, `float` (of any precision) or `text`.
        shape: Lengths of the axes; None for one that may vary.
    """

    dtype: str
    shape: tuple[int | None, ...] = ()

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise ValueError(f"expected a dtype of {', '.join(DTYPES)}, got {self.dtype!r}")

    def check(self, name: str, value: Any) -> None:
        """Refuses a value of another type or shape, and numbers that are not finite.

        Raises:
            ValueError: With the name and what was expected.
        """
        found = describe(value)
        if found is None or not self._allows(found):
            raise ValueError(f"expected {name} to be {self}, got {found or _type_name(value)}")
        if found.dtype == "float" and not np.isfinite(value).all():
            raise ValueError(f"expected {name} to be finite, got {np.asarray(value).ravel()[:8].tolist()}")

    def agrees(self, other: "Field") -> bool:
        """Whether some value satisfies both."""
        same_axes = len(self.shape) == len(other.shape) and all(
            None in pair or pair[0] == pair[1] for pair in zip(self.shape, other.shape, strict=True)
        )
        return self.dtype == other.dtype and same_axes

    def _allows(self, found: "Field") -> bool:
        return self.agrees(found) and all(n is not None and 0 < n <= MAX_AXIS for n in found.shape)

    def __str__(self) -> str:
        if self.dtype == "text":
            return "text"
        return f"{self.dtype} of shape ({', '.join('any' if n is None else str(n) for n in self.shape)})"


def describe(value: Any) -> Field | None:
    """The narrowest field that allows a value; None for what no field allows."""
    if isinstance(value, str):
        return Field("text")
    if not isinstance(value, np.ndarray | np.generic):
        return None
    if value.dtype == np.uint8:
        return Field("uint8", value.shape)
    return Field("float", value.shape) if value.dtype.kind == "f" else None


@dataclass(frozen=True)
class PolicySpec:
    """The contract between a policy and a robot.

    Attributes:
        observation: Fields by path.
        action: The chunk: float, shape (rows, action size).
        control_hz: Rate at which the chunk's rows are meant to be played.
        revision: Which policy this is; compared where a connection is made anew, not with a robot's.
        optional: Further parts, by path, that an observation may have.
    """

    observation: Mapping[str, Field]
    action: Field
    control_hz: float
    revision: str = ""
    optional: Mapping[str, Field] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Field]:
        """Every part that an observation may have."""
        return {**self.observation, **self.optional}

    def select(self, observation: Observation) -> dict[str, Any]:
        """The parts of an observation that the policy reads, by path, checked.

        Raises:
            ValueError: A part is missing, of another type or shape, or not finite; or some of the optional
                parts are there and some are not.
        """
        parts = dict(paths(observation))
        missing = [path for path in self.observation if path not in parts]
        if missing:
            raise ValueError(f"expected the observation to hold {', '.join(missing)}; it has {_names(parts)}")
        present = {path: expected for path, expected in self.known.items() if path in parts}
        for path, expected in present.items():
            expected.check(path, parts[path])
        if 0 < len(present.keys() & self.optional.keys()) < len(self.optional):
            raise ValueError(
                f"expected all of {_names(self.optional)} or none; the observation has {_names(parts)}"
            )
        return {path: parts[path] for path in present}

    def check(self, observation: Observation) -> dict[str, Any]:
        """An observation from the wire, nested; nothing but what the policy reads is let in.

        Raises:
            ValueError: As `select`, and for a part that the policy does not read.
        """
        unknown = [path for path, _ in paths(observation) if path not in self.known]
        if unknown:
            raise ValueError(
                f"expected only {_names(self.known)} in the observation, got also {_names(unknown)}"
            )
        return nest(self.select(observation))

    def refuse_mismatch(self, robot: "PolicySpec") -> None:
        """Compares a policy's contract with what a robot shows and plays.

        Raises:
            SpecMismatchError: With every difference.
        """
        wanted = {**self.observation, "action": self.action}
        offered = {**robot.observation, "action": robot.action}
        faults = [
            f"{path}: the policy has {expected}, the robot {offered.get(path, 'nothing')}"
            for path, expected in wanted.items()
            if path not in offered or not expected.agrees(offered[path])
        ]
        if self.control_hz != robot.control_hz:
            faults.append(
                f"control rate: the policy has {self.control_hz} Hz, the robot {robot.control_hz} Hz"
            )
        if faults:
            raise SpecMismatchError("the policy does not fit this robot; " + "; ".join(faults))

    def to_message(self) -> dict[str, Any]:
        """The server's first message."""
        return {
            "protocol": PROTOCOL,
            "observation": _to_messages(self.observation),
            "optional": _to_messages(self.optional),
            "action": _to_message(self.action),
            "control_hz": self.control_hz,
            "policy_revision": self.revision,
        }

    @classmethod
    def from_message(cls, message: Mapping[str, Any]) -> Self:
        """Reads a server's first message.

        Raises:
            SpecMismatchError: It comes from another kind of server, or another version of this one.
        """
        if message.get("protocol") != PROTOCOL:
            raise SpecMismatchError(
                f"expected a vega-serve server of protocol {PROTOCOL}, its first message is {message!r:.200}"
            )
        return cls(
            _from_messages(message["observation"]),
            _from_message(message["action"]),
            message["control_hz"],
            message["policy_revision"],
            _from_messages(message["optional"]),
        )


def paths(observation: Observation, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every part of an observation with its path."""
    for key, value in observation.items():
        if isinstance(value, Mapping):
            yield from paths(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value


def nest(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The nested observation of parts by path."""
    nested: dict[str, Any] = {}
    for path, value in parts.items():
        *outer, name = path.split("/")
        inner = nested
        for key in outer:
            inner = inner.setdefault(key, {})
        inner[name] = value
    return nested


def libero_spec(cameras: tuple[str, ...], action_dim: int, control_hz: float, revision: str) -> PolicySpec:
    """The contract of a policy for LIBERO's observations.

    Args:
        cameras: Names under `pixels`: raw RGB images, upside down as LIBERO gives them.
        action_dim: Size of an action.
        control_hz: 20 in LIBERO.
        revision: Of the policy.
    """
    state = {"eef/pos": 3, "eef/quat": 4, "gripper/qpos": 2}
    observation = {
        **{f"pixels/{camera}": Field("uint8", (None, None, 3)) for camera in cameras},
        **{f"robot_state/{name}": Field("float", (size,)) for name, size in state.items()},
        "task_description": Field("text"),
    }
    return PolicySpec(observation, Field("float", (None, action_dim)), control_hz, revision)


def _type_name(value: Any) -> str:
    return f"{type(value).__name__} of {getattr(value, 'dtype', 'no dtype')}"


def _names(parts: Iterable[str]) -> str:
    """For an error's text; names that come over the wire may be many and long."""
    names = ", ".join(parts) or "nothing"
    return names if len(names) <= MAX_NAMES else f"{names[:MAX_NAMES]}…"


def continuation(action_dim: int) -> dict[str, Field]:
    """The optional parts of a policy that continues the chunk being played."""
    return {AHEAD: Field("float", (None, action_dim)), DELAY: Field("float")}


def _to_messages(fields: Mapping[str, Field]) -> dict[str, Any]:
    return {path: _to_message(part) for path, part in fields.items()}


def _from_messages(message: Mapping[str, Any]) -> dict[str, Field]:
    return {path: _from_message(part) for path, part in message.items()}


def _to_message(part: Field) -> dict[str, Any]:
    return {"dtype": part.dtype, "shape": list(part.shape)}


def _from_message(message: Mapping[str, Any]) -> Field:
    return Field(message["dtype"], tuple(message["shape"]))
