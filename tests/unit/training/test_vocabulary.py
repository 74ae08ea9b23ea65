"""Trimming a tokenizer changes nothing on the data, and loses no text anywhere."""

import json

import pytest
from families import SPECIALS, TEMPLATE, byte_level_json, module, tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from potstill.errors import ModelError
from potstill.training.carve import carved_config
from potstill.training.vocabulary import save_tokenizer, trim_vocabulary

KINDS = ("byte_level", "byte_fallback")
WORDS = ["the", "quick", "return", "number of items", "TypeError", "naïve", "東京", "jumps!", "0123", "\n", "  ", "ß✓", "def parse(text):"]

texts = st.lists(st.sampled_from(WORDS) | st.text(max_size=6), max_size=8).map(" ".join)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def trim(full, corpus):
    return trim_vocabulary(full, {token for text in corpus for token in encode(full, text)})


def decode(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(corpus=st.lists(texts, min_size=1, max_size=4))
def test_on_the_data_the_trimmed_tokenizer_gives_the_same_tokens_under_the_map(kind, corpus):
    full = tokenizer(kind)
    trimmed = trim(full, corpus)
    for text in corpus:
        assert trimmed.kept_ids[encode(trimmed.tokenizer, text)].tolist() == encode(full, text)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None)
@given(corpus=st.lists(texts, min_size=1, max_size=2), text=st.text() | texts)
def test_any_text_round_trips_as_well_as_under_the_full_tokenizer(kind, corpus, text):
    full = tokenizer(kind)
    small = trim(full, corpus).tokenizer
    assert decode(small, encode(small, text)) == decode(full, encode(full, text))


def test_bytes_that_the_full_tokenizer_has_no_token_for_are_lost_as_they_were_before():
    layout = json.loads(byte_level_json())
    del layout["model"]["vocab"][chr(0x104)]  # byte 4, as byte-level encoders write it
    full = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(layout)))
    small = trim(full, ["the quick"]).tokenizer
    assert decode(small, encode(small, "a\x04b\x05")) == decode(full, encode(full, "a\x04b\x05")) == "ab\x05"


@settings(max_examples=40, deadline=None)
@given(text=st.text())
def test_bytes_alone_spell_any_text(text):
    small = trim(tokenizer(), []).tokenizer
    assert decode(small, encode(small, text)) == text


def test_a_merge_with_several_derivations_stays_the_one_that_the_full_tokenizer_takes():
    # a+b is merged first, so "abc" is ab+c, though a+bc stands earlier in the list.
    letters = {f"<0x{byte:02X}>": byte for byte in range(256)}
    vocabulary = {**letters, "a": 256, "b": 257, "c": 258, "ab": 259, "bc": 260, "abc": 261}
    merges = [("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c")]
    full = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True)))
    trimmed = trim_vocabulary(full, {261})
    names = set(trimmed.tokenizer.get_vocab()) - set(letters)
    assert names == {"a", "b", "c", "ab", "abc"}
    assert trimmed.kept_ids[encode(trimmed.tokenizer, "abc")].tolist() == [261]


@pytest.mark.parametrize("kind", KINDS)
def test_trimming_makes_the_vocabulary_smaller(kind):
    full = tokenizer(kind)
    trimmed = trim(full, ["the quick"])
    assert 256 < len(trimmed.kept_ids) == len(trimmed.tokenizer) < len(full)
    assert trimmed.kept_ids.tolist() == sorted(set(trimmed.kept_ids.tolist()))


def test_tokens_that_stand_for_nothing_go_unless_the_data_uses_them():
    full = tokenizer()
    trimmed = trim(full, ["<|reserved_special_token_7|> the"])
    added = trimmed.tokenizer.get_added_vocab()
    assert set(added) == {*SPECIALS, "<|reserved_special_token_7|>"}


@pytest.mark.parametrize("kind", KINDS)
def test_special_tokens_keep_their_meaning(kind):
    full = tokenizer(kind)
    trimmed = trim(full, ["the"])
    small = trimmed.tokenizer
    assert small.special_tokens_map == full.special_tokens_map
    assert trimmed.kept_ids[small.eos_token_id] == full.eos_token_id
    assert small.chat_template == TEMPLATE
    assert decode(small, encode(small, "<|im_start|>the<|im_end|>")) == decode(full, encode(full, "<|im_start|>the<|im_end|>"))


def test_the_post_processor_writes_the_new_ids():
    full = tokenizer()
    trimmed = trim(full, ["the"])
    assert trimmed.kept_ids[trimmed.tokenizer("the")["input_ids"]].tolist() == full("the")["input_ids"]


@pytest.mark.parametrize(
    ("family", "kind"),
    [("smollm", "byte_level"), ("llama31", "byte_level"), ("qwen2", "byte_level"), ("qwen3", "byte_level"), ("phi4mini", "byte_level"),
     ("phi3", "byte_fallback"), ("gemma2", "byte_fallback"), ("gemma3", "byte_fallback"), ("smollm", "byte_fallback")],
)  # fmt: skip
def test_the_saved_tokenizer_is_read_by_transformers_just_as_it_was(family, kind, tmp_path):
    origin = module(family, vocabulary=600)
    origin.config.save_pretrained(tmp_path / "full")
    tokenizer(kind).save_pretrained(tmp_path / "full")
    # As a model of that family is loaded: some classes add tokens of their own.
    full = AutoTokenizer.from_pretrained(tmp_path / "full")
    trimmed = trim(full, WORDS)
    carved_config(origin.config, (0, 5), trimmed.kept_ids).save_pretrained(tmp_path / "small")
    save_tokenizer(trimmed.tokenizer, tmp_path / "small")
    small = AutoTokenizer.from_pretrained(tmp_path / "small")
    assert small.get_vocab() == trimmed.tokenizer.get_vocab()
    for text in [*WORDS, "something else: ∂x", "<|im_start|>user\nthe<|im_end|>"]:
        assert small(text)["input_ids"] == trimmed.tokenizer(text)["input_ids"]
    for text in [*WORDS, "<|im_start|>the<|im_end|>"]:
        assert trimmed.kept_ids[encode(small, text)].tolist() == encode(full, text)
    chat = [{"role": "user", "content": "the quick"}]
    assert small.apply_chat_template(chat, tokenize=False) == full.apply_chat_template(chat, tokenize=False)
    assert max(small.get_vocab().values()) == len(trimmed.kept_ids) - 1


def test_a_tokenizer_that_is_not_byte_pair_is_refused_with_the_way_out():
    words = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0})))
    with pytest.raises(ModelError, match=r"type WordLevel cannot be trimmed.*set `student\.carve\.vocabulary: full`"):
        trim_vocabulary(words, {0})


def test_a_tokenizer_without_bytes_is_refused_because_text_would_be_lost():
    lossy = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE({"a": 0}, [])))
    with pytest.raises(ModelError, match="trimming it would lose text"):
        trim_vocabulary(lossy, {0})
