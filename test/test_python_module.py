"""The module ``orthanc`` as a whole: all names of Orthanc's plugin, and those alone."""

from __future__ import annotations

import functools
import importlib.util
import inspect
import json
import re
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from orthanctw.scripting import build_module
from test.python_case import PythonCase, example

_FOLDER = Path(__file__).parent
#: Examples of the documentation that tests run.
_EXAMPLE = re.compile(r'\bexample\("([^"]+)"(?:, (\d))?\)')


@functools.cache
def reference() -> dict[str, Any]:
    """``data/python_api.json``."""
    facts: dict[str, Any] = json.loads((_FOLDER / "data" / "python_api.json").read_text(encoding="utf-8"))
    return facts


def arguments_of(function: Any) -> list[str]:
    """Names of the parameters; ValueError when one is not positional only."""
    parameters = [each for each in inspect.signature(function).parameters.values() if each.name != "self"]
    for parameter in parameters:
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
            raise ValueError(f"{function.__name__}: {parameter}")
    return [parameter.name for parameter in parameters]


class ModuleTests(PythonCase):
    """Names, kinds, signatures and numbers."""

    module: ClassVar[ModuleType]

    async def setUp(self) -> None:
        await super().setUp()
        type(self).module = build_module(self.server.python.host)

    def names(self) -> set[str]:
        return {name for name in vars(self.module) if not name.startswith("__")}

    async def test_names(self) -> None:
        """All are there, and nothing else is."""
        facts = reference()
        expected = {*facts["functions"], *facts["classes"], *facts["enumerations"], facts["exception"]}
        self.assertEqual(expected - self.names(), set())
        self.assertEqual(self.names() - expected, set())
        self.assertEqual(self.names() & set(facts["not_offered"]), set())
        self.assertEqual(self.module.__name__, "orthanc")

    async def test_functions(self) -> None:
        """Each takes the arguments of that name, by position only."""
        for name, arguments in reference()["functions"].items():
            function = getattr(self.module, name)
            self.assertTrue(inspect.isroutine(function), name)
            self.assertEqual(arguments_of(function), arguments, name)
            self.assertTrue(inspect.getdoc(function), name)
            with self.assertRaises(TypeError):
                function(**dict.fromkeys(arguments or ["argument"]))
            with self.assertRaises(TypeError):
                function(*([None] * (len(arguments) + 1)))

    async def test_classes(self) -> None:
        """Each has its methods, which take the arguments of that name, by position only."""
        for name, methods in reference()["classes"].items():
            owner = getattr(self.module, name)
            self.assertTrue(inspect.isclass(owner), name)
            self.assertEqual((owner.__module__, owner.__qualname__), ("orthanc", name))
            there = {key for key, value in inspect.getmembers(owner) if inspect.ismethoddescriptor(value)}
            self.assertEqual({key for key in there if not key.startswith("_")}, set(methods), name)
            for method, arguments in methods.items():
                self.assertEqual(arguments_of(getattr(owner, method)), arguments, (name, method))
                self.assertTrue(inspect.getdoc(getattr(owner, method)), (name, method))

    async def test_enumerations(self) -> None:
        """Plain classes with numbers."""
        for name, values in reference()["enumerations"].items():
            owner = getattr(self.module, name)
            self.assertTrue(inspect.isclass(owner), name)
            there = {key: value for key, value in vars(owner).items() if not key.startswith("__")}
            self.assertEqual(there, values, name)
            self.assertEqual({type(value) for value in there.values()}, {int}, name)

    async def test_exception(self) -> None:
        """It has code and text, and can be raised by scripts."""
        exception = self.module.OrthancException
        self.assertEqual(exception.__mro__[1], Exception)
        self.assertEqual(exception(17, "text").args, (17, "text"))
        self.assertEqual((exception.__module__, exception.__name__), ("orthanc", "OrthancException"))

    async def test_stub(self) -> None:
        """What editors are told is what there is: ``scripts/make_python_stub.py`` was run after the last change."""
        spec = importlib.util.spec_from_file_location("stubs", _FOLDER.parent / "scripts" / "make_python_stub.py")
        assert spec is not None and spec.loader is not None
        stubs = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(stubs)
        self.assertEqual(stubs.TARGET.read_text(encoding="utf-8"), stubs.document())
        self.assertEqual(str(resources.files("orthanctw.scripting") / "orthanc.pyi"), str(stubs.TARGET))

    async def test_exercised(self) -> None:
        """Tests of scripts, or examples that they run, use each function and method."""
        text = "\n".join(path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("test_python_*.py")))
        examples = (example(heading, int(number or 0)) for heading, number in _EXAMPLE.findall(text))
        used = set(re.findall(r"(?<=[.'\"])\w+", "\n".join([text, *examples])))
        methods = [method for methods in reference()["classes"].values() for method in methods]
        self.assertEqual(sorted({*reference()["functions"], *methods} - used), [])

    async def test_listing(self) -> None:
        """A script lists the module by ``inspect``, as programmers do to learn what there is."""
        await self.start_scripts(
            """
            import inspect, numbers
            lines = []
            for name, value in inspect.getmembers(orthanc):
                if inspect.isroutine(value):
                    lines.append(['function', name, inspect.getdoc(value)])
                elif inspect.isclass(value):
                    lines.append(['class', name, inspect.getdoc(value)])
                    for below, member in inspect.getmembers(value):
                        if isinstance(member, numbers.Number):
                            lines.append(['number', name + '.' + below, str(member)])
                        elif not below.startswith('_') and inspect.ismethoddescriptor(member):
                            lines.append(['method', name + '.' + below, inspect.getdoc(member)])
            note(lines)
            """
        )
        ((lines,),) = self.noted()
        facts = reference()
        listed = {(kind, name) for kind, name, _ in lines}
        expected = {("function", name) for name in facts["functions"]}
        expected |= {("method", f"{owner}.{name}") for owner, names in facts["classes"].items() for name in names}
        expected |= {("number", f"{owner}.{name}") for owner, names in facts["enumerations"].items() for name in names}
        self.assertEqual(expected - listed, set())
        self.assertEqual([line for line in lines if not line[2] and line[0] != "class"], [])
