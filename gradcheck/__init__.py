"""Proofs that hand-written gradients are right, and that two training programs are the same."""

from gradcheck.agreement import Verdict
from gradcheck.checks import GradientMismatch, check_all, check_property
from gradcheck.trajectory import TrajectoryMismatch, TrajectoryReport, check_trajectory

__all__ = [
    "GradientMismatch",
    "TrajectoryMismatch",
    "TrajectoryReport",
    "Verdict",
    "check_all",
    "check_property",
    "check_trajectory",
]
