"""What the student is pulled to, and how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from potstill.spec.sections.base import Auto, Precision, Section

BESIDE_ANSWERS = ("logprobs", "votes")
"""Kinds of targets that stand beside the answers, and need no teacher in memory."""


class TargetWeightsSpec(Section):
    """How much each kind of target counts in the loss."""

    teacher: float = Field(default=1.0, gt=0.0)
    """The teacher's probabilities, with an objective that learns from them."""
    text: float = Field(default=0.0, ge=0.0)
    """The tokens that stand in the text, beside the teacher's probabilities."""
    reference: float = Field(default=0.0, ge=0.0)
    """Rows with your own `reference` are learnt once more, as text, beside the teacher's answers: what a token of them counts. With
    `step_by_step`, your own rationales too."""


class TargetsSpec(Section):
    """What the student is pulled to."""

    kind: Literal["auto", "live", "top_k", "sampled", "logprobs", "votes"] = "auto"
    """Where the teacher's distribution at a position comes from. `live`: from a teacher that runs beside the student. `top_k`, `sampled`:
    it runs once over the rows, and what it says is kept on disk (docs/targets.md). `logprobs`: from what an endpoint says of the likeliest
    tokens beside its answers. `votes`: from how several answers to one question fell (`generation.samples`), or a
    judge scored labels (`generation.choose`); both make the objective `logits` without a local teacher (docs/alignment.md). `auto`:
    `top_k` where `training.epochs` is above 1, else `live`."""
    k: int = Field(default=32, ge=1)
    """So many of a position's likeliest tokens keep their own probability, all others are one sum (32: a student came within 1 % of one
    that learnt from whole distributions, on the rows learnt; benchmarks/RESULTS.md). Of an endpoint at most 20 are asked for, which is what
    OpenAI's and vLLM's allow."""
    samples: int = Field(default=25, ge=1, le=255)
    """Of `sampled`: draws a position from the teacher's distribution, an unbiased estimate of it. 25 name about 12 different tokens
    (measured), which do about as well as whole distributions (Anshumann et al. 2025, arXiv 2503.16870)."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of `top_k`: number format of the log-probabilities on disk. `float16` has three digits, and halves their size."""
    cache: Path | None = None
    """Of `top_k` and `sampled`: a folder that several runs may share; by default `training/targets` of the run."""
    align: bool = False
    """Learn from a local teacher with another tokenizer: its distributions are carried over by the bytes that its tokens write. Not exact
    (docs/alignment.md says where); without it such a teacher teaches by its text alone."""
    teachers: Literal["row", "mixture"] = "row"
    """Of several local `teachers`: `row` takes the distribution of the teacher that answered the row, `mixture` that of all of them by
    their `weight`. They are in memory together."""
    positions: Literal["answer", "all"] = "answer"
    """`answer`: tokens of the answer alone. `all`: prompt tokens too (needs the teacher's probabilities), so that a carved student heals
    on fewer rows."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of both distributions in the loss (1: as they are). The loss is not multiplied by its square."""
    teacher_temperature: float | None = Field(default=None, gt=0.0)
    """Temperature of the teacher's distribution alone, where it is to differ from the student's."""
    weights: TargetWeightsSpec = TargetWeightsSpec()
    """How much each kind of target counts."""

    def misfits(self, training: TrainingSpec) -> Iterator[str]:
        """What speaks against these targets in such a training."""
        if self.kind not in ("auto", *BESIDE_ANSWERS) and training.objective == "sft":
            yield f"`targets.kind: {self.kind}` needs the teacher's probabilities: set `training.objective: logits`, or `kind: auto`"
        if self.kind not in ("auto", "live", *BESIDE_ANSWERS) and self.align:
            yield f"`targets.kind: {self.kind}` keeps nothing of a teacher with another tokenizer: take `live`, or `auto`"
        if self.kind not in ("auto", "live") and training.objective in ("features", "on_policy"):
            yield f"`targets.kind: {self.kind}`: `training.objective: {training.objective}` needs a teacher at hand; take `live`, or `auto`"
        if self.kind == "sampled" and training.divergence not in ("auto", "forward_kl"):
            yield (
                "`targets.kind: sampled` is right on average for `training.divergence: forward_kl` alone, not for "
                f"{training.divergence}: take forward_kl, or `kind: top_k`"
            )


class LoraSpec(Section):
    """Low-rank adapters (Hu et al. 2022, arXiv 2106.09685): trained in place of the student's own weights, and merged into them."""

    rank: int = Field(default=16, ge=1)
    """Rank of each adapter."""
    alpha: int = Field(default=32, ge=1)
    """An adapter counts alpha / rank (twice the rank: a usual choice, which the learning rate is made for)."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of an adapter's inputs that is left out at random."""
    modules: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["all"] = "all"
    """Names of the layers that get one; `all` linear layers but the head (Dettmers et al. 2023, arXiv 2305.14314, §4)."""


