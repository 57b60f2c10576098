"""The small dataset and policy as fixtures; what makes them lies beside the tests that import it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from small_data import make_dataset, make_policy_config

from vega_policy.configuration_vega import VegaConfig


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("small") / "data")


@pytest.fixture
def small_policy() -> VegaConfig:
    return make_policy_config()
