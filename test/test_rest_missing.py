"""Routes that do nothing here: 501, for whoever may ask."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from orthanctw.cli import main
from test.rest_samples import NOBODY, RestCase
from test.test_openapi import MISSING, ROUTES


def missing() -> Iterator[tuple[str, str]]:
    """Methods and paths of the missing topics."""
    for path, methods in ROUTES.items():
        for method in methods:
            if any(re.fullmatch(pattern, f"{method} {path}") for pattern in MISSING.values()):
                yield method, path.replace("{id}", NOBODY)


class MissingTests(RestCase):
    """Every route of the topics that the table of the OpenAPI test names."""

    async def test_answers(self) -> None:
        """Any body is answered by error JSON that says that it is not implemented."""
        asked = list(missing())
        self.assertEqual(len(asked), 1)
        for method, path in asked:
            for body in (b"", {}, b"\x00\xff", {"Replace": {"PatientName": "X"}}) if method != "GET" else (b"",):
                answer = await self.client.ask(method, path, body)
                error = self.assertError(answer, 501, 2)
                self.assertEqual((error["Method"], error["Uri"]), (method, path))
                self.assertIn("not available", error["Details"])
        self.flushLoggedErrors()

    async def test_other_methods(self) -> None:
        """Other methods of these paths are refused as everywhere."""
        answer = await self.client.ask("DELETE", "/tools/execute-script")
        self.assertEmpty(answer, 405)
        self.assertEqual(answer.headers["allow"], "POST")

    async def test_strangers(self) -> None:
        """Who may not ask learns nothing."""
        await self.restart(AuthenticationEnabled=True, RegisteredUsers={"a": "b"})
        for method, path in missing():
            self.assertEmpty(await self.client.ask(method, path), 401)

    async def test_not_announced(self) -> None:
        """The OpenAPI document does not have them."""
        self.assertEqual(main([f"--openapi={self.folder}/api.json"]), 0)
        paths = json.loads(Path(self.folder, "api.json").read_text("utf-8"))["paths"]
        self.assertNotIn("/tools/execute-script", paths)
        self.assertEqual(set(paths["/modalities/{id}"]), {"get", "put", "delete"})
