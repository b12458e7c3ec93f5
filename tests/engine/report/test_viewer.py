"""The viewer in a real browser: what its canvases show equals the arrays."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from engine.report.html import report_body
from engine.report.packed_slices import packed
from engine.report.page import page
from engine.report.results import Stack, shown_slices
from engine.report.viewer import MOST_BYTES, viewer
from tests.engine.report.browser import Browser, chromium
from volumes import Window, random_draws

SHAPE = (5, 48, 64)
PRESETS = [(-160, 240), (-1350, 150), (-450, 1050)]  # soft tissue, lung, bone


def stack(seed: int = 0, shape=SHAPE, names=("clean", "noisy", "tv", "unet")) -> Stack:
    """A body in air with bone and lung, and images with different noise."""
    rng = random_draws.rng(seed, "viewer")
    y, x = np.mgrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    body = np.where(y**2 + x**2 < 0.95, 40, -1000) + np.where(
        (y**2 + (x - 0.4) ** 2) < 0.05, 900, 0
    )
    clean = np.stack([body + 10 * z for z in range(shape[0])]).astype(np.float32)
    images = {name: clean + np.float32(20 * i) * rng.standard_normal(clean.shape, np.float32)
              for i, name in enumerate(names)}  # fmt: skip
    numbers = tuple(range(10, 10 + 3 * shape[0], 3))
    return Stack(numbers, 40, (3.0, 0.9, 0.6), images)


def shown(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Grey values of an image of whole HU in a window."""
    level = np.floor(255 * (np.rint(image).astype(np.float64) - low) / (high - low) + 0.5)
    return np.clip(level, 0, 255).astype(np.uint8)


def content(text: str) -> dict:
    found = re.search(r'id="viewer-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def unpacked(text: str, shape) -> np.ndarray:
    coded = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).astype(np.uint16)
    half = coded.size // 2
    zigzag = coded[:half] | (coded[half:] << 8)
    steps = (zigzag >> 1).astype(np.int16) ^ -(zigzag & 1).astype(np.int16)
    return np.cumsum(steps, dtype=np.int16).reshape(shape)


# -- Packing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 100, 30000])
def test_packed_slices_hold_every_whole_value(scale):
    rng = random_draws.rng(scale, "packed")
    image = np.clip(np.rint(scale * rng.standard_normal((9, 7))), -32768, 32767)
    np.testing.assert_array_equal(unpacked(packed(image), image.shape), image)


def test_values_that_int16_cannot_hold_are_saturated():
    image = np.array([[1e6, -1e6, np.nan, 0.6]])
    assert unpacked(packed(image), (1, 4)).tolist() == [[32767, -32768, -32768, 1]]


def test_the_page_holds_the_slices_cut_to_the_patient():
    given = stack(shape=(3, 100, 90))
    for image in given.images.values():
        image[:, :20] = -1000
    found = content(viewer({"10%": given}, Window()))["stacks"][0]
    (height, width), (top, left) = found["shape"], found["start"]
    assert top == 20 - 8
    assert height < 100
    packed_noisy = found["images"][1]["slices"][2]
    rounded = np.rint(given.images["noisy"][2, top : top + height, left : left + width])
    np.testing.assert_array_equal(unpacked(packed_noisy, (height, width)), rounded)
    assert found["numbers"] == [10, 13, 16]


