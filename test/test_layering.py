"""The layers of docs/architecture.md, measured from the import statements."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parent.parent
#: Levels by path; the longest matching one counts.
LEVELS = {
    "orthanctw/__init__": 0,
    "orthanctw/errors": 0,
    "orthanctw/error_codes": 0,
    "orthanctw/model": 0,
    "orthanctw/identifiers": 0,
    "orthanctw/lookups": 0,
    "orthanctw/settings": 0,
    "orthanctw/remote": 0,
    "orthanctw/framing": 0,
    "orthanctw/versions": 0,
    "orthanctw/interfaces": 1,
    "orthanctw/threads": 2,
    "orthanctw/processes": 2,
    "orthanctw/programs": 2,
    "orthanctw/metrics": 2,
    "orthanctw/caches": 2,
    "orthanctw/log": 2,
    "orthanctw/storedwarnings": 2,
    "orthanctw/bodies": 2,
    "orthanctw/tls": 2,
    "orthanctw/streams": 2,
    "orthanctw/configuration": 2,
    "orthanctw/index": 3,
    "orthanctw/storage": 3,
    "orthanctw/storage/compression": 2,
    "orthanctw/dicom": 3,
    "orthanctw/dicom/pixels/images": 2,
    "orthanctw/lua": 3,
    "orthanctw/scripting": 3,
    "orthanctw/jobs": 3,
    "orthanctw/httpclient": 3,
    "orthanctw/ingest": 4,
    "orthanctw/python_hooks": 4,
    "orthanctw/lua_events": 4,
    "orthanctw/lua_hooks": 4,
    "orthanctw/lua_ingest": 4,
    "orthanctw/lua_operations": 4,
    "orthanctw/uploads": 4,
    "orthanctw/catalog": 4,
    "orthanctw/finder": 4,
    "orthanctw/matching": 4,
    "orthanctw/ordering": 4,
    "orthanctw/contents": 4,
    "orthanctw/tagviews": 4,
    "orthanctw/creation": 4,
    "orthanctw/bulk": 4,
    "orthanctw/conversion": 4,
    "orthanctw/names": 4,
    "orthanctw/system": 4,
    "orthanctw/acceptance": 4,
    "orthanctw/conformance": 4,
    "orthanctw/commitment": 4,
    "orthanctw/editing": 4,
    "orthanctw/splitting": 4,
    "orthanctw/exports": 4,
    "orthanctw/modalities": 4,
    "orthanctw/peers": 4,
    "orthanctw/known": 4,
    "orthanctw/replication": 4,
    "orthanctw/pictures": 4,
    "orthanctw/slices": 4,
    "orthanctw/queries": 4,
    "orthanctw/queryfilters": 4,
    "orthanctw/querying": 4,
    "orthanctw/retrieval": 4,
    "orthanctw/sending": 4,
    "orthanctw/storefilters": 4,
    "orthanctw/archives": 4,
    "orthanctw/removal": 4,
    "orthanctw/attaching": 4,
    "orthanctw/fileexport": 4,
    "orthanctw/reconstruction": 4,
    "orthanctw/revision": 4,
    "orthanctw/rewriting": 4,
    "orthanctw/stability": 4,
    "orthanctw/events": 4,
    "orthanctw/routing": 4,
    "orthanctw/worklists": 4,
    "orthanctw/takeover": 4,
    "orthanctw/jobs/kinds": 4,
    "orthanctw/webdav": 4,
    "orthanctw/rest": 5,
    "orthanctw/dicom/scp": 5,
    "orthanctw/parts": 6,
    "orthanctw/rest_parts": 6,
    "orthanctw/metrics_parts": 6,
    "orthanctw/lua_parts": 6,
    "orthanctw/python_parts": 6,
    "orthanctw/dicom_parts": 6,
    "orthanctw/commitment_parts": 6,
    "orthanctw/editing_parts": 6,
    "orthanctw/worklist_parts": 6,
    "orthanctw/server": 6,
    "orthanctw/service": 6,
    "orthanctw/tap": 6,
    "orthanctw/cli": 6,
    "twisted/plugins": 7,
}
MECHANISMS = 3


def package_of(module: str) -> str | None:
    """The longest entry of `LEVELS` that a module path lies in."""
    matches = [path for path in LEVELS if module == path or module.startswith(path + "/")]
    return max(matches, key=len, default=None)


def imports(path: Path) -> Iterator[str]:
    """Modules of ours that a file imports, as paths; also those imported within functions."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "orthanctw":
                yield name.replace(".", "/")


def sources() -> list[Path]:
    return sorted([*ROOT.glob("orthanctw/**/*.py"), *ROOT.glob("twisted/plugins/*.py")])


def module_name(path: Path) -> str:
    name = path.relative_to(ROOT).with_suffix("").as_posix()
    return name if name == "orthanctw/__init__" else name.removesuffix("/__init__")


class LayeringTests(SynchronousTestCase):
    """A module imports only from lower levels."""

    def test_every_module_has_a_level(self) -> None:
        """No module lies outside the declared layers."""
        self.assertEqual([m for m in map(module_name, sources()) if package_of(m) is None], [])

    def test_imports_go_down(self) -> None:
        """A module imports from lower levels and from its own package; packages of level 3 ignore their siblings."""
        wrong = []
        for path in sources():
            importer = package_of(module_name(path))
            assert importer is not None
            for name in imports(path):
                imported = package_of(name) or "orthanctw/__init__"
                if imported == importer:
                    continue
                own, other = LEVELS[importer], LEVELS[imported]
                if other > own or (other == own and own in (MECHANISMS, 1)):
                    wrong.append(f"{module_name(path)} (level {own}) imports {name} (level {other})")
        self.assertEqual(wrong, [])

    def test_no_module_or_function_is_too_large(self) -> None:
        """No module is over 500 lines, no function over 60 without its docstring."""
        large = []
        for path in sources():
            text = path.read_text("utf-8")
            if (lines := text.count("\n")) > 500:
                large.append(f"{module_name(path)}: {lines} lines")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    first = node.body[0]
                    start = node.lineno
                    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                        start += (first.end_lineno or 0) - first.lineno + 1
                    if (length := (node.end_lineno or 0) - start + 1) > 60:
                        large.append(f"{module_name(path)}:{node.lineno} {node.name}: {length} lines")
        self.assertEqual(large, [])

    def test_the_reactor_is_not_imported(self) -> None:
        """No module but the edge of the process imports the reactor: it is an argument."""
        allowed = {"orthanctw/tap", "orthanctw/service"}
        wrong = [
            module_name(path)
            for path in sources()
            if "from twisted.internet import reactor" in path.read_text("utf-8") and module_name(path) not in allowed
        ]
        self.assertEqual(wrong, [])

    def test_heavy_packages_are_imported_when_needed(self) -> None:
        """A server starts without the packages that double the time of a start; who needs them waits for them."""
        program = (
            "import sys, orthanctw.server;"
            "print([name for name in ('numpy', 'pydicom', 'pynetdicom', 'PIL') if name in sys.modules])"
        )
        ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(ran.stdout.strip(), "[]")
