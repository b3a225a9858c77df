"""Whose images stand in for a row's own."""

from sightline.other_images import other_row


def test_the_other_row_by_hand():
    shown = [("x",), ("x", "y"), (), ("z",)]
    # 4 rows: counted from 2 further on. Of 0: 2 has none, so 3. Of 1: 3. Of 3: 1, around the end
    assert [other_row(shown, row) for row in (0, 1, 3)] == [3, 3, 1]
    # as many images: 1 has two and nobody else; of 3: 1 has two, 2 none, so 0
    assert [other_row(shown, row, as_many=True) for row in (0, 1, 3)] == [3, None, 0]
    # any picture shared makes a row no other
    assert other_row([("x",), ("x", "y")], 0) is None
    assert other_row([("x",)], 0) is None
