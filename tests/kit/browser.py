"""A browser without a screen: Chromium, driven by its DevTools protocol over a pair of pipes.

Messages are JSON, each ended by a zero byte (`--remote-debugging-pipe`). The browser notes what the
page writes to its console, requests over the network, and asks its reader (alert, confirm, prompt).
"""

import base64
import json
import os
import pathlib
import subprocess
import time
from collections.abc import Callable
from typing import Any

from kit.program import needs
from kit.waiting import comes_true

BROWSER_S = 30.0
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--remote-debugging-pipe",
)


# What has a bar to scroll is not cut, and arrows between things belong to both.
MISFITS = """(function () {
  var found = [], root = document.documentElement;
  if (root.scrollWidth > innerWidth) found.push("the page is " + root.scrollWidth + " wide");
  document.querySelectorAll("main *").forEach(function (e) {
    var style = getComputedStyle(e), r = e.getBoundingClientRect();
    if (e.closest("svg") || !r.width || style.overflowX === "auto" || e.closest(".scroll")) return;
    if (style.overflowX === "hidden" && e.scrollWidth > e.clientWidth) {
      found.push("cut: " + e.textContent);
    }
    if (r.right > innerWidth || r.left < 0) found.push("outside: " + e.textContent);
  });
  document.querySelectorAll("svg").forEach(function (svg) {
    var all = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll("text")];
    var places = texts.map(function (text) { return text.getBoundingClientRect(); });
    places.forEach(function (a, i) {
      if (a.left < all.left || a.right > all.right || a.top < all.top || a.bottom > all.bottom) {
        found.push("outside its picture: " + texts[i].textContent);
      }
      places.slice(0, i).forEach(function (b, j) {
        if (Math.min(a.right, b.right) > Math.max(a.left, b.left) + 1 &&
            Math.min(a.bottom, b.bottom) > Math.max(a.top, b.top) + 1) {
          found.push(texts[i].textContent + " on " + texts[j].textContent);
        }
      });
    });
  });
  return found;
})()"""

TWICE = """new Promise(function (done) {
  var count = 0, timer = setInterval(function () {
    if (++count === 2) { clearInterval(timer); done(true); }
  }, %d);
})"""


class Browser:
    """A tab of a Chromium of its own. Leaving the `with` block ends it."""

    def __init__(self, directory: pathlib.Path) -> None:
        program = needs("chromium", "chromium")
        reading, self._writing = os.pipe()
        self._reading, writing = os.pipe()
        self.console: list[str] = []
        self.urls: list[str] = []
        self.asked: list[str] = []
        """What dialogs have said."""
        self.reply: Callable[[str], str | None] = lambda _: None
        """What to type into a prompt; None refuses a dialog."""
        self._answers: dict[int, dict[str, Any]] = {}
        self._rest = b""
        self._number = 0
        self._session: dict[str, str] = {}
        profile = f"--user-data-dir={directory}/browser"
        # The browser expects its pipes as the descriptors 3 and 4.
        line = f'exec "$0" "$@" 3<&{reading} 4>&{writing}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, *OPTIONS, profile, "about:blank"],
            pass_fds=(reading, writing),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "HOME": str(directory)},
        )
        os.close(reading)
        os.close(writing)

    def __enter__(self) -> "Browser":
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        found = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": found["sessionId"]}
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._writing)
        os.close(self._reading)

    def call(self, method: str, **params: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        number = self._send(method, params)
        deadline_s = time.monotonic() + BROWSER_S
        while number not in self._answers:
            assert time.monotonic() < deadline_s, f"the browser does not answer {method}"
            self._read()
        answer = self._answers.pop(number)
        if "navigated" in str(answer.get("error")):
            return {"result": {}}  # the page that was asked is gone, another one is coming
        assert "error" not in answer, answer
        return answer["result"]

    def _send(self, method: str, params: dict[str, Any]) -> int:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._writing, json.dumps(message).encode() + b"\0")
        return self._number

    def _read(self) -> None:
        data = os.read(self._reading, 1 << 20)
        assert data, "the browser has ended"
        *messages, self._rest = (self._rest + data).split(b"\0")
        for text in messages:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._happened(message["method"], message["params"])

    def _happened(self, event: str, params: dict[str, Any]) -> None:
        if event == "Network.requestWillBeSent":
            self.urls.append(params["request"]["url"])
        elif event == "Runtime.consoleAPICalled":
            self.console.append(str(params["args"]))
        elif event == "Runtime.exceptionThrown":
            self.console.append(str(params["exceptionDetails"]))
        elif event == "Log.entryAdded":
            self.console.append(params["entry"]["text"])
        elif event == "Page.javascriptDialogOpening":
            self.asked.append(params["message"])
            reply = self.reply(params["message"])
            more = {"accept": reply is not None, "promptText": reply or ""}
            self._send("Page.handleJavaScriptDialog", more)

    # What tests do.

    def open(self, url: str) -> None:
        """Open a page, and wait until it is there."""
        self.call("Page.navigate", url=url)
        self.waits("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; a page without scripts has some, too."""
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return found["result"].get("value")

    def waits(self, expression: str) -> None:
        """Wait until an expression is true."""
        came = comes_true(lambda: self.value(expression), BROWSER_S)
        assert came, f"{expression} is not true in\n{self.value('document.body.innerText')}"

    @property
    def text(self) -> str:
        """What the page shows."""
        return str(self.value("document.body.innerText"))

    def shows(self, text: str) -> None:
        """Wait until the page shows a text."""
        self.waits(f"document.body.innerText.includes({json.dumps(text)})")

    def hover(self, place: str) -> None:
        """Move the pointer to the element that an expression returns."""
        box = f"(function (r) {{ return [r.x + r.width / 2, r.y + r.height / 2]; }})({place}"
        self.value(f"{place}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = self.value(f"{box}.getBoundingClientRect())")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def hide(self) -> None:
        """Make the page believe that nobody sees its tab."""
        self.value("Object.defineProperty(document, 'hidden', {get: () => true, configurable: 1})")

    def show(self) -> None:
        """Make it visible again."""
        self.value("delete document.hidden")
        self.value("document.dispatchEvent(new Event('visibilitychange'))")

    def asks(self, period_ms: int) -> bool:
        """Whether a page that has a timer of this period asks for anything within one period."""
        before = len(self.urls)
        # Set after the page's own timer: when it has run twice, that one has run at least once.
        self.value(TWICE % period_ms)
        return len(self.urls) > before

    def press(self, key: str) -> None:
        """Press a key that has no text."""
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def size(self, width: int, height: int, theme: str = "light", scale: float = 1) -> None:
        """Use the window of a device: its pixels of CSS, its theme, its pixels for each of them.

        A window itself is never narrower than 500 pixels.
        """
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 500,
        )
        features = [
            {"name": "prefers-color-scheme", "value": theme},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.call("Emulation.setEmulatedMedia", features=features)

    def look(self, width: int, height: int, theme: str = "light", scale: float = 1) -> bytes:
        """Return a picture of the page, in a window of this size, as PNG."""
        self.size(width, height, theme, scale)
        found = self.call("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])

    def misfits(self) -> list[str]:
        """Return what does not fit: a page that is wider than its window, and texts that are cut or
        stand on each other."""
        return list(self.value(MISFITS))
