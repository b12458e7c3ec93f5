from dataclasses import replace

import pytest

from engine import losses, schedules
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.recipe.recipe_source import recipe_source
from tests.engine.recipe.test_recipe import SHIPPED
from volumes import Coloured, Gaussian, Mixed


@pytest.mark.parametrize("name", SHIPPED)
def test_the_source_of_a_recipe_defines_it(name, tmp_path):
    recipe = load_recipe(find_recipe(name))
    file = tmp_path / "recipe.py"
    file.write_text(recipe_source(recipe))
    assert load_recipe(file) == recipe


def test_parts_within_parts_are_written_out(tmp_path):
    recipe = replace(
        load_recipe(find_recipe("respr_unet3d")),
        noise=Mixed((Gaussian(sigma=0.05), Coloured(sigma=(0.02, 0.1)))),
        loss=losses.mean_absolute_error,
        learning_rate=schedules.warm_up(10, schedules.cosine(1e-3, 1e-5)),
    )
    file = tmp_path / "recipe.py"
    file.write_text(recipe_source(recipe))
    assert load_recipe(file) == recipe
    assert max(map(len, file.read_text().splitlines())) <= 100
