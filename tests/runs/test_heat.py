"""Heat on a grey image: nothing where it is clean, red then yellow where it is spoiled; bands behind a curve."""

from __future__ import annotations

import numpy as np

from rgsud_fast.runs.html.curves import Band, collect, draw
from rgsud_fast.runs.html.heat import RAMP, heat


def test_clean_pixels_are_grey_and_spoiled_ones_red_to_yellow():
    image = np.full((1, 4, 3), (200, 100, 50), np.uint8)
    made = heat(image, np.array([[0.0, 0.5, 1.0, np.nan]]))
    assert len(set(made[0, 0])) == 1 and np.array_equal(made[0, 0], made[0, 3])
    assert made[0, 1, 0] > 150 > made[0, 1, 1]
    assert made[0, 2].tolist() == [255, 255, 0]


def test_the_ramp_has_256_entries_of_one_direction():
    assert RAMP.shape == (256, 3) and (np.diff(RAMP.sum(1)) >= 0).all()


def test_bands_are_shaded_and_named():
    (series,) = collect([{"step": step, "loss": step} for step in (0, 50, 100)])
    drawn = draw(series, bands=[Band(20, "score 1"), Band(60, "score <2>"), Band(200, "never")])
    assert drawn.count('class="band"') == 2 and "score 1" in drawn and "score &lt;2&gt;" in drawn
    assert "never" not in drawn and "band" not in draw(series)
