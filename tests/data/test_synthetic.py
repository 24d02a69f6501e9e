"""Generated identities: the same bytes everywhere, people who stay themselves, a difficulty that means something."""

from __future__ import annotations

import hashlib
import pickle
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from faceprint.data.alignment import TEMPLATE
from faceprint.data.synthetic import SyntheticFaces
from faceprint.data.synthetic_drawing import View
from faceprint.data.synthetic_face import Face
from faceprint.data.synthetic_traits import Conditions, Identity
from faceprint.errors import UserError

SMALL = (40, 36)


def fingerprint(image):
    return hashlib.sha256(image.tobytes()).hexdigest()


def stack(source):
    return np.stack([source[index][0] for index in range(len(source))])


def spread_within(difficulty):
    """Mean absolute difference of pixels between two images of one person."""
    images = stack(SyntheticFaces(20, 4, size=SMALL, difficulty=difficulty)).reshape(20, 4, -1).astype(float)
    return np.mean([np.abs(person[i] - person[j]).mean() for person in images for i in range(4) for j in range(i)])


def best_accuracy(same, different):
    """The accuracy of `score >= threshold` at its best threshold, by trying every score."""
    scores = np.concatenate([same, different])
    return max(((same >= t).sum() + (different < t).sum()) / len(scores) for t in scores)


def raw_pixel_accuracy(difficulty, people=100):
    """Verification with the cosine of raw pixels as the score, on 600 pairs of which half are of one person."""
    images = stack(SyntheticFaces(people, 4, difficulty=difficulty)).reshape(people, 4, -1).astype(np.float32)
    images /= np.linalg.norm(images, axis=2, keepdims=True)
    same = [person[i] @ person[j] for person in images for i, j in ((0, 1), (0, 2), (1, 3))]
    different = [images[n, i] @ images[(n + 1 + i) % people, 3 - i] for n in range(people) for i in range(3)]
    assert len(same) + len(different) == 600
    return best_accuracy(np.array(same), np.array(different))


def test_an_item_is_an_rgb_image_and_its_label():
    image, label = SyntheticFaces(3, 2)[5]
    assert image.dtype == np.uint8
    assert image.shape == (112, 112, 3)
    assert image.flags.c_contiguous
    assert image.std() > 10
    assert type(label) is int
    assert label == 2


def test_labels_and_names_follow_from_the_counts():
    source = SyntheticFaces(3, 2, first_identity=999_998)
    assert len(source) == 6
    assert source.labels.dtype == np.int64
    assert source.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert [source[index][1] for index in range(6)] == source.labels.tolist()
    assert list(source.class_names) == ["synthetic-999998", "synthetic-999999", "synthetic-1000000"]
    assert list(source.class_names[1:]) == ["synthetic-999999", "synthetic-1000000"]
    assert SyntheticFaces(1, 1, first_identity=123).class_names[0] == "synthetic-000123"
    assert source.name(0) == "synthetic-999998/0"
    assert source.name(5) == "synthetic-1000000/1"


def test_indices_behave_as_those_of_a_list():
    source = SyntheticFaces(2, 2, size=SMALL)
    assert fingerprint(source[-1][0]) == fingerprint(source[3][0])
    for past in (4, -5):
        with pytest.raises(IndexError):
            source[past]
        with pytest.raises(IndexError):
            source.name(past)
    assert len(list(zip(source, source.labels, strict=True))) == 4  # plain iteration ends


def test_an_image_depends_on_seed_person_and_number_alone():
    few = SyntheticFaces(4, 3, seed=5)
    many = SyntheticFaces(1000, 7, seed=5)
    part = SyntheticFaces(2, 4, seed=5, first_identity=2)
    backwards = {index: fingerprint(few[index][0]) for index in reversed(range(len(few)))}
    for person in range(4):
        for image in range(3):
            expected = fingerprint(many[person * 7 + image][0])
            assert backwards[person * 3 + image] == expected
            if person >= 2:
                assert fingerprint(part[(person - 2) * 4 + image][0]) == expected
    assert len(set(backwards.values())) == 12


