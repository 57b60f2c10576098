"""Names of batch entries that are VEGA's own, beside LeRobot's."""

SIMULATED = "observation.simulated"
"""The world simulator's tokens for the newest clip of every camera, (batch, cameras, tokens, dim): where they
were computed before, as in training from a cache, the simulator is not run."""
