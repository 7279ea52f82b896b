"""Pictures to work on: a photograph that matplotlib ships, and landscapes drawn here.   Run: python images.py

The photograph is grace_hopper.jpg, Commodore Grace M. Hopper, taken by the United States Navy and so in the public
domain (commons.wikimedia.org/wiki/File:Grace_Hopper.jpg). The landscapes come out the same each time.
"""

import importlib.util
import math
import os
import random
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

WIDTH, HEIGHT = 3000, 2000
# sky from the top down; mist, nearest hill; sun or moon: x, y, radius, color; horizon; height of the hills; and more
SCENES = """
blue_ridges     #3f7fc0 #8fbbe0 #d4e6f0 #f6efe2  #c5dbe9 #0e2a3c  .24 .26 .040 #fffdf2  .44 .17 pines
first_light     #24406e #7d86b0 #f2b191 #ffe2b0  #f7c9a4 #1d2138  .64 .40 .045 #fff6dc  .52 .13 pines
lake_at_dusk    #1c1d4a #6a3a7c #e0637a #ffb56b  #b65a83 #120f2b  .36 .44 .040 #fff0c4  .56 .16 lake
moonlit_pines   #060b22 #11224e #2a4a80 #6f93b8  #3d628f #050a18  .27 .24 .035 #fdf8e4  .56 .13 stars+pines
northern_lights #030614 #07142c #0c2a44 #1b6a6c  #12405a #02060f  .82 .14 .012 #f4f8ff  .62 .15 stars+aurora+lake
red_dunes       #2f6fa8 #86b5cf #f3d6a6 #ffdf9e  #eebd80 #5a2413  .76 .30 .045 #fffbea  .50 .07 dunes
"""


