"""Pretraining of a world simulator on a few synthetic films, from the command to the frozen features."""

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from PIL import Image

from vega_policy.cli.pretrain import main
from vega_policy.rollouts.recording import EpisodeWriter, read_recording
from vega_policy.simulators import SimulatorConfig, build_simulator, tiny_wan_config
from vega_policy.simulators.loading import seeded_init
from vega_policy.simulators.wan import WanBackbone
from vega_policy.training import pretraining_frames, pretraining_loop
from vega_policy.training.demonstrations import Demonstration, write_dataset
from vega_policy.training.libero_data import ACTION_KEY, IMAGE_KEYS, STATE_KEY
from vega_policy.training.pretraining_config import FlowStageConfig, StageConfig, VideosConfig
from vega_policy.training.pretraining_flow import FlowStage
from vega_policy.training.pretraining_frames import list_films, load_frames

SIZE_PX, LENGTHS, KEEP_EVERY, STRIDE = 32, (14, 9, 12, 17), 2, 4
CONFIGS = Path(__file__).parents[2] / "configs"
OPTIONS = [
    f"--config_path={CONFIGS / 'simulator' / 'tiny.yaml'}",
    f"--videos.keep_every={KEEP_EVERY}",
    f"--videos.frame_stride={STRIDE}",
    f"--simulator.image_size_px={SIZE_PX}",
    "--vae.steps=6",
    "--vae.batch_size=4",
    "--vae.crop_px=16",
    "--vae.clip_every=3",
    "--flow.steps=6",
    "--flow.batch_size=4",
    "--flow.clip_every=3",
    "--flow.num_frames=16",
    "--flow.num_clips=4",
]
OPTIONS += [f"--{stage}.{name}" for stage in ("vae", "flow") for name in ("save_every=2", "validate_every=4")]


