"""Rows that the student writes itself: who wrote them when, which a step learns from, and what it learns there."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from families import module
from hypothesis import given, settings
from hypothesis import strategies as st
from lessons import ingredients, job, on_policy_job, rows
from pydantic import ValidationError

from potstill.models.chat import prompt_ids, stop_ids
from potstill.models.transformers_local import TransformersModel
from potstill.models.weights import load_weights
from potstill.records import Message
from potstill.spec.sections import OnPolicySpec, TrainingSpec, WeightsSpec
from potstill.store.events import EventLog, Measured, Noticed
from potstill.training.batches import WRITTEN, TokenRows, collate
from potstill.training.fine_tune import fine_tune
from potstill.training.head import output_head, trained_hidden
from potstill.training.kernel import pulled_loss
from potstill.training.losses import cross_entropy, divergence_of_logits, jensen_shannon, reverse_kl
from potstill.training.objectives import OBJECTIVES, Ingredients
from potstill.training.objectives.base import always
from potstill.training.on_policy import ReplayBuffer, Rollout, RolloutSource, Writing, write
from potstill.training.rows import EncodedRows, encode_rows
from potstill.training.targets.live_teacher import LiveTeacher

CPU = torch.device("cpu")
WRITING = Writing(temperature=1.0, top_p=1.0, max_new_tokens=6, max_length=200)
# Almost greedy.
COLD = replace(WRITING, temperature=1e-6)


@pytest.fixture
def weights(tiny_teacher):
    return load_weights(WeightsSpec(model=str(tiny_teacher), device="cpu"))


def numbered(count):
    """Given rows that say which they are: [number, 0, 1], of which the last token is trained."""
    ids = np.array([[number, 0, 1] for number in range(count)], dtype=np.int32).ravel()
    starts, trained = np.arange(0, 3 * count + 1, 3, dtype=np.int64), np.tile([False, False, True], count)
    return EncodedRows(TokenRows(ids, trained, starts, np.arange(count, dtype=np.int64)), np.full(count, 2, dtype=np.int64))


class Scribe:
    """Writes how often it has written before, and what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, prompts, step):
        first = len(self.asked)
        self.asked += [prompt.ids for prompt in prompts]
        return [Rollout(np.array([*prompt.ids, first + place], dtype=np.int32), 2, step) for place, prompt in enumerate(prompts)]


def given_steps(given, count, batch_size, micro=None):
    """The micro-batches of so many steps, as they are given."""
    places = np.arange(count * batch_size).reshape(count, batch_size) % len(given.rows)
    for step, chosen in enumerate(places):
        parts = [chosen[start : start + (micro or batch_size)] for start in range(0, batch_size, micro or batch_size)]
        yield step, [collate([given.rows[int(place)] for place in part], 0) for part in parts]


def steps_of(source, given, count, batch_size, micro=None):
    """The same, mixed."""
    for step, batches in given_steps(given, count, batch_size, micro):
        yield step, source.mix(step, batches, CPU)


def written(batches):
    """What the Scribe wrote of the trained tokens."""
    return [
        int(label)
        for batch in batches
        for label, row in zip(batch.labels_N, np.repeat(batch.rows_B, batch.counts_B), strict=True)
        if row == WRITTEN
    ]


def source(write, given, batch_size=8, writing=WRITING, steps=1000, **spec):
    return RolloutSource(write, given, OnPolicySpec(**spec), writing, batch_size=batch_size, steps=steps, seed=4)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_step_never_learns_from_what_is_older_than_the_staleness(data):
    refresh, reuse = data.draw(st.integers(1, 5)), data.draw(st.floats(1.0, 4.0))
    staleness = data.draw(st.integers(refresh - 1, 12))
    given, scribe = numbered(17), Scribe()
    found = source(scribe, given, refresh=refresh, reuse=reuse, staleness=staleness, buffer=data.draw(st.integers(1, 60)))
    ends, oldest_seen = [], 0
    for step, batches in steps_of(found, given, 25, 8):
        ends += [len(scribe.asked)] * (step % refresh == 0)
        ages = [step - refresh * int(np.searchsorted(ends, number, side="right")) for number in written(batches)]
        assert ages
        assert max(ages) <= staleness
        oldest_seen = max(oldest_seen, *ages)
        assert len(found.buffer) <= 60
    assert oldest_seen >= refresh - 1


