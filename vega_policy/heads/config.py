"""The settings of an action head, free of torch so that command lines can parse them quickly."""

from dataclasses import dataclass

from vega_policy.names import nearest_name_error

HEADS = ("l1", "flow")
SLOT_LAYOUTS = ("per_dimension", "per_step")
SLOT_EMBEDDINGS = ("zero", "learned")


@dataclass
class HeadConfig:
    """What reads actions off the backbone's action slots.

    Attributes:
        name: `l1` (one regression pass) or `flow` (flow matching, a few Euler steps).
        slots: `per_dimension` gives every scalar of the chunk its own slot and concatenates a step's slots,
            as OpenVLA-OFT does; `per_step` gives every control step one slot, a shorter sequence.
        slot_embeddings: what a slot is before the backbone: `zero`, as in OpenVLA-OFT, tells slots apart by
            their positions alone; `learned` gives each its own vector, without which a small model trained
            from scratch stays at the mean action for long.
        width: hidden width of the head; OpenVLA-OFT's `l1` head has the backbone's width, 4096.
        num_blocks: residual blocks (`l1`, OpenVLA-OFT uses 2) or transformer blocks (`flow`).
        num_attention_heads: attention heads of the `flow` network; must divide `width`.
        num_euler_steps: integration steps of `flow` when sampling.
    """

    name: str = "l1"
    slots: str = "per_dimension"
    slot_embeddings: str = "zero"
    width: int = 1024
    num_blocks: int = 2
    num_attention_heads: int = 8
    num_euler_steps: int = 5

    def __post_init__(self) -> None:
        if self.name not in HEADS:
            raise nearest_name_error("action head", self.name, HEADS)
        if self.slots not in SLOT_LAYOUTS:
            raise nearest_name_error("slot layout", self.slots, SLOT_LAYOUTS)
        if self.slot_embeddings not in SLOT_EMBEDDINGS:
            raise nearest_name_error("slot embedding", self.slot_embeddings, SLOT_EMBEDDINGS)
        for field in ("width", "num_blocks", "num_attention_heads", "num_euler_steps"):
            if getattr(self, field) < 1:
                raise ValueError(f"head.{field} must be at least 1, got {getattr(self, field)}")
        if self.name == "flow" and self.width % self.num_attention_heads:
            raise ValueError(
                f"head.width ({self.width}) must be a multiple of head.num_attention_heads "
                f"({self.num_attention_heads}) for the flow head"
            )
