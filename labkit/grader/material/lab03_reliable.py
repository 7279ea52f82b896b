"""Lab 3: small photographs to work on, tasks that ask for it, and what the outputs must look like."""

import io
import struct
import uuid
import zlib
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.course import lab
from labkit.grader.files import content, is_filled

if TYPE_CHECKING:
    from labkit.grader.scene import Scene

PHOTOS = ["dawn.jpg", "harbor.jpg", "meadow.png"]
OPERATIONS = ["thumbnail", "resize", "grayscale", "rotate", "watermark"]


def _asking(**fields: str) -> dict:
    return {"id": str(uuid.uuid4()), "image": "dawn.jpg", "operation": "rotate"} | fields


BAD_TASKS: dict[str, bytes | dict] = {
    "a body that is not JSON": b"resize dawn.jpg please",
    "bytes that are not UTF-8": b"\xff\xfe\x00rotate",
    "a JSON list": b"[1, 2, 3]",
    "an object without an id": b'{"image": "dawn.jpg", "operation": "rotate"}',
    "JSON nested 20,000 deep": b"[" * 20_000,
    "a task without an image": {"id": str(uuid.uuid4()), "operation": "rotate"},
    "an operation that does not exist": _asking(operation="sharpen"),
    "an image that is not there": _asking(image="noon.jpg"),
    "a name that is too long for a file": _asking(image="dawn" * 100 + ".jpg"),
    "a file that is no image": _asking(image="notes.jpg"),
    "an image cut short": _asking(image="torn.jpg"),
    "a decompression bomb": _asking(image="bomb.png"),
    "a path that leaves the input folder": _asking(image="../secret.png"),
}


def prepare(folder: Path) -> None:
    """Draw some photographs, and put beside them files that are no images, or that are bombs."""
    from PIL import Image

    across = Image.linear_gradient("L").resize((240, 180))
    for turn, name in enumerate(PHOTOS):
        bands = [across.rotate(angle + 40 * turn) for angle in (0, 90, 180)]
        Image.merge("RGB", bands).save(folder / name)
    (folder / "notes.jpg").write_bytes(b"This is no photograph.\n")
    (folder / "torn.jpg").write_bytes((folder / "dawn.jpg").read_bytes()[:600])
    (folder / "bomb.png").write_bytes(png_of_zeros(30_000, 30_000))
    (folder.parent / "secret.png").write_bytes((folder / "meadow.png").read_bytes())


def png_of_zeros(width: int, height: int) -> bytes:
    """A valid PNG of a few bytes that says it unpacks to width x height pixels. Format: the PNG specification."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * 100_000, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def new_task(scene) -> dict:
    """An ordinary task; which photograph and which operation is up to the scene's seed."""
    return {
        "id": str(uuid.UUID(int=scene.random.getrandbits(128), version=4)),
        "image": scene.random.choice(PHOTOS),
        "operation": scene.random.choice(OPERATIONS),
    }


def expected_image(inputs: Path, task: dict) -> bytes:
    """The pixels that the course's own images.py makes of the task, as the bytes of a file of the same kind."""
    from PIL import Image, ImageOps

    module: dict = {"__name__": "images", "__file__": str(lab(3).given_folder / "images.py")}
    exec(
        (lab(3).given_folder / "images.py").read_text(), module
    )  # the course's own file, not the submission's
    with Image.open(inputs / task["image"]) as image:
        image.load()
        result = module["operate"](ImageOps.exif_transpose(image), task["operation"])
    saved = io.BytesIO()
    result.convert("RGB").save(saved, "PNG" if task["image"].endswith("png") else "JPEG")
    return saved.getvalue()


def left_by(outputs: Path, task_id: str) -> bool:
    """Whether there is a picture of this task."""
    return any(is_filled(outputs / f"{task_id}.{form}") for form in ("jpg", "png"))


def expect_right_pictures(scene: "Scene") -> None:
    """Each operation on each photograph leaves one file, with the picture in it that the course's own work makes."""
    wanted = [
        {"id": str(uuid.uuid4()), "image": image, "operation": operation}
        for image, operation in product(PHOTOS, OPERATIONS)
    ]
    scene.push(*wanted)
    scene.start("worker.py", "alice")
    scene.wait_done()
    files = list(scene.outputs.iterdir())
    written = {path.stem: path for path in files}
    scene.expect(
        len(files) == len(wanted),
        f"{len(wanted)} pictures were asked for; {len(files)} files are in the output folder.",
        question="What else does your worker write there?",
        task=None,
    )
    for number, task in enumerate(wanted, start=1):
        picture = written.get(task["id"])
        scene.expect(
            picture and content(picture) == expected_image(scene.run.inputs, task),
            f"{task['operation']} of {task['image']} is not the picture it should be.",
            question="Was the work given the task just as it was in the queue?",
            task=number,
        )
