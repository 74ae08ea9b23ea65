"""A teacher's distributions in a student's tokens, against enumeration over the teacher's."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.training.targets.alignment import END, Crossing, SaidBeliefs, StudentTokens, WholeBeliefs, project

LETTERS = b"abc"
BYTES = [bytes([letter]) for letter in LETTERS]

vocabularies = st.lists(st.text("abc", min_size=2, max_size=4).map(str.encode), max_size=8, unique=True).map(
    lambda more: [*BYTES, *more, END]
)
texts = st.text("abc", min_size=1, max_size=8).map(str.encode)


def cut(text, vocabulary, generator):
    """The text in tokens, drawn at random, and the end."""
    tokens = []
    while text:
        token = generator.choice([token for token in vocabulary if token != END and text.startswith(token)])
        tokens.append(bytes(token))
        text = text[len(token) :]
    return [*tokens, END]


def beliefs_of(tokens, vocabulary, student, generator):
    p_MV = generator.dirichlet(np.ones(len(vocabulary)) / 2, size=len(tokens))
    ids = np.array([vocabulary.index(token) for token in tokens])
    return WholeBeliefs(Crossing(vocabulary, student), tokens, ids, p_MV), p_MV


def dense(found, size):
    ids, p, rest = found.likeliest(10**6)
    whole = np.zeros(size)
    whole[ids] = p
    assert rest == pytest.approx(0, abs=1e-9)
    return whole


def starts(tokens):
    return [sum(map(len, tokens[:place])) for place in range(len(tokens))]


def enumerated(p_MV, tokens, vocabulary, at, student):
    """The definition, token by token: `student` is its list of tokens."""
    (offset, own), begins = at, starts(tokens)
    place = max(number for number, begin in enumerate(begins) if begin <= offset)
    consumed = tokens[place][: offset - begins[place]]
    found, before, chain = {}, b"", 1.0
    while True:
        fitting = {token: p for token, p in zip(vocabulary, p_MV[place], strict=True) if token.startswith(consumed) and token != consumed}
        for token, p in fitting.items():
            if token != tokens[place]:
                text = before + token[len(consumed) :]
                first = max((one for one in student if text.startswith(one)), key=len)
                found[first] = found.get(first, 0.0) + chain * p / sum(fitting.values())
        chain *= fitting[tokens[place]] / sum(fitting.values())
        before += tokens[place][len(consumed) :]
        if len(before) >= len(own):
            found[own] = found.get(own, 0.0) + chain
            return np.array([found.get(token, 0.0) for token in student])
        place, consumed = place + 1, b""


@settings(max_examples=60, deadline=None)
@given(text=texts, vocabulary=vocabularies, seed=st.integers(0, 99))
def test_with_the_same_tokens_it_is_the_teachers_own_distribution(text, vocabulary, seed):
    generator = np.random.default_rng(seed)
    tokens, student = cut(text, vocabulary, generator), StudentTokens(vocabulary, len(vocabulary) - 1)
    beliefs, p_MV = beliefs_of(tokens, vocabulary, student, generator)
    for begin, token, p_V in zip(starts(tokens), tokens, p_MV, strict=True):
        found = project(beliefs, begin, b"", token, vocabulary.index(token))
        np.testing.assert_allclose(dense(found, len(vocabulary)), p_V, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(text=texts, vocabulary=vocabularies, seed=st.integers(0, 99))
def test_a_student_of_bytes_gets_the_sums_over_the_teachers_tokens(text, vocabulary, seed):
    generator = np.random.default_rng(seed)
    letters = [*BYTES, END]
    tokens, student = cut(text, vocabulary, generator), StudentTokens(letters, 3)
    beliefs, p_MV = beliefs_of(tokens, vocabulary, student, generator)
    begins = starts(tokens)
    for offset in range(len(text)):
        place = max(number for number, begin in enumerate(begins) if begin <= offset)
        consumed = tokens[place][: offset - begins[place]]
        sums = [sum(p for token, p in zip(vocabulary, p_MV[place], strict=True) if token.startswith(consumed + one)) for one in letters]
        if consumed:
            sums[3] = 0.0  # an answer does not end inside a token
        own = text[offset : offset + 1]
        found = dense(project(beliefs, offset, b"", own, letters.index(own)), 4)
        np.testing.assert_allclose(found, np.array(sums) / sum(sums), atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(text=texts, teacher=vocabularies, student=vocabularies, seed=st.integers(0, 99))
def test_any_two_cuts_of_a_text_give_what_enumeration_gives(text, teacher, student, seed):
    generator = np.random.default_rng(seed)
    tokens, ours = cut(text, teacher, generator), cut(text, student, generator)
    table = StudentTokens(student, len(student) - 1)
    beliefs, p_MV = beliefs_of(tokens, teacher, table, generator)
    for begin, own in zip(starts(ours), ours, strict=True):
        found = dense(project(beliefs, begin, b"", own, student.index(own)), len(student))
        np.testing.assert_allclose(found, enumerated(p_MV, tokens, teacher, (begin, own), student), atol=1e-12)
        assert found.sum() == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(text=texts, teacher=vocabularies, student=vocabularies, seed=st.integers(0, 99))
def test_a_server_that_says_everything_is_a_teacher_in_memory(text, teacher, student, seed):
    generator = np.random.default_rng(seed)
    tokens, ours = cut(text, teacher, generator), cut(text, student, generator)
    table = StudentTokens(student, len(student) - 1)
    beliefs, p_MV = beliefs_of(tokens, teacher, table, generator)
    said = SaidBeliefs(table, tokens, [dict(zip(teacher, p_V.tolist(), strict=True)) for p_V in p_MV])
    for begin, own in zip(starts(ours), ours, strict=True):
        one, other = (dense(project(way, begin, b"", own, student.index(own)), len(student)) for way in (beliefs, said))
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_a_long_token_of_the_student_gets_the_product_of_the_teachers():
    teacher, student = [*BYTES, END], [*BYTES, b"ab", b"abc", END]
    table = StudentTokens(student, 5)
    p_MV = np.array([[0.5, 0.3, 0.1, 0.1], [0.2, 0.6, 0.1, 0.1], [0.3, 0.3, 0.3, 0.1], [0, 0, 0, 1]])
    beliefs = WholeBeliefs(Crossing(teacher, table), [b"a", b"b", b"c", END], np.array([0, 1, 2, 3]), p_MV)
    found = dense(project(beliefs, 0, b"", b"abc", 4), 6)
    a, b, c, end = p_MV[0]
    ab, abc = a * p_MV[1][1], a * p_MV[1][1] * p_MV[2][2]
    np.testing.assert_allclose(found, [a - ab, b, c, ab - abc, abc, end])


def test_text_that_only_the_students_template_writes_stands_before_the_teachers_tokens():
    teacher, student = [b"a", b"b", END], [b" a", b" b", b" ", b"a", b"b", END]
    table = StudentTokens(student, 5)
    beliefs = WholeBeliefs(Crossing(teacher, table), [b"a", END], np.array([0, 2]), np.array([[0.6, 0.3, 0.1], [0, 0, 1]]))
    found = dense(project(beliefs, 0, b" ", b" a", 0), 6)
    np.testing.assert_allclose(found, [0.6, 0.3, 0.1, 0, 0, 0], atol=1e-12)  # " " and the end: " " is the token that begins it


def test_what_a_server_did_not_say_is_left_for_all_other_tokens():
    student = StudentTokens([*BYTES, END], 3)
    said = SaidBeliefs(student, [b"ab"], [{b"ab": 0.5, b"c": 0.2}])
    ids, p, rest = project(said, 0, b"", b"a", 0).likeliest(9)
    assert dict(zip(ids.tolist(), p.tolist(), strict=True)) == pytest.approx({0: 0.5, 2: 0.2})
    assert rest == pytest.approx(0.3)
    ids, p, rest = project(said, 1, b"", b"b", 1).likeliest(9)
    assert (ids.tolist(), p.tolist(), rest) == ([1], [1.0], 0.0)


def test_what_is_beyond_the_text_or_was_not_said_is_not_known():
    student = StudentTokens([*BYTES, b"aa", END], 4)
    assert project(SaidBeliefs(student, [b"a"], [{b"a": 0.9}]), 0, b"", b"aa", 3) is None
    assert project(SaidBeliefs(student, [b"a"], [{}]), 0, b"", b"a", 0) is None


def test_a_teacher_that_rules_out_the_text_itself_is_not_known_inside_its_token():
    student = StudentTokens([*BYTES, END], 3)
    beliefs = WholeBeliefs(Crossing([*BYTES, b"ab", END], student), [b"ab"], np.array([3]), np.array([[1.0, 0.0, 0.0, 0.0, 0.0]]))
    assert dense(project(beliefs, 0, b"", b"a", 0), 4).tolist() == [1.0, 0.0, 0.0, 0.0]
    assert project(beliefs, 1, b"", b"b", 1) is None


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=9), st.integers(1, 9))
def test_the_likeliest_tokens_and_the_rest_sum_to_one(masses, k):
    vocabulary = [*BYTES, b"ab", b"ac", b"bc", b"ca", b"aaa", END]
    table = StudentTokens(vocabulary, 8)
    tops = dict(zip(vocabulary, (mass / sum(masses) for mass in masses), strict=False))
    ids, p, rest = project(SaidBeliefs(table, [b"a"], [tops]), 0, b"", b"a", 0).likeliest(k)
    assert p.sum() + rest == pytest.approx(1.0)
    assert len(ids) <= k
    assert all(one >= other for one, other in pairwise(p.tolist()))
    assert math.isfinite(rest)
