"""Log-probabilities that came beside answers, as targets of a student with its own tokenizer."""

import json
import math

import numpy as np
import pytest
from families import tokenizer

from potstill.errors import CapabilityError, ModelError
from potstill.generation.stage import work as generate
from potstill.models.said import SAID, SaidFile, said_row
from potstill.models.testing import OpenAIStub, edited
from potstill.models.tokens import token_bytes
from potstill.records import Example, Message, TokenLogprob
from potstill.spec import RunSpec
from potstill.store.atomic import write_jsonl
from potstill.store.run import open_run
from potstill.training import stage
from potstill.training.rows import encode_rows
from potstill.training.targets.said import said_targets

ASKED = (Message("user", "What is it?"),)


@pytest.fixture(scope="module")
def student():
    return tokenizer()


def example(answer, name="one"):
    return Example(name, (*ASKED, Message("assistant", answer)), trained_turns=(1,))


def place(token, p, **others):
    return TokenLogprob(token, math.log(p), tuple((name, math.log(value)) for name, value in ({token: p} | others).items()))


def targets_of(student, tmp_path, answers, k=8):
    """The store of rows whose answers are given with what a server said of them, and the labels of each row's positions."""
    path = tmp_path / SAID
    path.write_text("".join(json.dumps(said_row(ASKED, text, tokens)) + "\n" for text, tokens in answers))
    examples = [example(text.strip(), f"row-{number}") for number, (text, _) in enumerate(answers)]
    rows = encode_rows(student, examples, max_length=200).rows
    store, share = said_targets(SaidFile(path), rows, examples, token_bytes(student.backend_tokenizer), k)
    arrays = [store.take(np.arange(begin, end)) for begin, end in zip(store.starts, store.starts[1:], strict=False)]
    return [row.ids[row.trained] for row in rows], arrays, share


def said_at(student, arrays, position):
    """By token: the probabilities at a position, and that of all others under `None`."""
    ids = arrays.ids_PK[position]
    found = {
        student.convert_ids_to_tokens(int(token)): math.exp(arrays.logp_PK[position][at]) for at, token in enumerate(ids) if token >= 0
    }
    return found | {None: math.exp(arrays.tail_logp_P[position])}


def test_the_servers_tokens_become_the_students(student, tmp_path):
    tokens = [place("x", 0.5, n=0.25, **{"<|im_end|>": 0.05}), place(" quick", 0.9, **{" q": 0.04}), place("", 0.7, y=0.2)]
    [labels], [arrays], share = targets_of(student, tmp_path, [("x quick", tokens)])
    assert student.convert_ids_to_tokens(labels.tolist()) == ["x", "Ġquick", "<|im_end|>"]
    assert share == 1.0
    assert said_at(student, arrays, 0) == pytest.approx({"x": 0.5, "n": 0.25, "<|im_end|>": 0.05, None: 0.2})
    assert said_at(student, arrays, 2) == pytest.approx({"<|im_end|>": 0.7, "y": 0.2, None: 0.1}, abs=1e-6)


def test_an_end_of_which_the_server_says_nothing_is_the_texts_own(student, tmp_path):
    _, [arrays], share = targets_of(student, tmp_path, [("x", [place("x", 0.6)])])
    assert said_at(student, arrays, 1) == {"<|im_end|>": 1.0, None: 0.0}
    assert share == 0.5


def test_a_token_across_the_students_tokens_is_shared_out_between_them(student, tmp_path):
    tokens = [place("x qu", 0.8, **{"x y": 0.1}), place("ick", 0.5, it=0.5)]
    _, [arrays], _ = targets_of(student, tmp_path, [("x quick", tokens)])
    assert said_at(student, arrays, 0) == pytest.approx({"x": 0.9, None: 0.1})
    first = said_at(student, arrays, 1)
    assert first["Ġquick"] == pytest.approx(0.8 / 0.9 * 0.5)
    assert sum(first.values()) == pytest.approx(1.0)


def test_half_characters_are_read_by_their_bytes(student, tmp_path):
    halves = "東".encode()
    tokens = [place(halves[:1].decode("utf-8", "surrogateescape"), 0.5), place(halves[1:].decode("utf-8", "surrogateescape"), 0.25)]
    [labels], [arrays], _ = targets_of(student, tmp_path, [("東", tokens)])
    by_text = math.prod(
        said_at(student, arrays, place)[student.convert_ids_to_tokens(int(labels[place]))] for place in range(len(labels) - 1)
    )
    assert by_text == pytest.approx(0.5 * 0.25)


def test_characters_that_came_broken_are_not_known_and_what_follows_is(student, tmp_path):
    tokens = [place(" x", 0.5, **{" y": 0.5}), place(" �", 0.9), place("�", 0.8), place(" quick", 0.7)]
    [labels], [arrays], _ = targets_of(student, tmp_path, [(" x 東 quick", tokens)])
    assert said_at(student, arrays, 0)["x"] == pytest.approx(0.5)
    assert said_at(student, arrays, 1)[student.convert_ids_to_tokens(int(labels[1]))] == 1.0
    assert said_at(student, arrays, len(labels) - 2)["Ġquick"] == pytest.approx(0.7)


