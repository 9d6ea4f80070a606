"""The least that a schedule's numbers may be."""

from gradcheck.contract import Schedule

# Of torch's schedulers, which count the epochs themselves.
COUNT = {"last_epoch": "it is asked for the rate of any epoch"}


def require_at_least(schedule: Schedule, least: float, *names: str) -> None:
    """Raise ValueError unless the fields ``names`` are at least ``least``; NaN is not."""
    for name in names:
        value = getattr(schedule, name)
        if not value >= least:
            raise ValueError(f"{type(schedule).__name__} needs {name} of at least {least}, got {value}")
