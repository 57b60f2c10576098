"""LeRobot's plug-in door: importing this module registers what vega_policy adds to LeRobot.

LeRobot imports every installed distribution whose name starts with `lerobot_policy_`, by that very
name, so distribution and module must agree (underscores included).
"""

import vega_policy.configuration_vega
import vega_policy.envs.libero.lerobot_env
import vega_policy.processor_vega  # noqa: F401  (its steps are looked up by name when a checkpoint loads)
