"""One raw row, in any of the formats that are read, to an `Example`; or all that is wrong with it.

The formats: `{"messages": [...]}` with `reference`, `rationale`, `id`, `group` and `tags`; `{"prompt", "completion"}`; OpenAI
fine-tuning rows and Azure ML distillation rows, which are `messages` with or without a final assistant turn.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from potstill.records import ROLES, Example, Message, Role

KEYS = (
    "messages",
    "prompt",
    "completion",
    "system",
    "reference",
    "rationale",
    "id",
    "group",
    "tags",
    "trained_turns",
    "teacher",
    "distribution",
    "rounds",
    "source",
)

NOT_A_REFERENCE = "the last assistant turn has `weight` 0 and is not taken for the reference"
LEARNT_ANYWAY = "assistant turns of `weight` 0 are learnt like the others, since the teacher answers each turn anew"

_OTHER_NAMES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}


@dataclass(frozen=True, slots=True)
class RowProblem:
    """One thing that is wrong with a row: where it stands (`train.jsonl:17`), and what it is."""

    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.place}: {self.text}"


def read_row(raw: Mapping[str, object], *, name: str, conversation: bool, remarks: list[str] | None = None) -> Example | list[str]:
    """The example that a raw row stands for, or everything that is wrong with it.

    `name` is the row's id where it brings none. A final assistant turn (`completion` too) becomes the reference, except in a
    `conversation`, where the dialogue stays whole, and in rows with `trained_turns`, which Potstill wrote itself. Surrounding
    blanks of references are cut off. `remarks` is given what an acceptable row says in vain.
    """
    problems = [text for key in raw if key not in KEYS and (text := _misspelt(key))]
    remarks = [] if remarks is None else remarks
    messages = _messages(raw, problems, greeting=conversation)
    reference = _references(raw, problems)
    turns = _trained_turns(raw, messages, problems)
    untrained = _turns_of_weight_0(raw)
    if conversation and untrained:
        remarks.append(LEARNT_ANYWAY)
    if messages and messages[-1].role == "assistant" and not turns:
        unwanted = not conversation and len(messages) in untrained
        if unwanted:
            remarks.append(NOT_A_REFERENCE)
        elif reference:
            final = '"completion"' if "prompt" in raw else "the last assistant turn"
            problems.append(f'the gold answer stands twice, in "reference" and in {final}; keep one')
        if not conversation:
            *messages, last = messages
            reference = reference if unwanted else (last.content.strip(),)
    example = Example(
        id=_name(raw, "id", problems) or name,
        messages=tuple(messages),
        reference=reference,
        rationale=_text(raw, "rationale", problems),
        group=_name(raw, "group", problems),
        tags=_tags(raw, problems),
        trained_turns=turns,
    )
    return problems or example


def _turns_of_weight_0(raw: Mapping[str, object]) -> set[int]:
    """Numbers of the assistant turns that OpenAI's fine-tuning would not train on."""
    turns = raw.get("messages")
    if not isinstance(turns, Sequence):
        return set()
    return {
        number
        for number, turn in enumerate(turns, 1)
        if isinstance(turn, Mapping) and turn.get("role") == "assistant" and turn.get("weight") == 0
    }


@functools.lru_cache(maxsize=1024)
def _misspelt(key: str) -> str | None:
    close = difflib.get_close_matches(key, KEYS, n=1, cutoff=0.85)
    return f"key {quote(key)} is not known; did you mean {quote(close[0])}?" if close else None


def _messages(raw: Mapping[str, object], problems: list[str], *, greeting: bool) -> list[Message]:
    if raw.get("messages") is not None or ("messages" in raw and "prompt" not in raw):
        problems.extend(
            f'has both "messages" and "{key}"; keep one' for key in ("prompt", "completion", "system") if raw.get(key) is not None
        )
        return _turns(raw.get("messages"), problems, greeting=greeting)
    if "prompt" not in raw:
        keys = ", ".join(quote(key) for key in raw) or "none"
        problems.append(f'has neither "messages" nor "prompt"; its keys: {keys}')
        return []
    found: list[Message] = []
    for key, role in (("system", "system"), ("prompt", "user"), ("completion", "assistant")):
        text = _text(raw, key, problems)
        if text is not None:
            found.append(Message(cast(Role, role), text))
        elif key == "prompt" and raw[key] is None:
            problems.append('"prompt" is null, must be text')
    return found


def _turns(value: object, problems: list[str], *, greeting: bool) -> list[Message]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        problems.append(f'"messages" is {kind(value)}, must be a list of turns like {{"role": "user", "content": "..."}}')
        return []
    before = len(problems)
    turns = [turn for number, item in enumerate(value, 1) if (turn := _turn(number, item, problems)) is not None]
    if len(problems) == before:
        _check_order(turns, problems, greeting=greeting)
    return turns


def _turn(number: int, item: object, problems: list[str]) -> Message | None:
    if not isinstance(item, Mapping):
        problems.append(f'message {number} is {kind(item)}, must be an object with "role" and "content"')
        return None
    role = "system" if item.get("role") == "developer" else item.get("role")
    if role not in ROLES:
        problems.append(_role_problem(number, item))
        return None
    if "content" not in item:
        problems.append(f"message {number} has no content")
        return None
    content = _joined_parts(item["content"])
    fault = _content_fault(item, content)
    if fault:
        problems.append(f"message {number}: {fault}")
        return None
    return Message(cast(Role, role), cast(str, content))


