"""The work of lab 2: read a report task, and make the report, a PDF. Given: nothing here is to be changed."""

import json
import random
import uuid

from fpdf import FPDF, XPos, YPos

MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
REPORTS = {"sales": "Sales, in euros", "visits": "Visits to the site", "returns": "Parcels sent back"}
USERS = ["ada", "grace", "hedy", "katherine", "margaret", "radia"]
BLUE, GRAY = (38, 92, 140), (120, 120, 120)


class Rejected(Exception):
    """There is no report for this task: it does not say which, or for whom."""


def read_task(body):
    """The task in a body from the queue, as a dict. Raises Rejected, with the reason, for anything else."""
    try:
        task = json.loads(body)
    except (ValueError, RecursionError):
        raise Rejected("not JSON") from None
    if not isinstance(task, dict):
        raise Rejected("not a JSON object")
    try:
        uuid.UUID(task.get("id"))
    except (ValueError, TypeError, AttributeError):
        raise Rejected(f"no UUID as its id: {task.get('id')!r:.60}") from None
    user, report = task.get("user"), task.get("report")
    if not isinstance(report, str) or report not in REPORTS:
        raise Rejected(f"there is no report {report!r:.60}")
    if not isinstance(user, str) or not 0 < len(user) <= 40 or not user.isascii() or not user.isprintable():
        raise Rejected(f"the user is to be 1 to 40 plain letters, not {user!r:.60}")
    return task


def figures(user, report):
    """Twelve numbers, one a month: invented, and the same each time for the same user and report."""
    rng = random.Random(f"{user} {report}")
    return [rng.randrange(200, 1000) for _ in MONTHS]


def render(task):
    """The report that the task asks for, as the bytes of a PDF: a title, a table and a chart on one page."""
    numbers = figures(task["user"], task["report"])
    pdf = FPDF()
    pdf.set_title(f"{task['report']} for {task['user']}")
    pdf.add_page()
    pdf.set_font("helvetica", "B", 22)
    pdf.cell(0, 14, REPORTS[task["report"]], new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font("helvetica", size=11)
    pdf.set_text_color(*GRAY)
    pdf.cell(0, 8, f"for {task['user']}, report {task['report']}, task {task['id']}")
    pdf.ln(16)
    table(pdf, numbers)
    chart(pdf, numbers, left=85, top=44, width=112, height=96)
    return bytes(pdf.output())


def table(pdf, numbers):
    """The months and their numbers, one under the other, and the sum."""
    pdf.set_text_color(0)
    for month, number in zip([*MONTHS, "Sum"], [*numbers, sum(numbers)], strict=True):
        pdf.set_font("helvetica", "B" if month == "Sum" else "", 11)
        pdf.cell(25, 7, month, border="B")
        pdf.cell(30, 7, f"{number:,}", border="B", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def chart(pdf, numbers, left, top, width, height):
    """A bar a month, within a box given in millimeters; lines at round numbers behind the bars."""
    step = width / len(numbers)
    scale = height / 1000
    pdf.set_font("helvetica", size=8)
    for mark in range(0, 1001, 250):
        y = top + height - mark * scale
        pdf.set_draw_color(220)
        pdf.line(left, y, left + width, y)
        pdf.set_xy(left - 12, y - 2)
        pdf.cell(10, 4, str(mark), align="R")
    pdf.set_fill_color(*BLUE)
    for place, (month, number) in enumerate(zip(MONTHS, numbers, strict=True)):
        x = left + place * step
        pdf.rect(x + step * 0.15, top + height - number * scale, step * 0.7, number * scale, style="F")
        pdf.set_xy(x, top + height + 1)
        pdf.cell(step, 4, month, align="C")