def test_tokens_that_a_server_joined_are_not_known(student, tmp_path):
    joined = TokenLogprob("x qu", math.log(0.5), ((" qu", math.log(0.5)),))
    _, [arrays, _], _ = targets_of(student, tmp_path, [("x quick", [joined, place("ick", 0.25)]), ("x", [place("x", 0.5)])])
    assert said_at(student, arrays, 0) == {"x": 1.0, None: 0.0}


def test_each_row_has_the_answer_to_its_own_question(student, tmp_path):
    answers = [("x", [place("x", 0.5)]), ("y", [place("y", 0.25)]), ("x", [place("x", 0.1)])]
    _, arrays, _ = targets_of(student, tmp_path, answers)
    assert [max(v for k, v in said_at(student, one, 0).items() if k) for one in arrays] == pytest.approx([0.5, 0.25, 0.5])


def test_answers_without_a_word_about_them_are_refused(student, tmp_path):
    with pytest.raises(CapabilityError, match="of the 1 answers to learn none has log-probabilities that fit its text"):
        targets_of(student, tmp_path, [("the quick", [place("something else", 0.5)])])


def spec_of(folder, base_url, **targets):
    return RunSpec.model_validate(
        {
            "name": "x",
            "task": {"type": "summarization", "max_new_tokens": 6},
            "data": {"train": str(folder / "t.jsonl"), "test_duplicates": "allow"},
            "teacher": {"model": "stub", "base_url": base_url},
            "student": {"model": str(folder / "student"), "device": "cpu"},
            "generation": {"pilot": {"rows": 0}},
            "gates": {"truncation": False},
            "targets": {"kind": "logprobs", "k": 3} | targets,
            "training": {"epochs": 1.0, "batch_size": 4, "evaluations": 1},
        }
    )


def prepared(spec, folder):
    run = open_run(spec, folder / "run")
    for split, count in (("train", 8), ("validation", 2)):
        rows = (Example(f"{split}-{n}", (Message("user", f"Say {n} of the quick fox."),), reference=("the fox",)) for n in range(count))
        run.path("data").mkdir(parents=True, exist_ok=True)
        write_jsonl(run.path("data", f"{split}.jsonl"), (row.to_json() for row in rows))
    run.stage("data").finish({}, [run.path("data", "train.jsonl"), run.path("data", "validation.jsonl")])
    for name in ("generation", "training"):
        run.path(name).mkdir(exist_ok=True)
    return run


def test_a_run_asks_for_log_probabilities_and_learns_them(tmp_path):
    from tiny import tiny_llama

    tiny_llama(tmp_path / "student", layers=2)
    with OpenAIStub() as stub:
        run = prepared(spec_of(tmp_path, stub.base_url), tmp_path)
        stage.preflight(run)
        generate(run, resumed=False)
        assert all((call["logprobs"], call["top_logprobs"]) == (True, 3) for call in stub.calls)
    run.stage("generate").finish({}, [run.path("generation", name) for name in ("accepted.jsonl", "validation.jsonl", SAID)])
    assert len(SaidFile(run.path("generation", SAID))) == 8
    before = stage.inputs(run)
    stage.work(run, resumed=False)
    assert json.loads(run.path("training", "summary.json").read_text())["objective"] == "logits"
    run.path("generation", SAID).write_text("")
    run.stage("generate").finish({}, [run.path("generation", name) for name in ("accepted.jsonl", "validation.jsonl", SAID)])
    assert stage.inputs(run) != before


def test_scores_of_answers_that_another_wrote_teach_like_what_comes_beside_them(tmp_path):
    from tiny import tiny_llama

    tiny_llama(tmp_path / "student", layers=2)
    (tmp_path / "said.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Say {n} of the quick fox.", "completion": "the quick fox"}) + "\n" for n in range(8))
    )
    with OpenAIStub(scores=True) as stub:
        given = spec_of(tmp_path, stub.base_url).model_dump(mode="json")
        scored = {"teacher": {"replay": str(tmp_path / "said.jsonl")}, "generation": {"scorer": given["teacher"], "pilot": {"rows": 0}}}
        run = prepared(RunSpec.model_validate(given | scored), tmp_path)
        stage.preflight(run)
        generate(run, resumed=False)
    run.stage("generate").finish({}, [run.path("generation", name) for name in ("accepted.jsonl", "validation.jsonl", SAID)])
    examples = [Example.from_json(json.loads(line)) for line in run.path("generation", "accepted.jsonl").read_text().splitlines()]
    learner = tokenizer()
    rows = encode_rows(learner, examples, max_length=200).rows
    store, share = said_targets(SaidFile(run.path("generation", SAID)), rows, examples, token_bytes(learner.backend_tokenizer), 3)
    assert share == 1.0
    known = store.take(np.arange(store.starts[1]))
    # Of the first word the server says e^-1.2, and that is what the student's token which begins it gets.
    assert pytest.approx(math.exp(-1.2), rel=1e-3) in np.exp(known.logp_PK[0]).tolist()
    stage.work(run, resumed=False)
    assert json.loads(run.path("training", "summary.json").read_text())["objective"] == "logits"


def test_an_endpoint_that_gives_none_is_told_before_the_student_is_made(tmp_path):
    with OpenAIStub(always=edited(lambda body: [choice.pop("logprobs") for choice in body["choices"]])) as stub:
        run = prepared(spec_of(tmp_path, stub.base_url), tmp_path)
        with pytest.raises(ModelError, match=r"stub gave none with any of 8 answers; set `targets\.kind: auto`"):
            generate(run, resumed=False)
