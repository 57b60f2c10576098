"""The VEGA policy (after VEGA-3D, arXiv 2603.19235): simulate, see, fuse, think, act.

A frozen video diffusion transformer turns each camera image into a grid of tokens; a learned gate mixes these
into the multimodal LLM's own image tokens; the LLM reads them with the robot's state and the task and fills
its action slots; the head turns the slots into a chunk. Both streams get the same square pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, override

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from lerobot.utils.constants import ACTION, OBS_STATE
from torch import Tensor

from vega_policy.backbones.base import Reading
from vega_policy.backbones.factory import build_backbone
from vega_policy.cameras import Cameras, Clips, newest_squares
from vega_policy.checkpoint import fetched, hub_commit, load_weights, save_weights, with_saved_simulator
from vega_policy.configuration_vega import VegaConfig
from vega_policy.features import SIMULATED
from vega_policy.heads.build import build_head
from vega_policy.heads.prefix import ChunkPrefix
from vega_policy.optimizer import linear_and_other
from vega_policy.proprio import ProprioProjector
from vega_policy.queues import ActionQueue, FrameHistory
from vega_policy.simulators import build_simulator
from vega_policy.simulators.loading import DTYPES

Batch = Mapping[str, Any]


class VegaPolicy(PreTrainedPolicy):
    """A LeRobot policy with a second, generative visual stream.

    The input is a processed LeRobot batch: pictures in [0, 1], the state normalised, `task` a list of
    instructions. Actions are normalised; the post-processor scales them back.

    Attributes:
        commits: By part, at which commit of the Hub its weights were loaded; None if they were not.
    """

    config_class = VegaConfig
    name = "vega"

    config: VegaConfig

    def __init__(self, config: VegaConfig, *, load_weights: bool = True, **_: Any) -> None:
        """Builds every part; Hub weights are fetched by id and revision, the rest starts fresh.

        Args:
            config: With its features filled in, as LeRobot's `make_policy` does.
            load_weights: False fetches nothing; under `torch.device("meta")` that checks every shape of a
                large configuration without memory.
            _: What LeRobot also hands to every policy (dataset statistics and metadata).
        """
        super().__init__(config)
        config.validate_features()
        self.simulator = build_simulator(config.simulator, load_weights=load_weights)
        self.backbone = build_backbone(
            config.backbone, config.fusion, self.simulator.dim, load_weights=load_weights
        )
        hidden_dim = self.backbone.hidden_dim
        self.head = build_head(config.head, hidden_dim, config.chunk_size, config.action_dim)
        self.proprio = (
            ProprioProjector(config.state_dim, hidden_dim, config.proprioception_octaves)
            if config.use_proprioception
            else None
        )
        self.commits = {name: hub_commit(getattr(config, name)) for name in ("simulator", "backbone")}
        self.cameras = Cameras(config)
        self.init_rtc_processor()
        self.reset()

    @override
    def forward(self, batch: Batch, reduction: str = "mean") -> tuple[Tensor, dict[str, float]]:
        """The behaviour-cloning loss.

        Args:
            batch: With `action` (batch, chunk, dim) and `action_is_pad` (batch, chunk).
            reduction: `mean`, or `none` for one loss per sample.

        Returns:
            The loss, and numbers to log: the mean gate of each camera (1 is semantic, 0 generative).

        Raises:
            FloatingPointError: The loss is not finite; the message names the samples.
        """
        reading = self.read(batch, self.cameras.clips(batch))
        losses = self.head.loss(reading.hidden, batch[ACTION], _pads(batch), self._training_noise())
        _refuse_non_finite(losses, batch)
        log = {"action_loss": losses.mean().item(), **self._mean_gates(reading)}
        return (losses if reduction == "none" else losses.mean()), log

    def read(self, batch: Batch, clips: Clips) -> Reading:
        """Pixels, state and task in; what the action slots say out."""
        simulated = self.recall(batch) if SIMULATED in batch else self.simulate(clips)
        seen = newest_squares(clips, self.backbone.image_size_px)
        prompt = self.backbone.prompt(batch["task"], len(clips)).to(seen.device)
        return self.backbone.read(seen, simulated, prompt, self.feel(batch), self.head.slots)

    @torch.no_grad()
    def simulate(self, clips: Clips) -> Float[Tensor, "batch cameras n dim_generative"] | None:
        """What the frozen world simulator makes of each camera, on the LLM's grid; None without fusion."""
        if self.config.fusion.name == "none":
            return None
        if len({clip.shape for clip in clips}) == 1:  # one pass over all cameras
            tokens = self.simulator(torch.cat(clips)).resized(*self.backbone.grid).flatten()
            return rearrange(tokens, "(cameras b) n d -> b cameras n d", cameras=len(clips))
        grids = [self.simulator(clip).resized(*self.backbone.grid).flatten() for clip in clips]
        return torch.stack(grids, dim=1)

    def recall(self, batch: Batch) -> Float[Tensor, "batch cameras n dim_generative"] | None:
        """What `simulate` once computed for these clips."""
        if self.config.fusion.name == "none":
            return None
        recalled: Tensor = batch[SIMULATED].to(DTYPES[self.config.simulator.dtype])
        return recalled

    def feel(self, batch: Batch) -> Float[Tensor, "batch 1 dim"] | None:
        """The robot's newest state as a token; None without proprioception."""
        if self.proprio is None:
            return None
        state = batch[OBS_STATE]
        return self.proprio(state[:, -1] if state.ndim == 3 else state)

    @override
    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: Batch,
        inference_delay: int | None = None,
        prev_chunk_left_over: Float[Tensor, "batch left action_dim"] | None = None,
        execution_horizon: int | None = None,
        **_: Any,
    ) -> Float[Tensor, "batch chunk action_dim"]:
        """A chunk of normalised actions for the current observation.

        Args:
            batch: One observation per sample; earlier frames are remembered since the last `reset`.
            inference_delay: Control steps until the chunk arrives, for real-time chunking.
            prev_chunk_left_over: What is left of the chunk now being executed, normalised; a lone sample may
                come without its batch axis.
            execution_horizon: Step at which the leftover stops to count.
            _: Keyword arguments of other LeRobot policies.
        """
        self.eval()
        reading = self.read(batch, self._history.extend(self.cameras.clips(batch)))
        prefix = self._prefix(prev_chunk_left_over, inference_delay, execution_horizon)
        return self.head.sample(reading.hidden, self._next_noise(len(reading.hidden)), prefix)

    @override
    def select_action(self, batch: Batch, **kwargs: Any) -> Float[Tensor, "batch action_dim"]:
        """The next action of the current chunk; a new chunk is predicted when it is used up."""
        if self._queue.is_empty:
            self._queue.fill(self.predict_action_chunk(batch, **kwargs))
        return self._queue.pop()

    @override
    def reset(self) -> None:
        """Starts an episode: forgets frames and queued actions, and restarts the noise."""
        self._history = FrameHistory(self.config.simulator.clip_length)
        self._queue = ActionQueue(self.config.n_action_steps)
        self._decisions = 0

    @override
    def get_optim_params(self) -> list[torch.nn.Parameter] | list[dict[str, Any]]:
        """Every parameter that learns, for Muon in groups; the simulator's never do.

        Raises:
            ValueError: One of them is kept in less than float32: most updates would round to nothing.
        """
        learning = {name: value for name, value in self.named_parameters() if value.requires_grad}
        short = [name for name, value in learning.items() if value.dtype in (torch.bfloat16, torch.float16)]
        if short:
            raise ValueError(
                f"expected weights that learn in float32, {len(short)} are not, first {short[0]}: set "
                "policy.backbone.dtype=float32 (policy.dtype=bfloat16 still computes in bfloat16), or let "
                "fewer learn: policy.backbone.freeze_vision=true, freeze_llm=true, lora.rank=32"
            )
        return linear_and_other(self) if self.config.optimizer_name == "muon" else list(learning.values())

    @override
    def supports_rtc(self) -> bool:
        """Whether LeRobot may ask for real-time chunking: only a flow head can be guided."""
        return self.config.head.name == "flow"

    def init_rtc_processor(self) -> None:
        """Takes `config.rtc_config` over; LeRobot's rollout calls this after changing it."""
        settings = self.config.rtc_config
        self._rtc = RTCProcessor(settings) if settings is not None and settings.enabled else None

    @override
    def train(self, mode: bool = True) -> Self:
        """Training mode for what learns; the simulator stays as it was frozen."""
        super().train(mode)
        self.simulator.eval()
        return self

    @override
    def _get_default_peft_targets(self) -> dict[str, Any]:
        return {
            "target_modules": self.backbone.lora_targets("backbone"),
            "modules_to_save": ["head", "proprio", "fusion"],
        }

    @override
    def _save_pretrained(self, save_directory: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        save_weights(self, save_directory, state_dict)

    @classmethod
    @override
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: VegaConfig | None = None, **kwargs: Any
    ) -> Self:
        """Loads a checkpoint folder or Hub id, strictly.

        Args:
            pretrained_name_or_path: The folder or id.
            config: Replaces the checkpoint's own.
            kwargs: Those of LeRobot's `from_pretrained`.

        Raises:
            FileNotFoundError: There is no checkpoint, or Hub weights that it needs are out of reach.
            ValueError: The weights do not match the configuration.
        """
        path = pretrained_name_or_path
        config = config or PreTrainedConfig.from_pretrained(path, revision=kwargs.get("revision"))
        folder = fetched(path, **kwargs)
        return super().from_pretrained(folder, config=with_saved_simulator(config, folder), **kwargs)

    @classmethod
    @override
    def _load_as_safetensor(cls, model: Self, model_file: str, map_location: str, strict: bool) -> Self:
        load_weights(model, Path(model_file), map_location)
        return model

    def _prefix(
        self, left_over: Tensor | None, inference_delay: int | None, execution_horizon: int | None
    ) -> ChunkPrefix | None:
        if left_over is None or self._rtc is None:
            return None
        batched = left_over if left_over.ndim == 3 else left_over[None]
        return ChunkPrefix(batched, inference_delay or 0, self._rtc, execution_horizon)

    def _next_noise(self, batch: int) -> list[torch.Generator]:
        """The same noise for every sample of a decision: none depends on its neighbours."""
        seed = self.config.seed + self._decisions
        self._decisions += 1
        return [torch.Generator().manual_seed(seed) for _ in range(batch)]

    def _training_noise(self) -> torch.Generator:
        """A generator seeded by torch's global state: the trainer owns that, and saves it for resuming.

        Processes of one run have the same global state; each adds its number, for noise of its own. The loss
        on held-out data draws nothing, and meets the same noise each time.
        """
        if not self.training:
            return torch.Generator().manual_seed(self.config.seed)
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        return torch.Generator().manual_seed(int(torch.randint(2**62, ())) + rank)

    def _mean_gates(self, reading: Reading) -> dict[str, float]:
        if reading.gate is None:
            return {}
        means: Sequence[float] = reading.gate.float().mean(dim=(0, 2)).tolist()
        names = (camera.rsplit(".", 1)[-1] for camera in self.config.cameras)
        return {f"gate/{name}": mean for name, mean in zip(names, means, strict=True)}


def _refuse_non_finite(losses: Float[Tensor, " batch"], batch: Batch) -> None:
    bad = ~torch.isfinite(losses.detach())
    if not bad.any():
        return
    where = {key: batch[key][bad].tolist() for key in ("index", "episode_index") if key in batch}
    raise FloatingPointError(
        f"expected a finite loss, got {losses[bad].tolist()} for samples {bad.nonzero().flatten().tolist()} "
        f"of the batch, {where or 'without index'} in the dataset: no weight was changed. Look at those "
        "samples, lower the learning rate, or train in float32"
    )


def _pads(batch: Batch) -> Bool[Tensor, "batch chunk"]:
    pads = batch.get("action_is_pad")
    return (
        torch.zeros(batch[ACTION].shape[:2], dtype=torch.bool, device=batch[ACTION].device)
        if pads is None
        else pads
    )
