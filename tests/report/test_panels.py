"""What the panels count, by hand; how they look is in test_page."""

import json
from dataclasses import replace

import pytest
from PIL import Image

from sightline.report.panels.anchors import anchors
from sightline.report.panels.attribution import attribution
from sightline.report.panels.comparison import collapse_signs, comparison
from sightline.report.panels.control import control, control_problems
from sightline.report.panels.estimators import estimators
from sightline.report.panels.images_read import images_read
from sightline.report.panels.oracle import calibration, oracle
from sightline.report.panels.position import position
from sightline.report.panels.side_by_side import of_words
from sightline.report.panels.token_classes import DEFAULT, classify, read_rules, token_classes
from sightline.report.panels.trajectories import trajectories
from sightline.report.records import read_response
from sightline.report.runs import Run


def response(tokens, dependency, **fields):
    record = {"id": "a", "images": ["a.png"], "tokens": list(tokens), "dependency": dependency}
    return read_response(record | {"response": "".join(tokens)} | fields)


def run(tmp_path, *responses, metrics=(), attribution=(), name="run"):
    return Run(tmp_path / name, {}, {}, list(metrics), list(responses), list(attribution), [])


def table(panel):
    return [tuple(row) for row in panel["table"].rows]


# right and wrong


def test_effect_size_is_cliffs_delta_of_response_means(tmp_path):
    # means: right 2, 1; wrong 1, 0; pairs 2>1, 2>0, 1=1, 1>0: 3 of 4
    rows = [((2.0, 2.0), 1.0), ((0.0, 2.0), 1.0), ((1.0, 1.0), 0.0), ((0.0, 0.0), 0.0)]
    panel = trajectories(run(tmp_path, *(response("ab", list(d), reward=r) for d, r in rows)))

    assert panel["delta"] == 0.75 and panel["low"] is None  # four are too few for an interval
    assert panel["means"] == {"right": (2, 1.5), "wrong": (2, 0.5)}


@pytest.mark.parametrize("wrong, known", [(5, True), (4, False)])
def test_fewer_than_five_of_a_group_have_no_interval(tmp_path, wrong, known):
    rewards = [1.0] * 6 + [0.0] * wrong
    rows = [response("a", [n % 3 / 2], reward=reward) for n, reward in enumerate(rewards)]
    panel = trajectories(run(tmp_path, *rows))

    assert panel["delta"] is not None and (panel["low"] is not None) == known


def test_effect_size_needs_both_kinds(tmp_path):
    panel = trajectories(run(tmp_path, response("a", [1.0], reward=1.0)))

    assert panel["delta"] is None and panel["low"] is None


# token classes


def test_default_rules():
    tokens = ["<think>", " the", " tri", "angle", " A", " is", " left", " 4", "5", " +", " zebra",
              " \\boxed{", "4", "}"]  # fmt: skip

    assert classify(response(tokens, [0.1] * 14), read_rules(DEFAULT)) == [
        "special",
        "connective",
        "colour or shape",  # both parts of a word
        "colour or shape",
        "letter label",
        "connective",
        "spatial",
        "digit",
        "digit",
        "operator",
        "none of these",
        "none of these",
        "answer",  # and not a digit: the first rule wins
        "none of these",
    ]


def test_labels_put_a_token_into_a_class():
    rules = read_rules(DEFAULT)
    assert classify(response(["x", "y"], [0.1, 0.1], labels=["answer", "visual"]), rules) == [
        "answer",
        "none of these",
    ]


