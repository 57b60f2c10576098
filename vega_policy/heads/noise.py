"""Random numbers whose value for one sample never depends on the size of its batch.

`torch.randn` fills a tensor in vectorised blocks, so the first rows of a larger tensor differ from a smaller
one of the same seed; here every sample is drawn by a call of its own. Generators live on the CPU, which makes
the numbers the same on every device.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Generators = torch.Generator | Sequence[torch.Generator]


def per_sample(generators: Generators, batch: int) -> Iterator[torch.Generator]:
    """One generator per sample: the given ones, or a single one over and over.

    Raises:
        ValueError: if there are neither one nor `batch` generators, or one is not on the CPU.
    """
    given = [generators] * batch if isinstance(generators, torch.Generator) else list(generators)
    if len(given) != batch:
        raise ValueError(f"expected one generator or one for each of the {batch} samples, got {len(given)}")
    for generator in given:
        if generator.device.type != "cpu":
            raise ValueError(
                f"expected a CPU generator, got one on {generator.device}: noise would differ between devices"
            )
    return iter(given)


def normal(generators: Generators, shape: tuple[int, int, int]) -> Float[Tensor, "batch chunk action_dim"]:
    """Standard normal float32 noise on the CPU; `shape` starts with the batch."""
    return torch.stack([torch.randn(shape[1:], generator=g) for g in per_sample(generators, shape[0])])


def uniform(generators: Generators, batch: int) -> Float[Tensor, " batch"]:
    """One number in [0, 1) per sample, on the CPU."""
    return torch.stack([torch.rand((), generator=g) for g in per_sample(generators, batch)])
