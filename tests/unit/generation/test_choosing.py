"""Several samples, several teachers: what is chosen, in whose name, and with which shares."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scripted import Scripted, ask, interview, open_ledger, row, seat

from potstill.errors import SpecError
from potstill.generation.collect import failed_share
from potstill.generation.interview import Interview
from potstill.generation.panel import seat_panel
from potstill.generation.routing import by_weight
from potstill.models.talk import Answered, Ask
from potstill.records import Completion, Example, Fault, Message, Request, Sampling
from potstill.spec import RunSpec
from potstill.spec.sections import GatesSpec, GenerationSpec, TaskSpec
from potstill.tasks import build_task
from potstill.tasks.judging import read_better, read_mark

NLI = build_task(TaskSpec(type="nli", labels=("yes", "no", "maybe")))
SUMMARY = build_task(TaskSpec(type="summarization"))
MATH = build_task(TaskSpec(type="math"))


@pytest.fixture
def ledger(tmp_path):
    with open_ledger(tmp_path) as opened:
        yield opened


def samples(*texts: str, name: str = "scripted") -> Scripted:
    return Scripted(lambda request: texts[request.sample], name)


def test_votes_choose_the_answer_that_most_samples_give_and_keep_the_shares(ledger):
    [judged] = ask(interview(NLI, ledger, seat(samples("no", "yes", "Yes.", "well", "yes")), samples=5), row("a"))
    [learnt] = judged.rows
    assert learnt.messages[-1].content == "yes"
    assert learnt.distribution == (("yes", 0.6), ("no", 0.2))
    assert Example.from_json(learnt.to_json()) == learnt


@given(st.lists(st.sampled_from(["yes", "no", "maybe", "?"]), min_size=1, max_size=8))
@settings(max_examples=30, deadline=None)
def test_the_winner_of_a_vote_has_the_most_votes_and_came_first_among_equals(tmp_path_factory, texts):
    with open_ledger(tmp_path_factory.mktemp("l")) as ledger:
        [judged] = ask(interview(NLI, ledger, seat(samples(*texts)), samples=len(texts), choose="vote"), row("a"))
    votes = [text for text in texts if text != "?"]
    if not votes:
        assert judged.rows == ()
        return
    best = max(votes.count(text) for text in votes)
    assert judged.rows[0].messages[-1].content == next(text for text in votes if votes.count(text) == best)
    assert sum(share for _, share in judged.rows[0].distribution) == pytest.approx(len(votes) / len(texts))


def test_the_verifier_takes_the_first_sample_that_is_right(ledger):
    talks = interview(MATH, ledger, seat(samples("It is 5.", "It is 4.", "It is 4")), samples=3, choose="verifier")
    [judged] = ask(talks, row("2 + 2?", "4"))
    assert judged.rows[0].messages[-1].content == "It is 4."


def test_all_keeps_every_distinct_answer_as_a_row_of_its_own(ledger):
    [judged] = ask(interview(SUMMARY, ledger, seat(samples("one", "two", "one")), samples=3, choose="all"), row("a"))
    assert [(found.id, found.messages[-1].content) for found in judged.rows] == [("row-0", "one"), ("row-0#2", "two")]


def compare_by(better):
    """A judge for whom `better` is the better text, wherever it stands."""

    def answer(request):
        words = request.messages[-1].content
        return f"It is clear.\nBetter: {'A' if words.index(better) < words.index('# Answer B') else 'B'}"

    return Scripted(answer, "judge")


def test_the_judge_sees_both_orders_and_the_better_answer_wins(ledger):
    judge = compare_by("good")
    talks = interview(SUMMARY, ledger, seat(samples("bad", "good", "poor")), samples=3, choose="judge", judge=seat(judge))
    [judged] = ask(talks, row("a"))
    assert judged.rows[0].messages[-1].content == "good"
    assert len(judge.asked) == 4


@pytest.mark.parametrize("said", ["Better: A", "Better: neither", "I cannot say.", ""])
def test_a_judge_that_prefers_a_place_or_says_nothing_wins_for_nobody(ledger, said):
    judge = Scripted(lambda _: said, "judge")
    [judged] = ask(interview(SUMMARY, ledger, seat(samples("one", "two")), samples=2, choose="judge", judge=seat(judge)), row("a"))
    assert judged.rows[0].messages[-1].content == "one"


def scoring(said, *answers, gates=None, task=NLI, text="a", **generation):
    """What comes of a row whose teacher gave these answers and whose judge said this, and what the judge was asked."""

    def run(ledger):
        judge = Scripted(lambda _: said, "judge")
        settings = {"samples": len(answers), "choose": "label_scores", **generation}
        [judged] = ask(interview(task, ledger, seat(samples(*answers)), judge=seat(judge), gates=gates, **settings), row(text, "no"))
        return judged, judge.asked

    return run


def test_a_judges_scores_of_the_labels_become_shares_and_the_likeliest_answer_is_learnt(ledger):
    judged, asked = scoring('I weigh.\n{"YES": 30, "no": 60, "maybe": 0, "other": 10}', "yes", "No.", "yes")(ledger)
    [learnt] = judged.rows
    assert learnt.messages[-1].content == "No."
    assert learnt.distribution == (("no", pytest.approx(2 / 3)), ("yes", pytest.approx(1 / 3)))
    [request] = asked
    assert "- yes\n- no\n- maybe" in request.messages[-1].content
    assert "A right answer" not in request.messages[-1].content


def test_one_answer_is_enough_and_stands_first_though_another_label_is_likelier(ledger):
    judged, _ = scoring('{"yes": 0.7, "maybe": 0.1, "no": 0.2}', "no")(ledger)
    assert judged.rows[0].distribution == (("no", pytest.approx(0.2)), ("yes", pytest.approx(0.7)), ("maybe", pytest.approx(0.1)))


@pytest.mark.parametrize(
    "said",
    [
        "no idea",
        "{}",
        '{"yes": 0}',
        '{"yes": -1, "no": true, "maybe": "much"}',
        '{"yes": 1',
        '{"yes" 1}',
        Completion('{"no": 1}', "length"),
    ],
)
def test_words_without_scores_leave_the_first_answer_as_text(ledger, said):
    judged, _ = scoring(said, "yes", "no")(ledger)
    assert (judged.rows[0].messages[-1].content, judged.rows[0].distribution) == ("yes", ())


def test_an_answer_that_the_judge_rules_out_has_no_distribution_and_can_be_dropped(ledger):
    judged, _ = scoring('{"no": 1}', "yes")(ledger)
    assert (judged.rows[0].messages[-1].content, judged.rows[0].distribution) == ("yes", ())
    judged, _ = scoring('{"no": 1}', "yes", gates=GatesSpec(min_agreement=0.5))(ledger)
    assert judged.rows == ()


def test_the_letters_of_a_choice_are_scored_too_where_the_prompt_lists_them(ledger):
    choice = build_task(TaskSpec(type="qa", answer="choice"))
    judged, asked = scoring('{"A": 1, "B": 3}', "B", task=choice, text="Which?\nA) one\nB) two")(ledger)
    assert judged.rows[0].distribution == (("B", 0.75), ("A", 0.25))
    judged, asked = scoring('{"A": 1}', "B", task=choice, text="Which?")(ledger)
    assert (asked, judged.rows[0].distribution) == ([], ())


def test_scores_of_labels_need_labels_and_somebody_who_gives_them():
    given = {"name": "j", "data": {"train": "t.jsonl"}, "teacher": {"model": "echo"}, "student": {"model": "x"}}
    choose = {"generation": {"choose": "label_scores"}}
    with pytest.raises(ValidationError, match="answers of summarization are no labels"):
        RunSpec.model_validate({**given, **choose, "task": {"type": "summarization"}})
    spec = RunSpec.model_validate({**given, **choose, "task": {"type": "nli", "labels": ["a", "b"]}})
    with pytest.raises(SpecError, match=r"generation\.judge"), seat_panel(spec, NLI, [Scripted(lambda _: "x")]):
        pass


def test_a_judge_must_be_named_where_there_is_one_teacher():
    spec = RunSpec.model_validate(
        {
            "name": "j",
            "task": {"type": "summarization"},
            "data": {"train": "t.jsonl"},
            "teacher": {"model": "echo"},
            "student": {"model": "x"},
            "gates": {"judge": 0.5},
        }
    )
    with pytest.raises(SpecError, match=r"generation\.judge"), seat_panel(spec, SUMMARY, [Scripted(lambda _: "x")]):
        pass


def test_the_next_teacher_is_asked_only_where_the_gates_drop_the_first_ones_answer(ledger):
    cheap = Scripted(lambda request: "yes" if "easy" in request.messages[-1].content else "well, hm", "cheap")
    dear = Scripted(lambda _: "no", "dear")
    rows = [row("easy", number=1), row("hard", number=2)]
    easy, hard = ask(interview(NLI, ledger, seat(cheap), seat(dear), route="cascade"), *rows)
    assert (easy.rows[0].teacher, hard.rows[0].teacher) == ("cheap", "dear")
    assert [request.messages[-1].content for request in dear.asked] == ["hard"]
    assert [candidate.reply.seat.title for candidate in hard.outcome.candidates] == ["cheap", "dear"]


def test_an_ensemble_votes_over_all_its_teachers(ledger):
    teachers = [seat(Scripted(lambda _, said=said: said, name)) for name, said in (("a", "no"), ("b", "yes"), ("c", "yes"))]
    [judged] = ask(interview(NLI, ledger, *teachers, route="vote"), row("a"))
    assert (judged.rows[0].messages[-1].content, judged.rows[0].teacher) == ("yes", "b")


def test_a_tag_finds_its_teacher_and_other_rows_the_one_without_tags(ledger):
    law = Scripted(lambda _: "yes", "law")
    rest = Scripted(lambda _: "no", "rest")
    rows = [row("a", number=1, tags=("law",)), row("b", number=2, tags=("art",)), row("c", number=3)]
    judged = ask(interview(NLI, ledger, seat(law, tags=("law",)), seat(rest), route="tag"), *rows)
    assert [one.rows[0].teacher for one in judged] == ["law", "rest", "rest"]


def test_weights_share_the_rows_out_and_a_row_keeps_its_teacher():
    heavy, light = seat(Scripted(lambda _: "", "heavy"), weight=3.0), seat(Scripted(lambda _: "", "light"), weight=1.0)
    rows = [Example(f"r{number}", (Message("user", "a"),)) for number in range(2000)]
    drawn = [by_weight(example, (heavy, light))[0][0] for example in rows]
    assert drawn == [by_weight(example, (heavy, light))[0][0] for example in rows]
    assert 0.70 < sum(one is heavy for one in drawn) / len(rows) < 0.80


def test_a_mark_is_asked_for_where_a_gate_wants_one(ledger):
    marks = itertools.cycle(["Good.\nMark: 8", "no number"])
    judge = Scripted(lambda _: next(marks), "judge")
    talks = interview(SUMMARY, ledger, seat(Scripted(lambda _: "Fine.")), judge=seat(judge), gates=GatesSpec(judge=0.5))
    first, second = (one.outcome.candidates[0].mark for one in ask(talks, row("a", number=1), row("b", number=2)))
    assert {first, second} == {0.8, None}


def test_failed_and_kept_samples_may_stand_side_by_side(ledger):
    teacher = Scripted(lambda request: Completion("", "error", error="busy") if request.sample == 0 else "yes")
    [judged] = ask(interview(NLI, ledger, seat(teacher), samples=2), row("a"))
    assert judged.rows[0].distribution == (("yes", 0.5),)


def test_only_the_last_turn_is_answered_anew_where_the_spec_says_so(ledger):
    task = build_task(TaskSpec(type="conversation"))
    turns = (Message("user", "Hello"), Message("assistant", "Own words."), Message("user", "And now?"))
    teacher = Scripted(lambda _: "New words.")
    [judged] = ask(interview(task, ledger, seat(teacher), turns="last"), Example("c", turns))
    assert [m.content for m in teacher.asked[0].messages] == ["Hello", "Own words.", "And now?"]
    assert len(teacher.asked) == 1
    assert (judged.rows[0].trained_turns, judged.rows[0].messages[-1].content) == ((3,), "New words.")


def test_each_of_all_answers_is_judged_by_the_gates_of_rows(ledger):
    for number, texts in enumerate((["yes", "no"], ["no", "yes"])):
        asked = row("a", "yes", number=number)
        talks = interview(NLI, ledger, seat(samples(*texts, name=str(number))), samples=2, choose="all", gates=GatesSpec(gold=True))
        [judged] = ask(talks, asked)
        assert [(found.id, found.messages[-1].content) for found in judged.rows] == [(asked.id, "yes")]
        assert judged.drop is None
        verdicts = {c.text: {said.keep for said in ledger.verdicts(c.reply.key, asked.id) if said.gate == "gold"} for c, _ in judged.said}
        assert verdicts == {"yes": {True}, "no": {False}}


def test_each_of_all_answers_has_its_own_mark(ledger):
    judge = Scripted(lambda request: f"So.\nMark: {9 if 'good' in request.messages[-1].content else 1}", "judge")
    talks = interview(SUMMARY, ledger, seat(samples("bad", "good")), samples=2, choose="all", judge=seat(judge), gates=GatesSpec(judge=0.5))
    [judged] = ask(talks, row("a"))
    assert [found.messages[-1].content for found in judged.rows] == ["good"]


def test_a_turn_with_a_low_mark_ends_its_conversation(ledger):
    judge = Scripted(lambda request: f"Mark: {1 if 'second' in request.messages[-1].content.split('# Answer')[1] else 9}", "judge")
    teacher = Scripted(lambda request: ["first", "second", "third"][sum(m.role == "assistant" for m in request.messages)])
    turns = tuple(Message(role, "a") for role in ("user", "assistant", "user", "assistant", "user"))
    task = build_task(TaskSpec(type="conversation"))
    [judged] = ask(interview(task, ledger, seat(teacher), judge=seat(judge), gates=GatesSpec(judge=0.5)), Example("c", turns))
    assert [m.content for m in judged.rows[0].messages] == ["a", "first"]
    assert (judged.drop[0].gate, judged.drop[1].text) == ("judge", "second")
    assert len(teacher.asked) == 2


def test_teachers_that_judge_do_not_judge_their_own_answers(ledger):
    def teacher(name, weight):
        return seat(Scripted(lambda request: "Mark: 9" if "You mark" in request.messages[0].content else name, name), weight=weight)

    teachers = [teacher("a", 0.5), teacher("b", 0.5)]
    talks = interview(SUMMARY, ledger, *teachers, route="weight", judge=teachers[1], gates=GatesSpec(judge=0.5))
    judged = ask(talks, *(row(f"Text {number}", number=number) for number in range(20)))
    assert {one.rows[0].teacher for one in judged} == {"a", "b"}
    for one in judged:
        [marked] = one.outcome.turns[0].chosen.judged
        assert marked.ask.seat.title != one.rows[0].teacher


def test_a_third_teacher_compares_the_answers_of_two(ledger):
    def teacher(name):
        return seat(Scripted(lambda request: "Better: A" if "You compare" in request.messages[0].content else name, name))

    teachers = [teacher("a"), teacher("b"), teacher("c")]
    [judged] = ask(interview(SUMMARY, ledger, *teachers, route="vote", choose="judge", judge=teachers[2]), row("Text"))
    assert [said.ask.seat.title for said in judged.outcome.turns[0].chosen.judged] == ["c", "c", "b", "b"]


def test_sums_are_voted_on_by_value(ledger):
    [judged] = ask(interview(MATH, ledger, seat(samples("3", "1/2", "0.5")), samples=3, choose="vote"), row("a"))
    assert judged.rows[0].messages[-1].content == "1/2"
    assert judged.rows[0].distribution[0][1] == pytest.approx(2 / 3)


def test_dropped_answers_do_not_vote_and_count_among_the_samples(ledger):
    teacher = Scripted(lambda request: Completion("no", "length") if request.sample < 2 else "yes")
    [judged] = ask(interview(NLI, ledger, seat(teacher), samples=3, choose="vote"), row("a"))
    assert judged.rows[0].distribution == (("yes", pytest.approx(1 / 3)),)


def test_one_label_in_other_words_is_one_answer_and_a_sum_worked_out_otherwise_is_another(ledger):
    [judged] = ask(interview(NLI, ledger, seat(samples("yes", "Yes.", "no")), samples=3, choose="all"), row("a"))
    assert [found.messages[-1].content for found in judged.rows] == ["yes", "no"]
    texts = ("1/2", "0.5", "Half of it: 1/2", "1 - 0.5 = 0.5")
    [judged] = ask(interview(MATH, ledger, seat(samples(*texts, name="sums")), samples=4, choose="all"), row("b", number=1))
    assert [found.messages[-1].content for found in judged.rows] == ["1/2", "Half of it: 1/2", "1 - 0.5 = 0.5"]


def answered(text: str, finish: str = "stop") -> Answered:
    return Answered(Ask(seat(samples()), Request((), Sampling(16))), "key", Completion(text, finish))


@pytest.mark.parametrize(
    ("text", "better"),
    [
        ("Answer B is better. A misses the point.", None),
        ("Better: A\nNo, wait.\n**Better: B**", "B"),
        ("<think>Better: A</think>It is short.\nBetter: B", "B"),
        ("It is clear. Better: A.", "A"),
        ("Better: A\nI hope this helps.", None),
        ("The better answer is B", "B"),
    ],
)
def test_the_last_line_says_which_answer_is_better(text, better):
    assert read_better(answered(text)) == better


@pytest.mark.parametrize(
    ("text", "mark"),
    [("Mark: 2\nNo.\nMark: 8/10", 0.8), ("<think>Mark: 2</think>Fine.", None), ("Fine.\n**Mark: 7**", 0.7), ("Mark: 11", None)],
)
def test_the_last_line_says_the_mark(text, mark):
    assert read_mark(answered(text)) == mark


def test_a_judge_that_was_cut_off_says_nothing():
    assert (read_better(answered("Better: A", "length")), read_mark(answered("Mark: 1", "length"))) == (None, None)


BUSY = Completion("", "error", error="busy", fault=Fault("busy"))


@pytest.mark.parametrize(
    ("first", "second", "failed"),
    [(BUSY, "Fine.", 0), ("Fine.", BUSY, 0), (BUSY, BUSY, 1), ("I cannot help with that.", BUSY, 1), (BUSY, "I cannot help with that.", 1)],
)
@pytest.mark.parametrize("route", ["cascade", "samples"])
def test_a_row_is_failed_where_no_answer_is_kept_and_a_call_failed_for_the_moment(ledger, route, first, second, failed):
    if route == "cascade":
        teachers = [seat(Scripted(lambda _: first, "a")), seat(Scripted(lambda _: second, "b"))]
        talks = interview(SUMMARY, ledger, *teachers, route="cascade")
    else:
        talks = interview(SUMMARY, ledger, seat(Scripted(lambda asked: (first, second)[asked.sample])), samples=2, choose="first")
    ask(talks, row("a"))
    assert failed_share(talks, [row("a")]) == (failed, 1)


def test_a_row_whose_judge_failed_for_the_moment_is_failed(ledger):
    talks = interview(SUMMARY, ledger, seat(samples("Fine.")), judge=seat(Scripted(lambda _: BUSY, "judge")), gates=GatesSpec(judge=0.5))
    [judged] = ask(talks, row("a"))
    assert judged.rows
    assert failed_share(talks, [row("a")]) == (1, 1)


def test_a_judge_that_the_spec_names_judges_everybody(ledger):
    def answer(request):
        return "Mark: 9" if "You mark" in request.messages[0].content else "Words."

    both = [seat(Scripted(answer, name)) for name in ("a", "b")]
    spec = GenerationSpec.model_validate({"route": "cascade", "judge": {"model": "a"}})
    talks = Interview(SUMMARY, both, ledger, generation=spec, judge=both[0], gates=GatesSpec(judge=0.5))
    [judged] = ask(talks, row("Text"))
    assert judged.rows[0].teacher == "a"
    assert [said.ask.seat.title for said in judged.outcome.turns[0].chosen.judged] == ["a"]
