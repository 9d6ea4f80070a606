"""The arrows point down only, and heavy libraries are imported late and in few places."""

from __future__ import annotations

import ast
import graphlib
import inspect
import subprocess
import sys
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import pytest

import gradcheck

ROOT = Path(__file__).parent.parent
PACKAGES = ("gradcheck", "nets", "cli")
FORBIDDEN = {"gradcheck": {"nets", "cli", "click", "rich"}, "nets": {"cli", "click", "rich"}, "cli": set()}
TORCH_FILES = {
    "gradcheck/loops/torch_copies.py",
    "gradcheck/loops/torch_hooks.py",
    "gradcheck/loops/torch_model.py",
    "gradcheck/loops/torch_nudges.py",
    "gradcheck/loops/torch_passes.py",
    "gradcheck/loops/torch_patches.py",
    "gradcheck/loops/torch_state.py",
    "gradcheck/loops/torch_steps.py",
    "gradcheck/subjects/twin.py",
    "gradcheck/trajectory/torch_engine.py",
    "nets/engines/eager.py",
    "nets/engines/torch_engine.py",
    "nets/weights.py",
}
LATE = {"torch", "scipy", "sklearn", "matplotlib", "jinja2", "safetensors", "pooch", "requests"}
# The rooms of a package, from the ground up: a room may use those before it, and skip floors. The package itself is the
# front door, from which all can be reached.
ROOMS = {
    "gradcheck": [
        {"words", "files", "streams", "contract", "strategies"},
        {"numerics"},
        {"subjects"},
        {"diagnosis"},
        {"properties"},
        {"trajectory"},
        {"loops"},
        {"report"},
        {"trials"},
        {"checks"},
        {"items"},
        {"collection"},
        {"testing"},
    ],
    "cli": [
        {"exit_codes", "extras", "configuration", "console", "experiment", "training_options"},
        {"runs"},
        {"comparison"},
        {"figures"},
        {"page"},
        {"commands"},
        {"main"},
    ],
}
VAGUE = {"utils", "util", "helpers", "common", "base", "core", "misc"}


@cache
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


@cache
def imported_by(source: str) -> list[tuple[str, str | None]]:
    """Return what a file imports when its code runs, and in which function."""
    return [*imports(parsed(source), None)]


