"""Compiled and graphed simulators give what the plain one gives."""

import copy
from dataclasses import replace

import pytest
import torch

from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.graphs import GraphCache

SMALL = tiny_wan_config(image_size_px=32, block=0)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def check_compiled(config: SimulatorConfig) -> None:
    side = config.image_size_px
    clips = torch.rand(2, 1, 3, side, side, generator=torch.Generator().manual_seed(0))
    eager, compiled = build_simulator(config), build_simulator(replace(config, compile=True))
    torch.testing.assert_close(compiled(clips).values, eager(clips).values, rtol=1e-4, atol=1e-5)
    assert compiled.state_dict().keys() == eager.state_dict().keys()


def test_compiled_equals_eager() -> None:
    vit = {
        "model_type": "dinov2",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "mlp_ratio": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    check_compiled(SimulatorConfig("dino", architecture={"model": vit}, image_size_px=28))


@pytest.mark.slow
def test_compiled_wan_equals_eager() -> None:
    check_compiled(SMALL)


def test_wan_is_one_graph(generator: torch.Generator) -> None:
    simulator = build_simulator(SMALL)
    clips = torch.rand(1, 1, 3, 32, 32, generator=generator)
    with torch.no_grad():
        whole = torch.compile(simulator.backbone, fullgraph=True, backend="aot_eager")(clips)
        torch.testing.assert_close(whole, simulator.backbone(clips), rtol=1e-4, atol=1e-5)


def test_on_a_cpu_graphs_change_nothing_and_copies_start_without_any(generator: torch.Generator) -> None:
    clips = torch.rand(1, 1, 3, 32, 32, generator=generator)
    graphed = build_simulator(replace(SMALL, cuda_graph=True))
    expected = build_simulator(SMALL)(clips).values
    assert torch.equal(graphed(clips).values, expected)
    assert torch.equal(copy.deepcopy(graphed)(clips).values, expected)
    assert isinstance(copy.deepcopy(GraphCache()), GraphCache)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("clip_length", [1, 5])
def test_a_cuda_graph_replays_the_eager_result(clip_length: int, generator: torch.Generator) -> None:
    config = replace(SMALL, clip_length=clip_length)
    eager = build_simulator(config).cuda()
    graphed = build_simulator(replace(config, cuda_graph=True)).cuda()
    for _ in range(3):
        clips = torch.rand(2, clip_length, 3, 32, 32, generator=generator).cuda()
        torch.testing.assert_close(graphed(clips).values, eager(clips).values)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda_agrees_with_the_cpu(dtype: str, generator: torch.Generator) -> None:
    """Tolerance: 1e-3 of the features' scale in float32 (TF32 off), 3 % in bfloat16."""
    config: SimulatorConfig = replace(SMALL, dtype=dtype)
    clips = torch.rand(2, 1, 3, 32, 32, generator=generator)
    on_cpu = build_simulator(SMALL)(clips).values
    on_gpu = build_simulator(config).cuda()(clips.cuda()).values.float().cpu()
    tolerance = 1e-3 if dtype == "float32" else 3e-2
    assert (on_gpu - on_cpu).norm() / on_cpu.norm() < tolerance
