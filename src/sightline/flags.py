"""What to say about a command-line flag that does not exist."""

import difflib
from collections.abc import Iterable


def unknown_flag(flag: str, known: Iterable[str]) -> str:
    """One sentence that names the nearest known flags."""
    # TRL's parser knows each flag twice, with underscores and with hyphens
    known = {name for name in known if name.startswith("--")}
    long = sorted(name for name in known if f"--{name[2:].replace('-', '_')}" not in known - {name})
    near = difflib.get_close_matches(flag.split("=")[0], long)
    return f"unknown argument {flag}" + (f"; did you mean {' or '.join(near)}?" if near else "")
