"""Scripts that do something while they are loaded, with files from and for their test."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from test.python_case import PythonCase

_BEFORE = """
    def attempt(function, *arguments):
        try:
            function(*arguments)
            note('done')
        except orthanc.OrthancException as e:
            note(e.args[0])
        except Exception as e:
            note(type(e).__name__)
    def read(name):
        return open(folder + '/' + name, 'rb').read()
    def write(name, content):
        open(folder + '/' + name, 'wb').write(content)
"""


class ScriptCase(PythonCase):
    """Tests of what scripts do at once."""

    async def run_script(self, text: str, **files: bytes) -> list[Any]:
        """What a script notes.

        It finds `files` by ``read(name)``, and leaves some by ``write(name, content)`` for `written`.
        ``attempt(function, ...)`` notes ``done``, the code of an OrthancException, or the name of another exception.
        """
        for name, content in files.items():
            (self.scripts / name).write_bytes(content)
        await self.start_scripts(_BEFORE + text)
        return self.noted()

    def written(self, name: str) -> bytes:
        """What a script has left."""
        return (self.scripts / name).read_bytes()


def png(array: Any) -> bytes:
    """A PNG, written by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def opened(content: bytes) -> Any:
    """The pixels of an image file, read by Pillow."""
    return np.asarray(Image.open(io.BytesIO(content)))
