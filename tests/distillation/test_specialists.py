"""Specialists reject what is planted into good pairs, and of trusted pairs about as many as they are told to."""

from __future__ import annotations

import numpy as np
import pytest
from scenes import pair

from rgsud_fast.data.pairs import middle_of
from rgsud_fast.distillation.faults import FAULTS, OTHER, plant
from rgsud_fast.distillation.measures import SIDE, SPECIALISTS, detail, measure
from rgsud_fast.distillation.specialists import ALIGNMENT, Panel, Specialist


@pytest.fixture(scope="module")
def trusted() -> list[dict[str, np.ndarray]]:
    return [measure(*pair(seed), 0.0) for seed in range(80)]


@pytest.fixture(scope="module")
def panel(trusted) -> Panel:
    return Panel.fit(trusted, range(len(trusted)))


def test_a_measure_for_every_name(trusted):
    assert {name: len(values) for name, values in trusted[0].items()} == {
        name: len(names) for name, names in SPECIALISTS.items()
    }
    assert all(np.isfinite(values).all() for pair in trusted for values in pair.values())


@pytest.mark.parametrize("name", [*FAULTS, OTHER])
def test_planted_faults_are_stranger_than_good_pairs(panel, name):
    rng = np.random.default_rng(0)
    bad = [plant(name, pair(seed), pair(seed + 1), rng) for seed in range(100, 112)]
    assert all(rainy.shape == target.shape and rainy.dtype == np.uint8 for rainy, target in bad)
    good = np.array([panel.judge(measure(*pair(seed), 0.0)).p for seed in range(100, 130)])
    spoiled = np.array([panel.judge(measure(*one, 0.0)).p for one in bad])
    wins = (good[:, None] > spoiled) + 0.5 * (good[:, None] == spoiled)
    assert wins.mean() > 0.9


def test_strictness_is_the_share_of_trusted_pairs_that_is_lost(trusted, panel):
    """Of two halves each judged by the other, so that one that happens to be odd counts both ways."""
    others = [measure(*pair(seed), 0.0) for seed in range(200, 280)]
    back = Panel.fit(others, range(80))
    verdicts = np.array([*(panel.judge(one).p for one in others), *(back.judge(one).p for one in trusted)])
    for strictness in (0.05, 0.1, 0.2):
        assert abs(np.mean(verdicts < strictness) - strictness) < 0.06


def test_all_judges_together_are_no_stricter_than_told(trusted, panel):
    """Each of them rejects some that the others let pass: untamed, their losses would add up."""
    assert np.mean(panel.least < 0.05) > 0.06
    verdicts = np.array([panel.judge(one).p for one in trusted])
    assert np.mean(verdicts < 0.05) <= 0.06


def test_the_reason_names_the_specialist_and_what_it_saw(panel):
    rainy, target = pair(100)
    far = panel.judge(measure(rainy, target, 50.0))
    assert far.reason.startswith("rain: distance to the references +")
    shifted = panel.judge(measure(rainy, np.roll(target, (3, 3), (0, 1)), 0.0))
    assert shifted.reason.startswith("pair: ") and shifted.reason.split()[-1].startswith(("+", "-"))
    assert shifted.reason.split(": ")[1].rsplit(" ", 1)[0] in ALIGNMENT


def test_a_panel_comes_back_from_its_arrays(trusted, panel):
    again = Panel.from_arrays(panel.arrays())
    assert [again.judge(one) for one in trusted[:5]] == [panel.judge(one) for one in trusted[:5]]


def test_scenes_do_not_stand_on_both_sides_of_a_fold(trusted):
    """Two renderings of one scene are nearly one pair: judged by its twin, each would seem familiar."""
    twice = [one for one in trusted[:30] for _ in range(2)]
    apart = Panel.fit(twice, [i // 2 for i in range(60)])
    together = Panel.fit(twice, [i + 30 * (i % 2) for i in range(60)])
    assert np.prod(apart.tails["pair"]) >= np.prod(together.tails["pair"])  # the mean distance


def test_a_measure_that_never_changes_divides_by_nothing():
    judge = Specialist.fit(np.zeros((30, 4)))
    assert judge.distance(np.zeros(4)) == 0 and np.isfinite(judge.distance(np.ones(4)))


def test_detail_of_flat_images_is_finite():
    import torch

    assert torch.isfinite(detail(torch.full((2, 1, 40, 33), 0.5))).all()


def test_the_window_is_the_middle():
    image = np.zeros((300, 260, 3), np.uint8)
    image[22, 2] = 1
    assert middle_of(image, SIDE).shape == (256, 256, 3) and middle_of(image, SIDE)[0, 0, 0] == 1
    assert middle_of(image[:90, :70], SIDE).shape == (90, 70, 3)
