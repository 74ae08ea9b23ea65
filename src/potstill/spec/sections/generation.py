"""How the teachers are asked, and which of their answers are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from potstill.spec.sections.base import Section
from potstill.spec.sections.models import TeacherSpec


class BudgetSpec(Section):
    """The most that a run may spend on its teachers, restarts and evaluation included. No cap is ever passed."""

    dollars: float | None = Field(default=None, gt=0.0)
    """Needs a known price of every teacher."""
    tokens: int | None = Field(default=None, ge=1)
    """Read and written."""
    calls: int | None = Field(default=None, ge=1)
    """Each try counts."""
    minutes: float | None = Field(default=None, gt=0.0)
    """Of asking."""
    when_reached: Literal["stop", "go_on"] = "stop"
    """`go_on`: train on what was answered until then."""


class PilotSpec(Section):
    """The first rows are asked before the rest is bought, where there are at least four times as many rows to buy."""

    rows: int = Field(default=16, ge=0)
    """How many; 0 for no pilot."""
    pass_rate: float = Field(default=0.5, ge=0.0, le=1.0)
    """The run stops where a smaller share of them passes the gates."""


class PromptingSpec(Section):
    """What the teacher is told besides the row's own messages. The student never sees it."""

    strategy: Literal["direct", "chain_of_thought", "chain_of_density"] = "direct"
    """`chain_of_thought` (Wei et al. 2022, arXiv 2201.11903): reasons, then the answer. `chain_of_density` (Adams et al. 2023,
    arXiv 2309.04269), for summaries: rounds that each fit in more."""
    instruction: str | None = None
    """Takes the place of the strategy's own words; they are added to the row's system prompt, never put in its place."""
    examples: int = Field(default=0, ge=0, le=64)
    """So many training rows with references stand before each question as worked examples; for `chain_of_thought`, rows with a
    `rationale`."""
    version: str = Field(default="", max_length=100)
    """A name for the wording; where it changes, every question is a new one."""
    rounds: int = Field(default=3, ge=2, le=10)
    """Rounds of `chain_of_density`."""
    reasoning_tokens: int = Field(default=256, ge=1)
    """Room for the reasons of `chain_of_thought`, besides the answer's own."""
    learn: Literal["answer", "rationale_then_answer", "both"] = "answer"
    """What the student writes: the answer alone, the reasons before it, or, as two tasks, both (step-by-step distillation, Hsieh et
    al. 2023, arXiv 2305.02301)."""


class ExpandSpec(Section):
    """The teacher writes new prompts from training rows, where these are few."""

    rows: int = Field(ge=1)
    """How many new rows, at most."""
    how: Literal["paraphrase", "rare", "harder"] = "paraphrase"
    """`paraphrase` says the same in other words, `rare` writes rows of the labels or tags that have fewest, `harder` makes them harder."""
    by: Literal["label", "tag"] = "label"
    """What `rare` counts."""
    temperature: float = Field(default=0.8, ge=0.0, le=2.0)
    """Sampling temperature of the new prompts."""
    instruction: str | None = None
    """Takes the place of Potstill's own words."""


class QualifySpec(Section):
    """A teacher is examined on validation rows before it teaches."""

    rows: int = Field(default=64, ge=1)
    """At most so many."""
    min_score: float | None = Field(default=None, ge=0.0)
    """The run stops where its score on rows with references is lower, in the metric's own unit."""
    min_agreement: float | None = Field(default=None, ge=0.0, le=1.0)
    """The run stops where it agrees with itself, asked again, less often; for rows without references."""


class BalanceSpec(Section):
    """How the accepted rows are evened out."""

    by: Literal["label", "tag", "length", "language"]
    """What is counted."""
    to: int | Literal["fewest", "median"] = "median"
    """Rows wanted of each kind."""
    how: Literal["sample", "ask"] = "sample"
    """`sample` leaves out rows of kinds that have more; `ask` has the teacher write more of those that have fewer, too."""


