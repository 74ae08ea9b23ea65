"""Chats as token ids: what inference sends, and what training learns from, made by the same template in the same way.

The template's text is what is tokenised, with nothing added: templates write their own begin-of-text token, or none.
Thinking is switched off in templates that know it, and the date that some templates print is fixed, so that a prompt has
the same ids on every day.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.errors import ModelError
from potstill.records import Message

# The date that Llama 3.1's own template falls back to.
_SETTINGS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
_PROBE = "potstill"
NO_TEMPLATE = (
    "its tokenizer brings no chat template; name a Jinja file in `chat_template:` beside `model:`, or choose the model's instruct version"
)

Ids = list[int]


def prompt_text(tokenizer: Any, messages: Sequence[Message], *, answering: bool = True) -> str:
    """The chat as the tokenizer's template writes it; `answering` adds the opening of the assistant's turn.

    A system prompt is put in front of the first user turn where the template knows no system role (Gemma, Mistral 7B).
    Raises ModelError where there is no template, where it refuses these turns, or drops the system prompt.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ModelError(f"{getattr(tokenizer, 'name_or_path', '') or 'the model'}: {NO_TEMPLATE}")
    text, problem = _render(tokenizer, messages, answering)
    system = messages[0].content.strip() if messages and messages[0].role == "system" else ""
    if text is None or system not in text:
        folded = _without_system_role(messages)
        if folded != tuple(messages):
            text, problem = _render(tokenizer, folded, answering)
    if text is None:
        raise ModelError(f"the chat template refuses a chat of {', '.join(m.role for m in messages)}: {problem}")
    if system not in text and _words(system) not in _words(text):
        name = getattr(tokenizer, "name_or_path", "") or "the model"
        raise ModelError(
            f"{name}: its chat template drops the system prompt ({system[:60]!r}); name a Jinja file that writes it in `chat_template:` "
            "beside `model:`"
        )
    return text


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """The ids that inference sends: the chat, and the opening of the assistant's turn."""
    return _encode(tokenizer, prompt_text(tokenizer, messages))


def training_ids(tokenizer: Any, messages: Sequence[Message], trained_turns: Sequence[int]) -> tuple[list[int], list[bool]]:
    """The ids of a chat up to its last trained turn, and which of them are trained: each trained turn's answer and stop token.

    The ids before a trained turn are those that `prompt_ids` gives at that turn. Templates that rewrite earlier answers
    (Qwen 3 drops thinking, Mistral moves the system prompt) make that impossible for several turns of one sequence: then the last
    turn alone is trained here; `training_sequences` trains them all.
    """
    return training_sequences(tokenizer, messages, trained_turns)[-1]


def training_sequences(tokenizer: Any, messages: Sequence[Message], trained_turns: Sequence[int]) -> list[tuple[list[int], list[bool]]]:
    """As few sequences as train every turn of `trained_turns` once, each after exactly the ids that inference sends there."""
    assert trained_turns, "a chat without a trained turn has nothing to learn from"
    assert all(messages[turn].role == "assistant" for turn in trained_turns), "only the assistant's turns are trained"
    sequences: list[tuple[list[int], list[bool]]] = []
    for turn in sorted(trained_turns):
        prompt, answer = _turn_ids(tokenizer, messages, turn)
        ids, trained = prompt + answer, [False] * len(prompt) + [True] * len(answer)
        if sequences:
            before, before_trained = sequences[-1]
            if prompt[: len(before)] == before:
                trained[: len(before)] = before_trained
                sequences.pop()
        sequences.append((ids, trained))
    return sequences


def stop_ids(tokenizer: Any, module: Any | None = None) -> list[int]:
    """The ids that end an answer, sorted: the tokenizer's, the model's, and the one that the template writes after a turn."""
    found = {tokenizer.eos_token_id}
    for config in (getattr(module, "generation_config", None), getattr(module, "config", None)):
        eos = getattr(config, "eos_token_id", None)
        found |= set(eos) if isinstance(eos, list | tuple) else {eos}
    if getattr(tokenizer, "chat_template", None):
        found.add(tokenizer.convert_tokens_to_ids(_stop_token(tokenizer)))
    return sorted(token for token in found if token is not None)


def _render(tokenizer: Any, messages: Sequence[Message], answering: bool) -> tuple[str | None, str]:
    turns = [m.to_json() for m in messages]
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answering, **_SETTINGS)
    except Exception as error:  # noqa: BLE001 (a template is a program of somebody else's: it can raise anything)
        return None, str(error) or type(error).__name__
    return text, ""


def _words(text: str) -> str:
    return " ".join(text.split())


def _without_system_role(messages: Sequence[Message]) -> tuple[Message, ...]:
    if len(messages) < 2 or messages[0].role != "system" or messages[1].role != "user":
        return tuple(messages)
    return (Message("user", f"{messages[0].content}\n\n{messages[1].content}"), *messages[2:])


def _encode(tokenizer: Any, text: str) -> Ids:
    ids: Ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _turn_ids(tokenizer: Any, messages: Sequence[Message], turn: int) -> tuple[Ids, Ids]:
    """What inference sends at this turn, and the answer with its stop token as it should come back."""
    before = prompt_text(tokenizer, messages[:turn])
    answer = _answer_text(tokenizer, before, messages[: turn + 1])
    prompt = _encode(tokenizer, before)
    whole = _encode(tokenizer, before + answer)
    if whole[: len(prompt)] == prompt:
        return prompt, whole[len(prompt) :]
    # The tokenizer joins the prompt's end with the answer's beginning; at inference the prompt's ids are fixed.
    return prompt, _encode(tokenizer, answer)


def _answer_text(tokenizer: Any, before: str, messages: Sequence[Message]) -> str:
    """The last turn as the template writes it after `before`, up to and with its stop token."""
    content = messages[-1].content.strip()
    written = prompt_text(tokenizer, messages, answering=False)
    if written.startswith(before):
        turn = written[len(before) :]
        start = len(turn) - len(turn.lstrip()) if turn.lstrip().startswith(content) else turn.find(content)
    else:
        # A template that rewrites its own opening of the turn: keep the answer, and what stands after it.
        start = written.rfind(content)
        turn, start = written[max(start, 0) :], min(start, 0)
    if start < 0:
        turn, start = content, 0
    end = start + len(content)
    stop_at, stop = _first_special(tokenizer, turn, end)
    if stop:
        return turn[: stop_at + len(stop)]
    return turn[:end] + _stop_token(tokenizer)


def _stop_token(tokenizer: Any) -> str:
    """The token that the template writes after an answer; the tokenizer's own where it writes none."""
    chat = (Message("user", _PROBE), Message("assistant", _PROBE))
    written = prompt_text(tokenizer, chat, answering=False)
    _, stop = _first_special(tokenizer, written, written.rfind(_PROBE) + len(_PROBE))
    stop = stop or tokenizer.eos_token
    if stop is None:
        raise ModelError(
            f"{tokenizer.name_or_path or 'the model'}: neither its chat template nor its tokenizer has a token that ends an answer; "
            "set `eos_token` in tokenizer_config.json"
        )
    return str(stop)


def _first_special(tokenizer: Any, text: str, start: int) -> tuple[int, str]:
    """Where the first special token stands in `text` from `start` on, and which; (-1, "") where there is none."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special} | set(tokenizer.all_special_tokens)
    places = [(text.find(token, start), -len(token), token) for token in special]
    found = sorted(place for place in places if place[0] >= 0)
    return (found[0][0], found[0][2]) if found else (-1, "")
