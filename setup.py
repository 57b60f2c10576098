"""Packages the repository's rooms under one import name.

`envs/`, `rollouts/` and `configs/` are top-level folders of the repository and install as
`vega_policy.envs`, `vega_policy.rollouts` and `vega_policy.configs`: PyPI already has distributions
that own the bare names, and pip lets one silently overwrite the other. See DECISIONS.md, record 1.
"""

from setuptools import find_packages, setup

MOUNTED = {"vega_policy.envs": "envs", "vega_policy.rollouts": "rollouts", "vega_policy.configs": "configs"}


def packages() -> list[str]:
    """Every importable package: the policy's own and those of the mounted rooms."""
    found = find_packages(include=["vega_policy", "vega_policy.*"])
    for name, folder in MOUNTED.items():
        found += [name, *(f"{name}.{inner}" for inner in find_packages(folder))]
    return found


setup(
    packages=packages(),
    package_dir={"vega_policy": "vega_policy", **MOUNTED},
    py_modules=["lerobot_policy_vega"],
    package_data={
        "vega_policy": ["py.typed", "checkpoints/**/*"],
        "vega_policy.configs": ["**/*.yaml"],
        "vega_policy.envs.libero.standins": ["assets/**/*"],
        "vega_policy.rollouts": ["report/*.html", "report/*.j2"],
    },
)
