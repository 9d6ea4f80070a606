"""Two training engines, compared step by step."""

from gradcheck.trajectory.check import TrajectoryReport, check_trajectory
from gradcheck.trajectory.told import TrajectoryMismatch

__all__ = ["TrajectoryMismatch", "TrajectoryReport", "check_trajectory"]
