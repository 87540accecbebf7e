"""Writes pixels as a PNG, of as few bytes as that takes without a library for images."""

from __future__ import annotations

import struct
import zlib

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB = 0, 2
"""Colour types of PNG (RFC 2083, 4.1.1)."""


def png(width: int, height: int, pixels: bytes, *, channels: int) -> bytes:
    """Return the picture. ``pixels``: rows from the top, a byte for each of 1 (grey) or 3 channels (RGB)."""
    row = width * channels
    # Each row is written as its difference from the one above (filter 2), which is mostly nothing.
    rows = [b"\2" + pixels[:row]]
    for at in range(row, row * height, row):
        above, this = pixels[at - row : at], pixels[at : at + row]
        rows.append(
            b"\2" + (this if above == bytes(row) else bytes((b - a) & 255 for a, b in zip(above, this, strict=True)))
        )
    header = struct.pack(">IIBBBBB", width, height, 8, GREY if channels == 1 else RGB, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(b"".join(rows), 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in parts
    )
