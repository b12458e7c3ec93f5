"""G15: files are data. None runs code, uses the network, fills memory, or leaks names."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.recipe.recipe_code import sha256_of
from engine.runs.run import Run
from tests.engine.tiny import comment, content, scan_file, shrinking, tiny, untrained
from tests.gates.ledger import Faults
from volumes.storage.digest import sha256

pytestmark = pytest.mark.gate("G15")

# What a run may do to its machine, seen by Python's own audit hooks. TensorFlow and its kin import
# (which unmarshals) and probe their machine: what is looked at comes after a first round.
AUDITED = """
import json, os, sys
first, second, allowed, planted = json.loads(sys.argv[1])
from engine.cli.main import run

CALLS = ("pickle.find_class", "marshal.load", "socket.", "subprocess.Popen", "os.system", "os.exec",
         "os.posix_spawn", "os.spawn", "os.fork", "urllib.Request", "ctypes.dlopen")
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate",
           "os.chmod", "os.chown", "shutil.")
seen, armed = [], False

def inside(path):
    if isinstance(path, int):
        return True
    path = os.path.realpath(os.fsdecode(path))
    return path == os.devnull or any(f"{path}/".startswith(f"{place}/") for place in allowed)

def hook(event, args):
    if not armed:
        return
    if event.startswith(CALLS):
        seen.append([event, str(args)[:200]])
    elif event == "open" and args[0] is not None:
        writes = set(args[1] or "") & set("wax+") or (args[2] or 0) & (os.O_WRONLY | os.O_RDWR)
        if writes and not inside(args[0]):
            seen.append([event, str(args)[:200]])
    elif event.startswith(CHANGES):
        paths = [part for part in args if isinstance(part, (str, bytes)) and part]
        if not all(inside(path) for path in paths):
            seen.append([event, str(args)[:200]])
    elif event in ("exec", "compile"):
        name = getattr(args[0], "co_filename", None) or args[1] if event == "compile" else getattr(
            args[0], "co_filename", "")
        if str(name).startswith(planted):
            seen.append([event, str(name)])

sys.addaudithook(hook)
codes = [run(words) for words in first]
with open(planted + "/recipe.py", "w") as file:
    file.write(f"open({planted + '/ran'!r}, 'w')")
armed = True
codes += [run(words) for words in second]
if os.environ.get("MISBEHAVE"):
    import pickle, socket, subprocess
    pickle.loads(b"cos\\ngetcwd\\n(tR.")
    socket.socket().close()
    subprocess.run(["true"])
    open(os.path.join(os.path.dirname(allowed[0]), "outside"), "w").close()
    os.mkdir(os.path.join(os.path.dirname(allowed[0]), "folder outside"))
    run_path = __import__("runpy").run_path
    run_path(planted + "/recipe.py")
armed = False
print(json.dumps({"codes": codes, "seen": seen}))
"""


def audited(places: dict[str, Path], data: Path) -> dict:
    run, out = places["run"], places["out"]
    scan = next(data.glob("*/imaging.nii.gz"))
    fit = ["fit", "unet3d", *shrinking(), "--data", str(data), "--run", str(run), "-q", "--steps"]
    denoise = ["denoise", str(scan), "-m", str(run), "-q", "--save-residual", "-o"]
    before = [[*fit, "2"], [*denoise, str(out / "before")], ["verify", *verified(out / "before")]]
    after = [[*fit, "4"], [*denoise, str(out / "after")], ["verify", *verified(out / "after")]]
    return watched(before, after, places)


def watched(before: list, after: list, places: dict[str, Path], **environment: str) -> dict:
    """What was seen of the second commands, and the exit codes of all."""
    allowed = [str(place.resolve()) for place in places.values()]
    words = json.dumps([before, after, allowed, str(places["run"].resolve())])
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, words], capture_output=True, text=True, check=False,
        env={**os.environ, "ENGINE_CACHE": str(places["cache"]), **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def verified(folder: Path) -> list[str]:
    return [str(folder / "case_00000_denoised.nii.gz")]


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Path]:
    made = {name: tmp_path / "may" / name for name in ("run", "cache", "out")}
    for place in made.values():
        place.mkdir(parents=True)
    made["run"].rmdir()
    return made


def test_a_resumed_fit_and_a_denoising_do_nothing_but_their_work(
    dataset: Path, places: dict[str, Path], faults: Faults
) -> None:
    told = audited(places, dataset)
    assert told["codes"] == [0] * 6
    assert told["seen"] == []
    assert not (places["run"] / "ran").exists()
    faults.handled(3)


def test_the_audit_sees_what_it_looks_for(places: dict[str, Path], faults: Faults) -> None:
    places["run"].mkdir()
    told = watched([], [], places, MISBEHAVE="1")
    seen = {event for event, _ in told["seen"]}
    wanted = {"pickle.find_class", "socket.__new__", "subprocess.Popen", "open", "exec", "os.mkdir"}
    assert wanted <= seen
    faults.handled(len(wanted))


# -- Run folders -----------------------------------------------------------------------------------


class Evil:
    """The code that unpickling would run."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self):
        return open, (str(self.place), "w")


