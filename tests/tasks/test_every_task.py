"""What holds of every task: right labels, honest twins, splits that share no image, no free lunch.

`digits`, which is older and has no twins, has a file of its own.
"""

import inspect
import re
from collections import Counter, defaultdict
from functools import cache
from itertools import pairwise
from math import log2
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sightline import tasks
from sightline.tasks import charts, digits, photos, responses, scenes, shapes, text_only
from sightline.token_labels import label_tokens, token_texts

NAMES = [name for name in tasks.NAMES if name != "digits"]
TEXT_TASKS = {"text-only", "irrelevant"}
PICTURE_TASKS = [name for name in NAMES if name not in TEXT_TASKS]

every_task = pytest.mark.parametrize("name", NAMES)
every_picture_task = pytest.mark.parametrize("name", PICTURE_TASKS)


@cache
def rows_of(name):
    return tasks.load(name).rows(300, seed=5)


@cache
def demonstrations(name):
    rng = np.random.default_rng(0)
    return [tasks.load(name).demonstration(row, rng) for row in rows_of(name)]


def marked(task, text, label):
    return [text[a:b] for a, b, found in task.spans(text) if found == label]


# What a row shows, found without the code that drew it: from the pixels, or from the names of the
# images where no pixel rule would be simple.


def digits_shown(row):
    labels = digits.load_scans()[1]
    return [digits.NUMBERS[labels[int(name.removeprefix("scan-"))]] for name in row["sources"]]


def shapes_shown(row):
    pixels = np.asarray(row["images"][0], dtype=int)
    centres = pixels[8::16, 8::16].reshape(9, 3)
    palette = {"cross": (255, 255, 255), **shapes.COLOURS}
    cells = {}
    for cell, colour in enumerate(centres):
        (name, distance), *_ = sorted(
            ((name, abs(colour - value).sum()) for name, value in palette.items()),
            key=lambda pair: pair[1],
        )
        if distance == 0:  # the ground is dimmed: it is no colour of the palette
            cells[divmod(cell, 3)] = name
    ((y, x),) = [place for place, name in cells.items() if name == "cross"]  # there is one
    relation = re.search("shape (.*) the cross", row["question"])[1]
    step = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}[relation]
    colour = cells[y + step[0], x + step[1]]
    counts = [sum(cells.get((i, column)) == colour for i in range(3)) for column in range(3)]
    return [colour, *(digits.NUMBERS[count] for count in counts)]


def charts_shown(row):
    pixels = np.asarray(row["images"][0], dtype=int)
    heights = []
    for place in range(4):
        # between two lines each, in the middle of the bar and on the paper beside it
        bar, paper = (pixels[3:45:5, 16 * place + x].sum(1)[::-1] for x in (8, 1))
        heights.append(sum(paper - bar > 100))
    return [digits.NUMBERS[height] for height in heights]


def photos_shown(row):
    about_size = "large" in row["question"]
    words = []
    for name in row["sources"]:
        kind, number = re.match(r"(coin|face|brick|page)\D*(\d+)", name).groups()
        if about_size and kind == "coin":
            top, bottom, left, right = photos.COINS[int(number)]
            kind = "large" if max(bottom - top, right - left) > 47 else "small"
        words.append("none" if about_size and kind in ("brick", "page") else kind)
    return words


def numbers_asked(row):
    return re.findall(r"\b(?:zero|one|two|three|four|five|six)\b", row["question"])


def total(row, words):
    return sum(digits.NUMBERS.index(word) for word in words)


def extremes(row, words):
    heights = sorted(digits.NUMBERS.index(word) for word in words)
    return heights[-1] - heights[0] if "lowest ?" in row["question"] else heights[0] + heights[-1]


def crops_asked(row, words):
    if "only large" in row["question"]:
        (place,) = [i for i, word in enumerate(words) if word == "large"]  # the answer is unique
        return place + 1
    wanted = next(word for word in ("large", "face", "coin") if word in row["question"])
    return words.count(wanted)


SHOWN_AND_SOLVED = {
    "digits-sum": (digits_shown, total),
    "digits-prior": (digits_shown, total),
    "shapes": (shapes_shown, lambda row, words: total(row, words[1:])),
    "charts": (charts_shown, extremes),
    "photos": (photos_shown, crops_asked),
    "text-only": (numbers_asked, total),
    "irrelevant": (numbers_asked, total),
}