def test_another_process_draws_the_same_bytes():
    source = SyntheticFaces(3, 2, seed=9, difficulty=0.8)
    program = (
        "import hashlib; from faceprint.data.synthetic import SyntheticFaces;"
        "source = SyntheticFaces(3, 2, seed=9, difficulty=0.8);"
        "[print(hashlib.sha256(source[i][0].tobytes()).hexdigest()) for i in (5, 0, 3)]"
    )
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [fingerprint(source[index][0]) for index in (5, 0, 3)]


def test_other_seeds_and_other_numbers_are_other_people():
    people = [Identity.of(seed, number) for seed in (0, 1, 2**63 - 1) for number in (0, 1, 2**62)]
    assert len({person.face_width for person in people}) == 9
    # the person's own numbers are none of those of its first image, nor of its neighbours
    draws = [Conditions.of(0, number, image, 1.0).yaw for number in range(20) for image in range(20)]
    assert len(set(draws)) == 400
    a, b = (SyntheticFaces(5, 1, first_identity=first) for first in (0, 5))
    assert not set(a.class_names) & set(b.class_names)
    assert not {fingerprint(a[i][0]) for i in range(5)} & {fingerprint(b[i][0]) for i in range(5)}


def test_people_stay_the_same_from_release_to_release():
    # Numbers of Philox, which NumPy promises to keep. Another value here means that every data set has changed.
    person = Identity.of(0, 0)
    first = np.random.Generator(np.random.Philox(key=0, counter=[0, 0, 0, 0])).random()
    assert person.face_width == pytest.approx(34 + 8.5 * first)
    assert [person.face_width, person.lip_redness, Conditions.of(0, 0, 0, 0.25).yaw] == pytest.approx(
        [34.09814741, 0.69121200, 0.07941742]
    )


def test_every_trait_spans_its_range():
    people = [vars(Identity.of(3, number)) for number in range(500)]
    for trait in people[0].keys() - {"marks"}:
        values = np.array([person[trait] for person in people])
        step = np.diff(np.sort(values)).max()
        assert values.std() > 0, trait
        # even draws: 500 leave no gap of a twentieth of the span
        assert step < np.ptp(values) / 20, trait


def test_faces_lie_on_the_alignment_template():
    offsets = []
    for number in range(50):
        face = Face.of(Identity.of(0, number), Conditions.of(0, number, 0, 0.0))
        view = View(face.who, face.how, face.landmarks(), (112, 112))
        seen = view.project(face.landmarks(), np.array([0, 0, 9.0, 0, 0]))
        seen = np.stack([seen.real, seen.imag], axis=1)
        assert seen.mean(axis=0) == pytest.approx(TEMPLATE.mean(axis=0))  # as least squares has it
        offsets.append(seen - TEMPLATE)
    assert np.abs(np.mean(offsets, axis=0)).max() < 2.5  # pixels: the mean face
    assert np.linalg.norm(offsets, axis=2).max() < 8  # pixels: anybody's


def test_poses_stay_near_the_template_too():
    middles = []
    for number in range(100):
        face = Face.of(Identity.of(0, number), Conditions.of(0, number, 1, 0.5))
        view = View(face.who, face.how, face.landmarks(), (112, 112))
        middles.append(view.project(face.landmarks(), np.array([0, 0, 9.0, 0, 0])).mean())
    off = np.array(middles) - complex(*TEMPLATE.mean(axis=0))
    assert abs(off.mean()) < 1
    assert np.abs(off).max() < 5 * np.sqrt(2 * 0.5) + 1e-9  # the shift at difficulty 0.5, both ways


@pytest.mark.parametrize("size", [(112, 96), (16, 16), (33, 47), (47, 33), (160, 160), (224, 200)])
def test_other_sizes(size):
    for difficulty in (0.0, 1.0):
        for index in range(4):
            image, _ = SyntheticFaces(2, 2, size=size, difficulty=difficulty)[index]
            assert image.shape == (*size, 3)
            assert image.dtype == np.uint8
            assert image.std() > 3


