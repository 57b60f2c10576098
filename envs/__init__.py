"""The world: simulated environments and the experts that act in them. Installs as `vega_policy.envs`."""

if __name__ == "envs":
    raise ImportError("import vega_policy.envs, not envs: two copies of one module break isinstance")
