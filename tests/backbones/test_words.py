"""The word tokenizer of models that are trained from scratch."""

from transformers import AutoTokenizer

from vega_policy.backbones.words import REQUEST, word_tokenizer, words_of

SPECIAL = ("<image>", "<|im_start|>", "<IMG_CONTEXT>")
TASKS = ["Pick up the Black bowl, then close", "open the drawer"]


def test_words_of_collects_each_word_and_mark_once_in_order():
    expected = [",", "black", "bowl", "close", "drawer", "open", "pick", "the", "then", "up"]
    assert words_of(TASKS) == expected


def test_every_word_of_the_tasks_and_the_prompt_is_known():
    tokenizer = word_tokenizer(words_of(TASKS), SPECIAL)
    for task in TASKS:
        assert tokenizer.unk_token_id not in tokenizer(REQUEST.format(task=task))["input_ids"]
    assert tokenizer("levitate")["input_ids"] == [tokenizer.unk_token_id]


def test_case_does_not_matter_but_special_tokens_keep_theirs():
    tokenizer = word_tokenizer(words_of(TASKS), SPECIAL)
    assert tokenizer("OPEN the")["input_ids"] == tokenizer("open THE")["input_ids"]
    ids = tokenizer("<image><image><|im_start|>open<IMG_CONTEXT>")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == [
        "<image>",
        "<image>",
        "<|im_start|>",
        "open",
        "<IMG_CONTEXT>",
    ]


def test_equal_words_in_any_order_give_equal_ids():
    forward, backward = (word_tokenizer(words, SPECIAL) for words in (words_of(TASKS), words_of(TASKS)[::-1]))
    assert forward.get_vocab() == backward.get_vocab()


def test_reloads_from_its_folder(tmp_path):
    tokenizer = word_tokenizer(words_of(TASKS), SPECIAL)
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    text = "<image>What action should the robot take to open the drawer?<IMG_CONTEXT>"
    assert loaded(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert loaded.get_vocab() == tokenizer.get_vocab()
