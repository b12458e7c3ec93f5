import numpy as np
import pytest
from PIL import Image

from engine.report import figures
from volumes import Window

DPI = 120


@pytest.fixture
def images_hu():
    """Slices in HU by name: a disc, the same with noise, and two estimates."""
    y, x = np.mgrid[:48, :48]
    clean = np.where((y - 24) ** 2 + (x - 24) ** 2 < 200, 60, -100).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = clean + 100 * noise
    return {"clean": clean, "noisy": noisy, "tv": clean + 20 * noise, "unet": clean + 5 * noise}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved."""
    figures_ = []
    save = figures.save

    def saving(figure, path, *, dpi):
        save(figure, path, dpi=dpi)
        figures_.append(figure)

    monkeypatch.setattr(figures, "save", saving)
    return figures_


CT = Window()


def label(sigma):
    return f"{100 * sigma:g}%"


def series(levels, cases=3):
    """PSNR by method, level and case."""
    return {
        name: {label(s): [first - 50 * s + case for case in range(cases)] for s in levels}
        for name, first in (("noisy", 30.0), ("tv", 33.0), ("unet", 36.0))
    }


def inches(path):
    """Width and height of a PNG, which must contain more than one grey value."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as image:
        image.load()
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 8
        return image.width / DPI, image.height / DPI


def many(images_hu, count):
    """A number of images by name: the clean one, the noisy one, and estimates."""
    estimates = {f"method {i}": images_hu["noisy"] / i for i in range(1, count - 1)}
    return {name: images_hu[name] for name in ("clean", "noisy")} | estimates


@pytest.mark.parametrize(
    ("images", "columns", "bands"), [(2, 2, 1), (5, 5, 1), (6, 3, 2), (8, 4, 2), (18, 5, 4)]
)
def test_slices_are_a_grid_that_wraps_at_a_page_s_width(
    tmp_path, images_hu, images, columns, bands
):
    figures.slices(tmp_path / "slices.png", "case", "10%", many(images_hu, images), CT)
    expected = 2.5 * columns + 0.3, 8.0 * bands + 0.7
    assert inches(tmp_path / "slices.png") == pytest.approx(expected, abs=0.02)


