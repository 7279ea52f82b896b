"""A page of HTML that may show what strangers have written: its own policy forbids everything that is not in it.

It needs no network. Only the style and the script given here are run, by their hashes; what was not escaped by mistake
can load nothing, run nothing and send nothing. The pages of the grader are all made of it.
"""

import base64
import hashlib
from collections.abc import Iterable
from html import escape


def safe_page(title: str, body: Iterable[str], *, css: str, script: str = "") -> str:
    """The whole page. body: HTML, escaped where it came from a submission; title: plain text."""
    policy = [f"default-src 'none'; style-src '{_hash(css)}'"]
    if script:
        policy.append(f"script-src '{_hash(script)}'")
    policy.append("base-uri 'none'; form-action 'none'")
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{"; ".join(policy)}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(title)}</title>",
            f"<style>{css}</style>",
            "</head>",
            "<body>",
            *body,
            *([f"<script>{script}</script>"] if script else []),
            "</body>",
            "</html>\n",
        ]
    )


def _hash(text: str) -> str:
    """The name of an inline style or script in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
