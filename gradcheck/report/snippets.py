"""Programs that repeat a check: objects written as the Python that makes them again."""

from __future__ import annotations

import ast
import base64
import dataclasses
import dis
import importlib
import inspect
import linecache
import pickle
import textwrap
import types
import zlib
from typing import Any

import numpy as np

from gradcheck.contract import Array, Case, Layer, Loss
from gradcheck.properties.outcome import DTYPES, Settings

WRITTEN_OUT = 200  # elements of an array; more are compressed
IGNORED: tuple[object, ...] = (None, (), {}, "")

NAMES = {
    "check_layer": ["layer", "x"],
    "check_loss": ["loss", "prediction", "target"],
    "check_optimizer": ["optimizer"],
    "check_schedule": ["schedule"],
    "check_gradients": ["f", "inputs", "vjp"],
}
DEFAULTS: dict[str, object] = {
    "variations": True,
    "seed": 0,
    "mode": "auto",
    "dtypes": DTYPES,
    "steps": 20,
    "base_lr": 0.1,
}  # options at these values are left out


class UnwritableError(TypeError):
    """An object that no Python text makes again."""


class Writer:
    """Collects the lines that make objects; each object is made once, so that what is shared stays shared."""

    def __init__(self) -> None:
        self.imports: dict[str, None] = {}
        self.lines: list[str] = []
        self._names: dict[int, str] = {}
        self._kept: list[object] = []
        self._taken: set[str] = set()

    def text(self) -> str:
        """Return the program so far."""
        first = sorted(self.imports, key=lambda line: not line.startswith("from __future__"))
        return "\n".join([*first, "", *self.lines]) + "\n"

    def bind(self, name: str, value: object) -> str:
        """Write an object under a name of its own, and return that name."""
        name = self._free(name)
        expression = self.expression(value, name)
        if expression != name:
            self.lines.append(f"{name} = {expression}")
            self._remember(value, name)
        return name

    def expression(self, value: Any, name: str = "") -> str:  # noqa: ANN401  any object
        """Return Python that stands for a value, after the lines that it needs."""
        if id(value) in self._names:
            return self._names[id(value)]
        if value is None or value is Ellipsis or isinstance(value, (bool, int, str, bytes)):
            return repr(value)
        if isinstance(value, np.generic):
            self.imports["import numpy as np"] = None
            return f"np.{value.dtype.name}({value.item()!r})"
        if isinstance(value, float):
            return repr(value) if np.isfinite(value) else f'float("{value}")'
        if isinstance(value, np.ndarray):
            return self._array(value, name)
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            items = [self.expression(item) for item in value]
            return (
                f"[{', '.join(items)}]" if isinstance(value, list) else f"({', '.join(items)}{',' * (len(items) == 1)})"
            )
        if type(value) is dict:
            items = [f"{self.expression(key)}: {self.expression(item)}" for key, item in value.items()]
            return f"{{{', '.join(items)}}}"
        if isinstance(value, types.ModuleType):
            self.imports[f"import {value.__name__}"] = None
            return value.__name__
        if isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType, np.ufunc)):
            return self._definition(value)
        return self._object(value, name)

    def _free(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._taken:
            count += 1
            candidate = f"{name}_{count}"
        self._taken.add(candidate)
        return candidate

    def _remember(self, value: object, name: str) -> None:
        self._names[id(value)] = name
        self._kept.append(value)  # so that its id stays its own

    def _array(self, array: Array, name: str) -> str:
        self.imports["import numpy as np"] = None
        own = name or self._free("array")
        if array.size <= WRITTEN_OUT and array.dtype.kind in "fiub" and np.isfinite(array).all():
            text = f"np.array({array.tolist()!r}, dtype=np.{array.dtype.name}).reshape({array.shape!r})"
        else:
            self.imports["import base64"] = self.imports["import zlib"] = None
            packed = base64.b85encode(zlib.compress(np.ascontiguousarray(array).tobytes(), 9)).decode()
            content = f'zlib.decompress(base64.b85decode("{packed}"))'
            text = f"np.frombuffer({content}, dtype=np.{array.dtype.name}).reshape({array.shape!r}).copy()"
        self.lines.append(f"{own} = {text}")
        self._remember(array, own)
        return own

    def _definition(self, value: Any) -> str:  # noqa: ANN401  a class or function
        module, qualified = getattr(value, "__module__", None) or "", getattr(value, "__qualname__", value.__name__)
        if isinstance(value, np.ufunc):
            module, qualified = "numpy", value.__name__
        if importable(value, module, qualified):
            if module == "builtins":
                return str(qualified)
            top = qualified.partition(".")[0]
            self.imports[f"from {module} import {top}"] = None
            return str(qualified)
        if qualified.endswith("<lambda>"):
            self._needs(value.__code__, value)
            return f"({lambda_source(value)})"
        try:
            source = textwrap.dedent(inspect.getsource(value))
        except (OSError, TypeError):
            raise UnwritableError(f"there is no source of {qualified}") from None
        self._remember(value, value.__name__)
        self.imports["from __future__ import annotations"] = None  # whose names are not written out
        if isinstance(value, type):
            for base in value.__bases__:
                self.expression(base)
            for member in vars(value).values():
                function = getattr(member, "__func__", getattr(member, "fget", member))
                if isinstance(function, types.FunctionType):
                    self._needs(function.__code__, function)
        else:
            self._needs(value.__code__, value)
        self.lines.extend(["", *source.rstrip().splitlines(), ""])
        return str(value.__name__)

    def _needs(self, code: types.CodeType, function: types.FunctionType) -> None:
        """Write what a function's code takes from around it."""
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType):
                self._needs(inner, function)
        closure = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
        around = {name: cell.cell_contents for name, cell in closure.items() if name != "__class__"}
        # Of the code's names, not those of attributes: self.x is no reason to write a global x.
        loaded = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        around |= {name: function.__globals__[name] for name in sorted(loaded) if name in function.__globals__}
        for name, value in around.items():
            if isinstance(value, types.ModuleType):
                plain = value.__name__ == name
                self.imports[f"import {value.__name__}" if plain else f"import {value.__name__} as {name}"] = None
            else:
                expression = self.expression(value)
                if expression != name:
                    self.lines.append(f"{name} = {expression}")
                    self._remember(value, name)

    def _object(self, value: Any, name: str) -> str:  # noqa: ANN401  an instance
        own = name or self._free(type(value).__name__.lower())
        torch_module = _torch_constructor(value)
        if torch_module:
            self.imports["import torch"] = None
            return torch_module
        if isinstance(value, (Layer, Loss)) and dataclasses.is_dataclass(value):
            kind = self.expression(type(value))
            fields = [f for f in dataclasses.fields(value) if f.init]
            return f"{kind}({', '.join(f'{f.name}={self.expression(getattr(value, f.name))}' for f in fields)})"
        attributes = getattr(value, "__dict__", None)
        if attributes is None or isinstance(value, np.random.Generator) or type(value).__module__.startswith("torch"):
            return self._pickled(value)
        kind = self.expression(type(value))
        content = ", ".join(f"{key!r}: {self.expression(item)}" for key, item in attributes.items())
        self.lines += [f"{own} = {kind}.__new__({kind})", f"{own}.__dict__.update({{{content}}})"]
        self._remember(value, own)
        return own

    def _pickled(self, value: object) -> str:
        try:
            content = base64.b85encode(zlib.compress(pickle.dumps(value), 9)).decode()
        except Exception as error:  # of the object's own __reduce__, say
            raise UnwritableError(f"a {type(value).__name__} cannot be written: {error}") from error
        self.imports["import base64"] = self.imports["import pickle"] = self.imports["import zlib"] = None
        return f'pickle.loads(zlib.decompress(base64.b85decode("{content}")))'


