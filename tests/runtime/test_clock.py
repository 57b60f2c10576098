from vega_policy.runtime.clock import FakeClock, SystemClock


def test_the_systems_clock_sleeps_to_the_moment_and_not_for_a_moment_past() -> None:
    clock = SystemClock()
    start_s = clock.now_s()
    clock.sleep_until(start_s + 0.01)
    assert clock.now_s() >= start_s + 0.01
    clock.sleep_until(start_s)  # must not raise: time.sleep refuses negative seconds


def test_a_fake_clock_moves_when_told_and_never_back_by_sleeping() -> None:
    clock = FakeClock(5.0)
    clock.sleep_until(7.0)
    clock.sleep_until(6.0)
    assert clock.now_s() == 7.0
    clock.advance(-1.5)
    assert clock.now_s() == 5.5
