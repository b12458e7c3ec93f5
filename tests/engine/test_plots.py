import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image
from scipy import ndimage

from engine.errors import CannotWrite
from engine.plots import Planes, panel, planes
from volumes import Window


def image(value, shape=(40, 50)):
    return np.full(shape, value, np.float32)


def drawn(path, value, residual=0.0, shape=(40, 50)):
    images = {"noisy": image(value, shape), "estimate": image(value, shape)}
    panel(path, images, image(residual, shape), "a slice", Window())
    return imread(path)


def test_a_panel_is_a_picture_of_two_rows(tmp_path):
    picture = drawn(tmp_path / "look.png", 40)
    assert picture.ndim == 3
    assert picture.shape[1] > 700


@pytest.mark.parametrize(("hu", "grey"), [(-160, 0.0), (240, 1.0), (40, 0.5)])
def test_images_are_shown_in_the_soft_tissue_window(tmp_path, hu, grey):
    picture = drawn(tmp_path / "look.png", hu)
    # A quarter down lies within the upper left image.
    height, width = picture.shape[:2]
    shown = picture[height // 4, width // 6, :3]
    np.testing.assert_allclose(shown, grey, atol=0.02)


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 2)])
def test_slices_of_any_shape_can_be_drawn(tmp_path, shape):
    assert drawn(tmp_path / "look.png", 40, shape=shape).size > 0


def test_a_picture_is_replaced(tmp_path):
    path = tmp_path / "look.png"
    path.write_bytes(b"old")
    assert drawn(path, 40).size > 0


def test_a_place_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CannotWrite):
        drawn(tmp_path / "none" / "look.png", 40)


def test_photographs_are_shown_from_black_to_white(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("matplotlib.figure.Figure.suptitle", lambda *a, **b: titles.append(a[1]))
    greys = Window(low_hu=0, high_hu=255, clip=False)
    picture = np.full((16, 16), 128, np.float32)
    panel(tmp_path / "panel.png", {"clean": picture}, picture, "a photograph", greys)
    assert titles == ["a photograph   window [0, 255] grey"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["M\udcfcller", "$x_$ _{", "5$", "a\nb", "e\U0001f600", "\u5f71"])
def test_a_figure_can_show_any_name(tmp_path, name):
    image = np.zeros((8, 8), np.float32)
    panel(tmp_path / "p.png", {name: image}, image, name, Window())
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def three(shape, hu):
    z, y, x = shape
    return Planes(*(np.full(of, hu, np.float32) for of in ((y, x), (z, x), (z, y))))


def drawn_planes(path, shape, spacing_mm):
    """The figure of three planes as an array, 0 where it is dark."""
    images = {"input": three(shape, 900), "denoised": three(shape, 900)}
    planes(path, images, three(shape, 0), spacing_mm, "a scan", Window())
    with Image.open(path) as opened:
        return np.asarray(opened.convert("L"))


def boxes_of(picture):
    """Height and width of each plane of the residual, which is grey, from top to bottom."""
    grey = np.isin(picture, (127, 128))
    regions, _ = ndimage.label(grey)
    sizes = [(y.stop - y.start, x.stop - x.start) for y, x in ndimage.find_objects(regions)]
    return [size for size in sizes if min(size) > 20]


def test_planes_have_the_proportions_of_the_patient(tmp_path):
    picture = drawn_planes(tmp_path / "planes.png", (10, 80, 120), (5.0, 1.0, 1.0))
    axial, coronal, sagittal = boxes_of(picture)
    assert axial[1] / axial[0] == pytest.approx(120 / 80, rel=0.03)
    assert coronal[1] / coronal[0] == pytest.approx(120 / 50, rel=0.03)
    assert sagittal[1] / sagittal[0] == pytest.approx(80 / 50, rel=0.03)
    assert axial[1] == pytest.approx(coronal[1], abs=3)  # one scale for all


def test_one_slice_has_its_axial_plane_alone(tmp_path):
    picture = drawn_planes(tmp_path / "planes.png", (1, 80, 120), (5.0, 1.0, 1.0))
    assert len(boxes_of(picture)) == 1


def test_a_thin_stack_has_its_axial_plane_alone(tmp_path):
    picture = drawn_planes(tmp_path / "planes.png", (16, 300, 300), (0.8, 0.8, 0.8))
    assert len(boxes_of(picture)) == 1


def test_planes_of_any_shape_can_be_drawn(tmp_path):
    for shape in ((1, 1, 1), (300, 8, 8), (4, 2, 600)):
        assert drawn_planes(tmp_path / "planes.png", shape, (1.0, 0.5, 0.5)).size > 0
