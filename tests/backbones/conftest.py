"""Makes `tiny_mllms` importable by its plain name, and its parts fixtures over all families."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from tiny_mllms import CHATS, Case, make_backbone, make_case

from vega_policy.backbones.transformers_mllm import TransformersBackbone


@pytest.fixture(params=list(CHATS))
def family_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def case(family_name: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    return make_case(family_name, monkeypatch)


@pytest.fixture
def backbone(family_name: str) -> TransformersBackbone:
    return make_backbone(family_name)
