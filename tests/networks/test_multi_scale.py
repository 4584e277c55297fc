"""DerainCycleGAN's judge: its layers in float64, its count, and the smallest crop that it can judge."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.networks.multi_scale import MultiScaleDiscriminator, least_side


def test_it_has_the_published_number_of_parameters():
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in MultiScaleDiscriminator().parameters()) == 8_271_171


def test_it_is_its_formula():
    judge = MultiScaleDiscriminator(2, 2).double()
    for parameter in judge.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    image = torch.rand(2, 3, 37, 41, dtype=torch.float64)
    pooled = F.avg_pool2d(F.pad(2 * image - 1, (1, 1, 1, 1)), 3, 2)
    inside = F.avg_pool2d(F.pad(torch.ones_like(image), (1, 1, 1, 1)), 3, 2)
    wanted = []
    for layers, x in zip(judge.scales, (2 * image - 1, pooled / inside), strict=True):
        for layer in layers[:4]:
            x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias, stride=2)
            x = torch.where(x > 0, x, 0.01 * x)
        wanted.append(F.conv2d(x, layers[4].weight, layers[4].bias))
    for scores, formula in zip(judge.features(image), wanted, strict=True):
        torch.testing.assert_close(scores, formula)
    torch.testing.assert_close(judge(image), wanted[0])


@pytest.mark.parametrize("scales", [1, 2, 3])
def test_the_least_side_is_the_least(scales):
    side, judge = least_side(scales), MultiScaleDiscriminator(2, scales)
    assert len(judge.features(torch.rand(1, 3, side, side))) == scales
    with pytest.raises(RuntimeError, match="Padding size"):
        judge.features(torch.rand(1, 3, side - 1, side - 1))
