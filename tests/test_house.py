"""The house: which way imports point, and which file alone may do what."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for room in ("volumes", "engine", "recipes") for p in (ROOT / room).rglob("*.py"))
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "misc", "base", "manager", "core"}

# A room may import itself and what stands to its right.
DIRECTION = {
    "recipes": {"recipes", "engine", "volumes"},
    "engine": {"engine", "volumes"},
    "volumes": {"volumes"},
}
# The engine finds the recipes that ship, but imports none of them.
FINDS_RECIPES = {"engine/recipe.py"}

DOORS = {
    "nibabel": {"volumes/header.py", "volumes/orientation.py"},
    "PIL": {"volumes/photographs.py"},
    "typer": {"engine/cli.py", "engine/options.py"},
    "h5py": {"engine/keras_weights.py", "volumes/pairs.py"},
    "rich": {"engine/journal.py"},
    "matplotlib": {"engine/preview.py", "engine/figures.py"},
}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide which room they lead to"
            yield node.module or ""


def calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@pytest.fixture(params=FILES, ids=name)
def file(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_imports_point_in_one_direction(file: Path) -> None:
    room = name(file).split("/")[0]
    others = {module.split(".")[0] for module in imported(parsed(file))} & set(DIRECTION)
    allowed = DIRECTION[room] | ({"recipes"} if name(file) in FINDS_RECIPES else set())
    assert others <= allowed


def test_recipes_do_not_import_each_other(file: Path) -> None:
    if name(file).startswith("recipes/"):
        assert not [module for module in imported(parsed(file)) if module.startswith("recipes")]


def test_each_library_has_one_door(file: Path) -> None:
    used = {module.split(".")[0] for module in imported(parsed(file))}
    outside = {library for library, doors in DOORS.items() if name(file) not in doors}
    assert not used & outside


def test_tensorflow_is_imported_at_the_top_only_by_what_runs_after_the_refusals(file: Path) -> None:
    eager = {
        "engine/average.py",
        "engine/feed.py",
        "engine/loop.py",
        "engine/optimizer.py",
        "engine/step.py",
    }
    top = {
        module.split(".")[0]
        for node in parsed(file).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in imported(node)
    }
    if name(file) not in eager:
        assert not top & {"tensorflow", "keras"}


def test_tensorflow_is_configured_in_the_runtime_alone(file: Path) -> None:
    text = file.read_text()
    if name(file) != "engine/runtime.py":
        assert "tf.config" not in text
        assert "TF_ENABLE" not in text or name(file) == "engine/bench.py"


def test_generators_are_made_in_draws_alone(file: Path) -> None:
    made = [
        call
        for call in calls(parsed(file))
        if call.startswith(("np.random.", "random.", "tf.random.", "keras.random."))
    ]
    assert not made or name(file) == "volumes/draws.py"


def test_printing_is_left_to_the_journal_and_the_command_line(file: Path) -> None:
    doors = {"engine/journal.py", "engine/cli.py", "engine/ending.py", "engine/bench.py"}
    assert "print" not in set(calls(parsed(file))) or name(file) in doors


def test_arrays_become_tensors_in_the_feed(file: Path) -> None:
    doors = {"engine/feed.py", "volumes/draws.py", "engine/loop.py", "engine/bench.py"}
    made = {"tf.constant", "tf.convert_to_tensor"} & set(calls(parsed(file)))
    assert not made or name(file) in doors


def test_nothing_is_unpickled_or_evaluated(file: Path) -> None:
    assert not {m.split(".")[0] for m in imported(parsed(file))} & {"pickle", "marshal", "joblib"}
    assert not {"eval", "exec", "keras.models.load_model"} & set(calls(parsed(file)))


def test_nothing_reaches_out(file: Path) -> None:
    ways_out = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "requests", "aiohttp"}
    used = {module.split(".")[0] for module in imported(parsed(file))}
    assert not used & ways_out
    assert "subprocess" not in used or name(file) in {"engine/bench.py", "engine/doctor.py"}


def test_json_files_are_read_by_the_document_alone(file: Path) -> None:
    text = file.read_text()
    assert "json.load(" not in text
    for given in re.findall(r"json\.loads\((.*)\)", text):
        assert "read" not in given or name(file) == "volumes/document.py"


def test_a_file_is_named_by_its_noun(file: Path) -> None:
    assert file.stem not in FORBIDDEN


def test_every_module_of_the_house_was_found() -> None:
    assert {name(file).split("/")[0] for file in FILES} == set(DIRECTION)
    assert len(FILES) > 40
