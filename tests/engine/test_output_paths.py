import os
from pathlib import Path

import pytest

from engine.errors import BadUsage, CannotWrite
from engine.output_paths import (
    beside,
    make_place,
    output_paths,
    refuse_existing,
    refuse_inputs,
    sidecar_path,
    split_name,
)

HERE = Path("a")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("scan.nii.gz", ("scan", ".nii.gz")),
        ("scan.nii", ("scan", ".nii")),
        ("scan.v1.2.NII.GZ", ("scan.v1.2", ".NII.GZ")),
        ("naïve 患者 (1).nii", ("naïve 患者 (1)", ".nii")),
        ("scan", ("scan", ".nii.gz")),
        ("scan.hdr", ("scan", ".nii.gz")),
        ("scan.v1.IMG.GZ", ("scan.v1", ".nii.gz")),
    ],
)
def test_a_name_is_split_before_its_ending(name, parts):
    assert split_name(HERE / name) == parts


def test_by_default_the_output_lies_beside_its_input():
    inputs = [HERE / "one.nii.gz", HERE / "b" / "two.nii"]
    assert output_paths(inputs, None, "_denoised") == [
        HERE / "one_denoised.nii.gz", HERE / "b" / "two_denoised.nii",
    ]  # fmt: skip


def test_one_input_may_have_a_file_as_its_output(tmp_path):
    out = tmp_path / "mine.nii"
    assert output_paths([HERE / "one.nii.gz"], out, "_denoised") == [out]


def test_the_folder_asked_for_is_made_when_it_is_written_into(tmp_path):
    folder = tmp_path / "new" / "folder"
    found = output_paths([HERE / "one.nii.gz", HERE / "two.nii"], folder, "_denoised")
    assert not folder.exists()
    make_place(folder, found)
    assert folder.is_dir()
    assert found == [folder / "one_denoised.nii.gz", folder / "two_denoised.nii"]


def test_in_a_folder_the_scans_of_kits19_are_named_by_their_case(tmp_path):
    inputs = [tmp_path / f"case_0000{i}" / "imaging.nii.gz" for i in range(2)]
    assert [path.name for path in output_paths(inputs, tmp_path / "out", "_denoised")] == [
        "case_00000_denoised.nii.gz", "case_00001_denoised.nii.gz",
    ]  # fmt: skip


def test_one_file_for_several_inputs_is_refused(tmp_path):
    with pytest.raises(BadUsage, match="one file for 2 inputs"):
        output_paths([HERE / "one.nii", HERE / "two.nii"], tmp_path / "out.nii.gz", "")


def test_two_inputs_with_one_output_are_refused(tmp_path):
    inputs = [tmp_path / "a" / "scan.nii", tmp_path / "b" / "scan.nii"]
    with pytest.raises(BadUsage, match="would be written twice"):
        output_paths(inputs, tmp_path / "out", "_denoised")


def test_an_output_that_is_an_input_is_refused(tmp_path):
    scan = tmp_path / "scan.nii"
    scan.write_bytes(b"")
    with pytest.raises(CannotWrite, match="is an input"):
        output_paths([scan], scan, "_denoised")


def test_an_input_is_known_by_any_link(tmp_path):
    scan, link = tmp_path / "scan.nii", tmp_path / "link.nii"
    scan.write_bytes(b"")
    link.symlink_to(scan)
    with pytest.raises(CannotWrite, match="is an input"):
        refuse_inputs([link], [scan])


def test_thousands_of_outputs_are_compared_with_thousands_of_inputs_at_once(tmp_path, monkeypatch):
    scans = [tmp_path / f"{i}.nii" for i in range(300)]
    outputs = [tmp_path / f"{i}_denoised.nii" for i in range(300)]
    for path in (*scans, *outputs):
        path.touch()
    asked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda path, **more: asked.append(path) or stat(path, **more))
    refuse_inputs(outputs, scans)
    assert len(asked) <= len(scans) + len(outputs)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(CannotWrite):
        make_place(tmp_path / "taken", [])


def test_an_output_in_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CannotWrite, match="in a folder that does not exist"):
        make_place(None, [tmp_path / "none" / "out.nii.gz"])


def test_residual_and_sidecar_are_named_after_the_output():
    out = HERE / "vol_denoised.nii.gz"
    assert beside(out, "_residual") == HERE / "vol_residual.nii.gz"
    assert sidecar_path(out) == HERE / "vol_denoised.json"


def test_an_output_of_any_name_has_a_residual_of_its_own():
    assert beside(HERE / "mine.nii", "_residual") == HERE / "mine_residual.nii"


def test_a_broken_link_counts_as_existing(tmp_path):
    (tmp_path / "out.nii").symlink_to("gone")
    with pytest.raises(CannotWrite, match="exists already"):
        refuse_existing([tmp_path / "out.nii"], overwrite=False)


def test_a_name_that_is_too_long_is_refused_as_an_output(tmp_path):
    with pytest.raises(CannotWrite, match="Choose a shorter name"):
        refuse_existing([tmp_path / ("y" * 300)], overwrite=False)
