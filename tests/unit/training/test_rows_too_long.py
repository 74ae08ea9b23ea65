"""What becomes of rows that are longer than a student may read."""

from typing import Any

import pytest

from potstill.errors import TrainingError
from potstill.models.chat import prompt_ids, training_ids
from potstill.records import Example, Message
from potstill.training.rows import encode_rows
from tiny import tiny_tokenizer

SYSTEM = Message("system", "Answer in one word.")


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def chat(words: int, answer: str = "Paris.", system: bool = True) -> Example:
    asked = (*((SYSTEM,) if system else ()), Message("user", " ".join(f"word{n}" for n in range(words)) + " and the end?"))
    return Example(f"row-{words}", (*asked, Message("assistant", answer)), trained_turns=(len(asked),))


def length(tokenizer: Any, row: Example) -> int:
    return len(training_ids(tokenizer, row.messages, row.trained_turns)[0])


def test_longer_rows_are_left_out_and_counted(tokenizer: Any) -> None:
    rows = [chat(2), chat(60)]
    found = encode_rows(tokenizer, rows, max_length=length(tokenizer, rows[0]))
    assert (len(found.rows), found.too_long, found.cut) == (1, 1, 0)


@pytest.mark.parametrize("system", [True, False])
def test_a_row_that_is_cut_keeps_its_system_turn_its_answer_and_the_end_of_its_question(tokenizer: Any, system: bool) -> None:
    row = chat(60, system=system)
    limit = length(tokenizer, row) - 50
    found = encode_rows(tokenizer, [row], max_length=limit, too_long="cut_left")
    [cut] = found.rows
    assert (found.cut, found.too_long, len(cut.ids)) == (1, 0, limit)
    text = tokenizer.decode(cut.ids)
    opening = tokenizer.decode(prompt_ids(tokenizer, (*row.messages[:-2], Message("user", "?")))).split("?")[0]
    assert text.startswith(opening)
    assert "Answer in one word." in text if system else text.startswith("<|im_start|>user\n")
    assert "word0 " not in text
    assert text.endswith("word59 and the end?<|im_end|>\n<|im_start|>assistant\nParis.<|im_end|>")
    assert tokenizer.decode(cut.ids[cut.trained]) == "Paris.<|im_end|>"


def test_rows_that_fit_are_the_same_whatever_becomes_of_others(tokenizer: Any) -> None:
    row = chat(20)
    kinds = [encode_rows(tokenizer, [row], max_length=length(tokenizer, row), too_long=kind) for kind in ("drop", "cut_left", "refuse")]
    assert {found.rows.ids.tobytes() for found in kinds} == {kinds[0].rows.ids.tobytes()}
    assert [found.cut for found in kinds] == [0, 0, 0]


def test_an_answer_is_never_cut_and_a_row_without_room_for_it_is_left_out(tokenizer: Any) -> None:
    kept = length(tokenizer, chat(0, "card lost " * 30)) - len(tokenizer(" and the end?")["input_ids"])
    rows = [chat(60, "card lost " * 30), chat(1)]
    assert encode_rows(tokenizer, rows, max_length=kept, too_long="cut_left").cut == 1
    found = encode_rows(tokenizer, rows, max_length=kept - 1, too_long="cut_left")
    assert (found.cut, found.too_long) == (0, 1)


def test_of_a_long_conversation_the_oldest_goes_first_and_later_answers_are_still_learnt(tokenizer: Any) -> None:
    turns = [message for n in range(8) for message in (Message("user", f"question {n}?"), Message("assistant", f"reply {n}."))]
    row = Example("talk", (SYSTEM, *turns), trained_turns=tuple(range(2, 17, 2)))
    found = encode_rows(tokenizer, [row], max_length=length(tokenizer, row) // 2, too_long="cut_left")
    [cut] = found.rows
    learnt = tokenizer.decode(cut.ids[cut.trained])
    assert learnt.endswith("reply 6.<|im_end|>reply 7.<|im_end|>")
    assert "reply 0." not in learnt
    assert "Answer in one word." in tokenizer.decode(cut.ids)


def test_a_row_that_is_too_long_can_stop_the_run_with_the_count_and_the_longest(tokenizer: Any) -> None:
    rows = [chat(2), chat(60), chat(90)]
    longest = length(tokenizer, rows[2])
    with pytest.raises(
        TrainingError, match=rf"2 of 3 rows are longer than 64 tokens \(`training\.max_length`\) \(the longest has {longest}\)"
    ):
        encode_rows(tokenizer, rows, max_length=64, too_long="refuse")
