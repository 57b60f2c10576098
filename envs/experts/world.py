"""What the expert sees: poses, heights, contacts and predicates of a running LIBERO simulation, read live.

Everything is privileged simulator state; nothing here moves anything. Lengths are metres in the world frame.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from vega_policy.envs.experts.geometry import Pose, Vector
from vega_policy.envs.experts.goal import Subgoal, parse
from vega_policy.envs.experts.surface import PLANE, Surface, sample

ROBOT = "robot"
SCENERY = "scenery"
GRAZE_M, CLEAR_M = 0.006, 0.03
RESTING_M_S = 0.01  # closing on nothing, the pads near each other at 0.2 m/s
COASTING_S = 0.041
"""Distance over speed at which OSC_POSE stops the hand where it is asked to stay: critically damped, with a
stiffness of 150 / s^2 (robosuite's `osc_pose.json`), it comes to rest after v / (2 sqrt(150 / s^2))."""


class World:
    """A live view of LIBERO's environment `raw` (its robosuite object) between two resets."""

    def __init__(self, raw: Any):
        import mujoco

        self._mujoco = mujoco
        self._raw = raw
        self.model: Any = raw.sim.model._model
        self.data: Any = raw.sim.data._data
        robot = raw.robots[0]
        self.site_id: int = robot.eef_site_id
        self.arm_qpos: Int[np.ndarray, 7] = np.array(robot._ref_joint_pos_indexes)
        self.arm_dofs: Int[np.ndarray, 7] = np.array(robot._ref_joint_vel_indexes)
        self.finger_qpos: Int[np.ndarray, 2] = np.array(robot._ref_gripper_joint_pos_indexes)
        self.finger_dofs: Int[np.ndarray, 2] = np.array(robot._ref_gripper_joint_vel_indexes)
        self.home_q: Float[np.ndarray, 7] = np.array(robot.init_qpos)
        self.base: Vector = self.data.body(robot.robot_model.root_body).xpos.copy()
        self.owners = self._name_owners()
        self._fingers = [
            self._geoms(robot.gripper.important_geoms[key]) for key in ("left_finger", "right_finger")
        ]
        self.solid_geoms = np.flatnonzero(self.model.geom_contype | self.model.geom_conaffinity)
        planes = self.model.geom_type[self.solid_geoms] == PLANE
        self._obstacles = self.solid_geoms[~planes & (self.owners[self.solid_geoms] != ROBOT)]
        self._surfaces: dict[str, Surface] = {}

    def _name_owners(self) -> np.ndarray:
        """Name, for every geom, the object, fixture or robot it belongs to."""
        roots = {self.root(name): name for name in self._raw.obj_body_id}
        owners = []
        for body in self.model.geom_bodyid:
            root = self.model.body_rootid[body]
            name = self.model.body(root).name
            is_robot = name.startswith(("robot0", "gripper0", "mount0"))
            owners.append(ROBOT if is_robot else roots.get(root, SCENERY))
        return np.array(owners)

    @property
    def movable_geoms(self) -> np.ndarray:
        """Say for every geom whether it can be pushed aside: those of free objects can."""
        return np.isin(self.owners, list(self._raw.objects_dict))

    def _geoms(self, names: Collection[str]) -> set[int]:
        return {self.model.geom(name).id for name in names}

    def root(self, name: str) -> int:
        """Return the id of the body that carries an object's or a fixture's pose."""
        return int(self._raw.obj_body_id[name])

    @property
    def goal(self) -> list[Subgoal]:
        """The task's goal, in the order of its BDDL file."""
        return parse(self._raw.parsed_problem["goal_state"])

    def holds(self, subgoal: Subgoal) -> bool:
        """Whether LIBERO counts the subgoal as reached right now."""
        return bool(self._raw._eval_predicate(subgoal.as_state()))

    @property
    def hand(self) -> Pose:
        """The grip site: z is the approach direction, x the axis along which the fingers close."""
        return Pose(
            self.data.site_xpos[self.site_id].copy(), self.data.site_xmat[self.site_id].reshape(3, 3).copy()
        )

    @property
    def hand_at_rest(self) -> Pose:
        """Where the hand, turned as it is now, comes to rest if no more motion is asked of it."""
        velocity = np.zeros(6)
        site = self._mujoco.mjtObj.mjOBJ_SITE
        self._mujoco.mj_objectVelocity(self.model, self.data, site, self.site_id, velocity, 0)
        return self.hand.moved(COASTING_S * velocity[3:])

    @property
    def arm_q(self) -> Float[np.ndarray, 7]:
        """Joint angles of the arm in radians."""
        return self.data.qpos[self.arm_qpos].copy()

    @property
    def opening_m(self) -> float:
        """Distance between the finger pads."""
        return float(np.abs(self.data.qpos[self.finger_qpos]).sum())

    @property
    def fingers_rest(self) -> bool:
        """Whether the finger pads do not move, for what is between them or for being at an end."""
        return float(np.abs(self.data.qvel[self.finger_dofs]).sum()) < RESTING_M_S

    def is_object(self, name: str) -> bool:
        """Whether `name` is a free object (not a fixture, not a region)."""
        return name in self._raw.objects_dict

    def region(self, name: str) -> Any | None:
        """Return LIBERO's site object of a region, or None if `name` is no region."""
        return self._raw.object_sites_dict.get(name)

    def fixture(self, name: str) -> Any | None:
        """Return LIBERO's fixture called `name`, or None."""
        return self._raw.fixtures_dict.get(name)

    def pose(self, name: str) -> Pose:
        """Return the pose of an object or a fixture: its origin, which LIBERO's predicates look at."""
        body = self.root(name)
        return Pose(self.data.xpos[body].copy(), self.data.xmat[body].reshape(3, 3).copy())

    def free_joint_address(self, name: str) -> int:
        """Return where an object's position (3) and quaternion (4, wxyz) begin in `qpos`."""
        return int(self.model.jnt_qposadr[self.model.body_jntadr[self.root(name)]])

    def site(self, name: str) -> Pose:
        """Return the pose of a region's site."""
        site = self.data.site(name)
        return Pose(site.xpos.copy(), site.xmat.reshape(3, 3).copy())

    def centre_of_mass(self, name: str) -> Vector:
        """Return an object's centre of mass."""
        return self.data.subtree_com[self.root(name)].copy()

    def geoms_of(self, name: str) -> list[int]:
        """Return the ids of an object's or fixture's collision geoms."""
        return [int(geom) for geom in self.solid_geoms if self.owners[geom] == name]

    def surface(self, name: str) -> Surface:
        """Return the surface of an object, in the world frame; sampled once, then moved along."""
        if name not in self._surfaces:
            own = self.pose(name).inverse()
            self._surfaces[name] = sample(self.model, self.data, self.geoms_of(name)).seen_from(own)
        return self._surfaces[name].seen_from(self.pose(name))

    def bounds(self, geoms: np.ndarray | list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return lower and upper corners (n, 3) of geoms' boxes along the world axes."""
        matrices = self.data.geom_xmat[geoms].reshape(-1, 3, 3)
        centres, halves = self.model.geom_aabb[geoms, :3], self.model.geom_aabb[geoms, 3:]
        middle = self.data.geom_xpos[geoms] + np.einsum("nij,nj->ni", matrices, centres)
        reach = np.einsum("nij,nj->ni", np.abs(matrices), halves)
        return middle - reach, middle + reach

    def extent(self, name: str) -> tuple[Vector, Vector]:
        """Return the lower and upper corner of the world-aligned box around an object."""
        low, high = self.bounds(self.geoms_of(name))
        return low.min(axis=0), high.max(axis=0)

    def objects_on(self, geoms: Collection[int]) -> list[str]:
        """Return the free objects that touch one of these geoms, and whose middle is over all of them."""
        pairs, ours = self.contacts(), list(geoms)
        touching = set(self.owners[pairs[np.isin(pairs, ours).any(axis=1)]].ravel())
        lows, highs = self.bounds(ours)
        low, high = lows.min(axis=0)[:2], highs.max(axis=0)[:2]
        middles = {name: self.centre_of_mass(name)[:2] for name in self._raw.objects_dict if name in touching}
        return [name for name, middle in middles.items() if ((low < middle) & (middle < high)).all()]

    def height_along(
        self, start: Vector, end: Vector, radius_m: float, ignore: Collection[str] = ()
    ) -> float:
        """Return the top of the highest obstacle in a corridor between two points (seen from above)."""
        geoms = self._obstacles[~np.isin(self.owners[self._obstacles], list(ignore))]
        low, high = self.bounds(geoms)
        count = 2 + int(np.linalg.norm((end - start)[:2]) / 0.03)
        stations = start[:2] + np.linspace(0.0, 1.0, count)[:, None] * (end - start)[:2]
        inside = (stations[:, None] > low[:, :2] - radius_m) & (stations[:, None] < high[:, :2] + radius_m)
        hit = inside.all(axis=2).any(axis=0)
        return float(high[hit, 2].max(initial=0.0))

    def way_from_under(self, name: str) -> Vector:
        """Return the shortest level way by which an object gets out from under an overhang; 0 if none."""
        low, high = self.extent(name)
        fixed = self._obstacles[~np.isin(self.owners[self._obstacles], [name, *self._raw.objects_dict])]
        lows, highs = self.bounds(fixed)
        over = (lows[:, :2] < high[:2] + GRAZE_M).all(axis=1) & (highs[:, :2] > low[:2] - GRAZE_M).all(axis=1)
        over &= (lows[:, 2] > low[2] + GRAZE_M) & (highs[:, 2] > high[2])
        if not over.any():
            return np.zeros(3)
        shifts = np.zeros((4, 3))
        shifts[[0, 1], [0, 1]] = highs[over].max(axis=0)[:2] - low[:2] + CLEAR_M
        shifts[[2, 3], [0, 1]] = lows[over].min(axis=0)[:2] - high[:2] - CLEAR_M
        return shifts[np.abs(shifts).sum(axis=1).argmin()]

    def speed(self, name: str) -> float:
        """Return how fast (m/s) an object moves."""
        address = self.model.jnt_dofadr[self.model.body_jntadr[self.root(name)]]
        return float(np.linalg.norm(self.data.qvel[address : address + 3]))

    def contacts(self) -> Int[np.ndarray, "n 2"]:
        """Return the geom pairs in contact."""
        return self.data.contact.geom[: self.data.ncon]

    def is_pinched(self, name: str) -> bool:
        """Whether both fingers touch the object."""
        pairs = self.contacts()
        return all(self._touches(pairs, finger, name) for finger in self._fingers)

    def _touches(self, pairs: np.ndarray, geoms: set[int], name: str) -> bool:
        finger = np.isin(pairs, list(geoms))
        owned = self.owners[pairs] == name
        return bool((finger[:, ::-1] & owned).any())

    def held_object(self) -> str | None:
        """Return the object between the fingers, if any."""
        return next((name for name in self._raw.objects_dict if self.is_pinched(name)), None)

    def joint_of(self, name: str) -> str | None:
        """Return the joint that an `open`, `close`, `turnon` or `turnoff` of this name is about."""
        region = self.region(name)
        joints = region.joints if region is not None else self._raw.get_object(name).joints
        return joints[0] if joints else None

    def joint_q(self, joint: str) -> float:
        """Return a one-dimensional joint's position (m or rad)."""
        return float(self.data.joint(joint).qpos[0])

    def slides(self, joint: str) -> bool:
        """Say whether a joint slides, in metres, rather than turns, in radians."""
        import mujoco

        return bool(self.model.joint(joint).type[0] == mujoco.mjtJoint.mjJNT_SLIDE)

    def parent_of(self, region: str) -> str | None:
        """Return the object or fixture that a region belongs to; None for regions of a table."""
        return self._raw.object_sites_dict[region].parent_name

    def container_of(self, region: str | None) -> str | None:
        """Return what opens and closes around a region: itself (a drawer), its fixture, or nothing."""
        site = self.region(region) if region is not None else None
        fixture = None if site is None else self.fixture(site.parent_name)
        if site is None or fixture is None:
            return None
        if site.joints:
            return region
        return site.parent_name if fixture.joints else None
