"""Prompts as APIs and other frameworks write them → messages, pictures and response apart."""

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

# verl's rollout dump: Qwen's chat template with its special tokens left out
RENDERED = re.compile(r"(?:system\n(?P<system>.*?)\n)?user\n(?P<user>.*)\nassistant\n?", re.S)
TURN = re.compile(r"^(?:system|user|assistant)$", re.M)


class Chat(NamedTuple):
    """A conversation taken apart.

    Args:
        prompt: text, or messages whose image parts are bare.
        cells: of the pictures that stood in the messages.
        response: what the assistant said last, or None.
    """

    prompt: Any
    cells: list[Any]
    response: str | None = None


def take_apart(value: Any, column: str) -> Chat:
    """A prompt as it stands in a column, taken apart.

    Pictures in the messages themselves are OpenAI's (`image_url`, with a `data:` URL or a path) or
    Qwen's (`image`).

    Raises:
        ValueError: a picture cannot be read off, or stands where none may be.
    """
    if isinstance(value, str):
        return Chat(_unrendered(value) if column == "input" else value, [])
    if not isinstance(value, list):
        return Chat(value, [])
    cells: list[Any] = []
    messages = [_bare(message, cells) for message in value]
    if is_answered(messages) and len(messages) > 1:
        return Chat(messages[:-1], cells, said(messages[-1]))
    return Chat(messages, cells)


def places_pictures(value: Any) -> bool:
    """Whether a prompt says where a picture goes, in its text or by an image part."""
    messages = value if isinstance(value, list) else [{"content": value}]
    contents = [one.get("content") for one in messages if isinstance(one, Mapping)]
    parts = [part for one in contents for part in (one if isinstance(one, list) else [one])]
    return any(
        "<image>" in part
        if isinstance(part, str)
        else isinstance(part, Mapping) and part.get("type") == "image"
        for part in parts
    )


def is_answered(value: Any) -> bool:
    """Whether these are messages of which the last is the assistant's."""
    last = value[-1] if isinstance(value, list) and value else None
    return isinstance(last, Mapping) and last.get("role") == "assistant"


def said(message: Mapping[str, Any]) -> str:
    """The text of a message, whether plain or in parts."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in parts]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(f"the assistant's message must hold text, got {str(content)[:80]!r}")
    return "".join(text for text in texts if text)


def _unrendered(text: str) -> Any:
    """The messages of a prompt that was decoded without special tokens, as verl dumps it."""
    found = RENDERED.fullmatch(text)
    if found is None:
        if text.rstrip().endswith(("assistant", "Assistant:")):
            raise ValueError(
                "its prompt is a chat template without its special tokens, and not Qwen's: give "
                "the question alone, or chat messages"
            )
        return text
    if TURN.search(found["user"]):
        raise ValueError(
            "its prompt has several turns, whose borders are lost where special tokens are left "
            "out: give chat messages"
        )
    system = [] if found["system"] is None else [{"role": "system", "content": found["system"]}]
    return [*system, {"role": "user", "content": found["user"]}]


def _bare(message: Any, cells: list[Any]) -> Any:
    """The message with bare image parts; the pictures that stood in them are added to `cells`."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return message
    parts = []
    for part in content:
        picture = _picture(part)
        if picture is not None:
            if message.get("role") != "user":
                raise ValueError(
                    f"a message of role {message.get('role')!r} holds a picture: only the user's "
                    "may"
                )
            cells.append(picture)
            part = {"type": "image"}
        parts.append(part)
    return {**message, "content": parts}


def _picture(part: Any) -> Any:
    """The cell of a part that holds a picture, or None."""
    kind = part.get("type") if isinstance(part, Mapping) else None
    source = part.get(kind) if kind in ("image_url", "image") else None
    if isinstance(source, Mapping) and "url" in source:
        source = source["url"]
    if kind == "image_url" and source is None:
        raise ValueError("a part of type image_url holds no url")
    return _cell(source) if isinstance(source, str) else source


def _cell(url: str) -> Any:
    """What `decode` takes for this address; those of the network are left for it to refuse."""
    if url.startswith("file://"):
        return unquote(urlsplit(url).path)
    if not url.startswith("data:"):
        return url
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise ValueError(f"its picture is a data: URL without ;base64, but {head[:60]!r}")
    try:
        return {"bytes": base64.b64decode(body, validate=True), "path": None}
    except binascii.Error as error:
        raise ValueError(f"the data: URL of a picture is not base64: {error}") from error
