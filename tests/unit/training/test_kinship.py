"""Which tokens of two tokenizers are the same, by what they write, and a live teacher whose ids are others."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from families import TEXT, module, tokenizer
from test_objectives import a_batch, all_logits, objective_loss
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from potstill.errors import CapabilityError
from potstill.models.tokens import SPECIAL, map_tokens, reads_alike, token_bytes
from potstill.records import Message
from potstill.training.batches import TokenRows
from potstill.training.kinship import ids_of_teacher, map_to_teacher, require_known, shares_tokens
from potstill.training.student import Student
from potstill.training.targets import LiveTeacher


def renumbered(full, order, *, lacking=()):
    """The same tokenizer with other ids: the token of id order[i] gets id i; some added tokens are left out."""
    layout = json.loads(full.backend_tokenizer.to_str())
    names = {number: token for token, number in full.get_vocab().items()}
    kept = [int(number) for number in order if names[int(number)] not in lacking]
    new_ids = {names[number]: place for place, number in enumerate(kept)}
    layout["model"]["vocab"] = new_ids  # added tokens too: those that stand there alone are numbered anew
    layout["added_tokens"] = sorted(
        ({**token, "id": new_ids[token["content"]]} for token in layout["added_tokens"] if token["content"] in new_ids),
        key=lambda token: token["id"],
    )
    layout["post_processor"] = None
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)), eos_token="<|im_end|>", chat_template=full.chat_template
    ), np.array(kept, dtype=np.int64)


def shuffled(full, **settings):
    return renumbered(full, np.random.default_rng(0).permutation(len(full)), **settings)


def in_both_spellings():
    """The same byte-pair tokens as GPT-2 spells them, and as SentencePiece does."""
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    plain.train_from_iterator([TEXT.encode("ascii", "ignore").decode()], trainer)
    layout, spelt = json.loads(plain.to_str()), token_bytes(plain)

    def name(number):
        text = spelt[number]
        return text.decode().replace(" ", "▁") if text.isascii() else f"<0x{text[0]:02X}>"

    names = {token: name(number) for token, number in layout["model"]["vocab"].items()}
    layout["model"]["vocab"] = {names[token]: number for token, number in layout["model"]["vocab"].items()}
    layout["model"]["merges"] = [[names[left], names[right]] for left, right in layout["model"]["merges"]]
    layout["model"]["byte_fallback"] = True
    layout["normalizer"] = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    layout["pre_tokenizer"] = layout["post_processor"] = None
    layout["decoder"] = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}]}
    return plain, Tokenizer.from_str(json.dumps(layout))


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_the_bytes_of_a_texts_tokens_are_the_texts_bytes(kind):
    full = tokenizer(kind)
    spelt = token_bytes(full.backend_tokenizer)
    for text in (TEXT, "naïve 東京 \t✓", "plain words"):
        written = b"".join(spelt[token] for token in full(text, add_special_tokens=False)["input_ids"])
        assert written.removeprefix(b"" if kind == "byte_level" else b" ") == text.encode()


def test_a_special_token_is_no_text():
    full = tokenizer()
    assert token_bytes(full.backend_tokenizer)[full.convert_tokens_to_ids("<|im_end|>")] == SPECIAL + b"<|im_end|>"


@pytest.mark.parametrize("kind", ["byte_level", "byte_fallback"])
def test_tokens_under_other_ids_are_found(kind):
    full = tokenizer(kind)
    student, order = shuffled(full)
    assert map_to_teacher(student, full).tolist() == order.tolist()
    assert map_to_teacher(full, full).tolist() == list(range(len(full)))


def test_tokens_in_another_spelling_are_found_and_read_text_alike():
    plain, other = in_both_spellings()
    ids = map_tokens(other, plain)
    assert ids.tolist() == list(range(plain.get_vocab_size()))
    assert reads_alike(other, plain, ids, ["the quick naïve fox 東京", " two  spaces"])


def test_special_tokens_may_be_lacking_and_ordinary_ones_may_not():
    full = tokenizer()
    fewer, order = shuffled(full, lacking=("<|image|>",))
    assert map_to_teacher(fewer, full).tolist() == order.tolist()
    ids = map_to_teacher(full, fewer)
    assert np.flatnonzero(ids < 0).tolist() == [full.convert_tokens_to_ids("<|image|>")]
    token = max(full.backend_tokenizer.get_vocab(with_added_tokens=False), key=len)
    layout = json.loads(full.backend_tokenizer.to_str())
    layout["model"]["vocab"].pop(token)
    layout["model"]["merges"] = [pair for pair in layout["model"]["merges"] if "".join(pair) != token and token not in pair]
    assert map_tokens(full.backend_tokenizer, Tokenizer.from_str(json.dumps(layout))) is None


def test_the_same_tokens_cut_otherwise_are_told_by_the_data():
    full = tokenizer()
    student, _ = shuffled(full)
    layout = json.loads(student.backend_tokenizer.to_str())
    layout["model"]["merges"] = layout["model"]["merges"][::-1]
    other = Tokenizer.from_str(json.dumps(layout))
    ids = map_tokens(other, full.backend_tokenizer)
    assert reads_alike(student.backend_tokenizer, full.backend_tokenizer, ids, [TEXT])
    assert not reads_alike(other, full.backend_tokenizer, ids, [TEXT])
    chats = [(Message("user", TEXT),)]
    assert shares_tokens(student, full, chats)
    assert not shares_tokens(PreTrainedTokenizerFast(tokenizer_object=other, chat_template=full.chat_template), full, chats)


def test_a_template_of_tokens_that_the_teacher_lacks_is_told_by_the_data():
    full = tokenizer()
    teacher, _ = shuffled(full, lacking=("<|im_start|>",))
    assert map_to_teacher(full, teacher) is not None
    assert not shares_tokens(full, teacher, [(Message("user", "the quick"),)])


def student_of(vocabulary, kept_ids=None, tmp=None):
    return Student(tmp, vocabulary, 0, 0, None, kept_ids)


def test_a_permuted_teacher_teaches_what_it_taught_before():
    """The teacher's tables are reordered together with its tokenizer: the loss, and what rows beyond the tokenizer count, is the same."""
    full = tokenizer()
    permuted, order = shuffled(full)
    teacher, student = module("smollm", len(full)), module("smollm", len(full) + 12, seed=1)
    batch = a_batch(len(full))
    expected = objective_loss("logits", student, batch, LiveTeacher(teacher, len(full) + 12))
    moved = module("smollm", len(full) + 30)  # a padded table
    state = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    table = torch.randn(len(full) + 30, 32)
    table[: len(order)] = state["model.embed_tokens.weight"][order]
    moved.load_state_dict(state | {"model.embed_tokens.weight": table, "lm_head.weight": table})
    ids = ids_of_teacher(student_of(len(full) + 12), full, permuted)
    assert (ids[len(full) :] == -1).all()
    found = objective_loss("logits", student, batch, LiveTeacher(moved, len(full) + 12, ids))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_a_trimmed_student_of_a_reordered_teacher_keeps_its_own_map():
    full = tokenizer()
    permuted, order = shuffled(full)
    kept = np.array([3, 7, 100, 400])
    ids = ids_of_teacher(student_of(4, kept), full, permuted)
    assert order[ids].tolist() == kept.tolist()
    assert ids_of_teacher(student_of(4, kept), full, full) is kept


