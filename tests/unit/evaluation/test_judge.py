"""A judge compares student and teacher in both orders: a love of first places cancels, silence counts for nobody, each call is paid once."""

import asyncio
import json

import pytest
from examined import LABELS, run_to_examine
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import BudgetError, DataError, ModelError, SpecError
from potstill.evaluation import stage
from potstill.evaluation.human import Preference, read_preferences
from potstill.evaluation.judge import human_to_json, judge_pairs, judged_to_json
from potstill.evaluation.predict import Question, Reply
from potstill.evaluation.resampling import Bootstrap
from potstill.models.echo import EchoModel
from potstill.models.testing import OpenAIStub, refused
from potstill.records import Completion, Example, Message
from potstill.spec import spec_from_dict
from potstill.spec.sections import JudgeSpec
from potstill.store.atomic import read_json, read_jsonl
from potstill.store.ledger import Ledger
from potstill.tasks.metrics import build_metric
from tiny import tiny_llama

SPEC = JudgeSpec.model_validate({"model": "j", "rows": 1_000})
GOOD, BAD = "good", "bad"


def shown(words):
    """The two answers that a judge is shown, in their order."""
    first, second = words.partition("# Answer A\n")[2].split("\n\n# Answer B\n")
    return first, second


def questions(count, references=()):
    return [Question(f"q{place}", None, (Message("user", f"question {place}"),), references) for place in range(count)]


def replies(texts):
    return [Reply(Completion(text or "", "stop"), text) for text in texts]


def hear(tmp_path, verdict, student, teacher, *, references=(), spec=SPEC, identity="judge"):
    """The pairs, and the judgement, of a judge that says `verdict(first, second)`."""
    judge = EchoModel(lambda request: f"It is clear.\nBetter: {verdict(*shown(request.messages[-1].content))}", name="j", identity=identity)
    asked = questions(len(student), references)
    answers = {"student": replies(student), "teacher": replies(teacher)}
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        pairs = asyncio.run(judge_pairs(judge, spec, asked, answers, ledger))
    found = judged_to_json("j", spec, pairs, answers, build_metric("rouge_l"), settings=Bootstrap(200), dollars=0.0)
    return pairs, found


def prefers(better):
    return lambda first, second: "A" if first == better else "B" if second == better else "neither"


def test_who_is_better_in_both_orders_wins(tmp_path):
    _, found = hear(tmp_path, prefers(GOOD), [GOOD, GOOD, BAD], [BAD, BAD, GOOD])
    assert (found["wins"], found["losses"], found["ties"], found["abstained"]) == (2, 1, 0, 0)
    assert found["win_rate"]["value"] == pytest.approx(2 / 3)
    assert found["position_flips"] == 0.0


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_loves_a_place_finds_nothing_but_ties(tmp_path, place):
    _, found = hear(tmp_path, lambda *_: place, [GOOD] * 12, [BAD] * 12)
    assert (found["wins"], found["losses"], found["ties"]) == (0, 0, 12)
    assert found["win_rate"]["value"] == 0.5
    assert found["position_flips"] == 1.0


WORDS = st.sampled_from(["a", "b", "c", None])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_swapping_the_two_mirrors_every_outcome_whatever_the_judge_s_bias(tmp_path_factory, data):
    """Any judge, however it leans on places: whom it favours does not depend on who is called the student."""
    table = {}

    def verdict(first, second):
        key = (first, second)
        if key not in table:
            table[key] = data.draw(st.sampled_from(["A", "B", "neither", "nobody knows"]))
        return table[key]

    one, other = data.draw(st.lists(WORDS, min_size=3, max_size=3)), data.draw(st.lists(WORDS, min_size=3, max_size=3))
    straight, found = hear(tmp_path_factory.mktemp("a"), verdict, one, other)
    mirrored, back = hear(tmp_path_factory.mktemp("b"), verdict, other, one)
    mirror = {"student": "teacher", "teacher": "student", "tie": "tie", "abstain": "abstain"}
    assert [mirror[pair.outcome] for pair in straight] == [pair.outcome for pair in mirrored]
    if found["win_rate"] is not None:
        assert found["win_rate"]["value"] == pytest.approx(1 - back["win_rate"]["value"])
    assert found["position_flips"] == back["position_flips"]


