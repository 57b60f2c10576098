"""The examination: closed-loop episodes, results and statistics. Installs as `vega_policy.rollouts`."""

if __name__ == "rollouts":
    raise ImportError("import vega_policy.rollouts, not rollouts: two copies of one module break isinstance")
