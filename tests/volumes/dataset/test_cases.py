from __future__ import annotations

import errno
import hashlib
import json
import os
from itertools import chain
from pathlib import Path

import pytest

from tests.gates.catalogue import content
from volumes.dataset import Case, Split, case_name, find_cases
from volumes.dataset.layouts import look
from volumes.errors import BadInput
from volumes.nifti.read_options import ReadOptions

SIDES = ("training", "validation", "test")


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def names_of(folder):
    return [case.name for case in find_cases(folder)]


def cases(*names):
    return [Case(name, Path(name) / "imaging.nii.gz") for name in names]


def split(found, **fields):
    sides = Split(**fields).assign(Path("data"), found)
    return {side: [case.name for case in sides[side]] for side in sides}


TWENTY = cases(*(f"case_{i:05d}" for i in range(20)))
PAIRS = cases(*(f"{visit}_patient{i:02d}" for i in range(12) for visit in ("first", "second")))


def test_cases_of_the_kits19_layout_bear_the_names_of_their_folders(tmp_path):
    touch(tmp_path, "case_00002/imaging.nii.gz", "case_00000/imaging.nii", "case_00001/other.txt")
    assert names_of(tmp_path) == ["case_00000", "case_00002"]


def test_segmentations_beside_the_scans_are_no_cases(tmp_path):
    touch(tmp_path, "case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz")
    assert [case.path.name for case in find_cases(tmp_path)] == ["imaging.nii.gz"]


def test_flat_scans_bear_the_names_of_their_files(tmp_path):
    touch(tmp_path, "b.nii.gz", "a.nii", "C.NII.GZ", "v1.2.nii.gz", "naïve 患者 (1).nii", "d.txt")
    assert names_of(tmp_path) == ["C", "a", "b", "naïve 患者 (1)", "v1.2"]


def test_the_kits19_layout_is_preferred_to_flat_scans(tmp_path):
    touch(tmp_path, "case_00000/imaging.nii.gz", "flat.nii.gz")
    assert names_of(tmp_path) == ["case_00000"]


@pytest.mark.parametrize(
    "name",
    ["a_denoised", "a_residual", "a_label", "a_labels", "a_seg", "segmentation",
     "prediction", "a_DENOISED", ".a"],
)  # fmt: skip
def test_what_is_written_beside_scans_is_no_case(tmp_path, name):
    touch(tmp_path, "scan.nii.gz", f"{name}.nii.gz")
    assert names_of(tmp_path) == ["scan"]


@pytest.mark.parametrize("name", ["denoised_later", "segment", "label_free"])
def test_scans_whose_names_only_resemble_those_are_cases(tmp_path, name):
    touch(tmp_path, f"{name}.nii.gz")
    assert names_of(tmp_path) == [name]


def test_two_scans_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "a.nii", "a.nii.gz")
    with pytest.raises(BadInput, match="second scan named a") as caught:
        find_cases(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / "a.nii"))


def test_two_scans_in_one_case_are_refused(tmp_path):
    touch(tmp_path, "case_00000/imaging.nii.gz", "case_00000/imaging.nii")
    with pytest.raises(BadInput, match="second scan named case_00000"):
        find_cases(tmp_path)


def test_scans_beside_the_clean_one_are_no_cases_of_their_own(tmp_path):
    touch(tmp_path, "case_00000/imaging.nii.gz", "case_00000/quarter.nii.gz", "case_00000/a.h5")
    (case,) = find_cases(tmp_path)
    assert case == Case("case_00000", tmp_path / "case_00000" / "imaging.nii.gz", noisy=None)


@pytest.mark.parametrize("name", ["quarter", "low_dose-1e5", "v1.2", "[0-9] 患者"])
def test_noisy_recordings_are_found_beside_their_scans(tmp_path, name):
    touch(tmp_path, f"b/{name}.nii", "b/imaging.nii.gz", f"a/{name}.nii.gz", "a/imaging.nii")
    assert find_cases(tmp_path, name) == [
        Case("a", tmp_path / "a/imaging.nii", tmp_path / f"a/{name}.nii.gz"),
        Case("b", tmp_path / "b/imaging.nii.gz", tmp_path / f"b/{name}.nii"),
    ]


def test_all_cases_without_a_noisy_recording_are_named_at_once(tmp_path):
    touch(tmp_path, *(f"case_{i}/imaging.nii.gz" for i in range(4)), "case_2/quarter.nii.gz")
    with pytest.raises(BadInput, match=r"quarter\.nii\.gz .* in case_0, case_1, case_3\."):
        find_cases(tmp_path, "quarter")


