"""A whole spec."""

from __future__ import annotations

from pydantic import ConfigDict, Field, model_validator

from potstill.spec.sections.base import Section
from potstill.spec.sections.costs import CostsSpec
from potstill.spec.sections.data import DataSpec, TaskSpec
from potstill.spec.sections.engine import EngineSpec, or_one_word
from potstill.spec.sections.evaluation import EvaluationSpec
from potstill.spec.sections.generation import GatesSpec, GenerationSpec
from potstill.spec.sections.goals import GoalsSpec
from potstill.spec.sections.models import StudentSpec, TeacherSpec
from potstill.spec.sections.training import TargetsSpec, TrainingSpec


class RunSpec(Section):
    """One run: a teacher, a task, data, a student. Paths are relative to the spec's own folder."""

    model_config = ConfigDict(hide_input_in_errors=True)  # as in TeacherSpec

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Names the run's folder: letters, digits, `.`, `_`, `-`."""
    task: TaskSpec
    data: DataSpec
    teacher: TeacherSpec
    teachers: tuple[TeacherSpec, ...] = ()
    """Several teachers, instead of `teacher`; `generation.route` says which is asked. The first is the one that is evaluated."""
    student: StudentSpec
    generation: GenerationSpec = GenerationSpec()
    gates: GatesSpec = GatesSpec()
    targets: TargetsSpec = TargetsSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    costs: CostsSpec = CostsSpec()
    goals: GoalsSpec = GoalsSpec()
    engine: EngineSpec = Field(default=EngineSpec(), json_schema_extra=or_one_word)
    """Where the teachers are asked from: `local`, or `ray`."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Splits, sampling, initial order of the rows and bootstrap all start from it."""

    @model_validator(mode="before")
    @classmethod
    def _first_of_several(cls, raw: object) -> object:
        if isinstance(raw, dict) and "teacher" not in raw and isinstance(raw.get("teachers"), list | tuple) and raw["teachers"]:
            return {**raw, "teacher": raw["teachers"][0]}
        return raw

    @model_validator(mode="before")
    @classmethod
    def _reasons_are_learnt(cls, raw: object) -> object:
        """A student that writes its reasons is read accordingly, and has as much room for them as its teacher."""
        generation = raw.get("generation") if isinstance(raw, dict) else None
        prompting = generation.get("prompting") if isinstance(generation, dict) else None
        if not isinstance(raw, dict) or not isinstance(raw.get("task"), dict) or not isinstance(prompting, dict):
            return raw
        task = {"reasons": prompting.get("learn") == "rationale_then_answer", **raw["task"]}
        if task["reasons"] is not True:
            return raw
        if task.get("reasoning_tokens") is None and "reasoning_tokens" in prompting:
            task["reasoning_tokens"] = prompting["reasoning_tokens"]
        return {**raw, "task": task}

    @property
    def all_teachers(self) -> tuple[TeacherSpec, ...]:
        """Every teacher that answers rows, the evaluated one first."""
        return self.teachers or (self.teacher,)

    @property
    def examined_as_taught(self) -> bool:
        """Whether the evaluation puts its questions to the teacher in other words than to the other systems."""
        prompting = self.generation.prompting
        told = prompting.strategy != "direct" or prompting.instruction is not None or prompting.examples > 0
        return told and self.evaluation.teacher_prompting == "as_taught"

    @model_validator(mode="after")
    def _several_are_one_and_others(self) -> RunSpec:
        if self.teachers and self.teacher != self.teachers[0]:
            raise ValueError("give `teacher` or `teachers`, not both")
        titles = [teacher.title for teacher in self.teachers]
        if len(set(titles)) < len(titles):
            raise ValueError("two of the `teachers` have one name: give each a `name`")
        return self

    @model_validator(mode="after")
    def _samples_differ(self) -> RunSpec:
        if self.generation.samples > 1 and not all(teacher.temperature for teacher in self.all_teachers):
            raise ValueError("`generation.samples` above 1 needs a teacher with a `temperature` above 0: greedy answers are all the same")
        return self

    @model_validator(mode="after")
    def _sections_fit_together(self) -> RunSpec:
        misfits = []
        others = {f"teachers[{place}]": teacher for place, teacher in enumerate(self.teachers) if place}
        for name, model in (others | {"generation.judge": self.generation.judge, "generation.scorer": self.generation.scorer}).items():
            if model is not None and model.adapt is not None:
                misfits.append(f"`{name}.adapt`: the first teacher alone can be adapted, which is the one that is evaluated")
        if self.student.model is None and self.teacher.base_url is not None:
            misfits.append("a student is carved out of a local model, but the teacher is an endpoint: name one in `student.model`")
        on_text = self.training.objective == "sft" or (self.training.objective == "features" and self.training.features.added_to == "sft")
        if self.targets.positions == "all" and on_text:
            misfits.append(
                "`targets.positions: all` needs the teacher's probabilities: set `training.objective: logits`, or `positions: answer`"
            )
        misfits += self.targets.misfits(self.training)
        strategy = self.generation.prompting.strategy
        if self.task.answer_schema is not None and strategy != "direct":
            misfits.append(
                f"`task.answer_schema` wants JSON alone, and `generation.prompting.strategy: {strategy}` has more written: take `direct`, "
                "or remove the schema"
            )
        if self.generation.scorer is not None and self.targets.kind != "logprobs":
            misfits.append(
                "`generation.scorer` says log-probabilities, which are learnt with `targets.kind: logprobs` alone: set that, or remove it"
            )
        if self.generation.choose == "label_scores" and not self.task.is_choice:
            misfits.append(
                f"`generation.choose: label_scores` has a judge score labels, and answers of {self.task.type} are no labels: it goes with "
                "nli, and with qa by choice"
            )
        if self.training.objective == "step_by_step" and self.generation.prompting.learn == "rationale_then_answer":
            misfits.append(
                "`training.objective: step_by_step` learns answer and reasons as two tasks, and `generation.prompting.learn: "
                "rationale_then_answer` makes one of them: set `learn: both`"
            )
        if self.targets.weights.reference and self.targets.positions == "all":
            misfits.append(
                "`targets.weights.reference` has references learnt as text, at tokens of the answer alone: set `targets.positions: answer`"
            )
        has_labels = self.task.type == "nli" or (self.task.type == "qa" and self.task.answer == "choice")
        if self.evaluation.probabilities is True and self.task.type != "nli":
            misfits.append(f"`evaluation.probabilities` are those of labels, and {self.task.type} has none: set `auto`")
        closed = has_labels or self.task.type == "math"
        if self.evaluation.judge is not None and closed:
            misfits.append(
                f"`evaluation.judge` is for free text; answers of {self.task.type} are right or wrong, and the metrics say so: remove it"
            )
        for other in self.evaluation.compare:
            if other.baseline == "tfidf" and not has_labels:
                misfits.append(f"`evaluation.compare: tfidf` chooses among labels, and {self.task.type} has none: remove it")
            if other.baseline == "lead" and self.task.type != "summarization":
                misfits.append(f"`evaluation.compare: lead` is a line for summaries, not for {self.task.type}: remove it")
        if self.engine.kind == "ray" and self.generation.mode == "batch":
            misfits.append("`engine: ray` shares out live calls, and `generation.mode: batch` makes none: take one of the two")
        if misfits:
            raise ValueError("\n".join(misfits))
        return self
