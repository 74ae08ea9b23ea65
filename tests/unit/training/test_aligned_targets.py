"""A local teacher with another tokenizer and another chat template, carried over to the student's positions."""

import numpy as np
import pytest
import torch
from families import module, tokenizer
from tokenizers import normalizers

from potstill.errors import CapabilityError
from potstill.models.chat import prompt_ids
from potstill.models.reading import Weights
from potstill.models.tokens import token_bytes
from potstill.records import Example, Message
from potstill.training.batches import collate
from potstill.training.head import head_of, trained_hidden
from potstill.training.rows import encode_rows
from potstill.training.targets.aligned import Lesson, aligned_targets

OTHER_TEMPLATE = (
    "{% for m in messages %}{{ '<|image|>' if m['role'] == 'user' else '<|start|>' }} {{ m['content'] }}"
    "{{ '<pad>' if m['role'] == 'assistant' else '' }}{% endfor %}{% if add_generation_prompt %}<|start|>{% endif %}"
)
EXAMPLES = [
    Example("a", (Message("user", "What jumps?"), Message("assistant", "the quick brown fox")), trained_turns=(1,)),
    Example(
        "b",
        (Message("user", "Which?"), Message("assistant", "naïve 東京"), Message("user", "And?"), Message("assistant", "def parse(text)")),
        trained_turns=(1, 3),
    ),
]


def lesson(student, k=512):
    rows = encode_rows(student, EXAMPLES, max_length=200).rows
    return Lesson(rows, EXAMPLES, token_bytes(student.backend_tokenizer), k)


def teacher_of(own):
    return Weights(module("smollm", len(own) + 9), own, None, "")


def dense(store, size):
    found = store.take(np.arange(store.starts[-1]))
    whole = np.zeros((len(found.ids_PK), size))
    for row, ids, logp in zip(whole, found.ids_PK, found.logp_PK, strict=True):
        row[ids[ids >= 0]] = np.exp(logp[ids >= 0])
    return whole, np.exp(found.tail_logp_P)


def test_a_teacher_with_the_same_tokenizer_gives_its_own_distribution():
    student = tokenizer()
    given = lesson(student)
    teacher = teacher_of(student)
    store, share = aligned_targets(given, teacher)
    found, _ = dense(store, len(student))
    batch = collate([given.rows[number] for number in range(len(given.rows))], 0)
    with torch.no_grad():
        logits = head_of(teacher.module).logits(trained_hidden(teacher.module, batch))[:, : len(student)]
    assert share == 1.0
    np.testing.assert_allclose(found, logits.softmax(-1).numpy(), atol=1e-5)


def test_a_teacher_with_other_tokens_and_another_template_is_heard_at_every_answer():
    student, own = tokenizer(), tokenizer("byte_fallback")
    own.add_special_tokens({"additional_special_tokens": ["<|start|>"]})
    own.chat_template = OTHER_TEMPLATE
    teacher = teacher_of(own)
    store, share = aligned_targets(lesson(student), teacher)
    found, tails = dense(store, len(student))
    assert share > 0.9
    np.testing.assert_allclose(found.sum(axis=1) + tails, 1.0, atol=1e-5)
    # The first answer's first byte, summed over the teacher's tokens after its own prompt and the two spaces that it reads there.
    prompt = [*prompt_ids(own, EXAMPLES[0].messages[:1]), own.convert_tokens_to_ids("▁▁")]
    with torch.no_grad():
        p_V = teacher.module(input_ids=torch.tensor([prompt])).logits[0, -1, : len(own)].softmax(-1).numpy()
    spelt, ours = token_bytes(own.backend_tokenizer), token_bytes(student.backend_tokenizer)
    begins_with_t, with_t = (
        sum(p for text, p in zip(texts, p_V, strict=True) if text and text.startswith(b"t"))
        for texts, p_V in ((spelt, p_V), (ours, found[0]))
    )
    assert with_t == pytest.approx(begins_with_t, abs=1e-4)


def test_fewer_tokens_leave_the_others_to_the_rest():
    student, own = tokenizer(), tokenizer("byte_fallback")
    full, _ = dense(aligned_targets(lesson(student), teacher_of(own))[0], len(student))
    few, tails = dense(aligned_targets(lesson(student, k=4), teacher_of(own))[0], len(student))
    kept = few > 0
    np.testing.assert_allclose(few[kept], full[kept], rtol=1e-4)
    np.testing.assert_allclose(tails, 1 - few.sum(axis=1), atol=1e-5)
    assert (kept.sum(axis=1) <= 4).all()


def test_answers_that_no_token_of_the_teacher_writes_are_refused():
    student, own = tokenizer(), tokenizer()
    own.backend_tokenizer.normalizer = normalizers.Replace("e", "E")
    with pytest.raises(CapabilityError, match="no answer reads the same in the tokens of teacher and student"):
        aligned_targets(lesson(student), teacher_of(own))
