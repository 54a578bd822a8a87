"""Invented pictures of the kinds that reg sets hold: figures before white, shapes on gradients, textures, rehearsals.

`picture` gives the same picture for the same number, and another one for every other.
"""

from __future__ import annotations

import io
import math
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageOps

from reggen.sim import paint

Colour = tuple[int, int, int]


def rehearsal(number: int, side: int = 512) -> Image.Image:
    """A picture as the stand-in paints it."""
    return Image.open(io.BytesIO(paint("a cat", number, side, side))).convert("RGB")


def picture(number: int, side: int = 512) -> Image.Image:
    """A picture of one of the kinds, in turn."""
    chance = random.Random(number)
    return _KINDS[number % len(_KINDS)](chance, side)


def _colour(chance: random.Random) -> Colour:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


def _gradient(chance: random.Random, side: int) -> Image.Image:
    grey = Image.radial_gradient("L") if chance.random() < 0.5 else Image.linear_gradient("L")
    turned = grey.rotate(chance.uniform(0, 360), Image.Resampling.BICUBIC, fillcolor=chance.randrange(256))
    return ImageOps.colorize(turned.resize((side, side)), _colour(chance), _colour(chance))


def _shapes(chance: random.Random, side: int) -> Image.Image:
    image = _gradient(chance, side)
    draw = ImageDraw.Draw(image)
    for _ in range(chance.randrange(3, 14)):
        x, y = chance.randrange(side), chance.randrange(side)
        wide, high = (chance.randrange(side // 25, side // 2) for _ in range(2))
        box = (x - wide // 2, y - high // 2, x + wide // 2, y + high // 2)
        (draw.ellipse if chance.random() < 0.5 else draw.rectangle)(box, fill=_colour(chance))
    return image


def _texture(chance: random.Random, side: int) -> Image.Image:
    cells = chance.choice([4, 8, 16, 32])
    noise = Image.frombytes("RGB", (cells, cells), chance.randbytes(3 * cells * cells))
    smooth = noise.resize((side, side), Image.Resampling.BICUBIC)
    return Image.blend(smooth, _gradient(chance, side), chance.uniform(0, 0.7))


def _figure(chance: random.Random, side: int) -> Image.Image:
    """A person standing before a white wall."""
    image = Image.new("RGB", (side, side), (255, 255, 255))
    draw, unit = ImageDraw.Draw(image), side / 100
    skin = (chance.randrange(200, 255), chance.randrange(170, 230), chance.randrange(150, 210))
    hair, coat, skirt = _colour(chance), _colour(chance), _colour(chance)
    middle, head, top = 50 + chance.gauss(0, 2.5), chance.uniform(9, 13), chance.uniform(5, 14)

    def oval(x: float, y: float, wide: float, high: float, fill: Colour) -> None:
        draw.ellipse([edge * unit for edge in (x - wide, y - high, x + wide, y + high)], fill=fill)

    def band(above: float, below: float, y: float, to: float, fill: Colour) -> None:
        corners = ((middle - above, y), (middle + above, y), (middle + below, to), (middle - below, to))
        draw.polygon([(x * unit, down * unit) for x, down in corners], fill=fill)

    def limb(x: float, y: float, tilt: float, length: float, fill: Colour) -> None:
        end = (x + math.sin(tilt) * length, y + math.cos(tilt) * length)
        draw.line([(x * unit, y * unit), (end[0] * unit, end[1] * unit)], fill=fill, width=round(5 * unit))

    oval(middle, top + head, head * chance.uniform(1.0, 1.5), head * chance.uniform(1.0, 1.5), hair)
    oval(middle, top + head + 1, head, head - 1, skin)
    shoulders, waist = chance.uniform(14, 22), chance.uniform(9, 15)
    neck = top + 2 * head - 1
    hip, hem = neck + chance.uniform(22, 30), neck + chance.uniform(34, 52)
    for sign in (-1, 1):
        limb(middle + sign * 6, hem, sign * chance.uniform(0, 0.2), 98 - hem, chance.choice([skin, skirt]))
        limb(middle + sign * shoulders, neck + 2, sign * chance.uniform(-0.3, 0.9), 34, chance.choice([skin, coat]))
        oval(middle + sign * 4, top + head + 1, 1.5, 1.5, _colour(chance))
    band(shoulders, waist, neck, hip, coat)
    band(waist, waist + chance.uniform(0, 8), hip, hem, skirt)
    return image


_KINDS: tuple[Callable[[random.Random, int], Image.Image], ...] = (_figure, _shapes, _figure, _texture)


# ---- near duplicates


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    """The picture after a JPEG of this quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def cut(image: Image.Image, share: float, x: float = 0.5, y: float = 0.5) -> Image.Image:
    """The picture without a share of its width and height; x and y are the parts of it cut on the left and on top."""
    wide, high = image.size
    left, top = round(wide * share * x), round(high * share * y)
    return image.crop((left, top, left + round(wide * (1 - share)), top + round(high * (1 - share))))


def scaled(image: Image.Image, share: float) -> Image.Image:
    """The picture scaled."""
    return image.resize((round(image.width * share), round(image.height * share)), Image.Resampling.LANCZOS)


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG q60": lambda image: jpeg(image, 60),
    "JPEG q85": lambda image: jpeg(image, 85),
    "cut 2 %": lambda image: cut(image, 0.02),
    "cut 5 %": lambda image: cut(image, 0.05),
    "cut 5 % at a corner": lambda image: cut(image, 0.05, 0, 1),
    "cut 5 %, JPEG q75": lambda image: jpeg(cut(image, 0.05, 0.2, 0.7), 75),
    "resized to 90 %": lambda image: scaled(image, 0.9),
    "8 % brighter": lambda image: image.point(lambda value: min(255, int(value * 1.08))),
}
