"""Name -> factory tables. They are written out where they live, so that they can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Generic, TypeVar

from faceprint.errors import UserError

T = TypeVar("T")


MOST_LISTED = 20
"""Names that an error lists; of more it shows those like the name given."""
_FEW = 5


def unknown(kind: str, given: object, allowed: Sequence[str], all_in: str = "") -> UserError:
    """The error for a `given` name that is none of `allowed`: it names the nearest and lists them all.

    `all_in` says what shows them all (a command); where it is given, more than `MOST_LISTED` names are not listed.
    """
    short = bool(all_in) and len(allowed) > MOST_LISTED
    near = nearest(str(given), allowed, _FEW if short else 1)
    hint = f" (nearest: {', '.join(map(repr, near))})" if near else ""
    rest = f"{all_in} shows them all" if short else f"allowed: {', '.join(allowed) or 'none'}"
    return UserError(f"unknown {kind} {given!r}{hint}; {rest}")


def nearest(given: str, names: Sequence[str], most: int, likeness: float = 0.5) -> list[str]:
    """Those of `names` that `given` may mean, at most `most`, the likest first.

    What has folders in its name is compared by its last part too. `likeness` is the least there must be, from 0 to 1
    (`difflib`), whatever the case of the letters.
    """
    matcher = SequenceMatcher(b=given.lower())

    def like(form: str) -> float:
        matcher.set_seq1(form)
        return matcher.ratio()

    found = {name: max(like(name.lower()), like(PurePosixPath(name.lower()).name)) for name in names}
    ranked = sorted(found, key=lambda name: (found[name], name), reverse=True)
    return [name for name in ranked if found[name] >= likeness][:most]


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