@every_task
def test_what_is_read_and_concluded_is_true(name):
    task, (shown, solved) = tasks.load(name), SHOWN_AND_SOLVED[name]
    for row, text in zip(rows_of(name), demonstrations(name), strict=True):
        assert row["reads"] == shown(row)
        assert row["answer"] == str(solved(row, row["reads"]))
        assert row["answer"] == task.solve(row["question"], row["reads"])
        assert task.readings(text) == tuple(row["reads"])
        visual = [] if name in TEXT_TASKS else row["reads"]
        assert sorted(marked(task, text, "visual")) == sorted(visual)
        result, box = marked(task, text, "answer")
        assert (digits.NUMBERS.index(result), box) == (int(row["answer"]), row["answer"])
    assert task.reading_accuracy(rows_of(name), demonstrations(name)) == 1
    assert len({row["difficulty"] for row in rows_of(name)}) > 1


def test_crops_show_what_their_names_say():
    def normalised(tile):
        pixels = tile[:, 1:-1].astype(float).ravel()  # without the lines between the crops
        return (pixels - pixels.mean()) / (pixels.std() + 1e-9)

    named = {name: crop for part in photos._crops()["rl"].values() for name, crop in part.items()}
    known = np.array([[normalised(crop), normalised(crop[:, ::-1])] for crop in named.values()])
    for row in rows_of("photos"):
        picture = np.asarray(row["images"][0].convert("L"))
        for place, name in enumerate(row["sources"]):
            seen = normalised(picture[:, 32 * place : 32 * place + 32])
            closest = (known @ seen).max(1).argmax()
            assert list(named)[closest] == name


@pytest.mark.parametrize("name", ["digits-sum", "digits-prior"])
def test_the_scans_painted_are_those_named(name, monkeypatch):
    painted = []

    def paint(scans, rng):
        painted.append(scans)
        return Image.new("RGB", (9, 9))

    monkeypatch.setattr(digits, "paint_scene", paint)
    for row, scans in zip(tasks.load(name).rows(20), painted, strict=True):
        chosen = [int(source.removeprefix("scan-")) for source in row["sources"]]
        np.testing.assert_array_equal(scans, digits.load_scans()[0][chosen])


@every_picture_task
def test_what_changes_between_twins_is_what_is_labelled(name):
    task = tasks.load(name)
    for index, row in enumerate(rows_of(name)[:100]):
        twin = task.twin(row)
        same = {"prompt", "question", "length", "filler"}
        assert {key: row[key] for key in same} == {key: twin[key] for key in same}
        assert (twin["id"], twin["twin_id"]) == (row["twin_id"], row["id"])
        assert row["twin_id"] == f"{row['id']}-twin"
        assert twin["images"][0].tobytes() != row["images"][0].tobytes()
        shown, solved = SHOWN_AND_SOLVED[name]
        assert twin["reads"] == shown(twin)
        assert twin["answer"] == str(solved(twin, twin["reads"]))
        assert task.twin(twin) == row
        told = [task.demonstration(side, np.random.default_rng(index)) for side in (row, twin)]
        pieces, words = zip(*(cut(text, task.spans(text)) for text in told), strict=True)
        assert pieces[0] == pieces[1]
        assert all(a != b for a, b in zip(*words, strict=True))