def _json(name: str, change: Callable[[dict], object]):
    def plant(run: Path, ran: Path) -> None:
        place = run / name
        content = json.loads(place.read_bytes())
        changed = change(content)
        place.write_text(json.dumps(content if changed is None else changed))

    return plant


def _text(name: str, text: str):
    return lambda run, ran: (run / name).write_text(text)


def _recipe(**fields: object):
    """recipe.json with fields set: `network_width=8`, of which the first _ is a dot."""

    def change(content: dict) -> None:
        for name, value in fields.items():
            outer, dot, inner = name.partition("_")
            (content[outer] if dot else content)[inner or outer] = value

    return _json("recipe.json", change)


def _arrays(make: Callable[[dict[str, np.ndarray], Path], bytes]):
    """A rewritten state.npz with matching hashes."""

    def plant(run: Path, ran: Path) -> None:
        folder = run / STEP
        with np.load(folder / "state.npz") as file:
            arrays = {name: file[name] for name in file.files}
        (folder / "state.npz").write_bytes(make(arrays, ran))

    return plant


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    block = io.BytesIO()
    np.savez(block, **arrays)
    return block.getvalue()


def _objects(arrays: dict[str, np.ndarray], ran: Path) -> bytes:
    evil = np.empty((), object)
    evil[()] = Evil(ran)
    return _npz(dict.fromkeys(arrays, evil))


def _pickle(arrays: dict[str, np.ndarray], ran: Path) -> bytes:
    import pickle

    return pickle.dumps(Evil(ran))


def _claiming(arrays: dict[str, np.ndarray], ran: Path) -> bytes:
    """Every array claims 8 exabytes."""
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w") as file:
        for name in arrays:
            head = io.BytesIO()
            shape = {"descr": "<f4", "fortran_order": False, "shape": (2**30, 2**31)}
            np.lib.format.write_array_header_1_0(head, shape)
            file.writestr(f"{name}.npy", head.getvalue() + b"\0" * 64)
    return block.getvalue()


def _bomb(arrays: dict[str, np.ndarray], ran: Path) -> bytes:
    """An extra variable: a quarter of a gigabyte of zeros, compressed to a thousandth."""
    block = io.BytesIO()
    with zipfile.ZipFile(block, "w", zipfile.ZIP_DEFLATED) as file:
        with file.open("model/bomb.npy", "w", force_zip64=True) as member:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (2**28,)}
            np.lib.format.write_array_header_1_0(member, shape)
            for _ in range(2**4):
                member.write(bytes(2**24))
        for name, array in arrays.items():
            one = io.BytesIO()
            np.save(one, array)
            file.writestr(f"{name}.npy", one.getvalue())
    return block.getvalue()


def _climbing(arrays: dict[str, np.ndarray], ran: Path) -> bytes:
    return _npz({f"../../{name}": array for name, array in arrays.items()})


def _words(arrays: dict[str, np.ndarray], ran: Path) -> bytes:
    return _npz({name: np.full(array.shape, "x") for name, array in arrays.items()})


