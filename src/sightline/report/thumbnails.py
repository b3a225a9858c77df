"""Pictures of a run folder as data URIs, decoded and encoded again by us, never linked."""

import base64
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

MAX_PIXELS = 2**24  # 4096 x 4096; checked before decoding: a PNG of 10 kB can hold gigabytes
SIDE = 320  # longest side of a thumbnail
HEAVY = 1 / 8  # bytes of a PNG per pixel from which on it is a photograph, and better a JPEG


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data URI, or the reason why it is not shown."""

    name: str
    uri: str = ""
    width: int = 0
    height: int = 0
    problem: str = ""


def thumbnail(run_dir: Path, name: str, side: int = SIDE) -> Thumbnail:
    """The picture ``name`` of a run folder, at most ``side`` pixels wide and high."""
    try:
        path = inside(run_dir, name)
        if path is None:
            return Thumbnail(name, problem="its path leaves the run folder, so it was not opened")
        if not path.is_file():
            return Thumbnail(name, problem="there is no such file in the run folder")
        picture = decode(path, side)
    except Image.DecompressionBombError:
        picture = None
    except (OSError, ValueError, SyntaxError):  # broken files, and names that are no paths
        return Thumbnail(name, problem="it is not a readable PNG, JPEG or WebP picture")
    if picture is None:
        return Thumbnail(name, problem=f"it has more than {MAX_PIXELS:,} pixels")
    return Thumbnail(name, data_uri(picture), picture.width, picture.height)


def data_uri(picture: Image.Image) -> str:
    """The picture as PNG, or as JPEG where that would be heavy."""
    buffer, kind = io.BytesIO(), "png"
    picture.save(buffer, format="PNG", optimize=True)
    if buffer.tell() > max(HEAVY * picture.width * picture.height, 2_000):
        buffer, kind = io.BytesIO(), "jpeg"
        picture.save(buffer, format="JPEG", quality=80)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def inside(run_dir: Path, name: str) -> Path | None:
    """The file that ``name`` means, or None if it lies outside, also by way of a link."""
    if Path(name).is_absolute():
        return None
    path = (run_dir / name).resolve()
    return path if path.is_relative_to(run_dir.resolve()) else None


def decode(path: Path, side: int) -> Image.Image | None:
    """The picture in RGB on white, at most ``side`` wide and high; None if it is too large."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our limit is lower
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as image:
            if image.width * image.height > MAX_PIXELS:
                return None
            picture = ImageOps.exif_transpose(image).convert("RGBA")
    picture.thumbnail((side, side))
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture).convert("RGB")