class FeaturesSpec(Section):
    """What is matched inside the two models, with `training.objective: features`. Each kind counts by its weight, as a mean over the
    matched layers; docs/methods.md has the formulas."""

    added_to: Literal["logits", "sft"] = "logits"
    """Which objective it is added to."""
    hidden: Literal["cosine", "mse", "none"] = "cosine"
    """Hidden states, by direction (`cosine`: DistilBERT, Sanh et al. 2019, arXiv 1910.01108) or by distance (`mse`: TinyBERT, Jiao et al.
    2020, arXiv 1909.10351). The distance is in the units of the states, which in large language models are thousands in a few
    dimensions: `cosine` needs no tuning of its weight."""
    hidden_weight: float = Field(default=1.0, gt=0.0)
    """How much `hidden` counts (1: Sanh et al. 2019)."""
    project: Literal["auto", "always"] = "auto"
    """Whether a linear map that is learnt on the side, and left behind with training, leads from the student's states to the teacher's
    (Jiao et al. 2020). `auto`: where their widths differ."""
    attention: Literal["none", "kl", "mse"] = "none"
    """Attention maps, by KL (MobileBERT, Sun et al. 2020, arXiv 2004.02984) or squared difference (Jiao et al. 2020). Both models then
    compute attention the slow way, which is the one that shows it."""
    attention_weight: float = Field(default=1.0, gt=0.0)
    """How much `attention` counts (1: Jiao et al. 2020)."""
    attention_heads: Literal["each", "mean"] = "each"
    """`each` head is held against its own (both models have as many), or their `mean`."""
    relations: tuple[Literal["query", "key", "value"], ...] = ()
    """Relations of queries, keys or values between positions (MiniLMv2, Wang et al. 2021, arXiv 2012.15828, takes all three, of one layer):
    heads and widths of the two models may differ."""
    relations_weight: float = Field(default=1.0, gt=0.0)
    """How much each of the `relations` counts (1: Wang et al. 2021)."""
    relation_heads: Annotated[int, Field(ge=1)] | Auto = "auto"
    """In how many heads relations are cut, in both models. `auto`: as many as the teacher has attention heads, or the most below that
    which all widths can be cut in."""
    layers: dict[int, int] | Auto = "auto"
    """Which layer of the student learns from which of the teacher, counted from 0: `{"0": 3, "5": 11}`. `auto`: of a carved student the
    ones that it was cut from, else evenly spaced ones, the last with the last."""
    positions: Literal["trained", "all"] = "trained"
    """Where: at the positions that the objective trains, or at every position. A row counts by its trained positions either way."""

    @model_validator(mode="after")
    def _something_is_matched(self) -> FeaturesSpec:
        if self.hidden == "none" and self.attention == "none" and not self.relations:
            raise ValueError("nothing is matched: set `hidden`, `attention` or `relations`, or take another `training.objective`")
        if self.layers != "auto" and (not self.layers or min(*self.layers.keys(), *self.layers.values()) < 0):
            raise ValueError("`layers` maps at least one layer of the student to one of the teacher, counted from 0")
        if len(set(self.relations)) < len(self.relations):
            raise ValueError("`relations` names each of query, key, value once; `relations_weight` says how much they count")
        return self


