"""What a command that is given again keeps, goes on with and refuses."""

import json
import shutil

import pytest

from tests.engine.fresh import fresh
from tests.engine.tiny import scan_file, tiny, untrained


@pytest.fixture
def scans(tmp_path, phantom_hu):
    folder = tmp_path / "scans"
    folder.mkdir()
    for i, name in enumerate("abc"):
        scan_file(folder / f"{name}.nii.gz", phantom_hu[i : i + 4, :32, :32])
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def again(engine, unet_run, scans, out):
    """The command, which was given once, with other options."""
    words = ("denoise", scans, "-m", unet_run, "-o", out)
    assert engine(*words, "-q")[0] == 0

    def call(*more, command=words):
        return engine(*command, *more)

    return call


def states(folder):
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.iterdir()}


def test_what_is_finished_is_kept_and_counted_in_one_line(again, out):
    before = states(out)
    (out / "b_denoised.nii.gz").unlink()
    (out / "b_denoised.json").unlink()
    code, said, err = again()
    assert code == 0
    assert err.splitlines()[0] == "2 of 3 finished before"
    assert "3 scans: 1 done, 2 kept, 0 failed\n" in err
    assert said.splitlines() == [str(out / f"b_denoised.{end}") for end in ("nii.gz", "json")]
    after = states(out)
    assert after["b_denoised.nii.gz"][0] == before["b_denoised.nii.gz"][0]
    assert {name: after[name] for name in after if name[0] != "b"} == {
        name: before[name] for name in before if name[0] != "b"
    }


def test_a_finished_batch_needs_no_tensorflow(again, unet_run, scans, out):
    ended = fresh("denoise", scans, "-m", unet_run, "-o", out)
    assert (ended.code, ended.slow) == (0, set())
    assert "3 of 3 finished before" in ended.err


def test_a_scan_that_is_named_alone_is_refused_as_ever(again, unet_run, scans, out):
    words = ("denoise", scans / "a.nii.gz", "-m", unet_run, "-o", out)
    code, _, err = again(command=words)
    assert code == 4
    assert f"{out / 'a_denoised.nii.gz'}: exists already. Remove it, or ask for --over" in err
    code, _, err = again("--shard", "1/1", command=words)
    assert code == 0
    assert "1 of 1 finished before" in err


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--strength", "0.5"), "made with another --strength"),
        (("--precision", "bfloat16"), "made with another --precision"),
        (("--strip-phi",), "made with another --strip-phi"),
        (("--reproducible",), "made without --reproducible"),
        (("--tile", "4,8,8"), "made with other tiles"),
        (("--save-residual",), "made without its residual"),
        (("--axes", "XYZ"), "made with other --axes"),
        (("--poses",), "made with another --poses"),
    ],
)
def test_what_was_made_with_other_settings_is_refused(again, out, more, told):
    before = states(out)
    code, said, err = again(*more)
    assert (code, said) == (4, "")
    assert f"{out / 'a_denoised.nii.gz'}: exists already, {told}. Remove it, or ask for -" in err
    assert states(out) == before


def test_what_another_model_made_is_refused_and_replaced_with_overwrite(
    again, cpu, scans, out, tmp_path
):
    other = untrained(tmp_path / "other", tiny(), cpu, lambda a: {n: a[n] * 0.5 for n in a})
    words = ("denoise", scans, "-m", other.folder, "-o", out)
    code, _, err = again(command=words)
    assert code == 4
    assert "exists already, made by another model" in err
    before = states(out)
    assert again("--overwrite", "-q", command=words)[0] == 0
    assert not set(states(out).values()) & set(before.values())
    assert "3 of 3 finished before" in again(command=words)[2]


def test_what_was_made_of_another_input_is_refused(again, scans, out):
    shutil.copy(scans / "b.nii.gz", scans / "a.nii.gz")
    code, _, err = again()
    assert code == 4
    assert f"{out / 'a_denoised.nii.gz'}: exists already, made of another input" in err


def damaged(out):
    path = out / "a_denoised.nii.gz"
    path.write_bytes(path.read_bytes()[:-1])


def exchanged(out):
    shutil.copy(out / "b_denoised.nii.gz", out / "a_denoised.nii.gz")


def without_sidecar(out):
    (out / "a_denoised.json").unlink()


def edited(out):
    path = out / "a_denoised.json"
    path.write_text(path.read_text().replace('"strength": 1.0', '"strength": 0.9'))


def linked(out):
    (out / "a_denoised.nii.gz").unlink()
    (out / "a_denoised.json").unlink()
    (out / "a_denoised.nii.gz").symlink_to("gone")


@pytest.mark.gate("G19")
@pytest.mark.parametrize("change", [damaged, exchanged, without_sidecar, edited, linked])
def test_what_nothing_proves_is_not_replaced(again, faults, out, change):
    change(out)
    before = {path.name: path.lstat().st_ino for path in out.iterdir()}
    code, said, err = again()
    assert (code, said) == (4, "")
    assert f"{out / 'a_denoised.nii.gz'}: exists already" in err
    assert {path.name: path.lstat().st_ino for path in out.iterdir()} == before
    faults.handled()


