from dataclasses import replace

import pytest

from engine.errors import Mismatch
from engine.recipe.network_prior import Estimated
from engine.recipe.overrides import override
from engine.runs import compatibility
from tests.engine.tiny import tiny

CASES = {"training": {"a": "aa" * 32, "b": "bb" * 32}, "validation": {"c": "cc" * 32}, "test": {}}
BEFORE = {"cases": CASES}


def estimated(recipe):
    """The same recipe with the estimate of a network as its prior."""
    return replace(recipe, prior=replace(recipe.prior, of=Estimated("runs/unet2d")))


def test_the_same_recipe_and_cases_change_nothing():
    for found in (
        compatibility.of_recipe(tiny(), tiny()), compatibility.of_cases(BEFORE, BEFORE, tiny()),
    ):  # fmt: skip
        assert (list(found.forbidden), list(found.learned), found.rescored) == ([], [], False)
        found.refuse("run", accepted=False)


def test_what_may_change_is_no_change():
    longer = override(tiny(), ["steps=9", "validate_every=3", "checkpoint_every=7"])
    assert not compatibility.of_recipe(tiny(), longer).learned


def test_another_network_is_forbidden_and_another_value_is_learned():
    found = compatibility.of_recipe(tiny(), override(tiny(), ["network.width=4", "batch=4"]))
    assert found.forbidden == ["network.width: 2 -> 4"]
    assert found.learned == ["batch: 2 -> 4"]
    with pytest.raises(Mismatch, match=r"\(network\.width: 2 -> 4\)"):
        found.refuse("run", accepted=True)


def test_a_refusal_lists_three_differences_and_counts_the_rest():
    fields = ["batch=4", "seed=1", "clip_norm=1", "validate_slices=9", "noise.sigma=0.2"]
    with pytest.raises(Mismatch) as caught:
        compatibility.of_recipe(tiny(), override(tiny(), fields)).refuse("run", accepted=False)
    assert caught.value.cause.count(" -> ") == 3
    assert caught.value.cause.endswith("; and 2 more)")


@pytest.mark.parametrize("change", ["prior.radius=1", "noise.sigma=0.2", "window.low_hu=-900"])
def test_scores_restart_when_the_validation_changes(change):
    recipe = tiny("respr_unet3d")
    assert compatibility.of_recipe(recipe, override(recipe, [change])).rescored


def test_the_network_behind_a_prior_and_its_window_stay():
    recipe = tiny("respr_unet3d")
    with_estimate = estimated(recipe)
    assert compatibility.of_recipe(recipe, with_estimate).forbidden
    assert compatibility.of_recipe(with_estimate, recipe).forbidden
    narrow = override(with_estimate, ["window.low_hu=-900"])
    assert compatibility.of_recipe(with_estimate, narrow).forbidden
    assert not compatibility.of_recipe(
        with_estimate, override(with_estimate, ["batch=4"])
    ).forbidden


@pytest.mark.parametrize(
    ("after", "told", "rescored"),
    [
        ({"training": {"a": "aa" * 32}}, ["training: b -> none"], False),
        ({"training": CASES["training"] | {"d": "dd"}}, ["training: none -> d"], False),
        ({"validation": {"c": "dd" * 32}}, ["validation: c cccccccc -> dddddddd"], True),
        ({"test": {"e": "ee"}}, ["test: none -> e"], False),
    ],
)
def test_other_cases_are_listed_by_side_and_name(after, told, rescored):
    found = compatibility.of_cases(BEFORE, {"cases": CASES | after}, tiny())
    assert (found.kind, found.learned, found.rescored) == ("on other cases", told, rescored)


def test_other_recordings_are_listed_and_rescored():
    before, after = ({**BEFORE, "recordings": {"a": name * 32}} for name in ("11", "22"))
    found = compatibility.of_cases(before, after, tiny())
    assert found.kind == "on other recordings"
    assert found.learned == ["recording of a 11111111 -> 22222222"]
    assert found.rescored


def test_cases_are_fixed_if_the_network_of_the_prior_was_checked_for_them():
    other = {"cases": CASES | {"test": {"e": "ee"}}}
    assert compatibility.of_cases(BEFORE, other, estimated(tiny("respr_unet3d"))).forbidden


def test_a_run_that_does_not_tell_its_cases_differs_in_nothing():
    assert not compatibility.of_cases({}, BEFORE, tiny()).learned
