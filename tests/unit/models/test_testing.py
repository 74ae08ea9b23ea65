"""The test server answers as OpenAI's does, as far as clients can see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from potstill.models.openai_http import OpenAIModel
from potstill.models.testing import OpenAIStub
from potstill.records import Completion, Message, Request, Sampling, TokenLogprob
from potstill.spec.sections import TeacherSpec


def complete(stub: OpenAIStub, requests: Sequence[Request]) -> list[Completion]:
    async def run() -> list[Completion]:
        model = OpenAIModel(TeacherSpec(model="small", base_url=stub.base_url))
        try:
            return await model.complete(requests)
        finally:
            await model.close()

    return asyncio.run(run())


def question(**extra: int) -> Request:
    return Request((Message("user", "hello there"),), Sampling(8, temperature=1.0, seed=3), **extra)


def test_several_answers_a_call_are_those_of_as_many_calls() -> None:
    requests = [question(sample=number) for number in range(3)]
    with OpenAIStub(lambda payload: f"seed {payload['seed']}") as stub:
        together = complete(stub, requests)
        assert len(stub.calls) == 1
        apart = [complete(stub, [request])[0] for request in requests]
    assert [answer.text for answer in together] == [answer.text for answer in apart] == ["seed 3", "seed 4", "seed 5"]


def test_log_probabilities_come_where_they_are_asked_for() -> None:
    with OpenAIStub() as stub:
        [told], [untold] = complete(stub, [question(top_logprobs=2)]), complete(stub, [question()])
    assert told.logprobs == tuple(TokenLogprob(word, -0.1, ((word, -0.1), ("other1", -3.1))) for word in ("hello", " there"))
    assert untold.logprobs == ()
