import dataclasses
from pathlib import Path

import pytest

from engine.errors import Mismatch
from engine.recipe.overrides import override
from engine.recipe.recipe_file import find_recipe, load_recipe
from engine.runs.own_settings import Setting, between, described, is_named, kept, undone
from engine.runs.run import Run
from tests.engine.tiny import shrinking

RUN = Run(Path("runs/mine"))


def shipped(*words):
    return override(load_recipe(find_recipe("respr_unet3d")), words)


@pytest.mark.parametrize(
    ("words", "own"),
    [
        ((), {}),
        (("batch=2",), {}),  # as in the file
        (("batch=4",), {"batch": Setting(2, 4)}),
        (("crop.shape=8,16,16",), {"crop.shape": Setting([32, 256, 256], [8, 16, 16])}),
        (("learning_rate=1e-3",), {"learning_rate.rate": Setting(1e-4, 1e-3)}),
        (("learning_rate=cosine:1e-3,1e-5",), {
            "learning_rate": Setting(
                {"kind": "Constant", "rate": 1e-4}, {"kind": "Cosine", "rate": 1e-3, "last": 1e-5}
            ),
        }),
        (("prior=noisy:1",), {"prior.radius": Setting(4, 1)}),
        (("prior=clean",), {"prior.of": Setting({"kind": "Noisy"}, {"kind": "Clean"})}),
    ],
    ids=str,
)  # fmt: skip
def test_own_settings_are_the_differences_between_a_run_and_its_file(words, own):
    assert between(shipped(), shipped(*words)) == own


@pytest.mark.parametrize(
    "words",
    [("learning_rate=cosine:1e-3,1e-5",), ("prior=runs/unet2d",), tuple(shrinking("respr_unet3d"))],
    ids=["a schedule", "a prior", "many"],
)
def test_a_file_that_is_the_same_gives_the_run_s_recipe_and_back(words):
    file, run = shipped(), shipped(*words)
    own = between(file, run)
    assert kept(file, own, RUN) == run
    assert undone(run, own, RUN) == file


def test_a_field_that_was_edited_in_the_file_is_the_file_s():
    own = between(shipped(), shipped("network.width=4", "batch=4"))
    assert kept(shipped("network.width=16", "clip_norm=1"), own, RUN) == shipped(
        "network.width=16", "clip_norm=1", "batch=4"
    )
    assert described(kept(shipped("batch=8"), own, RUN), own, []) == ["network.width=4"]


def test_fields_that_depend_on_each_other_are_kept_together():
    run = shipped("crop.shape=16,64,64", "network.levels=4")  # neither alone suits the other
    assert kept(shipped(), between(shipped(), run), RUN) == run


def test_settings_that_do_not_suit_an_edited_file_are_refused():
    own = between(shipped(), shipped("crop.shape=4,16,16"))
    file = dataclasses.replace(shipped(), network=shipped("network.levels=5").network)
    with pytest.raises(Mismatch, match="do not fit the recipe") as refused:
        kept(file, own, RUN)
    assert refused.value.path == "runs/mine"


def test_a_setting_that_the_command_names_is_not_told():
    run = shipped("batch=4", "learning_rate=cosine:1e-3,1e-5", "crop.shape=8,16,16")
    own = between(shipped(), run)
    assert described(run, own, ["batch=4", "learning_rate.last=1e-5"]) == ["crop.shape=8,16,16"]
    assert described(run, own, []) == [
        "crop.shape=8,16,16", "learning_rate=Cosine(rate=0.001, last=1e-05)", "batch=4"
    ]  # fmt: skip


def test_a_word_names_a_field_by_its_whole_name():
    assert is_named("steps", ["--steps", "9"])
    assert is_named("prior.radius", ["prior=tv:1"])
    assert is_named("learning_rate", ["learning_rate.rate=1"])
    assert not is_named("validate_every", ["validate=1"])
