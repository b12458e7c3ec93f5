import pytest

from engine import networks, schedules
from engine.recipe.declared import refuse_misfits
from engine.recipe.recipe import Recipe
from volumes import Crop, Gaussian, NeighbourMean, Window
from volumes.sampling.prior_sources import SliceTV

FITTING = [
    (Window, {"low_hu": -1000, "high_hu": 400.5, "clip": True}),
    (Crop, {"shape": (8, 16, 16), "scales": (1.0, 0.5), "central": 1}),
    (Gaussian, {"sigma": 0.1}),
    (Gaussian, {"sigma": (0.1, 0.2)}),
    (NeighbourMean, {"radius": 2, "of": SliceTV()}),
    (networks.UNet3D, {"width": 8, "levels": 2}),
    (networks.ResNet2D, {"widths": (8, 16)}),
    (Recipe, {"prior": None, "loss": max, "learning_rate": schedules.constant(1e-3)}),
    (Recipe, {"noise": Gaussian(0.1), "network": networks.DnCNN()}),
]
MISFITS = [
    (Window, {"clip": 1}),
    (Window, {"low_hu": "-1000"}),
    (Window, {"low_hu": None}),
    (Crop, {"shape": (8, 16)}),
    (Crop, {"shape": (8.0, 16.0, 16.0)}),
    (Crop, {"shape": "8,16,16"}),
    (Crop, {"scales": ("1.0",)}),
    (Gaussian, {"sigma": True}),
    (NeighbourMean, {"of": "mean"}),
    (NeighbourMean, {"of": Window()}),
    (networks.UNet3D, {"width": 8.0}),
    (networks.UNet3D, {"width": True}),
    (networks.UNet3D, {"depth": 8}),
    (Recipe, {"noise": Window()}),
    (Recipe, {"network": None}),
    (Recipe, {"loss": "mean_squared_error"}),
    (Recipe, {"prior": Gaussian(0.1)}),
]


@pytest.mark.parametrize(("kind", "fields"), FITTING)
def test_what_is_declared_fits(kind, fields):
    refuse_misfits(kind, fields)


@pytest.mark.parametrize(("kind", "fields"), MISFITS)
def test_what_is_not_declared_is_refused(kind, fields):
    (name,) = fields
    with pytest.raises(TypeError, match=name):
        refuse_misfits(kind, fields)
