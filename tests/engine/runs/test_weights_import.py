import json
import shutil

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.runs.trained_model import open_model
from engine.runs.training_run import TrainingRun
from tests.engine.tiny import shrinking


@pytest.fixture(scope="module")
def trained(cpu, dataset, tmp_path_factory):
    """A run of a blind network whose weights were averaged, and the engine's command line."""
    from engine.cli.main import run

    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["fit", "ct_denoiser", *shrinking("ct_denoiser"), "validate_every=2", "--data", dataset]
    assert run([*map(str, words), "--run", str(folder), "-q"]) == 0
    return TrainingRun(folder)


@pytest.fixture
def imported(engine, trained, tmp_path):
    code, out, err = engine("import", trained.folder, "--run", tmp_path / "weights")
    assert (code, out) == (0, f"{tmp_path / 'weights'}\n"), err
    return TrainingRun(tmp_path / "weights")


def test_it_holds_the_averaged_weights_of_the_best_checkpoint_and_nothing_else(imported, trained):
    source, found = trained.opened("best")[1], imported.opened("best")[1]
    averaged = {n.removeprefix("average/"): a for n, a in source.items() if n[:8] == "average/"}
    assert len(averaged) > 10
    assert {name.removeprefix("model/") for name in found} == set(averaged)
    for name, array in averaged.items():
        np.testing.assert_array_equal(found[f"model/{name}"], array)
    assert imported.checkpoint("best").name == trained.checkpoint("best").name


def test_half_of_the_space_holds_the_weights_in_float16(engine, imported, trained, tmp_path):
    words = ("import", trained.folder, "--run", tmp_path / "half", "--half")
    assert engine(*words)[0] == 0
    half = TrainingRun(tmp_path / "half")
    for name, array in half.opened("best")[1].items():
        assert array.dtype == np.float16
        np.testing.assert_array_equal(array, imported.opened("best")[1][name].astype(np.float16))
    one, other = (open_model(run).network().get_weights() for run in (half, trained))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, rtol=5e-4, atol=1e-7)


def test_weights_too_large_for_float16_are_refused(engine, trained, tmp_path):
    copy = TrainingRun(shutil.copytree(trained.folder, tmp_path / "large"))
    path, arrays = copy.opened("best")
    arrays["average/head/kernel"][:] = 1e6
    progress = checkpoint.verified(path)
    shutil.rmtree(path)
    checkpoint.save(copy.checkpoints, arrays, progress)
    code, _, err = engine("import", copy.folder, "--run", tmp_path / "half", "--half")
    assert code == 5
    assert "holds numbers in model/head/kernel that float16 cannot hold" in err


def test_its_network_is_that_of_the_run(imported, trained):
    one, other = (open_model(run).network().get_weights() for run in (imported, trained))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))


def test_it_keeps_its_training_cases_and_its_scores(imported, trained, engine):
    assert imported.record().learned_from == trained.record().learned_from != {}
    assert imported.record().tells_what_it_learned_from
    step = checkpoint.step_of(trained.checkpoint("best"))
    rows = [json.loads(line) for line in imported.metrics.read_text().splitlines()]
    network = [row for row in rows if row["method"] == "network"]
    assert {row["step"] for row in network} == {step}
    assert [row.get("level") for row in network] == [
        "2%", "coloured 2%", "5%", "coloured 5%", "10%", "coloured 10%", None,
    ]  # fmt: skip
    assert network[-1]["mean"]["mse"] == imported.newest(print, imported.record()).best_mse
    code, out, _ = engine("info", imported.folder)
    assert code == 0
    assert f"{step:,}" in out


def test_a_training_starts_from_it_as_from_the_run(imported, engine, dataset, tmp_path):
    words = [*shrinking("ct_denoiser"), "--steps", "2", "--data", dataset, "--run", tmp_path / "b"]
    code, _, err = engine("fit", "ct_denoiser", *words, "--from", imported.folder)
    assert code == 0, err
    assert "Starting from the weights" in err


def test_the_network_of_a_prior_comes_along(engine, trained, dataset, tmp_path):
    words = [*shrinking("respr_unet3d"), f"prior={trained.folder}", "--steps", "2"]
    where = ["--data", dataset, "--run", tmp_path / "respr"]
    assert engine("fit", "respr_unet3d", *words, *where)[0] == 0
    assert engine("import", tmp_path / "respr", "--run", tmp_path / "weights")[0] == 0
    scan, found = next(dataset.glob("*/imaging.nii.gz")), []
    for name in ("respr", "weights"):
        out = tmp_path / f"{name}.nii"
        code, _, err = engine("denoise", scan, "-m", tmp_path / name, "-o", out)
        assert code == 0, err
        found.append(out.read_bytes())
    assert found[0] == found[1]


def test_a_folder_that_holds_a_run_is_left_alone(imported, trained, engine):
    before = imported.opened("best")[1]
    code, _, err = engine("import", trained.folder, "--run", imported.folder)
    assert code == 5
    assert "holds a run already" in err
    assert checkpoint.fingerprint_of(imported.opened("best")[1]) == checkpoint.fingerprint_of(
        before
    )


def test_a_run_tells_its_own_network(trained, engine, tmp_path):
    code, _, err = engine("import", trained.folder, "--run", tmp_path / "x", "network.widths=2,3")
    assert code == 2
    assert "Leave it out" in err


def test_keras_weights_need_the_name_of_a_network(engine, tmp_path):
    code, _, err = engine("import", tmp_path / "weights.h5", "--run", tmp_path / "x")
    assert code == 2
    assert "--network: is missing" in err


def test_a_last_line_that_a_training_is_writing_is_skipped(trained, engine, tmp_path):
    shutil.copytree(trained.folder, tmp_path / "source")
    with open(tmp_path / "source" / "metrics.jsonl", "a") as file:
        file.write('{"step": 9, "method": "netw')
    code, _, err = engine("import", tmp_path / "source", "--run", tmp_path / "weights")
    assert code == 0, err
    assert "netw\n" not in (tmp_path / "weights" / "metrics.jsonl").read_text()
