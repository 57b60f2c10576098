"""LIBERO's own `OffScreenRenderEnv`, run as LIBERO's evaluation runs it: the reference of tests and timings.

It is not told to do anything differently, except that the assets' folder is chosen and that with the stand-in
kit the robot's visuals are the kit's too. It draws both cameras in every control step.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vega_policy.envs.libero.assets import Assets, assets_lent
from vega_policy.envs.libero.installation import import_libero, quiet
from vega_policy.envs.libero.raw import numpy_seeded
from vega_policy.envs.libero.rendering import prepare_gl
from vega_policy.envs.libero.tasks import LiberoTask

SETTLE_STEPS = 10
SETTLE_ACTION = (0, 0, 0, 0, 0, 0, -1)


class PlainLibero:
    """One task in LIBERO's environment.

    Attributes:
        env: LIBERO's `OffScreenRenderEnv`.
    """

    def __init__(self, task: LiberoTask, assets: Assets, image_size_px: int = 256) -> None:
        """Build it; both pictures are square."""
        prepare_gl()
        self._assets = assets
        off_screen = import_libero("libero.libero.envs").OffScreenRenderEnv
        with assets_lent(assets), quiet(), numpy_seeded(0):
            self.env: Any = off_screen(
                bddl_file_name=str(task.bddl_file), camera_heights=image_size_px, camera_widths=image_size_px
            )
        if assets.kind == "standin":
            from vega_policy.envs.libero.standins.robot import lowpoly_xml

            self.env.env.set_xml_processor(lowpoly_xml)

    def reset(self, seed: int, init_state: NDArray[np.float64]) -> Mapping[str, Any]:
        """Seed, reset, set the init state and settle; returns LIBERO's observation."""
        self._make_current()
        with assets_lent(self._assets), quiet(), numpy_seeded(seed):
            self.env.seed(seed)
            self.env.reset()
        observation: Mapping[str, Any] = self.env.set_init_state(init_state)
        for _ in range(SETTLE_STEPS):
            observation, *_ = self.env.step(SETTLE_ACTION)
        return observation

    def step(self, action: NDArray[np.float64]) -> tuple[Mapping[str, Any], bool]:
        """One control step; returns LIBERO's observation and whether the task is solved."""
        observation, _, done, _ = self.env.step(action)
        return observation, bool(done)

    def close(self) -> None:
        """Free the simulation and its GL context."""
        self._make_current()
        self.env.close()

    def _make_current(self) -> None:
        """Make its GL context current, or freeing it would delete another context's objects.

        LIBERO does so on creation only; steps taken after another environment's must follow a reset.
        """
        self.env.sim._render_context_offscreen.gl_ctx.make_current()
