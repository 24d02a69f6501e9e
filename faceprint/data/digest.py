"""What a set holds, in checksums that another format, another order and a second reading can be compared by."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256

PART = 1024
"""Images of one entry of `Digest.parts`: where a set differs is known to as many."""


def image_digest(class_name: str, data: bytes) -> bytes:
    """SHA-256 of the identity's name (UTF-8), a zero byte and the SHA-256 of the encoded image."""
    return sha256(class_name.encode("utf-8", "surrogatepass") + b"\0" + sha256(data).digest()).digest()


@dataclass
class Digest:
    """Grows image by image.

    `content` is the sum of all `image_digest`s modulo 2^256, 64 hexadecimal digits: the same for the same labelled
    images in any order and any format. `parts` are SHA-256s over the digests of each 1024 images in a row.
    """

    images: int = 0
    total: int = 0
    parts: list[str] = field(default_factory=list[str])
    _open: bytearray = field(default_factory=bytearray)

    @property
    def content(self) -> str:
        return f"{self.total:064x}"

    def add(self, digest: bytes) -> bool:
        """Add one image; True where it completes a part."""
        self.images += 1
        self.total = (self.total + int.from_bytes(digest, "big")) % 2**256
        self._open += digest
        return self.images % PART == 0 and self.end()

    def end(self) -> bool:
        """Close the part that is open: at its length, and at the end of the set."""
        if self._open:
            self.parts.append(sha256(self._open).hexdigest())
            self._open.clear()
        return True
