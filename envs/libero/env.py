"""LIBERO as a gymnasium environment: exact, fast between decisions, and independent of history.

One call of `step` takes one action or a chunk of them. Pictures are drawn only for the observation that is
returned, yet equal what LIBERO itself returns at that step. They are upside down as LIBERO's are; turning
them by 180 degrees is the business of the policy's processor, as in LeRobot.
"""

import os
from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium.error import ResetNeeded
from numpy.typing import ArrayLike, NDArray

from vega_policy.envs.libero.assets import resolve_assets
from vega_policy.envs.libero.installation import installed_versions, version_warnings
from vega_policy.envs.libero.naming import unknown_name
from vega_policy.envs.libero.protocols import protocol_named
from vega_policy.envs.libero.raw import CONTROL_FREQUENCY_HZ, build_raw_env
from vega_policy.envs.libero.rendering import GL_VARIABLE, Image, choose_gl_backend
from vega_policy.envs.libero.spaces import (
    CAMERAS,
    CONTROL_MODES,
    action_space,
    checked_chunk,
    observation_space,
)
from vega_policy.envs.libero.tasks import find_task, load_init_states

PLACEMENTS = ("init_state", "random")
STAND_STILL = np.array([0.0] * 6 + [-1.0])
"""LIBERO's settle action: no motion, gripper open."""

Observation = dict[str, Any]


