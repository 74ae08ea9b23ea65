"""Who else is compared: asked the same questions as the others, paid for out of the same budget, told apart by name."""

import shutil

import pytest
from examined import LABELS, run_to_examine

from potstill.errors import BudgetError, ModelError, SpecError
from potstill.evaluation import stage
from potstill.evaluation.lead import lead_sentence
from potstill.evaluation.tfidf import TfidfModel, labelled_texts
from potstill.models.testing import OpenAIStub
from potstill.records import Example, Message
from potstill.report.gather import public_spec
from potstill.spec import TaskSpec, dump_spec, spec_from_dict
from potstill.spec.yaml_text import read_yaml
from potstill.store.atomic import read_json, read_jsonl
from potstill.store.ledger import Ledger
from potstill.tasks import build_task
from potstill.tasks.rationales import WHY
from tiny import tiny_llama

WORDS = {"the card is lost": "yes", "my card was lost": "yes", "what is the rate": "no", "a good rate": "no"}


def rows(count=12):
    texts = [(f"{text}, number {place}", label) for place in range(count // 4) for text, label in WORDS.items()]
    return [Example(f"row-{place}", (Message("user", text),), reference=(label,)) for place, (text, label) in enumerate(texts)]


def accepted():
    turns = [(Message("user", text), Message("assistant", label)) for text, label in WORDS.items()]
    return [Example(str(place), turn, trained_turns=(1,)) for place, turn in enumerate(turns)]


@pytest.fixture(scope="module")
def student(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("models") / "student", layers=1)


def spec_of(compare, task=LABELS, **sections):
    raw = {"name": "n", "task": task, "data": {"train": "t"}, "teacher": {"model": "echo"}, "student": {"model": "s"}, **sections}
    return raw | {"evaluation": {"compare": compare}}


def titles(compare, tmp_path, **more):
    return [(other.key, other.title) for other in spec_from_dict(spec_of(compare, **more), tmp_path).evaluation.compare]


def test_short_forms_name_a_line_a_model_and_another_run(tmp_path):
    compare = [
        "tfidf",
        "gpt-4.1-mini",
        "meta-llama/Llama-3.1-8B-Instruct",
        {"run": "runs/other"},
        {"model": "m", "base_url": "http://h/v1"},
    ]
    assert titles(compare, tmp_path) == [
        ("tfidf", "TF-IDF + logistic regression"),
        ("gpt-4.1-mini", "gpt-4.1-mini"),
        ("Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("other", "student of other"),
        ("m", "m"),
    ]


def test_a_spec_with_others_is_read_back_as_it_was_written(tmp_path):
    compare = ["tfidf", "gpt-4.1-mini", {"run": "runs/other", "name": "earlier"}, {"model": "m", "base_url": "http://h/v1", "name": "mine"}]
    spec = spec_from_dict(spec_of(compare), tmp_path)
    assert spec_from_dict(read_yaml(dump_spec(spec), ""), tmp_path) == spec
    assert spec.evaluation.compare[2].run == tmp_path / "runs" / "other"


@pytest.mark.parametrize(
    ("compare", "task", "words"),
    [
        (["gpt-4.1-mini", "openai/gpt-4.1-mini"], LABELS, "two of them would be called 'gpt-4.1-mini': give each a `name`"),
        ([{"model": "m", "name": "student"}], LABELS, "'student' is the name of a system that every run has"),
        ([{"run": "a", "baseline": "lead"}], LABELS, "name one thing to compare with"),
        ([{"model": "m", "name": "a b"}], LABELS, "letters, digits"),
        ([{"model": "m", "adapt": {}}], LABELS, "`adapt` is for the teacher"),
        (["tfidf"], {"type": "summarization"}, "chooses among labels, and summarization has none"),
        (["lead"], LABELS, "a line for summaries, not for nli"),
    ],
)
def test_what_cannot_be_compared_is_refused_in_words(tmp_path, compare, task, words):
    with pytest.raises(SpecError, match=words):
        spec_from_dict(spec_of(compare, task), tmp_path)


def test_the_line_of_words_learns_from_the_rows_that_the_student_learnt_from(tmp_path, student):
    run = run_to_examine(tmp_path, student, rows(), accepted=accepted(), evaluation={"compare": ["tfidf"]})
    stage.work(run, resumed=False)
    scores = read_json(run.path("evaluation", "scores.json"))
    assert scores["systems"]["tfidf"]["scores"]["accuracy"]["value"] == 1.0
    assert scores["systems"]["tfidf"] | {"kind": "tfidf", "title": "TF-IDF + logistic regression"} == scores["systems"]["tfidf"]
    assert scores["timings"]["tfidf"]["n"] == 2
    assert len(list(read_jsonl(run.path("evaluation", "predictions", "tfidf.jsonl")))) == 12
    assert run.path("evaluation", "predictions", "tfidf.jsonl") in stage.outputs(run)


def test_rows_that_ask_for_reasons_alone_teach_it_no_label():
    task = build_task(TaskSpec(**LABELS))
    why = Example("1#why", (Message("user", f"a\n\n{WHY}"), Message("assistant", "It says yes.")), trained_turns=(1,))
    assert labelled_texts(task, [*accepted()[:1], why]) == [("the card is lost", "yes")]


def test_a_line_of_one_label_is_refused():
    with pytest.raises(ModelError, match="carry 1 label"):
        TfidfModel([("a", "yes"), ("b", "yes")])


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        ("One thing. Another thing.", "One thing."),
        ("Only one thing", "Only one thing"),
        ("Summarise the text below:\nIt rained. It stopped.", "It rained."),
        ("Dr. Smith came at 5 p.m. yesterday. He left.", "Dr. Smith came at 5 p.m. yesterday."),
        ("Values of e.g. Paris differ (see Fig. 3). So what?", "Values of e.g. Paris differ (see Fig. 3)."),
        ('He said "no." Then he left.', 'He said "no."'),
        ("Is it 3.14? Yes.", "Is it 3.14?"),
        ("一つ。二つ。", "一つ。"),
        ("", ""),
    ],
)
def test_the_lead_is_the_first_sentence_of_the_text(text, lead):
    assert lead_sentence(text) == lead


def summaries():
    texts = [f"Number {place} is first. It is followed by others." for place in range(10)]
    return [Example(str(n), (Message("user", text),), reference=(text.partition(" It")[0],)) for n, text in enumerate(texts)]


SUMMARY = {"type": "summarization", "max_new_tokens": 8}


def test_other_models_and_runs_are_asked_the_same_questions_as_the_student(tmp_path, student):
    other = tmp_path / "elsewhere"
    shutil.copytree(tiny_llama(tmp_path / "m", layers=1, seed=3), other / "training" / "best")
    with OpenAIStub() as stub:
        compare = ["lead", {"run": str(other)}, {"model": "m", "base_url": stub.base_url, "name": "remote"}]
        run = run_to_examine(
            tmp_path / "run",
            student,
            summaries(),
            task=SUMMARY,
            evaluation={"compare": compare, "systems": ["student"]},
            generation={"prompting": {"instruction": "Be brief."}},
        )
        stage.work(run, resumed=False)
    scores = read_json(run.path("evaluation", "scores.json"))
    kinds = {name: (system["kind"], system["title"]) for name, system in scores["systems"].items()}
    assert kinds == {
        "student": ("student", "student"),
        "lead": ("lead", "lead sentence"),
        "elsewhere": ("run", "student of elsewhere"),
        "remote": ("endpoint", "remote"),
    }
    assert scores["systems"]["lead"]["scores"]["rouge_l"]["value"] == 1.0
    assert scores["timings"]["remote"]["where"] == "over the wire"
    assert scores["timings"]["elsewhere"]["where"] == "in a process of its own"
    asked = [call["messages"][-1]["content"] for call in stub.calls[:10]]
    assert sorted(asked) == sorted(row.messages[0].content for row in summaries())
    assert all(len(call["messages"]) == 1 for call in stub.calls), "what the teacher is told besides is the teacher's"


def test_what_is_asked_of_others_counts_against_the_budget(tmp_path, student):
    with OpenAIStub() as stub:
        compare = [{"model": "m", "base_url": stub.base_url, "name": "remote"}]
        run = run_to_examine(
            tmp_path,
            student,
            summaries(),
            task=SUMMARY,
            evaluation={"compare": compare, "systems": ["student"]},
            generation={"budget": {"calls": 6}},
        )
        with pytest.raises(BudgetError, match="budget of 6 calls is used up"):
            stage.work(run, resumed=False)
        assert len(stub.calls) == 6
        with pytest.raises(BudgetError):
            stage.work(run, resumed=True)
        assert len(stub.calls) == 6, "a second process knows of the first one's calls"
    with Ledger(run.path("evaluation", "ledger.sqlite"), run="remote") as ledger:
        assert ledger.spent().calls == 6


def test_what_would_stop_it_is_said_before_anything_is_asked(tmp_path, student):
    compare = [{"run": str(tmp_path / "nowhere")}, {"model": "m", "base_url": "http://127.0.0.1:1/v1"}]
    run = run_to_examine(
        tmp_path / "run", student, summaries(), task=SUMMARY, evaluation={"compare": compare}, generation={"budget": {"dollars": 1.0}}
    )
    with pytest.raises(ModelError, match="holds no trained student") as caught:
        stage.preflight(run)
    assert "nobody says what m costs" in str(caught.value)


def test_inputs_change_with_another_run_s_weights_and_not_with_how_an_endpoint_is_reached(tmp_path, student):
    other = tmp_path / "elsewhere" / "training" / "best"
    shutil.copytree(student, other)
    compare = [{"run": str(tmp_path / "elsewhere")}, {"model": "m", "base_url": "http://h/v1"}]

    def inputs(found):
        return stage.inputs(run_to_examine(tmp_path / "run", student, summaries(), task=SUMMARY, evaluation={"compare": found}))

    before = inputs(compare)
    shutil.rmtree(tmp_path / "run")
    assert inputs([compare[0], compare[1] | {"timeout_s": 5}]) == before
    shutil.rmtree(tmp_path / "run")
    (other / "model.safetensors").write_bytes(b"other")
    assert inputs(compare) != before


def test_the_report_tells_nobody_s_folders_and_addresses_keys(tmp_path):
    compare = [{"run": "runs/other"}, {"model": "m", "base_url": "http://h:1/v1", "headers": {"x-team": "blue"}, "api_key_env": "K"}]
    shown = public_spec(spec_from_dict(spec_of(compare), tmp_path))["evaluation"]["compare"]
    assert str(tmp_path) not in str(shown)
    assert shown[1]["model"]["headers"] == {"x-team": "…"}
    assert "api_key_env" not in shown[1]["model"]
