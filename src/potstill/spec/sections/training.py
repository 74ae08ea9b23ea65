"""What the student is pulled to, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from potstill.spec.sections.base import Auto, Section


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

    positions: Literal["answer", "all"] = "answer"
    """`answer`: tokens of the answer alone. `all`: prompt tokens too (needs the teacher's probabilities), so that a carved student heals
    on fewer rows."""
    temperature: float = Field(default=1.0, gt=0.0)
    """Temperature of both distributions in the loss (1: as they are). The loss is not multiplied by its square."""
    teacher_temperature: float | None = Field(default=None, gt=0.0)
    """Temperature of the teacher's distribution alone, where it is to differ from the student's."""
    weights: TargetWeightsSpec = TargetWeightsSpec()
    """How much each kind of target counts."""


class TrainingSpec(Section):
    """How the student is trained."""

    objective: Literal["auto", "sft", "logits", "step_by_step"] = "auto"
    """`sft`: the teacher's text. `logits`: its probabilities (forward KL). `auto`: `logits` where the teacher is local and shares the
    student's tokenizer, else `sft`. `step_by_step`: the answer and the reasons for it as two tasks (Hsieh et al. 2023, arXiv 2305.02301),
    each learnt as `auto` learns."""
    rationale_weight: float = Field(default=1.0, gt=0.0)
    """Of `step_by_step`: the λ of answer + λ · rationale, each of them a mean over its own tokens."""
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl", "total_variation"] = (
        "forward_kl"
    )
    """How the student's distribution is held against the teacher's; docs/methods.md has the formulas."""
    divergence_weight: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Of `jensen_shannon`: the teacher's share of the mixture (0.5: symmetric; Agarwal et al. 2024, arXiv 2306.13649)."""
    skew: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Of the skewed divergences: how much of one side is mixed into the other (0.1: Ko et al. 2024, arXiv 2402.03898)."""
    compare_with_sft: bool = False
    """Train a second student on the same rows by plain `sft`, in as many steps of the same settings, and report how much better or worse
    the first is on the test rows: what distillation gave."""
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
    save_minutes: float = Field(default=2.0, gt=0.0)
    """A checkpoint for resuming is written at least so often."""
