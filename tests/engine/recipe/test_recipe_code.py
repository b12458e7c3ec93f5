import inspect
import sys
from pathlib import Path

import pytest

from engine.errors import BadUsage
from engine.recipe import recipe_code
from engine.recipe.recipe_code import read_code, run_code


def written(folder: Path, **files: str) -> Path:
    """A folder with a recipe `mine.py`; `__` in a name is a folder."""
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "mine.py"


def test_the_modules_beside_a_recipe_that_it_imports_are_its_code(tmp_path):
    path = written(
        tmp_path,
        mine="import json\nimport parts.nets as nets\nfrom gates import gate\nrecipe = 1",
        gates="def gate():\n    import late\n    return late.x",
        late="x = 5",
        parts__init="",
        parts__nets="from .deep import y\nfrom . import other",
        parts__deep="y = 6",
        parts__other="",
        unused="1 / 0",
    )
    (tmp_path / "parts" / "init.py").rename(tmp_path / "parts" / "__init__.py")
    code = read_code(path)
    assert sorted(code.files) == [
        "gates.py", "late.py", "parts/__init__.py", "parts/deep.py", "parts/nets.py",
        "parts/other.py", "recipe.py",
    ]  # fmt: skip
    module = run_code(code)
    assert (module.gate(), module.nets.y) == (5, 6)
    assert "gates" not in sys.modules


def test_modules_of_one_name_in_two_recipes_do_not_meet(tmp_path):
    found = []
    for i in (1, 2):
        path = written(
            tmp_path / str(i), mine="import gates\ndef f(): return gates.x", gates=f"x = {i}"
        )
        found.append(run_code(read_code(path)))
    assert [module.f() for module in found] == [1, 2]


def test_a_module_beside_a_recipe_comes_before_an_installed_one_for_the_recipe_alone(tmp_path):
    path = written(tmp_path, mine="import rich\nx = rich.x", rich="x = 5")
    assert run_code(read_code(path)).x == 5
    import rich

    assert rich.__path__


@pytest.mark.parametrize("name", ["random", "os", "tensorflow", "numpy", "keras", "engine"])
def test_a_module_beside_a_recipe_must_not_hide_an_installed_one(tmp_path, name):
    path = written(tmp_path, mine=f"import {name}", **{name: "1 / 0"})
    with pytest.raises(BadUsage, match=f"{name}.py: has the name of an installed module, {name}"):
        read_code(path)


def test_a_recipe_beside_the_engine_itself_imports_it(tmp_path):
    root = Path(recipe_code.__file__).parents[2]
    (tmp_path / "engine").symlink_to(root / "engine")
    code = read_code(written(tmp_path, mine="from engine.recipe import Recipe"))
    assert list(code.files) == ["recipe.py"]


@pytest.mark.parametrize(
    ("other", "cause"),
    [({"gates": "import mine"}, "is imported by a module beside it"),
     ({"gates": "import recipe", "recipe": ""}, "has the name by which a run keeps mine.py")],
)  # fmt: skip
def test_a_recipe_is_no_module_of_others(tmp_path, other, cause):
    with pytest.raises(BadUsage, match=cause):
        read_code(written(tmp_path, mine="import gates", **other))


def test_what_runs_is_what_was_read(tmp_path):
    path = written(tmp_path, mine="def f():\n    return 1\n")
    code = read_code(path)
    path.write_text("def f():\n    return 2\n")
    module = run_code(code)
    assert module.f() == 1
    assert inspect.getsource(module.f) == "def f():\n    return 1\n"
    assert run_code(read_code(path)).f() == 2


def test_a_file_that_is_the_same_runs_once(tmp_path):
    path = written(tmp_path, mine="x = object()")
    assert run_code(read_code(path)).x is run_code(read_code(path)).x


def test_a_file_that_failed_runs_again(tmp_path):
    path = written(
        tmp_path, mine=f"from pathlib import Path\nx = Path({str(tmp_path / 'data')!r}).read_text()"
    )
    with pytest.raises(BadUsage, match=r"mine\.py: fails with FileNotFoundError"):
        run_code(read_code(path))
    (tmp_path / "data").write_text("found")
    assert run_code(read_code(path)).x == "found"


@pytest.mark.parametrize(
    "text", ["import (", "x = '\x00'", "\udcff".encode("utf-8", "surrogatepass")]
)
def test_a_module_beside_a_recipe_that_is_not_python_is_named(tmp_path, text):
    path = written(tmp_path, mine="import gates", gates="")
    (tmp_path / "gates.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadUsage, match=r"gates\.py: fails with"):
        read_code(path)


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = written(tmp_path, mine="#" * (recipe_code.MOST_BYTES + 1))
    with pytest.raises(BadUsage, match="more than 1,048,576 bytes"):
        read_code(path)


def test_too_many_modules_are_refused(tmp_path):
    names = [f"m{i}" for i in range(recipe_code.MOST_FILES)]
    path = written(
        tmp_path, mine="\n".join(f"import {n}" for n in names), **dict.fromkeys(names, "")
    )
    with pytest.raises(BadUsage, match="more than 64 modules"):
        read_code(path)


def test_comments_layout_and_the_recipe_do_not_change_what_a_file_defines(tmp_path):
    path = written(tmp_path, mine="def f(): return 1\nrecipe = 5")
    before = read_code(path)
    path.write_text("# why\ndef f():\n    return 1\n\n\nrecipe = 6\n")
    assert read_code(path).definitions() == before.definitions()
    assert read_code(path).sha256 != before.sha256
    path.write_text("def f(): return 2\nrecipe = 5")
    assert read_code(path).definitions() != before.definitions()


def test_an_error_in_a_part_names_file_and_line(tmp_path):
    path = written(
        tmp_path, mine="from gates import g\ndef f():\n    g()", gates="def g():\n    1 / 0"
    )
    module = run_code(read_code(path))
    with pytest.raises(ZeroDivisionError) as failed:
        module.f()
    assert recipe_code.raised_in(failed.value) == f"{tmp_path / 'gates.py'}, line 2"
    with pytest.raises(ZeroDivisionError) as failed:
        1 / 0  # noqa: B018
    assert recipe_code.raised_in(failed.value) is None
