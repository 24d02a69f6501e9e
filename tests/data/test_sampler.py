from __future__ import annotations

import numpy as np
import pytest

from faceprint.data.sampler import BalancedOrder, IdentityOrder
from faceprint.errors import UserError

LABELS = np.repeat(np.arange(10), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])[np.random.default_rng(0).permutation(55)]


def order(first: int = 0, last: int = 40, identities: int = 3, seed: int = 0) -> IdentityOrder:
    return IdentityOrder(labels=LABELS, identities=identities, images_per_identity=4, seed=seed, first=first, last=last)


def test_every_batch_has_p_identities_with_k_images() -> None:
    made = list(order())
    assert len(made) == len(order()) == 40
    for batch in made:
        who = LABELS[batch].reshape(3, 4)
        assert (who == who[:, :1]).all()
        assert len(set(who[:, 0])) == 3
        for identity, images in zip(who[:, 0], np.array(batch).reshape(3, 4), strict=True):
            there = int(np.count_nonzero(identity == LABELS))
            times = [images.tolist().count(image) for image in set(images.tolist())]
            assert len(times) == min(4, there)  # repeats only where there are fewer than K,
            assert max(times) - min(times) <= 1  # and then evenly


def test_identities_go_by_in_permutations_and_all_images_come_up() -> None:
    made = list(order(last=300))
    for turn in range(100):
        who = np.concatenate([LABELS[batch][::4] for batch in made[3 * turn : 3 * turn + 3]])
        assert len(set(who)) == 9  # 3 batches of 3 out of 10
    assert set(np.concatenate(made)) == set(range(55))


def test_a_batch_is_a_function_of_seed_and_number() -> None:
    made = list(order())
    assert list(order(first=17)) == made[17:]
    assert list(order(seed=1)) != made


def test_too_few_identities_are_refused() -> None:
    with pytest.raises(UserError, match="batch of 11 identities needs at least as many in the data, there are 10"):
        order(identities=11)


def balanced(power: float, first: int = 0, last: int = 400, seed: int = 0) -> BalancedOrder:
    return BalancedOrder(labels=LABELS, power=power, batch_size=50, seed=seed, first=first, last=last)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_identities_come_by_a_power_of_their_images(power: float) -> None:
    drawn = np.concatenate(list(balanced(power)))
    expected = np.arange(1, 11) ** power / (np.arange(1, 11) ** power).sum()
    shares = np.bincount(LABELS[drawn], minlength=10) / len(drawn)
    # 20,000 independent draws: four standard deviations of a share.
    assert (np.abs(shares - expected) < 4 * np.sqrt(expected / len(drawn))).all()
    # The images of an identity come alike, and every one does.
    tenth = np.bincount(drawn, minlength=55)[LABELS == 9]
    assert tenth.min() > 0.7 * tenth.mean()


def test_a_balanced_batch_is_a_function_of_seed_and_number() -> None:
    made = list(balanced(0.5))
    assert len(made) == len(balanced(0.5)) == 400
    assert list(balanced(0.5, first=17)) == made[17:]
    assert list(balanced(0.5, seed=1)) != made


def test_processes_share_one_stream_of_balanced_batches() -> None:
    options = {"labels": LABELS, "power": 0.5, "batch_size": 8, "seed": 0}
    alone = list(BalancedOrder(**options, first=6, last=15))  # pyright: ignore
    shared = [list(BalancedOrder(**options, first=2, last=5, rank=rank, world=3)) for rank in range(3)]  # pyright: ignore
    assert [batch for step in zip(*shared, strict=True) for batch in step] == alone
