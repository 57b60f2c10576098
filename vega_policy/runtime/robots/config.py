"""An arm's description in YAML: its rate, its convention for actions and its limits."""

from dataclasses import dataclass, field

from vega_policy.runtime.limits import Limits
from vega_policy.runtime.robots.base import EndEffectorDelta


@dataclass
class ArmConfig:
    """What must be known of an arm before it moves; `configs/robot/panda.yaml` is an example.

    Attributes:
        limits: within which the guard keeps it.
        rate_hz: at which it is read and commanded; LIBERO's policies are trained at 20.
        actions: what a policy's numbers mean.
    """

    limits: Limits
    rate_hz: float = 20.0
    actions: EndEffectorDelta = field(default_factory=EndEffectorDelta)
