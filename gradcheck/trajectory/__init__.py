"""Two training engines, compared step by step."""

from gradcheck.trajectory.check import TrajectoryReport, check_trajectory
from gradcheck.trajectory.function_engine import FunctionEngine
from gradcheck.trajectory.told import TrajectoryMismatch
from gradcheck.trajectory.torch_engine import TorchEngine

__all__ = ["FunctionEngine", "TorchEngine", "TrajectoryMismatch", "TrajectoryReport", "check_trajectory"]
