"""Proofs that hand-written gradients are right, and that two training programs are the same."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.adapters import AdapterError
    from gradcheck.agreement import Verdict
    from gradcheck.checks import check_class, check_gradients, check_layer, check_loss, check_optimizer, check_schedule
    from gradcheck.contract import Case
    from gradcheck.parametrization import parametrize_with_checks
    from gradcheck.properties import Mode
    from gradcheck.results import Finding, GradientMismatch, Report
    from gradcheck.trajectory import TrajectoryMismatch, TrajectoryReport, check_trajectory

__all__ = [
    "AdapterError",
    "Case",
    "Finding",
    "GradientMismatch",
    "Mode",
    "Report",
    "TrajectoryMismatch",
    "TrajectoryReport",
    "Verdict",
    "check_class",
    "check_gradients",
    "check_layer",
    "check_loss",
    "check_optimizer",
    "check_schedule",
    "check_trajectory",
    "parametrize_with_checks",
]

# Where a name comes from when it is first used: pytest imports this package in every session, NumPy only when needed.
_MODULES = {
    "AdapterError": "gradcheck.adapters",
    "Case": "gradcheck.contract",
    "Finding": "gradcheck.results",
    "GradientMismatch": "gradcheck.results",
    "Mode": "gradcheck.properties",
    "Report": "gradcheck.results",
    "TrajectoryMismatch": "gradcheck.trajectory",
    "TrajectoryReport": "gradcheck.trajectory",
    "Verdict": "gradcheck.agreement",
    "check_trajectory": "gradcheck.trajectory",
    "parametrize_with_checks": "gradcheck.parametrization",
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
