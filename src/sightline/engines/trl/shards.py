"""The pickle in which torch describes the shards of a checkpoint, looked through before torch does.

FSDP's shards are read as data alone, but the table of what is where is unpickled with all that
pickle can do (P6).
"""

import pickle
from pathlib import Path
from typing import Any

import torch

# what torch writes there; none does anything but hold what it is given
KNOWN = {
    "torch": {"Size"},
    "torch.serialization": {"_get_layout"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath"},
    "pathlib._local": {"PosixPath"},  # of Python 3.13
}


def check(checkpoint: Path) -> None:
    """Raise if a description of shards in `checkpoint` asks for anything that is not data."""
    for path in checkpoint.rglob("*.metadata"):
        with path.open("rb") as file:
            try:
                _Reader(file).load()
            except pickle.UnpicklingError as error:
                raise ValueError(
                    f"cannot resume: {path} is not the data it should be, and was not loaded: "
                    f"{error}"
                ) from error


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # by name alone, since a name with dots in it reaches what the module has imported
        kind = getattr(torch, name, None) if module == "torch" else None
        if name not in KNOWN.get(module, ()) and not isinstance(kind, torch.dtype):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)
