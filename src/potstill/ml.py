"""Distillation in the words of Azure Machine Learning's Python SDK: the same code, with nothing but its imports changed.

>>> from potstill.ml import MLClient, DistillationJob
>>> ml_client = MLClient.from_config()
"""

from __future__ import annotations

from potstill.jobs.backend import Backend
from potstill.jobs.client import JobOperations, MLClient, ModelOperations
from potstill.jobs.entities import DistillationJob, EvaluationRequest, Job, RegisteredModel, TeacherModelSettings
from potstill.jobs.local import LocalBackend

__all__ = [
    "Backend",
    "DistillationJob",
    "EvaluationRequest",
    "Job",
    "JobOperations",
    "LocalBackend",
    "MLClient",
    "ModelOperations",
    "RegisteredModel",
    "TeacherModelSettings",
]
