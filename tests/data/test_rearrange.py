"""Orders, parts and unions of sets: what is in them, by counting."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from faceprint.data.files import make_file_source
from faceprint.data.name_list import read_name_list
from faceprint.data.path_names import with_names
from faceprint.data.rearrange import chosen, divided, merged, shuffled
from faceprint.data.source import Source
from faceprint.errors import UserError

sys.path.insert(0, str(Path(__file__).parent))
from blobs import Blobs, blobs

SIZES = (1, 2, 3, 10, 40, 7)


def people(prefix: str = "") -> Blobs:
    """Six identities with 1, 2, 3, 10, 40 and 7 images, mixed, with paths."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(SIZES)), SIZES))
    names = [f"{prefix}p{label}" for label in range(len(SIZES))]
    return Blobs(labels, names, [f"{names[label]}/{i}.jpg" for i, label in enumerate(labels)])


def content(source: Source) -> Counter[tuple[str, str]]:
    return Counter((source.class_names[label], source.stored_path(i)) for i, label in enumerate(source.labels.tolist()))


def test_a_shuffle_loses_nothing_and_follows_the_seed() -> None:
    source = people()
    one, again, other = (shuffled(source, seed) for seed in (3, 3, 4))
    assert content(one) == content(source)
    assert np.array_equal(one.indices, again.indices)
    assert not np.array_equal(one.indices, other.indices)
    assert not np.array_equal(one.indices, np.arange(len(source)))


def test_a_split_by_identity_shares_nobody() -> None:
    source = blobs(1000)
    parts = divided(source, [0.5, 0.3, 0.2], by="identity", seed=0)
    assert [len(part.class_names) for part in parts] == [5, 3, 2]
    assert sum((content(part) for part in parts), Counter()) == content(source)
    assert len({name for part in parts for name in part.class_names}) == 10
    assert all(np.all(np.diff(part.indices) > 0) for part in parts), "images keep their order"
    assert list(divided(source, [0.5, 0.5], by="identity", seed=1)[0].class_names) != list(
        divided(source, [0.5, 0.5], by="identity", seed=2)[0].class_names
    )


def test_a_split_by_image_gives_each_part_its_share_of_everybody() -> None:
    source = blobs(1000)
    parts = divided(source, [0.7, 0.3], by="image", seed=0)
    assert [np.bincount(part.labels).tolist() for part in parts] == [[70] * 10, [30] * 10]
    assert sum((content(part) for part in parts), Counter()) == content(source)
    small = divided(people(), [0.5, 0.5], by="image", seed=0)
    for name, size in zip(people().class_names, SIZES, strict=True):
        found = [sum(count for (who, _), count in content(part).items() if who == name) for part in small]
        assert sum(found) == size
        assert abs(found[0] - found[1]) <= 1


@pytest.mark.parametrize("fractions", [[0.5], [0.5, 0.6], [1.5, -0.5], [0.0, 1.0], [float("nan"), 1.0]])
def test_fractions_that_are_none(fractions: list[float]) -> None:
    with pytest.raises(UserError, match="numbers above 0 whose sum is 1"):
        divided(people(), fractions, by="image", seed=0)


def test_splits_that_cannot_be() -> None:
    with pytest.raises(UserError, match="is no image"):
        divided(people(), [0.99, 0.01], by="identity", seed=0)
    with pytest.raises(UserError, match="unknown way to split 'person'"):
        divided(people(), [0.5, 0.5], by="person", seed=0)


