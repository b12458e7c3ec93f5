"""Options that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from volumes.nifti.read_options import ReadOptions

Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print only results and errors.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print more.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of all random numbers.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing output.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="A file for one input, else a folder.")
]
AssumeHu = Annotated[
    bool, typer.Option("--assume-hu", help="Accept values that do not look like HU.")
]
BadCrc = Annotated[bool, typer.Option("--allow-bad-crc", help="Accept a wrong gzip checksum.")]
MaxGib = Annotated[
    float, typer.Option("--max-gib", min=0.0, help="Refuse scans with more GiB of voxels.")
]
WhichVolume = Annotated[
    int | None, typer.Option("--volume", min=0, help="Volume of a 4D file, counted from 0.")
]
Axes = Annotated[
    str | None,
    typer.Option("--axes", metavar="ZYX", help="The stored axes in the order of the file, in place "
                 "of those of its header: ZYX for a numpy array (Z, Y, X)."),
]  # fmt: skip
Devices = Annotated[str, typer.Option("--devices", help="auto, cpu, gpu or gpu:0.")]
Precision = Annotated[
    str, typer.Option("--precision", help="auto (float32), float32, bfloat16 or float16.")
]
TrainingPrecision = Annotated[
    str,
    typer.Option("--precision", help="auto (float32 on a CPU, bfloat16 or float16 on a GPU), "
                 "float32, bfloat16 or float16."),
]  # fmt: skip
Xla = Annotated[str, typer.Option("--xla", help="auto (on a GPU), on or off.")]
RunCode = Annotated[
    bool,
    typer.Option("--run-code", help="Run the Python files that the named runs keep, where these "
                 "files define their networks. Read them first."),
]  # fmt: skip
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        readable=False,
        help="Folder of cases, or a file of pairs (.h5, .npz). Default: $ENGINE_DATA, else ./data.",
    ),
]
Which = Annotated[str, typer.Option("--checkpoint", help="best, last or a step.")]


def data_folder(named: Path | None) -> Path:
    """The folder of the cases: that of --data, else $ENGINE_DATA, else ./data."""
    return named or Path(os.environ.get("ENGINE_DATA", "data")).expanduser()


def read_options(
    hu: bool, checksum: bool, gib: float, volume: int | None, axes: str | None
) -> ReadOptions:
    """The read options of a command.

    Raises:
        BadUsage: if `axes` is not an order of X, Y and Z.
    """
    from engine.errors import BadUsage
    from volumes.nifti.read_options import ReadOptions

    try:
        return ReadOptions(hu, checksum, gib, volume, None if axes is None else axes.upper())
    except ValueError as error:
        remedy = "Name X, Y and Z in the order of the file, such as ZYX"
        raise BadUsage("--axes", f"takes an order of X, Y and Z, not {axes!r}", remedy) from error


def shape(text: str, option: str) -> tuple[int, int, int]:
    """Three positive numbers Z,Y,X, from the text of an option.

    Raises:
        BadUsage: with the option.
    """
    from engine.errors import BadUsage

    try:
        z, y, x = (int(part) for part in text.split(","))
    except ValueError as error:
        remedy = "Write three numbers such as 32,256,256"
        raise BadUsage(option, f"takes Z,Y,X, not {text!r}", remedy) from error
    if min(z, y, x) < 1:
        raise BadUsage(option, f"takes positive numbers, not {text!r}", "Write such as 32,256,256")
    return z, y, x
