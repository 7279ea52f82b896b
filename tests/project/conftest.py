"""Fixtures of several modules."""

import shutil
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from labkit import course


@pytest.fixture
def home():
    """A folder with a short path, or a broker's socket in it could not be opened."""
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A few photographs, quickly drawn, with names that a terminal or a command line could misread."""
    folder = tmp_path_factory.mktemp("photographs")
    across = Image.linear_gradient("L").resize((900, 600))
    for turn, name in enumerate(("-count.jpg", "[bold]a:heart:b.JPG", "Größe {0} 日本.png")):
        Image.merge("RGB", [across.rotate(angle + 40 * turn) for angle in (0, 90, 180)]).save(folder / name)
    (folder / "notes.txt").write_text("not a photograph\n")
    (folder / "torn.jpg").write_bytes(b"\xff\xd8\xff not one either")
    (folder / "folder.jpg").mkdir()
    (folder / "elsewhere.jpg").symlink_to(course.lab(3).solution / "images.py")
    return folder
