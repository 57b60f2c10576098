"""Wilson's interval against published values and its own invariants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vega_policy.rollouts.statistics import wilson


@pytest.mark.parametrize(
    ("successes", "episodes", "percent"),
    [
        (485, 500, (95.1, 98.2)),
        (1940, 2000, (96.2, 97.7)),
        (10, 10, (72.2, 100.0)),
        (9, 10, (59.6, 98.2)),
        (0, 10, (0.0, 27.8)),
    ],
)
def test_known_intervals(successes: int, episodes: int, percent: tuple[float, float]) -> None:
    assert tuple(round(100 * bound, 1) for bound in wilson(successes, episodes)) == percent


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_interval_holds_the_rate_and_mirrors(counts: tuple[int, int]) -> None:
    successes, episodes = counts
    low, high = wilson(successes, episodes)
    assert 0 <= low <= successes / episodes <= high <= 1
    mirrored = wilson(episodes - successes, episodes)
    assert (1 - high, 1 - low) == pytest.approx(mirrored)


@pytest.mark.parametrize("arguments", [(0, 0), (3, 2), (-1, 2), (1, 2, 1.0)])
def test_impossible_counts_are_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="expected"):
        wilson(*arguments)
