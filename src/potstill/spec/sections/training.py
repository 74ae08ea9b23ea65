"""What the student is pulled to, and how."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

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
    kind: Literal["auto", "live", "top_k", "sampled"] = "auto"
    """Where the teacher's probabilities come from. `live`: the teacher runs beside the student. `top_k`, `sampled`: it runs once over the
    rows, and what it says is kept on disk (docs/targets.md). `auto`: `top_k` where `training.epochs` is above 1, else `live`."""
    k: int = Field(default=32, ge=1)
    """Of `top_k`: how many tokens a position keep their own probability; the rest is kept as one sum (32: a student came within 1 %
    of one that learnt from whole distributions, on the rows learnt; benchmarks/RESULTS.md)."""
    samples: int = Field(default=25, ge=1, le=255)
    """Of `sampled`: draws a position from the teacher's distribution, an unbiased estimate of it. 25 name about 12 different tokens
    (measured), which do about as well as whole distributions (Anshumann et al. 2025, arXiv 2503.16870)."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of `top_k`: number format of the log-probabilities on disk. `float16` has three digits, and halves their size."""
    cache: Path | None = None
    """A folder for cached probabilities that several runs may share; by default `training/targets` of the run."""

    def misfits(self, training: TrainingSpec) -> Iterator[str]:
        """What speaks against these targets in such a training."""
        if self.kind != "auto" and training.objective == "sft":
            yield f"`targets.kind: {self.kind}` needs the teacher's probabilities: set `training.objective: logits`, or `kind: auto`"
        if self.kind == "sampled" and training.divergence != "forward_kl":
            yield (
                "`targets.kind: sampled` is right on average for `training.divergence: forward_kl` alone, not for "
                f"{training.divergence}: take forward_kl, or `kind: top_k`"
            )


class TrainingSpec(Section):
    """How the student is trained."""

    objective: Literal["auto", "sft", "logits"] = "auto"
    """`sft`: the teacher's text. `logits`: its probabilities (forward KL). `auto`: `logits` where the teacher is local and shares the
    student's tokenizer, else `sft`."""
    divergence: Literal["forward_kl", "reverse_kl", "jensen_shannon", "skewed_forward_kl", "skewed_reverse_kl", "total_variation"] = (
        "forward_kl"
    )
    """How the student's distribution is held against the teacher's; docs/methods.md has the formulas."""
    divergence_weight: float = Field(default=0.5, gt=0.0, lt=1.0)
    """Of `jensen_shannon`: the teacher's share of the mixture (0.5: symmetric; Agarwal et al. 2024, arXiv 2306.13649)."""
    skew: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Of the skewed divergences: how much of one side is mixed into the other (0.1: Ko et al. 2024, arXiv 2402.03898)."""
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
