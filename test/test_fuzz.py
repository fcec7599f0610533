"""schemathesis asks a real server everything that the OpenAPI document allows, and much that it forbids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.cli import main
from test.servers import ServerProcess, ct_image, free_port

_ROOT: Final = Path(__file__).resolve().parent.parent
#: What would end the server, write where it wants to, or leave nothing to ask for.
_LEFT_OUT: Final = (
    "delete_(patients|studies|series|instances)_id",
    "post_tools_(shutdown|reset|execute_script|bulk_delete)",
    "post_instances_id_export",
)
#: No method but those of the document: DELETE of what is asked about among them.
_CONFIGURATION: Final = "[phases.coverage]\nunexpected-methods = []\n"
#: Each operation is asked for its boundaries, and so often at random.
_EXAMPLES: Final = 8
_QUERY: Final = {"Level": "Study", "Query": {"PatientID": "*"}}


class FuzzTests(SynchronousTestCase):
    """One server, thousands of requests; what makes a good answer stands in fuzz_hooks.py."""

    timeout = 600

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(prefix="orthanctw-test-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        dicom = free_port()
        itself = {"self": ["ORTHANC", "127.0.0.1", dicom]}
        options = {"DicomServerEnabled": True, "DicomPort": dicom, "DicomModalities": itself}
        self.server = ServerProcess(self.folder / "server", options=options)
        self.addCleanup(self.server.kill)
        self.server.start()
        self.names = self.fill()
        self.environ = {
            "SCHEMATHESIS_HOOKS": "test.fuzz_hooks",
            "FUZZ_RESOURCES": json.dumps(self.names),
            "FUZZ_PORT": str(dicom),
            "FUZZ_FREE_PORT": str(free_port()),
            "FUZZ_OBJECT": str(self.folder / "object.dcm"),
        }
        (self.folder / "object.dcm").write_bytes(ct_image(9, study=9))
        (self.folder / "schemathesis.toml").write_text(_CONFIGURATION)
        self.assertEqual(main([f"--openapi={self.folder}/api.json"]), 0)

    def fill(self) -> dict[str, list[str]]:
        """Things to ask for: their names by the first part of their paths."""
        for study, number in ((1, 1), (1, 2), (2, 1), (3, 1), (4, 1), (5, 1)):
            self.server.upload(ct_image(number, study=study, patient=f"P{study}"))
        names: dict[str, list[str]] = {
            level: self.server.get(f"/{level}") for level in ("patients", "studies", "series", "instances")
        }
        query = self.server.request("POST", "/modalities/self/query", json.dumps(_QUERY)).json()
        archive = {"Resources": names["studies"], "Asynchronous": True}
        job = self.server.request("POST", "/tools/create-archive", json.dumps(archive)).json()
        return {**names, "modalities": ["self"], "queries": [query["ID"]], "jobs": [job["ID"]]}

    def test_answers(self) -> None:
        """No request is answered by a failure of ours; the server serves on, and what it held is there."""
        done = subprocess.run(
            [
                *(str(Path(sys.executable).parent / "schemathesis"), "--no-color"),
                *(f"--config-file={self.folder}/schemathesis.toml", "run", f"{self.folder}/api.json"),
                *(f"--url=http://127.0.0.1:{self.server.port}", "--phases=coverage,fuzzing", "--checks=answers_well"),
                *("--seed=1", "--generation-deterministic", f"--max-examples={_EXAMPLES}", "--no-shrink"),
                *("--suppress-health-check=all", "--request-timeout=300"),
                f"--exclude-operation-id-regex=^({'|'.join(_LEFT_OUT)})$",
            ],
            cwd=self.folder,
            env={**os.environ, **self.environ, "PYTHONPATH": str(_ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, f"{done.stdout}\n{done.stderr}")
        self.assertRegex(done.stdout, r"[0-9]{4,} generated, [0-9]{4,} passed")
        self.assertLessEqual(set(self.names["instances"]), set(self.server.get("/instances")))
        self.server.stop()
        self.assertNotIn("Traceback", self.server.printed())
