"""Scripts are loaded as modules named after their files."""

from __future__ import annotations

import importlib.util
import os
import site
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from types import CodeType, FrameType, ModuleType
from typing import Final

from twisted.logger import Logger

from orthanctw.errors import ConfigurationError

log = Logger(namespace="orthanctw.plugins")
_MODULE: Final = "orthanc"


class _Source(SourceFileLoader):
    """Reads a script itself: a cached file of bytecode can be that of another text of the same second and size."""

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


class Scripts:
    """The scripts of a server, as modules of this interpreter.

    Parameters
    ----------
    paths : sequence of str
        Files, in their order.
    environment : str
        A virtual environment whose packages can be imported; empty: none.
    is_verbose : bool
        Log the modules that they import.
    """

    def __init__(self, paths: Sequence[str], environment: str, *, is_verbose: bool = False) -> None:
        self._paths = list(paths)
        self._environment = environment
        self._is_verbose = is_verbose
        self._folders = list(dict.fromkeys(os.path.dirname(os.path.abspath(path)) for path in paths))
        self._loading = threading.local()
        self._before: tuple[list[str], ModuleType | None] | None = None

    # On a thread of scripts

    def load(self, module: ModuleType) -> None:
        """Run all scripts, which find `module` as ``orthanc``. ConfigurationError with file and line of an error."""
        self._prepare(module)
        for path in self._paths:
            self._loading.name = os.path.basename(path)
            before = set(sys.modules)
            try:
                self._load(path)
            finally:
                self._loading.name = ""
                if self._is_verbose:
                    for name in sorted(set(sys.modules) - before):
                        log.warn("{path} has imported {name}", path=path, name=name)

    def script_of_caller(self) -> str:
        """The file name of the script that is loading, or that has called what calls this; empty when it is none."""
        name = getattr(self._loading, "name", "")
        if name:
            return str(name)
        paths = {os.path.abspath(path) for path in self._paths}
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if os.path.abspath(frame.f_code.co_filename) in paths:
                return os.path.basename(frame.f_code.co_filename)
            frame = frame.f_back
        return ""

    def reload(self, module: ModuleType) -> None:
        """As `load`, in the place of the modules that are there; after an error these are there again."""
        former = self._forget()
        former_module = sys.modules.get(_MODULE)
        try:
            self.load(module)
        except BaseException:
            self._forget()
            sys.modules.update(former)
            if former_module is not None:
                sys.modules[_MODULE] = former_module
            raise

    def _forget(self) -> dict[str, ModuleType]:
        """Take the modules of the scripts, and those of their folders, out of those that are known."""
        forgotten = {}
        for name, loaded in list(sys.modules.items()):
            file = getattr(loaded, "__file__", None)
            if file and os.path.dirname(os.path.abspath(file)) in self._folders:
                forgotten[name] = sys.modules.pop(name)
        return forgotten

    def unload(self) -> None:
        """Forget the modules of the scripts, and those of their folders."""
        self._forget()
        if self._before is not None:
            path, former = self._before
            self._before = None
            sys.path[:] = path
            sys.modules.pop(_MODULE, None)
            if former is not None:
                sys.modules[_MODULE] = former

    def _prepare(self, module: ModuleType) -> None:
        if self._before is None:
            self._before = (list(sys.path), sys.modules.get(_MODULE))
            if self._environment:
                site.addsitedir(_packages_of(self._environment))
            for folder in reversed(self._folders):
                sys.path.insert(0, folder)
        sys.modules[_MODULE] = module

    def _load(self, path: str) -> None:
        name = os.path.splitext(os.path.basename(path))[0]
        if name in sys.modules:
            raise ConfigurationError([f"PythonScript: {path}: there is another module of this name; rename the file"])
        spec = importlib.util.spec_from_file_location(name, path, loader=_Source(name, path))
        if spec is None or spec.loader is None or not os.path.isfile(path):
            raise ConfigurationError([f"PythonScript: no such file: {path}"])
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        try:
            spec.loader.exec_module(loaded)
        except BaseException as e:  # noqa: BLE001 - it is foreign code
            del sys.modules[name]
            log.failure("The Python script {path} cannot be loaded", path=path)
            raise ConfigurationError([f"PythonScript: {_place_of(e, path)}: {type(e).__name__}: {e}"]) from None


def _place_of(error: BaseException, path: str) -> str:
    """File and line of an error, the last ones within the script."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    lines = [entry.lineno for entry in traceback.extract_tb(error.__traceback__) if entry.filename == path]
    return f"{path}:{lines[-1]}" if lines else path


def _packages_of(environment: str) -> str:
    """The folder of packages of a virtual environment. ConfigurationError when this interpreter cannot use it."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    folder = os.path.join(environment, "lib", name, "site-packages")
    if not os.path.isdir(folder):
        raise ConfigurationError(
            [f"Orthanctw.PythonVirtualEnvironment: no virtual environment of {name}: there is no folder {folder}"]
        )
    return folder


