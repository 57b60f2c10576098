"""OpenVLA's prompt as token ids.

Surprising: the prompt ends in Llama's empty word (token 29871, a lone space), which OpenVLA was trained with
and which tokenizing the text alone does not give. The first action is read there.
"""

from collections.abc import Sequence
from typing import Any

import torch

from vega_policy.backbones.base import PromptTokens
from vega_policy.backbones.words import REQUEST

TEMPLATE = f"In: {REQUEST}\nOut:"
EMPTY_WORD = "▁"


class OpenVlaPrompt:
    """Tokenizes instructions as `[BOS][padding][prompt][empty word]`.

    The image patches go right behind BOS, so BOS keeps column 0 and the padding, which makes all prompts end
    in the same column, comes after it.

    Args:
        tokenizer: a Hugging Face tokenizer with a beginning- and an end-of-sequence token and the empty word.

    Raises:
        ValueError: the tokenizer lacks one of these.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.bos_id = tokenizer.bos_token_id
        self.stop_id = tokenizer.eos_token_id
        self.empty_word_id = tokenizer.convert_tokens_to_ids(EMPTY_WORD)
        special = {"bos": self.bos_id, "eos": self.stop_id, repr(EMPTY_WORD): self.empty_word_id}
        absent = [name for name, token_id in special.items() if token_id in (None, tokenizer.unk_token_id)]
        if absent:
            raise ValueError(
                f"expected a Llama tokenizer, but {type(tokenizer).__name__} has no token "
                f"{', '.join(absent)}: use the tokenizer files of the OpenVLA checkpoint"
            )

    def __call__(self, tasks: Sequence[str]) -> PromptTokens:
        """One row per task, lower-cased as in training."""
        prompts = [self.words(task) for task in tasks]
        length = max(len(prompt) for prompt in prompts)
        padding = [length - len(prompt) for prompt in prompts]
        rows = zip(padding, prompts, strict=True)
        ids = torch.tensor([[self.bos_id] + [self.stop_id] * n + prompt for n, prompt in rows])
        columns = torch.arange(1 + length)
        mask = (columns == 0) | (columns > torch.tensor(padding)[:, None])
        return PromptTokens(ids, mask)

    def words(self, task: str) -> list[int]:
        """The prompt's ids without BOS, ending in the empty word."""
        text = TEMPLATE.format(task=task.lower())
        ids = list(self.tokenizer(text, add_special_tokens=False)["input_ids"])
        return ids if ids[-1] == self.empty_word_id else [*ids, self.empty_word_id]