def test_a_name_that_no_noisy_recording_bears_is_refused(tmp_path):
    touch(tmp_path, "case_0/imaging.nii.gz", "case_1/imaging.nii.gz", "case_0/quarter.nii.gz")
    with pytest.raises(BadInput, match=r"has no half\.nii\.gz beside imaging\.nii\.gz in any case"):
        find_cases(tmp_path, "half")


def test_two_noisy_recordings_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "a/imaging.nii", "a/quarter.nii", "a/quarter.nii.gz")
    with pytest.raises(BadInput, match="second noisy scan of a"):
        find_cases(tmp_path, "quarter")


@pytest.mark.parametrize(
    "name", ["", "imaging", "Imaging", "../b/quarter", "a/quarter", "/quarter"]
)
def test_names_that_lead_elsewhere_or_to_the_clean_scan_are_refused(tmp_path, name):
    touch(tmp_path, "a/imaging.nii.gz", "b/imaging.nii.gz", "b/quarter.nii.gz", "a/a/quarter.nii")
    with pytest.raises(BadInput, match="cannot have its noisy scans under the name"):
        find_cases(tmp_path, name)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.png"])
def test_noisy_recordings_need_a_folder_a_case(tmp_path, name):
    touch(tmp_path, name, f"quarter{Path(name).suffix}")
    with pytest.raises(BadInput, match=r"holds no case_\*/imaging\.nii\.gz, beside which quarter"):
        find_cases(tmp_path, "quarter")


def test_a_folder_that_is_not_there_is_refused_with_a_way_out(tmp_path):
    with pytest.raises(BadInput, match=r"is not a folder.*engine phantom") as caught:
        find_cases(tmp_path / "none")
    assert caught.value.exit_code == 3


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    touch(tmp_path, "scan.nii")
    with pytest.raises(BadInput, match="is not a folder"):
        find_cases(tmp_path / "scan.nii")


def test_photographs_bear_the_names_of_their_files(tmp_path):
    touch(tmp_path, "test_002.png", "test_001.PNG", "test_003.jpg", ".hidden.png")
    assert names_of(tmp_path) == ["test_001", "test_002"]


@pytest.mark.parametrize("scan", ["scan.nii.gz", "scan/imaging.nii.gz"])
def test_pictures_beside_scans_are_no_cases(tmp_path, scan):
    touch(tmp_path, scan, "preview.png")
    assert names_of(tmp_path) == ["scan"]


@pytest.mark.parametrize("content", [(), ("notes.txt",), ("a_denoised.nii.gz",), ("a.jpg",)])
def test_a_folder_without_scans_is_refused(tmp_path, content):
    touch(tmp_path, *content)
    with pytest.raises(BadInput, match=r"holds neither|only 1 output of this program"):
        find_cases(tmp_path)


def test_scans_that_are_links_into_one_store_keep_the_names_of_their_cases(tmp_path):
    touch(tmp_path, "objects/1f", "objects/2e")
    for case, thing in (("case_00000", "1f"), ("case_00001", "2e")):
        folder = tmp_path / "data" / case
        folder.mkdir(parents=True)
        (folder / "imaging.nii.gz").symlink_to(tmp_path / "objects" / thing)
    assert names_of(tmp_path / "data") == ["case_00000", "case_00001"]


def test_a_scan_named_without_its_folder_has_the_name_of_that_folder(tmp_path, monkeypatch):
    (tmp_path / "case_00007" / "more").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "case_00007")
    assert case_name(Path("imaging.nii.gz")) == "case_00007"
    assert case_name(Path("more/../imaging.nii")) == "case_00007"
    assert case_name(Path("../case_00007/IMAGING.NII.GZ")) == "case_00007"


def test_every_case_stands_on_exactly_one_side():
    sides = split(TWENTY, validation=4, test=3)
    assert tuple(sides) == SIDES
    assert [len(sides[side]) for side in SIDES] == [13, 4, 3]
    assert sorted(chain(*sides.values())) == [case.name for case in TWENTY]


def test_a_split_does_not_depend_on_the_order_of_the_cases():
    assert split(TWENTY[::-1]) == split(TWENTY) == split(TWENTY[7:] + TWENTY[:7])


def test_a_split_depends_on_names_alone_and_not_on_places():
    moved = [Case(case.name, Path("/elsewhere") / case.name) for case in TWENTY]
    assert split(moved) == split(TWENTY)


def test_a_new_case_moves_at_most_one_other_into_training():
    before = split(TWENTY, validation=4, test=4)
    after = split([*TWENTY, *cases("case_00020")], validation=4, test=4)
    assert len(set(after["training"]) - set(before["training"]) - {"case_00020"}) <= 1


