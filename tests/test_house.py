"""The house: which way imports point, and which file alone may do what."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(p for room in ("volumes", "engine", "recipes") for p in (ROOT / room).rglob("*.py"))
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "misc", "base", "manager", "core"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# A room may import itself and what stands to its right.
DIRECTION = {
    "recipes": {"recipes", "engine", "volumes"},
    "engine": {"engine", "volumes"},
    "volumes": {"volumes"},
}
# Packages and top files, from what is used to what uses it: each imports only what stands on a line
# before its own. Those of the first line are the ground, and may import each other.
ORDER = {
    "engine": [
        "errors losses objectives schedules standard_streams shadowing runtime terminal "
        "output_paths plots networks",
        "checkpoints recipe",
        "runs",
        "inference",
        "scoring",
        "simulation report",
        "training denoising",
        "comparison export",
        "characterization",
        "diagnostics",
        "cli api",
    ],
    "volumes": [
        "errors window random_draws total_variation",
        "storage",
        "volume",
        "boxes",
        "padding",
        "tiles",
        "nifti",
        "dicom",
        "tomography dataset",
        "sampling phantoms",
    ],
}

DOORS = {
    "nibabel": {
        "volumes/nifti/header.py",
        "volumes/nifti/image.py",
        "volumes/nifti/orientation.py",
        "engine/diagnostics/benchmark/feed_ways.py",
    },
    "PIL": {"volumes/dataset/photographs.py"},
    "typer": {path for path in map(name, FILES) if path.startswith("engine/cli/")},
    "h5py": {"engine/runs/keras_import.py", "volumes/dataset/pairs.py"},
    "torch": {
        "engine/diagnostics/benchmark/torch_network.py",
        "engine/diagnostics/benchmark/peers.py",
    },
    "monai": {
        "engine/diagnostics/benchmark/peers.py",
        "engine/diagnostics/benchmark/feed_ways.py",
    },
    "torchio": {"engine/diagnostics/benchmark/feed_ways.py"},
    "onnx": {"engine/export/onnx_file.py"},
    "onnxruntime": {"engine/export/onnx_file.py"},
    "tf2onnx": {"engine/export/onnx_file.py"},
    "pydicom": {"volumes/dicom/slices.py"},
    "rich": {"engine/terminal.py"},
    "matplotlib": {"engine/plots.py"},
}


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
    assert others <= DIRECTION[room]


def room(path: str, package: str) -> str:
    """The sub-package, or the top file, that a path or a dotted name lies in."""
    parts = path.removesuffix(".py").replace("/", ".").split(".")
    return parts[1] if len(parts) > 1 and parts[0] == package else ""


def test_packages_import_only_what_stands_before_them(file: Path) -> None:
    package = name(file).split("/")[0]
    if package not in ORDER or (file.name in ("__init__.py", "__main__.py") and len(
        file.relative_to(ROOT).parts
    ) == 2):  # fmt: skip
        return
    place = {noun: i for i, nouns in enumerate(ORDER[package]) for noun in nouns.split()}
    own = room(name(file), package)
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == package:
            names = [node.module] if "." in (node.module or "") else [
                f"{package}.{alias.name}" for alias in node.names
            ]  # fmt: skip
            for other in (room(module or "", package) for module in names):
                if other in place and other != own:
                    ground = place[other] == place[own] == 0
                    assert ground or place[other] < place[own], f"{own} imports {other}"


def test_every_package_has_its_place_in_the_order() -> None:
    for package, lines in ORDER.items():
        rooms = {room(name(file), package) for file in FILES if name(file).startswith(package)}
        assert rooms - {"__init__", "__main__"} == set(" ".join(lines).split())


def test_recipes_do_not_import_each_other(file: Path) -> None:
    if name(file).startswith("recipes/"):
        assert not [module for module in imported(parsed(file)) if module.startswith("recipes")]


def test_each_library_has_one_door(file: Path) -> None:
    used = {module.split(".")[0] for module in imported(parsed(file))}
    outside = {library for library, doors in DOORS.items() if name(file) not in doors}
    assert not used & outside


def test_tensorflow_is_imported_at_the_top_only_by_what_runs_after_the_refusals(file: Path) -> None:
    eager = {
        "engine/training/average.py",
        "engine/training/batches.py",
        "engine/training/observer.py",
        "engine/training/optimizer.py",
        "engine/training/state.py",
        "engine/training/step.py",
        "engine/training/trainer.py",
        "engine/training/worker.py",
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
        assert "TF_ENABLE" not in text or name(file) == "engine/diagnostics/benchmark/step.py"


def test_generators_are_made_in_random_draws_alone(file: Path) -> None:
    made = [
        call
        for call in calls(parsed(file))
        if call.startswith(("np.random.", "random.", "tf.random.", "keras.random."))
    ]
    assert not made or name(file) == "volumes/random_draws.py"


def test_printing_is_left_to_the_terminal_and_the_command_line(file: Path) -> None:
    doors = {
        "engine/terminal.py",
        "engine/diagnostics/benchmark/step.py",
        "engine/diagnostics/benchmark/denoise.py",
        "engine/shadowing.py",
    }
    allowed = name(file) in doors or name(file).startswith("engine/cli/")
    assert allowed or "print" not in set(calls(parsed(file)))


def test_arrays_become_tensors_in_few_places(file: Path) -> None:
    doors = {
        "engine/training/batches.py",
        "engine/training/device_cache.py",
        "engine/training/trainer.py",
        "engine/training/worker.py",
        "engine/training/step_cost.py",
        "engine/inference/predictor.py",
        "engine/diagnostics/benchmark/step.py",
        "engine/diagnostics/benchmark/arithmetic.py",
        "volumes/random_draws.py",
    }
    made = {"tf.constant", "tf.convert_to_tensor"} & set(calls(parsed(file)))
    assert not made or name(file) in doors


def test_nothing_is_unpickled_or_evaluated(file: Path) -> None:
    assert not {m.split(".")[0] for m in imported(parsed(file))} & {"pickle", "marshal", "joblib"}
    assert not {"eval", "exec", "keras.models.load_model"} & set(calls(parsed(file)))


def test_files_of_users_run_in_one_place(file: Path) -> None:
    runners = re.compile(r"run_path|run_module|exec_module|ExecutionLoader|SourceFileLoader")
    names = {node.attr for node in ast.walk(parsed(file)) if isinstance(node, ast.Attribute)}
    used = [*names, *imported(parsed(file)), *(alias.name for node in ast.walk(parsed(file))
            if isinstance(node, ast.ImportFrom) for alias in node.names)]  # fmt: skip
    assert name(file) == "engine/recipe/recipe_code.py" or not any(map(runners.search, used))


def test_nothing_reaches_out(file: Path) -> None:
    ways_out = {"socket", "ssl", "http", "urllib", "ftplib", "smtplib", "requests", "aiohttp"}
    used = {module.split(".")[0] for module in imported(parsed(file))}
    # The processes of one training, on machines that the user names.
    assert not used & ways_out or (used & ways_out, name(file)) == (
        {"socket"}, "engine/training/cluster.py",
    )  # fmt: skip
    assert "subprocess" not in used or name(file) in {
        "engine/diagnostics/benchmark/step.py",
        "engine/diagnostics/benchmark/denoise.py",
        "engine/diagnostics/doctor.py",
    }


def test_json_is_parsed_in_one_place(file: Path) -> None:
    text = file.read_text()
    assert "json.load(" not in text
    for given in re.findall(r"json\.loads\((.*)\)", text):
        assert "read" not in given or name(file) == "volumes/storage/json_files.py"


def test_a_file_is_named_by_its_noun(file: Path) -> None:
    assert file.stem not in FORBIDDEN


TESTS = sorted(
    path for package in ("engine", "volumes") for path in (ROOT / "tests" / package).rglob("test_*")
)


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_a_test_stands_where_what_it_tests_stands(path: Path) -> None:
    place = ROOT / path.relative_to(ROOT / "tests").parent / path.stem.removeprefix("test_")
    assert place.with_suffix(".py").is_file() or place.is_dir()


def test_every_module_of_the_house_was_found() -> None:
    assert {name(file).split("/")[0] for file in FILES} == set(DIRECTION)
    assert len(FILES) > 40
