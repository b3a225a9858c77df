import re
from xml.etree import ElementTree

import matplotlib
import pytest

from sightline.report import figures
from sightline.report.figures import histogram, share_held, smooth

SVG = "{http://www.w3.org/2000/svg}"


def titles(svg):
    """The text that hovering shows, in drawing order; fails where the SVG is not valid XML."""
    return [title.text for title in ElementTree.fromstring(svg).iter(f"{SVG}title")]


def all_figures():
    steps, values = [float(step) for step in range(30)], [0.1 * step for step in range(30)]
    return {
        "curve": figures.curve_figure("reward", steps, values),
        "interval": figures.interval_figure(
            {"before": (0.4, 0.3, 0.5), "after": (0.6, None, None)}
        ),
        "histogram": figures.histogram_figure({"visual": [0.1, 12.0], "other": [0.3]}),
        "share": figures.share_figure({5: 0.5, 40: 1.0}),
    }


def test_histogram_by_hand():
    # dependency   -1e-9   0   0.19 | 0.2  0.39 | 0.6      | 9.99   | 10  12.5
    # bin             0    0    0   |  1    1   | 3        | 49     | 50 (at or above the clamp)
    counts = histogram([-1e-9, 0.0, 0.19, 0.2, 0.39, 0.6, 9.99, 10.0, 12.5])

    assert len(counts) == 51
    assert {index: count for index, count in enumerate(counts) if count} == {
        0: 3,
        1: 2,
        3: 1,  # and not bin 2, as with edges of 3 * 0.2 = 0.6000000000000001
        49: 1,
        50: 2,
    }


def test_share_held_by_hand():
    # 20 tokens: 10, 5, 3, 2 and 16 zeros; the total is 20
    # top          5 %   10 %   20 %    40 %
    # tokens       1     2      4       8
    # share        10    15     20      20      of 20
    dependency = [0.0] * 8 + [3.0, 10.0, 2.0, 5.0] + [0.0] * 8

    assert [share_held(dependency, p) for p in (5, 10, 20, 40)] == [0.5, 0.75, 1.0, 1.0]


def test_share_held_rounds_the_number_of_tokens_up():
    assert share_held([10.0, 5.0, 5.0] + [0.0] * 18, 5) == 0.75  # ceil(0.05 * 21) = 2 tokens
    assert share_held([1.0] * 100, 7) == 0.07  # 0.07 * 100 is 7.000000000000001 in floats


@pytest.mark.parametrize("dependency", [[], [0.0, 0.0]])
def test_share_of_nothing_is_not_zero(dependency):
    assert share_held(dependency, 40) is None


def test_smooth_is_a_centred_mean_over_a_tenth():
    values = [float(value) for value in range(39)] + [100.0]  # half a window is 2
    mean = smooth(values)

    assert mean[0] == 1.0  # of 0, 1, 2
    assert mean[10] == 10.0
    assert mean[-1] == (37 + 38 + 100) / 3
    assert smooth(values[:19]) == values[:19]  # too few to smooth


def test_histogram_figure_tells_each_count():
    svg = figures.histogram_figure({"visual": [0.1, 0.1, 2.0], "other": [0.1] * 1234 + [10.0]})

    assert titles(svg) == [
        "0.0 to 0.2 nats: 2",
        "2.0 to 2.2 nats: 1",
        "0.0 to 0.2 nats: 1,234",
        "10 nats or more: 1",
    ]
    assert "visual, 3 tokens" in svg and "other, 1,235 tokens" in svg
    assert "url(#h" in svg  # the bar at the clamp is hatched: colour is not the only sign


def test_histogram_of_tokens_that_are_all_at_the_clamp():
    assert titles(figures.histogram_figure({"all": [10.0, 11.0]})) == ["10 nats or more: 2"]


def test_the_tallest_bar_of_any_group_fits_the_shared_axis():
    svg = ElementTree.fromstring(figures.histogram_figure({"a": [0.1], "b": [0.1] * 1000}))
    plots = [float(rect.get("y", 0)) for rect in svg.iter(f"{SVG}rect") if rect.get("x")]
    tops = []
    for group in svg.iter(f"{SVG}g"):
        if group.find(f"{SVG}title") is not None:
            points = re.findall(r"[ML] \S+ (\S+)", group.find(f"{SVG}path").get("d"))
            tops.append(min(map(float, points)))

    assert len(tops) == 2
    assert all(top >= plot for top, plot in zip(sorted(tops), sorted(plots), strict=False))


def test_interval_figure_tells_share_and_interval():
    svg = figures.interval_figure({"before": (0.486, 0.442, 0.53), "after": (0.594, None, None)})

    assert titles(svg) == [
        "before: 48.6%, 95 % interval 44.2% to 53.0%",
        "after: 59.4%",
    ]


def test_share_figure_tells_each_share():
    svg = figures.share_figure({5: 0.5, 40: 0.98765})

    assert titles(svg) == ["top 5 % of tokens: 50.00%", "top 40 % of tokens: 98.77%"]
    assert ">99 %<" in svg


@pytest.mark.parametrize("name", ["curve", "interval", "histogram", "share"])
def test_figures_take_colour_size_and_ids_from_the_page(name):
    drawn = all_figures()
    svg = drawn[name]
    others = "".join(other for key, other in drawn.items() if key != name)

    assert svg.startswith('<svg role="img" aria-label="')
    assert not re.search(r"<svg[^>]* (width|height)=", svg)
    assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) <= {"#000000"}  # only under fill: none
    for reference in re.findall(r"(?:url\(|href=\")#(\w+)", svg):
        assert svg.count(f'id="{reference}"') == 1
    for own in re.findall(r' id="(\w+)"', svg):
        assert f'id="{own}"' not in others


def test_a_wide_figure_is_drawn_anew_for_phones_and_a_narrow_one_is_not():
    wide, narrow = (all_figures()[name] for name in ("histogram", "share"))
    page = str(wide.for_page())
    widths = [float(w) for w in re.findall(r'viewBox="0 0 (\S+) ', page)]

    assert widths == pytest.approx(
        [5.6 * 72, 3.4 * 72]
    )  # the same text on fewer units: larger on the same screen
    assert re.findall(r'<svg [^>]*class="(\w+)"', page) == ["wide", "narrow"]
    ids = re.findall(r' id="(\w+)"', page)
    assert len(ids) == len(set(ids)) > 1
    assert narrow.for_page() == narrow and "class=" not in narrow.split(">")[0]
    assert wide.figure.get_size_inches().tolist()[0] == 5.6  # files keep the size of the wide one


def test_figures_are_the_same_bytes_under_any_matplotlibrc():
    before = all_figures()
    with matplotlib.rc_context({"xtick.direction": "in", "font.size": 30, "svg.fonttype": "path"}):
        assert all_figures() == before
        assert matplotlib.rcParams["font.size"] == 30  # and we leave the settings as they were


@pytest.mark.parametrize("values", [[0.5], [0.5] * 30, [1e100, -1e100], [1e-300, 0.0]])
def test_curves_of_odd_values_draw(values):
    steps = [float(step) for step in range(len(values))]

    assert "<path" in figures.curve_figure("reward", steps, values)
