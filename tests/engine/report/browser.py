"""A headless Chromium that shows a page, and reads pixels back from its canvases."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--force-device-scale-factor=1",
)  # fmt: skip


class Browser:
    """A page in a browser.

    Args:
        driver: of selenium.
    """

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, path: Path) -> None:
        """Shows a file, and waits until its viewer has drawn."""
        self.driver.get(path.as_uri())
        self._settled()

    def _settled(self) -> None:
        from selenium.webdriver.support.wait import WebDriverWait

        script = """
            const root = document.getElementById("viewer");
            if (!root) return true;
            return root.dataset.state !== undefined && !root.dataset.pending;
        """
        WebDriverWait(self.driver, 60).until(lambda driver: driver.execute_script(script))

    def set(self, name: str, value: object) -> None:
        """Gives a slider, a number or a choice a value, as a user does."""
        self.driver.execute_script(
            """
            const input = document.getElementById(arguments[0]);
            input.value = String(arguments[1]);
            input.dispatchEvent(new Event("input", { bubbles: true }));
            input.dispatchEvent(new Event("change", { bubbles: true }));
            """,
            name, value,
        )  # fmt: skip
        self._settled()

    def click(self, name: str) -> None:
        """Clicks an element by its id."""
        self.driver.execute_script("document.getElementById(arguments[0]).click()", name)
        self._settled()

    def press(self, *keys: str, canvas: int = 0) -> None:
        """Presses keys on a canvas."""
        for key in keys:
            self.driver.find_elements("tag name", "canvas")[canvas].send_keys(key)
        self._settled()

    @property
    def state(self) -> dict[str, Any]:
        """The state of the viewer that was drawn last."""
        found = self.driver.execute_script('return document.getElementById("viewer").dataset.state')
        return dict(json.loads(found))

    def captions(self) -> list[str]:
        """The titles of the images."""
        found = self.driver.find_elements("css selector", ".images figcaption")
        return [title.text for title in found]

    def grey(self, canvas: int = 0) -> np.ndarray:
        """(Y, X) uint8 grey values of a canvas, which must be grey and opaque."""
        height, width, values = self.driver.execute_script(
            """
            const canvas = document.querySelectorAll(".images canvas")[arguments[0]];
            const context = canvas.getContext("2d");
            const { width, height } = canvas;
            const pixels = context.getImageData(0, 0, width, height).data;
            let text = "";
            for (let i = 0; i < pixels.length; i++) text += String.fromCharCode(pixels[i]);
            return [height, width, btoa(text)];
            """,
            canvas,
        )
        import base64

        rgba = np.frombuffer(base64.b64decode(values), np.uint8).reshape(height, width, 4)
        assert (rgba[..., 3] == 255).all()
        assert (rgba[..., :1] == rgba[..., :3]).all()
        return rgba[..., 0]

    def script(self, text: str, *arguments: object) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(text, *arguments)

    def errors(self) -> list[str]:
        """What the console says of errors, and of anything that was loaded or refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own. The test is skipped where there is none."""
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed: the extra [browser] has it"
    )
    from selenium.webdriver.chrome.service import Service

    names = ("chromium", "chromium-browser", "google-chrome")
    binary = next((found for name in names if (found := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no Chromium with its chromedriver is installed")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*_FLAGS, f"--user-data-dir={folder}", "--window-size=1280,1000"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(running)
    finally:
        running.quit()
