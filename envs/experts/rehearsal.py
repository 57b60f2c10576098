"""A scratch copy of the simulation in which hand and object poses are tried before they are commanded.

Inverse kinematics puts the whole arm where the controller would put it (same null-space posture), and
MuJoCo's own collision test then says what it would touch: link against link, no hand-made boxes. Time never
advances here.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from vega_policy.envs.experts.geometry import Pose, rotation_vector
from vega_policy.envs.experts.world import ROBOT, World

MARGIN_M = 0.003
ROOM_M = 0.03  # that far off, an imitator's hand should still touch nothing
LEVEL = 0.8  # vertical component up to which a gap counts as one to the side
TIGHT_COST_PER_M = 40.0
OPEN_M = 0.08
MOVABLE_WEIGHT = 0.3  # brushing a free object is a smaller fault than hitting a wall
ITERATIONS = 25
DAMPING = 1e-5
STEP_LIMIT_RAD = 0.3
LIMIT_MARGIN_RAD, LIMIT_COMFORT_RAD = 0.05, 0.25
ELBOW = 3
STRAIGHT_ELBOW_RAD = -0.8  # nearer to zero the controller tracks badly and at last cannot pull the arm back
WRIST, STRAIGHT_WRIST_RAD = 5, np.pi - 0.25  # at pi the joints beside it turn alike; to get past, they spin

ArmQ = Float[np.ndarray, "7"]


@dataclass(frozen=True)
class Reach:
    """An arm configuration and how far (m, with rad weighted 0.1) its hand is from the pose asked for."""

    q: ArmQ
    error: float


class Rehearsal:
    """Tries poses against the current state of a `World`; call `refresh` when that has moved on."""

    def __init__(self, world: World):
        import mujoco

        self._mujoco = mujoco
        self._world = world
        self._model = copy.deepcopy(world.model)
        self._model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_OVERRIDE
        self._model.opt.o_margin = MARGIN_M
        self._data = mujoco.MjData(self._model)
        self._limits = self._model.jnt_range[self._model.dof_jntid[world.arm_dofs]]
        self._movable = world.movable_geoms
        self._moving = self._geoms_of_moving_links()
        self.refresh()

    def _geoms_of_moving_links(self) -> np.ndarray:
        """Leave out the base and the first link: nothing planned here changes what they touch."""
        fixed = {"robot0_base", "robot0_link0", "robot0_link1"}
        bodies = [self._model.body(body).name for body in self._model.geom_bodyid]
        still = np.array([name in fixed or name.startswith("mount0") for name in bodies])
        return (self._world.owners == ROBOT) & ~still

    def refresh(self) -> None:
        """Copy the live positions."""
        self._qpos = self._world.data.qpos.copy()
        self._data.qpos[:] = self._qpos

    def set_joint(self, joint: str, q: float) -> None:
        """Pretend a fixture's joint is at `q` until the next refresh."""
        self._qpos[self._model.joint(joint).qposadr[0]] = q

    def set_object(self, name: str, pose: Pose) -> None:
        """Pretend a free object is at `pose` until the next refresh."""
        self._place(self._qpos, name, pose)

    def reach(self, hand: Pose, start_q: ArmQ | None = None) -> Reach:
        """Solve for the arm configuration with the grip site at `hand` (damped least squares).

        It starts from the reset posture, to which the controller's null space pulls too, or from `start_q`.
        """
        q = (self._world.home_q if start_q is None else start_q).copy()
        self._data.qpos[:] = self._qpos
        jacobian = np.zeros((6, self._model.nv))
        for _ in range(ITERATIONS):
            error = self._error(q, hand)
            if np.linalg.norm(error[:3]) < 1e-3 and np.linalg.norm(error[3:]) < 1e-2:
                break
            self._mujoco.mj_comPos(self._model, self._data)
            self._mujoco.mj_jacSite(self._model, self._data, jacobian[:3], jacobian[3:], self._world.site_id)
            q = np.clip(q + self._step(jacobian[:, self._world.arm_dofs], error, q), *self._bounds)
        return Reach(q, float(np.linalg.norm(error[:3]) + 0.1 * np.linalg.norm(error[3:])))

    def hand_at(self, q: ArmQ) -> Pose:
        """Return the grip site's pose for an arm configuration."""
        self._data.qpos[:] = self._qpos
        return self._hand(q)

    @property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return self._limits[:, 0] + LIMIT_MARGIN_RAD, self._limits[:, 1] - LIMIT_MARGIN_RAD

    def _error(self, q: ArmQ, hand: Pose) -> Float[np.ndarray, 6]:
        now = self._hand(q)
        turn = rotation_vector(hand.rotation @ now.rotation.T)
        return np.concatenate([hand.position - now.position, turn])

    def _hand(self, q: ArmQ) -> Pose:
        self._data.qpos[self._world.arm_qpos] = q
        self._mujoco.mj_kinematics(self._model, self._data)
        site = self._data.site(self._world.site_id)
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    def _step(self, jacobian: Float[np.ndarray, "6 7"], error: Float[np.ndarray, 6], q: ArmQ) -> ArmQ:
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING * np.eye(6))
        posture = 0.1 * (np.eye(7) - inverse @ jacobian) @ (self._world.home_q - q)
        return np.clip(inverse @ error + posture, -STEP_LIMIT_RAD, STEP_LIMIT_RAD)

    def arm_cost(
        self,
        reach: Reach,
        *,
        carried: tuple[str, Pose] | None = None,
        near: Collection[int] = (),
        opening_m: float = OPEN_M,
        touch_m: float = 0.001,
    ) -> float:
        """Return how bad an arm configuration is: 0 means reached, elbow and wrist bent, clear of everything.

        Args:
            reach: The configuration.
            carried: An object moved along by the hand, and its pose; what it touches does not count.
            near: Geoms that may be touched.
            opening_m: Distance between the finger pads.
            touch_m: How deep those may be entered.
        """
        self._assume(reach.q, opening_m, carried)
        straight = max(0.0, float(reach.q[ELBOW]) - STRAIGHT_ELBOW_RAD)
        aligned = max(0.0, float(reach.q[WRIST]) - STRAIGHT_WRIST_RAD)
        posture = straight + aligned + 2.0 * self._discomfort(reach.q)
        ignore = carried[0] if carried else ""
        return 20.0 * max(0.0, reach.error - 0.004) + posture + self._intrusion(near, touch_m, ignore)

    def tightness(self, reach: Reach, carried: tuple[str, Pose]) -> float:
        """Return a cost for less than `ROOM_M` to the side between the arm, its fingers open, and anything.

        Args:
            reach: The configuration.
            carried: The object between the fingers, and its pose.
        """
        self._assume(reach.q, OPEN_M, carried)
        self._model.opt.o_margin = ROOM_M
        _, gaps = self._gaps(self._moving, carried[0], steepest=LEVEL)
        self._model.opt.o_margin = MARGIN_M  # a wide one makes depths inexact
        return TIGHT_COST_PER_M * float(ROOM_M - max(gaps.min(initial=ROOM_M), 0.0))

    def _assume(self, arm_q: ArmQ, opening_m: float, carried: tuple[str, Pose] | None) -> None:
        self._data.qpos[:] = self._qpos
        self._data.qpos[self._world.arm_qpos] = arm_q
        self._data.qpos[self._world.finger_qpos] = np.array([0.5, -0.5]) * opening_m
        if carried is not None:
            self._place(self._data.qpos, *carried)

    def _discomfort(self, q: ArmQ) -> float:
        """Sum (rad) how far the joints are inside the last quarter radian before a limit."""
        room = np.minimum(q - self._limits[:, 0], self._limits[:, 1] - q)
        return float(np.clip(LIMIT_COMFORT_RAD - room, 0.0, None).sum())

    def object_depth(self, name: str, pose: Pose) -> float:
        """Return how deep (m) an object at `pose` would sit in anything but the robot."""
        self._data.qpos[:] = self._qpos
        self._place(self._data.qpos, name, pose)
        gaps = self._gaps(self._world.owners == name, ignore=ROBOT)[1]
        return float(np.clip(-gaps, 0.0, None).max(initial=0.0))

    def _place(self, qpos: Float[np.ndarray, " nq"], name: str, pose: Pose) -> None:
        address = self._world.free_joint_address(name)
        qpos[address : address + 3] = pose.position
        self._mujoco.mju_mat2Quat(qpos[address + 3 : address + 7], pose.rotation.ravel())

    def _intrusion(self, near: Collection[int], touch_m: float, ignore: str) -> float:
        """Sum, in centimetres, how far the arm's links come nearer than the margin to anything."""
        others, gaps = self._gaps(self._moving, ignore)
        allowed = np.where(np.isin(others, list(near)), -touch_m, MARGIN_M)
        weights = np.where(self._movable[others], MOVABLE_WEIGHT, 1.0)
        return float(100.0 * (weights * np.clip(allowed - gaps, 0.0, 0.05)).sum())

    def _gaps(self, moving: np.ndarray, ignore: str, steepest: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
        """Return geom and distance (m, negative inside) of what is near the moving geoms."""
        self._mujoco.mj_kinematics(self._model, self._data)
        self._mujoco.mj_collision(self._model, self._data)
        pairs, gaps = self._data.contact.geom, self._data.contact.dist
        ours = moving[pairs]
        others = np.where(ours[:, 0], pairs[:, 1], pairs[:, 0])
        relevant = (ours[:, 0] != ours[:, 1]) & (self._world.owners[others] != ignore)
        relevant &= np.abs(self._data.contact.frame[:, 2]) <= steepest + 1e-6
        return others[relevant], gaps[relevant]