def test_old_rollouts_are_replayed_where_that_is_allowed():
    given, scribe = numbered(17), Scribe()
    found = source(scribe, given, refresh=2, reuse=4.0, staleness=7, share=1.0)
    seen = [set(written(batches)) for _, batches in steps_of(found, given, 8, 8)]
    # Four are written at each second step, and eight are learnt from in each.
    assert seen[0] <= set(range(4))
    assert set().union(*seen[6:]) == set(range(16))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_the_share_of_written_rows_is_the_one_that_is_asked_for(share):
    given = numbered(40)
    counts = [len(written(batches)) for _, batches in steps_of(source(Scribe(), given, batch_size=7, share=share), given, 400, 7)]
    assert {int(np.floor(7 * share)), int(np.ceil(7 * share))} >= set(counts)
    # Rounding up or down is a coin of standard deviation at most 1/2; four standard errors.
    assert abs(np.mean(counts) - 7 * share) <= 4 * 0.5 / np.sqrt(400) * (7 * share % 1 != 0)


@pytest.mark.parametrize(("reuse", "times"), [(1.0, 1), (2.0, 2)])
def test_each_rollout_is_learnt_from_as_often_as_asked(reuse, times):
    given, scribe = numbered(40), Scribe()
    found = source(scribe, given, share=0.5, refresh=4, reuse=reuse)
    uses = [number for _, batches in steps_of(found, given, 12, 8) for number in written(batches)]
    assert np.bincount(uses).tolist() == [times] * len(scribe.asked)


@pytest.mark.parametrize(("reuse", "expected"), [(1.0, 10 * 4), (2.0, 8 + 8 + 4)])
def test_no_more_is_written_than_the_steps_that_are_left_learn_from(reuse, expected):
    given, scribe = numbered(40), Scribe()
    found = source(scribe, given, steps=10, share=0.5, refresh=4, reuse=reuse)
    uses = [number for _, batches in steps_of(found, given, 10, 8) for number in written(batches)]
    assert len(scribe.asked) == expected
    # Those of the short end are used as often as the others.
    assert np.bincount(uses).tolist() == [int(reuse)] * expected


def test_what_is_written_before_the_end_does_not_depend_on_where_that_is():
    given, asked = numbered(40), []
    for steps in (9, 12):
        scribe = Scribe()
        list(steps_of(source(scribe, given, steps=steps, share=0.5, refresh=4), given, 8, 8))
        asked.append(scribe.asked)
    assert asked[0] == asked[1]


def test_every_rows_prompt_is_answered_equally_often_in_an_order_of_each_pass():
    given, scribe = numbered(16), Scribe()
    list(steps_of(source(scribe, given, share=1.0, refresh=2), given, 8, 8))
    passes = [[ids[0] for ids in scribe.asked[start : start + 16]] for start in range(0, 64, 16)]
    assert all(sorted(one) == list(range(16)) for one in passes)
    assert len({str(one) for one in passes}) == 4


def test_the_other_rows_of_a_step_are_the_given_ones_in_micro_batches_of_the_same_sizes():
    given = numbered(40)
    for step, batches in steps_of(source(Scribe(), given, batch_size=8, share=0.4), given, 20, 8, micro=3):
        assert [len(batch) for batch in batches] == [3, 3, 2]
        indices = np.concatenate([batch.rows_B for batch in batches])
        kept = indices[indices != WRITTEN]
        assert len(set(kept)) == len(kept)
        assert set(kept) <= {place % 40 for place in range(8 * step, 8 * step + 8)}


