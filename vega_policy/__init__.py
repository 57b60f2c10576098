"""vega_policy: robot policies that read a frozen video diffusion transformer for spatial awareness.

In a checkout the rooms `envs/`, `rollouts/` and `configs/` lie beside this package, not inside it;
the two lines below mount them as `vega_policy.envs` and so on. Installed, they are inside already.
"""

from pathlib import Path

__version__ = "0.1.0"

if not (Path(__file__).parent / "envs").is_dir():
    __path__.append(str(Path(__file__).parent.parent))
