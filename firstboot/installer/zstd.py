"""libzstd, by its simple API (zstd.h): a whole frame at once, outside of Python's lock, into memory that is there.

Debian's Python 3.13 has no zstd of its own, and the program would have all bytes go through two pipes.
"""

from __future__ import annotations

import ctypes
from functools import cache

from firstboot.errors import ImageError

_LIBRARY = "libzstd.so.1"


def unpack(frame: memoryview, into: memoryview) -> int:
    """Unpack a frame into memory; how many bytes that was. Both are writable, as ctypes wants them.

    Raises ImageError in libzstd's words: for what is no frame, and for one that holds more than there is room for.
    """
    library = _library()
    count: int = library.ZSTD_decompress(_start(into), len(into), _start(frame), len(frame))
    if library.ZSTD_isError(count):
        raise ImageError(library.ZSTD_getErrorName(count).decode())
    return count


def _start(view: memoryview) -> ctypes.Array[ctypes.c_char]:
    return (ctypes.c_char * len(view)).from_buffer(view)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.ZSTD_decompress.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
    library.ZSTD_decompress.restype = ctypes.c_size_t
    library.ZSTD_isError.argtypes = [ctypes.c_size_t]
    library.ZSTD_isError.restype = ctypes.c_uint
    library.ZSTD_getErrorName.argtypes = [ctypes.c_size_t]
    library.ZSTD_getErrorName.restype = ctypes.c_char_p
    return library
