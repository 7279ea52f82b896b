"""The grade record itself, whole. It is the instructor's: it tells of hidden checks what no student may see."""

from pathlib import Path

from labkit.reports.files import to_json


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    return {"grade.json": to_json(grade)}
