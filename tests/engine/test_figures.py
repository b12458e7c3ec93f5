import numpy as np
import pytest
from PIL import Image

from engine import figures

DPI = 110


@pytest.fixture
def images_hu():
    """Slices in HU by name: a disc, the same with noise, and two estimates."""
    y, x = np.mgrid[:48, :48]
    clean = np.where((y - 24) ** 2 + (x - 24) ** 2 < 200, 60, -100).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(clean.shape, np.float32)
    noisy = clean + 100 * noise
    return {"clean": clean, "noisy": noisy, "tv": clean + 20 * noise, "unet": clean + 5 * noise}


def series(levels, cases=3):
    """PSNR by method, level and case."""
    return {
        name: {sigma: [first - 50 * sigma + case for case in range(cases)] for sigma in levels}
        for name, first in (("noisy", 30.0), ("tv", 33.0), ("unet", 36.0))
    }


def inches(path):
    """Width and height of a PNG, which must hold more than one grey."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    with Image.open(path) as image:
        image.load()
        assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 8
        return image.width / DPI, image.height / DPI


@pytest.mark.parametrize("names", [2, 4])
def test_slices_are_a_png_with_a_column_an_image(tmp_path, images_hu, names):
    shown = dict(list(images_hu.items())[:names])
    figures.slices(tmp_path / "slices.png", "case", 0.1, shown)
    assert inches(tmp_path / "slices.png") == pytest.approx((3.2 * names, 10.9), abs=0.02)


def test_slices_without_noise_can_be_drawn(tmp_path, images_hu):
    same = {"clean": images_hu["clean"], "noisy": images_hu["clean"]}
    figures.slices(tmp_path / "slices.png", "case", 0.1, same)
    assert inches(tmp_path / "slices.png")[0] > 6


@pytest.mark.parametrize("levels", [(0.1,), (0.02, 0.05, 0.1)], ids=["1 level", "3 levels"])
def test_boxes_are_a_png_with_a_panel_a_level(tmp_path, levels):
    figures.boxes(tmp_path / "cases.png", series(levels))
    assert inches(tmp_path / "cases.png") == pytest.approx((3.2 * len(levels), 4.3), abs=0.02)


@pytest.mark.parametrize("levels", [(0.1,), (0.02, 0.05, 0.1)], ids=["1 level", "3 levels"])
def test_levels_are_a_png_of_one_panel(tmp_path, levels):
    figures.levels(tmp_path / "levels.png", series(levels))
    assert inches(tmp_path / "levels.png") == pytest.approx((7.0, 4.3), abs=0.02)


def test_one_case_can_be_drawn(tmp_path):
    figures.boxes(tmp_path / "cases.png", series((0.1,), cases=1))
    assert inches(tmp_path / "cases.png")[0] > 3


def test_another_result_is_another_picture(tmp_path, images_hu):
    figures.slices(tmp_path / "one.png", "case", 0.1, images_hu)
    figures.slices(tmp_path / "other.png", "case", 0.1, images_hu | {"tv": images_hu["clean"]})
    assert (tmp_path / "one.png").read_bytes() != (tmp_path / "other.png").read_bytes()


def test_the_same_result_replaces_a_picture_by_the_same(tmp_path):
    figures.levels(tmp_path / "levels.png", series((0.1,)))
    before = (tmp_path / "levels.png").read_bytes()
    figures.levels(tmp_path / "levels.png", series((0.1,)))
    assert (tmp_path / "levels.png").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["levels.png"]
