"""`engine info`, `engine bench` and `engine doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from engine.cli.app import app
from engine.cli.options import (
    Axes,
    BadCrc,
    Debug,
    Devices,
    MaxGib,
    Quiet,
    WhichVolume,
    read_options,
    shape,
)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(help="A scan, a denoised scan, a run folder or a "
                              "folder of scans.")],
    noise: Annotated[
        bool, typer.Option("--noise", help="Measure the noise of a scan: in soft tissue, fat and "
                           "air, its spectrum, and which network it suits.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    allow_bad_crc: BadCrc = False, max_gib: MaxGib = 4.0, volume: WhichVolume = None,
    axes: Axes = None,
    debug: Debug = False,
) -> None:  # fmt: skip
    """Describe a scan, a run or a folder of scans.

    A run includes the fingerprint of its last checkpoint, and the tables of its card.
    """
    from json import dumps

    from engine.diagnostics.info import describe

    trust = read_options(False, allow_bad_crc, max_gib, volume, axes)
    found = describe(path, trust, noise=noise)
    if json:
        print(dumps(found.content(), indent=2))
        return
    width = max(len(name) for name, _ in found.rows)
    for name, value in found.rows:
        print(f"{name:<{width}}  {value}")
    if found.shown:
        print(found.shown)


@app.command()
def bench(
    what: Annotated[str, typer.Argument(help="step: the training step against "
                                        "keras.Model.fit. denoise: ways to denoise a scan. feed: "
                                        "ways to read crops.")
    ] = "step",
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Number of rounds; medians are "
                                        "compared.")] = 5,
    steps: Annotated[int | None, typer.Option("--steps", min=3, help="Of step: training steps a "
                                              "round. Default: 10.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Of step: only show which operations "
                                          "take its time.")] = False,
    of_shape: Annotated[str | None, typer.Option("--shape", metavar="Z,Y,X", help="Of denoise: "
                                                 "voxels. Default: 32,128,128.")] = None,
    width: Annotated[int | None, typer.Option("--width", min=1, help="Of denoise: channels of the "
                                              "3D U-Net. Default: 16.")] = None,
    depths: Annotated[str | None, typer.Option("--depths", metavar="Z,...", help="Of feed: slices "
                                               "of the scans. Default: 16,29,40,64,300,1059.")
    ] = None,
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Compare this program with others on this machine, in one run."""
    from engine.errors import BadUsage
    from engine.terminal import Terminal

    own: dict[str, dict[str, object]] = {
        "step": {"--steps": steps, "--profile": profile or None},
        "denoise": {"--shape": of_shape, "--width": width},
        "feed": {"--depths": depths},
    }  # fmt: skip
    if what not in own:
        raise BadUsage(what, "is no benchmark", f"Use {', '.join(own)}")
    for other in own.keys() - {what}:
        for option, value in own[other].items():
            if value is not None:
                raise BadUsage(option, f"belongs to `bench {other}`", "Leave it out")
    if what == "step":
        from engine.diagnostics.benchmark import step

        if profile:
            step.profile(steps or 10, Terminal(quiet=quiet))
        else:
            step.compare(steps or 10, rounds, Terminal(quiet=quiet))
    elif what == "feed":
        from engine.diagnostics.benchmark import feed

        feed.compare(_depths(depths or "16,29,40,64,300,1059"), rounds, Terminal(quiet=quiet))
    else:
        from engine.diagnostics.benchmark import denoise

        wanted = shape(of_shape or "32,128,128", "--shape")
        denoise.compare(wanted, width or 16, rounds, Terminal(quiet=quiet))


def _depths(text: str) -> list[int]:
    from engine.errors import BadUsage

    found = text.split(",")
    if not all(word.isdecimal() and int(word) > 1 for word in found):
        raise BadUsage("--depths", f"takes numbers above 1, not {text!r}", "Write such as 29,300")
    return [int(word) for word in found]


@app.command()
def doctor(
    devices: Devices = "auto",
    quiet: Quiet = False, debug: Debug = False,
) -> None:  # fmt: skip
    """Check in a minute that this machine trains, denoises, resumes and refuses damaged scans.

    Exit code 0 if all checks pass, else 1.
    """
    from engine.diagnostics.doctor import examine
    from engine.terminal import Terminal

    if not examine(devices, Terminal(quiet=quiet)):
        raise typer.Exit(1)