def test_a_narrow_crop_is_the_middle_of_the_wide_one_and_a_large_one_is_the_same_face():
    wide, narrow, large = (SyntheticFaces(6, 1, size=s, difficulty=0.0) for s in ((112, 112), (112, 96), (224, 224)))
    for index in range(6):
        image = wide[index][0].astype(float)
        assert np.abs(image[:, 8:104] - narrow[index][0]).mean() < 1.5
        shrunk = cv2.resize(large[index][0], (112, 112), interpolation=cv2.INTER_AREA)
        assert np.abs(image - shrunk).mean() < 4


def test_identity_stays_while_conditions_vary():
    images = stack(SyntheticFaces(30, 4, difficulty=0.1)).reshape(30, 4, -1).astype(float)
    own = np.mean([np.abs(person[0] - person[k]).mean() for person in images for k in (1, 2, 3)])
    others = np.mean([np.abs(images[n, 0] - images[m, k]).mean() for n in range(30) for m in range(n) for k in (1, 2)])
    assert own > 3
    assert others > 1.4 * own


def test_difficulty_grows_and_zero_repeats_one_portrait():
    spreads = [spread_within(difficulty) for difficulty in (0.0, 0.1, 0.3, 0.5, 0.8, 1.0)]
    assert spreads[0] == 0
    assert spreads == sorted(set(spreads))


def test_raw_pixels_are_near_chance_by_default_and_not_when_it_is_easy():
    assert 0.5 <= raw_pixel_accuracy(0.5) < 0.66
    assert raw_pixel_accuracy(0.02) > 0.8


def test_ten_million_people_cost_nothing():
    start = time.perf_counter()
    source = SyntheticFaces(10_000_000, 5)
    names = source.class_names
    last = names[9_999_999], len(names), source.name(49_999_999), source[49_999_999][1]
    packed = pickle.dumps(source)
    assert time.perf_counter() - start < 0.5
    assert last == ("synthetic-9999999", 10_000_000, "synthetic-9999999/4", 9_999_999)
    assert len(packed) < 500
    assert len(pickle.dumps(names)) < 500


def test_pickles_carry_no_labels_and_draw_the_same():
    source = SyntheticFaces(2000, 5, size=SMALL, difficulty=0.7, seed=3, first_identity=17)
    assert source.labels.nbytes == 80_000
    packed = pickle.dumps(source)
    copy = pickle.loads(packed)
    assert len(packed) < 500
    assert copy == source
    assert copy.labels.tolist() == source.labels.tolist()
    assert fingerprint(copy[1234][0]) == fingerprint(source[1234][0])


def test_labels_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        SyntheticFaces(2, 2).labels[0] = 1


def test_a_list_will_do_for_the_size():
    assert SyntheticFaces(1, 1, size=[40, 36])[0][0].shape == (40, 36, 3)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"num_identities": 0}, r"num_identities: got 0; it is a whole number from 1 to"),
        ({"images_per_identity": -3}, r"images_per_identity: got -3; it is a whole number from 1 to"),
        ({"num_identities": 2.0}, r"num_identities: got 2.0"),
        ({"num_identities": True}, r"num_identities: got True"),
        ({"seed": -1}, r"seed: got -1; it is a whole number from 0 to"),
        ({"seed": 2**64}, r"seed: got 18446744073709551616"),
        ({"first_identity": -1}, r"first_identity: got -1"),
        ({"first_identity": 2**63 - 1, "num_identities": 2}, r"first_identity .* people are numbered below"),
        ({"num_identities": 2**40, "images_per_identity": 2**40}, r"less than \d+ images; lower one of them"),
        ({"difficulty": 1.5}, r"difficulty: got 1.5; it is a number from 0"),
        ({"difficulty": float("nan")}, r"difficulty: got nan"),
        ({"difficulty": "hard"}, r"difficulty: got 'hard'"),
        ({"size": (8, 112)}, r"size: height: got 8; it is a whole number from 16 to 1024"),
        ({"size": (112, 4096)}, r"size: width: got 4096"),
        ({"size": 112}, r"size: got 112; it is \(height, width\) in pixels, such as \(112, 112\)"),
        ({"size": (112, 112, 3)}, r"size: got \(112, 112, 3\)"),
    ],
)
def test_bad_arguments_say_what_is_allowed(given, said):
    with pytest.raises(UserError, match=said):
        SyntheticFaces(**{"num_identities": 4, "images_per_identity": 2, **given})
