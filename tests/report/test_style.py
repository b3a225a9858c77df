"""The colours of the page: readable, ordered in greyscale, the same in stylesheet and figures."""

import re
from pathlib import Path

import pytest

from sightline import report
from sightline.report.figures import COLOURS
from sightline.report.panels import attribution
from sightline.report.tokens import LEVELS

STYLE = (Path(report.__file__).parent / "style.css").read_text()
SCHEMES = dict(
    zip(("light", "dark"), re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL), strict=True)
)
TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
FROM_LMS = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)


def colours(scheme):
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", SCHEMES[scheme]))


def linear(colour):
    """Linear RGB of a hex colour."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    return [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]


def times(matrix, vector):
    return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix]


def mixed(start, end, share):
    """Linear RGB of CSS's ``color-mix(in oklab, ...)``.

    OKLab is a matrix times the cube root of LMS, so mixing there mixes the cube roots.
    """
    roots = [[c ** (1 / 3) for c in times(TO_LMS, linear(colour))] for colour in (start, end)]
    lms = [(a + (b - a) * share) ** 3 for a, b in zip(*roots, strict=True)]
    return times(FROM_LMS, lms)


def luminance(rgb):
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), rgb, strict=True))


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("hue", ["hot", "cold"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_is_readable_on_every_tint(scheme, hue):
    palette = colours(scheme)
    scale = [mixed(palette["paper"], palette[hue], step / 20) for step in range(21)]

    assert min(contrast(linear(palette["ink"]), colour) for colour in scale) >= 4.5
    grey = [luminance(colour) for colour in scale]
    assert grey == sorted(grey, reverse=scheme == "light")  # so it survives greyscale print
    assert contrast(scale[0], scale[-1]) > 2.4  # and its ends can be told apart


@pytest.mark.parametrize("scheme", SCHEMES)
def test_small_text_is_readable(scheme):
    palette = colours(scheme)

    for name in ("ink", "muted", "clamp", "answer"):
        assert contrast(linear(palette[name]), linear(palette["paper"])) >= 4.5, name


def test_mixing_is_right_at_its_ends():
    assert mixed("#ee7f2d", "#17181b", 0) == pytest.approx(linear("#ee7f2d"), abs=1e-6)
    assert mixed("#ee7f2d", "#17181b", 1) == pytest.approx(linear("#17181b"), abs=1e-6)


def test_figures_and_stylesheet_agree():
    assert {name: colours("light")[name] for name in COLOURS} == COLOURS
    assert colours("dark").keys() == colours("light").keys()


def test_stylesheet_loads_nothing():
    assert "url(" not in STYLE and "@import" not in STYLE


def test_there_is_a_class_for_every_level_of_tint():
    tints = dict(re.findall(r"\.t(\d+) \{ --tint: ([\d.]+); \}", STYLE))

    assert {int(level): float(share) for level, share in tints.items()} == {
        level: pytest.approx(level / LEVELS, abs=1e-3) for level in range(1, LEVELS + 1)
    }
    assert len(re.findall(r"\.patch\d \{ --cover", STYLE)) == attribution.LEVELS
