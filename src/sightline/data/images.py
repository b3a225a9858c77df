"""Image cells → RGB pictures, from data that may be damaged or meant to do harm.

Nothing is decoded but PNG, JPEG and WebP; no picture larger than a limit of our own; no file
outside the data's folder; nothing from the network. Whatever is wrong ends in a ValueError.
"""

import io
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "WEBP")
# 150 MB decoded; a Qwen processor scales everything down to 13 million
MAX_PIXELS = 50_000_000
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=//)|(data|file|http|https|javascript):", re.I)


@dataclass(frozen=True)
class Limits:
    """What an image cell may ask for.

    Args:
        root: the folder that paths are relative to and must not leave; None where no path is
            expected.
        max_pixels: width times height, checked before anything is decoded.
        allow_outside_root: whether a path may lead anywhere on this machine.
    """

    root: Path | None = None
    max_pixels: int = MAX_PIXELS
    allow_outside_root: bool = False

    def __post_init__(self):
        if not self.max_pixels >= 1:
            raise ValueError(f"max_pixels must be at least 1, got {self.max_pixels}")


def cells_of(value: Any) -> list[Any]:
    """The image cells in a row's column, be it one, several in a list, or none."""
    if value is None or _is_empty(value):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def name_of(cell: Any) -> str:
    """The path of an image cell, or what it is if it has none."""
    path = cell.get("path") if isinstance(cell, dict) else cell
    if isinstance(path, str | Path):
        return str(path)
    if cell is None or _is_empty(cell):
        return "nothing"
    return "given as a picture" if isinstance(cell, Image.Image) else "given as bytes"


def decode(cell: Any, limits: Limits | None = None) -> Image.Image:
    """The picture of an image cell, in RGB and the right way up.

    Args:
        cell: a path, bytes, `{"bytes", "path"}` as the `datasets` library stores it (where there
            are bytes, the path is only a name), or a PIL picture.

    Raises:
        ValueError: with the reason why there is no picture, for whatever is wrong with it.
    """
    limits = limits or Limits()
    source = cell if isinstance(cell, Image.Image) else _opened(cell, limits)
    try:
        if isinstance(source, Image.Image):
            return _decoded(source, limits)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is wrong is raised; the limit is our own
            with Image.open(source, formats=FORMATS) as image:
                return _decoded(image, limits)
    except ValueError:
        raise
    except UnidentifiedImageError as error:  # whose text holds an address in memory
        raise ValueError("it is not a readable PNG, JPEG or WebP picture") from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"{error}; max_pixels is {limits.max_pixels:,}") from error
    # damaged bytes make decoders and EXIF readers raise nearly anything
    except Exception as error:
        raise ValueError(f"it cannot be decoded: {type(error).__name__}: {error}") from error


def content(cell: Any, limits: Limits) -> bytes:
    """The bytes of an image cell that `check` accepts."""
    source = _opened(cell, limits)
    return source.getvalue() if isinstance(source, io.BytesIO) else source.read_bytes()


def check(cell: Any, limits: Limits) -> None:
    """Raise ValueError for a cell that can be told to be wrong without decoding it."""
    if not isinstance(cell, Image.Image):
        _opened(cell, limits)


def stored(cell: Any, limits: Limits) -> dict[str, Any]:
    """A cell that `check` accepts as `{"bytes", "path"}`, for Arrow; a PIL picture as a PNG."""
    if isinstance(cell, Image.Image):
        buffer = io.BytesIO()
        decode(cell, limits).save(buffer, format="PNG", compress_level=1)
        return {"bytes": buffer.getvalue(), "path": None}
    if isinstance(cell, dict):
        return {"bytes": cell.get("bytes"), "path": cell.get("path")}
    is_path = isinstance(cell, str | Path)
    return {"bytes": None if is_path else bytes(cell), "path": str(cell) if is_path else None}


