"""The command line: what is parsed, and what a real process prints and answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.cli import main
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import ConfigurationError
from orthanctw.settings import LOG_CATEGORIES, RunOptions, Settings

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "options.json").read_text(encoding="utf-8"))


class CommandLineTests(SynchronousTestCase):
    """The command line."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir(parents=True)
        self.started: list[tuple[Settings, RunOptions]] = []

    def file(self, text: str, name: str = "orthanc.json") -> str:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def start(self, *arguments: str) -> tuple[Settings, RunOptions]:
        """What the server is started with."""

        def run(settings: Settings, options: RunOptions) -> int:
            self.started.append((settings, options))
            return 3

        self.assertEqual(main(arguments, run), 3)
        return self.started.pop()

    def process(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """A process of its own, to its end."""
        return subprocess.run(
            [sys.executable, "-m", "orthanctw.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, **environ},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def test_unit_of_a_distribution(self) -> None:
        """The line of a distribution's unit starts the server with the folder and the folder of logs."""
        self.file('{"Name": "here"}')
        settings, options = self.start("--logdir=/var/log/orthanc", str(self.folder))
        self.assertEqual(settings.general.name, "here")
        self.assertEqual((options.logdir, options.logfile), ("/var/log/orthanc", None))
        self.assertEqual(options.paths, (str(self.folder),))
        self.assertEqual((options.no_jobs, options.upgrade, dict(options.log_levels)), (False, False, {}))

    def test_options(self) -> None:
        """Options are handed to the server."""
        _, options = self.start("--no-jobs", "--upgrade", "--logfile=x.log")
        self.assertEqual((options.no_jobs, options.upgrade, options.logfile), (True, True, "x.log"))
        self.assertEqual(options.paths, ())

    def test_log_levels(self) -> None:
        """Levels of categories add up from left to right; one for all resets those before it."""
        for arguments, levels in (
            (["--verbose"], {"*": "verbose"}),
            (["--verbose", "--trace-dicom"], {"*": "verbose", "dicom": "trace"}),
            (["--trace-dicom", "--verbose"], {"*": "verbose"}),
            (["--trace-http", "--verbose-http", "--trace-lua"], {"http": "verbose", "lua": "trace"}),
        ):
            _, options = self.start(*arguments)
            self.assertEqual(dict(options.log_levels), levels)

    def test_log_categories(self) -> None:
        """The categories of logs are those of the original."""
        self.assertEqual(list(LOG_CATEGORIES), FACTS["log_categories"])

    def test_every_option_of_the_original_is_known(self) -> None:
        """The help names every option of the original."""
        text = self.process("--help").stdout
        for option in FACTS["command_line"]:
            self.assertIn(option.partition("=")[0].replace("CATEGORY", "http"), text)

    def test_reload(self) -> None:
        """The server can read the same files again, whatever the current folder is then."""
        self.file('{"Name": "before"}')
        path = os.path.relpath(self.folder / "orthanc.json")
        _, options = self.start(path)
        self.file('{"Name": "after"}')
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(self.folder)
        self.assertEqual(options.reload().general.name, "after")
        self.file("{")
        self.assertRaises(ConfigurationError, options.reload)

    def test_problems(self) -> None:
        """Problems are printed one per line with the path to their key, and the exit status is 1."""
        path = self.file('{"HttpPort": "${PORT}", "DicomModalities": {"sample": ["A", "h", 0]}}')
        for arguments in ([path], ["--check", path]):
            done = self.process(*arguments, PORT="8042")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertEqual(
                done.stderr.splitlines(),
                [
                    "orthanctw: HttpPort: an integer is needed, not a string",
                    "orthanctw: DicomModalities.sample.Port: a number from 1 to 65534 is needed",
                ],
            )

    def test_check(self) -> None:
        """A check prints the warnings, starts nothing and answers 0."""
        done = self.process("--check", self.file('{"HttpPrt": 1, "DicomServerEnabled": false}'))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout, "warning: HttpPrt: unknown option, did you mean HttpPort?\n")

    def test_missing_file(self) -> None:
        """A missing file is a problem of configuration."""
        done = self.process("--check", "none.json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, f"orthanctw: {self.folder}/none.json: no such file or folder\n")

    def test_samples(self) -> None:
        """Samples are written to a file or the standard output, and can be checked."""
        for option in ("--config", "--advanced-config"):
            written = self.process(f"{option}=sample.json")
            self.assertEqual((written.returncode, written.stdout, written.stderr), (0, "", ""))
            printed = self.process(f"{option}=-")
            self.assertEqual(printed.stdout, (self.folder / "sample.json").read_text(encoding="utf-8"))
            checked = self.process("--check", "sample.json")
            self.assertEqual((checked.returncode, checked.stderr), (0, ""))

    def test_sample_that_cannot_be_written(self) -> None:
        """A sample that cannot be written is told of, and the exit status is 1."""
        done = self.process("--config=none/sample.json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "orthanctw: none/sample.json: No such file or directory\n")

    def test_errors(self) -> None:
        """The error codes are listed with their meaning."""
        lines = self.process("--errors").stdout.splitlines()
        self.assertEqual([int(line.split()[0]) for line in lines], [code.value for code in ErrorCode])
        self.assertTrue(lines[0].endswith(ErrorCode.INTERNAL_ERROR.message))

    def test_version(self) -> None:
        """The version is printed after the name."""
        done = self.process("--version")
        self.assertEqual(done.returncode, 0)
        self.assertRegex(done.stdout, r"\Aorthanctw [0-9]+\.[0-9]+\S*\n\Z")

    def test_options_without_effect(self) -> None:
        """Options that change nothing here are accepted with a word on the standard error."""
        done = self.process("--logs-no-thread", "--check")
        self.assertEqual((done.returncode, done.stderr), (0, "orthanctw: --logs-no-thread has no effect\n"))

    def test_document_that_is_not_available(self) -> None:
        """An option that would write a document of another program starts no server in its place."""
        done = self.process("--cheatsheet=x")
        self.assertEqual((done.returncode, done.stderr), (1, "orthanctw: --cheatsheet is not available\n"))

    def test_openapi(self) -> None:
        """The OpenAPI document is written to a file or the standard output; no server starts."""
        written = self.process("--openapi=api.json")
        self.assertEqual((written.returncode, written.stdout, written.stderr), (0, "", ""))
        printed = self.process("--openapi=-")
        self.assertEqual(printed.stdout, (self.folder / "api.json").read_text(encoding="utf-8"))
        self.assertIn("/system", json.loads(printed.stdout)["paths"])
        self.assertEqual([path.name for path in self.folder.iterdir()], ["api.json"])
        done = self.process("--openapi=none/api.json")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, "orthanctw: none/api.json: No such file or directory\n")

    def test_unknown_option(self) -> None:
        """An option that is not known, or abbreviated, is refused."""
        for option in ("--bananas", "--verb"):
            done = self.process(option)
            self.assertEqual(done.returncode, 2)
            self.assertIn(option, done.stderr)
