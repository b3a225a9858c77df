"""The command line: `sightline demo`, `check`, `train`, `eval`, `compare`, `report`, `score`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .algorithms import ALGORITHMS, algorithm_class
from .compare.flags import add_compare
from .eval_flags import add_eval
from .flags import unknown_flag
from .score.request import add_arguments, request_from


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0 when done, 1 when `check` found a problem, 2 when the request or its data
        cannot be used, 130 when interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL pings at construction
    try:
        if argv[:1] == ["train"]:  # its flags are TRL's, so TRL's parser reads them
            from .train import train

            train(argv[1:])
        elif argv[:1] == ["check"]:  # and these are those of the run that it checks
            from .check import check

            return check(argv[1:])
        else:
            args, unknown = _parser().parse_known_args(argv)
            if unknown:
                raise ValueError(unknown_flag(unknown[0], args.flags))
            args.run(args)
    except KeyboardInterrupt as interrupt:
        print(
            f"\nsightline: {str(interrupt) or 'interrupted; nothing was written'}", file=sys.stderr
        )
        return 130
    except (ValueError, OSError, ImportError) as error:
        print(f"sightline: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sightline",
        description="Perception-aware RL for vision-language models: "
        "reward the tokens that looked at the image.",
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    demo = commands.add_parser(
        "demo", help="train a tiny VLM on this machine and write a report", allow_abbrev=False
    )
    demo.add_argument("--algorithm", default="pgpo", help=f"one of: {', '.join(ALGORITHMS)}")
    demo.add_argument("--seed", type=_natural, default=0, help="of everything that is drawn")
    demo.add_argument("--steps", type=_positive, default=60, help="of reinforcement learning")
    demo.add_argument("--output-dir", type=Path, help="a new folder; default: a free one in runs/")
    demo.add_argument(
        "--threads", type=_positive, default=2, help="of the CPU; numbers depend on it"
    )
    demo.add_argument("--from-scratch", action="store_true", help="make the warm start anew")
    demo.set_defaults(run=_demo, flags=list(demo._option_string_actions))
    commands.add_parser("check", help="find what would go wrong in a run: takes train's flags")
    commands.add_parser("train", help="train any model through TRL: sightline train --help")
    add_eval(commands)
    add_compare(commands)
    report = commands.add_parser(
        "report", help="write report.html into a run folder", allow_abbrev=False
    )
    report.add_argument(
        "folders", type=Path, nargs="+", metavar="run", help="a run folder; further ones to compare"
    )
    report.add_argument("--max-responses", type=_positive, help="shown; default: 1000")
    report.add_argument(
        "--token-classes", type=Path, metavar="FILE", help="rules for classes of tokens, in TOML"
    )
    report.set_defaults(run=_report, flags=list(report._option_string_actions))
    score = commands.add_parser(
        "score", help="score responses of any framework, token by token", allow_abbrev=False
    )
    add_arguments(score)
    score.set_defaults(run=_score, flags=list(score._option_string_actions))
    return parser


def _demo(args: argparse.Namespace) -> None:
    algorithm = algorithm_class(args.algorithm)()
    # Imported here: --help and a mistyped flag should not wait for torch and transformers.
    from .demo import run_demo, summary
    from .process import use_threads
    from .records import default_folder, new_run_folder, telling_what_is_kept

    use_threads(args.threads)
    folder = new_run_folder(
        args.output_dir or default_folder(f"demo-{args.algorithm}-seed{args.seed}")
    )
    with telling_what_is_kept(folder):
        result = run_demo(
            algorithm, args.algorithm, args.seed, args.steps, folder, args.from_scratch
        )
    print(summary(result, folder))


def _report(args: argparse.Namespace) -> None:
    from .report import write_report

    page = write_report(
        *args.folders,
        max_responses=args.max_responses,
        token_classes=args.token_classes,
        exports=True,
        warn=lambda warning: print(f"WARNING: {warning}", file=sys.stderr),
    )
    print(page)


def _score(args: argparse.Namespace) -> None:
    request = request_from(args)
    from .records import command_line
    from .score.run import score

    score(request, command_line())


def _natural(text: str) -> int:
    return _at_least(0, text)


def _positive(text: str) -> int:
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    value = int(text)
    if value < least:
        raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
    return value
