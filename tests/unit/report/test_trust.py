import pytest

from potstill.report.page import render_html
from potstill.report.table import comparison_table
from potstill.report.trust import leak_sentences, seal_sentence


def test_how_often_the_test_was_opened_is_told_with_the_students(content, trust):
    assert seal_sentence(content) is None
    content |= trust
    assert seal_sentence(content) == "The test rows of this run were opened twice, for 2 students."
    content["seal"]["openings"] = content["seal"]["openings"][:1] * 7
    content["seal"] |= {"opened": 7, "of_other_rows": 1}
    assert (
        seal_sentence(content)
        == "The test rows of this run were opened 7 times, for 1 student, and once before, when they were other rows."
    )


def test_table_and_page_tell_it(content, trust):
    content |= trust
    assert comparison_table(content).caption.endswith(". The test rows of this run were opened twice, for 2 students")
    page = render_html(content, [], ([], {}))
    assert "opened twice, for 2 students. Measured on" in page
    for sentence in leak_sentences(content):
        assert sentence.replace("'", "&#39;") in page


def test_leaks_are_told_by_kind(content, trust):
    assert leak_sentences(content) == []
    content |= trust
    assert leak_sentences(content) == [
        "Of 900 training rows 1 stand in the test exactly, 2 nearly, and 30 may say the same in other words; 5 more that stand there were "
        "left out.",
        "Of 850 of the teacher's answers 0 are a reference of the test exactly, 0 nearly, and 4 may say the same in other words.",
    ]


def test_where_paraphrases_were_looked_for_in_a_part_alone_the_share_is_told(content, trust):
    content |= trust
    content["leaks"]["train_test"]["compared"]["for_paraphrases"] = [300, 60]
    assert "; of 300 others 30 (10 %) may say in other words what one of 60 test rows says" in leak_sentences(content)[0]


@pytest.mark.parametrize("empty", ["learnt", "test"])
def test_labels_which_are_not_compared_are_not_told_of(content, trust, empty):
    content |= trust
    content["leaks"]["answers_references"]["compared"][empty] = 0
    assert len(leak_sentences(content)) == 1
