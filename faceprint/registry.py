"""Name -> factory tables. They are written out where they live, so that they can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Generic, TypeVar

from faceprint.errors import UserError

T = TypeVar("T")


def unknown(kind: str, given: object, allowed: list[str]) -> UserError:
    """The error for a `given` name that is none of `allowed`: it names the nearest and lists them all."""
    nearest = get_close_matches(str(given).lower(), [name.lower() for name in allowed], n=1, cutoff=0.5)
    hint = ""
    if nearest:
        best = next(name for name in allowed if name.lower() == nearest[0])
        hint = f" (nearest: {best!r})"
    return UserError(f"unknown {kind} {given!r}{hint}; allowed: {', '.join(allowed) or 'none'}")


class Table(Mapping[str, T], Generic[T]):
    """A read-only mapping of names to factories whose look-up error helps.

    `kind` is the word for one row in messages ("margin", "network"). A name given twice is an error.
    """

    def __init__(self, kind: str, rows: list[tuple[str, T]]) -> None:
        self.kind = kind
        self._rows: dict[str, T] = {}
        for name, factory in rows:
            if name in self._rows:
                raise ValueError(f"{kind} {name!r} is registered twice")
            self._rows[name] = factory

    def __getitem__(self, name: str) -> T:
        if name not in self._rows:
            raise unknown(self.kind, name, list(self._rows))
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def matching(self, pattern: str = "*") -> list[str]:
        """Names that match the shell `pattern`, in table order; matching is case-sensitive."""
        return [name for name in self._rows if fnmatchcase(name, pattern)]