def locate(name: str, limits: Limits) -> Path:
    """The file that `name` means, its links followed, below the root.

    Raises:
        ValueError: it is no such file, or it is not the data's own.
    """
    if "\0" in name:
        raise ValueError("its path holds a NUL byte")
    if URL.match(name):
        raise ValueError("it is a URL: nothing is fetched from the network, download it first")
    if limits.root is None and not (limits.allow_outside_root and Path(name).is_absolute()):
        raise ValueError("it is a path, and this data has no folder: give root")
    try:
        # an absolute name is left as it is by the slash
        path = ((limits.root or Path("/")) / name).resolve()
        inside = limits.root is not None and path.is_relative_to((limits.root or Path()).resolve())
        found = path.is_file()
    except (OSError, RuntimeError, UnicodeError) as error:  # links in a circle, names too long
        raise ValueError(f"its path cannot be followed: {type(error).__name__}") from error
    if not inside and not limits.allow_outside_root:
        raise ValueError(
            f"its path leaves the folder {limits.root}: keep images below it, or let paths lead "
            "anywhere with allow_outside_root=True (--allow-outside-root)"
        )
    if not found:
        raise ValueError(
            "there is no such file" + (f" in {(limits.root or Path()).resolve()}" if inside else "")
        )
    return path


def to_rgb(image: Image.Image) -> Image.Image:
    """`image` in 8-bit RGB: 16-bit grey scaled, transparency on white, palettes looked up."""
    if image.mode.startswith("I;16"):
        image = _eight_bit(image)
    if image.mode in ("I", "F", "LAB"):  # whose range or meaning nobody has written down
        raise ValueError(f"mode {image.mode} has no agreed way to RGB: store it as 8-bit RGB")
    if image.mode in ("La", "RGBa"):  # multiplied by alpha
        image = image.convert(image.mode.upper())
    transparent = image.info.get("transparency")
    if isinstance(transparent, tuple) and max(transparent) > 255:
        raise ValueError("a transparent colour in 16 bits has no place among 8: store it as RGBA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    picture = image.convert("RGB")
    picture.info = {}  # of no more use: colour profile, EXIF, the colour that was transparent
    return picture


def _opened(cell: Any, limits: Limits) -> io.BytesIO | Path:
    """What PIL is to open: bytes, or a file that we may read."""
    if cell is None or _is_empty(cell):
        raise ValueError(
            f"one of its images is nothing ({'null' if cell is None else repr(cell)}): give a "
            "picture in its place, or take it out of the list; a row without images has []"
        )
    if isinstance(cell, dict):
        cell = cell["bytes"] if cell.get("bytes") is not None else cell.get("path")
    if isinstance(cell, bytes | bytearray | memoryview):
        if not len(cell):
            raise ValueError("it has no bytes")
        return io.BytesIO(cell)
    if isinstance(cell, str | Path) and str(cell):
        return locate(str(cell), limits)
    raise ValueError(
        f"it must be a path, bytes, {{'bytes', 'path'}} or a PIL picture, got {type(cell).__name__}"
    )


def _decoded(image: Image.Image, limits: Limits) -> Image.Image:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ValueError(
            f"it has {width} x {height} pixels, more than max_pixels={limits.max_pixels:,}"
        )
    if width * height == 0:
        raise ValueError(f"it is empty: {width} x {height} pixels")
    # both go through all the pixels: a header says nothing about the rest
    return to_rgb(ImageOps.exif_transpose(image))


def _eight_bit(image: Image.Image) -> Image.Image:
    """16-bit grey → 8-bit grey by scaling; PIL's own conversion cuts off at 255."""
    wide = np.asarray(image).astype(np.int64)
    grey = ((wide + 128) // 257).astype(np.uint8)  # 65535 / 255 = 257, rounded to the nearest
    transparent = image.info.get("transparency")
    if transparent is not None:  # one grey value; white, as all that is transparent
        grey[wide == transparent] = 255
    return Image.fromarray(grey)


def _is_empty(value: Any) -> bool:
    """Whether this stands for no image, as Arrow and tables write it."""
    if isinstance(value, dict):
        return value.get("bytes") is None and not value.get("path")
    return isinstance(value, str) and not value
