"""Draws `airplane.jpg`, the image of the README and the tests, and the console's three samples.

`python tests/data/draw_airplane.py`
"""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

WIDTH, HEIGHT = 480, 360
SAMPLES = Path(__file__).parents[2] / "service/api/console/static/samples"


def sky() -> Image.Image:
    """A blue gradient with soft clouds."""
    generator = np.random.default_rng(3)
    height = np.linspace(0.0, 1.0, HEIGHT)[:, None, None]
    top, bottom = np.array([86, 142, 206]), np.array([186, 214, 238])
    gradient = np.broadcast_to(top + (bottom - top) * height, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    clouds = Image.fromarray(generator.integers(0, 256, (9, 12), dtype=np.uint8), "L")
    mask = clouds.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).point(lambda value: max(0, value - 140))
    return Image.composite(Image.new("RGB", (WIDTH, HEIGHT), "white"), Image.fromarray(gradient), mask)


def airplane(draw: ImageDraw.ImageDraw) -> None:
    """An airliner seen from the side, nose to the right."""
    draw.polygon([(118, 168), (84, 92), (116, 92), (170, 168)], fill=(206, 62, 54))  # fin
    draw.polygon([(104, 186), (62, 158), (92, 158), (150, 186)], fill=(176, 182, 190))  # tailplane
    draw.polygon([(236, 190), (168, 120), (200, 120), (300, 188)], fill=(190, 196, 204))  # far wing
    draw.rounded_rectangle((96, 164, 396, 216), radius=26, fill=(240, 242, 245))  # fuselage
    draw.polygon([(92, 190), (60, 172), (130, 166), (130, 214)], fill=(240, 242, 245))  # tail cone
    draw.polygon([(372, 165), (428, 192), (372, 215)], fill=(240, 242, 245))  # nose
    draw.polygon([(384, 172), (406, 182), (384, 184)], fill=(58, 74, 96))  # cockpit
    for x in range(150, 370, 14):
        draw.rectangle((x, 180, x + 6, 188), fill=(70, 92, 120))
    draw.polygon([(226, 204), (142, 284), (176, 284), (306, 206)], fill=(164, 170, 178))  # near wing
    draw.ellipse((206, 228, 256, 250), fill=(110, 118, 128))  # engine


def far_away(image: Image.Image, *, width: int) -> Image.Image:
    """The airplane so many pixels wide, in the middle of its sky."""
    small = image.crop((40, 80, 440, 300)).resize((width, width * 55 // 100))
    scene = sky()
    scene.paste(small, (150, 100))
    return scene


def save_samples(image: Image.Image) -> None:
    """Write pictures that are harder one after the other: a model should look longer at each."""
    pictures = {
        "day": image,
        "far": far_away(image, width=90),
        "dusk": ImageEnhance.Brightness(far_away(image, width=180)).enhance(0.55),
    }
    for name, picture in pictures.items():
        picture.resize((320, 240), Image.Resampling.LANCZOS).save(SAMPLES / f"{name}.jpg", quality=85)


def main() -> None:
    """Write all pictures."""
    image = sky()
    airplane(ImageDraw.Draw(image))
    image = image.filter(ImageFilter.GaussianBlur(1.2))
    noise = np.random.default_rng(5).normal(0, 4, (HEIGHT, WIDTH, 3))
    pixels = np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8)
    drawn = Image.fromarray(pixels)
    drawn.save(Path(__file__).with_name("airplane.jpg"), quality=88)
    save_samples(drawn)


if __name__ == "__main__":
    main()
