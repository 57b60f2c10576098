"""How sure a success rate is. Wilson's interval, because the usual one is empty at 0% and 100%.

E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
"""

import math
from statistics import NormalDist


def wilson(successes: int, episodes: int, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of a success rate.

    Args:
        successes: Number of successes, at most `episodes`.
        episodes: Number of episodes, at least 1.
        confidence: Coverage in (0, 1).

    Returns:
        Lower and upper bound, in [0, 1].

    Raises:
        ValueError: If the counts or the confidence are out of range.
    """
    if not 0 <= successes <= episodes or episodes == 0:
        raise ValueError(
            f"expected 0 <= successes <= episodes and episodes >= 1, got {successes} of {episodes}"
        )
    if not 0 < confidence < 1:
        raise ValueError(f"expected a confidence between 0 and 1, got {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / episodes
    centre = rate + z**2 / (2 * episodes)
    spread = z * math.sqrt(rate * (1 - rate) / episodes + z**2 / (4 * episodes**2))
    scale = 1 + z**2 / episodes
    low, high = (centre - spread) / scale, (centre + spread) / scale
    return max(0.0, min(low, rate)), min(1.0, max(high, rate))  # rounding must not put the rate outside