class OnPolicySpec(Section):
    """What the student writes itself while it is trained, with `training.objective: on_policy`.

    A row's last trained turn is what is written anew, after the row's own history: in a conversation the earlier answers are the teacher's.
    """

    share: float = Field(default=0.5, ge=0.0, le=1.0)
    """Of the rows that are learnt from, how many the student wrote; 1: all (λ of Agarwal et al. 2024, arXiv 2306.13649, whose mixture has
    0.5; given text heals a student that cannot write yet)."""
    refresh: int = Field(default=8, ge=1)
    """The student writes every so many steps, for all of them at once: in large batches, with weights that few updates separate from those
    that learn. 1: before each step, as Agarwal et al. do."""
    reuse: float = Field(default=1.0, ge=1.0)
    """How often each rollout is learnt from, on average: more is written less often (Ko et al. 2024, arXiv 2402.03898, §3.2)."""
    buffer: int = Field(default=1000, ge=1)
    """At most so many rollouts are kept, the newest (1000: the code of Ko et al. 2024)."""
    staleness: int | None = Field(default=None, ge=0)
    """Rollouts that were written more steps ago are not learnt from; by default those of the last writing alone are."""
    temperature: float = Field(default=1.0, gt=0.0)
    """The student is sampled at this temperature (1: Agarwal et al. 2024)."""
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    """The student is sampled from the likeliest tokens that have this probability together (1: from all, as the divergence is over all)."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """Most tokens of a rollout; by default those of the task. A row never becomes longer than `training.max_length`."""

    @model_validator(mode="after")
    def _something_is_fresh(self) -> OnPolicySpec:
        if self.oldest < self.refresh - 1:
            raise ValueError(
                f"`staleness` of {self.staleness} leaves nothing to learn from before the student writes again, every {self.refresh} steps "
                f"(`refresh`): set it to {self.refresh - 1} or more, or remove it"
            )
        return self

    @property
    def oldest(self) -> int:
        """How many steps ago a rollout may have been written at most."""
        return self.refresh - 1 if self.staleness is None else self.staleness


class TrainingSpec(Section):
    """How the student is trained."""

    objective: Literal["auto", "sft", "logits", "features", "on_policy", "step_by_step"] = "auto"
    """`sft`: the teacher's text. `logits`: its probabilities. `auto`: `logits` where the teacher is local and shares the student's
    tokenizer, else `sft`. `features`: one of the two, and beside it what goes on inside the teacher (`features`). `on_policy`: its
    probabilities, also of text that the student writes (`on_policy`). `step_by_step`: the answer and the reasons for it as two tasks
    (Hsieh et al. 2023, arXiv 2305.02301), each learnt as `auto` learns."""
    rationale_weight: float = Field(default=1.0, gt=0.0)
    """Of `step_by_step`: the λ of answer + λ · rationale, each of them a mean over its own tokens."""
    divergence: Literal[
        "auto", "forward_kl", "reverse_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl", "total_variation"
    ] = "auto"
    """How the student's distribution is held against the teacher's; docs/methods.md has the formulas. `auto`: `jensen_shannon` with
    `on_policy` (Agarwal et al. 2024, arXiv 2306.13649; it is bounded, so that no text which the teacher finds impossible drowns the
    others), else `forward_kl`."""
    divergence_weight: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Of `jensen_shannon`: the teacher's share of the mixture (0.5: symmetric; Agarwal et al. 2024, arXiv 2306.13649)."""
    skew: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Of the skewed divergences: how much of one side is mixed into the other (0.1: Ko et al. 2024, arXiv 2402.03898)."""
    lora: LoraSpec | None = None
    """Train adapters instead of all weights: for students that are too large to be trained whole."""
    features: FeaturesSpec = FeaturesSpec()
    """Of `features`: what is matched, and where."""
    compare_with_sft: bool = False
    """Train a second student on the same rows by plain `sft`, in as many steps of the same settings, and report how much better or worse
    the first is on the test rows: what distillation gave."""
    on_policy: OnPolicySpec = OnPolicySpec()
    """What the student writes itself, and how it is learnt from."""
    precision: Auto | Precision = "auto"
    """Number format of matrix products; weights, their moments, losses and gradients' sums stay in float32. `auto`: bfloat16 where this
    machine multiplies it clearly faster (measured when training begins, kept when it goes on), else float32."""
    learning_rate: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    """Peak rate; `auto` follows `training.settings.auto_learning_rate`."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Rows a step; `auto` follows `training.settings.auto_batch_size`."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows that are padded together, and at most in memory at once; by default the whole batch. (On a CPU they go through in parts.)"""
    epochs: float = Field(default=3.0, gt=0.0)
    """Passes over the accepted rows."""
    warmup_ratio: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the steps in which the rate rises; it falls linearly after."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's decay; 0 for short fine-tunings, where it hardly acts."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=1024, ge=8)
    """Longest row in tokens, prompt and answer."""
    too_long: Literal["drop", "cut_left", "refuse"] = "drop"
    """Longer rows are left out and counted (`drop`), lose the beginning of what stands between system turn and answer (`cut_left`), or stop
    the run (`refuse`)."""
    evaluations: int = Field(default=4, ge=1)
    """How often in the run the validation metric is taken; the best checkpoint wins, of equal ones the last."""
    validation_rows: int = Field(default=64, ge=1)
    """At most so many validation rows choose the checkpoint."""
    patience: int = Field(default=2, ge=1)
    """Stop after so many evaluations in a row without a better metric. With 2 of 4, only a student that is past its best after the
    first quarter is stopped: while the rate still falls, a metric that stands still often rises again."""
    save_minutes: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    """A checkpoint for resuming is written so often. `auto`: every 2 minutes, or less often where that took more than 5 % of the time."""

    @property
    def rollouts_a_row(self) -> float:
        """How many rows the student writes for each that it learns from, on average."""
        return self.on_policy.share / self.on_policy.reuse if self.objective == "on_policy" else 0.0
