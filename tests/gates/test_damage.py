"""G3: damaged, swapped, edited checkpoints."""

import hashlib
import json
import os
import shutil
from contextlib import suppress

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.archive import ArrayHeader
from engine.checkpoints.checkpoint import Progress
from engine.errors import Mismatch

pytestmark = pytest.mark.gate("G3")

FILES = ("state.npz", "state.json", "MANIFEST.json")
STEPS = (2, 4, 6)


def arrays(step):
    rng = np.random.default_rng(step)
    return {
        "model/a/kernel": rng.standard_normal((3, 3, 2)).astype(np.float32),
        "model/b/bias": rng.standard_normal(7).astype(np.float32),
        "adam/applied": np.float32(step),
        "seed/0": np.array([step, 1], np.int64),
    }


HEADERS = {name: ArrayHeader(array.shape, array.dtype) for name, array in arrays(0).items()}


def flip(random, folder, path):
    """One to eight bits of a file."""
    file = path / random.choice(FILES)
    content = bytearray(file.read_bytes())
    for _ in range(random.choice([1, 1, 1, 8])):
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def truncate(random, folder, path):
    file = path / random.choice(FILES)
    os.truncate(file, random.randrange(file.stat().st_size))


def grow(random, folder, path):
    with open(path / random.choice(FILES), "ab") as file:
        file.write(random.choice([b"\0", b"\n\n", b"{}", random.randbytes(100)]))


