import pytest

from engine.recipe.recipe_file import find_recipe
from engine.runs.training_run import TrainingRun
from tests.engine.runs.begun import ABOUT
from tests.engine.tiny import tiny


@pytest.fixture
def run(tmp_path):
    """A run that has begun."""
    run = TrainingRun(tmp_path / "runs" / "mine")
    run.folder.mkdir(parents=True)
    run.begin(tiny(), find_recipe("unet3d"), ABOUT)
    return run
