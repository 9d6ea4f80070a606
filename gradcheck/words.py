"""The seam between what is found and how it is said: what is found asks here, and `gradcheck.report` answers.

`gradcheck.report` imports the results that it puts into words, and registers how. So that no result has to import its
words in turn, the front door, which knows all rooms, names the module to import before the first word: `spoken_in`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from importlib import import_module
from typing import Any

_rooms: set[str] = set()


def spoken_in(module: str) -> None:
    """Have a module imported before anything is first said; it registers how, with `text`, `document` and `cause`."""
    _rooms.add(module)


@singledispatch
def text(found: object) -> str:
    """Return what was found, for people: of a comparison of two programs, where they part."""
    return str(_words(text, found)(found))


@singledispatch
def document(found: object) -> str:
    """Return what was found, for programs: strict JSON."""
    return str(_words(document, found)(found))


@singledispatch
def cause(why: object, of: Any) -> str:  # noqa: ANN401  a room above this one knows what it is
    """Return, in one sentence, why a step is wrong: ``of`` is where two programs part, a `Divergence`."""
    return str(_words(cause, why)(why, of))


def _words(asked: Any, found: object) -> Callable[..., Any]:  # noqa: ANN401  one of the functions above
    for module in _rooms:
        import_module(module)
    registered: Callable[..., Any] = asked.dispatch(type(found))
    if registered is asked.dispatch(object):
        raise TypeError(f"there are no words for {type(found).__name__}")
    return registered
