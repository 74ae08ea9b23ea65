"""The second task of step-by-step distillation: to say how one gets to the answer (Hsieh et al. 2023, arXiv 2305.02301, §3.2)."""

from __future__ import annotations

from dataclasses import replace

from potstill.records import Example, Message

WHY = "Explain in a few short sentences how to get to the answer. Do not give the answer itself."


def rationale_row(row: Example, asked: tuple[Message, ...], rationale: str) -> Example:
    """A row that asks for the reasons alone, `<id>#why`: `asked` with the question for them, answered by `rationale`."""
    question = Message("user", f"{asked[-1].content}\n\n{WHY}")
    messages = (*asked[:-1], question, Message("assistant", rationale))
    return replace(row, id=f"{row.id}#why", messages=messages, trained_turns=(len(asked),), reference=(), distribution=())


def asks_why(row: Example) -> bool:
    """Whether a row is of this second task."""
    return bool(row.trained_turns) and row.messages[row.trained_turns[-1] - 1].content.endswith(f"\n\n{WHY}")
