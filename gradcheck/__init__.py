"""Proofs that hand-written gradients are right, and that two training programs are the same.

What a user types is here. The rest is public where it lives: `gradcheck.contract`, `gradcheck.checks`,
`gradcheck.trajectory` and its modules, `gradcheck.report.results`,
`gradcheck.numerics.agreement`.
"""

from typing import TYPE_CHECKING

from gradcheck.words import spoken_in

if TYPE_CHECKING:
    from gradcheck.checks import check_gradients, check_layer, check_loss, check_optimizer, check_schedule
    from gradcheck.contract import Case
    from gradcheck.loops.check import check_loops
    from gradcheck.loops.watch import watch
    from gradcheck.report.results import Report
    from gradcheck.subjects.attributes import AdapterError
    from gradcheck.testing.parametrization import parametrize_with_checks
    from gradcheck.trajectory import TrajectoryMismatch, check_trajectory
    from gradcheck.trajectory.engine import Batch, Engine, Step
    from gradcheck.trajectory.recording import record
    from gradcheck.trajectory.replay import replay
    from gradcheck.trajectory.trace import Trace
    from gradcheck.trajectory.trace_comparison import compare_traces

__all__ = [
    "AdapterError",
    "Batch",
    "Case",
    "Engine",
    "Report",
    "Step",
    "Trace",
    "TrajectoryMismatch",
    "check_gradients",
    "check_layer",
    "check_loops",
    "check_loss",
    "check_optimizer",
    "check_schedule",
    "check_trajectory",
    "compare_traces",
    "parametrize_with_checks",
    "record",
    "replay",
    "watch",
]

spoken_in("gradcheck.report.causes")
spoken_in("gradcheck.report.checks")
spoken_in("gradcheck.report.loops")
spoken_in("gradcheck.report.programs")

# Where a name comes from when it is first used: pytest imports this package in every session, NumPy only when needed.
_MODULES = {
    "AdapterError": "gradcheck.subjects.attributes",
    "Batch": "gradcheck.trajectory.engine",
    "Case": "gradcheck.contract",
    "Engine": "gradcheck.trajectory.engine",
    "Report": "gradcheck.report.results",
    "Step": "gradcheck.trajectory.engine",
    "Trace": "gradcheck.trajectory.trace",
    "TrajectoryMismatch": "gradcheck.trajectory",
    "check_loops": "gradcheck.loops.check",
    "check_trajectory": "gradcheck.trajectory",
    "compare_traces": "gradcheck.trajectory.trace_comparison",
    "parametrize_with_checks": "gradcheck.testing.parametrization",
    "record": "gradcheck.trajectory.recording",
    "replay": "gradcheck.trajectory.replay",
    "watch": "gradcheck.loops.watch",
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
