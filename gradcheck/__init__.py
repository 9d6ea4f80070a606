"""Proofs that hand-written gradients are right, and that two training programs are the same."""

from gradcheck.adapters import AdapterError
from gradcheck.agreement import Verdict
from gradcheck.checks import (
    Finding,
    GradientMismatch,
    Report,
    check_class,
    check_gradients,
    check_layer,
    check_loss,
    check_optimizer,
    check_schedule,
)
from gradcheck.contract import Case
from gradcheck.properties import Mode
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
]
