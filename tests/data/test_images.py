"""Every kind of picture, by hand; damaged ones, bombs, and paths that lead elsewhere."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damaged_pictures import fuzzed, saved
from PIL import Image, ImageFile

import sightline.data.images
from sightline.data import Limits, decode, to_rgb
from sightline.data.images import cells_of, name_of, stored


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, compressed, *more):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = [chunk(b"IHDR", header), *more, chunk(b"IDAT", compressed), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def pixels(cell, **limits):
    picture = decode(cell, Limits(**limits))
    assert type(picture) is Image.Image and picture.mode == "RGB" and not picture.info
    return np.asarray(picture).reshape(-1, 3).tolist()


def test_sixteen_bits_are_scaled_not_clipped():
    # v / 257, as 65535 / 257 = 255: 128 → 0.498 → 0, 129 → 0.502 → 1, 32768 → 127.5019 → 128
    values = [0, 128, 129, 32768, 65535]
    raw = b"\0" + struct.pack(">5H", *values)
    expected = [[v] * 3 for v in (0, 0, 1, 128, 255)]
    assert pixels(png(5, 1, 16, 0, zlib.compress(raw))) == expected
    # 129 is the transparent value: white
    trns = chunk(b"tRNS", struct.pack(">H", 129))
    assert pixels(png(5, 1, 16, 0, zlib.compress(raw), trns))[2] == [255, 255, 255]
    for mode in ("I;16", "I;16B"):
        order = "<u2" if mode == "I;16" else ">u2"
        data = np.array([values], order).tobytes()
        assert pixels(Image.frombytes(mode, (5, 1), data)) == expected
    # colour: PIL keeps the high byte
    raw = b"\0" + struct.pack(">3H", 65535, 256, 255)
    assert pixels(png(1, 1, 16, 2, zlib.compress(raw))) == [[255, 1, 0]]
    trns = chunk(b"tRNS", struct.pack(">3H", 65535, 256, 255))
    with pytest.raises(ValueError, match="transparent colour in 16 bits"):
        decode(png(1, 1, 16, 2, zlib.compress(raw), trns))


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 255, [255, 255, 255]),
        ("L", 77, [77, 77, 77]),
        ("RGB", (1, 2, 3), [1, 2, 3]),
        ("RGBX", (1, 2, 3, 9), [1, 2, 3]),
        # on white: 100 * a + 255 * (1 - a), a = 51 / 255 = 0.2 → 20 + 204
        ("LA", (100, 51), [224, 224, 224]),
        ("RGBA", (100, 0, 255, 51), [224, 204, 255]),
        ("RGBA", (9, 9, 9, 0), [255, 255, 255]),
        # multiplied by alpha already: 20 stands for 100
        ("RGBa", (20, 0, 51, 51), [224, 204, 255]),
        ("La", (20, 51), [224, 224, 224]),
        # (255 - c) (255 - k) / 255 = 155 * 204 / 255 = 124
        ("CMYK", (100, 0, 255, 51), [124, 204, 0]),
        ("YCbCr", (77, 128, 128), [77, 77, 77]),
        ("HSV", (0, 255, 255), [255, 0, 0]),
    ],
)
def test_every_mode_by_hand(mode, colour, expected):
    picture = Image.new(mode, (2, 1), colour)
    assert pixels(picture) == [expected] * 2
    if mode in ("1", "L", "RGB", "LA", "RGBA"):  # which a PNG can hold
        assert pixels(saved(picture)) == [expected] * 2


def test_palettes_are_looked_up_and_what_is_transparent_is_white():
    picture = Image.new("P", (3, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60, 0, 0, 0])
    picture.putdata([0, 1, 2])
    assert pixels(saved(picture)) == [[10, 20, 30], [40, 50, 60], [0, 0, 0]]
    # alpha per entry: 51 / 255 of (40, 50, 60) on white = (8 + 204, 10 + 204, 12 + 204)
    translucent = saved(picture, transparency=bytes([255, 51, 0]))
    assert pixels(translucent) == [[10, 20, 30], [212, 214, 216], [255, 255, 255]]
    assert pixels(picture.convert("PA")) == [[10, 20, 30], [40, 50, 60], [0, 0, 0]]
    grey = Image.new("L", (2, 1), 7)
    grey.putpixel((1, 0), 8)
    assert pixels(saved(grey, transparency=7)) == [[255, 255, 255], [8, 8, 8]]


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_modes_without_an_agreed_range_are_refused_by_name(mode):
    with pytest.raises(ValueError, match=f"mode {mode} has no agreed way"):
        to_rgb(Image.new(mode, (2, 2)))


def test_cmyk_jpeg_first_frames_and_the_turn_of_a_camera():
    # JPEG is not exact: a flat colour comes back within 3 of 255
    cmyk = saved(Image.new("CMYK", (8, 8), (100, 0, 255, 51)), "JPEG", quality=95)
    assert np.allclose(pixels(cmyk), [124, 204, 0], atol=3)
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    for kind in ("PNG", "WEBP"):
        animated = saved(red, kind, save_all=True, append_images=[blue], lossless=True)
        assert pixels(animated) == [[255, 0, 0]] * 16
    several = saved(red, "MPO", save_all=True, append_images=[blue])
    assert np.allclose(pixels(several), [254, 0, 0], atol=3)
    # orientation 6: the top of the picture is its right side; turned by 90° clockwise
    # left to right a b  →  top to bottom a b
    picture = Image.new("RGB", (2, 1), (1, 1, 1))
    picture.putpixel((1, 0), (2, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6
    for cell in (saved(picture, exif=exif), saved(picture, "WEBP", exif=exif, lossless=True)):
        turned = decode(cell)
        assert turned.size == (1, 2)
        assert [turned.getpixel((0, y)) for y in (0, 1)] == [(1, 1, 1), (2, 2, 2)]


def test_shapes_at_the_edge():
    for size in ((1, 1), (1, 10_000), (10_000, 1)):
        assert decode(saved(Image.new("L", size))).size == size
    with pytest.raises(ValueError, match="empty: 0 x 5"):
        decode(Image.new("RGB", (0, 5)))


def test_every_kind_of_cell(tmp_path):
    data = saved(Image.new("RGB", (1, 1), (1, 2, 3)))
    (tmp_path / "a.jpg").write_bytes(data)  # named after another format
    cells = ["a.jpg", data, bytearray(data), {"bytes": data, "path": "gone.png"}]
    cells += [{"bytes": None, "path": "a.jpg"}, {"path": "a.jpg"}, Image.open(io.BytesIO(data))]
    for cell in cells:
        assert pixels(cell, root=tmp_path) == [[1, 2, 3]]
        kept = stored(cell, Limits(tmp_path))
        assert set(kept) == {"bytes", "path"} and pixels(kept, root=tmp_path) == [[1, 2, 3]]
    for cell in (3, None, "", b"", {"path": None}, {"bytes": 5}, ["a.jpg"]):
        with pytest.raises(ValueError, match=r"it must be a path|it has no bytes|is nothing"):
            decode(cell, Limits(tmp_path))
    assert cells_of(None) == cells_of("") == cells_of([]) == []
    assert cells_of({"bytes": None, "path": None}) == []
    assert cells_of("a.jpg") == cells_of(["a.jpg"]) == cells_of(("a.jpg",)) == ["a.jpg"]
    assert cells_of([None]) == [None]
    assert [name_of(c) for c in ("x", {"path": "x"}, b"1")] == ["x", "x", "given as bytes"]


def test_only_three_formats_are_tried():
    for kind in ("GIF", "TIFF", "BMP", "ICO", "PPM"):  # the icon holds a PNG
        with pytest.raises(ValueError, match="not a readable PNG, JPEG or WebP"):
            decode(saved(Image.new("RGB", (16, 16)), kind))


def test_a_picture_that_is_cut_off_is_found():
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = saved(Image.fromarray(noise), kind)
        with pytest.raises(ValueError, match=r"cannot be decoded|not a readable"):
            decode(whole[: len(whole) * 2 // 3])


@pytest.mark.parametrize(
    "error", [KeyError("x"), SyntaxError("x"), struct.error("x"), MemoryError()]
)
def test_whatever_a_decoder_raises_becomes_a_reason(monkeypatch, error):
    def fail(image):
        raise error

    monkeypatch.setattr(sightline.data.images.ImageOps, "exif_transpose", fail)
    with pytest.raises(ValueError, match=f"it cannot be decoded: {type(error).__name__}"):
        decode(saved(Image.new("L", (1, 1))))


def zeros(length):
    """`length` zero bytes, compressed, without going through them: one block, again and again."""
    size = 2**20
    pack = zlib.compressobj(9)
    head = pack.compress(bytes(size)) + pack.flush(zlib.Z_FULL_FLUSH)
    block = pack.compress(bytes(size)) + pack.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, wbits=-15)
    tail = last.compress(bytes(length % size)) + last.flush()
    # Adler-32 of n zeros: the first sum stays 1, the second counts to n
    return head + block * (length // size - 1) + tail + struct.pack(">I", length % 65521 << 16 | 1)


def bombs():
    for side in (9_000, 12_000, 20_000):
        yield f"{side}.png", png(side, side, 8, 2, zeros(side * (3 * side + 1)))
    flat = bytearray(saved(Image.new("L", (8, 8)), "JPEG"))
    frame = flat.index(b"\xff\xc0")  # length, precision, height, width
    flat[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    yield "header.jpg", bytes(flat)
    # lossless WebP: a signature, then 14 bits each of width - 1 and height - 1
    size = b"\x2f" + struct.pack("<I", 16_382 | 16_382 << 14) + bytes(10)
    body = b"WEBPVP8L" + struct.pack("<I", len(size)) + size + b"\0"
    yield "header.webp", b"RIFF" + struct.pack("<I", len(body)) + body
    # a JPEG that goes on to another picture: the first has the size
    yield "nested.jpg", bytes(flat) + saved(Image.new("L", (8, 8)), "MPO", save_all=True)


def test_the_compressed_zeros_are_real():
    length = 3 * 2**20 + 17
    assert zlib.decompress(zeros(length)) == bytes(length)
    small = dict(bombs())["9000.png"]
    assert len(small) < 300_000


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    names = []
    for name, data in bombs():
        (tmp_path / name).write_bytes(data)
        names.append(name)
    # the file alone, in a process of its own: high water of its memory, before and after
    code = """
