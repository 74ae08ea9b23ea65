"""The stages in order, and what may be skipped."""

from potstill.pipeline.run import STAGES, Plan, judge_again, plan_run, run_pipeline, stages_of

__all__ = ["STAGES", "Plan", "judge_again", "plan_run", "run_pipeline", "stages_of"]
