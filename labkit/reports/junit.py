"""JUnit XML, as Jenkins, GitLab and the other systems for continuous integration read it: a test suite for each lab.

What was not run is skipped; infrastructure is an error; all else that did not pass is a failure.
"""

import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

from labkit.grader.schedule import INFRASTRUCTURE, NOT_RUN, PASSED
from labkit.reports.files import fitting
from labkit.reports.view import Check, Lab, View, hidden_words

MOST_BYTES = 2_000_000
PACKAGE = "task-queue-labs"


def files(grade: dict, folder: Path) -> dict[str, str | bytes]:
    return {"junit.xml": fitting(lambda longest: document(View(grade, longest)), MOST_BYTES)}


def document(view: View) -> str:
    suites = [_suite(view, lab, number) for number, lab in enumerate(view.labs)]
    counts = {
        what: str(sum(int(each.get(what)) for each in suites)) for what in ("tests", "failures", "errors")
    }
    root = ET.Element("testsuites", name=view.name, time=f"{view.seconds:.3f}", **counts)
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(view: View, lab: Lab, number: int) -> ET.Element:
    cases = [_case(check) for check in lab.checks]
    if lab.hidden:
        hidden = ET.Element("testcase", classname=f"{PACKAGE}.{lab.slug}", name="hidden checks", time="0.000")
        ET.SubElement(hidden, "skipped", message=hidden_words(lab.hidden))
        cases.append(hidden)
    count = {
        kind: str(sum(case.find(kind) is not None for case in cases))
        for kind in ("failure", "error", "skipped")
    }
    suite = ET.Element(
        "testsuite",
        name=lab.slug,
        id=str(number),
        package=PACKAGE,
        hostname="localhost",
        timestamp=_moment(lab.started),
        time=f"{lab.seconds:.3f}",
        tests=str(len(cases)),
        failures=count["failure"],
        errors=count["error"],
        skipped=count["skipped"],
    )
    properties = ET.SubElement(suite, "properties")
    facts = {"submission": view.name, "outcome": lab.outcome, "broker": lab.broker}
    if view.graded:
        facts |= {"points": str(lab.points), "max_points": str(lab.max_points)}
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=value)
    suite.extend(cases)
    said = [*view.remarks(), *(f"Note: {note}" for note in (*view.notes, *lab.notes))]
    ET.SubElement(suite, "system-out").text = "\n".join(said)
    ET.SubElement(suite, "system-err")
    return suite


def _case(check: Check) -> ET.Element:
    case = ET.Element(
        "testcase", classname=f"{PACKAGE}.{check.slug}", name=check.title, time=f"{check.seconds:.3f}"
    )
    if check.outcome == NOT_RUN:
        ET.SubElement(case, "skipped", message=check.first_line)
    elif check.outcome != PASSED:
        kind = "error" if check.outcome == INFRASTRUCTURE else "failure"
        told = ET.SubElement(case, kind, type=check.outcome, message=check.first_line)
        told.text = "\n".join([check.story, *check.commands()])
    return case


def _moment(started: str) -> str:
    """In UTC, without the zone: the rules of the format allow none."""
    try:
        return datetime.fromisoformat(started).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return "1970-01-01T00:00:00"