def snippet_of_call(
    function: str, arguments: tuple[Any, ...], options: dict[str, Any], seed: int, settings: Settings
) -> str:
    """Return a program that calls ``gradcheck.function(*arguments, **options)`` again and prints the report."""
    writer = Writer()
    writer.imports["import gradcheck"] = None
    names = NAMES[function]
    written = []
    given = options | {"seed": seed}
    if function in ("check_layer", "check_loss", "check_gradients"):
        given |= {"mode": settings.mode, "max_evaluations": settings.max_evaluations}
    if function in ("check_layer", "check_loss", "check_optimizer"):
        given["dtypes"] = settings.dtypes
    try:
        for i, argument in enumerate(arguments):
            written.append(writer.bind(names[i] if i < len(names) else f"x{i}", argument))
        for name, value in given.items():
            omitted = any(value is ignored or value == ignored for ignored in (*IGNORED, DEFAULTS.get(name)))
            if not omitted:
                written.append(f"{name}={writer.expression(value)}")
    except UnwritableError as error:
        return f"# This check cannot be written down: {error}.\n"
    writer.lines.append(f"print(gradcheck.{function}({', '.join(written)}))")
    return writer.text()


def snippet_of_case(case: Case, settings: Settings) -> str:
    """Return a program that checks one case of a native layer or loss."""
    function = "check_layer" if isinstance(case.subject, Layer) else "check_loss"
    if not isinstance(case.subject, (Layer, Loss)):
        return f"# {type(case.subject).__name__} has no inputs to write down: mnistcheck verify repeats its check.\n"
    return snippet_of_call(function, (case.subject, *case.inputs), {}, case.seed, settings)


def importable(value: object, module: str, qualified: str) -> bool:
    """Return whether another program can import a class or function by its name."""
    if module in ("", "__main__") or "<locals>" in qualified or "<lambda>" in qualified:
        return False
    try:
        found: Any = importlib.import_module(module)
        if getattr(found, "__file__", "") is None:
            return False
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError):
        return False
    return found is value and not module.startswith(("tests.", "test_"))


def lambda_source(function: types.FunctionType) -> str:
    """Return the text of a lambda, from the file that it was written in."""
    code = function.__code__
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        raise UnwritableError("there is no source of a lambda") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == code.co_firstlineno:
            compiled = compile(ast.Expression(node), "", "eval").co_consts[0]
            if isinstance(compiled, types.CodeType) and compiled.co_names == code.co_names:
                return ast.unparse(node)
    raise UnwritableError("there is no source of a lambda")


def _torch_constructor(value: object) -> str:
    """Return the constructor of a leaf module of torch as its repr gives it, if that makes the same module again."""
    if type(value).__module__.partition(".")[0] != "torch" or not hasattr(value, "named_children"):
        return ""
    text = repr(value)
    try:
        call = ast.parse(text, mode="eval").body
        assert isinstance(call, ast.Call)  # noqa: S101  what does not look like a call is pickled
        for part in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(part)
    except (SyntaxError, ValueError, AssertionError):
        return ""
    return f"torch.nn.{text}"