class GenerationSpec(Section):
    """How the teacher is asked."""

    concurrency: int = Field(default=64, ge=1, le=4096)
    """Calls in flight at once for an endpoint, at most; how many really are follows what helps."""
    batch_size: int = Field(default=32, ge=1)
    """Prompts answered together, for local models; halved where memory runs out."""
    mode: Literal["live", "batch"] = "live"
    """`batch`: by the provider's batch endpoint (half the price at most providers, within a day)."""
    ledger: Path | None = None
    """A ledger that several runs share, so that none pays for what another was answered; by default the run's own."""
    budget: BudgetSpec = BudgetSpec()
    """Caps."""
    max_failed: float = Field(default=0.05, ge=0.0, le=1.0)
    """The stage stops where a larger share of the rows failed at the endpoint, and no other sample or teacher stood in; the same command
    asks those again."""
    pilot: PilotSpec = PilotSpec()
    """The first rows, asked before the rest is bought."""
    prompting: PromptingSpec = PromptingSpec()
    """What the teacher is told besides."""
    samples: int = Field(default=1, ge=1, le=64)
    """Answers to each question; more than one needs a `temperature` above 0."""
    choose: Literal["auto", "first", "verifier", "vote", "judge", "label_scores", "all"] = "auto"
    """Which of several answers is learnt: the first that the gates keep, the first that the task proves right, the one that most
    agree on (self-consistency, Wang et al. 2022, arXiv 2203.11171; the shares of the votes are kept), the judge's best, or all that are
    kept. `label_scores` has the judge say how likely each label is (nli, qa by choice), takes the answer that it finds likeliest, and keeps
    the shares; it does so with one answer, too. `auto`: `vote` where answers can be counted (nli, math, qa by choice), else `first`."""
    turns: Literal["all", "last"] = "all"
    """Of a conversation, the assistant turns that the teacher answers anew: all, or the last alone, after the row's own history."""
    route: Literal["weight", "tag", "cascade", "vote"] = "weight"
    """Which of several `teachers` is asked: one by `weight`; the one that has one of the row's tags; the first, and the next where the
    gates drop its answer; or all, and the answer that most agree on is kept."""
    judge: TeacherSpec | None = None
    """Who compares answers; by default the last teacher that is not the one that answered."""
    scorer: TeacherSpec | None = None
    """An endpoint that says how likely it finds each accepted answer, whoever wrote it, with `targets.kind: logprobs`: one call an answer.
    It must give `prompt_logprobs`, as vLLM does."""
    qualify: QualifySpec | None = None
    """Examine the teacher before it teaches."""
    expand: ExpandSpec | None = None
    """Have the teacher write new prompts."""
    balance: BalanceSpec | None = None
    """Even out the accepted rows."""

    @property
    def chosen_by_judge(self) -> bool:
        """Whether a judge is asked which answer is learnt."""
        return self.choose in ("judge", "label_scores")


class PersonalDataSpec(Section):
    """What happens to personal data in answers."""

    action: Literal["mask", "drop"] = "mask"
    """`mask` writes `[EMAIL]` and the like in its place, `drop` drops the row."""
    kinds: tuple[Literal["email", "phone", "card", "iban", "ip"], ...] = Field(
        default=("email", "phone", "card", "iban", "ip"), min_length=1
    )
    """What is looked for."""


class GatesSpec(Section):
    """Which answers are kept. On by default are those that evidence supports."""

    format: bool = True
    """Drop answers that the task cannot parse: no label, no number, nothing at all. How leniently one was read is recorded."""
    refusal: bool = True
    """Drop answers that decline to answer."""
    truncation: bool = True
    """Drop answers that ran into the token limit, or end inside a bracket, a quote or a code block."""
    verifier: bool = True
    """Drop answers that the task can prove wrong: math against a gold value, a span that is not in the passage."""
    contamination: bool = True
    """Drop training rows that repeat or paraphrase validation or test rows; not where `data.test_duplicates` is `allow`."""
    min_characters: int | None = Field(default=None, ge=1)
    """Drop shorter answers."""
    max_characters: int | None = Field(default=None, ge=1)
    """Drop longer answers."""
    language: str | None = None
    """Drop answers in another language than this (`en`), or, with `same`, than the prompt's."""
    duplicates: bool = False
    """Drop rows whose answer and prompt nearly equal an earlier row's."""
    gold: bool = False
    """Drop answers that disagree with the row's reference."""
    min_agreement: float | None = Field(default=None, gt=0.0, le=1.0)
    """Drop rows where the chosen answer has a smaller share of the votes among several samples."""
    judge: float | None = Field(default=None, ge=0.0, le=1.0)
    """Drop answers to which the judge (`generation.judge`) gives a lower mark, of 0 to 1; what it says without a mark drops nothing."""
    personal_data: PersonalDataSpec | None = None
    """Mask or drop e-mail addresses, telephone and card numbers, IBANs, IP addresses."""
    custom: tuple[str, ...] = ()
    """Your own gates: `module:function`, called with the row, the answer's text and its parsed answer; returns None to keep it, or why it
    is dropped."""
