import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = (
    "{}: hides the package 'volumes' of the engine. Rename it, or start Python in another folder."
)


def python(folder, *words):
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env={"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(params=["a file", "a package"])
def hiding(request, tmp_path):
    """A file or a package of the user's that is called volumes."""
    if request.param == "a file":
        place = tmp_path / "volumes.py"
        place.touch()
    else:
        place = tmp_path / "volumes"
        place.mkdir()
        (place / "__init__.py").touch()
    return place


def test_a_command_names_what_hides_a_package(hiding):
    done = python(hiding.parent, "-m", "engine", "--version")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"engine: error: {LINE.format(hiding)}\n"


def test_the_installed_command_names_it_too(hiding, tmp_path):
    script = tmp_path / "bin" / "engine"
    script.parent.mkdir()
    script.write_text("from engine.cli.main import main\nmain()\n")
    assert python(hiding.parent, script, "--version").returncode == 0  # its own folder is searched
    code = f"import sys; sys.path.insert(0, {str(hiding.parent)!r}); sys.argv = ['bin/engine']\n"
    done = python(ROOT, "-c", code + "from engine.cli.main import main")
    assert done.returncode == 2
    assert done.stderr == f"engine: error: {LINE.format(hiding)}\n"


@pytest.mark.parametrize("first", ["", "import volumes; "])
def test_in_a_notebook_the_import_names_it(hiding, first):
    done = python(hiding.parent, "-c", first + "import engine")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: {LINE.format(hiding)}"


@pytest.mark.parametrize("name", ["volumes", "recipes", "engine"])
def test_a_folder_of_data_with_such_a_name_hides_nothing(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.py").touch()
    assert python(tmp_path, "-m", "engine", "--version").returncode == 0


@pytest.mark.parametrize("inside", ["mine.py", "__init__.py"])
def test_recipes_of_the_user_do_not_hide_those_that_ship(tmp_path, inside):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / inside).touch()
    code = "from engine.recipe.recipe_file import find_recipe; print(find_recipe('respr_unet3d'))"
    done = python(tmp_path, "-c", code)
    assert done.stdout == f"{ROOT / 'recipes' / 'respr_unet3d.py'}\n"
