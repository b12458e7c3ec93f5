import json

import pytest

from tests.engine.tiny import shrinking


@pytest.fixture
def dry(engine, dataset, tmp_path):
    def run(*words, recipe="unet2d"):
        return engine(
            "fit", recipe, *shrinking(recipe), "--dry-run", *words, "--data", dataset,
            "--run", tmp_path / "run",
        )  # fmt: skip

    return run


def test_a_dry_run_tells_cases_cost_and_recipe_in_a_short_table(cpu, dry, tmp_path):
    code, out, err = dry()
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines[:3]] == ["training", "validation", "test"]
    assert "network: 323 parameters" in lines
    assert "step: 512 voxels" in lines
    assert "training: 4 steps" in lines
    assert any(line.startswith("memory of a step: about 0.0") for line in lines)
    assert any(line.split() == ["batch", "2"] for line in lines)
    assert len(lines) < 30
    assert not (tmp_path / "run").exists()


def test_a_dry_run_measures_a_few_steps_where_asked(cpu, dry):
    assert " hours" in dry("--time")[1]


def test_a_dry_run_as_json_holds_every_field(cpu, dry):
    code, out, _ = dry("--json", "--time")
    told = json.loads(out)
    assert code == 0
    assert told["recipe"]["crop"]["shape"] == [1, 16, 16]
    assert len(told["cases"]["training"]) == 2
    assert told["hours"] == pytest.approx(4 * told["seconds_per_step"] / 3600)
    assert told["bytes_per_step"] > 0


@pytest.mark.parametrize("word", ["--time", "--json"])
def test_words_of_a_dry_run_without_one_are_refused(engine, dataset, tmp_path, word):
    code, _, err = engine("fit", "unet2d", word, "--data", dataset, "--run", tmp_path / "run")
    assert code == 2
    assert f"{word}: belongs to --dry-run" in err
