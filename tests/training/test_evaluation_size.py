from __future__ import annotations

from collections.abc import Callable

import pytest

from faceprint.config import Config
from faceprint.errors import UserError
from faceprint.training.opening import open_run

PAIRS = "protocol: synthetic, num_identities: 4, images_per_identity: 2, num_pairs: 4"


def test_generated_people_are_drawn_at_the_networks_size(tiny: Callable[..., Config]) -> None:
    run = open_run(tiny(f"evaluation.protocols=[{{{PAIRS}}}]", "dry_run=true"))
    assert run.pair_sets[0].read(0).shape == (32, 32, 3)


def test_another_size_is_refused_before_the_first_step(tiny: Callable[..., Config]) -> None:
    config = tiny(f"evaluation.protocols=[{{{PAIRS}, size: 48x48}}]")
    with pytest.raises(UserError, match="got 48x48x3 uint8, the network takes 32x32x3"):
        open_run(config)
    assert config.out is not None
    assert not config.out.exists()
