"""What a strategy is: a talk with one teacher about one turn, which ends with its reply."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import replace

from potstill.models.talk import Answered, Ask, Reply, Seat, Step, Talk
from potstill.records import Completion, Example, Message, Request
from potstill.spec.sections import PromptingSpec

_THINKING = re.compile(r"\s*<think(?:ing)?>(.*?)</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_OPEN_THINKING = re.compile(r"\s*<think(?:ing)?>|.*?</think(?:ing)?>", re.DOTALL | re.IGNORECASE)


class Strategy(ABC):
    """Base: how a teacher is asked for one turn. `version` changes with the words that Potstill itself puts in."""

    version = ""
    steps = 1
    """How often the teacher is asked for one reply."""

    def __init__(self, spec: PromptingSpec, schema: str | None = None) -> None:
        self.spec, self.schema = spec, schema

    @property
    def words(self) -> str:
        """What is added to the system prompt; empty where nothing is."""
        return self.spec.instruction or ""

    def worked(self, example: Example) -> str | None:
        """A row's gold answer as this strategy wants answers to be given; None where the row cannot serve as an example."""
        return example.reference[0] if example.reference else None

    @abstractmethod
    def talk(self, seat: Seat, messages: tuple[Message, ...], sample: int) -> Talk[Reply]:
        """Ask `seat` for its reply to `messages`."""

    def ask(self, seat: Seat, messages: tuple[Message, ...], sample: int, *, extra_tokens: int = 0) -> Ask:
        """One question of this strategy."""
        sampling = replace(seat.sampling, max_new_tokens=seat.sampling.max_new_tokens + extra_tokens) if extra_tokens else seat.sampling
        version = "/".join(part for part in (self.version, self.spec.version) if part)
        request = Request(messages, sampling, sample, schema=self.schema, top_logprobs=seat.top_logprobs, prompt_version=version)
        return Ask(seat, request)


def plain_reply(answered: Answered) -> Reply:
    """The reply in an answer, with thinking taken off: it becomes the rationale."""
    completion = separate_thinking(answered.completion)
    request = answered.ask.request
    return Reply(answered.ask.seat, answered.key, completion, request.messages, rationale=completion.reasoning)


def separate_thinking(completion: Completion) -> Completion:
    """The completion with `<think>` blocks of its text moved into `reasoning`; thinking that never ends leaves no answer."""
    text = completion.text
    if "think" not in text:
        return completion
    if found := _THINKING.match(text):
        thought, answer = found[1].strip(), text[found.end() :]
    elif found := _OPEN_THINKING.match(text):
        # A server that cuts off the opening tag leaves the closing one; a torn answer has the opening one alone.
        closes = found[0].rstrip().endswith(">") and "</think" in found[0]
        thought, answer = (found[0].rpartition("</")[0].strip(), text[found.end() :]) if closes else (text[found.end() :].strip(), "")
    else:
        return completion
    both = "\n\n".join(part for part in (completion.reasoning, thought) if part)
    return replace(completion, text=answer.strip(), reasoning=both or None)


def with_system(messages: tuple[Message, ...], words: str) -> tuple[Message, ...]:
    """`messages` with `words` added to the system prompt, behind the user's own; a system prompt of these words where there is none."""
    if messages and messages[0].role == "system":
        return (Message("system", f"{messages[0].content}\n\n{words}"), *messages[1:])
    return (Message("system", words), *messages)


def one_step(ask: Ask) -> Step:
    """A step of one question, with which a reply may be complete."""
    return Step((ask,), last=True)