def write_seeds(prompts, step):
    """Writes what its random numbers would come from."""
    return [Rollout(np.array([*prompt.ids, prompt.seed % 9973], dtype=np.int32), len(prompt.ids), step) for prompt in prompts]


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 8, 9])
def test_what_comes_next_depends_on_what_was_saved_seed_and_step_alone(tmp_path, cut):
    # The last refresh, at step 9, serves two steps alone.
    given, spec = numbered(17), {"steps": 11, "share": 0.3, "refresh": 3, "reuse": 1.5, "staleness": 5, "buffer": 9}
    before, after = source(write_seeds, given, **spec), source(write_seeds, given, **spec)
    expected = []
    for step, batches in steps_of(before, given, 11, 8):
        expected.append([batch.input_ids_BT.tolist() for batch in batches])
        if step == cut:
            before.save(tmp_path)
    after.load(tmp_path)
    steps = [(step, batches) for step, batches in given_steps(given, 11, 8) if step > cut]
    found = [[batch.input_ids_BT.tolist() for batch in after.mix(step, batches, CPU)] for step, batches in steps]
    assert found == expected[cut + 1 :]
    assert (after.rollouts, after.tokens) == (before.rollouts, before.tokens)


def test_an_empty_buffer_comes_back_empty(tmp_path):
    source(write_seeds, numbered(4)).save(tmp_path)
    used = source(write_seeds, numbered(4))
    used.buffer.add([Rollout(np.arange(3, dtype=np.int32), 2, 0)])
    used.load(tmp_path)
    assert len(used.buffer) == 0


def test_a_full_buffer_keeps_the_newest():
    buffer = ReplayBuffer(capacity=3, staleness=100)
    buffer.add(Rollout(np.arange(4, dtype=np.int32), 2, step) for step in range(5))
    assert [rollout.step for rollout in buffer.fresh(9)] == [2, 3, 4]
    assert [rollout.step for rollout in buffer.newest()] == [4]


def conversation(number):
    turns = (
        ("system", "Answer."),
        ("user", f"number {number}"),
        ("assistant", "Paris"),
        ("user", "and the next?"),
        ("assistant", "card lost"),
    )
    return replace(rows(1)[0], messages=tuple(Message(role, content) for role, content in turns), trained_turns=(2, 4))


@pytest.mark.parametrize("positions", ["answer", "all"])
def test_the_last_turn_is_written_after_the_very_ids_that_inference_sends_there(weights, positions):
    examples = [*rows(3), conversation(7)]
    given = encode_rows(weights.tokenizer, examples, max_length=200, positions=positions)
    asked = [row.ids[:prompt].tolist() for row, prompt in zip(given.rows, given.prompts, strict=True)]
    assert asked == [prompt_ids(weights.tokenizer, example.messages[:-1]) for example in examples]


def student_source(weights, given, writing=WRITING, **spec):
    return source(partial(write, TransformersModel(weights, name="student", batch_size=5)), given, writing=writing, **spec)


def greedy(weights, rollout):
    """What transformers' own `generate` makes of a rollout's prompt, up to its first stop token."""
    stops = stop_ids(weights.tokenizer, weights.module)
    ids = torch.from_numpy(rollout.ids[: rollout.prompt].astype(np.int64))[None]
    weights.module.eval()
    written = weights.module.generate(ids, max_new_tokens=6, do_sample=False, eos_token_id=stops, pad_token_id=0)
    return written[0, ids.shape[1] :].tolist()


