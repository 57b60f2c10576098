"""Readings and commands as messages of the wire, for an arm in another process.

Commands are checked, since they move an arm. Of a reading only the pictures are: whether a state makes sense
is the guard's to say.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vega_policy.runtime.robots.base import ArmState, Command, Frame, Reading
from vega_policy.runtime.specs import Field
from vega_policy.runtime.wire import WireError

COMMAND = {"translation_m": Field("float", (3,)), "rotation_rad": Field("float", (3,))}
STATE = {
    "position_m": Field("float", (3,)),
    "rotation": Field("float", (3, 3)),
    "joints_rad": Field("float", (None,)),
}
PIXELS = Field("uint8", (None, None, 3))


def command_to_message(command: Command) -> dict[str, Any]:
    """A command's numbers."""
    return {
        "translation_m": np.asarray(command.translation_m, np.float64),
        "rotation_rad": np.asarray(command.rotation_rad, np.float64),
        "gripper_width_m": float(command.gripper_width_m),
    }


def command_from_message(message: Mapping[str, Any]) -> Command:
    """A command.

    Raises:
        WireError: Something is missing, of another shape or not finite.
    """
    parts = _checked(message, COMMAND)
    width_m = message.get("gripper_width_m")
    if not isinstance(width_m, float) or not np.isfinite(width_m):
        raise WireError(f"expected gripper_width_m to be a finite number, got {width_m!r:.80}")
    return Command(parts["translation_m"], parts["rotation_rad"], width_m)


def reading_to_message(reading: Reading, sent_frames_s: Mapping[str, float]) -> dict[str, Any]:
    """A reading, without the pictures that were sent before.

    Args:
        reading: what is at hand.
        sent_frames_s: by camera, when the last picture was taken that the other end has.
    """
    state = reading.state
    return {
        "state": {
            "time_s": float(state.time_s),
            "position_m": np.asarray(state.position_m, np.float64),
            "rotation": np.asarray(state.rotation, np.float64),
            "joints_rad": np.asarray(state.joints_rad, np.float64),
            "gripper_width_m": float(state.gripper_width_m),
        },
        "frames": {
            name: {"time_s": float(frame.time_s), "pixels": np.ascontiguousarray(frame.pixels)}
            for name, frame in reading.frames.items()
            if frame.time_s > sent_frames_s.get(name, -np.inf)
        },
    }


def reading_from_message(message: Mapping[str, Any], known: Mapping[str, Frame], offset_s: float) -> Reading:
    """A reading on another clock.

    Args:
        message: as `reading_to_message` makes it.
        known: pictures that came with earlier messages.
        offset_s: added to all times.

    Raises:
        WireError: It is no such message.
    """
    try:
        state, frames = message["state"], message["frames"]
        parts = {name: state[name] for name in STATE}
        arm = ArmState(
            float(state["time_s"]) + offset_s, **parts, gripper_width_m=float(state["gripper_width_m"])
        )
        new = {
            name: Frame(frame["pixels"], float(frame["time_s"]) + offset_s) for name, frame in frames.items()
        }
        for frame in new.values():
            PIXELS.check("pixels", frame.pixels)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"expected an arm's reading, got something else: {error!r}") from error
    return Reading(arm, {**known, **new})


def _checked(message: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any]:
    try:
        for name, field in fields.items():
            field.check(name, message.get(name))
    except ValueError as error:
        raise WireError(str(error)) from error
    return {name: message[name] for name in fields}