class LiberoEnv(gymnasium.Env[Observation, NDArray[Any]]):
    """One LIBERO task.

    Actions are (7,) or chunks (T, 7) at 20 Hz: x, y, z, three rotations, gripper (-1 opens, 1 closes). With
    control mode "relative" they are in [-1, 1] in units of LIBERO's OSC limits (0.05 m and 0.5 rad a step;
    beyond them the controller clips); with "absolute" they are the end effector's target in the world frame,
    in m and as a rotation vector in rad. A chunk stops where the episode ends: at success (or the asked-for
    number of steps after it) and at the protocol's step limit.

    Observations are LeRobot's: `pixels` (`image` from the agent view, `image2` from the wrist; absent without
    images), `robot_state` (end effector `pos` in m in the world frame, `quat` as xyzw, `mat`; gripper and
    joint positions and velocities in rad or m, and per s) and `task_description`.

    Attributes:
        record_frames: Whether `step` also returns the upright agent view of every control step, as
            `info["frames"]`.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": CONTROL_FREQUENCY_HZ}  # noqa: RUF012

    def __init__(
        self,
        suite: str,
        task_id: int,
        *,
        protocol: str = "oft",
        assets: str | os.PathLike[str] = "auto",
        image_size_px: int = 256,
        control_mode: str = "relative",
        images: bool = True,
        steps_after_success: int = 0,
        strict: bool = False,
        render_mode: str | None = None,
    ) -> None:
        """Look everything up; the simulation is built at the first reset, in the process that steps it.

        Args:
            suite: A name from `tasks.SUITES`.
            task_id: The task's position in the suite.
            protocol: "oft" or "lerobot": step limit and settle steps.
            assets: "auto", "official", "standin" or a folder; see `assets.resolve_assets`.
            image_size_px: Height and width of both pictures.
            control_mode: "relative" or "absolute".
            images: Whether observations have pictures; without them no GL is needed.
            steps_after_success: Control steps that an episode goes on after the first success, which LIBERO
                often sees while the object is still held. The step limit then no longer counts.
            strict: Refuse a mujoco version that changes results, instead of warning in `provenance`.
            render_mode: None or "rgb_array".

        Raises:
            ValueError: For an unknown suite, protocol or control mode, or a task id outside the suite.
            FileNotFoundError: If official assets were asked for and not found.
            RuntimeError: If strict, and the installed mujoco changes results.
        """
        if control_mode not in CONTROL_MODES:
            raise unknown_name("control mode", control_mode, CONTROL_MODES)
        self.warnings = version_warnings()
        if strict and self.warnings:
            raise RuntimeError("; ".join(self.warnings))
        self.task = find_task(suite, task_id)
        self.protocol = protocol_named(protocol)
        self.assets = resolve_assets(assets)
        self.init_states = load_init_states(self.task)
        self.image_size_px = image_size_px
        self.control_mode = control_mode
        self.images = images
        self.steps_after_success = steps_after_success
        self.render_mode = render_mode
        self.record_frames = False
        self.observation_space = observation_space(image_size_px if images else None)
        self.action_space = action_space(control_mode)
        self._raw: Any = None
        self._steps = self._last_step = 0
        self._running = self._solved = False
        self._trial: int | None = None
        self._raw_observation: Mapping[str, Any] = {}
        self._pixels: dict[str, Image] | None = None

    @property
    def raw(self) -> Any:
        """LIBERO's own environment (a robosuite one), for experts and tests; built on first use."""
        if self._raw is None:
            self._raw = build_raw_env(self.task, self.assets, self.images)
        return self._raw

    @property
    def sim(self) -> Any:
        """The robosuite simulation; a reset replaces it."""
        return self.raw.sim

    @property
    def task_description(self) -> str:
        """The instruction."""
        return self.task.language

    @property
    def max_steps(self) -> int:
        """Control steps an episode may last."""
        return self.protocol.max_steps[self.task.suite]

    def reset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Start an episode; (task, trial, seed) alone determine it.

        Args:
            seed: In [0, 2**32): where fixtures stand. None draws one from the environment's own generator.
            options: `trial` is the position of the init state, 0 when absent. With `placement` "random"
                instead of "init_state", the task's own rules place everything anew from the seed, and
                `trial` must be absent.

        Raises:
            ValueError: For an unknown option or placement, or a trial or seed out of range.
        """
        super().reset(seed=seed)
        self._trial = self._checked_trial(options or {})
        drawn = int(self.np_random.integers(2**32)) if seed is None else seed
        if not 0 <= drawn < 2**32:
            raise ValueError(f"seed {seed} is outside [0, 2**32)")
        init_state = None if self._trial is None else self.init_states[self._trial]
        self._raw_observation = self.raw.restart(drawn, init_state)
        for _ in range(self.protocol.settle_steps):
            self._raw_observation, *_ = self._raw.step(STAND_STILL)
        for robot in self._raw.robots:
            robot.controller.use_delta = self.control_mode == "relative"
        self._steps, self._last_step = 0, self.max_steps
        self._running, self._solved = True, False
        return self._observation(), {**self._info(executed=0), "seed": drawn}

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Perform one action or a chunk of them.

        Args:
            action: Shape (7,) or (T, 7), finite; see the class for units.

        Returns:
            The observation after the last performed action; LIBERO's reward (1 while the goal holds, else
            0); whether the episode ended in success; whether the step limit is reached unsolved; and info:
            `is_success` (the goal held at some step), `executed` (control steps performed), `steps` (those
            of the episode), `task`, `trial` and `init_state_id` (both None after a random placement).

        Raises:
            ValueError: For an action of another shape, or one that is not finite.
            gymnasium.error.ResetNeeded: Before the first reset and after the end of an episode.
        """
        chunk = checked_chunk(action)
        if not self._running:
            raise ResetNeeded("the episode has not begun or is over: call reset() before step()")
        frames: list[Image] = []
        reward, executed = 0.0, 0
        for row in chunk:
            self._raw_observation, reward, success, _ = self._raw.step(row)
            executed += 1
            self._count_step(bool(success))
            if self.record_frames:
                frames.append(self._draw("image")[::-1, ::-1])
            if not self._running:
                break
        info = self._info(executed)
        if self.record_frames:
            info["frames"] = frames
        ended = not self._running
        return self._observation(), float(reward), ended and self._solved, ended and not self._solved, info

    def render(self) -> Image:
        """The agent view of the last observation, upright.

        Raises:
            ValueError: If the environment was built without images.
            gymnasium.error.ResetNeeded: Before the first reset.
        """
        if not self.images:
            raise ValueError("this environment was built without images; build it with images=True")
        if self._pixels is None:
            raise ResetNeeded("there is no observation yet: call reset() before render()")
        return self._pixels["image"][::-1, ::-1]

    def close(self) -> None:
        """Free the simulation; a later reset builds it anew."""
        if self._raw is not None:
            self._raw.close()
        self._raw = None
        self._running = False

    def provenance(self) -> dict[str, Any]:
        """What a result depends on: task, protocol, assets and their hash, versions, GL backend, warnings."""
        return {
            "suite": self.task.suite,
            "task_id": self.task.task_id,
            "task": self.task.name,
            "protocol": self.protocol.name,
            "max_steps": self.max_steps,
            "settle_steps": self.protocol.settle_steps,
            "control_mode": self.control_mode,
            "control_frequency_hz": CONTROL_FREQUENCY_HZ,
            "image_size_px": self.image_size_px,
            "assets": self.assets.kind,
            "assets_folder": str(self.assets.folder),
            "assets_hash": self.assets.content_hash,
            **installed_versions(),
            GL_VARIABLE: choose_gl_backend(),
            "warnings": list(self.warnings),
        }

    def _checked_trial(self, options: Mapping[str, Any]) -> int | None:
        """The trial that reset's options name; None for a random placement."""
        for name in options:
            if name not in ("trial", "placement"):
                raise unknown_name("reset option", name, ["trial", "placement"])
        placement = options.get("placement", "init_state")
        if placement not in PLACEMENTS:
            raise unknown_name("placement", placement, PLACEMENTS)
        if placement == "random":
            if "trial" in options:
                raise ValueError("a random placement loads no init state: leave out the option trial")
            return None
        trial = int(options.get("trial", 0))
        if not 0 <= trial < len(self.init_states):
            last = len(self.init_states) - 1
            raise ValueError(f"trial {trial} is out of range: {self.task.name} has init states 0..{last}")
        return trial

    def _count_step(self, success: bool) -> None:
        """Find out whether the episode ends with the step just performed."""
        self._steps += 1
        if success and not self._solved:
            self._solved, self._last_step = True, self._steps + self.steps_after_success
        self._running = self._steps < self._last_step

    def _info(self, executed: int) -> dict[str, Any]:
        return {
            "is_success": self._solved,
            "executed": executed,
            "steps": self._steps,
            "task": self.task.name,
            "trial": self._trial,
            "init_state_id": self._trial,
        }

    def _observation(self) -> Observation:
        """LIBERO's last observation in LeRobot's layout, with the pictures drawn now."""
        raw = self._raw_observation
        observation: Observation = {
            "robot_state": {
                "eef": {
                    "pos": raw["robot0_eef_pos"].copy(),
                    "quat": raw["robot0_eef_quat"].copy(),
                    "mat": self._raw.robots[0].controller.ee_ori_mat.copy(),
                },
                "gripper": {
                    "qpos": raw["robot0_gripper_qpos"].copy(),
                    "qvel": raw["robot0_gripper_qvel"].copy(),
                },
                "joints": {"pos": raw["robot0_joint_pos"].copy(), "vel": raw["robot0_joint_vel"].copy()},
            },
            "task_description": self.task_description,
        }
        if self.images:
            self._pixels = {key: self._draw(key) for key in CAMERAS}
            observation["pixels"] = dict(self._pixels)
        return observation

    def _draw(self, key: str) -> Image:
        """Draw a camera of the observation as it is now, upside down."""
        picture: Image = self._raw.draw(CAMERAS[key], self.image_size_px)
        return picture
