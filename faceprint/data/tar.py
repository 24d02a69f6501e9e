"""Tar archives: where each file lies in one, and how files are written into one. No archive makes this take more memory
than a name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from faceprint.errors import UserError

BLOCK = 512
MAX_NAME = 1 << 16
"""Longest name, or extended header, that is read."""
MAX_MEMBER_NAME = 100
"""Bytes of a name that `make_member` takes."""
_FILES = b"0\0" + b"7"  # POSIX, pre-POSIX and contiguous files
_END = bytes(BLOCK)


class Member(NamedTuple):
    """A file in an archive. `kind` is "file", "folder" or "other": links, devices and what else is no bytes of its own.

    Names are labels here and never paths: nothing is unpacked.
    """

    name: str
    kind: str
    offset: int
    size: int


def read_members(file: Any, size: int, archive: str) -> Iterator[Member]:
    """The members of the tar `file` (a binary file object of `size` bytes), in order; their contents are passed over.

    USTAR, GNU and PAX headers. Raises `UserError` naming `archive` and the byte for a header that is none, a member
    that goes past the end, and an archive without its end marker, as one that was cut off is.
    """
    at, long_name, long_size = 0, None, None
    while True:
        header = _header(file, at, archive)
        if header == _END:
            return
        kind, name, length = header[156:157], _name(header), _number(header[124:136], archive, at)
        if long_size is not None and kind not in b"xgLK":
            length = long_size
        if kind in b"123456":  # links, devices and folders have no bytes, whatever their size says
            length = 0
        start = at + BLOCK
        if start + length > size:
            raise UserError(f"{archive}: {name!r} at byte {at} has {length} bytes, which is past the end of the file")
        if kind in b"xgLK":
            text = _extension(file, length, archive, at)
            if kind == b"L":
                long_name = text.rstrip(b"\0").decode(errors="surrogateescape")
            elif kind == b"x":
                long_name, long_size = _pax(text, archive, at, long_name)
        else:
            yield Member(long_name or name, _kind(kind), start, length)
            long_name, long_size = None, None
        at = start + -(-length // BLOCK) * BLOCK


def read_name(header: bytes) -> str:
    """The name in one header block, cut at 100 characters where the archive holds a longer one beside it."""
    return _name(header)


def _header(file: Any, at: int, archive: str) -> bytes:
    file.seek(at)
    header: bytes = file.read(BLOCK)
    if len(header) < BLOCK:
        raise UserError(f"{archive}: ends at byte {at + len(header)} without the end marker of a tar archive; cut off?")
    if header != _END and _number(header[148:156], archive, at) != sum(header) - sum(header[148:156]) + 8 * 32:
        raise UserError(f"{archive}: byte {at} is no header of a tar archive (wrong checksum)")
    return header


def _number(field: bytes, archive: str, at: int) -> int:
    """Octal text, or base 256 where the first bit is set (GNU, for what octal does not hold)."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.strip(b" \0")
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise UserError(f"{archive}: the header at byte {at} has a number that is none: {field!r}")
    return int(text, 8)


def _name(header: bytes) -> str:
    name, prefix = (header[first:last].split(b"\0")[0] for first, last in ((0, 100), (345, 500)))
    if prefix and header[257:263] == b"ustar\0":  # GNU headers keep other things there
        name = prefix + b"/" + name
    return name.decode(errors="surrogateescape")


def _kind(flag: bytes) -> str:
    return "file" if flag in _FILES else "folder" if flag == b"5" else "other"


def _extension(file: Any, length: int, archive: str, at: int) -> bytes:
    if length > MAX_NAME:
        raise UserError(f"{archive}: the extended header at byte {at} has {length} bytes; at most {MAX_NAME} are read")
    return file.read(length)


def _pax(text: bytes, archive: str, at: int, name: str | None) -> tuple[str | None, int | None]:
    """Name and size in records of the form `LENGTH KEY=VALUE\\n`."""
    size, place = None, 0
    while place < len(text):
        digits = text[place : place + 20].split(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        key, _, value = text[place + len(digits) + 1 : place + length - 1].partition(b"=")
        if length < len(digits) + 3 or place + length > len(text):
            raise UserError(f"{archive}: the extended header at byte {at} is damaged")
        if key == b"path":
            name = value.decode(errors="surrogateescape")
        elif key == b"size":
            if not value.isdigit() or len(value) > 20:
                raise UserError(f"{archive}: the extended header at byte {at} has a size that is none: {value[:20]!r}")
            size = int(value)
        place += length
    return name, size


def make_member(name: str, data: bytes) -> bytes:
    """One file as it stands in an archive: header (USTAR, time 0, readable by all), contents, padding."""
    encoded = name.encode(errors="surrogateescape")
    assert 0 < len(encoded) <= MAX_MEMBER_NAME
    fields = (
        encoded.ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % len(data) + b"%011o\0" % 0,
        b" " * 8 + b"0" + bytes(100),
        b"ustar\x0000" + bytes(64) + b"0000000\0" * 2 + bytes(167),
    )
    header = b"".join(fields)
    header = header[:148] + b"%06o\0 " % sum(header) + header[156:]
    return header + data + bytes(-len(data) % BLOCK)


END_OF_ARCHIVE = _END * 2