def cut(text, spans):
    """The text between the spans, and the texts of the spans."""
    edges = [0, *(edge for a, b, _ in sorted(spans) for edge in (a, b)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    return pieces[::2], pieces[1::2]


def test_a_twin_of_noise_changes_no_word_and_without_a_picture_there_is_none():
    task = tasks.load("irrelevant")
    for row in rows_of("irrelevant")[:20]:
        twin = task.twin(row)
        assert twin["images"][0].tobytes() != row["images"][0].tobytes()
        assert (twin["reads"], twin["answer"]) == (row["reads"], row["answer"])
        assert task.twin(twin) == row
    for row in rows_of("text-only")[:20]:
        assert (row["images"], row["twin_id"]) == ([], None)
        assert tasks.load("text-only").twin(row) is None


def test_no_twin_has_the_common_answer():
    rows = rows_of("digits-prior")
    twins = [tasks.load("digits-prior").twin(row) for row in rows[:100]]
    assert Counter(row["answer"] for row in rows).most_common(1)[0][0] == "9"
    assert "9" not in {twin["answer"] for twin in twins}


@every_task
def test_rows_follow_from_seed_split_and_index(name):
    def content(row):
        return {**row, "images": [image.tobytes() for image in row["images"]]}

    task = tasks.load(name)
    few, many = ([content(row) for row in task.rows(n, seed=9, split="warm")] for n in (3, 6))
    assert few == many[:3]
    assert few[2]["id"] == f"{name}-warm-9-00002"
    assert len({row["id"] for row in rows_of(name)}) == 300
    assert few != [content(row) for row in task.rows(3, seed=8, split="warm")]
    assert few[0]["prompt"] == [{"role": "user", "content": few[0]["question"]}]
    told = task.rows(1, seed=9, split="warm", instruction="box it")[0]
    assert told["prompt"][0]["content"] == f"{few[0]['question']}\n\nbox it"
    with pytest.raises(ValueError, match=r"\['heldout', 'rl', 'warm'\], got 'test'"):
        task.rows(1, split="test")


@cache
def unpainted(name, split, n):
    """Rows without their pictures, where thousands are drawn for their words."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "pictures", lambda scene, rng: [])
        return tasks.load(name).rows(n, split=split)


@every_task
def test_splits_share_no_image(name):
    drawn = {"warm": 200, "rl": 2000, "heldout": 200}
    used = {
        split: {source for row in unpainted(name, split, n) for source in row["sources"]}
        for split, n in drawn.items()
    }
    assert all(used.values())
    assert sum(map(len, used.values())) == len(set.union(*used.values()))
    if name.startswith("digits"):
        for split, names in used.items():
            part = digits.SCANS[split]
            assert all(part.start <= int(scan.split("-")[1]) < part.stop for scan in names)


@every_task
def test_guessing_from_the_text_is_right_as_often_as_declared(name):
    rows = unpainted(name, "rl", 2000)
    seen = defaultdict(Counter)
    for row in rows[:1000]:
        seen[row["prompt"][0]["content"]][row["answer"]] += 1
    best = {text: answers.most_common(1)[0][0] for text, answers in seen.items()}
    right = np.array([best.get(r["prompt"][0]["content"]) == r["answer"] for r in rows[1000:]])
    means = np.random.default_rng(0).choice(right, (1000, 1000)).mean(1)
    low, high = np.quantile(means, [0.001, 0.999])
    assert low <= tasks.load(name).guess_rate() <= high


@every_task
def test_a_mutilated_response_is_outside_the_grammar(name):
    task = tasks.load(name)
    text = demonstrations(name)[0]
    marker = next(iter(task.VOCABULARY))
    clause = re.search(rf" {marker} \w+ \w+", text)[0]
    (result, _), box = marked(task, text, "answer"), rows_of(name)[0]["answer"]
    mutilated = {
        "no clause": text.replace(clause, ""),
        "a clause twice": text.replace(clause, clause + clause),
        "no marker": text.replace(f" {marker} ", " "),
        "nothing read": text.replace(clause, clause.rsplit(" ", 1)[0]),
        "a word of another kind": text.replace(clause, clause.rsplit(" ", 1)[0] + " eighteen"),
        "a number in between": text.replace(clause, clause + " five"),
        "no conclusion": text.replace(f" {result} .", " ."),
        "two conclusions": text.replace(f" {result} .", f" {result} {result} ."),
        "a marker for a conclusion": text.replace(f" {result} .", f" {marker} ."),
        "thinking never ends": text.replace(" </think>", ""),
        "no box": text.replace(f"\\boxed{{{box}}}", box),
        "words in the box": text.replace(f"{{{box}}}", "{some}"),
        "more after the box": f"{text} {result}",
        "nothing": "",
    }
    assert task.spans(text) is not None
    for fault, broken in mutilated.items():
        assert broken != text, fault
        assert task.spans(broken) is None, fault
        assert task.readings(broken) is None, fault
    assert task.reading_accuracy(rows_of(name)[:2], [text, mutilated["no box"]]) == 0.5


def test_free_wording_stays_inside_the_grammar():
    text = "<think>left: three, hm. on the right eight! so eleven.</think>\n\\boxed{12}\n"
    task = tasks.load("digits-sum")
    assert task.readings(text) == ("three", "eight")
    assert cut(text, task.spans(text))[1] == ["three", "eight", "eleven", "12"]
    swapped = text.replace("the right", "the left").replace("left:", "right:")
    assert task.readings(swapped) == ("eight", "three")


@every_task
def test_spans_are_whole_tokens(name):
    from sightline.tiny_vlm import build_processor

    task = tasks.load(name)
    tokenizer = build_processor(task.corpus()).tokenizer
    for row, text in zip(rows_of(name)[:30], demonstrations(name), strict=False):
        texts = token_texts(tokenizer, tokenizer(text)["input_ids"])
        labels = label_tokens(texts, task.spans(text))
        assert "".join(texts) == text
        found = [piece for piece, label in zip(texts, labels, strict=True) if label == "visual"]
        assert found == [f" {word}" for word in marked(task, text, "visual")]
        found = [piece for piece, label in zip(texts, labels, strict=True) if label == "answer"]
        assert found == [f" {digits.NUMBERS[int(row['answer'])]}", *row["answer"]]
    # every word is one token, of the questions and of the thinking
    said = demonstrations(name)[:30] + [row["question"] for row in rows_of(name)[:30]]
    words = {word for text in said for word in text.split() if not re.search(r"[<\\]", word)}
    assert all(len(tokenizer(f" {word}")["input_ids"]) == 1 for word in words)
    questions = [row["question"] for row in rows_of(name)[:30]]
    assert [len(ids) for ids in tokenizer(questions)["input_ids"]] == [
        len(question.split()) for question in questions
    ]


# The words that matter, read and concluded, of all words of the thinking.
SHARES = {
    "digits-sum-12-free": 3 / 12,
    "digits-sum-12-low": 3 / 12,
    "digits-sum-48-free": 3 / 48,
    "digits-sum-96-free": 3 / 96,
    "digits-sum-96-low": 3 / 96,
    "digits-prior": 3 / 48,
    "shapes": 5 / 48,
    "charts": 5 / 48,
    "photos": 5 / 48,
    "text-only": 1 / 48,
    "irrelevant": 1 / 48,
}


@pytest.mark.parametrize("name", SHARES)
def test_the_share_of_words_that_matter(name):
    task = tasks.load(name)
    row = task.rows(1)[0]
    for seed in range(20):
        text = task.demonstration(row, np.random.default_rng(seed))
        words = text.removeprefix("<think> ").split(" </think>")[0].split()
        matter = len(marked(task, text, "visual")) + 1
        assert matter / len(words) == SHARES[name]


def test_the_testbeds_shares_are_within_a_point():
    # 25 / 6 / 3 % and 10 %
    declared = {"digits-sum-12-free": 0.25, "digits-sum-48-free": 0.06, "digits-sum-96-free": 0.03}
    for name, share in {**declared, "shapes": 0.1, "charts": 0.1, "photos": 0.1}.items():
        assert SHARES[name] == pytest.approx(share, abs=0.01)


@pytest.mark.parametrize(("filler", "bits"), [("free", 3.0), ("low", 0.3545)])
def test_the_entropy_of_the_filler(filler, bits):
    # low: 0.96 log2(1/0.96) + 0.04 log2(7/0.04) = 0.0565 + 0.2980
    assert responses.bits_per_filler_word(filler) == pytest.approx(bits, abs=1e-3)
    task = tasks.load(f"digits-sum-96-{filler}")
    row = task.rows(1)[0]
    rng = np.random.default_rng(0)
    said = Counter(word for _ in range(150) for word in task.demonstration(row, rng).split())
    # 150 x 87 words, a sixth in each slot; estimating 8 shares from 2,175 words costs 0.003 bits
    for slot in responses.SLOTS:
        shares = np.array([said[word] for word in slot]) / sum(said[word] for word in slot)
        entropy = -sum(share * log2(share) for share in shares if share)
        assert entropy == pytest.approx(bits, abs=0.1)  # low: 87 surprises, 3 standard deviations
    assert sum(said[word] for slot in responses.SLOTS for word in slot) == 150 * (96 - 9)


def test_low_entropy_leaves_order_and_spacing_no_choice():
    for filler, arrangements in (("low", 1), ("free", 40)):
        task = tasks.load(f"digits-sum-48-{filler}")
        row = task.rows(1)[0]
        made = [task.demonstration(row, np.random.default_rng(seed)) for seed in range(50)]
        places = {tuple((text.split().index(side)) for side in ("left", "right")) for text in made}
        assert (len(places) <= arrangements) == (filler == "low")


def test_the_colour_comes_before_the_counts():
    orders = {
        tuple(re.findall(r"\b(neighbour|left|middle|right)\b", text))
        for text in demonstrations("shapes")
    }
    assert {order[0] for order in orders} == {"neighbour"}
    assert len(orders) == 6  # of three columns


@pytest.mark.parametrize(
    ("name", "module", "source", "other"),
    [
        ("digits-sum", digits, "load_scans", lambda: (np.zeros((2, 8, 8)), np.zeros(2))),
        ("digits-prior", digits, "load_scans", lambda: (np.zeros((2, 8, 8)), np.zeros(2))),
        ("shapes", scenes, "photo", lambda name: Image.new("RGB", (9, 9))),
        ("charts", charts, "_blocks", lambda: {"stocks-0": np.zeros((1, 25))}),
        ("photos", photos, "_crops", lambda: {"rl": {"face": {"face-0": np.zeros((2, 2))}}}),
        ("text-only", text_only, "_dealt", lambda: {"rl": ["what is the sum of one ?"]}),
        ("irrelevant", text_only, "_dealt", lambda: {"rl": ["what is the sum of one ?"]}),
    ],
)
def test_a_fingerprint_follows_data_and_settings(name, module, source, other, monkeypatch):
    task = tasks.load(name)
    prints = [task.fingerprint(), task.fingerprint(length=96), task.fingerprint(filler="low")]
    assert task.fingerprint(length=48, filler="free") == prints[0]
    monkeypatch.setattr(module, source, other)
    prints.append(task.fingerprint())
    assert len(set(prints)) == 4


def test_filler_says_nothing():
    slots = [*responses.SLOTS, responses.VERBS, responses.CONCLUSIONS]
    assert {len(words) for words in slots} == {responses.CHOICES}
    words = [word for slot in slots for word in slot]
    assert len(words) == len(set(words))
    for name in NAMES:
        vocabulary = tasks.load(name).VOCABULARY
        meant = {*vocabulary, *digits.NUMBERS, *(w for v in vocabulary.values() for w in v)}
        assert not meant & set(words)


@every_task
def test_a_careless_annotator_errs_consistently(name):
    task, (_, solved) = tasks.load(name), SHOWN_AND_SOLVED[name]
    rng = np.random.default_rng(0)
    wrong = 0
    for row in rows_of(name)[:100]:
        assert task.misread(row, rng, 0.0) == row
        told = task.misread(row, rng, 1.0)
        expected = [task.LOOK_ALIKES.get(word, word) for word in row["reads"]]
        assert told["reads"] == expected
        if "only large" not in row["question"]:  # there may now be two
            assert told["answer"] == str(solved(told, told["reads"]))
        wrong += told["reads"] != row["reads"]
        assert task.spans(task.demonstration(told, rng)) is not None
        short = task.transcription(told, rng).split()
        assert dict(zip(short[:-1:2], short[1:-1:2], strict=True)) == dict(
            zip(task.VOCABULARY, told["reads"], strict=True)
        )
        assert short[-1] == digits.NUMBERS[int(told["answer"])]
        if name == "shapes":  # what is counted hangs on the colour that is read before
            assert short[0] == "neighbour"
    assert wrong > 20


def test_the_cells_of_shapes_show_what_is_asked():
    """Found anew from the cells alone: the colour beside the cross, and its count per column."""
    from sightline.tasks import shapes

    for row in shapes.rows(100):
        cells = shapes.in_view(row)
        down, across = shapes.QUESTIONS[row["question"]]
        colour = cells[cells.index("cross") + 3 * down + across]
        counts = [cells[place::3].count(colour) for place in range(3)]
        assert row["reads"] == [colour, *(digits.NUMBERS[count] for count in counts)]
        pixels = np.asarray(row["images"][0], dtype=float).reshape(3, 16, 3, 16, 3)
        for cell, word in enumerate(cells):
            painted = pixels[cell // 3, 4:12, cell % 3, 4:12].reshape(-1, 3)
            wanted = {"cross": (255, 255, 255), **shapes.COLOURS}.get(word)
            filled = [(painted == colour).all(1).any() for colour in shapes.COLOURS.values()]
            assert sum(filled) == (word in shapes.COLOURS)
            assert wanted is None or (painted == wanted).all(1).any()


def test_variants_ask_the_same_of_the_same_pictures():
    short, long = (tasks.load(f"digits-sum-{length}-low") for length in (12, 96))
    for a, b in zip(short.rows(3), long.rows(3), strict=True):
        assert (a["id"], a["images"][0].tobytes()) == (b["id"], b["images"][0].tobytes())
        assert (a["length"], b["length"]) == (12, 96)
    # a warm start is kept under a hash of these two
    assert inspect.getsource(short) == inspect.getsource(tasks.load("digits-sum"))
    prints = [tasks.load(name).fingerprint() for name in (*NAMES, *tasks.VARIANTS)]
    same = ("digits-sum", "digits-sum-48-free")  # the default settings
    assert len(set(prints)) == len(prints) - 1
    assert len({tasks.load(name).fingerprint() for name in same}) == 1
    assert sorted(set(short.corpus())) == sorted(set(long.corpus()))


@every_task
def test_settings_out_of_range_are_refused(name):
    task = tasks.load(name)
    rng = np.random.default_rng(0)
    needed = 3 * len(task.VOCABULARY) + 3
    (row,) = task.rows(1, length=needed - 1)
    with pytest.raises(ValueError, match=f"at least {needed} for this task, got {needed - 1}"):
        task.demonstration(row, rng)
    (row,) = task.rows(1, length=needed)
    assert task.spans(task.demonstration(row, rng)) is not None
    (row,) = task.rows(1, filler="none")
    with pytest.raises(ValueError, match=r"filler must be one of \['free', 'low'\], got 'none'"):
        task.demonstration(row, rng)


def test_series_of_one_date_or_share_stay_in_one_split():
    for parts in charts._dealt().values():
        blocks = [block for part in parts.values() for block in part]
        assert len(blocks) == len(set(blocks))
        assert all(parts.values())
    # nine columns of Stocks.csv, without the share of goog.npz
    assert len(charts._blocks()["stocks-0"]) == 9


def test_a_wheel_without_the_file_says_what_to_do():
    with pytest.raises(ImportError, match=r"needs no_such_wheel: pip install 'sightline\[tasks\]'"):
        scenes.wheel_file("no_such_wheel", "data/coins.png")
    with pytest.raises(FileNotFoundError, match=r"skimage is installed without data/lion.png"):
        scenes.wheel_file("skimage", "data/lion.png")


def test_photos_are_dealt_so_that_every_split_can_ask_everything():
    for part in photos._crops().values():
        assert all(len(part[word]) >= 2 for word in ("face", "coin", "brick", "page"))
        assert all(len(part[word]) >= 2 for word in ("large", "small"))
        assert part["coin"].keys() >= part["large"].keys() | part["small"].keys()


def test_the_page_about_tasks_runs_as_shown(capsys):
    page = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(script, "tasks.md", "exec"), {})
    *labels, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in labels] == ["visual", "visual", "answer", "answer"]
    assert last.endswith(f"so {labels[-1].split()[1]}")
    for name in (*tasks.NAMES, *(n for n in tasks.VARIANTS if n in page)):
        assert f"`{name}`" in page
    # the images that each split is said to hold
    sizes = {split: sum(map(len, parts)) for split, parts in blocks_by_split().items()}
    assert f"| {' / '.join(str(sizes[split]) for split in scenes.SPLITS)} blocks of 25" in page
    kinds = ("face", "coin", "brick", "page")
    sizes = [sum(len(part[kind]) for kind in kinds) for part in photos._crops().values()]
    assert f"| {' / '.join(map(str, sizes))} images or blocks" in page


def blocks_by_split():
    return {split: [parts[split] for parts in charts._dealt().values()] for split in scenes.SPLITS}
