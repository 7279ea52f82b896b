"""Pictures for a report, taken from the timelines that the gradings left."""

import base64
import re
import xml.etree.ElementTree as ET
from pathlib import Path

from labkit.grader import picture
from labkit.reports.view import View

LARGEST_PAGE = 2_000_000
LARGEST_PICTURE = 200_000
DRAWN_WITH = {"svg", "g", "path", "rect", "text", "use", "title"}


def of_failures(view: View, folder: Path) -> dict[str, str]:
    """For each check with a story, by its name: the scene that the story tells of, as an SVG element for a page."""
    found = {}
    for lab in view.labs:
        wanted = [check for check in lab.checks if check.replay]
        page = _page(folder / wanted[0].replay.split("/")[0] / "timeline.html") if wanted else ""
        for check in wanted:
            if drawn := first(page, check.id):
                found[check.name] = drawn
    return found


def first(page: str, check: str) -> str:
    """The first picture of a check in a timeline page: of a failed one, what its story tells of. "" if there is none.

    A picture that has anything but shapes and words in it is none of ours, and is not taken.
    """
    parts = re.split(r'<details class="check ', page)
    part = next((each for each in parts[1:] if f' id="{check}"' in each[:200]), "")
    found = re.search(r'<svg class="scene.*?</svg>', part, re.DOTALL)
    if not found or len(found.group()) > LARGEST_PICTURE:
        return ""
    try:
        root = ET.fromstring(found.group())
    except ET.ParseError:
        return ""
    return found.group() if all(_is_harmless(element) for element in root.iter()) else ""


def _is_harmless(element: ET.Element) -> bool:
    names = {name.lower() for name in element.attrib}
    link = element.get("href", "#mark-")
    return (
        element.tag in DRAWN_WITH
        and link.startswith("#mark-")
        and not any(name.startswith("on") or name == "style" or ":" in name or "{" in name for name in names)
    )


def alone(drawn: str) -> str:
    """A picture of a page as an SVG file of its own, with its style and a background."""
    width, height = re.search(r'viewBox="0 0 (\d+) (\d+)"', drawn).groups()
    inside = drawn[drawn.index(">") + 1 :]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f"<style>{picture.style(alone=True)}</style>{picture.defs()}"
        f'<rect class="card" width="{width}" height="{height}"/>{inside}'
    )


def data_url(drawn: str) -> str:
    """A picture of a page as a URL that holds it whole."""
    return "data:image/svg+xml;base64," + base64.b64encode(alone(drawn).encode()).decode()


def _page(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_PAGE:
            return ""
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