STEP = "checkpoints/step-00000001"
DEEP, HUGE = "[" * 200_000, '{"a": "' + "x" * 2**21 + '"}'
MALICIOUS = {
    "a recipe beyond a mebibyte": _text("recipe.json", HUGE),
    "a recipe nested deeply": _text("recipe.json", DEEP),
    "a recipe that is a list": _text("recipe.json", "[1, 2]"),
    "a recipe of no kind": _json("recipe.json", lambda content: content.pop("kind") and None),
    "a kind that is unknown": _recipe(network_kind="Backdoor"),
    "a kind with dots": _recipe(network_kind="os.system"),
    "a kind of Python's": _recipe(network_kind="__import__"),
    "a kind that is a list": _recipe(network_kind=["UNet3D"]),
    "a loss with dots": _recipe(loss="os.system"),
    "a loss of Python's": _recipe(loss="eval"),
    "a field of Python's": _recipe(network___class__="Recipe"),
    "a width in words": _recipe(network_width="8"),
    "a width that is a fraction": _recipe(network_width=2.5),
    "a width below nothing": _recipe(network_width=-3),
    "levels without end": _recipe(network_levels=60, crop_shape=[2**59] * 3),
    "a seed in words": _recipe(seed="0; import os"),
    "a window without end": _recipe(window_high_hu=float("inf")),
    "a window of no numbers": _recipe(window_low_hu=float("nan")),
    "noise that is a network": _recipe(noise={"kind": "UNet3D", "width": 2, "levels": 2}),
    "a prior for a network that sees none": _recipe(
        prior={"kind": "NeighbourMean", "of": {"kind": "Estimated", "run": "../../../etc"}}
    ),
    "a crop that is a word": _recipe(crop="whole"),
    "objects in the arrays": _arrays(_objects),
    "a pickle for the arrays": _arrays(_pickle),
    "arrays that claim exabytes": _arrays(_claiming),
    "arrays that unfold a thousandfold": _arrays(_bomb),
    "arrays that climb out of their folder": _arrays(_climbing),
    "arrays of words": _arrays(_words),
    "arrays that are none": _arrays(lambda arrays, ran: b"PK\x03\x04 no archive"),
    "a state beyond a mebibyte": _text(f"{STEP}/state.json", HUGE),
    "a state nested deeply": _text(f"{STEP}/state.json", DEEP),
    "a state that is a list": _text(f"{STEP}/state.json", "[]"),
    "a step in words": _json(f"{STEP}/state.json", lambda c: c.update(step="1; rm")),
    "a best step that climbs": _json(f"{STEP}/state.json", lambda c: c.update(best_step="../../x")),
    "a field too many": _json(f"{STEP}/state.json", lambda c: c.update(code="import os")),
    "a manifest beyond a mebibyte": _text(f"{STEP}/MANIFEST.json", HUGE),
    "a manifest nested deeply": _text(f"{STEP}/MANIFEST.json", DEEP),
    "a manifest that climbs": _json(
        f"{STEP}/MANIFEST.json", lambda c: {f"../../{name}": value for name, value in c.items()}
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def innocent(cpu, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return untrained(tmp_path_factory.mktemp("gate") / "run", tiny(), cpu).folder


def _manifest(run: Path) -> None:
    """Matching hashes, as an attacker would write them."""
    folder = run / STEP
    names = ("state.npz", "state.json")
    (folder / "MANIFEST.json").write_text(json.dumps({n: sha256(folder / n) for n in names}))


@pytest.mark.parametrize("name", MALICIOUS)
def test_a_run_that_was_tampered_with_is_refused_and_runs_nothing(
    engine, innocent: Path, tmp_path: Path, faults: Faults, name: str
) -> None:
    run, ran = tmp_path / "run", tmp_path / "ran"
    shutil.copytree(innocent, run)
    (run / "recipe.py").write_text(f"open({str(ran)!r}, 'w')")
    MALICIOUS[name](run, ran)
    if "manifest" not in name:
        _manifest(run)
    scan = scan_file(tmp_path / "scan.nii", np.full((3, 8, 8), 40, "<i2"))
    code, out, err = engine("denoise", scan, "-m", run, "-q")
    assert (code, out) == (5, ""), err
    assert sum("engine: error: " in line for line in err.splitlines()) == 1
    assert len(err) < 1000
    assert not ran.exists()
    assert not list(tmp_path.glob("scan_*"))
    faults.handled()


# -- Run folders that keep code --------------------------------------------------------------------

PART = """
open({ran!r}, "w").close()
from dataclasses import dataclass
from engine import networks

@dataclass(frozen=True)
class UNet3D(networks.UNet3D):
    pass
"""


def _keeping(files: dict[str, str], kind: str = "recipe.py:UNet3D", **changes: object):
    """A run whose network is a part of code that it keeps, with matching hashes.

    Args:
        files: kept beside recipe.py; `{ran}` is the file that they write if they run.
        kind: of the network.
        changes: `code` is another value of that field; `after` changes the folder of the code.
    """

    def plant(run: Path, ran: Path) -> None:
        texts = {"recipe.py": PART, **files}
        contents = {name: text.replace("{ran!r}", repr(str(ran))).encode()
                    for name, text in texts.items()}  # fmt: skip
        hashes = {name: hashlib.sha256(block).hexdigest() for name, block in contents.items()}
        folder = run / "code" / sha256_of(hashes)[:16]
        for name, block in contents.items():
            path = Path(os.path.normpath(folder / name))
            if path.is_relative_to(run.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(block)
        fields = json.loads((run / "recipe.json").read_bytes())
        fields["network"]["kind"] = kind
        fields["code"] = changes.get("code", hashes)
        (run / "recipe.json").write_text(json.dumps(fields))
        if "after" in changes:
            changes["after"](folder)

    return plant


def _instead(make: Callable[[Path], object], name: str = "recipe.py"):
    """Puts something else in the place of a kept file."""

    def change(folder: Path) -> None:
        (folder / name).rename(folder / "kept")
        make(folder / name)

    return change


def _moved(folder: Path) -> None:
    """The folder of the code is a symlink to one outside of the run."""
    target = folder.parents[2] / "outside"
    folder.rename(target)
    folder.symlink_to(target)


EVIL = "open({ran!r}, 'w').close()"
# None of these runs, whether the user asks for it or not.
FORGED = {
    "code with another hash": _keeping({}, after=lambda f: (f / "recipe.py").write_text(EVIL)),
    "code that is missing": _keeping({}, after=lambda f: (f / "recipe.py").unlink()),
    "code that is a symlink": _keeping({}, after=_instead(lambda path: path.symlink_to("kept"))),
    "code in a folder that is a symlink": _keeping({}, after=_moved),
    "code that is a pipe": _keeping({}, after=_instead(os.mkfifo)),
    "code that is a folder": _keeping({}, after=_instead(os.mkdir)),
    "code that is a device": _keeping({}, after=_instead(lambda p: p.symlink_to("/dev/zero"))),
    "code beyond a mebibyte": _keeping({"recipe.py": PART + "#" * 2**20}),
    "code above its folder": _keeping({"../x.py": EVIL}, kind="../x.py:UNet3D"),
    "code above the run": _keeping({"../../../x.py": EVIL}),
    "code at an absolute path": _keeping({"/tmp/x.py": EVIL}),
    "code with dots in its folders": _keeping({"a/../../x.py": EVIL}),
    "code without an ending": _keeping({"x": EVIL}),
    "code that is compiled": _keeping({"x.pyc": EVIL, "x.so": EVIL}),
    "code that hides os": _keeping({"os.py": EVIL}),
    "code that hides TensorFlow": _keeping({"tensorflow/__init__.py": EVIL}),
    "code that hides the engine": _keeping({"engine/networks.py": EVIL}),
    "files without number": _keeping({f"m{i}.py": "" for i in range(100)}),
    "hashes that are a list": _keeping({}, code=["recipe.py"]),
    "hashes that are null": _keeping({}, code=None),
    "hashes that are numbers": _keeping({}, code={"recipe.py": 5}),
    "hashes that are short": _keeping({}, code={"recipe.py": "ab"}),
    "hashes without the recipe": _keeping({}, code={"x.py": "0" * 64}),
    "no hashes": _keeping({}, code={}),
}  # fmt: skip
# These name what their code does not define: it runs if the user asks, and they are refused.
MISNAMED = {
    "a part of Python's": _keeping({"recipe.py": "import os\n" + PART}, kind="recipe.py:os"),
    "a part that the code imports": _keeping(
        {"recipe.py": "from pathlib import Path as UNet3D\n" + EVIL}
    ),
    "a part of another file": _keeping({}, kind="x.py:UNet3D"),
    "a part of a module that it imports": _keeping({}, kind="recipe.py:networks.UNet3D"),
    "a part of an installed module": _keeping({}, kind="os:system"),
    "a part that is no dataclass": _keeping(
        {"recipe.py": EVIL + "\nclass UNet3D:\n    def __init__(self, **fields):\n        1 / 0"}
    ),
    "a part that is a function": _keeping({"recipe.py": EVIL + "\ndef UNet3D(**fields): 1 / 0"}),
    "a part that is no network": _keeping(
        {"recipe.py": PART.replace("(networks.UNet3D)", "").replace(
            "pass", "width: int = 2\n    levels: int = 2")}
    ),
}  # fmt: skip
HONEST = {"code that is what it says": _keeping({})}


def _received(innocent: Path, tmp_path: Path, plant: Callable[[Path, Path], None]) -> Path:
    run = tmp_path / "run"
    shutil.copytree(innocent, run)
    plant(run, tmp_path / "ran")
    return run


@pytest.mark.parametrize("name", [*FORGED, *MISNAMED, *HONEST])
def test_code_of_a_run_folder_does_not_run_by_itself(
    engine, innocent: Path, tmp_path: Path, faults: Faults, name: str
) -> None:
    run = _received(innocent, tmp_path, {**FORGED, **MISNAMED, **HONEST}[name])
    scan = scan_file(tmp_path / "scan.nii", np.full((3, 8, 8), 40, "<i2"))
    network = ("crop.shape=8,16,16", "network.width=2", "network.levels=2")
    commands = [
        ("denoise", scan, "-m", run, "-q"),
        ("denoise", scan, "-m", run, "-q", "--plan"),
        ("evaluate", run, "noisy", "--data", tmp_path, "-o", tmp_path / "report"),
        ("evaluate", f"spade@{run}", "--data", tmp_path, "-o", tmp_path / "report"),
        ("fit", run, "--data", tmp_path),
        ("fit", "unet3d", *network, "--from", run, "--data", tmp_path, "--run", tmp_path / "new"),
        ("import", run, "--run", tmp_path / "new"),
    ]
    for command in commands:
        code, out, err = engine(*command)
        assert (code, out, err.count("\n")) == (5, "", 1), (command, err)
        assert err.startswith("engine: error: "), err
        assert len(err) < 1000
        if name in HONEST:
            assert "--run-code" in err
        faults.handled()
    assert engine("info", run)[0] in (0, 5)
    assert not (tmp_path / "ran").exists()
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "scan.nii", "outside", "x.py"}


def _refused_with_run_code(engine, run: Path, folder: Path) -> None:
    scan = scan_file(folder / "scan.nii", np.full((3, 8, 8), 40, "<i2"))
    code, out, err = engine("denoise", scan, "-m", run, "-q", "--run-code")
    assert (code, out, err.count("\n")) == (5, "", 1), err


@pytest.mark.parametrize("name", FORGED)
def test_forged_code_does_not_run_although_the_user_asks(
    engine, innocent: Path, tmp_path: Path, faults: Faults, name: str
) -> None:
    _refused_with_run_code(engine, _received(innocent, tmp_path, FORGED[name]), tmp_path)
    assert not (tmp_path / "ran").exists()
    faults.handled()


@pytest.mark.parametrize("name", MISNAMED)
def test_a_part_that_the_code_does_not_define_is_refused(
    engine, innocent: Path, tmp_path: Path, faults: Faults, name: str
) -> None:
    _refused_with_run_code(engine, _received(innocent, tmp_path, MISNAMED[name]), tmp_path)
    faults.handled()


def test_honest_code_runs_if_the_user_asks_and_a_sidecar_is_verified_only_then(
    engine, innocent: Path, tmp_path: Path, faults: Faults
) -> None:
    run = _received(innocent, tmp_path, HONEST["code that is what it says"])
    scan = scan_file(tmp_path / "scan.nii", np.full((3, 8, 8), 40, "<i2"))
    code, _, err = engine("denoise", scan, "-m", run, "-q", "--run-code")
    assert (code, (tmp_path / "ran").exists()) == (0, True), err
    (tmp_path / "ran").unlink()
    # The same run in the hands of another process.
    words = [sys.executable, "-m", "engine", "verify", tmp_path / "scan_denoised.nii", "-m", run]
    for more, expected in (([], 5), (["--run-code"], 0)):
        done = subprocess.run([*words, *more], capture_output=True, text=True, check=False)
        assert done.returncode == expected, done.stderr
        assert (tmp_path / "ran").exists() == bool(more)
        faults.handled()


def test_the_copy_of_a_prior_s_network_does_not_run_by_itself(
    engine, innocent: Path, cpu, tmp_path: Path, faults: Faults
) -> None:
    prior = untrained(tmp_path / "flat", tiny("unet2d"), cpu).folder
    given = untrained(tmp_path / "outer", tiny("respr_unet3d", f"prior={prior}"), cpu).folder
    shutil.copytree(prior, given / "prior")
    plant = _keeping({"recipe.py": PART.replace("3D", "2D")}, kind="recipe.py:UNet2D")
    plant(given / "prior", tmp_path / "ran")
    scan = scan_file(tmp_path / "scan.nii", np.full((3, 8, 8), 40, "<i2"))
    code, out, err = engine("denoise", scan, "-m", given, "-q")
    assert (code, out) == (5, ""), err
    assert "prior/code/" in err
    assert not (tmp_path / "ran").exists()
    faults.handled()
    assert engine("denoise", scan, "-m", given, "-q", "--run-code")[0] == 0
    assert (tmp_path / "ran").exists()
    faults.handled()


RUN_JSON = {
    "beyond every size": '{"cases": "' + "x" * (65 * 2**20) + '"}',
    "nested deeply": DEEP,
    "cases that are a list": '{"cases": []}',
    "an origin that is a word": '{"started_from": "../../etc"}',
    "an origin that climbs": '{"started_from": {"folder": "../../etc", "run": 5, "step": "x"}}',
}


@pytest.mark.parametrize("name", RUN_JSON)
def test_the_record_of_a_run_is_only_read(
    engine, innocent: Path, tmp_path: Path, faults: Faults, name: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(innocent, run)
    (run / "run.json").write_text(RUN_JSON[name])
    (run / "metrics.jsonl").write_text(f'{{"method": 5}}\n{DEEP}\n{{"method": "a", "mean": []}}\n')
    code, _, err = engine("info", run)
    assert code in (0, 5)
    assert err.count("\n") == (code == 5)
    scan = scan_file(tmp_path / "scan.nii", np.full((3, 8, 8), 40, "<i2"))
    assert engine("denoise", scan, "-m", run, "-q")[0] == 0  # it needs nothing of run.json
    faults.handled()


def test_sets_of_pairs_and_weights_that_hold_objects_are_refused(
    engine, tmp_path: Path, faults: Faults
) -> None:
    ran = tmp_path / "ran"
    evil = np.empty((4, 8, 8), object)
    evil[:] = Evil(ran)
    names = ("train_ns", "train_gt", "test_ns", "test_gt")
    np.savez(tmp_path / "pairs.npz", **dict.fromkeys(names, evil))
    code, _, err = engine("fit", "cnn4", "--data", tmp_path / "pairs.npz", "--dry-run")
    assert (code, err.count("\n")) == (3, 1), err
    faults.handled()
    (tmp_path / "weights.h5").write_bytes(_pickle({}, ran))
    words = ("--network", "unet2d", "--run", tmp_path / "imported")
    code, _, err = engine("import", tmp_path / "weights.h5", *words)
    assert (code, err.count("\n")) == (3, 1), err
    faults.handled()
    assert not ran.exists()


def test_cache_entries_with_objects_are_rebuilt(
    engine, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    from volumes.dataset import find_cases
    from volumes.dataset.store import _LAYOUT, Store

    cache, ran = tmp_path / "cache", tmp_path / "ran"
    case = find_cases(dataset)[0]
    whole = np.array(Store(cache).volume(case).hu)
    (array,) = (path for path in (cache / _LAYOUT).glob("*.npy") if "-" not in path.stem)
    evil = np.empty((), object)
    evil[()] = Evil(ran)
    np.save(array, evil, allow_pickle=True)
    np.testing.assert_array_equal(Store(cache).volume(case).hu, whole)
    faults.handled()
    for text in (DEEP, HUGE, "[]", '{"crc32": "x", "shape": "../.."}'):
        array.with_suffix(".json").write_text(text)
        np.testing.assert_array_equal(Store(cache).volume(case).hu, whole)
        faults.handled()
    assert not ran.exists()


# -- Who was scanned -------------------------------------------------------------------------------

CANARY = "Canary^Jane"


def _named(folder: Path, cases: int) -> Path:
    """Scans whose header has a patient's name in every free text."""
    for number in range(cases):
        rng = np.random.default_rng(number)
        hu = rng.integers(-900, 300, (8, 32, 32)).astype("<i2")
        path = folder / f"case_{number:05d}" / "imaging.nii"
        path.parent.mkdir(parents=True)
        scan_file(path, hu, extension=comment(f"for {CANARY}, born 1970".encode()))
        block = bytearray(path.read_bytes())
        for first, length in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)):
            block[first : first + length] = CANARY.encode()[:length].ljust(length, b"\0")
        path.write_bytes(block)
    return folder


def _holding(folder: Path, text: str) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (text.encode() in path.read_bytes() or text in path.name)
    ]


def test_patient_names_are_only_in_the_scan_itself(
    engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: Faults
) -> None:
    home = tmp_path / "home-of-a-person"
    cache, run, out = home / "cache", home / "runs" / "a", home / "out"
    monkeypatch.setenv("ENGINE_CACHE", str(cache))
    data = _named(home / "data", 3)
    scan = data / "case_00000" / "imaging.nii"
    said = [
        engine("fit", "unet3d", *shrinking(), "--data", data, "--run", run, "-v"),
        engine("denoise", scan, "-m", run, "-v", "-o", out, "--save-residual"),
        engine("info", out / "case_00000_denoised.nii"),
        engine("verify", out / "case_00000_denoised.nii", "--input", scan, "-m", run),
        engine("denoise", scan, "-m", run, "--overwrite", "--strip-phi", "-o", home / "bare.nii"),
        engine("verify", home / "bare.nii", "--input", scan),
    ]
    assert [code for code, _, _ in said] == [0] * 6
    canary = CANARY[:10]
    for _, stdout, stderr in said:
        assert canary not in stdout + stderr
        faults.handled()
    for place in (cache, run, home / "bare.nii", home / "bare.json"):
        if place.is_dir():
            assert list(place.rglob("*"))
            assert _holding(place, canary) == []
        else:
            assert canary.encode() not in content(place)
        faults.handled()
    kept = ["case_00000_denoised.nii", "case_00000_residual.nii"]  # the user's own files
    assert _holding(out, canary) == kept
    faults.handled()
    # Nor does what travels with a scan or a model name the folders of the one who made it.
    assert _holding(out, home.name) == []
    assert _holding(cache, home.name) == []
    assert _holding(run, home.name) == []
    command = Run(run).record().content["command"]
    assert command[:2] == ["engine", *command[1:2]]
    assert not any(os.path.isabs(word) for word in command)
    faults.handled(3)
