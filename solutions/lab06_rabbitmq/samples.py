"""Pictures to work on: a photograph that matplotlib ships, and landscapes drawn here.   Run: python images.py

The photograph, grace_hopper.jpg, was taken by the United States Navy and is in the public domain
(commons.wikimedia.org/wiki/File:Grace_Hopper.jpg). The landscapes come out the same each time.
"""

import importlib.util
import math
import os
import random
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw, ImageFilter

WIDTH, HEIGHT = 3000, 2000
# colors of the sky and of the hills; x, y, radius, color of the sun; horizon, height of the hills; kind
SCENES = """
blue_ridges     #3f7fc0 #8fbbe0 #d4e6f0 #f6efe2 #c5dbe9 #5f93b4 #0c2737 .23 .20 .040 #fffdf2 .44 .16 pines
first_light     #24406e #7d86b0 #f2b191 #ffe2b0 #f9cda6 #9a6a86 #17182f .64 .37 .045 #fff6dc .53 .13 pines
lake_at_dusk    #1c1d4a #6a3a7c #e0637a #ffb56b #b65a83 #5c2a63 #120f2b .68 .48 .040 #fff0c4 .56 .15 lake
moonlit_pines   #060b22 #11224e #2a4a80 #6f93b8 #4a70a0 #20375f #050a18 .27 .24 .030 #fdf8e4 .56 .13 night
northern_lights #030614 #07142c #0c2a44 #1b6a6c #14485e #0a2438 #02060f .86 .12 .010 #f4f8ff .64 .14 aurora
red_dunes       #2f6fa8 #86b5cf #f3d6a6 #ffdf9e #f0bd7c #c26c38 #4a1a10 .76 .27 .045 #fffbea .50 .08 dunes
"""


