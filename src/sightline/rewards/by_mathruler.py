"""mathruler as workers run it. It is loaded by its path: nothing of the package comes with it."""

from mathruler.grader import extract_boxed_content, grade_answer  # pyright: ignore[reportMissingImports]


def grade(responses: list[str], golds: list[str]) -> list[float]:
    """1 for a response whose last box mathruler grades as its gold, else 0."""
    return [
        float(grade_answer(extract_boxed_content(response), gold))
        for response, gold in zip(responses, golds, strict=True)
    ]
