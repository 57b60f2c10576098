"""The motion law: toward the target, straight, within the action space."""

import numpy as np
import pytest

from vega_policy.envs.experts.geometry import UP, Pose, rotation_about
from vega_policy.envs.experts.motion import CLOSE, OPEN, TREMBLE_STEPS, StallMonitor, toward

HAND = Pose(np.array([0.1, -0.2, 1.0]), np.eye(3))


def test_far_targets_are_approached_at_full_speed_along_a_line() -> None:
    offset = np.array([0.3, -0.15, 0.0])
    action = toward(HAND, HAND.moved(offset), OPEN)
    assert np.abs(action[:3]).max() == pytest.approx(1.0)
    np.testing.assert_allclose(
        action[:3] / np.linalg.norm(action[:3]), offset / np.linalg.norm(offset), atol=1e-9
    )
    assert action[6] == OPEN


def test_near_targets_are_approached_in_proportion() -> None:
    near = toward(HAND, HAND.moved(np.array([0.004, 0, 0])), CLOSE)
    nearer = toward(HAND, HAND.moved(np.array([0.002, 0, 0])), CLOSE)
    assert near[0] == pytest.approx(2 * nearer[0])
    assert 0 < near[0] < 1
    assert near[6] == CLOSE


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_hand_turns_the_shorter_way(sign: int) -> None:
    action = toward(HAND, HAND.turned(rotation_about(UP, sign * 0.5)), OPEN)
    assert np.sign(action[5]) == sign
    assert np.abs(action).max() <= 1


def test_a_hand_that_stands_still_has_stopped() -> None:
    monitor = StallMonitor(window_steps=8)
    assert [monitor.update(HAND) for _ in range(9)] == [False] * 7 + [True] * 2


def test_a_hand_that_trembles_in_one_place_has_stopped_after_a_while() -> None:
    rng, monitor = np.random.default_rng(0), StallMonitor()
    found = [monitor.update(HAND.moved(0.003 * rng.standard_normal(3))) for _ in range(2 * TREMBLE_STEPS)]
    assert not any(found[: TREMBLE_STEPS - 1])
    assert found[-1]


def test_a_trembling_hand_that_gets_on_has_not_stopped() -> None:
    rng, monitor = np.random.default_rng(0), StallMonitor()
    way = np.array([0.002, 0.0, 0.0])
    noise = 0.003 * rng.standard_normal((80, 3))
    assert not any(monitor.update(HAND.moved(step * way + noise[step])) for step in range(80))
