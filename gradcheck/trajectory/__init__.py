"""Two training engines, compared step by step."""

from gradcheck.trajectory.check import TrajectoryMismatch, TrajectoryReport, check_trajectory

__all__ = ["TrajectoryMismatch", "TrajectoryReport", "check_trajectory"]