def test_each_image_is_shown_whole_enlarged_and_as_residual(drawn, tmp_path, images_hu):
    shown = many(images_hu, 8)
    figures.slices(tmp_path / "slices.png", "case", "10%", shown, CT)
    found = {axis.get_title(): [] for axis in drawn[0].axes if axis.get_title()}
    assert list(found) == list(shown)
    axes = [axis for axis in drawn[0].axes if axis.images]
    assert len(axes) == 3 * len(shown)
    for whole in (axis for axis in axes if axis.get_title()):
        i = list(shown).index(whole.get_title())
        first = 12 * (i // 4) + i % 4
        _, near, removed = axes[first], axes[first + 4], axes[first + 8]
        image = shown[whole.get_title()]
        np.testing.assert_array_equal(whole.images[0].get_array(), image)
        np.testing.assert_array_equal(near.images[0].get_array(), image[16:32, 16:32])
        np.testing.assert_array_equal(removed.images[0].get_array(), images_hu["noisy"] - image)
    windows = {axis.images[0].get_clim() for axis in axes}
    assert len(windows) == 2
    assert (-160, 240) in windows


def test_the_title_of_slices_has_case_noise_window_and_scale(drawn, tmp_path, images_hu):
    figures.slices(tmp_path / "slices.png", "case_7", "2.5%", images_hu, CT)
    title = drawn[0].get_suptitle()
    noise_hu = np.std(images_hu["noisy"] - images_hu["clean"])
    for told in ("case_7", "2.5%", f"({noise_hu:.0f} HU)", "[-160, 240] HU"):
        assert told in title
    assert f"±{3 * noise_hu:.0f} HU" in title


def test_closeups_enlarge_the_middle_of_each_image_in_the_same_window(drawn, tmp_path, images_hu):
    shown = many(images_hu, 5)
    figures.closeups(tmp_path / "closeup.png", "case_7", "5%", shown, CT)
    axes = [axis for axis in drawn[0].axes if axis.images]
    assert [axis.get_title() for axis in axes] == list(shown)
    for axis, image in zip(axes, shown.values(), strict=True):
        np.testing.assert_array_equal(axis.images[0].get_array(), image[16:32, 16:32])
        assert axis.images[0].get_clim() == (-160, 240)
    assert drawn[0].get_suptitle() == "case_7, noise 5%, [-160, 240] HU"


def test_slices_without_noise_can_be_drawn(tmp_path, images_hu):
    same = {"clean": images_hu["clean"], "noisy": images_hu["clean"]}
    figures.slices(tmp_path / "slices.png", "case", "10%", same, CT)
    assert inches(tmp_path / "slices.png")[0] > 5


LEVELS = pytest.mark.parametrize(
    "levels", [(0.1,), (0.02, 0.05, 0.1), (0.01, 0.02, 0.05, 0.1)], ids=["1 level", "3", "4"]
)


@LEVELS
def test_boxes_have_a_panel_a_level_and_a_line_a_method(drawn, tmp_path, levels):
    figures.boxes(tmp_path / "cases.png", series(levels))
    inches(tmp_path / "cases.png")
    panels = [axis for axis in drawn[0].axes if axis.get_visible()]
    assert [axis.get_title() for axis in panels] == [f"noise {label(s)}" for s in levels]
    names = [label.get_text() for label in panels[0].get_yticklabels()]
    assert names == ["noisy", "tv", "unet"]
    low, high = panels[0].get_ylim()
    assert low > high  # the first stands on top
    for axis, sigma in zip(panels, levels, strict=True):
        (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
        assert list(dashed.get_xdata()) == pytest.approx(2 * [31 - 50 * sigma])
        points = [line for line in axis.lines if line.get_marker() == "."]
        expected = [found[label(sigma)] for found in series(levels).values()]
        assert [list(line.get_xdata()) for line in points] == expected


def test_boxes_of_many_methods_grow_in_height_not_in_width(tmp_path):
    few, many = ({f"m{i}": {"10%": [30.0, 31.0]} for i in range(n)} for n in (3, 16))
    figures.boxes(tmp_path / "few.png", few)
    figures.boxes(tmp_path / "many.png", many)
    one, other = inches(tmp_path / "few.png"), inches(tmp_path / "many.png")
    assert one[0] == other[0]
    assert other[1] - one[1] > 13 * 0.25  # a line of text each


@pytest.mark.parametrize("levels", [(0.02, 0.05, 0.1), (0.01, 0.02, 0.05, 0.1)], ids=["3", "4"])
def test_levels_show_the_untouched_scan_as_the_one_dashed_line(drawn, tmp_path, levels):
    figures.levels(tmp_path / "levels.png", series(levels))
    inches(tmp_path / "levels.png")
    (axis,) = drawn[0].axes
    (dashed,) = [line for line in axis.lines if line.get_linestyle() == "--"]
    assert dashed.get_label().startswith("noisy")
    assert list(dashed.get_ydata()) == pytest.approx([31 - 50 * sigma for sigma in levels])


def test_levels_are_drawn_in_their_order(drawn, tmp_path):
    figures.levels(tmp_path / "levels.png", series((0.1, 0.02, 0.05)))
    for line in drawn[0].axes[0].lines:
        assert list(line.get_xdata()) == pytest.approx([2, 5, 10])
        assert list(line.get_ydata()) == sorted(line.get_ydata(), reverse=True)


def test_many_methods_have_different_lines(drawn, tmp_path):
    many = {f"method {i}": {"2%": [40.0 - i], "10%": [20.0 + i]} for i in range(16)}
    figures.levels(tmp_path / "levels.png", many)
    (axis,) = drawn[0].axes
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axis.lines}
    dashes = {(line.get_color(), line.get_linestyle()) for line in axis.lines}
    assert len(looks) == len(dashes) == 16


def test_the_legend_stands_outside_in_the_order_of_the_lines_ends(drawn, tmp_path):
    many = {f"method {i}": {"2%": [40.0 - i], "10%": [20.0 + i]} for i in range(16)}
    figures.levels(tmp_path / "levels.png", many)
    (axis,) = drawn[0].axes
    legend = axis.get_legend()
    names = [text.get_text() for text in legend.get_texts()]
    assert names == [f"method {i}" for i in reversed(range(16))]
    assert legend.get_window_extent().x0 > axis.get_window_extent().x1


def test_one_case_can_be_drawn(tmp_path):
    figures.boxes(tmp_path / "cases.png", series((0.1,), cases=1))
    assert inches(tmp_path / "cases.png")[0] > 3


def test_another_result_is_another_picture(tmp_path, images_hu):
    figures.slices(tmp_path / "one.png", "case", "10%", images_hu, CT)
    figures.slices(
        tmp_path / "other.png", "case", "10%", images_hu | {"tv": images_hu["clean"]}, CT
    )
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


def test_the_same_result_replaces_a_picture_by_the_same(tmp_path):
    figures.levels(tmp_path / "levels.png", series((0.1,)))
    before = (tmp_path / "levels.png").read_bytes()
    figures.levels(tmp_path / "levels.png", series((0.1,)))
    assert (tmp_path / "levels.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["levels.png"]


def test_levels_that_are_no_percentages_stand_one_after_the_other(drawn, tmp_path):
    found = {name: {"quarter": [30.0], "half": [33.0]} for name in ("noisy", "tv")}
    figures.levels(tmp_path / "levels.png", found)
    (axis,) = drawn[0].axes
    assert [text.get_text() for text in axis.get_xticklabels()] == ["quarter", "half"]
    assert list(axis.lines[0].get_xdata()) == [0, 1]


def test_photographs_are_shown_in_greys(drawn, tmp_path, images_hu):
    greys = Window(low_hu=0, high_hu=255, clip=False)
    figures.slices(tmp_path / "slices.png", "test001", "10%", images_hu, greys)
    title = drawn[0].get_suptitle()
    assert "window [0, 255] grey" in title
    assert "HU" not in title
