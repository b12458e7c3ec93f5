"""Folders as public collections lay them out: what is a case, what is none, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.tiny import scan_file
from tests.gates.ledger import Faults
from volumes.dataset import Split, find_cases
from volumes.dataset.layouts import look
from volumes.dataset.store import Store
from volumes.errors import BadInput, LabelMap
from volumes.nifti import open_scan
from volumes.nifti.read_options import ReadOptions

FOUR = range(4)
# Collection -> (layout, names of the files, names of the cases).
COLLECTIONS = {
    "KiTS19": ("KiTS19", [f"case_{i}/imaging.nii.gz" for i in FOUR], [f"case_{i}" for i in FOUR]),
    "KiTS19 in capitals": (
        "KiTS19", [f"case_{i}/Imaging.NII.GZ" for i in FOUR], [f"case_{i}" for i in FOUR]),
    "KiTS23": (
        "KiTS19",
        [f"dataset/case_{i}/{name}.nii.gz" for i in FOUR
         for name in ("imaging", "segmentation", "instances/kidney_instance-1_annotation-1")],
        [f"case_{i}" for i in FOUR]),
    "TotalSegmentator": (
        "TotalSegmentator",
        [f"s{i:04d}/{name}.nii.gz" for i in FOUR
         for name in ("ct", "segmentations/liver", "segmentations/vertebrae_T1")],
        [f"s{i:04d}" for i in FOUR]),
    "MSD": (
        "MSD or nnU-Net",
        [f"{place}/liver_{i}.nii.gz" for i in FOUR for place in ("imagesTr", "labelsTr")]
        + ["imagesTs/liver_9.nii.gz", "imagesTr/._liver_1.nii.gz"],
        [f"liver_{i}" for i in FOUR]),
    "MSD one folder down": (
        "MSD or nnU-Net",
        [f"Task03_Liver/{place}/liver_{i}.nii.gz" for i in FOUR
         for place in ("imagesTr", "labelsTr")],
        [f"liver_{i}" for i in FOUR]),
    "AMOS": (
        "MSD or nnU-Net",
        [f"{place}/amos_{i:04d}.nii.gz" for i in FOUR for place in ("imagesTr", "labelsTr")]
        + ["imagesVa/amos_0008.nii.gz", "labelsVa/amos_0008.nii.gz"],
        [f"amos_{i:04d}" for i in FOUR]),
    "nnU-Net": (
        "MSD or nnU-Net",
        [f"nnUNet_raw/Dataset003_Liver/{name}.nii.gz" for i in FOUR
         for name in (f"imagesTr/case_{i}_0000", f"labelsTr/case_{i}")],
        [f"case_{i}" for i in FOUR]),
    "FLARE": (
        "images beside labels",
        [f"{name}.nii.gz" for i in FOUR
         for name in (f"images/FLARE22_Tr_{i:04d}_0000", f"labels/FLARE22_Tr_{i:04d}")],
        [f"FLARE22_Tr_{i:04d}" for i in FOUR]),
    "LiTS": (
        "NIfTI files",
        [f"{name}-{i}.nii" for i in FOUR for name in ("volume", "segmentation")],
        [f"volume-{i}" for i in FOUR]),
    "LiTS in batches": (
        "LiTS",
        [f"Training Batch {1 + i % 2}/{name}-{i}.nii" for i in FOUR
         for name in ("volume", "segmentation")],
        [f"volume-{i}" for i in FOUR]),
    "CT-ORG": (
        "NIfTI files",
        [f"{name}-{i}.nii.gz" for i in FOUR for name in ("volume", "labels")],
        [f"volume-{i}" for i in FOUR]),
    "BTCV": (
        "NIfTI files",
        [f"{name}.nii.gz" for i in FOUR for name in (f"img/img{i:04d}", f"label/label{i:04d}")],
        [f"img{i:04d}" for i in FOUR]),
    "BIDS": (
        "BIDS",
        [f"sub-{i}/ct/sub-{i}_ct.nii.gz" for i in FOUR] + ["sub-1/anat/sub-1_T1w.nii.gz"],
        [f"sub-{i}" for i in FOUR]),
    "BIDS with sessions": (
        "BIDS",
        [f"sub-{i}/ses-{k}/ct/sub-{i}_ses-{k}_ct.nii.gz" for i in FOUR for k in (1, 2)]
        + ["derivatives/seg/sub-1/ct/sub-1_ct.nii.gz"],
        [f"sub-{i}_ses-{k}" for i in FOUR for k in (1, 2)]),
    "VerSe": (
        "BIDS",
        [f"rawdata/sub-verse{i}/sub-verse{i}_ct.nii.gz" for i in FOUR]
        + [f"derivatives/sub-verse{i}/sub-verse{i}_seg-vert_msk.nii.gz" for i in FOUR],
        [f"sub-verse{i}" for i in FOUR]),
    "Mayo": (
        "full and reduced dose",
        [f"L{i}/{dose}.nii.gz" for i in FOUR for dose in ("full", "quarter")],
        [f"L{i}" for i in FOUR]),
    "LIDC": (
        "one scan a folder",
        [f"LIDC-IDRI-{i:04d}/01-01-2000-{i}/3000566.{i}/scan.nii.gz" for i in FOUR],
        [f"LIDC-IDRI-{i:04d}" for i in FOUR]),
    "SegTHOR": (
        "one scan a folder",
        [f"train/Patient_{i}/{name}.nii.gz" for i in FOUR for name in (f"Patient_{i}", "GT")],
        [f"Patient_{i}" for i in FOUR]),
    "COVID-19-CT-Seg": (
        "NIfTI files",
        [f"{place}/coronacases_{i:03d}.nii.gz" for i in FOUR
         for place in ("COVID-19-CT-Seg_20cases", "Lung_Mask", "Infection_Mask",
                       "Lung_and_Infection_Mask")],
        [f"coronacases_{i:03d}" for i in FOUR]),
    "COVID-19-20": (
        "NIfTI files",
        [f"volume-covid19-A-{i:04d}_{kind}.nii.gz" for i in FOUR for kind in ("ct", "seg")],
        [f"volume-covid19-A-{i:04d}_ct" for i in FOUR]),
    "folders of any name": (
        "one scan a folder",
        [f"{who}/{what}.nii.gz" for who, what in
         (("anna", "1.2.840"), ("b c", "head"), ("d", "x_0000"), ("e", "e"))],
        ["anna", "b c", "d", "e"]),
}  # fmt: skip
MASKS = (
    "{}_mask", "{}_seg", "{}_label", "{}_labels", "{}_gt", "{}_lung_mask", "lung_mask", "{}-label",
    "{}.label", "{}_segmentation", "{}_tumor-labels", "{}_mask_1", "segmentation-{}", "GT",
    "{}_dseg", "{}_annotation", "{}_labelmap", "{}_ROI",
)  # fmt: skip


class Told:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def scan(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    hu = np.random.default_rng(seed).integers(-1000, 400, (3, 4, 5)).astype("i2")
    return scan_file(path, hu)


def labels(path: Path, code: str = "u1", most: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(1).integers(0, most + 1, (3, 4, 5))
    return scan_file(path, values.astype(code))


def names_of(folder: Path, noisy: str | None = None) -> list[str]:
    return [case.name for case in find_cases(folder, noisy)]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_collection_is_read_as_it_comes(tmp_path, collection):
    layout, files, cases = COLLECTIONS[collection]
    found = look(touch(tmp_path, *files))
    assert found.layout.name == layout
    assert names_of(tmp_path) == sorted(cases)
    assert not any("seg" in path.name.lower() or "label" in path.name for _, path in found.scans)


@pytest.mark.gate("G7")
@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_mask_beside_the_scans_changes_no_case_and_no_side(tmp_path, collection, faults: Faults):
    _, files, _ = COLLECTIONS[collection]
    before = find_cases(touch(tmp_path, *files))
    split = Split(validation=1, test=1)
    sides = split.assign(tmp_path, before)
    for mask in MASKS:
        for case in before:
            beside = case.path.with_name(f"{mask.format(case.name)}.nii.gz")
            beside.write_bytes(b"")
        assert find_cases(tmp_path) == before, mask
        assert split.assign(tmp_path, find_cases(tmp_path)) == sides
        faults.handled()


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_what_was_read_as_what_is_said_where_it_had_to_be_recognised(tmp_path, collection):
    layout, files, cases = COLLECTIONS[collection]
    find_cases(touch(tmp_path, *files), listener=(told := Told()))
    if collection in ("KiTS19", "KiTS19 in capitals"):
        assert told.said == []
    else:
        (line,) = told.said
        assert line.startswith(f"{tmp_path}: read as {layout}, {len(cases)} volumes")


def test_the_folder_of_the_scans_is_named_and_what_was_left_aside(tmp_path):
    _, files, _ = COLLECTIONS["MSD"]
    find_cases(touch(tmp_path, *files), listener=(told := Told()))
    assert told.said == [
        f"{tmp_path}: read as MSD or nnU-Net, 4 volumes of imagesTr/; 4 label maps are no cases"
    ]
    assert told.warned == [f"{tmp_path}: 1 entry is ignored: imagesTs"]


def test_the_folder_of_images_itself_gives_the_same_names(tmp_path):
    _, files, cases = COLLECTIONS["nnU-Net"]
    touch(tmp_path, *files)
    assert names_of(tmp_path / "nnUNet_raw" / "Dataset003_Liver" / "imagesTr") == cases


def test_several_channels_of_a_case_are_refused(tmp_path):
    touch(tmp_path, *(f"imagesTr/case_{i}_000{k}.nii.gz" for i in FOUR for k in (0, 1)))
    with pytest.raises(BadInput, match=r"2 channels of each case.*folder that holds one of them"):
        find_cases(tmp_path)


def test_sessions_of_a_subject_are_on_one_side(tmp_path):
    _, files, _ = COLLECTIONS["BIDS with sessions"]
    cases = find_cases(touch(tmp_path, *files))
    sides = Split(validation=1, test=1).assign(tmp_path, cases)
    subjects = [{case.name.split("_")[0] for case in members} for members in sides.values()]
    assert [len(each) for each in subjects] == [2, 1, 1]
    assert len(set.union(*subjects)) == 4


def test_a_pattern_for_the_patient_sees_the_names(tmp_path):
    _, files, _ = COLLECTIONS["BIDS with sessions"]
    cases = find_cases(touch(tmp_path, *files))
    sides = Split(validation=1, test=0, patient=r"(ses-\d)").assign(tmp_path, cases)
    assert {case.name[-5:] for case in sides["validation"]} < {"ses-1", "ses-2"}
    assert len(sides["validation"]) == 4


@pytest.mark.parametrize(
    ("files", "first"),
    [
        (("a/pre.nii.gz", "a/post.nii.gz", "b/pre.nii.gz", "b/post.nii.gz"), "a"),
        (("train/1.nii.gz", "train/2.nii.gz", "test/3.nii.gz"), "train"),
        (("noisy/1.nii.gz", "noisy/2.nii.gz", "gt/1.nii.gz"), "noisy"),
        (("p/one.nii.gz", "q/deep/er/1.nii.gz", "q/deep/er/2.nii.gz"), "q"),
        (("kits/case_0/imaging.nii.gz", "kits/case_1/imaging.nii.gz", "scans/p.nii.gz"), "kits"),
        (("lits/volume-0.nii", "lits/volume-1.nii", "bids/sub-1/ct/sub-1_ct.nii"), "lits"),
    ],
)
def test_a_folder_of_which_the_cases_are_not_clear_is_refused_with_a_remedy(tmp_path, files, first):
    touch(tmp_path, *files)
    with pytest.raises(BadInput, match="which are the cases is not clear") as caught:
        find_cases(tmp_path)
    assert f"--data {tmp_path / first}," in caught.value.remedy
    assert caught.value.exit_code == 3


def test_a_folder_that_holds_only_label_maps_is_refused(tmp_path):
    touch(tmp_path, "labelsTr/liver_0.nii.gz", "labelsTr/liver_1.nii.gz")
    with pytest.raises(BadInput, match=r"only label maps such as labelsTr/liver_0\.nii\.gz"):
        find_cases(tmp_path)


@pytest.mark.parametrize("noisy", ["quarter", "QUARTER"])
@pytest.mark.parametrize("clean", ["imaging", "Imaging", "ct", "full", "some_name"])
def test_recordings_lie_beside_the_one_other_scan_of_a_folder(tmp_path, clean, noisy):
    names = (clean, "quarter", "case_mask")
    touch(tmp_path, *(f"p{i}/{name}.nii.gz" for i in FOUR for name in names))
    cases = find_cases(tmp_path, noisy)
    assert [case.name for case in cases] == ["p0", "p1", "p2", "p3"]
    assert {case.path.name for case in cases} == {f"{clean}.nii.gz"}
    assert [case.noisy for case in cases] == [tmp_path / f"p{i}/quarter.nii.gz" for i in FOUR]


def test_recordings_are_not_looked_for_among_scans_of_one_folder(tmp_path):
    touch(tmp_path, "imagesTr/liver_0.nii.gz", "imagesTr/liver_1.nii.gz", "imagesTr/quarter.nii.gz")
    with pytest.raises(BadInput, match="Put each case into a folder of its own"):
        find_cases(tmp_path, "quarter")


def test_eight_bits_among_scans_are_label_maps_whatever_their_name(tmp_path):
    for i in FOUR:
        scan(tmp_path / f"case_{i}.nii", i)
        labels(tmp_path / f"case_{i}_lungs.nii")
    find_cases(tmp_path, listener=(told := Told()))
    assert names_of(tmp_path) == [f"case_{i}" for i in FOUR]
    assert told.said == [f"{tmp_path}: read as NIfTI files, 4 volumes; 4 label maps are no cases"]
    assert told.warned == []


def test_eight_bits_beside_the_scan_of_a_folder_are_a_label_map(tmp_path):
    for name in ("anna", "bert"):
        scan(tmp_path / name / "1.2.nii")
        labels(tmp_path / name / "liver.nii", "i1")
    assert [case.path.name for case in find_cases(tmp_path)] == ["1.2.nii", "1.2.nii"]


def test_eight_bits_with_a_scaling_are_a_scan(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype("u1")
    scan_file(tmp_path / "coarse.nii", stored, slope=8.0, inter=-1024.0)
    scan(tmp_path / "fine.nii")
    assert names_of(tmp_path) == ["coarse", "fine"]


@pytest.mark.parametrize("code", ["u1", "i2", "u2", "f4", "f8"])
@pytest.mark.parametrize("hu", [False, True])
@pytest.mark.parametrize("most", [0, 1, 117])
def test_a_label_map_of_any_name_is_refused_where_its_voxels_are_read(tmp_path, code, hu, most):
    labels(tmp_path / "case_0_lungs.nii", code, most)
    (case,) = find_cases(tmp_path, trust=ReadOptions(hu=hu))
    with pytest.raises(LabelMap, match="is a label map, not a scan") as caught:
        Store(tmp_path / "store").volume(case)
    assert caught.value.path == str(case.path)
    assert "case_0_lungs_label.nii" in caught.value.remedy


@pytest.mark.parametrize("code", ["u1", "i2", "f4"])
def test_a_label_map_is_named_as_one_by_every_command_that_reads_it(tmp_path, code):
    path = labels(tmp_path / "lungs.nii", code)
    with pytest.raises(LabelMap, match=r"3 whole values, 0\.\.2\. Move it away, or name it lungs_"):
        open_scan(path).verified()


@pytest.mark.parametrize(
    "values", [np.linspace(0, 2, 60), np.arange(60) - 1, np.arange(60) * 5, np.arange(60) + 200]
)
def test_few_values_that_are_no_labels_are_refused_as_other_units(tmp_path, values):
    path = scan_file(tmp_path / "a.nii", values.reshape(3, 4, 5).astype("f4"))
    with pytest.raises(BadInput, match="not in Hounsfield units"):
        open_scan(path).verified()
