"""Text that came from a submission, made harmless: for terminals and CI logs always, and for Markdown on demand."""

import re
from html import escape

from labkit.grader.words import clean

LONGEST_LINE = 300
# The sequences that steer a terminal, whole: a color, a title, a link. What is left of others, `clean` replaces.
STEERING = re.compile(
    r"\x1b(?:\[[0-?]{0,100}[ -/]{0,10}[@-~]|[\]PX^_][^\x07\x1b\n]{0,1000}(?:\x07|\x1b\\)|[ -/]{0,10}[0-~])"
    r"|\x9b[0-?]{0,100}[ -/]{0,10}[@-~]"
)
TABLE_OR_PROSE = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:=^$])")
SPARE = 100
CUT = "… (cut here, {} more characters)"


def plain(text: str, longest: int = 20_000) -> str:
    """Lines of plain text that no terminal and no CI log obeys, at most `longest` characters, the end cut off."""
    kept = STEERING.sub("", text[: 2 * longest]).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    unseen = max(0, len(text) - 2 * longest) + max(0, len(kept) - longest - SPARE)
    kept = clean(kept[: longest + SPARE])
    return cut(kept, longest, unseen)


def line(text: str, longest: int = LONGEST_LINE) -> str:
    """The same as one line."""
    return cut(" ".join(plain(text, 4 * longest).split()), longest)


def cut(text: str, longest: int, unseen: int = 0) -> str:
    """Text of at most so many characters; when some are cut off it says how many. unseen: further ones not in it."""
    if len(text) <= longest and unseen <= 0:
        return text
    words = CUT.format(len(text) - longest + max(0, unseen))
    return text[: max(0, longest - len(words) - 10)].rstrip() + words[:longest]


def first_line(text: str) -> str:
    return next((each.strip() for each in text.splitlines() if each.strip()), "")


# ---- Markdown ---------------------------------------------------------------------------------------------------


def fence(text: str) -> str:
    """A block of Markdown that shows the text as it is: its fence is longer than any within the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}text\n{text}\n{ticks}"


def code(words: str) -> str:
    """Words of a submission within a line of Markdown: code, in which nobody is mentioned and nothing is a link.

    Not for a table: a bar would end the cell.
    """
    words = line(words)
    longest = max((len(run) for run in re.findall("`+", words)), default=0)
    ticks = "`" * (longest + 1)
    return f"{ticks} {words} {ticks}" if words else ""


def prose(words: str) -> str:
    """The course's own words in Markdown, also in a table or beside HTML: no sign of them means anything."""
    return _unmentioned(TABLE_OR_PROSE.sub(r"\\\1", line(words)))


def in_html(words: str) -> str:
    """The same within a line of HTML in Markdown, where a backslash is one."""
    return _unmentioned(escape(line(words)))


def _unmentioned(words: str) -> str:
    return words.replace("@", "@\N{ZERO WIDTH SPACE}")
