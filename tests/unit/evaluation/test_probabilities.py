"""Probabilities of labels come out of the answer's own tokens, and are those of the model."""

import math

import pytest
from examined import LABELS, run_to_examine
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.evaluation import stage
from potstill.evaluation.probabilities import LabelWays
from potstill.models.testing import OpenAIStub
from potstill.records import Example, Message, TokenLogprob
from potstill.store.atomic import read_jsonl
from potstill.store.ledger import Ledger
from tiny import tiny_llama


def place(chosen, **options):
    """One place: the tokens' probabilities by text (`_` stands for a space, `end` for the stop token)."""
    named = {"" if text == "end" else text.replace("_", " "): value for text, value in options.items()}
    chosen = "" if chosen == "end" else chosen.replace("_", " ")
    return TokenLogprob(chosen, math.log(named[chosen]), tuple((text, math.log(value)) for text, value in named.items()))


def test_labels_that_differ_in_their_first_token_have_its_probabilities():
    found = LabelWays(["yes", "no"]).probabilities([place("yes", yes=0.6, no=0.2, maybe=0.2), place("end", end=1.0)])
    assert found == pytest.approx({"yes": 0.75, "no": 0.25})


def test_labels_with_one_beginning_are_told_apart_where_they_part():
    places = [place("card", card=0.8, fee=0.2), place("_lost", _lost=0.5, _stolen=0.25, end=0.25), place("end", end=1.0)]
    found = LabelWays(["card", "card lost", "card stolen", "fee"]).probabilities(places)
    assert found == pytest.approx({"card": 0.2, "card lost": 0.4, "card stolen": 0.2, "fee": 0.2})


def test_a_way_that_the_answer_did_not_go_is_shared_by_its_labels():
    found = LabelWays(["card lost", "card stolen", "fee"]).probabilities([place("fee", card=0.4, fee=0.6), place("end", end=1.0)])
    assert found == pytest.approx({"card lost": 0.2, "card stolen": 0.2, "fee": 0.6})


@pytest.mark.parametrize("ending", ["end", ".", "_"])
def test_white_space_and_full_stops_around_a_label_are_none_of_it(ending):
    options = {"end": 0.5, ".": 0.25, "_": 0.25}
    places = [place("_", _=1.0), place("Card", Card=0.75, Fee=0.25), place(ending, **options)]
    found = LabelWays(["card", "card lost", "fee"]).probabilities(places)
    # The space might have led on to the longer label.
    assert found == pytest.approx({"card": 0.75 * 0.75, "card lost": 0.75 * 0.25, "fee": 0.25})


def test_an_answer_beside_all_labels_has_the_probabilities_of_those_it_might_have_given():
    assert LabelWays(["yes", "no"]).probabilities([place("Well", Well=0.5, yes=0.1, no=0.4)]) == pytest.approx({"yes": 0.2, "no": 0.8})
    assert LabelWays(["yes", "no"]).probabilities([place("Well", Well=0.5, I=0.5)]) is None


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_shares_sum_up_to_one_whatever_is_written(data):
    labels = data.draw(st.lists(st.text("ab ", min_size=1, max_size=4).map(str.strip).filter(bool), min_size=2, max_size=5, unique=True))
    tokens = st.sampled_from(["a", "b", " ", "ab", "", ".", "x", "ba"])
    places = []
    for _ in range(data.draw(st.integers(1, 5))):
        options = data.draw(st.dictionaries(tokens, st.floats(0.01, 1.0), min_size=1, max_size=6))
        total = sum(options.values())
        options = {token: math.log(value / total) for token, value in options.items()}
        chosen = data.draw(st.sampled_from(sorted(options)))
        places.append(TokenLogprob(chosen, options[chosen], tuple(options.items())))
        if chosen == "":
            break
    found = LabelWays(labels).probabilities(places)
    if found is not None:
        assert sum(found.values()) == pytest.approx(1.0)
        assert min(found.values()) >= 0.0


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("models") / "student", layers=1)


def test_a_local_model_s_predictions_hold_them_and_an_endpoint_s_do_not(tmp_path, student):
    with OpenAIStub(lambda payload: "yes") as stub:
        rows = [Example(str(n), (Message("user", f"number {n}"),), reference=("yes",)) for n in range(4)]
        run = run_to_examine(
            tmp_path, student, rows, teacher={"model": "m", "base_url": stub.base_url}, evaluation={"systems": ["teacher", "student"]}
        )
        stage.work(run, resumed=False)
        teacher, own = (list(read_jsonl(run.path("evaluation", "predictions", f"{name}.jsonl"))) for name in ("teacher", "student"))
    assert not any("probabilities" in row or "logprobs" in call for row in teacher for call in stub.calls)
    known = [row["probabilities"] for row in own if "probabilities" in row]
    assert all(set(found) == {"yes", "no"} and sum(found.values()) == pytest.approx(1.0) for found in known)
    with Ledger(run.path("evaluation", "ledger.sqlite")) as ledger:
        noted = [(request, answer) for _, request, answer in ledger.answers() if request.top_logprobs]
    assert len(noted) == 4
    # An answer's probabilities are read again from the ledger as they were.
    assert known == [found for _, answer in noted if (found := LabelWays(("yes", "no")).probabilities(answer.logprobs)) is not None]


@pytest.mark.parametrize("evaluation", [{"probabilities": False}, {}])
def test_nobody_asks_for_them_where_the_spec_or_the_task_does_without(tmp_path, student, evaluation):
    task = LABELS if evaluation else {"type": "summarization", "max_new_tokens": 4}
    rows = [Example(str(n), (Message("user", f"number {n}"),), reference=("yes",)) for n in range(2)]
    run = run_to_examine(tmp_path, student, rows, task=task, evaluation={"systems": ["student"], **evaluation})
    stage.work(run, resumed=False)
    with Ledger(run.path("evaluation", "ledger.sqlite")) as ledger:
        assert not any(request.top_logprobs for _, request, _ in ledger.answers())
