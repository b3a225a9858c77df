"""The page in a real browser: keys, filters, tints, pointing, and both widths."""

import json

import pytest
from chromium import Browser, chromium
from PIL import Image

from sightline.report import write_report

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs chromium")

# ids of the right ones by mean dependency are r2, r0; of the wrong ones r3, r1
ROWS = [("r0", "red", 1.0, 1.0), ("r1", "blue", 0.0, 0.5), ("r2", "red", 3.0, 2.0),
        ("r3", "red", 0.0, 1.5)]  # fmt: skip


def write_run(folder, rows):
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "images" / "a.png")
    records = [
        {"id": id, "images": ["images/a.png"], "tokens": [word, " x", " y"], "response": word,
         "dependency": [size, 0.0, 0.0], "reward": reward, "split": "heldout",
         "views": {"blind": {"log_ratio": [-0.1, 10.0, 10.0]}}}
        for id, word, reward, size in rows
    ]  # fmt: skip
    (folder / "tokens.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_report(write_run(tmp_path_factory.mktemp("browser") / "run", ROWS))


@pytest.fixture(scope="module")
def running():
    with Browser() as browser:
        yield browser


@pytest.fixture
def browser(running, page):
    running.resize(1280, 800)
    running.open(page)
    return running


def named(browser):
    """The id of the response that has the focus, or None."""
    return browser.run("document.activeElement.querySelector?.('.identity bdi')?.textContent")


def shown(browser):
    return browser.run(
        "[...document.querySelectorAll('.response')].map((card) => "
        "card.querySelector('.identity bdi').textContent)"
    )


def choose(browser, name, value):
    browser.run(
        f"{{ const control = document.querySelector('[name={name}]');"
        f"control.value = {json.dumps(value)}; control.dispatchEvent(new Event('input'));"
        "control.dispatchEvent(new Event('change')); }"
    )


def settled(browser):
    browser.run(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => "
        "setTimeout(done, 50))))"
    )


def test_j_and_k_go_through_the_responses_and_stop_at_the_ends(browser):
    reached = []
    for key in "jjjjjkkx":
        browser.press(key)
        reached.append(named(browser))

    assert reached[:5] == ["r2", "r0", "r3", "r1", "r1"]
    assert reached[5:] == ["r3", "r0", "r0"]  # another key does nothing
    # the response stands below the legend, which covers the top of the window
    gap = browser.run("document.activeElement.getBoundingClientRect().top")
    assert 0 <= gap < 200


def test_keys_follow_the_order_and_the_filter(browser):
    choose(browser, "order", "dependency-up")
    choose(browser, "verdict", "1")
    browser.press("j")

    assert shown(browser) == ["r1", "r3"] and named(browser) == "r1"
    browser.press("j")
    assert named(browser) == "r3"


def test_a_slash_begins_a_search_in_which_letters_are_letters(browser):
    for key in "/jk":
        browser.press(key)

    assert browser.run("document.activeElement.name + document.activeElement.value") == "searchjk"
    assert shown(browser) == []
    browser.press("Escape")
    assert browser.run("document.activeElement.tagName") == "BODY"


def test_t_goes_to_the_next_tint_and_round(browser):
    names = []
    for _ in range(2):
        browser.press("t")
        names.append(browser.run("document.querySelector('.legend .label').textContent"))

    assert names == ["blind log-ratio, nats", "dependency, nats"]


def test_tint_order_filter_and_search(browser):
    choose(browser, "order", "reward")
    choose(browser, "verdict", "0")
    choose(browser, "search", "RED")
    choose(browser, "mode", "1")
    browser.run("document.getElementById('responses').scrollIntoView()")
    settled(browser)
    runs = browser.run(
        "[...document.querySelector('.tokens').querySelectorAll('i')].map((i) => "
        "[i.className, i.textContent])"
    )

    # -0.1 is a third of the way from 0.01 to 10, below 0; 10 is the end of the scale; the first is
    # above PGPO's threshold; neighbours of one tint are one element, the space before it left out
    assert runs == [["t5 cold above", "red"], ["t15", "x y"]]
    assert shown(browser) == ["r2", "r0"]
    status = browser.run("document.querySelector('output').textContent")
    assert status == "2 of 2 matching responses shown"


def test_pointing_at_a_token_tells_its_numbers_also_inside_a_run(browser):
    choose(browser, "mode", "1")
    browser.run("document.querySelector('.tokens').scrollIntoView({ block: 'center' })")
    settled(browser)
    box = "document.querySelector('.tokens').querySelectorAll('i')[1].getBoundingClientRect()"
    left, right, top = browser.run(
        f"(() => {{ const b = {box}; return [b.left, b.right, b.top]; }})()"
    )
    said = []
    for x in (left + 2, right - 2):
        browser.point(x, top + 10)
        said.append(browser.run("document.querySelector('.readout').textContent"))

    assert said == [
        "␣x · dependency 0 · blind log-ratio 10",
        "␣y · dependency 0 · blind log-ratio 10",
    ]
    browser.point(1, 1)
    assert browser.run("document.querySelector('.readout').hidden")


@pytest.mark.parametrize("width, size", [(390, 10.5), (1280, 10.5)])
def test_text_of_figures_can_be_read_and_nothing_sticks_out(browser, width, size):
    browser.resize(width, 844)
    settled(browser)
    assert browser.run("document.documentElement.scrollWidth") == width
    heights = browser.run(
        "[...document.querySelectorAll('svg text')].filter((t) => t.checkVisibility()).map((t) => {"
        "const svg = t.ownerSVGElement; return parseFloat(getComputedStyle(t).fontSize) * "
        "svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; })"
    )

    assert len(heights) > 20 and min(heights) >= size
