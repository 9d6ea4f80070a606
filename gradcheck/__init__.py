"""Proofs that hand-written gradients are right, and that two training programs are the same."""

from gradcheck.agreement import Verdict
from gradcheck.checks import GradientMismatch, check_all, check_property

__all__ = ["GradientMismatch", "Verdict", "check_all", "check_property"]