def test_merging_separate_or_by_name() -> None:
    one, two = people(), people()
    apart, together = merged([one, two], "separate"), merged([one, two, people("x")], "by-name")
    assert (len(apart), len(apart.class_names)) == (126, 12)
    assert np.array_equal(apart.labels, [*one.labels, *(two.labels + 6)])
    assert list(together.class_names) == [*one.class_names, *people("x").class_names]
    assert np.array_equal(together.labels, [*one.labels, *two.labels, *(two.labels + 6)])
    assert apart.encoded(63 + 5) == two.encoded(5)
    assert [apart.encoded(index) for index in range(63)] == [one.encoded(index) for index in range(63)]
    assert apart.name(125) == "blob 62"
    with pytest.raises(IndexError):
        apart.encoded(126)
    with pytest.raises(UserError, match="unknown way to merge"):
        merged([one], "names")


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_lists_of_identities_and_images(tmp_path: Path) -> None:
    source = people()
    plain = read_name_list(write(tmp_path / "a.txt", "p1\n\np3\n"), "identity")
    assert sorted(chosen(source, identities=plain).class_names) == ["p1", "p3"]
    table = read_name_list(write(tmp_path / "a.csv", f"why,path\nx,{source.paths[4]}\ny,blob 9\n"))
    assert chosen(source, images=table).indices.tolist() == [4, 9]
    left = chosen(source, exclude=table)
    assert (len(left), {4, 9} & set(left.indices.tolist())) == (61, set())
    either = read_name_list(write(tmp_path / "b.txt", f"p4\n{source.paths[4]}\n"))
    assert not {4} & set(chosen(source, exclude=either).indices.tolist())
    assert "p4" not in chosen(source, exclude=either).class_names
    by_name = read_name_list(write(tmp_path / "c.csv", "identity,images\np0,1\n"))
    assert "p0" not in chosen(source, exclude=by_name).class_names


def test_a_table_without_rows_leaves_nothing_out(tmp_path: Path) -> None:
    assert len(chosen(people(), exclude=read_name_list(write(tmp_path / "a", "path\n")))) == len(people())


def test_lists_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 names are not in the set: P9, nobody"):
        chosen(people(), exclude=read_name_list(write(tmp_path / "a", "p1\nnobody\nP9")))
    with pytest.raises(UserError, match="none that names an image"):
        read_name_list(write(tmp_path / "b", "identity\np1\n"), "image")
    with pytest.raises(UserError, match="the list is empty"):
        read_name_list(write(tmp_path / "c", "\n"))
    with pytest.raises(UserError, match="cannot be read"):
        read_name_list(tmp_path / "absent")
    with pytest.raises(UserError, match=r"d:2: cannot be read as CSV \(field larger"):
        read_name_list(write(tmp_path / "d", "path\n" + "a" * 200_000))


def test_names_may_hold_what_ends_lines_elsewhere(tmp_path: Path) -> None:
    """A form feed and U+2028 end lines for str.splitlines, not for CSV and not for the writers of lists."""
    text = "anna\x0cb/1.jpg", "zo\u2028e/2.jpg"
    assert read_name_list(write(tmp_path / "a.txt", "\n".join(text))).names == set(text)
    assert read_name_list(write(tmp_path / "a.csv", "\n".join(["path", *text]))).names == set(text)


def test_limits_on_images() -> None:
    source = people()
    counts = Counter(source.labels.tolist())
    assert sorted(chosen(source, min_images=3).class_names) == [f"p{n}" for n in range(6) if counts[n] >= 3]
    few = chosen(source, max_images=5, seed=1)
    assert sorted(np.bincount(few.labels).tolist()) == sorted(min(5, size) for size in SIZES)
    assert few.indices.tolist() != chosen(source, max_images=5, seed=2).indices.tolist()
    assert np.array_equal(few.indices, np.sort(few.indices))
    assert chosen(source, first=7).indices.tolist() == list(range(7))
    for wrong in ({"min_images": 0}, {"max_images": 0}, {"first": -1}):
        with pytest.raises(UserError, match="give 1 or more"):
            chosen(source, **wrong)
    with pytest.raises(UserError, match="no image meets all"):
        chosen(source, min_images=41)


def test_numbered_identities_get_the_names_of_their_folders() -> None:
    paths = ["x/Ann/1.jpg", "x/Ann/2.jpg", "x/Bob/1.jpg"]
    named = with_names(make_file_source(Path("root"), paths, ["0", "0", "1"]))
    assert (list(named.class_names), named.labels.tolist()) == (["Ann", "Bob"], [0, 0, 1])
    for paths in (["Ann/1.jpg", "Bob/2.jpg", "Bob/1.jpg"], ["a/1.jpg", "a/2.jpg", "a/3.jpg"], ["1.jpg"] * 3):
        assert list(with_names(make_file_source(Path("root"), paths, ["0", "0", "1"])).class_names) == ["0", "1"]
