"""De-identification: clears the free text of a NIfTI header.

Scanners and converters write names and dates into these fields. They do not describe the voxels,
but may identify the patient, the date and the place.
"""

from __future__ import annotations

import struct

# (first byte, length) in the headers of NIfTI-1 and of NIfTI-2.
_FIELDS = {
    348: {
        "data_type": (4, 10), "db_name": (14, 18), "descrip": (148, 80), "aux_file": (228, 24),
        "intent_name": (328, 16),
    },
    540: {
        "descrip": (240, 80), "aux_file": (320, 24), "intent_name": (508, 16),
        "unused_str": (525, 15),
    },
}  # fmt: skip
_VOX_OFFSET = {348: (108, "f"), 540: (168, "q")}


def cleared(head: bytes) -> bytes:
    """A header without free text and extensions: the bytes before the first voxel.

    Everything between the header and the voxels is removed, so vox_offset changes. All other fields
    keep their bytes.

    Args:
        head: of a valid NIfTI-1 or NIfTI-2 file.
    """
    little = struct.unpack_from("<i", head)[0] in _FIELDS
    order = "<" if little else ">"
    size = struct.unpack_from(f"{order}i", head)[0]
    header = bytearray(head[:size])
    for first, length in _FIELDS[size].values():
        header[first : first + length] = bytes(length)
    at, kind = _VOX_OFFSET[size]
    struct.pack_into(f"{order}{kind}", header, at, size + 4)
    return bytes(header) + bytes(4)