def blank(random, folder, path):
    """A range of zeros, as on a disk that lost a block."""
    file = path / random.choice(FILES)
    content = bytearray(file.read_bytes())
    start = random.randrange(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    file.write_bytes(content)


def swap(random, folder, path):
    """One or two of the three files of two checkpoints are swapped."""
    other = checkpoint.place(folder, random.choice([s for s in STEPS if s != int(path.name[-1])]))
    if not all((other / name).is_file() for name in FILES):  # another damage came before
        return flip(random, folder, path)
    for name in random.sample(FILES, random.choice([1, 2])):
        block = (path / name).read_bytes()
        shutil.copy(other / name, path / name)
        (other / name).write_bytes(block)


def rename(random, folder, path):
    """A whole checkpoint has the name of another step."""
    others = [checkpoint.place(folder, step) for step in (1, 3, 5, 7, 10**9)]
    path.rename(random.choice([other for other in others if not other.exists()]))


def delete(random, folder, path):
    (path / random.choice(FILES)).unlink()


def empty(random, folder, path):
    shutil.rmtree(path)
    random.choice([path.mkdir, path.touch, lambda: path.symlink_to("nowhere")])()


def edit(random, folder, path):
    """A JSON file is rewritten with one changed value."""
    file = path / random.choice(FILES[1:])
    content = json.loads(file.read_text())
    name = random.choice(sorted(content))
    content[name] = random.choice([None, 5, -1, 0.25, "a", [], {}, True, 1e300])
    if random.random() < 0.2:
        content[random.choice(["../state.npz", "/etc/passwd", "more"])] = content.pop(name)
    file.write_text(json.dumps(content, indent=2) + "\n")


def forge(random, folder, path):
    """The progress is impossible, with a matching manifest."""
    state = json.loads((path / "state.json").read_text())
    later = {"step": state["step"] + 2}
    state |= random.choice([later, {"step": None}, {"best_step": 99}, {"best_mse": -1.0}, {"x": 1}])
    certify(path, "state.json", json.dumps(state).encode())


def reshape(random, folder, path):
    """The variables are those of another network, with a matching manifest."""
    other = arrays(int(path.name[-1]))
    name = random.choice(sorted(other))
    match random.randrange(4):
        case 0:
            other[name] = np.zeros((9, 9), other[name].dtype)
        case 1:
            other[name] = other[name].astype(np.float64 if name != "seed/0" else np.int32)
        case 2:
            del other[name]
        case 3:
            other["model/more"] = np.zeros(3, np.float32)
    aside = folder.parent / "aside"
    checkpoint.save(aside, other, Progress(int(path.name[-1]), 2, 0.5))
    shutil.rmtree(path)
    (aside / path.name).rename(path)
    shutil.rmtree(aside)


def replace(random, folder, path):
    """The archive is invalid or contains objects, with a matching manifest."""
    content = random.choice(
        [b"", b"PK\5\6" + bytes(18), random.randbytes(300), (path / "state.json").read_bytes()]
    )
    certify(path, "state.npz", content)


def link(random, folder, path):
    """A file lies elsewhere, or is a pipe, or a folder."""
    file = path / random.choice(FILES)
    away = folder.parent / "elsewhere"
    away.unlink(missing_ok=True)
    file.rename(away)
    random.choice([lambda: file.symlink_to(away), lambda: os.mkfifo(file), file.mkdir])()


def certify(path, name, content):
    (path / name).write_bytes(content)
    manifest = json.loads((path / "MANIFEST.json").read_text())
    manifest[name] = hashlib.sha256(content).hexdigest()
    (path / "MANIFEST.json").write_text(json.dumps(manifest))


DAMAGES = (
    flip, flip, flip, flip, truncate, truncate, grow, blank, swap, swap, rename, delete, empty,
    edit, edit, forge, reshape, replace, link,
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "checkpoints"
    for step in STEPS:
        checkpoint.save(folder, arrays(step), Progress(step, 2, 0.5))
    assert checkpoint.steps(folder) == list(STEPS)  # two and the best
    return folder


def bytes_of(folder):
    """The content of all files below a folder, and the existence of everything else."""
    return sorted(
        path.read_bytes() if path.is_file() else b"no file"
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


def test_no_damaged_checkpoint_is_trained_on_and_no_training_restarts(
    whole, tmp_path, faults, monkeypatch
):
    monkeypatch.setattr("os.fsync", lambda _: None)  # nothing here need reach a disk
    for i in range(faults.times(push=1000, soak=20_000)):
        random = faults.random(i)
        folder = tmp_path / "checkpoints"
        shutil.copytree(whole, folder)
        # Now and then more than one is damaged, or all.
        struck = random.sample(STEPS, random.choice([1, 1, 1, 1, 2, 3]))
        damages = [random.choice(DAMAGES) for _ in struck]
        for step, damage in zip(struck, damages, strict=True):
            path = checkpoint.place(folder, step)
            if path.is_dir() and all((path / n).is_file() for n in FILES):
                damage(random, folder, path)
        told = f"{i}: {[d.__name__ for d in damages]} on {struck}"
        left, said = bytes_of(folder), []
        try:
            found = checkpoint.newest(folder, said.append)
            assert found is not None, f"{told}: started anew"
            held = checkpoint.load(checkpoint.place(folder, found.step), HEADERS)
        except Mismatch:  # the command line ends with 5
            # One that is whole is found, unless a newer one agrees with its manifest, and lies.
            lies = {reshape, replace, swap} & set(damages)
            assert lies or len(struck) == len(STEPS), f"{told}: nothing was found"
        else:
            # Whatever is trained on is one that was saved, whole, under its step.
            assert found == Progress(found.step, 2, 0.5), told
            for name, array in arrays(found.step).items():
                assert held[name].tobytes() == array.tobytes(), told
            if len(struck) == 1 and damages[0] not in (swap,):
                assert found.step == max(s for s in STEPS if s not in struck or s == found.step)
        assert bytes_of(folder) == left, f"{told}: something was deleted"
        with suppress(Mismatch):  # a second time it is no new run either
            assert checkpoint.newest(folder, said.append) is not None
        shutil.rmtree(folder)
        (tmp_path / "elsewhere").unlink(missing_ok=True)
        faults.handled()


RUNS = {
    "its newest is damaged": (0, lambda run: flip_first(run, -1)),
    "all are damaged": (5, lambda run: [flip_first(run, i) for i in (0, 1)]),
    "its checkpoints are gone": (5, lambda run: shutil.rmtree(run / "checkpoints")),
    "its checkpoints were emptied": (
        5, lambda run: [shutil.rmtree(path) for path in (run / "checkpoints").iterdir()],
    ),
    "its newest is of another step": (
        0, lambda run: renumber(run / "checkpoints", 4, 6),
    ),
    "its run.json is gone, and all are damaged": (
        5, lambda run: [(run / "run.json").unlink(), *(flip_first(run, i) for i in (0, 1))],
    ),
}  # fmt: skip


def renumber(folder, step, other):
    checkpoint.place(folder, step).rename(checkpoint.place(folder, other))


def flip_first(run, which):
    path = sorted((run / "checkpoints").glob("step-*"))[which] / "state.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture(scope="module")
def trained(cpu, dataset, tmp_path_factory):
    from engine.cli.main import run
    from tests.engine.tiny import shrinking

    folder = tmp_path_factory.mktemp("trained") / "run"
    words = ["fit", "unet3d", *shrinking(), "--data", str(dataset), "--run", str(folder), "-q"]
    assert run(words) == 0
    return folder


@pytest.mark.parametrize("name", RUNS)
def test_a_run_falls_back_or_is_refused_and_never_restarts(
    trained, engine, dataset, tmp_path, faults, name
):
    from tests.engine.tiny import shrinking

    code, damage = RUNS[name]
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    damage(run)
    words = ["unet3d", *shrinking(), "--data", dataset, "--run", run, "-q"]
    for _ in range(2):
        result = engine("fit", *words)
        assert result[0] == code, result
        faults.handled()
    if code:
        assert f"engine: error: {run}" in result[2]
        assert "--fresh" in result[2]
    else:
        whole, ours = (
            checkpoint.fingerprint(folder / "checkpoints" / "step-00000004")
            for folder in (trained, run)
        )
        assert whole == ours


def test_a_checkpoint_of_another_run_is_refused(trained, engine, dataset, tmp_path):
    """The same network under another seed: names, shapes and hashes are all in order."""
    from tests.engine.tiny import shrinking

    words = ["unet3d", *shrinking(), "--data", dataset, "-q"]
    run, other = tmp_path / "run", tmp_path / "other"
    shutil.copytree(trained, run)
    assert engine("fit", *words, "seed=7", "--run", other)[0] == 0
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(other / "checkpoints", run / "checkpoints")
    code, _, err = engine("fit", *words, "--run", run)
    assert code == 5
    assert "is of another run" in err
