"""Proofs that hand-written gradients are right, and that two training programs are the same."""

from typing import TYPE_CHECKING

from gradcheck.words import spoken_in

if TYPE_CHECKING:
    from gradcheck.checks import check_class, check_gradients, check_layer, check_loss, check_optimizer, check_schedule
    from gradcheck.contract import Case, Context
    from gradcheck.numerics.agreement import Verdict
    from gradcheck.properties import Mode
    from gradcheck.report.findings import Finding, GradientMismatch, Report
    from gradcheck.subjects.foreign import AdapterError
    from gradcheck.testing.parametrization import parametrize_with_checks
    from gradcheck.trajectory import TrajectoryMismatch, TrajectoryReport, check_trajectory
    from gradcheck.trajectory.check import Evaluation, EvaluationReport, check_evaluation
    from gradcheck.trajectory.engine import Batch, Engine, Step, StepError
    from gradcheck.trajectory.recording import record, record_along
    from gradcheck.trajectory.replay import Replay, ReplayError, load_replay, replay, save_replay
    from gradcheck.trajectory.trace import Trace, TraceError
    from gradcheck.trajectory.trace_comparison import TraceReport, compare_traces

__all__ = [
    "AdapterError",
    "Batch",
    "Case",
    "Context",
    "Engine",
    "Evaluation",
    "EvaluationReport",
    "Finding",
    "GradientMismatch",
    "Mode",
    "Replay",
    "ReplayError",
    "Report",
    "Step",
    "StepError",
    "Trace",
    "TraceError",
    "TraceReport",
    "TrajectoryMismatch",
    "TrajectoryReport",
    "Verdict",
    "check_class",
    "check_evaluation",
    "check_gradients",
    "check_layer",
    "check_loss",
    "check_optimizer",
    "check_schedule",
    "check_trajectory",
    "compare_traces",
    "load_replay",
    "parametrize_with_checks",
    "record",
    "record_along",
    "replay",
    "save_replay",
]

spoken_in("gradcheck.report.checks")

# Where a name comes from when it is first used: pytest imports this package in every session, NumPy only when needed.
_MODULES = {
    "AdapterError": "gradcheck.subjects.foreign",
    "Batch": "gradcheck.trajectory.engine",
    "Case": "gradcheck.contract",
    "Context": "gradcheck.contract",
    "Engine": "gradcheck.trajectory.engine",
    "Evaluation": "gradcheck.trajectory.check",
    "EvaluationReport": "gradcheck.trajectory.check",
    "Finding": "gradcheck.report.findings",
    "GradientMismatch": "gradcheck.report.findings",
    "Mode": "gradcheck.properties",
    "Replay": "gradcheck.trajectory.replay",
    "ReplayError": "gradcheck.trajectory.replay",
    "Report": "gradcheck.report.findings",
    "Step": "gradcheck.trajectory.engine",
    "StepError": "gradcheck.trajectory.engine",
    "Trace": "gradcheck.trajectory.trace",
    "TraceError": "gradcheck.trajectory.trace",
    "TraceReport": "gradcheck.trajectory.trace_comparison",
    "TrajectoryMismatch": "gradcheck.trajectory",
    "TrajectoryReport": "gradcheck.trajectory",
    "Verdict": "gradcheck.numerics.agreement",
    "check_evaluation": "gradcheck.trajectory.check",
    "check_trajectory": "gradcheck.trajectory",
    "compare_traces": "gradcheck.trajectory.trace_comparison",
    "load_replay": "gradcheck.trajectory.replay",
    "parametrize_with_checks": "gradcheck.testing.parametrization",
    "record": "gradcheck.trajectory.recording",
    "record_along": "gradcheck.trajectory.recording",
    "replay": "gradcheck.trajectory.replay",
    "save_replay": "gradcheck.trajectory.replay",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_MODULES.get(name, "gradcheck.checks")), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