def test_rollouts_are_what_the_weights_of_that_moment_write(weights):
    given = encode_rows(weights.tokenizer, rows(), max_length=200)
    found = student_source(weights, given, COLD, refresh=1, share=1.0)
    batches = [collate([given.rows[place] for place in range(8)], 0)]
    seen = []
    for layer in weights.module.model.layers:
        layer.self_attn.attention_dropout = 0.9
    for step in range(2):
        weights.module.train()
        found.mix(step, batches, CPU)
        for rollout in found.buffer.newest():
            assert rollout.ids[rollout.prompt :].tolist() == greedy(weights, rollout)
            seen.append((step, rollout.ids[rollout.prompt :].tolist()))
        for layer in weights.module.model.layers:
            layer.mlp.down_proj.weight.data.mul_(-1.0)
    assert [ids for step, ids in seen if step == 0] != [ids for step, ids in seen if step == 1]


def test_a_stop_token_is_part_of_what_was_written_and_a_cut_text_has_none(weights):
    model, stops = TransformersModel(weights, name="student"), stop_ids(weights.tokenizer, weights.module)
    prompt = prompt_ids(weights.tokenizer, rows(1)[0].messages[:-1])
    asked = [WRITING.prompt(prompt, seed) for seed in range(200)]
    found = [rollout.ids[len(prompt) :].tolist() for rollout in write(model, asked, 0)]
    ended = [ids for ids in found if ids[-1] in stops]
    assert 0 < len(ended) < 200
    assert all(len(ids) == 6 for ids in found if ids[-1] not in stops)
    assert not any(set(ids[:-1]) & set(stops) for ids in found)


def test_what_is_written_ends_before_a_token_that_the_teacher_lacks(weights):
    model = TransformersModel(weights, name="student")
    prompt = prompt_ids(weights.tokenizer, rows(1)[0].messages[:-1])
    asked = [WRITING.prompt(prompt, seed) for seed in range(200)]
    whole = [rollout.ids.tolist() for rollout in write(model, asked, 0)]
    unknown = np.array(sorted({ids[len(prompt) + 2] for ids in whole if len(ids) > len(prompt) + 2})[:5])
    found = [rollout.ids.tolist() for rollout in write(model, asked, 0, unknown=unknown)]
    assert found != whole
    for short, full in zip(found, whole, strict=True):
        assert full[: len(short)] == short
        assert not set(short[len(prompt) :]) & set(unknown)
        assert len(short) == len(full) or full[len(short)] in unknown


def test_rollouts_are_drawn_from_the_students_distribution(weights):
    prompt = prompt_ids(weights.tokenizer, rows(1)[0].messages[:-1])
    one = replace(WRITING, max_new_tokens=1, temperature=2.0)
    found = write(TransformersModel(weights, name="student", batch_size=500), [one.prompt(prompt, seed) for seed in range(4000)], 0)
    with torch.no_grad():
        p = torch.softmax(weights.module(torch.tensor([prompt])).logits[0, -1] / 2.0, dim=-1).numpy()
    counts = np.bincount([int(rollout.ids[-1]) for rollout in found], minlength=len(p))
    assert np.abs(counts - 4000 * p).max() < 5 * np.sqrt(4000 * p.max())
    assert np.abs(counts / 4000 - p).sum() / 2 < 0.15


def test_a_row_never_becomes_longer_than_the_limit(weights):
    prompt = prompt_ids(weights.tokenizer, rows(1)[0].messages[:-1])
    tight = replace(WRITING, max_length=len(prompt) + 2)
    found = write(TransformersModel(weights, name="student"), [tight.prompt(prompt, seed) for seed in range(20)], 0)
    assert max(len(rollout.ids) for rollout in found) == len(prompt) + 2


def test_writing_leaves_no_trace_in_training(weights):
    given = encode_rows(weights.tokenizer, rows(), max_length=200)
    weights.module.train()
    weights.module.model.embed_tokens.weight.grad = torch.ones_like(weights.module.model.embed_tokens.weight)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    [mixed] = student_source(weights, given, share=1.0).mix(0, [collate([given.rows[place] for place in range(8)], 0)], CPU)
    assert torch.equal(torch.rand(3), expected)
    assert all(part.training for part in weights.module.modules())
    assert torch.equal(weights.module.model.embed_tokens.weight.grad, torch.ones_like(weights.module.model.embed_tokens.weight))
    assert (mixed.rows_B == WRITTEN).all()


