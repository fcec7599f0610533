"""What an installation holds, and that it works from another folder."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from test.servers import ServerProcess, ct_image

ROOT = Path(__file__).resolve().parent.parent
#: Not part of what is built; building leaves traces beside its sources, so they are copied.
_NOT_COPIED = (".*", "build", "*.egg-info", "__pycache__", "test", "benchmarks", "_trial_temp*", "Orthanc*")
_DATA = ("py.typed", "rest/explorer/*", "rest/explorer/images/*", "dicom/*.json", "lua/*.lua", "scripting/*.pyi")


class InstallationTests(SynchronousTestCase):
    """An installation in an environment of its own; its requirements are those of this one."""

    @staticmethod
    @functools.cache
    def bin() -> Path:
        """The programs of the installation, made by the first who asks, gone with the tests' process."""
        folder = Path(tempfile.mkdtemp(prefix="orthanctw-test-")).resolve()
        atexit.register(shutil.rmtree, folder)
        InstallationTests.install(folder)
        return folder / "env" / "bin"

    @classmethod
    def install(cls, folder: Path) -> None:
        """Build from a copy of the sources."""
        venv.create(folder / "env", with_pip=False, symlinks=True)
        sources = shutil.copytree(ROOT, folder / "sources", ignore=shutil.ignore_patterns(*_NOT_COPIED))
        cls.requirements(folder)
        cls.run_program(
            [
                *(sys.executable, "-m", "pip", "--python", str(folder / "env" / "bin" / "python"), "install"),
                *("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"),
                str(sources),
            ],
            folder,
        )

    @staticmethod
    def requirements(folder: Path) -> None:
        """Let the environment see all that is installed here, but for the project itself."""
        site = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "env")}))
        theirs = folder / "requirements"
        theirs.mkdir()
        for entry in Path(sysconfig.get_path("purelib")).iterdir():
            if "orthanctw" not in entry.name and entry.suffix != ".pth":
                (theirs / entry.name).symlink_to(entry)
        (site / "requirements.pth").write_text(f"{theirs}\n", encoding="utf-8")

    @staticmethod
    def run_program(command: list[str], folder: Path) -> str:
        """Run a program in a folder; what it prints."""
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
        if done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def package(self) -> Path:
        """The folder of the installed package."""
        program = "import orthanctw; print(orthanctw.__path__[0])"
        return Path(self.run_program([str(self.bin() / "python"), "-c", program], Path("/")).strip())

    def test_files(self) -> None:
        """All modules and data files are installed, and nothing of the tests."""
        package = self.package()
        self.assertNotIn(ROOT, package.parents)
        for pattern in ("**/*.py", *_DATA):
            expected = {str(path.relative_to(ROOT / "orthanctw")) for path in (ROOT / "orthanctw").glob(pattern)}
            self.assertNotEqual(expected, set(), pattern)
            self.assertEqual({str(path.relative_to(package)) for path in package.glob(pattern)}, expected)
        self.assertFalse((package.parent / "test").exists())
        self.assertFalse((package.parent / "benchmarks").exists())

    def test_plugin(self) -> None:
        """twistd knows the plugin from any folder."""
        self.assertIn("orthanc ", self.twistd("--help"))
        self.assertIn("--config", self.twistd("orthanc", "--help"))

    def twistd(self, *arguments: str) -> str:
        """What twistd prints in another folder than that of the sources."""
        program = "from twisted.scripts.twistd import run; run()"
        return self.run_program([str(self.bin() / "python"), "-c", program, *arguments], Path("/"))

    def test_server(self) -> None:
        """The installed program serves, with its own web pages."""
        server = ServerProcess(Path(self.mktemp()), command=(str(self.bin() / "orthanctw"),))
        self.addCleanup(server.kill)
        server.start()
        server.upload(ct_image(1))
        self.assertEqual(server.request("GET", "/app/explorer.html").status, 200)
        self.assertEqual(server.stop(), 0)
