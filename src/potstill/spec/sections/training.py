"""What the student is pulled to, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from potstill.spec.sections.base import Auto, Section


class TargetWeightsSpec(Section):
    """How much each kind of target counts in the loss."""

    teacher: float = Field(default=1.0, gt=0.0)
    """The teacher's probabilities, with an objective that learns from them."""
    text: float = Field(default=0.0, ge=0.0)
    """The tokens that stand in the text, beside the teacher's probabilities."""


class TargetsSpec(Section):
    """What the student is pulled to."""

    positions: Literal["answer", "all"] = "answer"
    """`answer`: tokens of the answer alone. `all`: prompt tokens too (needs the teacher's probabilities), so that a carved student heals
    on fewer rows."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of both distributions in the loss (1: as they are). The loss is not multiplied by its square."""
    teacher_temperature: float | None = Field(default=None, gt=0.0)
    """Temperature of the teacher's distribution alone, where it is to differ from the student's."""
    weights: TargetWeightsSpec = TargetWeightsSpec()
    """How much each kind of target counts."""


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

    objective: Literal["auto", "sft", "logits", "on_policy"] = "auto"
    """`sft`: the teacher's text. `logits`: its probabilities. `on_policy`: its probabilities, also of text that the student writes
    (`training.on_policy`). `auto`: `logits` where the teacher is local and shares the student's tokenizer, else `sft`."""
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
    on_policy: OnPolicySpec = OnPolicySpec()
    """What the student writes itself, and how it is learnt from."""
    learning_rate: Annotated[float, Field(gt=0.0)] | Auto = "auto"
    """Peak rate; `auto` follows `training.settings.auto_learning_rate`."""
    batch_size: Annotated[int, Field(ge=1)] | Auto = "auto"
    """Rows a step; `auto` follows `training.settings.auto_batch_size`."""
    micro_batch_size: int | None = Field(default=None, ge=1)
    """Rows in memory at once; by default the whole batch."""
    epochs: float = Field(default=3.0, gt=0.0)
    """Passes over the accepted rows."""
    warmup_ratio: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of the steps in which the rate rises; it falls linearly after."""
    weight_decay: float = Field(default=0.0, ge=0.0)
    """AdamW's decay; 0 for short fine-tunings, where it hardly acts."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are clipped to this norm."""
    max_length: int = Field(default=1024, ge=8)
    """Longest row in tokens, prompt and answer; longer rows are left out and counted."""
    evaluations: int = Field(default=4, ge=1)
    """How often in the run the validation metric is taken; the best checkpoint wins, of equal ones the last."""
    validation_rows: int = Field(default=64, ge=1)
    """At most so many validation rows choose the checkpoint."""
    patience: int = Field(default=2, ge=1)
    """Stop after so many evaluations in a row without a better metric. With 2 of 4, only a student that is past its best after the
    first quarter is stopped: while the rate still falls, a metric that stands still often rises again."""
    save_minutes: float = Field(default=2.0, gt=0.0)
    """A checkpoint for resuming is written at least so often."""

    @property
    def rollouts_a_row(self) -> float:
        """How many rows the student writes for each that it learns from, on average."""
        return self.on_policy.share / self.on_policy.reuse if self.objective == "on_policy" else 0.0