def test_words_without_a_verdict_count_for_nobody(tmp_path):
    pairs, found = hear(tmp_path, lambda first, second: "who knows" if first == GOOD else "B", [GOOD] * 4, [BAD] * 4)
    assert (found["abstained"], found["wins"], found["losses"], found["ties"]) == (4, 0, 0, 0)
    assert found["win_rate"] is None
    assert pairs[0].to_json() == {
        "id": "q0",
        "first": None,
        "second": "student",
        "outcome": "abstain",
        "reason": "It is clear.\nBetter: who knows",
    }


def test_equal_answers_are_a_tie_that_nobody_is_asked_about(tmp_path):
    def never(first, second):
        raise AssertionError("the judge was asked")

    _, found = hear(tmp_path, never, [GOOD, None], [GOOD, None])
    assert (found["pairs"], found["ties"]) == (2, 2)
    assert found["position_flips"] is None


def test_questions_are_spread_over_the_split_and_no_more_than_wanted(tmp_path):
    spec = SPEC.model_copy(update={"rows": 3})
    pairs, _ = hear(tmp_path, prefers(GOOD), [GOOD] * 9, [BAD] * 9, spec=spec)
    assert [pair.question.id for pair in pairs] == ["q0", "q3", "q6"]


def test_the_judge_is_held_against_the_references_where_both_prefer_one(tmp_path):
    references = ("good as gold",)
    _, found = hear(tmp_path, prefers(GOOD), [GOOD, BAD, GOOD], [BAD, GOOD, "good as gold"], references=references)
    assert found["agreement_with_references"]["value"] == pytest.approx(2 / 3)
    assert found["agreement_with_references"]["n"] == 3
    _, without = hear(tmp_path, prefers(GOOD), [GOOD], [BAD])
    assert without["agreement_with_references"] is None


def preferred(words, **seen):
    return {f"q{place}": Preference(word, seen) for place, word in enumerate(words)}


def against_people(tmp_path, preferences):
    """A judge that finds the student better in 8 of 20 pairs, the teacher in 8, and no difference in 4."""
    one, other = [GOOD] * 8 + [BAD] * 8 + ["same"] * 4, [BAD] * 8 + [GOOD] * 8 + ["no better"] * 4
    pairs, _ = hear(tmp_path, prefers(GOOD), one, other)
    return human_to_json(pairs, preferences, {"student": replies(one), "teacher": replies(other)}, Bootstrap(400))


def test_the_judge_is_held_against_people_and_its_kappa_is_cohen_s(tmp_path):
    sklearn = pytest.importorskip("sklearn.metrics")
    people = ["student"] * 6 + ["tie"] * 2 + ["teacher"] * 7 + ["student"] + ["tie"] * 3 + ["teacher"]
    found = against_people(tmp_path, preferred(people))
    judge = ["student"] * 8 + ["teacher"] * 8 + ["tie"] * 4
    assert (found["labelled"], found["pairs"], found["other_answers"]) == (20, 20, 0)
    assert (found["agreement"]["value"], found["agreement"]["n"]) == (pytest.approx(16 / 20), 20)
    assert found["kappa"]["value"] == pytest.approx(sklearn.cohen_kappa_score(judge, people))
    for figure in ("agreement", "kappa"):
        assert found[figure]["interval"]["low"] < found[figure]["value"] < found[figure]["interval"]["high"]


def test_people_who_always_say_what_the_judge_says_agree_wholly_and_beyond_chance(tmp_path):
    found = against_people(tmp_path, preferred(["student"] * 8 + ["teacher"] * 8 + ["tie"] * 4))
    assert (found["agreement"]["value"], found["kappa"]["value"]) == (1.0, 1.0)


def test_agreement_that_chance_alone_would_give_is_no_kappa(tmp_path):
    one = against_people(tmp_path, preferred(["student"] * 20))
    assert one["agreement"]["value"] == pytest.approx(8 / 20)
    assert one["kappa"]["value"] == pytest.approx(0.0)