def violations(root: Path) -> list[str]:
    """Return every breach of the house's rules below ``root``, as ``file: what``."""
    found = []
    for path in sorted(path for package in PACKAGES for path in (root / package).rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if path.stem in VAGUE:
            found.append(f"{name}: a vague name")
        package = name.partition("/")[0]
        for module, function in imported_by(path.read_text(encoding="utf-8")):
            top = module.partition(".")[0]
            if top in FORBIDDEN[package]:
                found.append(f"{name}: {package} imports {top}")
            if top in LATE and function is None:
                found.append(f"{name}: {top} is imported when the module is")
            if top == "torch" and name not in TORCH_FILES and function != "twin":
                found.append(f"{name}: torch is imported outside a twin")
    return found


def imports(node: ast.AST, function: str | None) -> Iterator[tuple[str, str | None]]:
    """Yield what is imported when code runs, module or name, with the name of the innermost function around it."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.stmt, ast.excepthandler, ast.match_case)):
            continue  # no expression imports
        if isinstance(child, ast.Import):
            yield from ((alias.name, function) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            yield from ((f"{child.module}.{alias.name}", function) for alias in child.names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        else:
            inner = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
            yield from imports(child, inner)


def uses(root: Path) -> dict[str, set[str]]:
    """Return for every module below ``root`` which others it imports when its code runs, in functions, too."""
    paths = {}
    for path in (path for package in PACKAGES for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    found = {}
    for name, path in paths.items():
        imported = {module for module, _ in imported_by(path.read_text(encoding="utf-8"))}
        found[name] = {longest for module in imported if (longest := longest_of(module, paths)) not in (None, name)}
    return found


def longest_of(module: str, known: Collection[str]) -> str | None:
    """Return the module that ``package.module.name`` is taken from."""
    while module and module not in known:
        module = module.rpartition(".")[0]
    return module or None


def climbs(root: Path) -> list[str]:
    """Return every import from a room above, as ``module: what it imports``."""

    def floor(module: str) -> int | None:
        package, _, rest = module.partition(".")
        rooms, room = ROOMS.get(package, []), rest.partition(".")[0]
        return next((floor for floor, names in enumerate(rooms) if room in names), None)

    found = []
    for module, used in sorted(uses(root).items()):
        for other in sorted(used):
            here, there = floor(module), floor(other)
            if module.partition(".")[0] == other.partition(".")[0] and here is not None and there is not None:
                found += [f"{module}: {other}"] if there > here else []
    return found


def circle(root: Path) -> list[str]:
    """Return modules of which each imports the next and the last the first, if there are any."""
    try:
        graphlib.TopologicalSorter(uses(root)).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_no_room_imports_from_one_above() -> None:
    assert climbs(ROOT) == []


def test_every_room_has_its_floor() -> None:
    for package, rooms in ROOMS.items():
        inside = {path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or path.is_dir()}
        assert inside - {"__init__", "__main__", "__pycache__", "py"} == set().union(*rooms)


def test_no_module_imports_itself_in_the_end() -> None:
    assert circle(ROOT) == []


@pytest.mark.parametrize("source", ["import {}", "def f():\n    import {}", "def f():\n    from {} import name"])
def test_a_planted_climb_and_circle_are_seen(tmp_path: Path, source: str) -> None:
    for package in ("numerics", "report"):
        (tmp_path / "gradcheck" / package).mkdir(parents=True)
        (tmp_path / "gradcheck" / package / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "gradcheck" / "numerics" / "kinks.py").write_text("", encoding="utf-8")
    (tmp_path / "gradcheck" / "report" / "text.py").write_text("import gradcheck.numerics.kinks", encoding="utf-8")
    assert (climbs(tmp_path), circle(tmp_path)) == ([], [])
    planted = source.format("gradcheck.report.text")
    (tmp_path / "gradcheck" / "numerics" / "kinks.py").write_text(planted, encoding="utf-8")
    assert climbs(tmp_path) == ["gradcheck.numerics.kinks: gradcheck.report.text"]
    assert set(circle(tmp_path)) == {"gradcheck.numerics.kinks", "gradcheck.report.text"}


def test_what_only_the_type_checker_imports_is_no_circle(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "a.py").write_text("import nets.b", encoding="utf-8")
    (tmp_path / "nets" / "b.py").write_text("if TYPE_CHECKING:\n    import nets.a", encoding="utf-8")
    assert circle(tmp_path) == []


def test_the_house_is_in_order() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("path", "source", "breach"),
    [
        ("gradcheck/checks.py", "from nets.layers import LAYERS", "gradcheck imports nets"),
        ("gradcheck/checks.py", "def f():\n    import nets", "gradcheck imports nets"),
        ("nets/losses/errors.py", "import click", "nets imports click"),
        ("nets/losses/errors.py", "from rich.table import Table", "nets imports rich"),
        ("nets/layers/gelu.py", "import torch", "torch is imported when the module is"),
        ("nets/layers/gelu.py", "def forward():\n    import torch", "torch is imported outside a twin"),
        (
            "nets/datasets/digits.py",
            "from sklearn.datasets import load_digits",
            "sklearn is imported when the module is",
        ),
        ("cli/utils.py", "", "a vague name"),
    ],
)
def test_a_planted_breach_is_seen(tmp_path: Path, path: str, source: str, breach: str) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text(source, encoding="utf-8")
    assert f"{path}: {breach}" in violations(tmp_path)


@pytest.mark.parametrize(
    "source",
    ["def twin():\n    import torch", "if TYPE_CHECKING:\n    import torch", "import numpy"],
)
def test_what_is_allowed_is_not_reported(tmp_path: Path, source: str) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "layer.py").write_text(source, encoding="utf-8")
    assert violations(tmp_path) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import nets",
        "from gradcheck import *",
        "from cli.main import run; run(['--help'])",
        "from cli.main import run; run(['train', '--help'])",
        "from cli.main import run; run(['report', '--help'])",
        "from cli.main import run; run(['compare', '--help'])",
        "from cli.main import run; run(['data', '--help'])",
        "from cli.main import run; run(['predict', '--help'])",
        "import nets.datasets.catalogue, nets.datasets.download, nets.datasets.augmentation",
    ],
)
def test_heavy_libraries_stay_out_of(statement: str) -> None:
    assert imported(statement, "torch", "scipy", "sklearn", "matplotlib", "jinja2", "pytest", "pooch") == set()


@pytest.mark.parametrize(
    "options",
    ["'--engine', 'numpy'", pytest.param("'--fair', '--no-sensitivity'", marks=pytest.mark.long)],
    ids=["numpy", "fair"],
)
def test_what_draws_is_imported_for_a_folder_alone(options: str) -> None:
    train = f"from cli.main import run; run(['train', {options}, '--dataset', 'digits', '--steps', '2', '--json'])"
    assert imported(train, "matplotlib", "jinja2.environment") == set()


@pytest.mark.parametrize("statement", ["import gradcheck", "from cli.main import run; run(['--help'])"])
def test_the_front_doors_import_not_even_numpy(statement: str) -> None:
    assert imported(statement, "numpy", "torch") == set()
    assert imported(f"{statement}; import gradcheck.contract", "numpy") == {"numpy"}  # and is seen where it is


def test_what_pytest_loads_in_every_session_is_light() -> None:
    assert imported("import gradcheck.testing.pytest_plugin", "torch", "hypothesis", "numpy") == set()


def imported(statement: str, *libraries: str) -> set[str]:
    """Return which of some libraries a statement imports."""
    code = f"import sys; {statement}; print(*set({libraries!r}) & sys.modules.keys())"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(output.stdout.splitlines()[-1].split())


def test_the_front_door_has_few_names() -> None:
    assert len(gradcheck.__all__) <= 20


def test_the_front_door_opens_to_every_name() -> None:
    opened = {name: getattr(gradcheck, name) for name in gradcheck.__all__}
    assert [name for name, value in opened.items() if inspect.isroutine(value) and value.__name__ != name] == []
    assert set(gradcheck.__all__) <= set(dir(gradcheck))
    with pytest.raises(AttributeError, match="module 'gradcheck' has no attribute 'check_everything'"):
        getattr(gradcheck, "check_everything")  # noqa: B009  no type checker may see it
