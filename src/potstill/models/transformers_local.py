"""A local model that is asked through `transformers`: batched, greedy or sampled, its chat template and stop tokens honoured."""

from __future__ import annotations

import asyncio
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from potstill.errors import ModelError
from potstill.models import chat, pricing
from potstill.models.base import Capabilities
from potstill.models.decoding import Continuation, Place, Prompt, decode
from potstill.models.products import fast_products
from potstill.models.shared_prefix import Prefix, read_prefix, shared_ids
from potstill.models.weights import Weights
from potstill.records import Completion, Cost, Message, Request, TokenLogprob, Usage
from potstill.spec.sections import PriceSpec
from potstill.store.atomic import fingerprint

_MOST_PLANNED = 8_192
"""Prompts whose tokens are kept between planning a batch and answering it: twice as many as are planned together."""


class TransformersModel:
    """Answers in process; a batch at a time, in a thread of its own, so that the caller goes on.

    Batches are fastest when their prompts are of one length: sort by `length`. `capabilities` include logits and hidden
    states, which training takes from `module`. `frozen` says that its weights stay as they are, so that what was read can be used again.
    """

    capabilities = Capabilities(logits=True, hidden_states=True)

    def __init__(self, weights: Weights, *, name: str, batch_size: int = 32, price: PriceSpec | None = None, frozen: bool = False) -> None:
        self.module = weights.module
        self.tokenizer = weights.tokenizer
        self.name = name
        self.identity = weights.identity
        self.batch_size = batch_size
        self.concurrency = 1
        self.stop_ids = chat.stop_ids(self.tokenizer, self.module)
        config = self.module.config.get_text_config()
        self._context: int = getattr(config, "max_position_embeddings", None) or 1 << 30
        self._price = price or PriceSpec(per_gpu_hour=0.0)
        self._fits = batch_size
        self._busy = threading.Lock()
        self._prefix: Prefix | None = None
        self._frozen = frozen
        self._names: dict[int, str] = {}
        self._planned: dict[tuple[Message, ...], array[int]] = {}

    def prompt_tokens(self, request: Request) -> list[int]:
        """The ids that this request sends."""
        return chat.prompt_ids(self.tokenizer, request.messages)

    def length(self, request: Request) -> int:
        """How long the request's prompt is, in tokens; what batches are sorted by."""
        known = self._planned.get(request.messages)
        if known is None:
            if len(self._planned) >= _MOST_PLANNED:
                self._planned.clear()
            known = self._planned[request.messages] = array("I", self.prompt_tokens(request))
        return len(known)

    async def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """Answer the requests as one batch, in order.

        A prompt that leaves no room in the context comes back as an error, the others are answered. Raises ModelError where
        memory runs out.
        """
        cancelled = threading.Event()
        try:
            return await asyncio.to_thread(self._answer, requests, cancelled.is_set)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    def generate(self, prompts: Sequence[Prompt], *, cancelled: Callable[[], bool] = lambda: False) -> list[Continuation]:
        """Continue prompts of token ids, as one batch, or, where memory does not hold it, in halves of it.

        Raises ModelError where memory does not hold one prompt.
        """
        fits = self._fits
        if len(prompts) > fits:
            parts = [prompts[start : start + fits] for start in range(0, len(prompts), fits)]
            return [written for part in parts for written in self.generate(part, cancelled=cancelled)]
        try:
            with self._busy, fast_products():
                return decode(self.module, prompts, self.stop_ids, prefix=self._shared(prompts), cancelled=cancelled)
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if not isinstance(error, torch.OutOfMemoryError) and "memory" not in str(error):
                raise
            if len(prompts) == 1:
                raise _out_of_memory(self.name, error) from None
        # Later batches are cut to what fits: the next one would fail as this one did.
        self._fits = len(prompts) // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return self.generate(prompts, cancelled=cancelled)

    def _shared(self, prompts: Sequence[Prompt]) -> Prefix | None:
        """The beginning of all these prompts; that of the batch before where it is the same, as it is for most of a split's batches.

        Weights that are being trained are others at the next batch, and read it anew.
        """
        ids = shared_ids(self.module, [prompt.ids for prompt in prompts])
        if not ids:
            return None
        if self._prefix is not None and self._prefix.ids == ids:
            return self._prefix
        prefix = read_prefix(self.module, ids)
        self._prefix = prefix if self._frozen else None
        return prefix

    def dollars(self, completion: Completion) -> float | None:
        """Its share of what the machine costs by the hour; nothing where no price is given."""
        return pricing.dollars(completion, self._price)

    def most(self, request: Request) -> Cost:
        """The most that a request can cost in tokens; by the hour it is time that costs, not calls."""
        return Cost(1, self.length(request) + request.sampling.max_new_tokens)

    async def close(self) -> None:
        """Let go of the weights."""
        self.module = self._prefix = None

    def _answer(self, requests: Sequence[Request], cancelled: Callable[[], bool]) -> list[Completion]:
        started = time.perf_counter()
        # What is asked was sorted by length before: its tokens are known from there.
        known = [self._planned.pop(request.messages, None) for request in requests]
        ids = [self.prompt_tokens(request) if one is None else one.tolist() for request, one in zip(requests, known, strict=True)]
        read_s = time.perf_counter() - started
        fitting = [row for row, prompt in enumerate(ids) if len(prompt) < self._context]
        written = self.generate([self._prompt(requests[row], ids[row]) for row in fitting], cancelled=cancelled)
        seconds = time.perf_counter() - started
        answers = [self._too_long(len(prompt)) for prompt in ids]
        for row, continuation in zip(fitting, written, strict=True):
            first_s = None if continuation.first_s is None else read_s + continuation.first_s
            answers[row] = replace(self._completion(requests[row], len(ids[row]), continuation, seconds), first_token_s=first_s)
        return answers

    def _prompt(self, request: Request, ids: list[int]) -> Prompt:
        sampling = request.sampling
        seed = int(fingerprint([sampling.seed, request.sample, [m.to_json() for m in request.messages]])[:15], 16)
        return Prompt(
            ids=ids,
            max_new_tokens=min(sampling.max_new_tokens, self._context - len(ids)),
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            seed=seed,
            ended=self._ends_with(sampling.stop) if sampling.stop else None,
            top=request.top_logprobs,
        )

    def _ends_with(self, stops: Sequence[str]) -> Callable[[list[int]], bool]:
        return lambda ids: any(stop in self._text(ids) for stop in stops)

    def _text(self, ids: list[int]) -> str:
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text

    def _completion(self, request: Request, asked: int, written: Continuation, seconds: float) -> Completion:
        text = self._text(written.ids)
        cut = min((place for stop in request.sampling.stop if (place := text.find(stop)) >= 0), default=len(text))
        return Completion(
            text=text[:cut],
            finish_reason="stop" if written.stopped else "length",
            usage=Usage(asked, written.tokens),
            latency_s=seconds,
            model=self.name,
            logprobs=tuple(self._told(place) for place in written.places),
        )

    def _told(self, place: Place) -> TokenLogprob:
        """A token by its text; stop tokens, which are among them, are empty."""
        return TokenLogprob(self._name(place.token), place.logprob, tuple((self._name(token), value) for token, value in place.top))

    def _name(self, token: int) -> str:
        if token not in self._names:
            self._names[token] = "" if token in self.stop_ids else self.tokenizer.decode([token], clean_up_tokenization_spaces=False)
        return self._names[token]

    def _too_long(self, asked: int) -> Completion:
        reason = f"the prompt has {asked:,} tokens, the context {self._context:,}: shorten the row"
        return Completion(text="", finish_reason="error", usage=Usage(asked, 0), model=self.name, error=reason)


def _out_of_memory(name: str, error: Any) -> ModelError:
    line = str(error).splitlines()[0]
    return ModelError(f"{name}: memory ran out over a single prompt ({line}); choose a smaller model, or shorten the longest rows")
