import pytest

from engine.errors import BadUsage
from engine.recipe.metric import Metric
from engine.recipe.overrides import override
from engine.recipe.recipe_file import find_recipe, load_recipe


def test_the_best_is_chosen_by_a_score_of_the_command_line():
    recipe = override(load_recipe(find_recipe("unet3d")), ["best_by=rmse"])
    assert recipe.best_by == "rmse"


def test_an_unknown_score_is_refused():
    with pytest.raises(BadUsage, match=r"best_by must be psnr, ssim, rmse or a Metric"):
        override(load_recipe(find_recipe("unet3d")), ["best_by=beauty"])


@pytest.mark.parametrize("name", ["mse", "psnr_db", "ssim"])
def test_a_metric_does_not_take_the_name_of_a_score(name):
    def function(clean, estimate):
        return 0.0

    function.__name__ = name
    with pytest.raises(ValueError, match="another name"):
        Metric(function, larger_is_better=True)


def test_a_metric_needs_a_function():
    with pytest.raises(ValueError, match="must be a function"):
        Metric("ssim", larger_is_better=True)
