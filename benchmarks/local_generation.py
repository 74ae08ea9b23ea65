"""Tokens a second of Potstill's local generation against plain `transformers.generate`, paired.

    python benchmarks/local_generation.py [MODEL] [--batches 1 8 32] [--repeats 5] [--tokens 32] [--threads 2]

Both get the same prompts, padded alike on the left, greedy, in turn, so that a busy neighbour slows both. "fixed" writes the same
number of tokens for every prompt: pure speed. "own" lets answers end where they end: there Potstill drops finished rows, and generate
goes on until the last one has. Tokens are those that belong to answers, counted alike for both. Reported are medians, and the median
of the paired ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from potstill.models.decoding import Prompt, decode
from potstill.models.load import load_local
from potstill.models.transformers_local import TransformersModel
from potstill.records import Message, Request, Sampling
from potstill.spec.sections import WeightsSpec

QUESTIONS = (
    "What is the capital of France?",
    "Name a fruit.",
    "Summarise in one sentence: a queue hands out its items in the order in which they came, a stack in the opposite order.",
    "What is two plus two?",
    "Is water wet? Answer yes or no.",
    "Write a sentence about the sea, its colour, and the birds above it, in the manner of a travel guide.",
    "Translate into French: good morning.",
    "Who wrote Hamlet?",
)


def prompts(model: TransformersModel, batch: int) -> list[list[int]]:
    """`batch` prompts of the chat template, sorted by length as the engine would."""
    texts = [f"{QUESTIONS[n % len(QUESTIONS)]} ({n})" for n in range(batch)]
    return sorted((model.prompt_tokens(Request((Message("user", text),), Sampling(1))) for text in texts), key=len)


def write_with_potstill(model: TransformersModel, ids: Sequence[list[int]], tokens: int, stops: list[int]) -> int:
    """Tokens of answers that were written."""
    return sum(answer.tokens for answer in decode(model.module, [Prompt(row, tokens) for row in ids], stops))


@torch.inference_mode()
def write_with_generate(model: TransformersModel, ids: Sequence[list[int]], tokens: int, stops: list[int]) -> int:
    """The same by `generate`; tokens after a row's stop token are padding, and not counted."""
    width = max(map(len, ids))
    padded = torch.tensor([[0] * (width - len(row)) + row for row in ids], device=model.module.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in ids], device=model.module.device)
    out = model.module.generate(
        padded,
        attention_mask=mask,
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=stops or None,
        pad_token_id=model.tokenizer.pad_token_id,
    )
    rows = out[:, width:].tolist()
    return sum(next((place + 1 for place, token in enumerate(row) if token in stops), len(row)) for row in rows)


def rate(write: Callable[[], int]) -> tuple[float, int]:
    """Tokens a second, and tokens."""
    started = time.perf_counter()
    count = write()
    return count / (time.perf_counter() - started), count


def compare(model: TransformersModel, batch: int, tokens: int, repeats: int, stops: list[int]) -> None:
    """Print one line of figures."""
    ids = prompts(model, batch)
    ours, theirs = [], []
    for turn in range(repeats + 1):
        sides = [lambda: write_with_potstill(model, ids, tokens, stops), lambda: write_with_generate(model, ids, tokens, stops)]
        order = (0, 1) if turn % 2 else (1, 0)
        measured = {side: rate(sides[side]) for side in order}
        assert measured[0][1] == measured[1][1], f"not the same answers: {measured[0][1]} and {measured[1][1]} tokens"
        if turn:  # the first turn warms up
            ours.append(measured[0][0])
            theirs.append(measured[1][0])
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    kind = "own" if stops else "fixed"
    print(
        f"{batch:>5} {kind:>6} {statistics.median(ours):>12.1f} {statistics.median(theirs):>12.1f} {ratio:>8.2f} {measured[0][1]:>7}",
        flush=True,
    )


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = load_local(WeightsSpec(model=options.model))
    where = f"{options.model}, {model.module.dtype}, {model.module.device}, {options.threads} threads"
    print(f"{where}, {options.tokens} new tokens, medians of {options.repeats}")
    print(f"{'batch':>5} {'ends':>6} {'potstill t/s':>12} {'generate t/s':>12} {'ratio':>8} {'tokens':>7}")
    # generate is told of the stop tokens in each call; the model's own setting would end the fixed runs early.
    model.module.generation_config.eos_token_id = None
    stops = model.stop_ids
    for batch in options.batches:
        compare(model, batch, options.tokens, options.repeats, [])
        compare(model, batch, options.tokens, options.repeats, stops)


if __name__ == "__main__":
    main()
