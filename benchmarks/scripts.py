"""A Lua script that takes a minute, and what others feel of it.

``OnStoredInstance`` sleeps 60 s, by ``os.execute`` or by a loop, while ``storescu`` sends 500 objects, with and without
a ``ReceivedInstanceFilter``; meanwhile ``echoscu`` and ``GET /system`` are asked. Each run is compared with one of the
same server without scripts. A sender that has not ended after the given time is ended; what it has sent is told. With
``--python`` the same is done by a script in Python, for orthanctw alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import time
from pathlib import Path
from typing import Final

import attrs

from benchmarks.common import Connection, ObjectSource, Server, median, running, table, temporary_folder
from benchmarks.cstore import STORESCU, write_objects
from benchmarks.ingest import SIZES

#: Seconds after which an answer is not waited for any more.
_PATIENCE: Final = 5.0
ECHOSCU: Final = "/usr/bin/echoscu"
SLEEPS: Final = {
    "os.execute": "function OnStoredInstance() os.execute('sleep 60') end\n",
    "loop": "function OnStoredInstance() local e = os.time() + 60 while os.time() < e do end end\n",
}
FILTER: Final = "function ReceivedInstanceFilter(tags) return tags.Modality ~= 'XX' end\n"
PYTHON: Final = """
import orthanc, time
orthanc.RegisterOnStoredInstanceCallback(lambda instance, identifier: time.sleep(60))
"""
PYTHON_FILTER: Final = """
orthanc.RegisterIncomingCStoreInstanceFilter(lambda instance: 0)
"""


@attrs.frozen
class Felt:
    """What others feel: seconds that the sender needs, ms of each question, objects that were stored."""

    sending: float
    echoes: list[float]
    answers: list[float]
    stored: str

    def row(self) -> list[str]:
        echo = f"{median(self.echoes):.0f} ms" if self.echoes else "none"
        answer = f"{median(self.answers):.1f} ms" if self.answers else "none"
        return [f"{self.sending:.2f} s", self.stored, echo, answer]


def stored(server: Server) -> str:
    """How many objects there are, if the server tells it."""
    try:
        _, body = Connection(server.port, _PATIENCE).request("GET", "/statistics")
    except TimeoutError:
        return "no answer"
    return str(json.loads(body)["CountInstances"])


def measure(server: Server, folder: Path, limit: float) -> Felt:
    """Send, and ask others meanwhile."""
    command = [STORESCU, "--scan-directories", "127.0.0.1", str(server.dicom_port), str(folder)]
    echo = [ECHOSCU, "-to", "5", "-ta", "5", "127.0.0.1", str(server.dicom_port)]
    started = time.perf_counter()
    sender = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    echoes: list[float] = []
    answers: list[float] = []
    while sender.poll() is None and time.perf_counter() - started < limit:
        before = time.perf_counter()
        if subprocess.run(echo, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0:
            echoes.append((time.perf_counter() - before) * 1000)
        connection = Connection(server.port, _PATIENCE)
        before = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            status, _ = connection.request("GET", "/system")
            if status != 200:
                raise SystemExit(f"/system is answered with {status}")
            answers.append((time.perf_counter() - before) * 1000)
        connection.close()
        time.sleep(0.05)
    if sender.poll() is None:
        sender.kill()
    sender.wait()
    return Felt(time.perf_counter() - started, echoes, answers, stored(server))


def options_of(text: str, language: str) -> dict[str, object]:
    if not text:
        return {}
    path = Path(temporary_folder("bench-script-"), f"slow.{'py' if language == 'python' else 'lua'}")
    path.write_text(text, "utf-8")
    return {"PythonScript": str(path)} if language == "python" else {"LuaScripts": [str(path)]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--limit", type=float, default=30, help="seconds that a sender may take")
    parser.add_argument("--only", choices=["orthanctw", "Orthanc"])
    parser.add_argument("--python", action="store_true", help="a script in Python, orthanctw alone")
    arguments = parser.parse_args()
    language = "python" if arguments.python else "lua"
    scripts = {"none": ""}
    for name, sleep in {"time.sleep": PYTHON}.items() if arguments.python else SLEEPS.items():
        scripts[name] = sleep
        scripts[f"{name}, filter"] = sleep + (PYTHON_FILTER if arguments.python else FILTER)
    names = ["orthanctw"] if arguments.python else ["orthanctw", "Orthanc"]
    if arguments.only:
        names = [arguments.only]
    (folder,) = write_objects(
        Path(temporary_folder("bench-objects-")), ObjectSource(*SIZES["small"]), 1, arguments.objects
    )
    rows: list[list[object]] = [["script", "server", "sending", "stored", "echoscu", "/system", "to none"]]
    alone: dict[str, float] = {}
    for label, text in scripts.items():
        for name in names:
            felt = []
            for _ in range(arguments.runs):
                with running(name, DicomServerEnabled=True, **options_of(text, language)) as server:
                    felt.append(measure(server, folder, arguments.limit))
            middle = sorted(felt, key=lambda each: each.sending)[len(felt) // 2]
            alone.setdefault(name, middle.sending)
            rows.append([label, name, *middle.row(), f"{middle.sending / alone[name]:.2f}"])
            table(rows[-1:])
    print()
    table(rows)


if __name__ == "__main__":
    main()
