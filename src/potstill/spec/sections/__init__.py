"""What a run is: one frozen pydantic model a section. A default is a vetted setting; its source stands in the field's text."""

from potstill.spec.sections.base import Auto, Fraction, Precision, Section
from potstill.spec.sections.costs import CostsSpec
from potstill.spec.sections.data import ColumnsSpec, DataSpec, TaskSpec, TaskType
from potstill.spec.sections.engine import EngineSpec
from potstill.spec.sections.evaluation import EvaluationSpec, JudgeSpec, LmEvalSpec, OtherSpec
from potstill.spec.sections.generation import (
    BalanceSpec,
    BudgetSpec,
    ExpandSpec,
    GatesSpec,
    GenerationSpec,
    PersonalDataSpec,
    PilotSpec,
    PromptingSpec,
    QualifySpec,
)
from potstill.spec.sections.goals import GoalSpec, GoalsSpec
from potstill.spec.sections.models import AdaptSpec, CarveSpec, PriceSpec, StudentSpec, TeacherSpec, WeightsSpec
from potstill.spec.sections.run import RunSpec
from potstill.spec.sections.training import FeaturesSpec, LoraSpec, OnPolicySpec, TargetsSpec, TrainingSpec

__all__ = [
    "AdaptSpec",
    "Auto",
    "BalanceSpec",
    "BudgetSpec",
    "CarveSpec",
    "ColumnsSpec",
    "CostsSpec",
    "DataSpec",
    "EngineSpec",
    "EvaluationSpec",
    "ExpandSpec",
    "FeaturesSpec",
    "Fraction",
    "GatesSpec",
    "GenerationSpec",
    "GoalSpec",
    "GoalsSpec",
    "JudgeSpec",
    "LmEvalSpec",
    "LoraSpec",
    "OnPolicySpec",
    "OtherSpec",
    "PersonalDataSpec",
    "PilotSpec",
    "Precision",
    "PriceSpec",
    "PromptingSpec",
    "QualifySpec",
    "RunSpec",
    "Section",
    "StudentSpec",
    "TargetsSpec",
    "TaskSpec",
    "TaskType",
    "TeacherSpec",
    "TrainingSpec",
    "WeightsSpec",
]