def _joined_parts(content: object) -> object:
    """The text of a content that is a list of text parts, one line a part; any other content as it is."""
    parts = content if isinstance(content, list) else []
    texts = [
        part["text"] for part in parts if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)
    ]
    return "\n".join(texts) if texts and len(texts) == len(parts) else content


def _role_problem(number: int, item: Mapping[str, object]) -> str:
    allowed = ", ".join(ROLES)
    if "role" not in item:
        return f'message {number} has no "role" (one of {allowed})'
    role = item["role"]
    other = _OTHER_NAMES.get(role) if isinstance(role, str) else None
    hint = f'; write "{other}"' if other else ""
    return f"role {quote(role)} is not one of {allowed} (message {number}){hint}"


def _content_fault(item: Mapping[str, object], content: object) -> str | None:
    if content is None and (item.get("tool_calls") or item.get("function_call")):
        return "is a tool call; only turns of text can be learnt"
    if isinstance(content, list) and any(isinstance(part, Mapping) for part in content):
        kinds = sorted({quote(part.get("type")) for part in content if isinstance(part, Mapping) and part.get("type") != "text"})
        return f"content has parts of type {', '.join(kinds)}; only text can be learnt" if kinds else "content has a part without its text"
    if not isinstance(content, str):
        return f"content is {kind(content)}, must be text"
    fault = _text_fault(content)
    return f"content {fault}" if fault else None


def _check_order(turns: Sequence[Message], problems: list[str], *, greeting: bool) -> None:
    """User and assistant alternate, and the user begins; with `greeting` the assistant may."""
    if not any(turn.role == "user" for turn in turns):
        problems.append('"messages" holds no user turn; there is nothing to answer')
        return
    expected: Role = "user"
    for number, turn in enumerate(turns, 1):
        if turn.role == "system":
            if number > 1:
                problems.append(f"message {number} is a system turn; a system turn stands first or nowhere")
                return
            continue
        first = number == 1 or turns[number - 2].role == "system"
        if turn.role != expected and not (greeting and first):
            problems.append(
                f"message {number} is an assistant turn; the first turn after the system turn must be the user's"
                if first
                else f"message {number} is a second {turn.role} turn in a row; user and assistant alternate"
            )
            return
        expected = "assistant" if turn.role == "user" else "user"


def _references(raw: Mapping[str, object], problems: list[str]) -> tuple[str, ...]:
    value = raw.get("reference")
    if value is None:
        return ()
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, Sequence):
        hint = f'; write "{value}" in quotes' if isinstance(value, int | float) and not isinstance(value, bool) else ""
        problems.append(f'"reference" is {kind(value)}, must be text or a list of texts{hint}')
        return ()
    if not value:
        problems.append('"reference" is an empty list; leave it out where no gold answer is known')
    found = []
    for item in value:
        fault = _text_fault(item) if isinstance(item, str) else f"holds {kind(item)}, must be text or a list of texts"
        if fault:
            problems.append(f'"reference" {fault}')
        else:
            found.append(item.strip())
    return tuple(found)


def _trained_turns(raw: Mapping[str, object], messages: Sequence[Message], problems: list[str]) -> tuple[int, ...]:
    value = raw.get("trained_turns")
    if value is None:
        return ()
    answers = {position for position, message in enumerate(messages) if message.role == "assistant"}
    if not isinstance(value, Sequence) or not all(isinstance(item, int) and item in answers for item in value):
        problems.append(f'"trained_turns" is {quote(value)}, must list positions of assistant turns (counted from 0)')
        return ()
    return tuple(value)


def _text(raw: Mapping[str, object], key: str, problems: list[str]) -> str | None:
    value = raw.get(key)
    if value is None:
        return None
    fault = _text_fault(value) if isinstance(value, str) else f"is {kind(value)}, must be text"
    if fault:
        problems.append(f'"{key}" {fault}')
        return None
    return cast(str, value)


def _name(raw: Mapping[str, object], key: str, problems: list[str]) -> str | None:
    value = raw.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _text(raw, key, problems)


def _tags(raw: Mapping[str, object], problems: list[str]) -> tuple[str, ...]:
    value = raw.get("tags")
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or not all(isinstance(tag, str) for tag in value):
        problems.append(f'"tags" is {quote(value)}, must be a list of texts')
        return ()
    faults = [fault for tag in value if (fault := _text_fault(tag))]
    problems.extend(f'"tags" holds a text that {fault}' for fault in faults)
    return () if faults else tuple(value)


def _text_fault(text: str) -> str | None:
    if not text or text.isspace():
        return "is empty"
    if "\0" in text:
        return "holds a NUL character (\\u0000); remove it"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (
                f"holds half a character (\\u{ord(text[error.start]):04x}, a lone surrogate); the text was cut inside an emoji or the like"
            )
    return None


def kind(value: object) -> str:
    """What a JSON value is, in words."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "an object" if isinstance(value, Mapping) else "a list" if isinstance(value, Sequence) else f"a {type(value).__name__}"


def quote(value: object) -> str:
    """A value as a message shows it: JSON, cut at 60 characters; half characters, which cannot be printed, are escaped."""
    text = json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
    return text if len(text) <= 60 else f"{text[:57]}..."
