"""A local model answers a batch as it would answer each request, and says what happened."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import torch

from potstill.errors import ModelError
from potstill.models.decoding import Prompt
from potstill.models.load import load_local
from potstill.models.transformers_local import TransformersModel
from potstill.records import Completion, Message, Request, Sampling
from potstill.spec.sections import WeightsSpec


@pytest.fixture(scope="module")
def model(tiny_teacher: Path) -> TransformersModel:
    return load_local(WeightsSpec(model=str(tiny_teacher)), batch_size=4)


def ask(model: TransformersModel, *requests: Request) -> list[Completion]:
    return asyncio.run(model.complete(requests))


def asked(text: str, tokens: int = 12, *, sample: int = 0, **sampling: object) -> Request:
    return Request((Message("user", text),), Sampling(tokens, **sampling), sample)  # type: ignore[arg-type]


def test_a_batch_answers_as_each_request_alone(model: TransformersModel) -> None:
    requests = [asked("fox " * n) for n in (1, 7, 3, 12)]
    together = ask(model, *requests)
    assert [c.text for c in together] == [ask(model, request)[0].text for request in requests]
    assert len({c.text for c in together}) == 4


def test_the_answer_is_that_of_generate_on_the_chat_template(model: TransformersModel) -> None:
    text = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    ids = model.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    out = model.module.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    [answer] = ask(model, asked("What is the capital of France?"))
    assert answer.text == model.tokenizer.decode(out, skip_special_tokens=True)
    assert answer.usage.input_tokens == ids.shape[1] == model.length(asked("What is the capital of France?"))


def test_the_limit_is_kept_and_told(model: TransformersModel) -> None:
    answers = ask(model, asked("fox", 3), asked("dog", 5))
    assert [(c.usage.output_tokens, c.finish_reason) for c in answers] == [(3, "length"), (5, "length")]


def test_a_stop_string_cuts_the_answer_before_it(model: TransformersModel) -> None:
    [free] = ask(model, asked("the lazy dog", 20))
    middle = free.text[len(free.text) // 2 : len(free.text) // 2 + 2]
    [cut] = ask(model, asked("the lazy dog", 20, stop=(middle,)))
    assert cut.text == free.text[: free.text.index(middle)]
    assert cut.finish_reason == "stop"


def test_samples_of_one_question_differ_and_come_again(model: TransformersModel) -> None:
    requests = [asked("fox", 12, sample=n, temperature=1.5) for n in range(4)]
    first, second = ask(model, *requests), ask(model, *reversed(requests))
    assert len({c.text for c in first}) == 4
    assert [c.text for c in first] == [c.text for c in reversed(second)]


def test_a_prompt_longer_than_the_context_fails_alone(model: TransformersModel) -> None:
    good, bad = ask(model, asked("fox"), asked("the lazy dog " * 300))
    assert good.error is None
    assert bad.finish_reason == "error"
    assert "the context 512: shorten the row" in str(bad.error)


def test_an_answer_ends_where_the_context_does(model: TransformersModel) -> None:
    request = asked("dog " * 200, 1000)
    [answer] = ask(model, request)
    assert answer.usage.output_tokens <= 512 - model.length(request)


def test_a_batch_that_memory_does_not_hold_is_answered_in_halves(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = [Prompt([1, 2, number], 4) for number in range(8)]
    whole = model.generate(prompts)
    forward = model.module.forward

    def holds_three(*arguments: object, **settings: object) -> object:
        if len(settings["input_ids"]) > 3:
            torch.empty(1 << 60, dtype=torch.uint8)  # torch's own error
        return forward(*arguments, **settings)

    monkeypatch.setattr(model.module, "forward", holds_three)
    assert [written.ids for written in model.generate(prompts)] == [written.ids for written in whole]


def test_memory_that_does_not_hold_one_prompt_says_what_to_do(model: TransformersModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_big(**_: object) -> None:
        # A real allocation of 2**60 bytes: torch's own error.
        torch.empty(1 << 60, dtype=torch.uint8)

    monkeypatch.setattr(model.module, "forward", too_big)
    with pytest.raises(ModelError, match=r"memory ran out over a single prompt .*choose a smaller model"):
        model.generate([Prompt([1], 4)])


def test_progress_goes_on_while_the_model_writes(model: TransformersModel) -> None:
    async def count() -> tuple[int, list[Completion]]:
        ticks = 0
        answering = asyncio.create_task(model.complete([asked("fox", 64)]))
        while not answering.done():
            await asyncio.sleep(0)
            ticks += 1
        return ticks, await answering

    ticks, answers = asyncio.run(count())
    assert ticks > 1
    assert len(answers) == 1


def test_it_costs_nothing_and_can_give_logits(model: TransformersModel) -> None:
    [answer] = ask(model, asked("fox"))
    assert model.dollars(answer) == 0.0
    assert model.capabilities.logits
