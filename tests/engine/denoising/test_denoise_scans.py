import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.inference.predictor import Predictor
from tests.engine.fresh import fresh
from tests.engine.tiny import shrinking, tiny, untrained


@pytest.fixture
def scans(tmp_path, phantom_hu):
    from volumes import nifti

    paths = [tmp_path / "one.nii.gz", tmp_path / "two.nii.gz"]
    for path in paths:
        nifti.write_hu(path, phantom_hu, (3.0, 0.8, 0.7))
    return paths


def test_several_scans_get_a_picture_beside_each_output(engine, unet_run, scans, tmp_path):
    words = ("denoise", *scans, "-m", unet_run, "-q", "--preview")
    assert engine(*words, tmp_path / "slice.png", "-o", tmp_path / "out")[0] == 0
    assert names(tmp_path / "out", "*.png") == ["one_slice.png", "two_slice.png"]
    assert not (tmp_path / "slice.png").exists()
    code, out, _ = engine(*words, tmp_path / "pictures")
    assert code == 0
    assert names(tmp_path / "pictures") == ["one.png", "two.png"]
    assert str(tmp_path / "pictures" / "two.png") in out
    code, _, err = engine(*words, tmp_path / "slice.jpg", "--overwrite")
    assert code == 2
    assert "slice.jpg: is not a PNG file name" in err


def names(folder, pattern="*"):
    return sorted(path.relative_to(folder).as_posix() for path in folder.glob(pattern))


def test_an_existing_picture_is_refused_before_anything_is_written(
    engine, unet_run, scans, tmp_path
):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"somebody's")
    code, _, err = engine("denoise", scans[0], "-m", unet_run, "--preview", picture)
    assert code == 4
    assert str(picture) in err
    assert picture.read_bytes() == b"somebody's"
    assert not list(tmp_path.glob("*_denoised*"))


@pytest.mark.parametrize("command", ["denoise", "degrade"])
def test_another_program_s_sidecar_is_not_replaced(engine, unet_run, scans, tmp_path, command):
    output = tmp_path / "out.nii.gz"
    sidecar = tmp_path / "out.json"
    sidecar.write_text("{}")
    more = ("-m", unet_run) if command == "denoise" else ("--as", "gaussian:0.1")
    code, _, err = engine(command, scans[0], "-o", output, *more)
    assert code == 4
    assert str(sidecar) in err
    assert sidecar.read_text() == "{}"
    assert not output.exists()


def test_a_network_that_gives_no_numbers_gives_no_scan(engine, cpu, scans, tmp_path):
    def broken(arrays):
        return {name: array * np.nan for name, array in arrays.items()}

    run = untrained(tmp_path / "run", tiny(), cpu, broken)
    code, _, err = engine("denoise", scans[0], "-m", run.folder)
    assert code == 6
    assert "not finite" in err
    assert not list(tmp_path.glob("*_denoised*"))


def test_a_second_scan_is_refused_before_tensorflow_is_imported(
    unet_run: Path, scans: list[Path]
) -> None:
    ended = fresh("denoise", scans[0], "-m", unet_run, "--prior", scans[1])
    assert ended.code == 2
    assert not {"tensorflow", "keras"} & ended.slow
    assert "sees no prior" in ended.err


def test_scores_that_are_not_finite_become_null(tmp_path):
    from engine.runs.metrics_file import MetricsFile

    metrics = MetricsFile(tmp_path / "metrics.jsonl", 0)
    metrics.row(step=1, mean={"ssim": float("nan"), "psnr_db": float("inf"), "mse": 0.5})
    metrics.close()
    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail)
    assert row["mean"] == {"ssim": None, "psnr_db": None, "mse": 0.5}


def test_partial_files_of_a_killed_process_are_removed(tmp_path):
    from engine.checkpoints import checkpoint

    left = tmp_path / ".step-00000005.123.tmp"
    left.mkdir()
    (left / "state.npz").write_bytes(b"half")
    whole = tmp_path / "step-00000004"
    whole.mkdir()
    checkpoint.sweep(tmp_path)
    assert not left.exists()
    assert whole.exists()


