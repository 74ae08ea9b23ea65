"""The fake answers as a model would: by its function, within its limit."""

from __future__ import annotations

import asyncio

from potstill.models.base import Model
from potstill.models.echo import EchoModel
from potstill.records import Message, Request, Sampling, Usage


def asked(text: str, tokens: int = 10) -> Request:
    return Request((Message("system", "Be brief."), Message("user", text)), Sampling(tokens))


def test_it_says_what_the_user_said() -> None:
    model: Model = EchoModel()
    first, second = asyncio.run(model.complete([asked("one two"), asked("three")]))
    assert (first.text, second.text) == ("one two", "three")
    assert (first.finish_reason, first.usage) == ("stop", Usage(4, 2))
    assert model.dollars(first) == 0.0


def test_it_keeps_the_limit() -> None:
    [answer] = asyncio.run(EchoModel().complete([asked("one two three", 2)]))
    assert (answer.text, answer.finish_reason) == ("one two", "length")


def test_it_answers_by_a_function() -> None:
    model = EchoModel(lambda request: str(len(request.messages)), identity="echo:count")
    assert asyncio.run(model.complete([asked("x")]))[0].text == "2"
    assert model.identity == "echo:count"
