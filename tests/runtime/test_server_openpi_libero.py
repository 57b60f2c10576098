"""openpi's LIBERO observations become LIBERO's own again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from scipy.spatial.transform import Rotation
from served import serving

from vega_policy.runtime.batching import Chunk
from vega_policy.runtime.openpi_libero import OpenpiLibero, openpi_libero_spec, quaternion
from vega_policy.runtime.specs import Field, libero_spec

ANGLES = st.floats(-4, 4)
LIBERO = libero_spec(("image", "image2"), 7, 20.0, "r1")


class Witness:
    """Keeps what it is asked."""

    max_batch = 1

    def __init__(self) -> None:
        self.seen: list[Mapping[str, Any]] = []

    def reset(self, session: int, seed: int) -> None:
        pass

    def forget(self, session: int) -> None:
        pass

    def infer(self, sessions: Sequence[int], observations: Sequence[Mapping[str, Any]]) -> list[Chunk]:
        self.seen += observations
        return [np.zeros((8, 7)) for _ in observations]


@given(st.tuples(ANGLES, ANGLES, ANGLES) | st.just((0.0, 0.0, 0.0)))
def test_quaternions_turn_as_their_axis_angles(axis_angle: tuple[float, ...]) -> None:
    turned = Rotation.from_quat(quaternion(np.array(axis_angle))).as_matrix()
    np.testing.assert_allclose(turned, Rotation.from_rotvec(axis_angle).as_matrix(), atol=1e-9)


def test_a_policy_for_libero_sees_liberos_observation() -> None:
    generator = np.random.default_rng(0)
    raw = {name: generator.integers(0, 256, (8, 8, 3), dtype=np.uint8) for name in ("image", "image2")}
    quat = np.array([0.5, 0.5, -0.5, 0.5])
    state = np.concatenate([[0.1, 0.2, 0.3], Rotation.from_quat(quat).as_rotvec(), [0.04, -0.04]])
    sent = {
        "observation/image": np.ascontiguousarray(raw["image"][::-1, ::-1]),
        "observation/wrist_image": np.ascontiguousarray(raw["image2"][::-1, ::-1]),
        "observation/state": state,
        "prompt": "open the drawer",
    }
    witness = Witness()
    with serving(OpenpiLibero(witness), openpi_libero_spec(LIBERO)) as port:
        assert WebsocketClientPolicy("127.0.0.1", port).infer(sent)["actions"].shape == (8, 7)
    (seen,) = witness.seen
    for name, image in raw.items():
        np.testing.assert_array_equal(seen["pixels"][name], image)
    np.testing.assert_allclose(seen["robot_state"]["eef"]["pos"], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(seen["robot_state"]["eef"]["quat"], quat)
    np.testing.assert_allclose(seen["robot_state"]["gripper"]["qpos"], [0.04, -0.04])
    LIBERO.select(seen)


def test_a_policy_that_reads_more_is_refused() -> None:
    third = {**LIBERO.observation, "pixels/image3": Field("uint8", (None, None, 3))}
    with pytest.raises(ValueError, match="do not send pixels/image3"):
        openpi_libero_spec(replace(LIBERO, observation=third))
