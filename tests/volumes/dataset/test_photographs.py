from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from volumes.dataset import Case, find_cases
from volumes.dataset.grey_values import TEN_THOUSANDTHS, GreyWanted
from volumes.dataset.photographs import open_photograph
from volumes.dataset.store import Store
from volumes.errors import BadInput
from volumes.window import Window


@pytest.fixture
def grey():
    """(20, 30): every grey value that there is, and rows and columns that can be told apart."""
    values = np.random.default_rng(0).permutation(np.arange(600) % 256)
    return values.astype(np.uint8).reshape(20, 30)


@pytest.fixture
def path(tmp_path, grey):
    path = tmp_path / "test_001.png"
    Image.fromarray(grey).save(path)
    return path


def test_a_photograph_is_one_slice_of_its_grey_values(path, grey):
    hu, saturated = open_photograph(path).read_hu()
    assert hu.dtype == np.int16
    assert saturated == 0
    np.testing.assert_array_equal(hu, grey[None])


def test_the_header_tells_shape_and_spacing(path):
    photograph = open_photograph(path)
    assert photograph.shape == (1, 20, 30)
    assert photograph.spacing_mm == (1.0, 1.0, 1.0)


def test_photographs_are_stored_as_scans_are(path, grey, tmp_path):
    (case,) = find_cases(path.parent)
    volume = Store(tmp_path / "store").volume(case)
    assert isinstance(volume.hu, np.memmap)
    assert volume.case == "test_001"
    assert volume.spacing_mm == (1.0, 1.0, 1.0)
    np.testing.assert_array_equal(volume.hu, grey[None])


def test_photographs_are_mapped_to_the_window(path, grey):
    (case,) = find_cases(path.parent, grey=GreyWanted(TEN_THOUSANDTHS))
    hu, _ = case.open().read_hu()
    np.testing.assert_array_equal(hu[0], np.rint(grey * (10_000 / 255)))


def test_photographs_in_a_window_of_hu_are_refused_once(path, grey):
    Image.fromarray(grey).save(path.with_name("other.png"))
    with pytest.raises(
        BadInput, match=r"holds whole numbers 0\.\.255, not Hounsfield units"
    ) as one:
        find_cases(path.parent, grey=GreyWanted(Window()))
    assert one.value.path == str(path.parent)


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_are_no_padding(tmp_path, value):
    Image.fromarray(np.full((9, 9), value, np.uint8)).save(tmp_path / "even.png")
    volume = Store(tmp_path / "store").volume(Case("even", tmp_path / "even.png"))
    assert (volume.hu == value).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "1", "I;16"])
def test_a_picture_that_is_not_8_bit_grey_is_refused(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "other.png")
    with pytest.raises(BadInput, match=rf"other\.png: has pixels of kind {mode}, not grey"):
        open_photograph(tmp_path / "other.png")


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_a_file_that_is_no_png_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read as PNG"):
        open_photograph(path)


def test_a_picture_of_another_format_is_refused_under_any_name(path, grey):
    Image.fromarray(grey).save(path, format="BMP")
    with pytest.raises(BadInput, match="cannot be read as PNG"):
        open_photograph(path)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(BadInput, match="No such file"):
        open_photograph(tmp_path / "none.png")


def test_a_flipped_bit_changes_no_pixel_unnoticed(path, grey):
    content = path.read_bytes()
    refused = 0
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            hu, _ = open_photograph(path).read_hu()
        except BadInput:
            refused += 1
        else:
            np.testing.assert_array_equal(hu, grey[None])
    assert refused > 0.9 * len(content)


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_truncated_file_is_refused(path, kept):
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(BadInput, match="cannot be read as PNG"):
        open_photograph(path).read_hu()
