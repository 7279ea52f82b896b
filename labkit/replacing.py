"""Files that are never half: whoever reads one while it is written anew sees the old one or the new one."""

import os
from pathlib import Path


def replace(path: Path, content: str | bytes) -> None:
    """Write a file whole; text as UTF-8."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(draft, path)
