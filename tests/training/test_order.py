"""The order of samples where several processes share an epoch that does not divide into their batches."""

import pytest
from lerobot.datasets.sampler import EpisodeAwareSampler

from vega_policy.training.accelerator import WholeRounds

NUM_FRAMES, ROUND = 33, 4


def order() -> EpisodeAwareSampler:
    return EpisodeAwareSampler([0, 20], [20, NUM_FRAMES], shuffle=True)


def test_an_epoch_ends_with_its_own_head() -> None:
    plain, whole = list(order()), list(WholeRounds(order(), ROUND))
    assert whole == plain + plain[: ROUND - NUM_FRAMES % ROUND]
    assert len(WholeRounds(order(), ROUND)) == len(whole) == 36


@pytest.mark.parametrize("rounds", [1, 5, 8])
def test_a_resumed_epoch_ends_as_an_uninterrupted_one(rounds: int) -> None:
    uninterrupted, resumed = WholeRounds(order(), ROUND), order()
    epochs = [list(uninterrupted) for _ in range(3)]
    resumed.load_state_dict({"epoch": 1, "start_index": rounds * ROUND})
    rest = WholeRounds(resumed, ROUND)
    assert list(rest) == epochs[1][rounds * ROUND :]
    assert list(rest) == epochs[2]
