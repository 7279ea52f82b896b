"""Lab 2: report tasks, bodies that are none, and what must stand in the reports."""

import re
import uuid
from pathlib import Path

USERS = ["ada", "grace", "hedy", "katherine"]
REPORTS = ["sales", "visits", "returns"]


def _asking(**fields: object) -> dict:
    return {"id": str(uuid.uuid4()), "user": "ada", "report": "sales"} | fields


BAD_TASKS: dict[str, bytes | dict] = {
    "a body that is not JSON": b"sales for ada please",
    "bytes that are not UTF-8": b"\xff\xfe\x00sales",
    "a JSON list": b"[1, 2, 3]",
    "an object without an id": b'{"user": "ada", "report": "sales"}',
    "JSON nested 20,000 deep": b"[" * 20_000,
    "a task without a user": {"id": str(uuid.uuid4()), "report": "sales"},
    "a report that does not exist": _asking(report="weather"),
    "a list of reports": _asking(report=["sales", "visits"]),
    "a user of a thousand letters": _asking(user="a" * 1000),
}


def new_task(scene) -> dict:
    """An ordinary task; which report and for whom is up to the scene's seed."""
    return {
        "id": str(uuid.UUID(int=scene.random.getrandbits(128), version=4)),
        "user": scene.random.choice(USERS),
        "report": scene.random.choice(REPORTS),
    }


def trouble_with(path: Path, task: dict) -> str:
    """What is wrong with the report of a task; "" if it opens and is about the right user and report."""
    import pypdf

    try:
        text = " ".join(pypdf.PdfReader(path).pages[0].extract_text().split())
    except FileNotFoundError:
        return "there is no such file"
    except Exception as error:  # whatever pypdf raises on what is no PDF
        return f"it does not open as a PDF ({type(error).__name__}: {error})"
    if not re.search(rf"\bfor {task['user']}, report {task['report']}, task {task['id']}\b", text):
        return f"it is not about {task['report']} for {task['user']}; it begins: {text[:80]}"
    return ""
