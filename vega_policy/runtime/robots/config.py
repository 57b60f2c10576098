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
        cameras: the policy's names, each with the robot's camera that takes its place.
        base_position_m: the arm's base in the frame that the policy was trained in; in LIBERO's world, where
            it stands at the table of the spatial and goal suites.
        image_size_px: height and width of what the policy is shown and what is recorded, even.
    """

    limits: Limits
    rate_hz: float = 20.0
    actions: EndEffectorDelta = field(default_factory=EndEffectorDelta)
    cameras: dict[str, str] = field(default_factory=lambda: {"image": "image", "image2": "image2"})
    base_position_m: tuple[float, float, float] = (-0.66, 0.0, 0.912)
    image_size_px: int = 256

    def __post_init__(self) -> None:
        if not 0 < self.rate_hz < float("inf") or self.image_size_px < 16 or self.image_size_px % 2:
            raise ValueError(
                "expected a positive, finite rate_hz and an even image_size_px of at least 16, got "
                f"{self.rate_hz} and {self.image_size_px}"
            )
