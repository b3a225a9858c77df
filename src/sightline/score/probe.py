"""Before anything is written: do the longest responses hang on the image, and how exactly?"""

from dataclasses import replace

from .named_views import CONTROL
from .recording import longest_first
from .scorer import Scorer

PROBED = 4  # responses


def noise_floor(scorer: Scorer) -> float:
    """The noise floor: how far scores move when the longest responses are scored one by one.

    Raises:
        ValueError: no token of them hangs on the image under any view.
    """
    places = [p for p in longest_first(scorer) if scorer.rows[p].cells][:PROBED]
    # a batch of one has no other layout to be compared with
    together = places if len(places) > 1 else places * 2
    probing = replace(scorer, options={**scorer.options, "chunk_rows": len(together)})
    _, encoded, scored = probing.scored(together)
    asked = [score for name, score in scored.views.items() if not name.startswith(CONTROL)]
    if not any(score.log_ratio.any() for score in asked):
        raise ValueError(
            f"no token of {len(places)} responses changes at all under any view: the image does "
            "not reach the model. Check the chat template and the processor"
        )
    moved = [0.0]
    for index, place in enumerate(places):
        _, _, alone = probing.scored([place])
        real = encoded.mask[index]
        pairs = [(scored.log_probs, alone.log_probs)]
        pairs += [(score.log_ratio, alone.views[n].log_ratio) for n, score in scored.views.items()]
        moved += [float((one[index][real] - other[0]).abs().max()) for one, other in pairs]
    return max(moved)
