"""Which image is shown: never a row's own where another is asked for."""

import pytest
from PIL import Image

from sightline.evaluate.conditions import digest, other_rows, shown, without_images

A, B, C, D = (bytes([n]) for n in range(4))


@pytest.mark.parametrize(
    ("digests", "expected"),
    [
        # 4 rows: counted from 2 further on
        ([(A,), (B,), (C,), (D,)], [2, 3, 0, 1]),
        # 0 would take 2, which shows the same; so 3. 1 takes 3
        ([(A,), (B,), (A,), (D,)], [3, 3, 1, 1]),
        # as many images, of which none is its own; a row without an image has none to change
        ([(A,), (B, C), (), (D,), (A, D)], [3, 4, None, 0, 1]),
    ],
)
def test_other_rows_by_hand(digests, expected):
    assert other_rows(digests) == expected


def test_a_row_that_finds_no_other_has_none():
    # (C, D) shares C with the one and D with the other
    assert other_rows([(B, C), (A, D), (C, D)]) == [1, 0, None]
    assert other_rows([(A,), (A,)]) == [None, None]


def test_images_are_told_apart_by_what_they_show():
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    assert digest([red, blue]) == (*digest([red.copy()]), *digest([blue]))
    assert digest([red]) != digest([blue])
    assert digest([Image.new("RGB", (2, 8), "red")]) != digest([red])


def test_without_images_only_the_words_are_left():
    parts = [{"type": "image"}, {"type": "text", "text": " what is "}, {"type": "image"}]
    parts.append({"type": "text", "text": "?"})
    prompt = [{"role": "system", "content": " be kind"}, {"role": "user", "content": parts}]
    assert without_images(prompt) == [
        {"role": "system", "content": " be kind"},
        {"role": "user", "content": "what is ?"},
    ]
    # what has no image stays as it is
    told = [{"role": "user", "content": [{"type": "text", "text": " as is"}]}]
    assert without_images(told)[0]["content"] == " as is"


def test_a_row_is_shown_with_the_images_of_its_condition():
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    row = {"id": "a", "prompt": [{"role": "user", "content": "?"}], "images": [red]}
    other = {"id": "b", "prompt": [{"role": "user", "content": "!"}], "image": blue}
    assert shown(row, "true", other) == row
    assert shown(row, "none", other)["images"] == []
    changed = shown(row, "other", other)
    assert changed["images"][0].getpixel((0, 0)) == (0, 0, 255)
    assert changed["prompt"] == row["prompt"] and row["images"] == [red]
