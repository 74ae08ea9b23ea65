"""How the student is compared."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from potstill.spec.sections.base import Auto, Section
from potstill.spec.sections.models import TeacherSpec

_FILE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_BASELINES = {"tfidf": "TF-IDF + logistic regression", "lead": "lead sentence"}
_TAKEN = ("teacher", "baseline", "student", "sft", "judge")


def _or_a_name(schema: dict[str, Any]) -> None:
    """Editors complete the short forms, too: a name stands for the section."""
    schema["items"] = {"anyOf": [{"type": "string"}, schema["items"]]}


class OtherSpec(Section):
    """One more system to compare with: a model, another run's student, or a simple line.

    In a spec: `tfidf`, `lead`, a model's name, `{run: runs/other}`, or the keys of a teacher (`{model: ..., base_url: ...}`).
    """

    name: str | None = Field(default=None, pattern=_FILE_NAME)
    """What files and reports call it: letters, digits, `.`, `_`, `-`."""
    run: Path | None = None
    """The folder of another run, whose student is asked."""
    baseline: Literal["tfidf", "lead"] | None = None
    """`tfidf`: logistic regression on TF-IDF of words and word pairs, learnt from the rows that the student learnt from (label sets; needs
    `potstill[baselines]`). `lead`: the first sentence of the text (summaries)."""
    model: TeacherSpec | None = None
    """A local model, or one behind an endpoint; its answers are kept in the ledger and count against the budget."""

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, raw: object) -> object:
        if isinstance(raw, str):
            return {"baseline": raw} if raw in _BASELINES else {"model": {"model": raw}}
        if not isinstance(raw, dict) or not (isinstance(raw.get("model"), str) or "replay" in raw):
            return raw
        own = {key: raw[key] for key in ("name", "run", "baseline") if key in raw}
        return {**own, "model": {key: value for key, value in raw.items() if key not in own}}

    @model_validator(mode="after")
    def _is_one_thing(self) -> OtherSpec:
        if sum(one is not None for one in (self.run, self.baseline, self.model)) != 1:
            raise ValueError(
                "name one thing to compare with: `tfidf`, `lead`, a model's name, `{run: FOLDER}` or `{model: ..., base_url: ...}`"
            )
        if self.model is not None and self.model.adapt is not None:
            raise ValueError("`adapt` is for the teacher; what is compared with is asked as it is")
        return self

    @property
    def key(self) -> str:
        """Its name in files: the given one, else one made of what it is."""
        if self.name is not None:
            return self.name
        if self.baseline is not None:
            return self.baseline
        named = self.run.name if self.run is not None else self.model.title.rstrip("/").rpartition("/")[2] if self.model is not None else ""
        return re.sub(r"[^A-Za-z0-9._-]+", "-", named).strip(".-_")[:64] or "other"

    @property
    def title(self) -> str:
        """What a reader sees."""
        if self.name is not None:
            return self.name
        if self.baseline is not None:
            return _BASELINES[self.baseline]
        return f"student of {self.run.name}" if self.run is not None else self.key


class JudgeSpec(Section):
    """A model that says which of two answers is better, the student's or the teacher's.

    In a spec: the keys of a model (`{model: ..., base_url: ...}`) beside these.
    """

    model: TeacherSpec
    """Who judges; another than those who are judged."""
    rubric: str | None = Field(default=None, min_length=1)
    """What to judge by, in your words; by default whether an answer is right, complete and to the point."""
    rows: int = Field(default=100, ge=1)
    """So many test questions, evenly spaced; each is asked in both orders, so twice."""
    human: Path | None = None
    """A JSONL file of people's preferences for some of these questions, which the judge is held against: `{"id": ..., "preferred":
    "student"}`, or `teacher`, or `tie`; `student` and `teacher` in a line are the answers that were seen."""
    may_judge_itself: bool = False
    """Let a model judge answers of its own. Off, because models favour them (Panickssery et al. 2024, arXiv 2404.13076)."""

    @model_validator(mode="before")
    @classmethod
    def _keys_of_the_model_beside(cls, raw: object) -> object:
        if isinstance(raw, str):
            return {"model": {"model": raw}}
        if not isinstance(raw, dict) or not (isinstance(raw.get("model"), str) or "replay" in raw):
            return raw
        own = {key: raw[key] for key in ("rubric", "rows", "human", "may_judge_itself") if key in raw}
        return {**own, "model": {key: value for key, value in raw.items() if key not in own}}


class LmEvalSpec(Section):
    """Tasks of lm-eval; a list of their names stands for the section."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Their names there, as in `lm-eval ls tasks`."""
    folder: Path | None = None
    """Your own tasks: a folder of lm-eval's YAML files."""
    rows: int | None = Field(default=None, ge=1)
    """At most so many rows of each task."""
    examples: int | None = Field(default=None, ge=0)
    """Worked examples before each question; by default the task's own number."""
    chat: bool = False
    """Ask by the models' chat templates; by default lm-eval's plain prompts."""

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, raw: object) -> object:
        return {"tasks": raw} if isinstance(raw, list | tuple) else raw


class EvaluationSpec(Section):
    """How teacher, baseline and student are compared."""

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | Auto = "auto"
    """Names of metrics; `auto`: those of the task type."""
    systems: tuple[Literal["teacher", "baseline", "student"], ...] = Field(default=("teacher", "baseline", "student"), min_length=1)
    """Who is measured."""
    compare: tuple[OtherSpec, ...] = Field(default=(), json_schema_extra=_or_a_name)
    """Who else is asked the same questions: `[gpt-4.1-mini, {run: runs/other}, tfidf, lead, {model: ..., base_url: ...}]`."""
    judge: JudgeSpec | None = None
    """Have a model compare the student's answers with the teacher's, where metrics tell little: `{model: ..., rubric: ..., rows: 100}`."""
    lm_eval: LmEvalSpec | None = None
    """Tasks of lm-eval for teacher, baseline and student, as far as their weights are here: what the student forgot. Needs
    `potstill[lm-eval]`."""
    teacher_prompting: Literal["as_taught", "plain"] = "as_taught"
    """How the teacher is asked the test questions: with the instruction, the worked examples and the room for reasons of
    `generation.prompting`, as when it taught, or `plain`, as the student is asked. Greedy and once either way."""
    probabilities: bool | Auto = "auto"
    """Keep how probable each label was to a local model, beside its answer: what calibration is taken from. `auto`: for label sets. They
    come from the very products that wrote the answer."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1.0)
    """Level of the intervals."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples (10,000: Efron & Tibshirani 1993, §13)."""
    latency_rows: int = Field(default=12, ge=1)
    """Test rows answered one by one to measure latency."""
    concurrency: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = (1, 2, 4, 8, 16)
    """Requests in flight where throughput is measured, each a level; `[]` leaves it out. A local model ends a level with the batch in which
    three seconds have passed. An endpoint has the levels up to `generation.concurrency` that fit into its rates of one minute, and into the
    budget."""
    throughput_rows: int = Field(default=16, ge=1)
    """Requests of each of those levels, and as many more as make whole batches; of an endpoint that is what a level costs. One request in
    flight is what `latency_rows` measure already."""

    @model_validator(mode="after")
    def _judges_those_who_answer(self) -> EvaluationSpec:
        if self.judge is not None and not {"student", "teacher"} <= set(self.systems):
            raise ValueError("`judge` compares the student with the teacher, and `systems` lacks one of them: add it, or remove `judge`")
        return self

    @model_validator(mode="after")
    def _names_differ(self) -> EvaluationSpec:
        keys = [other.key for other in self.compare]
        for key in keys:
            if key in _TAKEN:
                raise ValueError(
                    f"`compare`: {key!r} is the name of a system that every run has; give what you compare with another `name`"
                )
            if keys.count(key) > 1:
                raise ValueError(f"`compare`: two of them would be called {key!r}: give each a `name`")
        return self
