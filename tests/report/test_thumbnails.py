import base64
import io
import zlib

import pytest
from PIL import Image

from sightline.report import thumbnails
from sightline.report.thumbnails import thumbnail

OUTSIDE = "its path leaves the run folder, so it was not opened"
UNREADABLE = "it is not a readable PNG, JPEG or WebP picture"


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    Image.new("RGB", (2, 2), "red").save(tmp_path / "secret.png")
    return folder


def decoded(shown):
    prefix, data = shown.uri.split(",")
    assert prefix == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_small_picture_keeps_its_pixels(run_dir):
    picture = Image.effect_noise((5, 3), 90).convert("RGB")
    picture.save(run_dir / "a.png")
    shown = thumbnail(run_dir, "a.png")

    assert (shown.width, shown.height, shown.problem) == (5, 3, "")
    assert decoded(shown).tobytes() == picture.tobytes()


def test_large_picture_shrinks_and_keeps_its_shape(run_dir):
    Image.new("RGB", (1000, 500)).save(run_dir / "a.jpg")

    assert decoded(thumbnail(run_dir, "a.jpg")).size == (320, 160)


def test_transparent_is_white(run_dir):
    Image.new("RGBA", (1, 1), (255, 0, 0, 0)).save(run_dir / "a.png")

    assert decoded(thumbnail(run_dir, "a.png")).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK"])
def test_every_mode_is_shown(run_dir, mode):
    name = "a.jpg" if mode == "CMYK" else "a.png"
    Image.new(mode, (4, 4)).save(run_dir / name)

    assert decoded(thumbnail(run_dir, name)).mode == "RGB"


def test_metadata_does_not_reach_the_page(run_dir):
    Image.new("RGB", (2, 2)).save(run_dir / "a.jpg", comment=b"a private note")

    assert decoded(thumbnail(run_dir, "a.jpg")).info == {}


@pytest.mark.parametrize("name", ["../secret.png", "x/../../secret.png", "/etc/passwd"])
def test_path_outside_the_run_folder_is_refused(run_dir, name):
    assert thumbnail(run_dir, name) == thumbnails.Thumbnail(name, problem=OUTSIDE)


def test_absolute_path_inside_the_run_folder_is_refused(run_dir):
    Image.new("RGB", (2, 2)).save(run_dir / "a.png")

    assert thumbnail(run_dir, str(run_dir / "a.png")).problem == OUTSIDE


def test_link_out_of_the_run_folder_is_refused(run_dir):
    (run_dir / "link.png").symlink_to(run_dir.parent / "secret.png")

    assert thumbnail(run_dir, "link.png").problem == OUTSIDE


@pytest.mark.parametrize("name", ["gone.png", "", ".", "https://example.org/a.png"])
def test_missing_picture(run_dir, name):
    assert thumbnail(run_dir, name).problem == "there is no such file in the run folder"


@pytest.mark.parametrize("name", ["nul\0.png", "lone\ud800.png", "long" * 100])
def test_name_that_is_no_path(run_dir, name):
    shown = thumbnail(run_dir, name)

    assert shown.uri == "" and shown.problem


@pytest.mark.parametrize("kind", ["text", "gif", "truncated", "empty"])
def test_unreadable_picture(run_dir, kind):
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(buffer, format="GIF" if kind == "gif" else "PNG")
    contents = {"text": b"<svg onload='alert(1)'/>", "empty": b"", "gif": buffer.getvalue()}
    (run_dir / "a.png").write_bytes(contents.get(kind, buffer.getvalue()[:2000]))

    assert thumbnail(run_dir, "a.png").problem == UNREADABLE


@pytest.mark.parametrize("side", [4097, 9500, 14000])  # ours, Pillow's warning, Pillow's error
def test_image_bomb_is_refused_before_it_is_decoded(run_dir, monkeypatch, side):
    header = io.BytesIO()
    Image.new("1", (1, 1)).save(header, format="PNG")
    content = bytearray(header.getvalue())
    content[16:24] = (
        side.to_bytes(4, "big") * 2
    )  # the IHDR chunk promises more pixels than the file holds
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (run_dir / "bomb.png").write_bytes(content)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))

    assert thumbnail(run_dir, "bomb.png").problem == "it has more than 16,777,216 pixels"


def test_a_photograph_becomes_a_jpeg_and_smaller_where_asked(run_dir):
    Image.effect_noise((400, 200), 90).convert("RGB").save(run_dir / "a.png")
    shown = thumbnail(run_dir, "a.png", side=100)

    assert shown.uri.startswith("data:image/jpeg;base64,") and (shown.width, shown.height) == (
        100,
        50,
    )
