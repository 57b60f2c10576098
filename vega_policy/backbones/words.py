"""A word-level tokenizer for MLLMs that are trained from scratch: a few hundred words, no download.

It is an ordinary `PreTrainedTokenizerFast`, so `save_pretrained`, `AutoTokenizer.from_pretrained` and the
stock processors work with it.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

REQUEST = "What action should the robot take to {task}?"
"""OpenVLA's question (arXiv 2406.09246), asked of every family."""

_PAD, _UNKNOWN, _START, _END = "<pad>", "<unk>", "<bos>", "<eos>"


def words_of(texts: Iterable[str]) -> list[str]:
    """The words and punctuation marks in `texts`, lower case, sorted: the `words` of a `BackboneConfig`."""
    return sorted({word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text.lower())})


def word_tokenizer(words: Sequence[str], special_tokens: Sequence[str] = ()) -> Any:
    """A `PreTrainedTokenizerFast` that knows `words`, the words of every prompt, and special tokens.

    Args:
        words: Lower case; duplicates and words of the prompts may be among them. Ids follow the sorted
            order, so equal words give equal ids.
        special_tokens: Tokens that are never split, such as image placeholders.
    """
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.normalizers import Lowercase
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    base = [_PAD, _UNKNOWN, _START, _END]
    prompt_words = words_of([REQUEST.format(task=""), "user: assistant: system you are a helpful assistant."])
    ordered = [*base, *(token for token in special_tokens if token not in base)]
    ordered += sorted({*words, *prompt_words} - set(ordered))
    vocabulary = {word: index for index, word in enumerate(ordered)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=_PAD,
        unk_token=_UNKNOWN,
        bos_token=_START,
        eos_token=_END,
        additional_special_tokens=[AddedToken(token, normalized=False) for token in special_tokens],
        padding_side="left",
    )
