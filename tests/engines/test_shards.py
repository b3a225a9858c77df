"""What torch pickles beside the shards of a checkpoint."""

import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed import checkpoint as distributed

from sightline.engines.trl import shards


class Payload:
    """What unpickling would run."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.mark.filterwarnings("ignore")  # torch warns of a single process
def test_what_torch_writes_is_let_through_and_a_payload_is_not_run(tmp_path):  # P6
    state = {
        "model": {"half": torch.ones(3, dtype=torch.bfloat16), "whole": torch.ones(2, 3)},
        "groups": [{"lr": 0.1, "betas": (0.9, 0.99)}],
    }
    distributed.save(state, checkpoint_id=str(tmp_path / "model_0"), no_dist=True)
    shards.check(tmp_path)

    marker, table = tmp_path / "was run", tmp_path / "model_0" / ".metadata"
    table.write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(ValueError, match=r"cannot resume: .*/model_0/.metadata .* pathlib"):
        shards.check(tmp_path)
    assert not marker.exists()
    pickle.loads(table.read_bytes())
    assert marker.exists()  # the payload works


def test_a_name_that_leads_out_of_a_known_module_is_refused(tmp_path):
    # as one that reaches os.system over what a module has imported
    name = b"torch.distributed.checkpoint.filesystem\nos.getcwd\n"
    (tmp_path / ".metadata").write_bytes(b"\x80\x04c" + name + b")R.")
    with pytest.raises(ValueError, match=r"it asks for torch\S+filesystem.os.getcwd"):
        shards.check(tmp_path)
