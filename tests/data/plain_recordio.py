"""A second reading of the RecordIO layout, written from its description alone, to check ours against."""

from __future__ import annotations

import struct
from pathlib import Path


def parse_rec(path: Path) -> dict[int, tuple[int, tuple[float, ...], bytes]]:
    """Byte offset -> (id, labels, data) of every record of a file."""
    content, at = path.read_bytes(), 0
    records: dict[int, tuple[int, tuple[float, ...], bytes]] = {}
    while at < len(content):
        start, parts, flag = at, [], -1
        while flag not in (0, 3):
            magic, word = struct.unpack("<II", content[at : at + 8])
            flag, length = word >> 29, word & 0x1FFFFFFF
            assert magic == 0xCED7230A
            assert (flag in (0, 1)) == (not parts)
            parts.append(content[at + 8 : at + 8 + length])
            at += 8 + length
            while at % 4:
                assert content[at] == 0
                at += 1
        records[start] = unpack(struct.pack("<I", 0xCED7230A).join(parts))
    return records


def unpack(payload: bytes) -> tuple[int, tuple[float, ...], bytes]:
    count, scalar, number, _ = struct.unpack("<IfQQ", payload[:24])
    labels = struct.unpack(f"<{count}f", payload[24 : 24 + 4 * count]) if count else (scalar,)
    return number, labels, payload[24 + 4 * count :]


def parse_idx(path: Path) -> dict[int, int]:
    """Key -> byte offset."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    return {int(key): int(offset) for key, offset in lines}


def parse_set(path: Path) -> dict[int, tuple[tuple[float, ...], bytes]]:
    """Key -> (labels, data) by `.idx` and `.rec`; the two must list the same records."""
    records, index = parse_rec(path), parse_idx(path.with_suffix(".idx"))
    assert sorted(index.values()) == sorted(records)
    return {key: records[offset][1:] for key, offset in index.items()}
