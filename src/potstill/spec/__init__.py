"""What a run is: the spec's sections, loading it, its JSON Schema."""

from potstill.spec.load import dump_spec, load_data_sections, load_spec, spec_from_dict, spec_schema
from potstill.spec.sections import (
    CarveSpec,
    ColumnsSpec,
    DataSpec,
    EvaluationSpec,
    GatesSpec,
    GenerationSpec,
    PriceSpec,
    RunSpec,
    StudentSpec,
    TargetsSpec,
    TaskSpec,
    TaskType,
    TeacherSpec,
    TrainingSpec,
    WeightsSpec,
)

__all__ = [
    "CarveSpec",
    "ColumnsSpec",
    "DataSpec",
    "EvaluationSpec",
    "GatesSpec",
    "GenerationSpec",
    "PriceSpec",
    "RunSpec",
    "StudentSpec",
    "TargetsSpec",
    "TaskSpec",
    "TaskType",
    "TeacherSpec",
    "TrainingSpec",
    "WeightsSpec",
    "dump_spec",
    "load_data_sections",
    "load_spec",
    "spec_from_dict",
    "spec_schema",
]
