"""Evaluation protocols as data: how long an episode may last, and how long objects settle before it.

The two protocols in use differ on LIBERO-Spatial only (220 or 280 control steps), which is enough to make
success rates incomparable, so the protocol's name travels with every result.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vega_policy.envs.libero.naming import unknown_name


@dataclass(frozen=True)
class Protocol:
    """One way to run LIBERO episodes.

    Attributes:
        name: What the protocol is called on command lines and in results.
        max_steps: Control steps an episode may last, per suite; settle steps are not counted.
        settle_steps: Control steps of standing still between placing the objects and the first observation.
    """

    name: str
    max_steps: Mapping[str, int]
    settle_steps: int = 10


def _limits(spatial: int) -> Mapping[str, int]:
    return MappingProxyType(
        {
            "libero_spatial": spatial,
            "libero_object": 280,
            "libero_goal": 300,
            "libero_10": 520,
            "libero_90": 400,
        }
    )


PROTOCOLS: Mapping[str, Protocol] = MappingProxyType(
    {
        "oft": Protocol("oft", _limits(spatial=220)),  # OpenVLA-OFT's run_libero_eval.py
        "lerobot": Protocol("lerobot", _limits(spatial=280)),  # LeRobot's TASK_SUITE_MAX_STEPS
    }
)


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        ValueError: If there is none; the message names the nearest.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
