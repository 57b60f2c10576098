"""Injected faults do what they say, on a fake clock."""

import numpy as np
import pytest
from fake_arm import command
from kinematic_arm import PERIOD_S, KinematicDriver

from vega_policy.runtime.clock import FakeClock
from vega_policy.runtime.robots.faulty import Faults, Faulty
from vega_policy.runtime.robots.panda import Panda


class Rig:
    def __init__(self, **faults: float | bool) -> None:
        self.clock = FakeClock(10.0)
        self.driver = KinematicDriver(self.clock)
        panda = Panda(self.driver, {"front": self.driver})
        self.faulty = Faulty(panda, self.clock, np.random.default_rng(0))
        self.faulty.faults = Faults().changed(faults)

    def periods(self, count: int) -> None:
        for _ in range(count):
            self.clock.advance(PERIOD_S)
            self.driver.advance()
            self.faulty.update()

    def ages_s(self) -> tuple[float, float]:
        reading, now_s = self.faulty.read(), self.clock.now_s()
        return round(now_s - reading.state.time_s, 6), round(now_s - reading.frames["front"].time_s, 6)


@pytest.mark.parametrize(
    ("faults", "ages_s"),
    [
        ({}, (0.0, 0.0)),
        ({"camera_freeze": True}, (0.0, 1.0)),
        ({"camera_drop": 1.0}, (0.0, 1.0)),
        ({"camera_delay_s": 0.2}, (0.0, 0.2)),
        ({"arm_freeze": True}, (1.0, 0.0)),
        ({"arm_drop": 1.0}, (1.0, 0.0)),
        ({"arm_delay_s": 0.3}, (0.3, 0.0)),
    ],
)
def test_what_arrives_has_the_age_it_should(faults: dict[str, float], ages_s: tuple[float, float]) -> None:
    rig = Rig(**faults)
    rig.periods(20)
    assert rig.ages_s() == pytest.approx(ages_s)
    rig.faulty.faults = Faults()
    rig.periods(10)
    assert rig.ages_s() == (0.0, 0.0)


def test_some_pictures_are_dropped_and_others_not() -> None:
    rig = Rig(camera_drop=0.5)
    ages_s = []
    for _ in range(100):
        rig.periods(1)
        ages_s.append(rig.ages_s()[1])
    assert 0.3 < np.mean(np.array(ages_s) == 0.0) < 0.7


def test_orders_are_lost_or_late_as_well() -> None:
    frozen = Rig(arm_freeze=True)
    frozen.faulty.command(command(0.05))
    frozen.periods(5)
    assert frozen.driver.moves == []
    late = Rig(arm_delay_s=0.1)
    late.faulty.command(command(0.05))
    late.faulty.faults = Faults()
    late.faulty.command(command(0.01))  # must not overtake
    late.periods(1)
    assert late.driver.moves == []
    late.periods(1)
    assert [move.translation_m[0] for move in late.driver.moves] == [0.05, 0.01]


def test_an_unknown_fault_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ValueError, match="did you mean 'camera_freeze'"):
        Faults().changed({"camera_freez": True})