def fill(folder):
    """Put pictures into the folder unless there are some already; return how many are there."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not count(folder):
        package = importlib.util.find_spec("matplotlib")  # finds it without importing it
        photo = package and Path(package.origin).parent / "mpl-data/sample_data/grace_hopper.jpg"
        if photo and photo.is_file():
            save(Image.open(photo), folder / photo.name)
        for scene in SCENES.strip().splitlines():
            save(landscape(*scene.split()), folder / f"{scene.split()[0]}.jpg")
    return count(folder)


def count(folder):
    return sum(path.suffix.lower() in (".jpg", ".jpeg", ".png") for path in folder.iterdir())


def save(picture, path):
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    picture.save(draft, "JPEG", quality=90)
    os.replace(draft, path)  # nobody ever sees half a picture


def landscape(name, *words):
    """Draw one of the SCENES, from the sky to the nearest hill. Lengths are parts of the width or height."""
    sky, hills, light, kind = words[:4], words[4:7], words[10], words[13]
    x, y, radius, horizon, height = (float(word) for word in (*words[7:10], *words[11:13]))
    rng, ground, water = random.Random(name), int(HEIGHT * horizon), kind in ("lake", "aurora")
    picture = Image.new("RGB", (WIDTH, HEIGHT), sky[-1])
    picture.paste(gradient(sky, WIDTH, ground), (0, 0))
    if kind in ("night", "aurora"):
        stars(picture, rng)
    if kind == "aurora":
        picture = ImageChops.screen(picture, aurora(rng))
    for size, strength in ((12, 0.5), (4, 0.6), (1, 60)):  # a wide glow, a narrow one, and the disc
        shine(picture, x, y, radius * size, light, strength)
    layers = 4 if water else 7
    shades = gradient(hills, 1, 101)
    for near in (layer / (layers - 1) for layer in range(layers)):  # from 0, far away, to 1
        base = ground if water else ground + 0.42 * HEIGHT * near**1.4
        top = skyline(rng, base, HEIGHT * height * (1 - near / 3), 3 if kind == "dunes" else 8)
        shape = Image.new("L", picture.size)
        draw = ImageDraw.Draw(shape)
        draw.polygon([(0, HEIGHT), *top, (WIDTH, HEIGHT)], 255)
        for x, y in top[::3] if kind in ("pines", "night") and near > 0.6 else []:
            pine(draw, x, y + 20, rng.uniform(0.3, 1) * 160 * near**4)
        color, mist = (shades.getpixel((0, int(100 * near * part))) for part in (1, 0.6))
        body = Image.new("RGB", picture.size, mist)  # hills fade into the mist below them
        body.paste(gradient([color, mist], WIDTH, 700), (0, int(min(y for _, y in top)) - 100))
        picture.paste(body, mask=shape)
    if water:
        mirror(picture, ground)
    return picture


def gradient(colors, width, height):
    """The colors below one another, blended."""
    strip = Image.new("RGB", (1, len(colors)))
    for row, color in enumerate(colors):
        strip.paste(color, (0, row, 1, row + 1))
    return strip.resize((width, height), Image.Resampling.BILINEAR, (0, 0.5, 1, len(colors) - 0.5))


def shine(picture, x, y, radius, color, strength):
    """Light around a point; it fades outward, or has a sharp edge when it is strong."""
    far, size = Image.radial_gradient("L"), int(2 * radius * WIDTH)
    edge = far.getpixel((0, 128)) - 2
    mask = far.resize((size, size)).point(lambda v: min(255, 255 * strength * max(0, 1 - v / edge) ** 2))
    picture.paste(color, (int(x * WIDTH) - size // 2, int(y * HEIGHT) - size // 2), mask)


def skyline(rng, base, height, waves):
    """Points from left to right: a sum of sines, each half as high and twice as fast as the one before."""
    sines = [(height / 2**k, 2**k * rng.uniform(2.5, 4) / WIDTH, rng.uniform(0, 7)) for k in range(waves)]
    return [(x, base - sum(a * math.sin(b * x + c) for a, b, c in sines)) for x in range(0, WIDTH + 4, 4)]


def pine(draw, x, foot, height):
    for part in (0, 0.25, 0.5):
        y, half = foot - height * part, height * 0.22 * (1 - part)
        draw.polygon([(x - half, y), (x + half, y), (x, y - height / 2)], 255)


def stars(picture, rng):
    draw = ImageDraw.Draw(picture)
    for _ in range(900):
        x, y, size = rng.random() * WIDTH, rng.random() ** 1.5 * HEIGHT * 0.6, rng.random() ** 6 * 4 + 0.5
        color = rng.choice(["#ffffff", "#cfe0ff", "#ffe9c9", "#7f96c0"])
        draw.ellipse((x - size, y - size, x + size, y + size), color)


def aurora(rng):
    """Three curtains of light, drawn small, column by column."""
    light = Image.new("RGB", (WIDTH // 4, HEIGHT // 4))
    ray = gradient(["#000000", "#1a0a30", "#135c5c", "#2fe08c", "#000000"], 1, 190)
    for top in (130, 60, -10):
        a, b, c, d = (rng.uniform(0, 7) for _ in range(4))
        curtain = Image.new("RGB", light.size)
        for x in range(light.width):
            t = x / light.width
            folds = 0.6 + 0.25 * math.sin(40 * t + a + 6 * math.sin(7 * t + b)) + 0.15 * math.sin(150 * t + d)
            strength = folds * (0.55 + 0.45 * math.sin(4 * t + c))
            y = top + 40 * math.sin(4 * t + d) + 14 * math.sin(9 * t + a)
            curtain.paste(ray.point(lambda v, s=strength: v * s), (x, int(y)))
        light = ImageChops.screen(light, curtain.filter(ImageFilter.GaussianBlur(2)))
    return light.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def mirror(picture, ground):
    """Below the horizon, the world again: upside down, darker, and broken by ripples."""
    world = picture.crop((0, 2 * ground - HEIGHT, WIDTH, ground)).transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    world = world.point(lambda v: v * 0.75).resize((WIDTH + 200, world.height))  # wider: ripples move it
    y = 0
    while y < world.height:
        row, left = 2 + y // 60, 100 + int((2 + y / 25) * math.sin(0.9 * y) + y / 40 * math.sin(0.23 * y))
        picture.paste(world.crop((left, y, left + WIDTH, y + row)), (0, ground + y))
        y += row
