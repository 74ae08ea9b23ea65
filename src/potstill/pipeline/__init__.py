"""The stages in order, and what may be skipped."""

from potstill.pipeline.run import STAGES, Plan, plan_run, run_pipeline, stages_until

__all__ = ["STAGES", "Plan", "plan_run", "run_pipeline", "stages_until"]
