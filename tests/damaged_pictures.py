"""Pictures of many kinds that something has happened to, the same ones on every run."""

import io
import random

import numpy as np
from PIL import Image


def saved(picture, kind="PNG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, **options)
    return buffer.getvalue()


def damaged(kinds, count):
    """`count` files that something happened to, the same on every run."""
    rng = random.Random(0)
    for number in range(count):
        kind, data = rng.choice(kinds)
        data = bytearray(data)
        harm = ("truncate", "flip", "zeros", "swap", "insert", "rubbish")[number % 6]
        at = rng.randrange(len(data))
        if harm == "truncate":
            data = data[:at]
        elif harm == "flip":
            for _ in range(rng.randint(1, 20)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif harm == "zeros":
            length = rng.randint(1, 60)
            data[at : at + length] = bytes(len(data[at : at + length]))
        elif harm == "swap":
            data = data[at:] + data[:at]
        elif harm == "insert":
            data[at:at] = rng.randbytes(rng.randint(1, 40))
        else:
            data = data[:12] + rng.randbytes(len(data))
        # the extension says something else in half of the cases
        yield f"{number}-{harm}.{rng.choice([kind, 'png', 'jpg', 'txt'])}", bytes(data)


def fuzzed():
    noise = np.random.default_rng(1).integers(0, 255, (9, 12, 3), np.uint8)
    picture = Image.fromarray(noise)
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = [
        ("png", saved(picture)),
        ("png", saved(picture.convert("P"), transparency=3)),
        ("png", saved(Image.fromarray(noise[..., 0].astype(np.uint16) * 200))),
        ("png", saved(picture, save_all=True, append_images=[picture.rotate(90)])),
        ("jpg", saved(picture, "JPEG", exif=exif)),
        ("jpg", saved(picture.convert("CMYK"), "JPEG", progressive=True)),
        ("webp", saved(picture, "WEBP", exif=exif)),
        ("webp", saved(picture.convert("RGBA"), "WEBP", lossless=True)),
    ]
    return list(damaged(kinds, 300))
