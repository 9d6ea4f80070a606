"""Why a step is wrong."""

from gradcheck.trajectory.causes.hypotheses import diagnose_step, explained
from gradcheck.trajectory.causes.scene import StepCause, StepDiagnosis

__all__ = ["StepCause", "StepDiagnosis", "diagnose_step", "explained"]
