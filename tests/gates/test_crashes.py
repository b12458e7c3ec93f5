"""G2: every state that a crash or a power cut can leave of a save.

The operations of a save are recorded once. What a disk may hold of them at any moment is then laid
down: after a kill, all of them up to one that is torn; after a power cut, what was synced, and of
all else, names and contents alike, any part.
"""

import itertools
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from engine.checkpoints import checkpoint
from engine.checkpoints.checkpoint import Progress
from tests.gates.disk import Disk, Operation

pytestmark = pytest.mark.gate("G2")


def arrays(step):
    rng = np.random.default_rng(step)
    return {
        "model/kernel": rng.standard_normal((3, 5)).astype(np.float32),
        "adam/n": np.int64(step),
    }


@dataclass
class File:
    """What was written and what of it was synced."""

    written: bytes = b""
    synced: bytes = b""


Names = dict[str, "File | Folder"]


@dataclass
class Folder:
    """The names that it had since it was synced: a journal keeps their order, or loses the last."""

    since: list[Names] = field(default_factory=lambda: [{}])

    @property
    def names(self) -> Names:
        return self.since[-1]

    def change(self, change) -> None:
        self.since.append(dict(self.names))
        change(self.names)

    def sync(self) -> None:
        del self.since[:-1]


def model_of(path: Path) -> File | Folder:
    """What lies at a path, all of it synced."""
    if path.is_file():
        return File(path.read_bytes(), path.read_bytes())
    return Folder([{inner.name: model_of(inner) for inner in path.iterdir()}])


def replayed(root: Path, before: Folder, operations: list[Operation]) -> Folder:
    """The disk after some operations."""

    def found(path: Path) -> File | Folder:
        node = top
        for name in path.relative_to(root.parent).parts:
            node = node.names[name]
        return node

    top = Folder([{root.name: before}])
    for operation in operations:
        parent, name = found(operation.path.parent), operation.path.name
        match operation.kind:
            case "mkdir":
                parent.change(lambda names, name=name: names.update({name: Folder()}))
            case "open":
                parent.change(lambda names, name=name: names.update({name: File()}))
            case "write":
                parent.names[name].written += operation.block
            case "fsync" if isinstance(node := found(operation.path), Folder):
                node.sync()
            case "fsync":
                node.synced = node.written
            case "rename":
                assert operation.to.parent == operation.path.parent
                target = operation.to.name
                parent.change(lambda names, a=name, b=target: names.update({b: names.pop(a)}))
            case "unlink" | "rmdir":
                parent.change(lambda names, name=name: names.pop(name))
            case other:
                raise AssertionError(other)
    return before


def laid(path: Path, node: File | Folder, content, names) -> None:
    """Lays a disk down: `content` and `names` say what of a file and of a folder it kept."""
    if isinstance(node, File):
        path.write_bytes(content(node))
        return
    path.mkdir()
    for name, inner in names(node).items():
        laid(path / name, inner, content, names)


KEPT = {
    "all, torn": (lambda f: f.written, lambda d: d.names),
    "names alone": (lambda f: f.synced, lambda d: d.names),
    "names over zeros": (
        lambda f: f.synced.ljust(len(f.written), b"\0"), lambda d: d.names,
    ),
    "contents alone": (lambda f: f.written, lambda d: d.since[0]),
    "what was synced": (lambda f: f.synced, lambda d: d.since[0]),
}  # fmt: skip


def any_part(random):
    """Of a file any part from what was synced on, of a folder the names of any moment since."""

    def content(file):
        return file.written[: random.randint(len(file.synced), len(file.written))]

    return content, lambda folder: random.choice(folder.since)


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder with the steps 2 and 4, and what a save does to it."""

    def record(step):
        folder = tmp_path / "checkpoints"
        for old in (2, 4):
            checkpoint.save(folder, arrays(old), Progress(old, 4, 0.5) if old == 4 else Progress(2))
        shutil.copytree(folder, tmp_path / "before")
        with Disk(folder).watched() as disk:
            checkpoint.save(folder, arrays(step + 100), Progress(step, 4, 0.5))
        monkeypatch.setattr("os.fsync", lambda _: None)  # what follows need not reach a disk
        return tmp_path / "before", folder, disk.done

    return record


def judged(folder, acceptable, at_least):
    """Loads from what a crash left, as a resume does; goes on from there."""
    said = []
    checkpoint.sweep(folder)
    found = checkpoint.newest(folder, said.append)
    assert not said, said
    whole = [checkpoint.verified(checkpoint.place(folder, s)) for s in checkpoint.steps(folder)]
    assert len(whole) >= at_least
    held = checkpoint.load(checkpoint.place(folder, found.step))
    version = int(held["adam/n"])
    assert version in acceptable, f"{version} of {acceptable}"
    for name, array in arrays(version).items():
        np.testing.assert_array_equal(held[name], array)
    checkpoint.save(folder, arrays(8), Progress(8, 4, 0.5))
    assert checkpoint.newest(folder, said.append).step == 8
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("step", [6, 4], ids=["a new step", "a step that is there"])
def test_a_crash_during_a_save_leaves_the_old_or_the_new_checkpoint(
    recorded, tmp_path, faults, step
):
    before, folder, operations = recorded(step)
    root = Path(folder).resolve()
    named = next(i for i, o in enumerate(operations) if o.to == root / f"step-{step:08d}")
    synced = Operation("fsync", root)
    durable = next(i for i in itertools.count(named) if operations[i] == synced)
    old, new = 4, step + 100
    # A step that is there, and is another, is renamed away before the new one gets its name.
    gone = step == 4
    parts = faults.times(push=2, soak=60)
    for done in range(len(operations) + 1):
        torn = [()]
        if done < len(operations) and operations[done].kind == "write":
            block = operations[done].block
            cuts = {0, 1, len(block) // 2, len(block) - 1}
            torn = [(Operation("write", operations[done].path, block=block[:n]),) for n in cuts]
        ways = [(name, *way, last) for name, way in KEPT.items() for last in torn[:1]]
        ways += [("all, torn", *KEPT["all, torn"], last) for last in torn[1:]]
        ways += [
            (f"part {i}", *any_part(faults.random(step, done, i)), torn[0]) for i in range(parts)
        ]
        for name, content, names, last in ways:
            shutil.rmtree(folder)
            model = replayed(root, model_of(before), [*operations[:done], *last])
            laid(folder, model, content, names)
            if done > durable:
                acceptable = {new}
            elif done <= named - (2 if gone else 0):
                acceptable = {old}
            else:
                acceptable = {old, new, 2} if gone else {old, new}
            try:
                judged(folder, acceptable, at_least=1 if gone else 2)
            except Exception as error:
                raise AssertionError(
                    f"{name} of {done} operations, {operations[:done][-1:]}"
                ) from error
            faults.handled()
