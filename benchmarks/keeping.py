"""Result files to which one run after another is added."""

import json
import os
import platform
from pathlib import Path

from sightline.compare.code import versions

TESTBED = Path(__file__).parent / "results" / "testbed"


def add_run(path: Path, command: str, name: str, found: dict) -> None:
    """Put `found` among the runs of `path`, with versions and machine; a run of that name goes."""
    kept = json.loads(path.read_text()) if path.exists() else {"runs": {}}
    kept["command"] = command
    about = {"machine": f"{os.cpu_count()} cores, {platform.machine()}, one thread"}
    kept["runs"][name] = about | {"versions": versions()} | found
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(kept, indent=1) + "\n")
