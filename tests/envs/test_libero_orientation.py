"""Which way up and which way round LIBERO's pictures are: what geometry on them has to know."""

import numpy as np
import pytest

from vega_policy.envs.libero.env import LiberoEnv

SIDEWAYS_M = 0.08


def centroid(picture: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Mean row and column of the pixels where a picture differs from that of the scene without the object."""
    return np.argwhere((picture != empty).any(axis=2)).mean(axis=0)


@pytest.mark.sim
def test_pictures_are_upside_down_and_turning_them_by_180_degrees_mirrors_them() -> None:
    """LIBERO's rows run upwards (OpenGL); all public LIBERO data is turned by 180 degrees, not flipped.

    So in the turned pictures, which policies see, things to the camera's right are on the left.
    """
    env = LiberoEnv("libero_object", 0, image_size_px=128)
    env.reset(seed=0)
    joint = env.raw.objects[0].joints[-1]
    pose = env.sim.data.get_joint_qpos(joint).copy()
    camera = env.sim.data.cam_xmat[env.sim.model.camera_name2id("agentview")].reshape(3, 3)
    right, up = camera[:, 0], camera[:, 1]

    def picture(offset_m: np.ndarray) -> np.ndarray:
        env.sim.data.set_joint_qpos(joint, np.concatenate([pose[:3] + offset_m, pose[3:]]))
        env.sim.forward()
        env.raw.cameras.capture(env.sim)
        return env.raw.draw("agentview", 128)

    empty = picture(np.array([0, 0, -5.0]))
    start, moved_right, moved_up = (
        centroid(picture(offset_m), empty) for offset_m in (0 * up, SIDEWAYS_M * right, SIDEWAYS_M * up)
    )
    env.close()
    assert moved_right[1] > start[1] + 5, "columns run to the camera's right, before turning"
    assert moved_up[0] > start[0] + 5, "rows run upwards, before turning"