def test_class_means_by_hand(tmp_path):
    # digits 3, 1 and 2: mean 2, and 6 of 6.5 of all dependency
    rows = [response([" 3", " 4"], [3.0, 1.0]), response([" 5", " zebra"], [2.0, 0.5])]
    found = table(token_classes(run(tmp_path, *rows), read_rules(DEFAULT)))

    assert [(name, count, mean, share) for name, count, mean, _, _, share in found] == [
        ("digit", 3, 2.0, pytest.approx(6 / 6.5)),
        ("none of these", 1, 0.5, pytest.approx(0.5 / 6.5)),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("[[class", "is not readable as TOML"),
        ("a = 1", "has no \\[\\[class\\]\\]"),
        ("[[class]]\nwords = ['a']", "needs a name"),
        ("[[class]]\nname = 'a'\nword = ['a']", "unknown key 'word'"),
        ("[[class]]\nname = 'a'\nwords = 'a'", "must be a list of text"),
        ("[[class]]\nname = 'a'\npattern = '('", "pattern of 'a'"),
    ],
)
def test_bad_rules_say_what_is_wrong(tmp_path, text, message):
    (tmp_path / "rules.toml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_rules(tmp_path / "rules.toml")


# anchors, position


def test_anchors_rank_texts_by_mean_with_contexts(tmp_path):
    tokens = ["see", " red", " and", " red"]
    panel = anchors(run(tmp_path, response(tokens, [0.0, 4.0, 1.0, 2.0])))

    assert [row[:4] for row in panel["top"]] == [
        ("red", 2, 3.0, 4.0),
        ("and", 1, 1.0, 1.0),
        ("see", 1, 0.0, 0.0),
    ]
    assert panel["top"][0][5] == ["see ", "red", " and red"]  # where it depends most
    assert panel["bottom"] == []  # all of them are on top already


def test_position_is_in_twentieths(tmp_path):
    # 40 tokens: two in each twentieth; the first pair has mean 3, the others 0
    long = response(["t"] * 40, [4.0, 2.0] + [0.0] * 38)
    found = table(position(run(tmp_path, *[long] * 5)))

    assert len(found) == 20
    assert found[0] == (0, 5, 10, 3.0, 3.0, 3.0) and found[1][:4] == (5, 10, 10, 0.0)
    few = position(run(tmp_path, *[long] * 4))
    assert not few["banded"] and table(few)[0][4:] == (None, None)


# controls


def controlled(**controls):
    views = {f"control:{name}": {"log_ratio": x} for name, x in controls.items()}
    return response("ab", [3.0, 1.0], views=views)


def test_control_row_by_hand(tmp_path):
    # exp(x) - x - 1 at -1 is 1/e, at 0 is 0
    panel = control(run(tmp_path, controlled(same=[0.0, 0.0], blank=[-1.0, 0.0])))
    blank, same = panel["rows"]

    assert (blank[0], blank[2], blank[3], blank[7]) == (
        "blank",
        2,
        pytest.approx(0.18394, abs=1e-5),
        2.0,
    )
    assert (same[0], same[3], same[6]) == ("same", 0.0, 0.0)


def test_another_seed_stands_beside_the_view_that_it_draws_again(tmp_path):
    views = {
        "blind": {"log_ratio": [-3.0, -3.0]},
        "noise": {"log_ratio": [0.0, -1.0]},
        "control:seed-1": {"log_ratio": [-1.0, 0.0]},
    }
    made = {"blind": "Blind()", "noise": "AddNoise()", "control:seed-1": "AddNoise()"}
    panel = control(
        replace(run(tmp_path, response("ab", [3.0, 1.0], views=views)), about={"views": made})
    )
    (row,) = panel["rows"]
    assert row[1] == "another seed of noise: must be near noise itself"
    assert row[3] == row[7] == pytest.approx(0.18394, abs=1e-5)  # and not blind's 2


def test_head_warns_without_controls_and_when_the_same_image_differs(tmp_path):
    def warnings(*responses):
        checked = run(tmp_path, *responses)
        return " ".join(control_problems(checked, control(checked)))

    assert "There is no control row" in warnings(response("a", [1.0]))
    assert "There is no control row" in warnings(controlled(blank=[0.0, 0.0]))
    assert "gives up to 0.368 nats, and not 0" in warnings(controlled(same=[0.0, -1.0]))
    assert warnings(controlled(same=[0.0, 0.0])) == ""
    assert warnings() == ""  # nothing is scored, so there is nothing to control


# oracle, estimators, images


def test_oracle_by_hand(tmp_path):
    labels = ["visual", "other", "visual", "other"]
    row = response("abcd", [3.0, 2.0, 1.0, 0.0], labels=labels)
    panel = oracle(run(tmp_path, row))

    assert panel["auroc"] == 0.75  # of 4 pairs only 1 against 2 is wrong
    assert panel["precision"][0] == ("as many as are visual", 2, 0.5)
    assert panel["calibration"][-1][:4] == (3.0, None, 1, 1.0)
    assert panel["steps"] == ""


def test_oracle_over_steps_and_without_labels(tmp_path):
    rows = [
        response("ab", [1.0, 0.0], labels=["visual", "other"], step=1),
        response("ab", [0.0, 1.0], labels=["visual", "other"], step=2),
    ]
    panel = oracle(run(tmp_path, *rows))

    assert [tuple(row) for row in panel["tables"][2].rows] == [(1.0, 1.0, 1.0), (2.0, 0.0, 0.0)]
    assert "<path" in panel["steps"]
    assert oracle(run(tmp_path, response("a", [1.0]))) == {}


def test_calibration_interval_is_wilsons():
    import numpy as np

    # 2 of 8: (1/4 + z^2/16) / (1 + z^2/8) = 0.33110; half width 0.25962, by Wilson (1927)
    ((*_, share, low, high),) = calibration(np.full(8, 0.5), np.array([True] * 2 + [False] * 6))
    ((*_, few, none, _),) = calibration(np.full(4, 0.5), np.array([True] + [False] * 3))

    assert (share, low, high) == (
        0.25,
        pytest.approx(0.0715, abs=1e-4),
        pytest.approx(0.5907, abs=1e-4),
    )
    assert (few, none) == (0.25, None)


def test_estimators_by_hand(tmp_path):
    # k3 of 0, 1, -1: 0, 0.718, 0.368; the exact KL puts the last two in the other order
    views = {"blind": {"log_ratio": [0.0, 1.0, -1.0], "kl": [0.0, 0.2, 0.3]}}
    ((name, count, rank, overlap, _, exact),) = estimators(
        run(tmp_path, response("abc", [0.0, 0.7, 0.4], views=views))
    )["rows"]

    assert (name, count, rank, overlap) == ("blind", 3, pytest.approx(0.5), 0.0)
    assert exact == pytest.approx(0.5 / 3)


def test_which_image_a_token_read(tmp_path):
    views = {
        "blind": {"log_ratio": [-2.0, -2.0, 0.0]},
        "blind:image=0": {"log_ratio": [-2.0, 0.0, 0.0]},
        "blind:image=1": {"log_ratio": [0.0, -2.0, 0.1]},
    }
    two = response("abc", [1.0, 1.0, 0.0], views=views, images=["a.png", "b.png"])
    one = response("abc", [1.0, 1.0, 0.0], views=views, images=["a.png"])  # has no choice
    assert images_read(run(tmp_path / "one", one)) == {}
    panel = images_read(run(tmp_path, two, one))

    assert [(name, count) for name, count, _ in table(panel)] == [
        ("blind:image=0", 1),
        ("blind:image=1", 1),
        ("none", 1),
    ]


# attribution


def attributed(tmp_path, **changes):
    (tmp_path / "run").mkdir(exist_ok=True)
    Image.new("RGB", (8, 4), "red").save(tmp_path / "run" / "a.png")
    record = {
        "id": "a",
        "image": 0,
        "grid": [1, 4],
        "fill": "grey",
        "noise_floor": 0.5,
        "passes": 4,
        "tokens": [
            {"index": 1, "text": "b", "change": [[4.0, -1.0, 0.5, None]], "strongest": [[0, 0]]}
        ],
    }
    rows = response("ab", [0.0, 2.0]), response("cd", [0.0, 2.0])
    return attribution(run(tmp_path, *rows, attribution=[record | changes]))


def test_cells_above_the_noise_floor(tmp_path):
    (item,) = attributed(tmp_path)["shown"]
    (token,) = item["tokens"]

    assert [(cell.x, cell.width, cell.height, cell.level) for cell in token["cells"]] == [
        (0.0, 250.0, 1000.0, -8),
        (250.0, 250.0, 1000.0, 2),  # less likely without the patch, which helped
    ]  # 0.5 is not above the floor
    assert item["response"].tokens == ["a", "b"] and item["picture"].width == 8
    assert token["equal"] == 1


@pytest.mark.parametrize(
    "changes, problem",
    [
        ({"id": "b"}, "no response of these tokens"),
        ({"tokens": [{"index": 1, "text": "x", "change": [[0.0] * 4]}]}, "of these tokens"),
        ({"tokens": [{"index": 1, "text": "b", "change": [[0.0] * 3]}]}, "is not 1 x 4"),
        ({"grid": [0, 4]}, "grid must be"),
        ({"grid": [1000, 1000]}, "more than 4096 cells"),
        ({"tokens": []}, "no tokens"),
    ],
)
def test_attribution_that_does_not_fit_is_named(tmp_path, changes, problem):
    panel = attributed(tmp_path, **changes)

    assert panel["shown"] == [] and problem in panel["problems"][0]


# several runs


def test_comparison_keeps_every_run_and_names_what_it_did_not_log(tmp_path):
    first = run(tmp_path, response("ab", [1.0, 3.0]), metrics=[{"step": 1, "reward": 0.5}])
    second = run(tmp_path, name="second")
    panel = comparison([first, second])

    assert [(row[0], row[3], row[7]) for row in panel["rows"]] == [
        ("run", 1, 2.0),
        ("second", 0, None),
    ]
    assert [figure["missing"] for figure in panel["figures"]] == [["second"]]
    assert panel["tokenizers"] == ""
    assert comparison([first]) == {}


def scored(tmp_path, name, *rows):
    """A run of responses "a b" of two tokens each, from id, dependency and reward."""
    found = [response(["a", " b"], d, id=i, reward=reward) for i, d, reward in rows]
    return run(tmp_path, *found, name=name)


def test_scored_runs_are_compared_response_by_response(tmp_path):
    # ids        p         q         r (only in one)    means of the second less the first:
    # first      1 + 3     0 + 0     9 + 9              p: 4 - 2 = 2, q: 1 - 0 = 1
    # second     4 + 4     2 + 0     -                  mean 1.5; both are higher
    first = scored(tmp_path, "x", ("p", [1.0, 3.0], 1.0), ("q", [0.0, 0.0], 0.0),
                   ("r", [9.0, 9.0], 1.0))  # fmt: skip
    second = scored(tmp_path, "y", ("q", [2.0, 0.0], 0.0), ("p", [4.0, 4.0], 1.0))
    found = comparison([first, second])["scores"]

    assert found["unit"] == "token" and found["alone"] == []
    ((name, count, *numbers, low, high, higher),) = found["pairs"]
    assert (name, count, low, high, higher) == ("y", 2, None, None, 1.0)  # too few
    assert numbers == [1.0, 2.5, 1.5]  # means over the two pairs: (2 + 0) / 2, (4 + 1) / 2
    one, other = found["rows"]
    # of the first: 2 of 3 right; means 2, 0, 9: right (2 + 9) / 2, wrong 0; both right ones higher
    assert one[1:3] == (3, pytest.approx(2 / 3)) and one[3:5] == (None, None)
    assert (one[5], one[8:13]) == (pytest.approx(11 / 3), (5.5, 2, 0.0, 1, 1.0))
    assert other[8:13] == (4.0, 1, 1.0, 1, 1.0)
    # of 6 and of 4 tokens the top 40 % are 3 and 2: (9 + 9 + 3) of 22, (4 + 4) of 10
    assert [held[-1] for held in found["shares"]] == [pytest.approx(21 / 22), 0.8]


def test_a_paired_difference_has_an_interval_over_responses(tmp_path):
    runs = [
        scored(tmp_path, name, *((str(n), [n + plus, n + plus], 1.0) for n in range(5)))
        for name, plus in (("x", 0.0), ("y", 0.5))
    ]
    ((*_, difference, low, high, _),) = comparison(runs)["scores"]["pairs"]

    assert (difference, low, high) == (0.5, 0.5, 0.5)  # alike in all five, however much these vary


def test_response_sets_that_share_nothing_are_not_paired(tmp_path):
    runs = [scored(tmp_path, n, (n, [1.0, 1.0], 1.0)) for n in ("x", "y")]
    found = comparison(runs)["scores"]

    assert found["pairs"] == [] and found["alone"] == ["y"] and len(found["rows"]) == 2


def test_runs_of_other_tokens_are_compared_by_word(tmp_path):
    # "red box": of the first run "re" + "d" and " box", then an end token of no word
    one = response(["re", "d", " box", "<end>"], [1.0, 0.5, 0.25, 7.0])
    other = response(["red", " ", "box"], [2.0, 4.0, 0.125], response="red box")
    one = replace(one, text="red box")
    found = comparison([run(tmp_path, one, name="x"), run(tmp_path, other, name="y")])["scores"]

    assert of_words(one) == [1.5, 0.25]
    assert of_words(other) == [2.0, 4.125]  # a space begins the word after it
    assert of_words(replace(one, text="something else")) == []
    assert found["unit"] == "word"
    assert found["pairs"][0][2:5] == (0.875, 3.0625, 2.1875)


def test_other_tokens_for_the_same_text_are_told(tmp_path):
    one, other = run(tmp_path, response(["ab"], [1.0])), run(tmp_path, response(["a", "b"], [1, 1]))

    assert (
        "run (1) and run (2) split text into different tokens"
        in comparison([one, other])["tokenizers"]
    )


def test_signs_of_collapse(tmp_path):
    def signs(**ends):
        metrics = [{"step": n} | {k: v[n] for k, v in ends.items()} for n in (0, 1)]
        return collapse_signs(run(tmp_path, metrics=metrics))

    assert signs(entropy=(1.0, 0.05)) == ["entropy fell to a tenth"]
    assert signs(entropy=(1.0, 0.2), frac_reward_zero_std=(0.0, 0.5)) == []
    assert signs(**{"completions/mean_length": (100, 301)}) == ["length more than tripled"]
    assert json.dumps(signs(frac_reward_zero_std=(0.0, 0.95)))[:6] == '["more'
