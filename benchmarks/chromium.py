"""A headless Chromium that is told what to do, for pictures, measurements and tests of pages.

It speaks Chromium's DevTools protocol (https://chromedevtools.github.io/devtools-protocol/) over a
pair of pipes: no port is opened and no package is needed.
"""

import base64
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NAMES = "chromium", "chromium-browser", "google-chrome"
PIPES = 'exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null'  # the protocol's pipes are 3 and 4


def chromium() -> str | None:
    """The browser of this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of one browser, a context manager; its size is in CSS pixels."""

    def __init__(self, width: int = 1280, height: int = 800, dark: bool = False, scale: float = 1):
        self.width, self.height, self.scale = width, height, scale
        self.scheme = "dark" if dark else "light"
        self.sent, self.buffer, self.session = 0, b"", ""

    def __enter__(self) -> Self:
        found = chromium()
        if found is None:
            raise FileNotFoundError(f"no browser found: install one of {', '.join(NAMES)}")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                 f"--user-data-dir={self.profile.name}", "--remote-debugging-pipe"]  # fmt: skip
        self.process = subprocess.Popen(
            ["sh", "-c", PIPES, found, *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        self.send("Page.enable")
        self.resize(self.width, self.height)
        media = [{"name": "prefers-color-scheme", "value": self.scheme}]
        self.send("Emulation.setEmulatedMedia", features=media)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.communicate()
        self.profile.cleanup()

    def resize(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=self.scale, mobile=width < 600)  # fmt: skip

    def open(self, page: Path) -> None:
        """Show a file, and wait until it and its pictures are there."""
        self.send("Page.navigate", url=page.resolve().as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def run(self, script: str) -> Any:
        """The value of an expression in the page, waited for if it is a promise."""
        found = self.send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if problem := found.get("exceptionDetails"):
            raise RuntimeError(f"{problem.get('exception', problem)}")
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as ``j``, ``Enter`` or ``Tab``."""
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Tab": 9, "Escape": 27}.get(key, ord(key[0].upper()))
        for kind in ("keyDown", "keyUp"):
            also = text if kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key,
                      windowsVirtualKeyCode=code, **also)  # fmt: skip

    def point(self, x: float, y: float) -> None:
        """Move the mouse to a place in the window."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def picture(self, selector: str = "", margin: int = 12) -> bytes:
        """A PNG of the window, or of the first element that ``selector`` finds."""
        clip = {}
        if selector:
            # what is out of sight has no pictures yet, and no size: it would move the rest
            self.run("Promise.all([...document.images].map((image) => {"
                     "image.loading = 'eager'; return image.decode(); }))")  # fmt: skip
            self.run("document.head.insertAdjacentHTML('beforeend', '<style>* { "
                     "content-visibility: visible !important }</style>')")  # fmt: skip
            box = self.run(
                f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
                "e.scrollIntoView(); const b = e.getBoundingClientRect();"
                "return [b.x + scrollX, b.y + scrollY, b.width, b.height]; })()"
            )
            left, top = max(0, box[0] - margin), max(0, box[1] - margin)
            clip = {"clip": {"x": left, "y": top, "scale": 1, "height": box[3] + 2 * margin,
                             "width": min(self.width - left, box[2] + 2 * margin)}}  # fmt: skip
        found = self.send("Page.captureScreenshot", captureBeyondViewport=bool(selector), **clip)
        return base64.b64decode(found["data"])

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.sent += 1
        message: dict[str, Any] = {"id": self.sent, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        while (answer := self._receive()).get("id") != self.sent:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        while b"\0" not in self.buffer:
            part = self.process.stdout.read1()
            if not part:
                raise RuntimeError("the browser has ended")
            self.buffer += part
        message, _, self.buffer = self.buffer.partition(b"\0")
        return json.loads(message)