def test_a_token_that_the_teacher_lacks_has_no_probability():
    teacher, student = module("smollm"), module("smollm", seed=1)
    ids = np.arange(512)
    ids[[5, 300]] = -1
    batch = a_batch(4)
    with torch.no_grad():
        logits = all_logits(teacher, batch)
        logits[:, [5, 300]] = -torch.inf
        found = LiveTeacher(teacher, 512, ids).at(batch)(slice(0, len(batch.labels_N))).logits_nV
    torch.testing.assert_close(found.softmax(-1), logits.softmax(-1))
    assert torch.isfinite(objective_loss("logits", student, batch, LiveTeacher(teacher, 512, ids)))


def test_rows_with_a_token_that_the_teacher_lacks_are_refused_by_its_number():
    rows = TokenRows(np.array([1, 5, 2], np.int32), np.ones(3, bool), np.array([0, 3]), np.zeros(1, np.int64))
    ids = np.arange(8)
    require_known(rows, None)
    require_known(replace(rows, ids=np.array([1, 2, 3], np.int32)), np.where(ids == 5, -1, ids))
    with pytest.raises(CapabilityError, match=r"1 tokens that stand in the rows \(as number 5\) are none of the teacher's"):
        require_known(rows, np.where(ids == 5, -1, ids))
