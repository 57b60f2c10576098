"""A stream costs the same at every frame and ends where encoding the whole clip at once ends."""

from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn

from vega_policy.simulators import build_simulator, tiny_wan_config
from vega_policy.simulators.base import Simulator
from vega_policy.simulators.loading import seeded_init
from vega_policy.simulators.stream import FrameStream

TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@torch.no_grad()
def test_reading_equals_the_simulator_on_the_clip_so_far(wan: Simulator, generator: torch.Generator) -> None:
    clips = torch.rand(2, 9, 3, 64, 64, generator=generator)
    stream = FrameStream(wan)
    for i, frame in enumerate(clips.unbind(1)):
        assert stream.push(frame) == (i % 4 == 0)
        if i % 4 == 0:
            torch.testing.assert_close(stream.read().values, wan(clips[:, : i + 1]).values, **TOLERANCE)
    assert stream.num_pending == 0


def test_a_stream_begins_anew_and_two_streams_do_not_mix(wan: Simulator, generator: torch.Generator) -> None:
    clips = torch.rand(2, 5, 3, 64, 64, generator=generator)
    first, second = FrameStream(wan), FrameStream(wan)
    for frame in clips.unbind(1):
        first.push(frame[:1])
        second.push(frame[1:])
    torch.testing.assert_close(first.read().values, wan(clips[:1]).values, **TOLERANCE)
    torch.testing.assert_close(second.read().values, wan(clips[1:]).values, **TOLERANCE)
    first.reset()
    with pytest.raises(RuntimeError, match="push the episode's first frame"):
        first.read()
    first.push(clips[:1, 3])
    torch.testing.assert_close(first.read().values, wan(clips[:1, 3:4]).values, **TOLERANCE)


def test_a_wide_camera_streams_its_own_cells_only(wan: Simulator, generator: torch.Generator) -> None:
    clips = torch.rand(1, 5, 3, 48, 96, generator=generator)
    stream = FrameStream(wan)
    for frame in clips.unbind(1):
        stream.push(frame)
    assert stream.read().values.shape[1:3] == (2, 4)
    torch.testing.assert_close(stream.read().values, wan(clips).values, **TOLERANCE)


def test_only_a_causal_encoder_can_stream() -> None:
    zeros = build_simulator(tiny_wan_config(control="zeros"))
    with pytest.raises(TypeError, match="wan simulator, got Zeros"):
        FrameStream(zeros)


class Meter:
    """Counts convolutions and the bytes that a stream holds on to."""

    def __init__(self, simulator: Simulator) -> None:
        self.convolutions = 0
        for module in simulator.backbone.encoder.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                module.register_forward_hook(self._count)

    def _count(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.convolutions += 1

    @staticmethod
    def bytes_held(stream: FrameStream) -> int:
        held = [*stream._cache, *stream._latents, *stream._pending]
        return sum(tensor.untyped_storage().nbytes() for tensor in held if tensor is not None)


def check_a_long_episode(num_frames: int) -> None:
    """Constant work and memory per frame, and the same latents as the whole episode at once."""
    config = tiny_wan_config(image_size_px=16, clip_length=5)
    config.architecture["vae"]["base_dim"] = 4
    config.architecture["transformer"]["patch_size"] = [1, 2, 2]
    simulator = build_simulator(config)
    frames = torch.rand(num_frames, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    meter, stream = Meter(simulator), FrameStream(simulator)
    latents, work, memory = [], [], []
    for frame in frames:
        before = meter.convolutions
        if stream.push(frame):
            latents.append(stream.latents[:, :, -1:])
            work.append(meter.convolutions - before)
            memory.append(meter.bytes_held(stream))
    assert len(set(work[2:])) == 1
    assert len(set(memory[2:])) == 1
    with seeded_init(config.init_seed), torch.no_grad():
        library = AutoencoderKLWan(**config.architecture["vae"]).eval()
        at_once = library.encode(frames.permute(1, 2, 0, 3, 4) * 2 - 1).latent_dist.mode()
    encoder = simulator.backbone.encoder
    expected = (at_once - encoder.latents_mean) / encoder.latents_std
    torch.testing.assert_close(torch.cat(latents, dim=2), expected[:, :, : len(latents)], **TOLERANCE)


def test_two_hundred_frames_at_constant_cost() -> None:
    check_a_long_episode(200)


@pytest.mark.slow
def test_ten_thousand_frames_at_constant_cost() -> None:
    check_a_long_episode(10_000)