def test_slices_are_left_out_and_cut_until_the_page_is_small_enough():
    given = stack(shape=(9, 128, 128))
    whole = len(viewer({"10%": given}, Window()))
    for share in (2, 4, 20):
        text = viewer({"10%": given}, Window(), bytes_=whole // share)
        slices = content(text)["stacks"][0]["images"]
        size = sum(len(part) for image in slices for part in image["slices"])
        assert size <= whole // share
        assert "This page holds" in text
    assert len(content(text)["stacks"][0]["numbers"]) == 1
    assert content(text)["stacks"][0]["numbers"] == [22]  # the middle one
    assert "1 of 40 slices" in text
    assert "rows" in text


def test_at_most_24_slices_are_shown_and_the_middle_one_is_among_them():
    for depth in (1, 2, 23, 24, 25, 49, 300):
        for middle in {0, depth // 2, depth - 1}:
            found = shown_slices(depth, middle)
            assert middle in found
            assert len(found) <= 24
            assert len(set(np.diff(found))) <= 1


def test_a_name_cannot_end_the_script():
    text = viewer({"10%": stack(names=("clean", "noisy", "</script><b>"))}, Window())
    assert content(text)["stacks"][0]["images"][2]["name"] == "</script><b>"
    assert "<b>" not in text


def test_without_a_stack_there_is_no_viewer():
    with pytest.raises(ValueError, match="needs a stack"):
        viewer({}, Window())


# -- The report ------------------------------------------------------------------------------------

MARKDOWN = r"""# Title

**Bold** and `code` & <tags>

| method | PSNR (dB) | note |
|---|---:|---:|
| tv | 9.50 ± 0.10 | a\|b |
| unet | 30.25 ± 1.00 |  |
| noisy | -3.00 ± 0.10 | x |

- One
- Two

**Figure 1.** A slice.

![Figure 1](slices-10pc.png)

**Figure 2.** The cases.

![Figure 2](cases.png)
"""


def test_the_report_becomes_html_with_its_figures_inside():
    body = report_body(MARKDOWN, {"cases.png": b"png"}, "<div>viewer</div>")
    assert "<h1>Title</h1>\n<div>viewer</div>" in body
    assert "<p><strong>Bold</strong> and <code>code</code> &amp; &lt;tags&gt;</p>" in body
    assert "<td>a|b</td>" in body
    assert "<ul><li>One</li><li>Two</li></ul>" in body
    assert f"data:image/png;base64,{base64.b64encode(b'png').decode()}" in body
    assert "The cases." in body
    assert "A slice." not in body  # the viewer shows it


# -- In a browser ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture(scope="module")
def stacks():
    return {"2%": stack(0), "10%": stack(1)}


@pytest.fixture
def opened(browser, stacks, tmp_path) -> Browser:
    path = tmp_path / "report.html"
    path.write_text(page("Report", report_body(MARKDOWN, {}, viewer(stacks, Window()))), "utf-8")
    browser.open(path)
    return browser


def test_the_first_four_images_of_the_middle_slice_are_drawn_in_soft_tissue(opened, stacks):
    assert opened.captions() == ["clean", "noisy", "tv", "unet"]
    for i, image in enumerate(stacks["2%"].images.values()):
        np.testing.assert_array_equal(opened.grey(i), shown(image[2], *PRESETS[0]))


def test_the_page_loads_nothing_and_has_no_errors(opened):
    assert opened.errors() == []
    assert opened.script("return performance.getEntriesByType('resource').length") == 0


@pytest.mark.parametrize("number", [0, 3, 4])
def test_the_slider_shows_its_slice(opened, stacks, number):
    opened.set("slice", number)
    expected = shown(stacks["2%"].images["tv"][number], *PRESETS[0])
    np.testing.assert_array_equal(opened.grey(2), expected)
    assert opened.script('return document.querySelector(".count").textContent').startswith(
        f"{10 + 3 * number} (0 to 39)"
    )


@pytest.mark.parametrize("preset", range(3))
def test_a_preset_changes_the_window(opened, stacks, preset):
    opened.click(f"preset-{preset}")
    expected = shown(stacks["2%"].images["noisy"][2], *PRESETS[preset])
    np.testing.assert_array_equal(opened.grey(1), expected)
    pressed = opened.script(
        "return [...document.querySelectorAll('[id^=preset]')].map((b) => b.ariaPressed)"
    )
    assert pressed == [str(i == preset).lower() for i in range(3)]


def test_level_and_width_can_be_typed(opened, stacks):
    opened.set("level", 100)
    opened.set("width", 50)
    expected = shown(stacks["2%"].images["clean"][2], 75, 125)
    np.testing.assert_array_equal(opened.grey(0), expected)


def test_another_level_of_noise_shows_its_images(opened, stacks):
    opened.set("stack", 1)
    expected = shown(stacks["10%"].images["unet"][2], *PRESETS[0])
    np.testing.assert_array_equal(opened.grey(3), expected)


def test_the_curtain_shows_one_image_on_each_side(opened, stacks):
    opened.click("curtain")
    opened.set("one", 1)
    opened.set("other", 3)
    opened.set("position", 0.25)
    images = stacks["2%"].images
    expected = shown(images["noisy"][2], *PRESETS[0])
    expected[:, 16:] = shown(images["unet"][2], *PRESETS[0])[:, 16:]
    np.testing.assert_array_equal(opened.grey(), expected)
    assert opened.captions() == ["noisy | unet"]


def test_the_residual_is_the_noisy_image_less_another(opened, stacks):
    opened.set("spread", 60)
    opened.click("residual")
    images = stacks["2%"].images
    residual = np.rint(images["noisy"][2]) - np.rint(images["tv"][2])
    np.testing.assert_array_equal(opened.grey(2), shown(residual, -60, 60))
    assert opened.captions()[2] == "residual of tv"


def test_all_images_zoom_together_and_keys_pan(opened, stacks):
    opened.press("+")
    opened.press(*5 * ["\ue012"])  # left arrow, up to the border
    for i, image in enumerate(stacks["2%"].images.values()):
        part = shown(image[2], *PRESETS[0])[12:36, :32]
        np.testing.assert_array_equal(opened.grey(i), part.repeat(2, 0).repeat(2, 1))
    opened.press("0")
    assert opened.state["zoom"] == 1


def test_keys_change_the_slice(opened):
    opened.press("\ue00f", canvas=1)  # page down
    assert opened.state["slice"] == 3
    opened.press("\ue00e", "\ue00e", canvas=1)  # page up
    assert opened.state["slice"] == 1


def test_every_control_has_a_name_and_nothing_jumps(opened):
    unnamed = opened.script("""
        return [...document.querySelectorAll("button, input, select, canvas")].filter((each) =>
            !each.ariaLabel && !each.labels?.length && !each.textContent.trim()).length;
    """)
    assert unnamed == 0
    height = "return document.getElementById('viewer').offsetHeight"
    before = opened.script(height)
    opened.set("slice", 0)
    opened.click("residual")
    opened.set("stack", 1)
    assert opened.script(height) == before


def test_pixels_keep_their_proportions(opened):
    ratio = opened.script("""
        const box = document.querySelector(".frame").getBoundingClientRect();
        return box.width / box.height;
    """)
    assert ratio == pytest.approx(64 * 0.6 / (48 * 0.9), rel=0.02)


def test_a_click_on_a_title_sorts_by_number(opened):
    cells = """
        const table = document.querySelector("table");
        table.tHead.rows[0].cells[1].firstElementChild.click();
        return [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
    """
    assert opened.script(cells) == ["noisy", "tv", "unet"]
    assert opened.script(cells) == ["unet", "tv", "noisy"]


def test_a_report_of_many_methods_stays_below_15_mb():
    names = ("clean", "noisy", *(f"method {i}" for i in range(8)))
    levels = {f"{level}%": stack(level, (24, 160, 160), names) for level in (2, 5, 10)}
    text = page("Report", viewer(levels, Window()))
    assert 8_000_000 < len(text.encode()) < MOST_BYTES
