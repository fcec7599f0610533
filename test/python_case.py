"""A server with scripts in Python."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from test.rest_samples import RestCase


def example(heading: str, number: int = 0) -> str:
    """A script of ``docs/python.md``: the block of Python with that number below the heading of a section."""
    page = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")
    section = re.split(r"^#+ ", page.split(f"# {heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)[number]


class PythonCase(RestCase):
    """Tests that give scripts to the server.

    A script finds ``folder``, where it may write what a test then reads, and ``note(*values)``, which `noted` reads.
    """

    async def setUp(self) -> None:
        self.scripts = Path(self.mktemp()).absolute()
        self.scripts.mkdir()
        await super().setUp()

    def script(self, text: str, name: str = "script.py") -> str:
        """The path of a script."""
        path = self.scripts / name
        path.write_text(_BEFORE.format(folder=str(self.scripts)) + textwrap.dedent(text))
        return str(path)

    async def start_scripts(self, *texts: str, **options: Any) -> None:
        """A new server with scripts ``script0.py``, ``script1.py`` ..."""
        paths = [self.script(text, f"script{number}.py") for number, text in enumerate(texts)]
        own = {**options.pop("Orthanctw", {}), "PythonScripts": paths[1:]}
        await self.restart(PythonScript=paths[0], Orthanctw=own, **options)

    def noted(self) -> list[Any]:
        """What scripts have noted, in order: a list of values for each call."""
        path = self.scripts / "notes"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def set_aside(self) -> None:
        """Forget what scripts have noted."""
        (self.scripts / "notes").unlink(missing_ok=True)


# One line: an error in line n of a test's text is in line n + 1 of the file.
_BEFORE = (
    "import json, orthanc; folder = {folder!r}; "
    "note = lambda *values: open(folder + '/notes', 'a').write(json.dumps(values) + '\\n')\n"
)
