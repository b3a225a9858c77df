"""The flags of `sightline eval`; nothing heavy is imported before they are understood."""

import argparse
from pathlib import Path
from typing import Any

IMAGES = ("true", "none", "other")
BAD_ROWS = ("error", "skip-and-list")


def add_eval(commands: Any) -> None:
    """Add the command to the others."""
    parser = commands.add_parser(
        "eval",
        help="say how often a model is right, and whether it reads the image",
        allow_abbrev=False,
    )
    parser.add_argument("--model", default="tiny", help="tiny, a folder, or a model of the Hub")
    asked = parser.add_mutually_exclusive_group()
    asked.add_argument("--benchmark", help="a frozen one, by name, or a protocol file")
    asked.add_argument("--data", help="path or Hub id[@split] of a data set")
    asked.add_argument("--task", help="questions made here: digits (the default)")
    parser.add_argument("--data-root", help="folder of its image paths; by default the file's")
    parser.add_argument(
        "--allow-outside-root",
        "--allow_outside_root",
        action="store_true",
        help="let image paths of --data lead out of that folder",
    )
    parser.add_argument("--columns", help="those of --data that are not known, as prompt=query,…")
    parser.add_argument(
        "--bad-rows",
        "--bad_rows",
        choices=BAD_ROWS,
        default="error",
        help="of --data: stop, or leave them out and list them in bad_rows.jsonl",
    )
    parser.add_argument("--questions", type=int, help="at most so many; for a task 1000")
    parser.add_argument("--prompt", help="another than the model was trained with, or the protocol")
    parser.add_argument("--n", type=int, help="responses per question; default 8")
    parser.add_argument("--temperature", type=float, help="default 1.0; 0 for the likeliest token")
    parser.add_argument("--top_p", type=float, help="default 1.0")
    parser.add_argument("--max_new_tokens", type=int, help="default 2048")
    parser.add_argument("--seed", type=int, default=0, help="of the dice; of a task's questions")
    parser.add_argument(
        "--image", nargs="+", choices=IMAGES, default=["true"], help="which image is shown"
    )
    parser.add_argument(
        "--keep-images",
        action="store_true",
        help="those of all questions, which sightline score needs, not of the first 12 only",
    )
    parser.add_argument("--batch_size", type=int, default=32, help="responses at a time")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU; numbers depend on it")
    parser.add_argument("-o", "--output-dir", type=Path, help="default: a free one in runs/")
    parser.add_argument("--resume", action="store_true", help="go on with what is in --output-dir")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar="RUN", help="two finished evaluations, instead"
    )
    parser.set_defaults(run=_run, flags=list(parser._option_string_actions))


def _run(args: argparse.Namespace) -> None:
    if args.compare:
        from .evaluate.comparison import compare, report

        print("\n".join(report(compare(*args.compare))))
        return
    for name in ("batch_size", "threads", "questions"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {args.seed}")
    if len(set(args.image)) < len(args.image):
        raise ValueError(f"--image names a condition twice: {' '.join(args.image)}")
    if args.data is None and (args.columns or args.bad_rows != "error"):
        raise ValueError("--columns and --bad-rows are of --data, which is not given")
    if args.resume and args.output_dir is None:
        raise ValueError("--resume needs --output-dir, the folder to go on in")
    from .evaluate.command import run

    run(args)