def fill(folder):
    """Put pictures into the folder unless there are some already; return how many are there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not images_in(folder):
        package = importlib.util.find_spec("matplotlib")  # finds it without importing it
        photo = package and Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg"
        if photo and photo.is_file():
            save_whole(Image.open(photo), folder / photo.name)
        for scene in SCENES.split("\n")[1:-1]:
            save_whole(landscape(*scene.split()), folder / f"{scene.split()[0]}.jpg")
    return images_in(folder)


def images_in(folder):
    return sum(path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in folder.iterdir())


def save_whole(picture, path):
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    picture.save(draft, "JPEG", quality=90)
    os.replace(draft, path)  # nobody ever sees half a picture


def landscape(name, *words):
    """Draw one scene, from the sky to the nearest hill."""
    *sky, mist, near, x, y, radius, light, horizon, rise, more = words
    x, y, radius, horizon, rise = (float(word) for word in (x, y, radius, horizon, rise))
    rng = random.Random(name)
    ground = int(HEIGHT * horizon)
    picture = Image.new("RGB", (WIDTH, HEIGHT), near)
    picture.paste(gradient(sky, WIDTH, ground + 150), (0, 0))
    if "stars" in more:
        stars(picture, rng)
    if "aurora" in more:
        aurora(picture, rng)
    for size, strength in ((12, 0.5), (4, 0.6)):
        shine(picture, x, y, radius * size, light, strength)
    disc(picture, x, y, radius, light)
    layers = 4 if "lake" in more else 7
    for layer in range(layers):
        nearness = layer / (layers - 1)
        base = ground if "lake" in more else ground + HEIGHT * 0.42 * nearness**1.4
        hill(picture, rng, base, rise * (1 - nearness / 3), mist, near, nearness, more)
    if "lake" in more:
        reflect(picture, ground)
    return picture


def gradient(colors, width, height):
    """The colors, one below the other, blended."""
    strip = Image.new("RGB", (1, len(colors)))
    for row, color in enumerate(colors):
        strip.paste(color, (0, row, 1, row + 1))
    return strip.resize((width, height), Image.Resampling.BILINEAR, (0, 0.5, 1, len(colors) - 0.5))


def stars(picture, rng):
    draw = ImageDraw.Draw(picture)
    for _ in range(900):
        x, y, size = rng.randrange(WIDTH), rng.random() ** 1.5 * HEIGHT * 0.55, rng.random() ** 6 * 4 + 0.5
        draw.ellipse((x - size, y - size, x + size, y + size), rng.choice(["#ffffff", "#cfe0ff", "#ffe9c9", "#8ea6d0"]))


def shine(picture, x, y, radius, color, strength):
    """Light that fades from a point."""
    size = int(2 * radius * WIDTH)
    mask = Image.radial_gradient("L").point(lambda far: int((255 - far) ** 2 / 255 * strength)).resize((size, size))
    picture.paste(color, (int(x * WIDTH) - size // 2, int(y * HEIGHT) - size // 2), mask)


def disc(picture, x, y, radius, color):
    size = int(2 * radius * WIDTH)
    mask = Image.radial_gradient("L").resize((size, size)).point(lambda far: max(0, min(255, (250 - far) * 40)))
    picture.paste(color, (int(x * WIDTH) - size // 2, int(y * HEIGHT) - size // 2), mask)


def hill(picture, rng, base, rise, mist, near, nearness, more):
    waves = 3 if "dunes" in more else 8
    parts = [(0.5**k * rise * HEIGHT, 2**k * rng.uniform(2.5, 4), rng.uniform(0, 7)) for k in range(waves)]
    top = [base - sum(a * math.sin(f * x / WIDTH + p) for a, f, p in parts) for x in range(0, WIDTH + 4, 4)]
    shape = Image.new("L", picture.size)
    draw = ImageDraw.Draw(shape)
    draw.polygon([(0, HEIGHT), *((4 * i, y) for i, y in enumerate(top)), (WIDTH, HEIGHT)], 255)
    if "pines" in more and nearness > 0.6:
        for i in range(0, len(top), 3):
            pine(draw, 4 * i, top[i] + 20, rng.uniform(30, 110) * nearness**3)
    highest = int(min(top)) - 120
    ends = gradient([mist, near], 1, 101)
    color = ends.getpixel((0, int(100 * nearness**0.8)))
    foot = ends.getpixel((0, int(100 * nearness**0.8 * 0.6)))
    body = Image.new("RGB", picture.size, foot)
    body.paste(gradient([color, foot], WIDTH, 700), (0, highest))
    picture.paste(body, (0, 0), shape)


def pine(draw, x, foot, height):
    for part in (0, 0.25, 0.5):
        width = height * 0.22 * (1 - part)
        y = foot - height * part
        draw.polygon([(x - width, y), (x + width, y), (x, y - height * 0.5)], 255)


def aurora(picture, rng):
    light = Image.new("RGB", (WIDTH // 4, HEIGHT // 4))
    for band in range(3):
        phases = [rng.uniform(0, 7) for _ in range(4)]
        for x in range(WIDTH // 4):
            t = x / 750
            y = 230 - 50 * band + 40 * math.sin(3 * t + phases[0]) + 20 * math.sin(9 * t + phases[1])
            strength = (0.5 + 0.5 * math.sin(5 * t + phases[2])) * (0.7 + 0.3 * math.sin(60 * t + phases[3] + 8 * math.sin(9 * t)))
            tall = 170
            curtain = gradient(["#000000", "#2a1050", "#108060", "#30e890", "#000000"], 1, tall)
            light.paste(curtain.point(lambda v: int(v * strength)), (x, int(y - tall)))
    light = light.filter(ImageFilter.GaussianBlur(2)).resize(picture.size, Image.Resampling.BICUBIC)
    picture.paste(ImageChops.screen(picture, light))


def reflect(picture, ground):
    """Below the horizon, the world again: upside down, darker, and rippled."""
    world = picture.crop((0, 2 * ground - HEIGHT, WIDTH, ground)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    world = world.point(lambda v: int(v * 0.75))
    y = 0
    while y < HEIGHT - ground:
        row = 2 + y // 60
        shift = int((2 + y / 25) * math.sin(y * 0.9) + (y / 40) * math.sin(y * 0.23))
        picture.paste(ImageChops.offset(world.crop((0, y, WIDTH, y + row)), shift, 0), (0, ground + y))
        y += row