import importlib.util, json, re, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("images", sys.argv[1])
images = importlib.util.module_from_spec(spec)
sys.modules["images"] = images
spec.loader.exec_module(images)
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
images.Image.init()
images.decode(images.Image.new("L", (9, 9)))
before, reasons = peak(), []
for name in json.loads(sys.argv[3]):
    try:
        images.decode(name, images.Limits(Path(sys.argv[2])))
        reasons.append("decoded")
    except ValueError as error:
        reasons.append(str(error))
print(json.dumps([peak() - before, reasons]))
"""
    source = sightline.data.images.__file__
    command = [sys.executable, "-c", code, source, str(tmp_path), json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    growth, reasons = json.loads(done.stdout)
    assert len(reasons) == 6 and all("pixels" in reason for reason in reasons), reasons
    assert "it has 9000 x 9000 pixels, more than max_pixels=50,000,000" in reasons
    assert growth < 64, f"{growth:.0f} MB"
    assert done.stderr == ""  # and no warning of Pillow's


def test_the_limit_is_a_setting():
    picture = saved(Image.new("L", (10, 10)))
    assert decode(picture, Limits(max_pixels=100)).size == (10, 10)
    with pytest.raises(ValueError, match="10 x 10 pixels, more than max_pixels=99"):
        decode(picture, Limits(max_pixels=99))
    with pytest.raises(ValueError, match="10 x 10"):
        decode(Image.new("L", (10, 10)), Limits(max_pixels=99))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        Limits(max_pixels=0)


def test_paths_stay_below_the_root(tmp_path, monkeypatch):
    root, secret = tmp_path / "data", tmp_path / "secret.png"
    (root / "sub").mkdir(parents=True)
    for file in (secret, root / "a.png", root / "sub" / "b.png"):
        Image.new("RGB", (1, 1)).save(file)
    (root / "link.png").symlink_to(secret)
    (root / "out").symlink_to(tmp_path)
    (root / "loop").symlink_to(root / "loop")
    (root / "inner.png").symlink_to(root / "a.png")
    os.mkfifo(root / "pipe.png")
    tricks = {
        "../secret.png": "leaves the folder",
        "sub/../../secret.png": "leaves the folder",
        str(secret): "leaves the folder",
        "link.png": "leaves the folder",
        "out/secret.png": "leaves the folder",
        "/dev/zero": "leaves the folder",
        "loop": "no such file|cannot be followed|leaves",
        "pipe.png": "no such file",  # it would wait for ever
        "sub": "no such file",
        "x" * 5000: "cannot be followed",
        "a.png\0.txt": "NUL",
        "\ud800.png": "cannot be followed|no such file",
        "http://127.0.0.1/a.png": "URL",
        "HTTPS://127.0.0.1/a.png": "URL",
        "file:///etc/passwd": "URL",
        "data:image/png;base64,AAAA": "URL",
        "hf://datasets/a/b.png": "URL",
        "~/a.png": "no such file",
    }
    for name, reason in tricks.items():
        with pytest.raises(ValueError, match=reason):
            decode(name, Limits(root))
        with pytest.raises(ValueError, match=reason):
            decode({"bytes": None, "path": name}, Limits(root))
    # what stays inside is served, however it is written
    for name in ("a.png", "sub/b.png", "sub/../a.png", str(root / "a.png"), "inner.png"):
        assert decode(name, Limits(root)).size == (1, 1)
    # the root may itself be relative, or reached by a link
    monkeypatch.chdir(tmp_path)
    (tmp_path / "alias").symlink_to(root)
    for start in (Path("data"), tmp_path / "alias"):
        assert decode("a.png", Limits(start)).size == (1, 1)
    with pytest.raises(ValueError, match="no folder: give root"):
        decode("a.png")
    free = Limits(root, allow_outside_root=True)
    for name in ("../secret.png", str(secret), "link.png"):
        assert decode(name, free).size == (1, 1)
    assert decode(str(secret), Limits(allow_outside_root=True)).size == (1, 1)
    with pytest.raises(ValueError, match="URL"):  # never the network
        decode("http://127.0.0.1/a.png", free)


def test_a_damaged_picture_is_decoded_or_refused_and_nothing_else():
    outcomes = Counter()
    for name, data in fuzzed():
        try:
            picture = decode(data)
            assert picture.mode == "RGB" and picture.load() is not None
            outcomes["decoded"] += 1
        except ValueError as error:
            assert str(error) and "0x" not in str(error), name
            outcomes["refused"] += 1
    # both happen, or the damage tests nothing; a flipped bit in a JPEG is often still a JPEG
    assert outcomes.total() == 300 and min(outcomes.values()) > 30, outcomes
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