def whole_logits(model, batch):
    """The model's own logits of the padded batch at its trained positions."""
    lengths = torch.tensor([int(np.flatnonzero(ids)[-1]) + 1 for ids in batch.input_ids_BT.numpy()])
    mask = (torch.arange(batch.input_ids_BT.shape[1])[None] < lengths[:, None]).long()
    return model(input_ids=batch.input_ids_BT, attention_mask=mask).logits


def mixed_batch(weights, given, share):
    return student_source(weights, given, share=share).mix(0, [collate([given.rows[place] for place in range(8)], 0)], CPU)[0]


@pytest.mark.parametrize("divergence", [jensen_shannon, reverse_kl])
def test_the_loss_pulls_to_the_teachers_distribution_at_what_was_written(weights, divergence):
    given = encode_rows(weights.tokenizer, rows(), max_length=200)
    batch, student = mixed_batch(weights, given, 1.0), weights.module
    teacher = module("smollm", len(weights.tokenizer))
    dense = torch.zeros(())
    places = {}
    for place, flat in enumerate(batch.positions_N.tolist()):
        places.setdefault(flat // batch.input_ids_BT.shape[1], []).append((flat % batch.input_ids_BT.shape[1], place))
    for row, at in places.items():
        columns = [column for column, _ in at]
        # One run of tokens up to the end of the row, and the token after each is the one that was written there.
        ids = batch.input_ids_BT[row, : columns[-1] + 2][None]
        assert columns == list(range(columns[0], columns[-1] + 1))
        assert ids[0, columns[0] + 1 :].tolist() == [int(batch.labels_N[place]) for _, place in at]
        prompt = ids[0, : columns[0] + 1].tolist()
        assert any(prompt == one.ids[:length].tolist() for one, length in zip(given.rows, given.prompts, strict=True))
        with torch.no_grad():
            target = teacher(ids).logits[0, columns]
        dense = dense + divergence_of_logits(divergence, student(ids).logits[0, columns], target)
    dense.backward()
    wanted = {name: parameter.grad.clone() for name, parameter in student.named_parameters()}
    student.zero_grad()

    objective = OBJECTIVES["on_policy"](Ingredients(LiveTeacher(teacher, len(weights.tokenizer)), divergence))
    loss = pulled_loss(trained_hidden(student, batch), output_head(student), [aim.pull(batch) for aim in objective.aims], chunk=5)
    loss.backward()
    torch.testing.assert_close(loss, dense, rtol=1e-4, atol=1e-5)
    for name, parameter in student.named_parameters():
        torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-4)


def test_the_text_is_learnt_where_it_was_given_and_never_where_the_student_wrote_it(weights):
    given, student = encode_rows(weights.tokenizer, rows(), max_length=200), weights.module
    batch = mixed_batch(weights, given, 0.5)
    kept = collate([given.rows[int(row)] for row in batch.rows_B if row != WRITTEN], 0)
    assert 0 < len(kept) < 8
    ingredient = Ingredients(LiveTeacher(module("smollm", len(weights.tokenizer)), len(weights.tokenizer)), text_weight=0.7)
    on_policy, text = OBJECTIVES["on_policy"](ingredient).aims[1], OBJECTIVES["sft"](ingredient).aims[0]
    with torch.no_grad():
        found = pulled_loss(trained_hidden(student, batch), output_head(student), [on_policy.pull(batch)])
        expected = pulled_loss(trained_hidden(student, kept), output_head(student), [text.pull(kept)])
    assert on_policy.divergence is cross_entropy
    torch.testing.assert_close(found, 0.7 * expected, rtol=1e-4, atol=1e-4)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_with_no_share_it_is_the_logits_objective_bit_by_bit(tiny_teacher, tmp_path):
    pulled = ingredients(tiny_teacher)
    fine_tune(job(tiny_teacher, tmp_path / "logits", teaching=always(OBJECTIVES["logits"](pulled))))
    summary = fine_tune(
        on_policy_job(tiny_teacher, tmp_path / "on_policy", {"share": 0.0}, teaching=always(OBJECTIVES["on_policy"](pulled)))
    )
    assert (summary.objective, summary.rollouts, summary.rollout_length, summary.writing_share) == ("on_policy", 0, None, None)
    best = [(tmp_path / name / "best" / "model.safetensors").read_bytes() for name in ("logits", "on_policy")]
    assert best[0] == best[1]
    clockless = [[line | {"tokens_per_s": 0.0} for line in lines(tmp_path / name) if "loss" in line] for name in ("logits", "on_policy")]
    assert clockless[0] == clockless[1]


