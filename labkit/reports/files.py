"""What all formats need of files: JSON that may be printed to a log, sizes that hold, and a file that is never half."""

import json
import re
from collections.abc import Callable

# How many characters of each story are told, from all that anybody reads down to what always fits.
LONGEST_STORIES = (20_000, 8_000, 3_000, 1_000, 400, 150, 60)


def to_json(content: dict) -> str:
    """JSON for people: real letters, but no character that steers a terminal, and nothing that a CI log obeys."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    steering = {ord(each): json.dumps(each)[1:-1] for each in set(text) - {"\n"} if not each.isprintable()}
    text = text.translate(steering)
    return re.sub("#(?=#)", r"\\u0023", text) + "\n"  # "##[…]" within a line is a command to some CI systems


def fitting(make: Callable[[int], str], most_bytes: int) -> str:
    """The first of make(longest story) that is no larger than so many bytes, with ever shorter stories."""
    for longest in LONGEST_STORIES:
        text = make(longest)
        if len(text.encode()) <= most_bytes:
            break
    return text