def test_what_people_said_of_other_answers_does_not_count(tmp_path):
    changed = preferred(["student"] * 20, student="an earlier answer", teacher=BAD)
    assert against_people(tmp_path, changed) == {"labelled": 20, "pairs": 0, "other_answers": 20, "agreement": None, "kappa": None}
    seen = preferred(["student"] * 20, student=GOOD, teacher=f" {BAD}")
    assert against_people(tmp_path, seen)["pairs"] == 8


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('{"id": "1", "preferred": "first"}', r'human.jsonl:1: `preferred` is "first", not one of student, tie, teacher'),
        ('{"id": "1", "preferred": "tie"}\n\nno', r"human.jsonl:3: is no JSON"),
        ('{"preferred": "tie"}', r"human.jsonl:1: has no `id` that is a text"),
        ('{"id": "1", "preferred": "tie"}\n{"id": "1", "preferred": "student"}', r'human.jsonl:2: "1" stands there twice'),
        ('{"id": "1", "preferred": "tie", "who": "me"}', r"human.jsonl:1: `who` is no text, or none of id, preferred, student, teacher"),
        ("\n", r"human.jsonl: is empty"),
    ],
)
def test_a_file_of_preferences_that_is_none_is_refused_by_its_line(tmp_path, lines, words):
    file = tmp_path / "human.jsonl"
    file.write_text(lines)
    with pytest.raises(DataError, match=words):
        read_preferences(file)


def test_a_file_of_preferences_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.jsonl: cannot be read \(No such file or directory\); `evaluation.judge.human` names"):
        read_preferences(tmp_path / "nowhere.jsonl")


def test_the_rubric_takes_the_place_of_the_usual_words(tmp_path):
    asked = []
    judge = EchoModel(lambda request: asked.append(request.messages[0].content) or "Better: A", name="j")
    spec = SPEC.model_copy(update={"rubric": "Whoever is kinder."})
    answers = {"student": replies([GOOD]), "teacher": replies([BAD])}
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        asyncio.run(judge_pairs(judge, spec, questions(1), answers, ledger))
    assert all("Whoever is kinder." in words and "complete" not in words for words in asked)


SUMMARY = {"type": "summarization", "max_new_tokens": 4}


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("models") / "student", layers=1)


def rows(count=10):
    return [Example(str(n), (Message("user", f"Number {n} is first."),), reference=(f"Number {n} is first.",)) for n in range(count)]


def judged_run(folder, student, judge, **sections):
    evaluation = {"systems": ["teacher", "student"], "judge": judge}
    return run_to_examine(folder, student, rows(), task=SUMMARY, evaluation=evaluation, **sections)


def favours_the_text(payload):
    """A judge behind an endpoint that prefers the answer which begins as the question does, and leans on no place."""
    first, second = shown(payload["messages"][-1]["content"])
    return f"One repeats the text.\nBetter: {'A' if first.startswith('Number') else 'B' if second.startswith('Number') else 'neither'}"


def test_a_run_s_judge_is_asked_over_the_wire_once_and_paid_from_the_run_s_budget(tmp_path, student):
    with OpenAIStub(favours_the_text) as stub:
        price = {"input_per_million": 1_000_000, "output_per_million": 0}
        judge = {"model": "big", "base_url": stub.base_url, "rows": 6, "price": price}
        run = judged_run(tmp_path, student, judge, generation={"budget": {"dollars": 100_000.0}})
        stage.work(run, resumed=False)
        found = read_json(run.path("evaluation", "scores.json"))["judge"]
        assert len(stub.calls) == 12
        stage.work(run, resumed=True)
        assert len(stub.calls) == 12, "its answers are in the ledger"
    assert (found["model"], found["pairs"], found["losses"], found["wins"]) == ("big", 6, 6, 0)
    asked = sum(len(message["content"].split()) for call in stub.calls for message in call["messages"])
    assert found["dollars"] == pytest.approx(asked)
    assert found["agreement_with_references"]["value"] == 1.0
    lines = list(read_jsonl(run.path("evaluation", "judge.jsonl")))
    assert [line["outcome"] for line in lines] == ["teacher"] * 6
    assert run.path("evaluation", "judge.jsonl") in stage.outputs(run)