def test_a_student_learns_from_what_it_writes_alone_and_tells_how_much_that_was(tiny_teacher, tmp_path):
    seen = []
    settings = {"share": 1.0, "refresh": 2, "reuse": 1.0, "staleness": None, "buffer": 1000}
    training = {"epochs": 24.0, "learning_rate": 3e-3}
    summary = fine_tune(
        on_policy_job(
            tiny_teacher, tmp_path / "run", settings, training=training, validation=None, events=EventLog(listeners=(seen.append,))
        )
    )
    told = [line for line in lines(tmp_path / "run") if "loss" in line]
    losses = [line["loss"] for line in told]
    assert np.mean(losses[-4:]) < 0.5 * np.mean(losses[:2])
    # 72 steps of eight rows, two steps at a time.
    assert [line["rollouts"] for line in told] == [16 * (step // 2 + 1) for step in range(72)]
    assert summary.rollouts == 72 * 8
    assert 1.0 <= summary.rollout_length <= 6.0
    assert all(1.0 <= line["rollout_length"] <= 6.0 for line in told)
    assert all(0.0 < line["writing_share"] < 1.0 for line in told)
    assert summary.writing_share == told[-1]["writing_share"]
    # Each rollout is learnt from once, and of it all that was written and nothing else.
    assert summary.trained_tokens == summary.rollouts * summary.rollout_length
    assert any("rollouts" in event.values for event in seen if isinstance(event, Measured))


def test_rows_of_several_answers_and_settings_that_do_nothing_are_told(tiny_teacher, tmp_path):
    seen = []
    events = EventLog(listeners=(seen.append,))
    short = {"epochs": 1.0}
    examples = [*rows(), conversation(3)]
    fine_tune(on_policy_job(tiny_teacher, tmp_path / "several", rows=examples, validation=None, training=short, events=events))
    fine_tune(job(tiny_teacher, tmp_path / "idle", validation=None, training=short | {"on_policy": {"share": 1.0}}, events=events))
    assert [event.text for event in seen if isinstance(event, Noticed) and "patience" not in event.text] == [
        "1 of 25 rows have several answers: the student writes the last one anew, after the others as they stand",
        "`training.on_policy` acts with `training.objective: on_policy` alone, and is not used",
    ]


def test_a_staleness_that_leaves_nothing_to_learn_from_is_refused():
    assert OnPolicySpec(refresh=4).oldest == 3
    assert OnPolicySpec(refresh=4, staleness=3).oldest == 3
    with pytest.raises(ValidationError, match=r"`staleness` of 2 leaves nothing .* every 4 steps \(`refresh`\): set it to 3 or more"):
        OnPolicySpec(refresh=4, staleness=2)


def test_the_cost_of_writing_goes_by_share_and_reuse():
    asked = {"on_policy": OnPolicySpec(share=0.5, reuse=2.0)}
    assert TrainingSpec(objective="on_policy", **asked).rollouts_a_row == 0.25
    assert TrainingSpec(objective="logits", **asked).rollouts_a_row == 0.0
