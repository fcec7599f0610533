"""Make orthanctw/scripting/orthanc.pyi, which tells editors of the module ``orthanc``, from the module itself.

Usage: python scripts/make_python_stub.py
"""

from __future__ import annotations

import inspect
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from orthanctw.metrics import Metrics
from orthanctw.scripting import Host, ScriptingOptions, build_module

TARGET = Path(__file__).resolve().parent.parent / "orthanctw" / "scripting" / "orthanc.pyi"
_HEAD = '''\
"""The server, for scripts. Made by scripts/make_python_stub.py; there is no such file at run time."""

from collections.abc import Callable
from typing import Any, NoReturn, TypeAlias

_Data: TypeAlias = bytes | bytearray | memoryview | str | None
_Callback: TypeAlias = Callable[..., Any]
'''
_WIDTH = 120
_NAMES = {"Data": "_Data"}


def document() -> str:
    """The text of the stub."""
    services: Any = MagicMock()
    module = build_module(Host(None, services, ScriptingOptions(), Metrics(time.time)))
    members = sorted((name, value) for name, value in vars(module).items() if not name.startswith("__"))
    classes = [_class(name, value) for name, value in members if inspect.isclass(value)]
    functions = [_function(name, value, "") for name, value in members if inspect.isroutine(value)]
    return "\n\n".join([_HEAD, *classes, "\n".join(functions)])


def _class(name: str, owner: type) -> str:
    base = "(Exception)" if issubclass(owner, Exception) else ""
    parts = [f'    """{inspect.cleandoc(owner.__doc__)}"""\n'] if owner.__doc__ else []
    return f"class {name}{base}:\n" + ("\n".join([*parts, *_members(owner)]) or "    pass\n")


def _members(owner: type) -> Iterator[str]:
    numbers = [(name, value) for name, value in vars(owner).items() if isinstance(value, int)]
    if numbers:
        yield "".join(f"    {name}: int = {value}\n" for name, value in numbers)
    for name, value in sorted(inspect.getmembers(owner, inspect.ismethoddescriptor)):
        if not name.startswith("_") and hasattr(value, "__wrapped__"):
            yield _function(name, value, "    ")


def _function(name: str, function: Any, indent: str) -> str:
    signature = inspect.signature(function)
    parameters = [
        each.name if each.name == "self" else f"{each.name}: {_type(name, each.name, each.annotation)}"
        for each in signature.parameters.values()
    ]
    if parameters:
        parameters.append("/")
    end = f") -> {_type(name, '', signature.return_annotation)}:\n"
    head = f"{indent}def {name}({', '.join(parameters)}{end}"
    if len(head) > _WIDTH:
        lines = "".join(f"{indent}    {parameter},\n" for parameter in parameters)
        head = f"{indent}def {name}(\n{lines}{indent}{end}"
    text = textwrap.indent(inspect.getdoc(function) or "", f"{indent}    ").strip()
    closing = f'\n{indent}    """' if "\n" in text else '"""'
    return f'{head}{indent}    """{text}{closing}\n'


def _type(function: str, parameter: str, annotation: Any) -> str:
    if annotation is inspect.Signature.empty:
        return "Any"
    if annotation == "Any" and function.startswith("Register"):
        return "str" if parameter == "path_regular_expression" else "_Callback"
    return _NAMES.get(annotation, annotation)


def main() -> None:
    """Write the file."""
    TARGET.write_text(document(), encoding="utf-8")


if __name__ == "__main__":
    main()