def brightness(episode: int, frame: int, camera: int) -> int:
    return 20 + 50 * episode + 3 * frame + 100 * camera * (episode < 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey pictures, whose level tells episode, frame and camera, with a darker square in a corner."""
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    made = []
    for episode, length in enumerate(LENGTHS):
        writer = EpisodeWriter(folder / str(episode), 20)
        for frame in range(length):
            pictures = {
                key: np.full((SIZE_PX, SIZE_PX, 3), brightness(episode, frame, camera), np.uint8)
                for camera, key in enumerate(IMAGE_KEYS.values())
            }
            writer.add({**pictures, STATE_KEY: rng.standard_normal(8), ACTION_KEY: rng.uniform(-1, 1, 7)})
        writer.finish({"seed": episode})
        found = read_recording(folder / str(episode))
        made.append(Demonstration("push", found.columns, found.films, found.histograms, found.facts))
    write_dataset(folder / "data", made, SIZE_PX, {})
    return folder / "data"


def command(root: Path, output_dir: Path, *more: str) -> list[str]:
    return [f"--videos.root={root}", f"--output_dir={output_dir}", *OPTIONS, *more]


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output_dir = tmp_path_factory.mktemp("trained") / "tiny"
    assert main(command(root, output_dir)) == 0
    return output_dir


def test_the_finished_folder_is_a_source_for_the_simulator(trained: Path) -> None:
    config = SimulatorConfig(source=str(trained), block=3, image_size_px=SIZE_PX, clip_length=5)
    simulator = build_simulator(config)
    clips = torch.rand(2, 5, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0))
    assert simulator(clips).values.isfinite().all()
    assert not torch.equal(simulator(clips[:, :1]).values, simulator(clips).values)
    vae = AutoencoderKLWan.from_pretrained(trained / "vae")
    assert np.std(vae.config.latents_mean) > 0
    assert vae.config.latents_std != AutoencoderKLWan().config.latents_std
    sheet = np.asarray(Image.open(trained / "reconstructions.png"))
    assert sheet.shape == (6 * SIZE_PX, 8 * SIZE_PX, 3)


def test_every_step_and_the_validations_are_logged(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"]) for line in lines] == [
        (stage, step) for stage in ("vae", "flow") for step in range(1, 7)
    ]
    last = lines[5] | lines[11]
    validated = {name for name in last if name.startswith("validation_")}
    assert {"validation_frames_psnr_db", "validation_clips_psnr_db", "validation_frames_loss"} <= validated
    assert not any(name.startswith("validation_") for name in lines[0])
    assert list((trained.parent / "tiny.work" / "tensorboard").rglob("events*"))
    card = json.loads((trained / "pretraining.json").read_text())
    assert {f"validation_{name}" for name in card["validation"]} == validated
    assert card["config"]["vae"]["steps"] == 6
    assert len(card["git_revisions"]) == 1, "one session"


class KilledError(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(("stage", "last_step"), [("vae", 3), ("flow", 5)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    root: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, last_step: int
) -> None:
    real = pretraining_loop.train_step

    def interrupted(current: pretraining_loop.Stage, optimizer: torch.optim.Optimizer, step: int) -> object:
        if (current.name, step) == (stage, last_step + 1):
            raise KilledError
        return real(current, optimizer, step)

    output_dir = tmp_path / "tiny"
    with monkeypatch.context() as patch:
        patch.setattr(pretraining_loop, "train_step", interrupted)
        with pytest.raises(KilledError):
            main(command(root, output_dir))
    assert not output_dir.exists()
    assert main(command(root, output_dir, "--resume=true")) == 0
    for name in ("metrics.jsonl", "reconstructions.png", *weight_files(trained)):
        assert (output_dir / name).read_bytes() == (trained / name).read_bytes(), name


def weight_files(folder: Path) -> Sequence[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.safetensors"))


def test_another_request_or_an_unfinished_run_is_refused(
    root: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(root, trained)) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(command(root, trained, "--resume=true")) == 0
    assert "is finished" in capsys.readouterr().out
    assert main(command(root, trained, "--resume=true", "--vae.lr=0.5")) == 2
    assert "vae.lr: 0.002 became 0.5" in capsys.readouterr().err
    shutil.copytree(trained.parent / "tiny.work", tmp_path / "tiny.work")
    assert main(command(root, tmp_path / "tiny")) == 2
    assert "--resume=true" in capsys.readouterr().err
    assert main(command(root, tmp_path / "tiny", "--resume=true", "--vae.lr=0.5")) == 2
    assert "vae.lr: 0.002 became 0.5" in capsys.readouterr().err
    info = root / "meta" / "info.json"
    before = info.stat()
    os.utime(info)
    assert main(command(root, tmp_path / "tiny", "--resume=true")) == 2
    assert "dataset_files: " in capsys.readouterr().err
    os.utime(info, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_another_simulator_does_not_become_the_largest_model(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([f"--output_dir={tmp_path}/tiny", f"--videos.root={root}", "--simulator.name=wan"])
    assert "configs/simulator/tiny.yaml" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_stops_and_says_where(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(root, tmp_path / "tiny", "--vae.kl_weight=inf")) == 1
    assert "loss of stage vae is inf at step 1" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()


def test_the_frames_are_those_of_the_videos(root: Path, tmp_path: Path) -> None:
    config = VideosConfig(root=root, keep_every=KEEP_EVERY, frame_stride=STRIDE, validation_share=0.25)
    frames = load_frames(config, SIZE_PX, 16, tmp_path)
    kept = [-(-length // KEEP_EVERY) for length in LENGTHS]
    assert len(frames.pictures) == 2 * sum(kept)
    assert len(frames.validation_rows) in {2 * count for count in kept}
    levels = frames.pictures.mean(axis=(1, 2, 3))
    expected = [
        brightness(episode, frame, camera)
        for camera in range(2)
        for episode, length in enumerate(LENGTHS)
        for frame in range(0, length, KEEP_EVERY)
    ]
    assert np.abs(levels - expected).max() < 3
    newest = np.array([kept[0] + kept[1] - 1])  # the last of the second episode, frame 8: one frame before 0
    seen = frames.clips(newest, 4)[0].mean(dim=(1, 2, 3)) * 255
    assert np.abs(seen.numpy() - [brightness(1, frame, 0) for frame in (0, 0, 4, 8)]).max() < 3


def test_larger_pictures_are_fitted_into_the_canvas(root: Path, tmp_path: Path) -> None:
    config = VideosConfig(root=root, keep_every=KEEP_EVERY, frame_stride=STRIDE)
    frames = load_frames(config, SIZE_PX // 2, 16, tmp_path)
    assert frames.pictures.shape[1:] == (SIZE_PX // 2, SIZE_PX // 2, 3)
    again = load_frames(config, SIZE_PX, 16, tmp_path)
    assert again.pictures.shape[1:] == (SIZE_PX, SIZE_PX, 3)


def test_the_transformer_learns_the_function_that_is_read_when_frozen() -> None:
    """The features of the frozen simulator are hidden states of the very pass that is trained."""
    config = tiny_wan_config(image_size_px=SIZE_PX)
    with seeded_init(0):
        vae = AutoencoderKLWan(**config.architecture["vae"])
        model = WanTransformer3DModel(**config.architecture["transformer"])
        kept = WanTransformer3DModel(**config.architecture["transformer"] | {"num_layers": config.block + 1})
    kept.load_state_dict(model.state_dict(), strict=False)
    prompt = torch.randn(1, 64, generator=torch.Generator().manual_seed(1))
    latents = torch.randn(2, 16, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    stage = FlowStage(model, prompt, {}, {}, FlowStageConfig(), 0)
    seen: list[torch.Tensor] = []
    model.blocks[config.block].register_forward_hook(lambda _module, _args, hidden: seen.append(hidden))
    with torch.no_grad():
        backbone = WanBackbone(vae, kept, prompt, config)
        backbone.prepare()
        t = backbone.level.t
        stage.velocity((1 - t) * latents + t * backbone.noise[:, :, :1], torch.full((2,), t))
        read, _ = backbone.hidden_states(latents)
    torch.testing.assert_close(seen[0], read, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_cross_attention() -> None:
    config = tiny_wan_config()
    with seeded_init(0):
        model = WanTransformer3DModel(**config.architecture["transformer"])
    stage = FlowStage(model, torch.ones(1, 64), {}, {}, FlowStageConfig(), 0)
    noise = torch.randn(2, 16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    stage.velocity(noise, torch.tensor([0.2, 0.8])).square().mean().backward()
    for name in ("to_k", "to_v", "to_q"):
        assert getattr(model.blocks[0].attn2, name).weight.grad.abs().max() > 0, name


def test_the_shipped_settings_train_the_policys_simulator() -> None:
    settings = yaml.safe_load((CONFIGS / "simulator" / "tiny.yaml").read_text())
    policy = yaml.safe_load((CONFIGS / "policy" / "vega_tiny.yaml").read_text())
    assert settings["simulator"] == policy["simulator"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--vae.crop_px=12"], "multiple of the autoencoder's 8 pixels"),
        (["--vae.crop_px=64"], "simulator.image_size_px (32)"),
        (["--videos.max_episodes=0"], "videos.max_episodes of at least 2"),
    ],
)
def test_mistakes_are_found_before_the_films_are_decoded(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: Sequence[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*OPTIONS, f"--videos.root={root}", f"--output_dir={tmp_path / 'simulator'}", *options])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_films_that_are_not_there_are_fetched_or_named(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(root / "meta", tmp_path / "meta")
    with pytest.raises(FileNotFoundError, match=f"expected a film at {tmp_path}"):
        load_frames(VideosConfig(root=tmp_path), SIZE_PX, 16, tmp_path)

    def fetched(repo_id: str, root: Path, episodes: list[int]) -> None:
        assert (repo_id, episodes) == ("someone/libero", [0, len(LENGTHS) - 1])
        shutil.copytree(source / "videos", root / "videos")

    source = root
    monkeypatch.setattr(pretraining_frames, "LeRobotDataset", fetched)
    videos = VideosConfig(repo_id="someone/libero", root=tmp_path, max_episodes=2)
    assert len(load_frames(videos, SIZE_PX, 16, tmp_path).pictures) > 0


def test_an_episode_is_left_to_learn_from(root: Path) -> None:
    films = list_films(VideosConfig(root=root, max_episodes=2, keep_every=1, validation_share=0.9))
    assert sorted({film.is_held_out for film in films}) == [False, True]


def test_a_film_that_is_shorter_than_it_says_is_named(root: Path, tmp_path: Path) -> None:
    config = VideosConfig(root=root, keep_every=1, frame_stride=1)
    films = [replace(film, length=film.length + 1000) for film in list_films(config)]
    with pytest.raises(ValueError, match=r"\.mp4 ends at frame \d+, expected"):
        list(pretraining_frames._by_film(films))


def test_without_a_limit_gradients_are_not_clipped() -> None:
    class Sum(pretraining_loop.Stage):
        name, seed, model = "sum", 0, torch.nn.Linear(2, 1)
        config = StageConfig(grad_clip_norm=0.0, warmup_steps=0, steps=2)

        def losses(self, step: int) -> dict[str, torch.Tensor]:
            return {"loss": self.model(torch.ones(1, 2)).sum()}

        def validate(self) -> dict[str, float]:
            return {}

    stage = Sum()
    before = stage.model.weight.clone()
    numbers = pretraining_loop.train_step(stage, torch.optim.SGD(stage.model.parameters(), lr=1.0), 1)
    assert numbers["grad_norm"] > 1
    assert not torch.equal(stage.model.weight, before)
