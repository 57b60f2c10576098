"""YAML only: an experiment is a file here plus overrides. Installs as `vega_policy.configs`."""

if __name__ == "configs":
    raise ImportError("import vega_policy.configs, not configs: two copies of one module break isinstance")
