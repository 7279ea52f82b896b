"""The work of this lab: real operations on real photographs. Given; the grader lays its own copy over yours.

Run: python images.py   (puts some photographs into INPUT_DIR to work on)
"""

import json
import os
import uuid
import warnings
from pathlib import Path

from PIL import Image, ImageDraw, ImageOps

HERE = Path(__file__).parent
INPUT_DIR = Path(os.environ.get("INPUT_DIR", HERE / "photos"))
OUTPUT_DIR = Path(os.environ.get("OUTPUT_DIR", HERE / "out"))
MOST_PIXELS = 50_000_000  # a small file can unpack to far more: a decompression bomb
OPERATIONS = ["thumbnail", "resize", "grayscale", "rotate", "watermark"]


class Rejected(Exception):
    """This task can never succeed; the message says why."""


def read_task(body):
    """Turn the body from the queue into a task: a dict with an `id` (a UUID), an `image` and an `operation`."""
    try:
        task = json.loads(body)
        uuid.UUID(task["id"])
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise Rejected("the body is not a JSON object with a UUID as its id") from None
    for field in ("image", "operation"):
        if not isinstance(task.get(field), str):
            raise Rejected(f"the task has no {field}")
    return task


def process(task):
    """Do the task's operation on its image; return the file written, OUTPUT_DIR/<id>.<jpg or png>.

    The same task done twice writes the same file. The file appears whole: it is renamed into place.
    """
    if task["operation"] not in OPERATIONS:
        raise Rejected(f"no operation is called {task['operation']!r}; there are {', '.join(OPERATIONS)}")
    source = inside_input(task["image"])
    with open_image(source) as image:
        result = operate(ImageOps.exif_transpose(image), task["operation"])
    form = "PNG" if source.suffix.lower() == ".png" else "JPEG"
    target = OUTPUT_DIR / f"{task['id']}.{'png' if form == 'PNG' else 'jpg'}"
    OUTPUT_DIR.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{os.getpid()}")
    result.convert("RGB").save(draft, form)
    os.replace(draft, target)
    return target


def inside_input(name):
    """The path of a file in INPUT_DIR, or Rejected: a task must not read the rest of the disk."""
    folder = INPUT_DIR.resolve()
    try:
        path = (folder / name).resolve()
        there = path.is_file()
    except (OSError, ValueError):  # such as a name that is too long for any file
        raise Rejected(f"{name!r:.60} is not a file name") from None
    if not path.is_relative_to(folder):
        raise Rejected(f"{name!r} leaves the input folder")
    if not there:
        raise Rejected(f"there is no image {name!r}")
    return path


def open_image(path):
    """Open and unpack an image, or Rejected when it is none, is cut short, or is too large to unpack."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we count for ourselves
            image = Image.open(path)
        if image.width * image.height > MOST_PIXELS:
            raise Rejected(f"{path.name} unpacks to {image.width * image.height:,} pixels: a bomb")
        image.load()
    except Image.DecompressionBombError:
        raise Rejected(f"{path.name} unpacks to far too many pixels: a bomb") from None
    except (OSError, SyntaxError, ValueError):
        raise Rejected(f"{path.name} is not an image that can be read") from None
    return image


def operate(image, operation):
    """The picture after one operation."""
    if operation == "thumbnail":
        image.thumbnail((160, 160))
        return image
    if operation == "resize":
        return image.resize((max(1, image.width // 2), max(1, image.height // 2)), Image.Resampling.LANCZOS)
    if operation == "grayscale":
        return ImageOps.grayscale(image)
    if operation == "rotate":
        return image.transpose(Image.Transpose.ROTATE_90)
    marked = image.convert("RGB")
    size = max(10, marked.width // 12)
    ImageDraw.Draw(marked).text((size // 2, size // 2), "labs", fill="white", font_size=size)
    return marked


def photos():
    """The names of the photographs in INPUT_DIR."""
    if not INPUT_DIR.is_dir():
        return []
    return sorted(
        path.name for path in INPUT_DIR.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png")
    )


if __name__ == "__main__":
    from samples import fill

    print(f"{fill(INPUT_DIR)} photographs are in {INPUT_DIR}")
