"""LIBERO behind gymnasium: the only package that knows LIBERO, robosuite and MuJoCo.

Importing it registers `vega_policy/Libero-v0` with gymnasium, by name only: LIBERO is imported when such an
environment is made.
"""

import gymnasium

ENV_ID = "vega_policy/Libero-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(ENV_ID, entry_point="vega_policy.envs.libero.env:LiberoEnv")
