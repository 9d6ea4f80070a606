"""What test suites use: the pytest plugin, the parametrization of its tests, and items with options."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradcheck.items import Item
    from gradcheck.testing.parametrization import parametrize_with_checks
    from gradcheck.testing.unchecked import UncheckedWarning

__all__ = ["Item", "UncheckedWarning", "parametrize_with_checks"]

# Where a name comes from when it is first used: pytest imports this package in every session, NumPy only when needed.
_MODULES = {
    "Item": "gradcheck.items",
    "UncheckedWarning": "gradcheck.testing.unchecked",
    "parametrize_with_checks": "gradcheck.testing.parametrization",
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