def test_counted_cases_follow_no_order_of_collection():
    sides = split(TWENTY, validation=5, test=5)
    held_out = sorted(sides["validation"] + sides["test"])
    names = [case.name for case in TWENTY]
    assert held_out not in (names[:10], names[10:], names[::2], names[1::2])


@pytest.mark.parametrize(("validation", "test"), [(1, 1), (3, 2), (5, 0)])
def test_scans_of_a_patient_never_stand_on_two_sides(validation, test):
    sides = split(PAIRS, validation=validation, test=test, patient=r"_(patient\d+)")
    patients = {side: {name.partition("_")[2] for name in sides[side]} for side in SIDES}
    assert not patients["training"] & patients["validation"]
    assert not patients["training"] & patients["test"]
    assert not patients["validation"] & patients["test"]
    assert [len(sides[side]) for side in SIDES[1:]] == [2 * validation, 2 * test]


def test_named_cases_stand_where_they_are_named():
    sides = split(TWENTY, validation=("case_00003",), test=("case_00001", "case_00009"))
    assert sides["validation"] == ["case_00003"]
    assert sides["test"] == ["case_00001", "case_00009"]
    assert len(sides["training"]) == 17


def test_naming_one_scan_of_a_patient_takes_all_of_them():
    sides = split(
        PAIRS, validation=("first_patient03",), test=("second_patient05",), patient=r"_(.+)"
    )
    assert sides["validation"] == ["first_patient03", "second_patient03"]
    assert sides["test"] == ["first_patient05", "second_patient05"]


@pytest.mark.parametrize("name", [case.name for case in TWENTY])
def test_a_case_named_for_validation_is_never_counted_into_test(name):
    sides = split(TWENTY, validation=(name,), test=5)
    assert sides["validation"] == [name]
    assert len(sides["test"]) == 5


@pytest.mark.parametrize("name", [case.name for case in TWENTY[:10]])
def test_a_case_named_for_test_is_never_counted_into_validation(name):
    sides = split(TWENTY, validation=5, test=(name,))
    assert sides["test"] == [name]
    assert len(sides["validation"]) == 5


def test_a_patient_named_on_two_sides_is_refused():
    with pytest.raises(BadInput, match="patient03 both in test and in validation"):
        split(PAIRS, validation=("first_patient03",), test=("second_patient03",), patient=r"_(.+)")


def test_a_named_case_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match="has no case case_99999"):
        split(TWENTY, validation=("case_99999",))


def test_patterns_stand_for_all_cases_that_match_them():
    sides = split(TWENTY, validation=("case_0000[3-5]", "case_00007"), test=("*1?",))
    assert sides["validation"] == ["case_00003", "case_00004", "case_00005", "case_00007"]
    assert sides["test"] == [f"case_000{i}" for i in range(10, 20)]


def test_a_pattern_that_no_case_matches_is_refused():
    with pytest.raises(BadInput, match=r"has no case test_\*"):
        split(TWENTY, validation=("test_*",))


def test_a_pattern_tells_capitals_apart():
    with pytest.raises(BadInput, match=r"has no case CASE_\*"):
        split(TWENTY, validation=("CASE_*",))


def test_a_name_that_is_there_is_no_pattern():
    sides = split(cases("scan[1]", "scan1", "scan2"), validation=("scan[1]",), test=0)
    assert sides["validation"] == ["scan[1]"]


def test_a_pattern_takes_all_scans_of_the_patients_that_it_finds():
    sides = split(PAIRS, validation=("first_*0[12]",), test=0, patient=r"_(.+)")
    expected = [f"{visit}_patient0{i}" for visit in ("first", "second") for i in (1, 2)]
    assert sides["validation"] == expected


def test_patterns_that_claim_a_case_for_two_sides_are_refused():
    with pytest.raises(BadInput, match="case_00010 both in test and in validation"):
        split(TWENTY, validation=("case_0001?",), test=("*0",))


@pytest.mark.parametrize(
    ("validation", "test", "side"),
    [(4, 16, "training"), (1, 30, "training"), (20, 0, "training"), (0, 2, "validation")],
)
def test_a_split_that_leaves_nothing_for_a_side_is_refused(validation, test, side):
    with pytest.raises(BadInput, match=f"20 patients, which leaves none for {side}") as caught:
        split(TWENTY, validation=validation, test=test)
    assert str(caught.value).startswith("data: ")


def test_a_split_without_a_test_side_is_taken():
    assert split(TWENTY, validation=1, test=0)["test"] == []


def test_a_case_without_a_patient_is_refused():
    with pytest.raises(BadInput, match=r"the case case_00000, in which split\.patient finds no"):
        split(TWENTY, patient=r"patient(\d+)")


