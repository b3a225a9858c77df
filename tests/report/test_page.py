import base64
import hashlib
import json
import math
import re
import sys
from html.parser import HTMLParser

import pytest
from markupsafe import Markup, escape
from PIL import Image

from sightline.cli import main
from sightline.report import drawing, write_report
from sightline.report.panels import responses as responses_panel
from sightline.report.panels.responses import choose, spread
from sightline.report.panels.training import METRICS
from sightline.report.records import read_response
from sightline.report.tokens import above_threshold, tint

MINUS = "\N{MINUS SIGN}"
VOID = {"meta", "img", "br", "input"}


class Page(HTMLParser):
    """What a browser would make of a report, as far as the tests ask; fails on unbalanced tags."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.attributes, self.open, self.text = [], [], [], ""
        self.tokens, self.inside_token = [], None  # (classes, title, text) of each token
        self.source = path.read_bytes().decode("utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *attribute) for attribute in attrs]
        if tag not in VOID:
            self.open.append(tag)
        attrs = dict(attrs)
        if tag == "i" and "title" in attrs:
            self.tokens.append([attrs.get("class", ""), attrs["title"], ""])
            self.inside_token = len(self.open)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if len(self.open) < (self.inside_token or 0):
            self.inside_token = None

    def handle_data(self, data):
        if {"style", "script"} & set(self.open):
            return
        self.text += " ".join(data.split()) + " "
        if self.inside_token:
            self.tokens[-1][2] += data

    def shows(self, text):
        return " ".join(text.split()) in " ".join(self.text.split())

    def cells(self):
        """The rows of all tables, as lists of text."""
        rows = re.findall(r"<tr>(.*?)</tr>", self.source, flags=re.DOTALL)
        return [[re.sub(r"<[^>]*>", "", c) for c in re.findall(r"<td.*?</td>", r)] for r in rows]


LABELS = ["visual", "other", "visual", "other", "answer"]


def record(number=0, **changes):
    return {
        "id": f"heldout-{number:05}",
        "split": "heldout",
        "step": 100,
        "prompt": "What is the sum?",
        "images": ["images/a.png"],
        "response": "two plus two\n4",
        "tokens": ["two", " plus", " two", "\n", "4"],
        "views": {"blind": {"log_ratio": [-2.5, 0.25, -1.5, 0.0, 0.5]}},
        "dependency": [6.0, 0.1, 2.0, 0.0, 0.5],
        "weights": [2.75, 0.125, 1.5, 0.0, 0.625],
        "advantage": -0.75,
        "reward": 1.0,
        "reward_reason": "matched",
        "gold": "4",
        "labels": None,
    } | changes


def write_run(folder, records=(), run=None, result=None, metrics=None):
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "images" / "a.png")
    run = {"command": "sightline demo", "algorithm": {"name": "pgpo"}} if run is None else run
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "tokens.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    if result is not None:
        (folder / "result.json").write_text(json.dumps(result))
    if metrics is not None:
        lines = [json.dumps(line) + "\n" for line in metrics]
        (folder / "metrics.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture
def report(tmp_path):
    def make(records=(), **files):
        return Page(write_report(write_run(tmp_path / "run", records, **files)))

    return make


RESULT = {
    "algorithm": "pgpo",
    "seed": 7,
    "steps": 100,
    "n_heldout": 500,
    "accuracy_before": 0.486,
    "accuracy_after": 0.594,
    "accuracy_before_ci95": [0.442, 0.53],
    "accuracy_after_ci95": [0.551, 0.637],
    "gain_ci95": [0.066, 0.151],
    "visual_tokens_auroc": 0.962,
    "seconds": {"warm_start": 118.2, "train": 301.5, "total": 4000},
    "peak_rss_mb": 1310.4,
}


RATIO = [-2.5, 0.25, -1.5, 0.0, 0.5]
COMPLETE_VIEWS = {
    "blind": {"log_ratio": RATIO, "kl": [1.5, 0.1, 0.75, 0.0, 0.2]},
    "blind:image=0": {"log_ratio": RATIO},
    "blind:image=1": {"log_ratio": RATIO[::-1]},
    "control:same": {"log_ratio": [0.0] * 5},
}
ATTRIBUTION = {
    "id": "heldout-00000",
    "image": 0,
    "grid": [1, 2],
    "fill": "mean colour",
    "noise_floor": 0.1,
    "passes": 2,
    "tokens": [{"index": 2, "text": " two", "change": [[0.1, -2.0]]}],
}


def complete_run(folder):
    metrics = [{"step": step} | dict.fromkeys(METRICS, 0.5 * step) for step in range(1, 4)]
    rows = [
        record(n, labels=LABELS, views=COMPLETE_VIEWS, step=n % 2, reward_reason=reason,
               images=["images/a.png"] * 2, credit={"vppo": [1.0, 0.0, 1.0, 0.0, 0.0]})
        for n, reason in enumerate(["matched", "different"] * 7)
    ]  # fmt: skip
    write_run(folder, rows, result=RESULT, metrics=metrics)
    (folder / "attribution.jsonl").write_text(json.dumps(ATTRIBUTION) + "\n")
    return folder


# the panels


@pytest.fixture(autouse=True)
def blank_figures(request, monkeypatch):
    """Figures without content, for all tests but those that ask for `drawn`: nine tenths of the
    time of a page goes into drawing them."""

    def blank(figure, name, description, kind):
        return Markup(f'<svg role="img" aria-label="{escape(description)}" class="{kind}"></svg>')

    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(drawing, "as_element", blank)


@pytest.fixture
def drawn():
    """Figures are drawn."""


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return Page(write_report(complete_run(tmp_path_factory.mktemp("complete") / "run")))


def test_a_complete_run_shows_every_panel(complete):
    page = complete

    assert "left out" not in page.text.lower()
    drawn = (
        1
        + len(METRICS)
        + 2
        + len(
            ["trajectories", "classes", "position", "overlay", "oracle over training", "k3 and KL"]
        )
    )
    # once more for phones, but for what is narrow anyway
    narrow = drawn - len(["accuracy", "share", "overlay", "k3 and KL"])
    assert len(re.findall('<svg [^>]*class="narrow"', page.source)) == narrow
    assert page.tags.count("svg") == drawn + narrow
    assert page.tags.count("article") == 14
    assert page.shows("2 more responses") is False and page.source.count("1 more response<") == 2
    for title in METRICS.values():
        assert page.shows(title)


def test_head(report):
    page = report(run={"algorithm": {"name": "pgpo", "score_clamp": 10.0}}, result=RESULT)

    assert page.shows("before training 48.6\u202f% 95 % interval 44.2 to 53.0\u202f%")
    assert page.shows("after training 59.4\u202f% 95 % interval 55.1 to 63.7\u202f%")
    assert page.shows("gain, points +10.8 95 % interval +6.6 to +15.1")
    assert page.shows("Held-out accuracy on 500 questions")
    assert page.shows("Algorithm pgpo score clamp 10")
    assert page.shows("Steps 100 seed 7")
    assert page.shows("AUROC, visual tokens 0.962")
    assert page.shows("Time 1 h 6 min warm start 1 min 58 s, train 5 min 2 s")
    assert not page.shows("includes no change")


def test_a_gain_whose_interval_holds_zero_says_so(report):
    page = report(result=RESULT | {"gain_ci95": [-0.02, 0.151]})

    assert page.shows(f"{MINUS}2.0 to +15.1 includes no change")


def test_null_results_are_not_zero(report):
    page = report(result=dict.fromkeys(RESULT) | {"accuracy_before": 0.5})

    assert page.shows("before training 50.0\u202f% no interval recorded")
    assert not page.shows("gain, points")
    assert not page.shows("AUROC, visual tokens")  # left out, and not 0
    assert not page.shows("Peak memory") and not page.shows("Steps")


def test_a_run_that_was_only_scored_says_with_what(report):
    page = report(
        run={"kind": "score", "model": "some/model", "computed_on": "cpu torch.float32"},
        result={"noise_floor": 8.6e-6},
    )

    assert page.shows("Model some/model computed on cpu torch.float32")
    assert page.shows(f"Noise floor, nats 8.6e{MINUS}06")
    assert not page.shows("Held-out accuracy is left out")


SCORE = {"kind": "score", "data": {"rows": 3}}


def test_a_half_written_run_is_read_as_far_as_it_goes(tmp_path, capsys):
    folder = write_run(tmp_path / "run", run=SCORE)
    (folder / "tokens.jsonl").unlink()
    lines = [json.dumps(record(n, place=1 - n)) + "\n" for n in (0, 1)]
    half = json.dumps(record(2))[:90]
    (folder / "tokens.partial.jsonl").write_text("".join(lines) + half)
    assert main(["report", str(folder)]) == 0
    page = Page(folder / "report.html")

    assert page.shows("stopped, or is still going): tokens.partial.jsonl holds 2 responses of 3")
    assert page.shows("tokens.partial.jsonl: 1 line could not be read (line 3; the last one is")
    assert page.source.index("is not finished") < page.source.index('id="responses"')
    assert page.tags.count("article") == 2
    said = capsys.readouterr().err
    assert (
        "WARNING: This run is not finished" in said and "WARNING: tokens.partial.jsonl: 1" in said
    )
    with (folder / "report" / "tables" / "trajectories.csv").open() as file:
        assert [line.split(",")[0] for line in file][1:] == ["heldout-00001", "heldout-00000"]


@pytest.mark.parametrize(
    "files, said",
    [
        ({"run": SCORE}, "there is no result.json"),
        ({"run": SCORE, "result": {"responses": 1}}, ""),
        ({"run": {"protocol": {}}}, "there is no result.json"),
        ({"metrics": [{"step": 5}]}, "metrics.jsonl ends at step 5, without the summary"),
        ({"metrics": [{"step": 5}, {"step": 5, "train_runtime": 9.0}]}, ""),
        ({"metrics": [{"step": 5}], "run": {"settings": {"max_steps": 60}}}, "at step 5 of 60,"),
        ({"metrics": [{"step": 60}], "run": {"settings": {"max_steps": 60}}}, ""),
        ({"metrics": [{"step": 5}], "result": RESULT}, ""),
    ],
)
def test_what_tells_that_a_run_is_not_finished(report, files, said):
    page = report([record()], **files)

    assert page.shows("This run is not finished") == bool(said) and page.shows(said)


def test_a_scored_run_has_no_empty_panels(report):
    page = report([record()], run=SCORE, result={"responses": 1})

    assert "curves" not in page.text and "Held-out accuracy" not in page.text
    headings = re.findall(r"<h2>(.*?)</h2>", page.source)
    assert headings == [
        "Responses",
        "Distribution of dependency",
        "Right and wrong answers",
        "Classes of tokens",
        "Anchor tokens",
        "Where in the response",
        "Not in this report",
        "How this came about",
    ]
    assert page.text.count("no response has a view named control:same") == 1


def test_views_without_a_picture_are_named_once(report):
    views = {"blind": {}, "noise": {}, "blur": {"images": ["images/a.png"]}}
    page = report([record(n, views=views) for n in range(3)])

    assert page.text.count("Under blind the image is removed. Of the view noise no picture") == 1
    assert page.text.count("view blur") == 3 and page.tags.count("img") == 6


def test_missing_panels_are_explained(report):
    page = report()

    assert page.shows("Held-out accuracy is left out: result.json does not hold it.")
    assert page.shows("curves are left out: metrics.jsonl is missing or holds no step.")
    assert page.shows("The responses are left out: tokens.jsonl is missing or empty")
    assert page.shows("The distribution is left out: no response has a dependency.")


def test_missing_files_are_explained(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n')
    page = Page(write_report(tmp_path))

    assert page.shows("The responses are left out: tokens.jsonl is missing or empty")
    assert page.shows("The command is not known: run.json does not hold it.")


def test_a_folder_without_any_file_of_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no run folder: it has none of run"):
        write_report(tmp_path)


def test_missing_curves_are_named(report):
    metrics = [
        {"step": 1, "reward": 0.25, "rewards/exact_answer/mean": math.nan},
        {"step": 2, "reward": 0.75, "grad_norm": 1.5},
        {"step": 3, "reward": math.inf},
    ]
    page = report(metrics=metrics)

    assert page.shows("Reward 0.75 1 not finite")
    assert page.shows("Gradient norm 1.5")
    # the accuracy goes by one of three names, of which the first is named
    known = ("reward", "grad_norm", "rewards/accuracy/mean", "accuracy/mean")
    missing = ", ".join(key for key in METRICS if key not in known)
    assert page.shows(f"Left out, because metrics.jsonl does not hold them: {missing}.")
    assert page.cells()[1:4] == [["1", "0.25", "n/a"], ["2", "0.75", "1.5"], ["3", "n/a", "n/a"]]


def test_tokens_carry_tint_marks_and_exact_values(report):
    # S                 6      0.1     2       0       0.5
    # log10(100 S) / 3  0.926  0.333   0.767   0       0.566     from 0.01 to 10 nats
    # level of 15       14     5       12      -       8
    # gate              1      0.049   0.565   0       0.208     of PGPO, against 0.4
    page = report([record(labels=LABELS)])

    assert [classes for classes, _, _ in page.tokens] == [
        "t14 above visual",
        "t5",
        "t12 above visual",
        "",
        "t8",
    ]
    assert page.tokens[0][1] == (
        f"two · dependency 6 · blind log-ratio {MINUS}2.5 · weight 2.75 · label visual"
        " · above threshold"
    )
    assert page.tokens[1][1] == (
        "␣plus · dependency 0.1 · blind log-ratio 0.25 · weight 0.125 · label other"
    )
    assert [text for *_, text in page.tokens] == ["two", "plus", "two", "↵\n", "4"]
    assert page.cells()[1] == ["1", "two", "6", f"{MINUS}2.5", "2.75", "visual", "above threshold"]
    assert page.cells()[4] == ["4", "↵", "0", "0", "0", "other", ""]


def test_in_a_page_of_many_tokens_neighbours_that_look_alike_are_one_element(report, monkeypatch):
    monkeypatch.setattr("sightline.report.panels.responses.RICH", 4)
    tokens = ["two", " a", " \N{SLIGHTLY SMILING FACE}", " <b>", " c"]
    page = report([record(tokens=tokens, dependency=[6.0, 0.0, 0.0, 2.0, 2.0])])

    # data-n counts as scripts do: an emoji is two units; data-marks: 1 is above the threshold
    assert (
        '<p class="tokens" dir="auto" data-n="3,2,3,4,2" data-marks="10011">'
        '<i class="t14 above">two</i> a \N{SLIGHTLY SMILING FACE} '
        '<i class="t12 above">&lt;b&gt; c</i></p>'
    ) in page.source
    assert "report/tables/tokens.csv holds them" in page.text


def test_outcome_of_a_response(report):
    page = report([record(), record(1, reward=0.0, reward_reason="no_answer", gold="17")])

    assert page.shows("Right answers")
    assert page.shows(f"✓ right gold 4 reward 1 advantage {MINUS}0.75 mean dependency 1.72 nats")
    assert page.shows("✗ wrong (no answer) gold 17 reward 0")
    assert page.shows("2 of 2 responses: right and wrong ones in equal parts")


def test_the_threshold_is_the_run_s_own_if_it_is_pgpo_s(tmp_path):
    runs = {"pgpo": 0.6, "prpo": 0.4}  # PRPO's threshold is on another scale
    for name, threshold in runs.items():
        run = {"algorithm": {"name": name, "threshold": 0.6}}
        page = Page(write_report(write_run(tmp_path / name, [record()], run=run)))

        assert page.shows(f"threshold, {threshold}")
        assert len([t for t in page.tokens if "above" in t[0]]) == (1 if name == "pgpo" else 2)


def test_the_legend_explains_boxes_only_where_there_are_labels(tmp_path):
    for labels in (None, LABELS):
        folder = write_run(tmp_path / str(bool(labels)), [record(labels=labels)])
        assert Page(write_report(folder)).shows("boxed labelled") == bool(labels)


def test_another_view_is_named_in_the_explanation(report):
    page = report([record(views={"mask": {"log_ratio": [0.0] * 5, "kl": [1.0] * 5}})])

    assert page.shows("and under another view of it ( mask ).")
    assert " · mask log-ratio 0 · mask KL 1 · " in page.tokens[0][1]


def test_text_only_rows_show_na_and_never_zero(report):
    text_only = record(1, images=[], dependency=[0.0] * 5, weights=[1.0] * 5, labels=None)
    page = report([record(), text_only])

    assert page.shows("mean dependency n/a (no image)")
    assert page.shows("Not scored: 1 of 2 responses. Reasons: no image (1).")
    for classes, title, _ in page.tokens[5:]:
        assert classes == ""
        assert "dependency n/a · blind log-ratio n/a · weight 1" in title
    assert page.shows("5 tokens of 1 held-out response")  # not counted in the distribution


def test_what_was_not_recorded_is_not_shown(report):
    page = report([record(weights=None, advantage=None, views={}, reward=None)])

    assert page.tokens[0][1] == "two · dependency 6 · above threshold"
    assert page.shows("gold 4 reward n/a mean dependency")


def test_gaps_and_misaligned_columns_are_counted(report):
    page = report([record(dependency=[6.0, None, 2.0, math.nan, 0.5], weights=[1.0])])

    assert page.shows("2 tokens of scored responses without a finite dependency")
    assert page.shows("does not line up with the tokens: weights of 1 response.")
    assert "dependency n/a" in page.tokens[1][1] and "weight" not in page.tokens[0][1]
    assert page.shows("3 tokens of 1 held-out response")


def test_distribution_counts_held_out_responses_and_splits_them_by_label(report, drawn):
    # S            6, 2 visual     0.1, 0 other     0.5 answer     total 8.6
    # mean         4               0.05             0.5
    # share, %     93.0            1.2              5.8
    train = record(1, split="train", dependency=[9.0] * 5)
    page = report([record(labels=LABELS), train])

    assert page.shows("5 tokens of 1 held-out response; 1 scored response of other splits left out")
    assert [row for row in page.cells() if row[:1] and row[0] in LABELS][:3] == [
        ["visual", "2", "4", "4", "93.0\u202f%"],
        ["answer", "1", "0.5", "0.5", "5.8\u202f%"],
        ["other", "2", "0.05", "0.05", "1.2\u202f%"],
    ]
    assert "5.8 to 6.0 nats" not in page.source  # 6.0 belongs to the bin that starts with it
    assert page.shows("6.0 to 6.2 nats: 1")


def test_training_responses_are_counted_if_none_is_held_out(report, drawn):
    page = report([record(split="train", labels=["visual", "odd", "other", "other", "other"])])

    assert page.shows("5 tokens of 1 response.")
    assert page.shows("not labelled, 1 token")


def test_zero_dependency_everywhere_asks_for_the_image(report):
    page = report([record(dependency=[0.0] * 5)])

    assert page.shows("every dependency is 0. Does the image reach the model?")
    assert ["all", "5", "0", "0", "n/a"] in page.cells()


def test_foot_shows_command_versions_and_unknown_keys(report):
    page = report(run={"command": "sightline demo --seed 0", "versions": {"torch": "2.15.0"},
                       "settings": {"learning_rate": 2e-05}, "a new key": "kept"})  # fmt: skip

    assert page.shows("sightline demo --seed 0")
    assert page.shows("torch 2.15.0")
    assert page.shows('settings { "learning_rate": 2e-05 }')
    assert page.shows("a new key kept")


def test_half_written_line_is_named_and_the_rest_is_shown(tmp_path):
    folder = write_run(tmp_path / "run", [record()])
    with (folder / "tokens.jsonl").open("a") as file:
        file.write(json.dumps(record(1))[:100])
    page = Page(write_report(folder))

    assert page.shows("tokens.jsonl: 1 line could not be read (line 2; the last one is half-")
    assert page.tags.count("article") == 1


# pictures


def test_picture_is_inside_the_page_and_pixelated(report):
    page = report([record()])
    picture = {name: value for tag, name, value in page.attributes if tag == "img"}

    assert picture["src"].startswith("data:image/png;base64,")
    assert picture["class"] == "pixels"
    assert "images/a.png" not in picture["src"]


def test_missing_and_foreign_pictures_are_named(report):
    page = report([record(images=["images/gone.png", "../secret.png", "images/a.png"])])

    assert page.shows("images/gone.png is not shown: there is no such file in the run folder.")
    assert page.shows("../secret.png is not shown: its path leaves the run folder")
    assert page.tags.count("img") == 1


# untrusted text

HOSTILE = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><img src=x onerror=alert(1)>",
    "javascript:alert(1)",
    '" onmouseover="alert(1)',
    "' style='background:url(//example.org)",
    "{{ 7 * 7 }}{% raw %}",
    "<!--",
    "]]>",
    "&lt;script&gt;",
]


def test_untrusted_text_is_inert(report):
    rows = [
        record(
            id=text,
            split=text,
            prompt=text,
            images=[text],
            gold=text,
            reward_reason=text,
            tokens=[text] * 5,
            labels=[text] * 5,
            views={text: {"log_ratio": [0.1] * 5}},
            dependency=[5.0 - place] * 5,
        )
        for place, text in enumerate(HOSTILE)
    ]
    rows.append(record(tokens=[], response="".join(HOSTILE)))
    texts = {text: text for text in HOSTILE}
    run = {"command": "".join(HOSTILE), "algorithm": {"name": HOSTILE[0]} | texts, "nested": texts}
    result = {"seed": HOSTILE[1], "seconds": dict.fromkeys(HOSTILE, 1)}
    page = report(rows, run=run | {"versions": texts} | texts, result=result)

    assert page.tags.count("script") == 1 and page.tags.count("style") == 1
    assert page.tags.count("title") == 1 + page.source.count("<g><title>")
    assert "a" not in page.tags
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        assert name != "href" and (name != "src" or value.startswith("data:image/png;base64,"))
        assert name != "style" or "url(//" not in value
    assert [shown for *_, shown in page.tokens] == [text for text in HOSTILE for _ in range(5)]


def test_page_allows_its_own_script_alone_and_no_network(report):
    page = report([record()])
    policy = [value for _, name, value in page.attributes if name == "content"]
    (script,) = re.findall(r"<script>(.*?)</script>", page.source, flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()

    assert (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    ) in policy
    page.source = page.source.replace(script, re.sub(r"^ *//.*", "", script, flags=re.MULTILINE))
    assert "//" not in re.sub(r'xmlns(:xlink)?="[^"]*"|base64,[^"]*', "", page.source)


STRANGE = {
    "nul": ("a\0b", "a␀b"),
    "escape": ("\x1b[31m", "␛[31m"),
    "carriage return": ("\r", "␍"),
    "delete and C1": ("\x7f\x85", "��"),
    "lone surrogate": ("\ud800x\udfff", "�x�"),
    "noncharacter": ("\ufffe\uffff\U0001ffff\ufdd0", "����"),
    "right-to-left override": ("\u202egnp", "⟨U+202E⟩gnp"),
    "isolate": ("\u2066x", "⟨U+2066⟩x"),
    "hebrew": ("שלום", "שלום"),
    "combining mark alone": ("\u0301", "\u0301"),
    "emoji in pieces": ("👩\u200d🔬", "👩\u200d🔬"),
    "spaces": ("   ", "   "),
    "empty": ("", ""),
    "newlines": ("\n\n", "↵\n↵\n"),
    "tab": ("\t", "\t"),
    "million": ("x" * 10**6, "x" * 200 + "… (999,800 more characters)"),
}


def test_strange_text_stays_valid_and_tokens_line_up(report):
    tokens, expected = [], []
    for text, shown in STRANGE.values():
        tokens += ["word", text]
        expected += ["word", shown]
    dependency = [0.25 * place for place in range(len(tokens))]
    strange = "".join(text for text, _ in STRANGE.values())
    fields = dict.fromkeys(("id", "prompt", "gold", "reward_reason", "response"), strange)
    fields |= {"tokens": tokens, "dependency": dependency, "labels": tokens, "weights": dependency}
    page = report([record(**fields)], run={strange: strange, "command": strange})

    assert [shown for *_, shown in page.tokens] == expected
    assert [title.split(" · ")[1] for _, title, _ in page.tokens] == [
        f"dependency {0.25 * place:g}" for place in range(len(tokens))
    ]
    assert len(page.source) < 300_000
    forbidden = r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff\u202a-\u202e\u2066-\u2069]"
    assert not re.search(forbidden, page.source)


def test_long_responses_fold_and_then_stop(report, monkeypatch):
    assert (responses_panel.FOLD, responses_panel.CUT) == (400, 4_000)
    monkeypatch.setattr(responses_panel, "FOLD", 40)
    monkeypatch.setattr(responses_panel, "CUT", 1_200)
    count = 1_500
    long = record(tokens=[f" t{n}" for n in range(count)], dependency=[0.1] * count, labels=None,
                  weights=[1.0] * count, views={})  # fmt: skip
    page = report([long])

    assert len(page.tokens) == 1_200
    assert page.shows("1,160 more tokens")
    assert page.shows("300 further tokens left out here")
    assert page.shows("1,500 tokens of 1 held-out response")  # all of them are counted


# same input, same bytes


def test_same_input_same_bytes(complete, tmp_path, drawn):
    path = write_report(complete_run(tmp_path / "elsewhere"))

    assert path == tmp_path / "elsewhere" / "report.html"
    assert path.read_bytes() == complete.source.encode()


def test_ids_are_unique(complete):
    ids = [value for _, name, value in complete.attributes if name == "id"]

    assert len(ids) == len(set(ids)) > 3


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_missing_extra_is_named_at_the_point_of_use(tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    message = rf"a report needs {library}: pip install 'sightline\[report\]'"
    with pytest.raises(ImportError, match=message):
        write_report(write_run(tmp_path / "run"))


# which responses, which tokens


def test_above_threshold_by_hand():
    # S             0      0.1        0.5        2          6
    # s = log(1+S)  0      0.095310   0.405465   1.098612   1.945910
    # I             0      0.048980   0.208368   0.564575   1
    dependency = [0.0, 0.1, 0.5, 2.0, 6.0]

    assert above_threshold(dependency, 0.2) == [False, False, True, True, True]
    assert above_threshold(dependency, 0.4) == [False, False, False, True, True]
    assert above_threshold(dependency, 1.0) == [False, False, False, False, True]
    assert above_threshold([None, 2.0, 6.0, None], 0.4) == [False, False, True, False]


def test_no_token_is_above_when_all_are_alike():
    assert above_threshold([2.0, 2.0], 0.4) == [False, False]
    assert above_threshold([0.0, 0.005], 0.4, min_range=0.01) == [False, False]
    assert above_threshold([0.0, 0.005], 0.4) == [False, True]
    assert above_threshold([], 0.4) == []


@pytest.mark.parametrize(
    "dependency, expected",
    [(0.0, 0), (0.01, 0), (0.1, 1 / 3), (1.0, 2 / 3), (10.0, 1), (50.0, 1), (None, None)],
)
def test_tint_is_logarithmic_from_a_hundredth_to_ten_nats(dependency, expected):
    assert tint(dependency) == (None if expected is None else pytest.approx(expected))


def responses(*rows):
    """Responses from (split, step, right, mean dependency), named by their place."""
    reasons = {True: "matched", False: "different", None: None}
    return [
        read_response(
            record(
                id=str(n),
                split=split,
                step=step,
                reward=None,
                reward_reason=reasons[right],
                dependency=None if mean is None else [mean] * 5,
            )
        )
        for n, (split, step, right, mean) in enumerate(rows)
    ]


def ids(chosen):
    return {title: [response.id for response in group] for title, group in chosen.items()}


def test_right_and_wrong_responses_in_equal_parts():
    pool = responses(
        *[("heldout", 1, True, 1.0 * n) for n in range(6)],
        *[("heldout", 1, False, 1.0 * n) for n in range(3)],
        ("heldout", 1, None, 1.0),
    )

    assert {title: len(group) for title, group in choose(pool, 4).items()} == {
        "Right answers": 2,
        "Wrong answers": 1,
        "Answers not judged": 1,
    }
    assert {title: len(group) for title, group in choose(pool, 9).items()} == {
        "Right answers": 5,  # the wrong ones do not suffice
        "Wrong answers": 3,
        "Answers not judged": 1,
    }
    assert sum(map(len, choose(pool).values())) == 10


def test_held_out_and_late_responses_come_first():
    pool = responses(
        ("train", 9, True, 1.0),
        ("heldout", 1, True, 1.0),
        ("heldout", 5, True, 1.0),
        ("heldout", 5, False, 1.0),
        ("train", 3, True, 1.0),
    )

    assert ids(choose(pool, 2)) == {"Right answers": ["2"], "Wrong answers": ["3"]}
    assert ids(choose(pool, 3)) == {"Right answers": ["2", "1"], "Wrong answers": ["3"]}
    assert ids(choose(pool, 4)) == {"Right answers": ["2", "1", "0"], "Wrong answers": ["3"]}


def test_responses_to_another_rows_image_are_shown_as_such_and_not_counted(report):
    splits = "true image", "other image", "other image"
    page = report([record(n, split=split) for n, split in enumerate(splits)])
    assert page.shows("1 response") and page.shows("2 scored responses of other splits left out")
    cards = re.findall(r'<p class="identity">(.*?)</p>', page.source)
    assert [", <bdi>other image</bdi>" in card for card in cards] == [False, True, True]
    assert not any("true image" in card for card in cards)


def test_spread_goes_from_most_to_least_dependent():
    pool = responses(*[("heldout", 1, True, mean) for mean in (0.3, 0.1, None, 0.5, 0.2, 0.4)])

    assert [r.id for r in spread(pool, 3)] == ["3", "0", "1"]  # 0.5, 0.3, 0.1
    assert [r.id for r in spread(pool, 1)] == ["3"]
    assert [r.id for r in spread(pool, 6)] == ["3", "5", "0", "4", "1", "2"]  # n/a comes last