def test_a_run_s_judge_is_held_against_people(tmp_path, student):
    said = [{"id": str(place), "preferred": "teacher" if place else "tie", "teacher": f"Number {place} is first."} for place in range(10)]
    people = tmp_path / "people.jsonl"
    people.write_text("".join(json.dumps(one) + "\n" for one in said))
    with OpenAIStub(favours_the_text) as stub:
        run = judged_run(tmp_path / "run", student, {"model": "big", "base_url": stub.base_url, "human": str(people)})
        stage.work(run, resumed=False)
        found = read_json(run.path("evaluation", "scores.json"))["judge"]["human"]
        assert (found["pairs"], found["agreement"]["value"]) == (10, 0.9)
        before = stage.inputs(run)
        people.write_text(json.dumps({"id": "10", "preferred": "tie"}))
        assert stage.inputs(run) != before
        with pytest.raises(DataError, match=r'people.jsonl: "10" is the id of no test question \(1 of 1 ids are not\)'):
            stage.work(run, resumed=True)
        people.write_text("{}")
        with pytest.raises(ModelError, match=r"people.jsonl:1: has no `id`"):
            stage.preflight(run)


def test_a_judge_beyond_the_budget_is_not_asked(tmp_path, student):
    with OpenAIStub(favours_the_text) as stub:
        run = judged_run(tmp_path, student, {"model": "big", "base_url": stub.base_url}, generation={"budget": {"calls": 15}})
        with pytest.raises(BudgetError):
            stage.work(run, resumed=False)
        assert len(stub.calls) == 5, "ten of the calls were the teacher's"


def test_a_judge_whose_every_call_fails_is_an_error(tmp_path, student):
    with OpenAIStub(always=refused(400, "filtered")) as stub:
        run = judged_run(tmp_path, student, {"model": "big", "base_url": stub.base_url, "max_attempts": 1})
        with pytest.raises(ModelError, match="calls to the judge failed"):
            stage.work(run, resumed=False)


@pytest.mark.parametrize("judge", ["student", "teacher"])
def test_nobody_judges_itself_unless_the_spec_asks_for_it(tmp_path, student, judge):
    folder = tmp_path / "run"
    named = {"student": {"model": str(folder / "training" / "best")}, "teacher": {"model": "m", "base_url": "http://127.0.0.1:1/v1"}}[judge]
    teacher = {"model": "m", "base_url": "http://127.0.0.1:1/v1", "name": "mine"} if judge == "teacher" else {"model": "echo"}
    run = judged_run(folder, student, named, teacher=teacher)
    with pytest.raises(ModelError, match=f"is the {judge}.*itself, and models favour their own answers"):
        stage.work(run, resumed=False)


def test_a_student_may_judge_itself_where_the_spec_says_so(tmp_path, student):
    folder = tmp_path / "run"
    run = judged_run(folder, student, {"model": str(folder / "training" / "best"), "may_judge_itself": True, "rows": 1})
    stage.work(run, resumed=False)
    assert read_json(run.path("evaluation", "scores.json"))["judge"]["abstained"] == 1, "a random model says nothing that can be read"


@pytest.mark.parametrize(
    ("task", "evaluation", "words"),
    [
        (LABELS, {"judge": "j"}, "`evaluation.judge` is for free text; answers of nli are right or wrong"),
        (SUMMARY, {"judge": "j", "systems": ["student"]}, "`systems` lacks one of them"),
        (SUMMARY, {"judge": {"model": "j", "rows": 0}}, "evaluation.judge.rows"),
    ],
)
def test_a_judge_that_has_nothing_to_judge_is_refused(tmp_path, task, evaluation, words):
    raw = {"name": "n", "task": task, "data": {"train": "t"}, "teacher": {"model": "echo"}, "student": {"model": "s"}}
    with pytest.raises(SpecError, match=words):
        spec_from_dict(raw | {"evaluation": evaluation}, tmp_path)