def test_a_patient_pattern_without_a_group_is_refused():
    with pytest.raises(ValueError, match=r"split\.patient must have a group"):
        Split(patient=r"case_\d+")


@pytest.mark.parametrize("field", ["validation", "test"])
def test_a_negative_count_is_refused(field):
    with pytest.raises(ValueError, match=rf"split\.{field} must not be negative"):
        Split(**{field: -1})


@pytest.mark.real_ct
def test_every_real_case_is_found_once(real_ct):
    assert names_of(real_ct) == sorted(p.parent.name for p in real_ct.glob("*/imaging.nii.gz"))


@pytest.mark.parametrize("content", ['{"degradation": {}}', '{"change_hu": {}, "model": {}}'])
def test_a_file_made_by_the_engine_is_not_a_scan_under_any_name(tmp_path, content):
    for name in ("one.nii.gz", "two.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "two.json").write_text(content)
    assert [case.name for case in find_cases(tmp_path)] == ["one"]


def test_another_program_s_sidecar_does_not_hide_a_scan(tmp_path):
    (tmp_path / "one.nii.gz").write_bytes(b"")
    (tmp_path / "one.json").write_text('{"Modality": "CT"}')
    assert [case.name for case in find_cases(tmp_path)] == ["one"]


def test_a_case_tells_what_is_odd_about_its_header(tmp_path):
    (tmp_path / "one.nii").write_bytes(content(sform_code=300))
    (case,) = find_cases(tmp_path)
    assert case.oddities() == {case.path: ("has the unknown sform_code 300",)}


def test_a_case_tells_what_is_odd_about_the_header_of_its_recording(tmp_path):
    (tmp_path / "case_00000").mkdir()
    for name, code in (("imaging.nii", 1), ("quarter.nii", 300)):
        (tmp_path / "case_00000" / name).write_bytes(content(sform_code=code))
    (case,) = find_cases(tmp_path, "quarter")
    assert case.oddities() == {case.path: (), case.noisy: ("has the unknown sform_code 300",)}


def test_a_scan_that_lies_where_an_estimate_lay_is_a_scan(tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.nii").write_bytes(name.encode())
        made = hashlib.sha256(b"one").hexdigest()
        sidecar = {"change_hu": {}, "output_sha256": made}
        (tmp_path / f"{name}.json").write_text(json.dumps(sidecar))
    assert [case.name for case in find_cases(tmp_path)] == ["two"]


def test_read_options_reach_every_case_and_do_not_change_the_order(tmp_path):
    touch(tmp_path, "a.nii", "b.nii")
    trusting = find_cases(tmp_path, trust=ReadOptions(hu=True))
    assert [case.trust.hu for case in trusting] == [True, True]
    assert trusting == find_cases(tmp_path)


def test_scans_of_totalsegmentator_bear_the_names_of_their_folders(tmp_path):
    touch(tmp_path, "s0000/ct.nii.gz", "s0001/ct.nii.gz")
    assert [case_name(case.path) for case in find_cases(tmp_path)] == names_of(tmp_path)
    assert names_of(tmp_path) == ["s0000", "s0001"]


@pytest.mark.parametrize("name", ["scan.hdr", "scan.img", "scan.IMG.gz"])
def test_a_pair_is_a_case_named_without_its_ending(name):
    assert case_name(Path("folder") / name) == "scan"


def test_a_case_that_may_not_be_seen_is_refused_and_not_left_out(tmp_path, monkeypatch):
    for name in ("case_00000", "case_00001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "imaging.nii.gz").write_bytes(b"")
    whole = os.listdir

    def forbidding(place="."):
        if Path(place).name == "case_00001":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        return whole(place)

    monkeypatch.setattr(os, "listdir", forbidding)
    with pytest.raises(BadInput, match="case_00001: cannot be read: Permission denied"):
        find_cases(tmp_path)


def test_what_lies_beside_the_cases_and_is_none_is_named(tmp_path):
    (tmp_path / "case_00000").mkdir()
    (tmp_path / "case_00000" / "imaging.nii.gz").write_bytes(b"")
    assert look(tmp_path).others == []
    for name in ("case_00001", ".hidden", "runs/unet3d", "mine"):
        (tmp_path / name).mkdir(parents=True)
    for place in ("runs/unet3d", "mine"):
        (tmp_path / place / "recipe.json").write_text("{}")
    (tmp_path / "flat.nii.gz").write_bytes(b"")
    assert [path.name for path in look(tmp_path).others] == ["case_00001", "flat.nii.gz"]
    assert look(tmp_path / "case_00000").others == []
