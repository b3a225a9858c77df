import pytest

from sightline.report.formats import counted, duration, percent, plain, shorten, signed

MINUS = "\N{MINUS SIGN}"


@pytest.mark.parametrize(
    "value, text",
    [
        (None, "n/a"),
        ("", "n/a"),
        (0.0, "0"),
        (-1.5, f"{MINUS}1.5"),
        (0.00012345, "0.0001234"),
        (1234.5678, "1235"),
        (123456.7, "123,457"),
        (5000.0, "5,000"),
        (-7, f"{MINUS}7"),
        (True, "True"),
        ("k3", "k3"),
        ("a-b", "a-b"),
    ],
)
def test_plain(value, text):
    assert plain(value) == text


def test_plain_takes_fewer_digits():
    assert plain(0.65432, 3) == "0.654"


@pytest.mark.parametrize(
    "value, text", [(None, "n/a"), (0.0, "0.0\u202f%"), (0.594, "59.4\u202f%")]
)
def test_percent(value, text):
    assert percent(value) == text


@pytest.mark.parametrize("value, text", [(None, "n/a"), (0.108, "+10.8"), (-0.02, f"{MINUS}2.0")])
def test_signed(value, text):
    assert signed(value) == text


@pytest.mark.parametrize(
    "seconds, text",
    [(None, "n/a"), ("5", "n/a"), (33.14, "33.1 s"), (200, "3 min 20 s"), (3840.0, "1 h 4 min")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_counted():
    assert [counted(n, "token") for n in (0, 1, 1200)] == ["0 tokens", "1 token", "1,200 tokens"]


def test_shorten_counts_what_it_cuts():
    assert shorten("abcdef", 6) == "abcdef"
    assert shorten("abcdefg", 6) == "abcdef… (1 more character)"
