"""What must be known of a DICOM file before any of it is parsed: that nothing in it is unpacked in passing."""

import io
import struct

from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.uid import DeflatedExplicitVRLittleEndian

from data_prep.readers.base import ReaderError

_MOST_META_BYTES = 2**16
_BEFORE_META = 132
BROKEN = (
    OSError,
    EOFError,
    KeyError,
    IndexError,
    AttributeError,
    ValueError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
)
"""What pydicom raises for files that are no DICOM, or a broken one."""


def is_dicom(start: bytes) -> bool:
    """Whether a file of this content is DICOM (PS3.10)."""
    return start[128:_BEFORE_META] == b"DICM"


def refuse_container(data: bytes) -> None:
    """Refuse what may not be handed to pydicom, which inflates a deflated file (PS3.5, A.5) as soon as it is opened.

    The file meta information is read as pydicom itself reads it, so that both find the same transfer syntax.

    Args:
        data: The file, or its start.

    Raises:
        ReaderError: no DICOM file, a deflated one, or one whose meta information is broken or longer than 64 KiB.
    """
    if not is_dicom(data):
        raise ReaderError("not a DICOM file: 'DICM' is not where PS3.10 puts it; export it again")
    window = _BEFORE_META + _MOST_META_BYTES
    file = io.BytesIO(data[:window])
    try:
        read_preamble(file, force=False)
        syntax = _read_file_meta_info(file).get("TransferSyntaxUID")
    except BROKEN as error:
        raise ReaderError(f"broken or truncated DICOM ({type(error).__name__}); copy it again") from None
    if str(syntax or "").strip(" \0") == DeflatedExplicitVRLittleEndian:
        raise ReaderError("a deflated DICOM file, which may unpack to any size; store it uncompressed")
    if file.tell() >= window and len(data) > window:
        raise ReaderError(f"its file meta information is longer than {_MOST_META_BYTES:,} bytes; export it again")