def test_a_sidecar_without_its_scan_is_the_work_of_a_killed_command(again, out, engine, unet_run):
    before = states(out)
    (out / "a_denoised.nii.gz").unlink()
    code, _, err = again()
    assert code == 0
    assert "2 of 3 finished before" in err
    assert states(out)["a_denoised.nii.gz"][0] == before["a_denoised.nii.gz"][0]
    (out / "a_denoised.nii.gz").unlink()  # a single scan goes on, too
    assert engine("denoise", out.parent / "scans/a.nii.gz", "-m", unet_run, "-o", out)[0] == 0


def test_a_sidecar_of_other_settings_without_its_scan_is_refused(again, out):
    (out / "a_denoised.nii.gz").unlink()
    code, _, err = again("--strength", "0.5")
    assert code == 4
    assert f"{out / 'a_denoised.json'}: exists already, made with another --strength" in err


def test_temporary_files_of_killed_commands_are_removed(again, out):
    ours, others = out / ".a_denoised.nii.gz.999999999-5.tmp", out / ".z.nii.gz.999999999-5.tmp"
    for path in (ours, others):
        path.write_bytes(b"half")
    assert again("-q")[0] == 0
    assert (ours.exists(), others.exists()) == (False, True)


def test_outputs_of_another_version_of_the_program_are_kept_with_a_warning(again, out):
    path = out / "a_denoised.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"code_sha256": "0" * 64}))
    code, _, err = again()
    assert code == 0
    assert "1 of the finished scans were made by another version of the program" in err


def test_a_failed_scan_is_named_at_the_end_and_done_once_it_is_repaired(again, scans, out):
    whole = (scans / "b.nii.gz").read_bytes()
    for end in ("nii.gz", "json"):
        (out / f"b_denoised.{end}").unlink()
    (scans / "b.nii.gz").write_bytes(whole[:-20])
    code, _, err = again()
    assert code == 3
    assert "3 scans: 0 done, 2 kept, 1 failed\n" in err
    last = f"1 of 3 scans: could not be denoised. Repair or leave out {scans / 'b.nii.gz'}."
    assert err.splitlines()[-1] == f"engine: error: {last}"
    (scans / "b.nii.gz").write_bytes(whole)
    code, _, err = again()
    assert code == 0
    assert "3 scans: 1 done, 2 kept, 0 failed\n" in err


def test_a_glob_that_finds_the_outputs_beside_the_scans_denoises_none_of_them(
    engine, unet_run, scans
):
    words = ("-m", unet_run, "--save-residual")
    assert engine("denoise", *sorted(scans.glob("*.nii.gz")), *words)[0] == 0
    before = states(scans)
    code, out, err = engine("denoise", *sorted(scans.glob("*.nii.gz")), *words)
    assert (code, out) == (0, "")
    assert "6 outputs of this command among its scans are ignored" in err
    assert "3 of 3 finished before" in err
    assert states(scans) == before


def test_shards_of_a_glob_beside_the_scans_stay_the_same_while_others_write(
    engine, unet_run, scans
):
    for k in (1, 2, 3):
        found = sorted(scans.glob("*.nii.gz"))
        assert engine("denoise", *found, "-m", unet_run, "--shard", f"{k}/3", "-q")[0] == 0
    made = sorted(path.name for path in scans.glob("*_denoised.nii.gz"))
    assert made == [f"{name}_denoised.nii.gz" for name in "abc"]


def test_a_shard_writes_its_scans_alone_and_an_empty_one_nothing(engine, unet_run, scans, out):
    words = ("denoise", scans, "-m", unet_run, "-o", out, "--shard")
    assert engine(*words, "2/4")[0] == 0
    assert [path.name for path in out.glob("*.gz")] == ["b_denoised.nii.gz"]
    code, said, err = engine(*words, "4/4")
    assert (code, said) == (0, "")
    assert err == "No scan is in this shard of 3 scans\n"


def test_what_other_shards_wrote_is_not_looked_at(engine, unet_run, scans, out):
    out.mkdir()
    (out / "a_denoised.nii.gz").write_bytes(b"somebody's")
    words = ("denoise", scans, "-m", unet_run, "-o", out, "-q", "--shard")
    assert engine(*words, "2/3")[0] == 0
    assert engine(*words, "1/3")[0] == 4


def test_a_plan_of_a_shard_shows_its_scans(engine, unet_run, scans):
    code, said, _ = engine("denoise", scans, "-m", unet_run, "--plan", "--shard", "3/3")
    assert code == 0
    assert said.startswith(str(scans / "c.nii.gz"))
    assert said.count("\n") == 1


def test_outputs_in_a_folder_below_the_scans_are_no_scans_of_the_next_command(
    engine, unet_run, scans
):
    words = ("denoise", scans, "-m", unet_run, "-o", scans / "out", "--save-residual")
    for k in (1, 2, 3):
        assert engine(*words, "--shard", f"{k}/3")[0] == 0
    code, _, err = engine(*words)
    assert code == 0
    assert "3 of 3 finished before" in err