def test_a_damaged_scan_does_not_keep_the_good_ones_from_being_denoised(
    engine, unet_run, scans, tmp_path
):
    block = scans[0].read_bytes()
    scans[0].write_bytes(block[: len(block) // 2])
    code, _, err = engine("denoise", *scans, "-m", unet_run)
    assert code == 3
    assert str(scans[0]) in err
    assert "1 of 2 scans: could not be denoised" in err
    made = sorted(path.name for path in tmp_path.glob("*_denoised*"))
    assert made == ["two_denoised.json", "two_denoised.nii.gz"]


def test_a_scan_that_breaks_while_it_is_denoised_leaves_nothing_and_stops_no_other(
    engine, unet_run, scans, tmp_path, monkeypatch
):
    from volumes.nifti import Scan

    whole = Scan.loaded

    def loaded_then_gone(scan):
        found = whole(scan)
        if scan.path == scans[0]:
            scan.path.unlink()
        return found

    monkeypatch.setattr(Scan, "loaded", loaded_then_gone)
    code, _, err = engine("denoise", *scans, "-m", unet_run)
    assert code == 3
    assert "cannot be read" in err
    made = sorted(path.name for path in tmp_path.glob("*_denoised*"))
    assert made == ["two_denoised.json", "two_denoised.nii.gz"]


def test_several_bad_scans_are_each_reported(engine, unet_run, scans, tmp_path):
    for scan in scans:
        scan.write_bytes(b"<html>")
    code, out, err = engine("denoise", *scans, "-m", unet_run, "-q")
    assert (code, out) == (3, "")
    assert [str(scan) in err for scan in scans] == [True, True]
    assert "2 of 2 scans" in err


def test_a_scan_that_changes_while_it_is_read_is_refused(engine, unet_run, scans, monkeypatch):
    from volumes.nifti import Scan

    whole = Scan.read

    def read_and_change(scan):
        stored = whole(scan)
        scan.path.write_bytes(scan.path.read_bytes() + b"more")
        return stored

    monkeypatch.setattr(Scan, "read", read_and_change)
    code, _, err = engine("denoise", scans[0], "-m", unet_run)
    assert code == 3
    assert "changed while it was read" in err


def test_each_scan_is_read_from_disk_once(engine, respr_run, scans, monkeypatch):
    from volumes.nifti import checked_stream
    from volumes.storage import digest

    read, hashed = dict.fromkeys(scans, 0), []
    whole, own = checked_stream.Stream.rest, digest.sha256

    def rest(stream, trust):
        read[stream.path] += 1
        return whole(stream, trust)

    def sha256(*paths):
        hashed.extend(paths)
        return own(*paths)

    monkeypatch.setattr(checked_stream.Stream, "rest", rest)
    monkeypatch.setattr(digest, "sha256", sha256)
    assert engine("denoise", scans[0], "-m", respr_run, "--prior", scans[1], "-q")[0] == 0
    assert read == dict.fromkeys(scans, 1)
    assert not set(scans) & set(hashed)
    about = json.loads(scans[0].with_name("one_denoised.json").read_text())
    assert about["input_sha256"] == own(scans[0])
    assert about["second_scan_sha256"] == own(scans[1])


@pytest.fixture
def five(tmp_path, scans):
    paths = [tmp_path / f"scan{i}.nii.gz" for i in range(5)]
    for path in paths:
        shutil.copy(scans[0], path)
    return paths


@pytest.mark.parametrize("bad", [False, True])
@pytest.mark.parametrize(
    ("processors", "free_bytes", "most"), [(4, 2**40, 3), (4, 0, 1), (1, 2**40, 1)]
)
def test_no_more_scans_are_in_memory_than_fit(
    engine, unet_run, five, monkeypatch, bad, processors, free_bytes, most
):
    import gc
    import weakref

    from engine.denoising import pipeline, shared_memory
    from volumes.nifti import Scan

    monkeypatch.setattr(pipeline, "processors", lambda: processors)
    monkeypatch.setattr(shared_memory, "_free", lambda: free_bytes)
    whole, held, counts = Scan.loaded, [], []

    def loaded(scan):
        gc.collect()
        counts.append(1 + sum(kept() is not None for kept in held))
        found = whole(scan)
        held.append(weakref.ref(found.read()))
        if bad:
            scan.path.write_bytes(b"another")
        return found

    monkeypatch.setattr(Scan, "loaded", loaded)
    code, _, err = engine("denoise", *five, "-m", unet_run, "-q")
    assert code == (3 if bad else 0), err
    assert len(held) == 5
    assert max(counts) <= most


@pytest.mark.parametrize("processors", [1, 4])
def test_scans_are_read_ahead_and_written_behind_with_the_same_bytes_and_order(
    engine, unet_run, five, tmp_path, monkeypatch, processors
):
    import threading

    from engine.denoising import pipeline, work
    from volumes.nifti import Scan

    monkeypatch.setattr(pipeline, "processors", lambda: processors)
    read, written = Scan.loaded, work.write
    readers, writers = [], []

    def loaded(scan):
        readers.append(threading.current_thread().name)
        return read(scan)

    def write(*args, **options):
        writers.append(threading.current_thread().name)
        return written(*args, **options)

    monkeypatch.setattr(Scan, "loaded", loaded)
    monkeypatch.setattr(work, "write", write)
    words = ("denoise", *five, "-m", unet_run, "-q", "--reproducible", "--save-residual")
    code, out, _ = engine(*words, "-o", tmp_path / "out")
    assert code == 0
    ends = ("denoised.nii.gz", "denoised_residual.nii.gz", "denoised.json")
    named = [line.rpartition("/")[2] for line in out.splitlines()]
    assert named == [f"scan{i}_{end}" for i in range(5) for end in ends] or [
        name.partition("_")[0] for name in named
    ] == [f"scan{i}" for i in range(5) for _ in ends]
    beside = processors > 1
    assert ("reads scans" in readers[1:]) == beside
    assert ("writes scans" in writers) == beside
    first = {(tmp_path / "out" / f"scan{i}_denoised.json").read_bytes() for i in range(5)}
    assert len(first) == 1
    monkeypatch.setattr(pipeline, "processors", lambda: 5 - processors)
    assert engine(*words, "-o", tmp_path / "again")[0] == 0
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("processors", [1, 4])
def test_an_output_that_cannot_be_written_stops_the_command_and_finished_ones_stay(
    engine, unet_run, five, tmp_path, monkeypatch, processors
):
    from engine.denoising import pipeline, work
    from engine.errors import CannotWrite

    monkeypatch.setattr(pipeline, "processors", lambda: processors)
    written = work.write

    def write(denoised, path, **options):
        if path.name.startswith("scan1"):
            raise CannotWrite(path, "cannot be written: full", "Free some space")
        return written(denoised, path, **options)

    monkeypatch.setattr(work, "write", write)
    code, out, err = engine("denoise", *five, "-m", unet_run, "-o", tmp_path / "out")
    assert code == 4
    assert "scan1_denoised.nii.gz: cannot be written: full" in err
    # The scan after it may be with the writer when the error is noticed.
    finished = names(tmp_path / "out", "*.nii.gz")
    assert finished in (["scan0_denoised.nii.gz"], [f"scan{i}_denoised.nii.gz" for i in (0, 2)])
    count = len(finished)
    assert f"5 scans: {count} done, 0 kept, 0 failed, {5 - count} not reached" in err
    assert "scan0_denoised.nii.gz" in out


def test_a_plan_says_how_many_scans_are_in_memory(engine, unet_run, scans, monkeypatch):
    from engine.denoising import shared_memory

    words = ("denoise", *scans, "-m", unet_run, "--plan")
    monkeypatch.setattr(shared_memory, "processors", lambda: 4)
    assert "The next scan is read and the last one written meanwhile" in engine(*words)[2]
    monkeypatch.setattr(shared_memory, "_free", lambda: 2**10)
    assert "one after the other: three at once need" in engine(*words)[2]
    monkeypatch.setattr(shared_memory, "processors", lambda: 1)
    assert "one after the other: there is one processor" in engine(*words)[2]


@pytest.mark.parametrize("one_is_good", [False, True])
def test_tensorflow_is_imported_once_a_scan_has_been_checked(unet_run, scans, one_is_good):
    for scan in scans[one_is_good:]:
        block = scan.read_bytes()
        scan.write_bytes(block[: len(block) // 2])
    ended = fresh("denoise", *scans, "-m", unet_run)
    assert ended.code == 3
    assert ("tensorflow" in ended.slow) == one_is_good
    assert f"{2 - one_is_good} of 2 scans: could not be denoised" in ended.err


def test_a_plan_makes_no_folder(engine, unet_run, scans, tmp_path):
    assert engine("denoise", scans[0], "-m", unet_run, "--plan", "-o", tmp_path / "new")[0] == 0
    assert not (tmp_path / "new").exists()


def test_one_absurd_voxel_spoils_no_other(cpu, tmp_path, phantom_hu):
    from engine.denoising.denoise import DenoiseSettings, denoise
    from engine.runs.trained_model import open_model
    from tests.engine.tiny import scan_file
    from volumes import nifti

    run = untrained(tmp_path / "run", tiny("unet3d", "network.levels=1"), cpu)
    model = open_model(run)
    found = []
    for value in (-1500.0, -3.4e38):
        stored = phantom_hu.astype("<f4")
        stored[5, 20, 20] = value
        scan = nifti.open_scan(scan_file(tmp_path / "scan.nii", stored))
        done = denoise(scan, model, Predictor.of(model), DenoiseSettings(), lambda _: None)
        found.append(np.delete(scan.canonical(done.after).ravel(), (5 * 64 + 20) * 64 + 20))
    floor_hu = 1400 * (6 * 0.1 - 500 / 1400)  # how much lower the network sees the second one
    assert np.abs(found[1] - found[0]).max() < floor_hu


def test_fewer_steps_than_are_done_are_refused(engine, trained, dataset):

    words = [word for word in shrinking() if not word.startswith("steps")]
    code, _, err = engine(
        "fit", "unet3d", *words, "--steps", "2", "--data", dataset, "--run", trained, "-q"
    )
    assert code == 5
    assert "4 steps already" in err


def test_a_request_to_stop_takes_effect_before_the_first_step(dataset, tmp_path):
    from engine.errors import Interrupted
    from engine.terminal import Terminal
    from engine.training.fit import fit
    from engine.training.fit_request import FitRequest
    from engine.training.signals import Stop

    stop = Stop()
    stop.asked = "SIGTERM"
    request = FitRequest("unet3d", tuple(shrinking()), dataset, tmp_path / "run", devices="cpu")
    with pytest.raises(Interrupted, match="before its first step"):
        fit(request, Terminal(quiet=True), stop)
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_the_best_of_a_checkpoint_that_remains_remains_too(tmp_path):
    from engine.checkpoints import checkpoint
    from engine.checkpoints.checkpoint import Progress

    arrays = {"a": np.zeros(2)}
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, arrays, Progress(step, 1, 0.5))
    checkpoint.save(tmp_path, arrays, Progress(4, 4, 0.1))
    assert checkpoint.steps(tmp_path) == [1, 3, 4]


def test_a_refusal_waits_for_no_library_that_is_slow_to_import(unet_run, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_text("no scan")
    ended = fresh("denoise", bad, "-m", unet_run)
    assert (ended.code, ended.slow) == (3, set())


# Warnings about a scan, and options to read it


@pytest.fixture
def spoilt(scans):
    """A scan whose gzip stream ends with a wrong checksum."""
    block = bytearray(scans[0].read_bytes())
    block[-6] ^= 1
    scans[0].write_bytes(block)
    return scans[0]


def warnings_of(path):
    return json.loads(path.with_name("one_denoised.json").read_text())["warnings"]


@pytest.fixture
def no_residual_warnings(monkeypatch):
    """Ignores warnings about what a tiny network removes."""
    monkeypatch.setattr("engine.scoring.residual.ANATOMY", 1.0)


@pytest.mark.usefixtures("no_residual_warnings")
def test_a_plausible_scan_has_no_warning_in_its_sidecar(engine, unet_run, scans):
    code, _, err = engine("denoise", scans[0], "-m", unet_run, "-q")
    assert (code, err) == (0, "")
    assert warnings_of(scans[0]) == []


@pytest.mark.usefixtures("no_residual_warnings")
def test_a_wrong_checksum_is_refused_or_stamped_into_the_sidecar(engine, unet_run, spoilt):
    code, _, err = engine("denoise", spoilt, "-m", unet_run)
    assert code == 3
    assert "--allow-bad-crc" in err
    code, _, err = engine("denoise", spoilt, "-m", unet_run, "--allow-bad-crc", "-q")
    assert code == 0
    (stamp,) = warnings_of(spoilt)
    assert "wrong checksum" in stamp
    assert err == f"engine: warning: {spoilt}: {stamp}\n"


def test_a_degraded_copy_has_the_warnings_of_its_source(engine, spoilt):
    assert engine("degrade", spoilt, "--as", "gaussian:0.1")[0] == 3
    code, _, err = engine("degrade", spoilt, "--as", "gaussian:0.1", "--allow-bad-crc", "-q")
    assert code == 0
    (stamp,) = json.loads(spoilt.with_name("one_gaussian-0.1.json").read_text())["warnings"]
    assert err == f"engine: warning: {spoilt}: {stamp}\n"


@pytest.mark.usefixtures("no_residual_warnings")
def test_voxels_that_are_not_finite_keep_their_bits_and_give_a_warning(
    engine, unet_run, tmp_path, phantom_hu
):
    from tests.engine.tiny import scan_file, voxels

    stored = phantom_hu.astype("<f4")
    stored[3, 30:34, 30:33] = np.nan, np.inf, -np.inf
    path = scan_file(tmp_path / "one.nii", stored)
    assert engine("denoise", path, "-m", unet_run, "-q")[0] == 0
    after = voxels(tmp_path / "one_denoised.nii")
    gaps = ~np.isfinite(stored)
    np.testing.assert_array_equal(after.view("<u4")[gaps], stored.view("<u4")[gaps])
    assert np.isfinite(after[~gaps]).all()
    assert warnings_of(path) == ["holds 12 voxels that are not finite"]


@pytest.mark.parametrize("value", [0, 40, -1024, -3024])
def test_a_scan_of_one_value_comes_back_as_it_is_with_a_note(engine, unet_run, tmp_path, value):
    from tests.engine.tiny import content, scan_file

    path = scan_file(tmp_path / "one.nii", np.full((4, 16, 16), value, np.int16))
    code, _, err = engine("denoise", path, "-m", unet_run, "-q")
    assert code == 0
    assert f"the one value {value}" in err
    assert content(tmp_path / "one_denoised.nii") == content(path)


def test_a_pair_of_header_and_image_becomes_one_file(engine, unet_run, tmp_path):
    from tests.gates.catalogue import HU, head
    from volumes import nifti

    (tmp_path / "one.hdr").write_bytes(head(HU.shape, magic=b"ni1", vox_offset=0)[:348])
    (tmp_path / "one.img").write_bytes(HU.tobytes("F"))
    code, out, _ = engine("denoise", tmp_path / "one.img", "-m", unet_run, "-q")
    assert code == 0
    made = tmp_path / "one_denoised.nii.gz"
    assert str(made) in out
    assert nifti.open_scan(made).shape == HU.shape


def test_one_volume_of_a_file_of_several_is_chosen_by_its_number(engine, unet_run, tmp_path):
    from tests.gates.catalogue import HU, content
    from volumes import nifti

    path = tmp_path / "one.nii"
    path.write_bytes(content(np.stack([HU, HU[::-1]], axis=-1)))
    code, _, err = engine("denoise", path, "-m", unet_run)
    assert code == 3
    assert "--volume 0 to --volume 1" in err
    words = ("denoise", path, "-m", unet_run, "--volume", "1", "-q", "--strength", "0")
    assert engine(*words)[0] == 0
    hu = nifti.open_scan(tmp_path / "one_denoised.nii").read_hu()
    np.testing.assert_array_equal(hu, HU[::-1])
    sidecar = json.loads((tmp_path / "one_denoised.json").read_text())
    assert sidecar["input_volume"] == 1


def test_a_scan_that_is_removed_while_it_is_denoised_is_refused_and_leaves_nothing(
    engine, unet_run, scans, tmp_path, monkeypatch
):
    from engine.denoising.bone import BoneWeight

    whole = BoneWeight.weight

    def weight(*arguments):
        scans[0].unlink(missing_ok=True)
        return whole(*arguments)

    monkeypatch.setattr(BoneWeight, "weight", weight)
    code, _, err = engine("denoise", scans[0], "-m", unet_run, "-q")
    assert code == 3
    assert "cannot be read: No such file" in err
    assert not list(tmp_path.glob("*_denoised*"))


@pytest.mark.parametrize(
    "name",
    ["with spaces.nii", "naïve 患者 (1).nii.gz", "-rf.nii", "scan.v1.2.nii", "SCAN.NII.GZ", "scan",
     "two\nlines.nii"],
)  # fmt: skip
def test_the_output_keeps_the_stem_of_any_scan_name(engine, unet_run, tmp_path, name):
    from tests.gates.catalogue import content

    (tmp_path / name).write_bytes(content(np.full((4, 8, 8), -1024, "i2")))
    code, out, _ = engine("denoise", "-m", unet_run, "-q", "--", tmp_path / name)
    assert code == 0
    stem, dot, ending = name.partition(".nii" if ".nii" in name else ".NII")
    made = f"{stem}_denoised{dot}{ending}" if dot else f"{stem}_denoised.nii.gz"
    assert (tmp_path / made).exists()
    assert str(tmp_path / made) in out


def test_a_name_that_leaves_no_room_for_the_output_s_is_refused_before_any_work(
    engine, unet_run, tmp_path
):
    from tests.gates.catalogue import content

    path = tmp_path / ("y" * 251 + ".nii")
    path.write_bytes(content())
    code, _, err = engine("denoise", path, "-m", unet_run)
    assert code == 4
    assert "Choose a shorter name" in err
    out = tmp_path / "short.nii"
    assert engine("denoise", path, "-m", unet_run, "-o", out, "-q", "--strength", "0")[0] == 0


def test_the_json_file_of_another_program_is_not_overwritten(engine, unet_run, scans, tmp_path):
    out = tmp_path / "out.nii.gz"
    noted = tmp_path / "out.json"
    noted.write_text('{"EchoTime": 0.03}')
    words = ["denoise", scans[0], "-m", unet_run, "-o", out, "--overwrite", "-q"]
    code, _, err = engine(*words)
    assert code == 4
    assert "out.json: is not the sidecar of a denoised scan" in err
    assert noted.read_text() == '{"EchoTime": 0.03}'
    noted.unlink()
    assert engine(*words)[0] == 0
    assert engine(*words)[0] == 0  # its own is replaced


def test_a_preview_must_be_named_png(engine, unet_run, scans, tmp_path):
    kept = tmp_path / "metrics.jsonl"
    kept.write_text("{}")
    words = ["denoise", scans[0], "-m", unet_run, "--preview", kept, "--overwrite"]
    code, _, err = engine(*words)
    assert code == 2
    assert "metrics.jsonl: is not a PNG file name" in err
    assert kept.read_text() == "{}"


# -- Warnings --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_residual_warnings")
def test_a_network_worse_than_its_input_gives_a_warning_on_stderr_and_in_the_sidecar(
    engine, unet_run, scans, tmp_path
):
    run = shutil.copytree(unet_run, tmp_path / "run")
    rows = [("noisy", 0, 0.01, 20.0), ("network", 1, 0.02, 17.0)]
    lines = [
        json.dumps({"method": method, "step": step, "mean": {"mse": mse, "psnr_db": psnr_db}})
        for method, step, mse, psnr_db in rows
    ]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    words = (
        "made its own validation scans no better at step 1: 16.99 dB of the mean MSE, "
        "untouched 20.00 dB"
    )
    code, _, err = engine("denoise", *scans[:2], "-m", run, "-o", tmp_path / "out", "-q")
    assert code == 0
    assert err == f"engine: warning: {run}: {words}\n"
    sidecar = json.loads((tmp_path / "out" / "one_denoised.json").read_text())
    assert sidecar["warnings"] == [f"the model {words}"]


@pytest.mark.usefixtures("no_residual_warnings")
def test_a_scan_that_was_denoised_before_gives_a_warning(engine, unet_run, scans):
    assert engine("denoise", scans[0], "-m", unet_run, "-q")[0] == 0
    once = scans[0].with_name("one_denoised.nii.gz")
    code, _, err = engine("denoise", once, "-m", unet_run, "-q")
    assert code == 0
    words = "was denoised already, as its sidecar says"
    assert err.splitlines()[0] == f"engine: warning: {once}: {words}"
    twice = json.loads(once.with_name("one_denoised_denoised.json").read_text())
    assert twice["warnings"][0] == words


@pytest.mark.usefixtures("no_residual_warnings")
def test_another_scan_of_that_name_was_not_denoised(engine, unet_run, scans):
    assert engine("denoise", scans[0], "-m", unet_run, "-q")[0] == 0
    once = scans[0].with_name("one_denoised.nii.gz")
    shutil.copy(scans[0], once)
    code, _, err = engine("denoise", once, "-m", unet_run, "-q")
    assert (code, err) == (0, "")


def test_a_part_of_a_run_is_no_model_and_the_run_is_named(engine, unet_run, scans):
    path = "checkpoints/step-00000001"
    for part in ("checkpoints", path, f"{path}/state.npz"):
        commands = [("denoise", scans[0], "-m", unet_run / part)]
        commands += [("fit", "unet3d", "--from", unet_run / part, "--run", scans[0].parent / "new")]
        commands += [] if part.endswith("npz") else [("info", unet_run / part)]
        for words in commands:
            code, _, err = engine(*words)
            assert code == 5
            assert f"{unet_run / part}: is a part of a run. Name the run, {unet_run}, and" in err


def test_a_folder_within_a_run_is_recognised(engine, unet_run, scans, monkeypatch):
    monkeypatch.chdir(unet_run / "checkpoints")
    code, _, err = engine("denoise", scans[0], "-m", "step-00000001")
    assert code == 5
    assert f"Name the run, {unet_run}" in err


@pytest.mark.parametrize(
    "name", ["o.img", "o.hdr", "o.mha", "o.json", "o.tar.gz", "o.DCM", "o" * 300 + ".csv"]
)
def test_a_file_of_another_format_is_not_taken_for_a_folder(engine, unet_run, scans, name):
    code, _, err = engine("denoise", scans[0], "-m", unet_run, "-o", scans[0].with_name(name))
    assert code == 2
    assert "neither the name of a folder nor that of a .nii" in err
    assert name not in [path.name for path in scans[0].parent.iterdir()]


def test_a_folder_that_is_there_may_have_any_name(engine, unet_run, scans):
    folder = scans[0].with_name("o.img")
    folder.mkdir()
    assert engine("denoise", scans[0], "-m", unet_run, "-o", folder, "-q")[0] == 0
    assert (folder / "one_denoised.nii.gz").is_file()


# -- Folders ---------------------------------------------------------------------------------------


@pytest.fixture
def flat(scans, tmp_path):
    """A folder of two scans, with files beside them that are none to denoise."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for path in scans:
        shutil.copy(path, folder)
    for name in ("one_seg.nii.gz", "segmentation.nii.gz", "old_residual.nii.gz", ".one.nii.gz"):
        (folder / name).write_bytes(b"no scan")
    (folder / "notes.txt").write_text("")
    return folder


@pytest.fixture
def kits(scans, tmp_path):
    """Two cases in KiTS19's layout."""
    for i, path in enumerate(scans):
        (tmp_path / "kits" / f"case_{i}").mkdir(parents=True)
        shutil.copy(path, tmp_path / "kits" / f"case_{i}" / "imaging.nii.gz")
    return tmp_path / "kits"


def test_a_folder_is_denoised_into_files_with_the_names_of_its_cases(
    engine, unet_run, flat, kits, tmp_path
):
    out = tmp_path / "out"
    code, said, _ = engine("denoise", flat, kits, "-m", unet_run, "-q", "-o", out)
    assert code == 0
    made = [f"{name}_denoised.nii.gz" for name in ("case_0", "case_1", "one", "two")]
    assert names(out, "*.nii.gz") == made
    assert all((out / name.replace(".nii.gz", ".json")).is_file() for name in made)
    assert [Path(line).name for line in said.splitlines() if line.endswith(".gz")] == [
        made[i] for i in (2, 3, 0, 1)
    ]


def test_a_folder_gives_the_files_that_its_scans_give(engine, unet_run, scans, flat, tmp_path):
    assert engine("denoise", flat, "-m", unet_run, "-q", "-o", tmp_path / "a")[0] == 0
    assert engine("denoise", *scans, "-m", unet_run, "-q", "-o", tmp_path / "b")[0] == 0
    for name in ("one_denoised.nii.gz", "two_denoised.nii.gz"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("layout", ["flat", "kits"])
def test_without_an_output_each_lies_beside_its_scan_and_is_not_denoised_again(
    engine, unet_run, flat, kits, layout
):
    folder = {"flat": flat, "kits": kits}[layout]
    words = ("denoise", folder, "-m", unet_run, "-q")
    assert engine(*words, "--save-residual")[0] == 0
    made = {
        "flat": ["one_denoised.nii.gz", "two_denoised.nii.gz"],
        "kits": ["case_0/imaging_denoised.nii.gz", "case_1/imaging_denoised.nii.gz"],
    }[layout]
    assert names(folder, "**/*_denoised.nii.gz") == made
    before = [(folder / name).stat().st_ino for name in made]
    code, _, err = engine("denoise", folder, "-m", unet_run)
    assert code == 0
    assert "2 of 2 finished before\n" in err
    assert [(folder / name).stat().st_ino for name in made] == before
    assert engine(*words, "--overwrite")[0] == 0
    assert names(folder, "**/*_denoised.nii.gz") == made


def test_pictures_of_a_folder_lie_beside_each_output(engine, unet_run, kits):
    words = ("denoise", kits, "-m", unet_run, "-q", "--preview")
    assert engine(*words, "slice.png")[0] == 0
    assert names(kits, "*/*.png") == ["case_0/imaging_slice.png", "case_1/imaging_slice.png"]
    picture = kits / "case_0" / "imaging_slice.png"
    drawn = picture.read_bytes()
    picture.unlink()
    assert engine(*words, "slice.png")[0] == 0  # drawn again, from the files
    assert picture.read_bytes() == drawn


def test_messages_and_pages_of_a_folder_name_its_cases(engine, kits):
    code, _, err = engine("denoise", kits, "--html", "page.html")
    assert code == 0
    assert err.startswith("case_0: ct_denoiser: ")
    assert "\ncase_1: ct_denoiser: " in err
    page = (kits / "case_0" / "imaging_page.html").read_text()
    assert "<h1>case_0</h1>" in page
    assert "imaging.nii.gz" not in page


def test_a_folder_of_one_case_is_named_as_one_of_several(engine, unet_run, kits, tmp_path):
    shutil.rmtree(kits / "case_1")
    words = ("denoise", kits, "-m", unet_run, "-q", "-o")
    code, _, err = engine(*words, tmp_path / "out.nii.gz")
    assert code == 2
    assert "out.nii.gz: is one file for a folder" in err
    assert engine(*words, tmp_path / "out", "--preview", "p.png")[0] == 0
    assert names(tmp_path / "out") == ["case_0_denoised.json", "case_0_denoised.nii.gz",
                                       "case_0_p.png"]  # fmt: skip


def test_a_plan_of_a_folder_tells_every_case(engine, unet_run, kits, tmp_path):
    code, out, _ = engine("denoise", kits, "-m", unet_run, "--plan", "-q", "-o", tmp_path / "out")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        str(kits / f"case_{i}" / "imaging.nii.gz") for i in (0, 1)
    ]
    assert not (tmp_path / "out").exists()


def test_a_bad_scan_of_a_folder_stops_no_other_and_is_counted(engine, unet_run, flat, tmp_path):
    (flat / "one.nii.gz").write_bytes(b"<html>")
    code, _, err = engine("denoise", flat, "-m", unet_run, "-q", "-o", tmp_path / "out")
    assert code == 3
    assert f"{flat / 'one.nii.gz'}: " in err
    assert "1 of 2 scans: could not be denoised" in err
    assert names(tmp_path / "out", "*.nii.gz") == ["two_denoised.nii.gz"]


def test_two_cases_of_one_name_are_refused(engine, unet_run, flat, scans, tmp_path):
    code, _, err = engine("denoise", flat, scans[0], "-m", unet_run, "-o", tmp_path / "out")
    assert code == 2
    assert "one_denoised.nii.gz: would be written twice" in err
    assert not (tmp_path / "out").exists()


def test_entries_of_a_folder_that_are_no_cases_are_told(engine, unet_run, kits, scans):
    shutil.copy(scans[0], kits / "flat.nii.gz")
    shutil.copy(scans[0], kits / "case_1" / "imaging.nii.gz")
    first = kits / "case_0" / "imaging.nii.gz"
    once = first.with_name("once.nii.gz")
    assert engine("denoise", first, "-m", unet_run, "-q", "-o", once)[0] == 0
    once.replace(first)
    once.with_name("once.json").replace(first.with_name("imaging.json"))
    code, out, err = engine("denoise", kits, "-m", unet_run, "--plan", "-q")
    assert code == 0
    others = "1 entry is ignored: flat.nii.gz"
    made = "scans that the engine wrote are ignored: case_0/imaging.nii.gz"
    assert err == f"engine: warning: {kits}: {others}\nengine: warning: {kits}: {made}\n"
    assert out.startswith(str(kits / "case_1" / "imaging.nii.gz"))


@pytest.mark.gate("G7")
@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("empty", "holds neither"),
        ("text", "holds neither"),
        ("masks", "holds neither"),
        ("denoised", "holds no scan, only 1 output of this program such as one_denoised"),
        ("photographs", "holds photographs, and no NIfTI scan"),
        ("degraded", "holds no scan but those that the engine wrote"),
        ("run", "holds neither"),
    ],
)
def test_a_folder_of_other_things_is_refused_in_one_line(
    engine, faults, unet_run, scans, photographs, tmp_path, kind, told
):
    folder = tmp_path / "folder"
    folder.mkdir()
    if kind == "text":
        (folder / "notes.txt").write_text("")
    elif kind == "masks":
        shutil.copy(scans[0], folder / "segmentation.nii.gz")
    elif kind == "denoised":
        words = ("denoise", scans[0], "-m", unet_run, "-q", "-o", folder, "--preview")
        assert engine(*words, folder / "one_slice.png")[0] == 0
    elif kind == "degraded":
        words = ("degrade", scans[0], "--as", "gaussian:0.1,gaussian:0.2", "-q", "-o", folder)
        assert engine(*words)[0] == 0
    elif kind in ("photographs", "run"):
        folder = photographs if kind == "photographs" else unet_run
    before = names(folder, "**/*")
    for others in ((), (scans[1],)):
        code, out, err = engine("denoise", folder, *others, "-m", unet_run, "-q")
        assert (code, out) == (3, "")
        assert err.startswith(f"engine: error: {folder}: is a folder that {told}")
        assert err.endswith(". Name another folder, or the files themselves.\n")
        assert err.count("\n") == 1
        assert names(folder, "**/*") == before
        assert not scans[1].with_name("two_denoised.nii.gz").exists()
        faults.handled()


def test_a_folder_is_refused_before_tensorflow_is_imported(unet_run, tmp_path):
    ended = fresh("denoise", tmp_path, "-m", unet_run)
    assert (ended.code, ended.slow) == (3, set())


# -- Pages -----------------------------------------------------------------------------------------


def test_a_page_with_a_viewer_is_written_beside_each_output(engine, unet_run, scans, tmp_path):
    words = ("denoise", *scans, "-m", unet_run, "-q", "-o", tmp_path / "out", "--html", "look.html")
    assert engine(*words)[0] == 0
    pages = sorted((tmp_path / "out").glob("*_look.html"))
    assert len(pages) == len(scans)
    text = pages[0].read_text("utf-8")
    assert '"name":"input"' in text
    assert '"name":"denoised"' in text
    assert "http" not in text.replace("http-equiv", "")  # it loads nothing
    pages[0].unlink()
    assert engine(*words)[0] == 0  # written again, from the files
    assert pages[0].read_text("utf-8") == text


def test_a_page_must_be_named_html(engine, unet_run, scans, tmp_path):
    code, _, err = engine("denoise", scans[0], "-m", unet_run, "--html", tmp_path / "look.png")
    assert code == 2
    assert "is not an HTML file name" in err
    assert not list(tmp_path.glob("*.png"))


def test_a_scan_whose_description_does_not_fit_into_memory_is_the_one_that_fails(
    engine, unet_run, scans, tmp_path, monkeypatch
):
    from engine.denoising import work

    measured = work.NoiseReduction.of

    def exhausted(denoised, before):
        if denoised.scan.path == scans[0]:
            raise MemoryError
        return measured(denoised, before)

    monkeypatch.setattr(work.NoiseReduction, "of", exhausted)
    code, _, err = engine("denoise", *scans, "-m", unet_run, "-q", "-o", tmp_path / "out")
    assert code != 0
    assert "one.nii.gz: does not fit into memory" in err
    assert "two.nii.gz: does not" not in err
