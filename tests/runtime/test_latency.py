"""What the log says of a server's latency."""

from vega_policy.runtime.latency import Histogram


def test_the_log_says_how_many_lie_below_which_bound() -> None:
    histogram = Histogram()
    assert histogram.summary().startswith("n=0 mean=0.00ms")
    for spent_s in [0.0003] * 90 + [0.01] * 9 + [100.0]:
        histogram.add(spent_s)
    assert histogram.summary() == "n=100 mean=1001.17ms p50<=0.4ms p90<=0.4ms p99<=12.8ms"
    histogram.add(100.0)
    assert histogram.summary().endswith("p99<=infms")
