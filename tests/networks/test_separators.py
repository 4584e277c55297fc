"""NLCL's separators: their layers in float64, counts, and the names of the published weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.networks import local_statistics
from rgsud_fast.networks.separators import Separator, compared_layers
from rgsud_fast.networks.windows import InstanceNorm


def test_it_has_the_published_number_of_parameters_under_the_published_names():
    with torch.device("meta"):
        network = Separator()
        assert sum(parameter.numel() for parameter in Separator(16, 6).parameters()) == 33_363
    assert sum(parameter.numel() for parameter in network.parameters()) == 316_195
    convs = ["gen.0", *(f"gen.{block}.model.{i}.conv" for block in range(1, 17) for i in (0, 1))]
    convs += ["gen.17.conv.0", "gen.17.conv.3", "gen.18"]
    assert list(network.state_dict()) == [f"{conv}.{name}" for conv in convs for name in ("weight", "bias")]


@pytest.mark.parametrize("residual, rain", [(False, False), (True, False), (False, True)])
def test_it_is_its_formula(residual, rain):
    network = Separator(4, 3, residual, rain).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)
    image = torch.rand(2, 3, 9, 11, dtype=torch.float64)
    weights = network.state_dict()

    def conv(x, name):
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x = conv(2 * image - 1, "gen.0")
    features = [x]
    for block in (1, 2, 3):
        inner = F.instance_norm(conv(x, f"gen.{block}.model.0.conv")).relu()
        x = x + F.instance_norm(conv(inner, f"gen.{block}.model.1.conv"))
        features.append(x)
    made = conv(conv(F.instance_norm(conv(x, "gen.4.conv.0")).relu(), "gen.4.conv.3"), "gen.5")
    wanted = made / 2 if rain else image + made / 2 if residual else (made + 1) / 2
    torch.testing.assert_close(network(image), wanted)
    for found, formula in zip(network.features(image), [features[0], features[2], features[3]], strict=True):
        torch.testing.assert_close(found, formula)


def test_layers_that_are_compared():
    assert compared_layers(16) == [0, 2, 4, 8, 12]
    assert compared_layers(6) == [0, 2, 4, 6]
    assert compared_layers(2) == [0, 2] and compared_layers(1) == [0, 1]


def test_fresh_residual_separators_leave_the_image_and_see_no_rain():
    image = torch.rand(1, 3, 16, 15)
    for rain, wanted in ((False, image), (True, torch.zeros_like(image))):
        network = Separator(4, 2, True, rain)
        network.start_near_identity()
        assert (network(image) - wanted).abs().max() < 0.1


@torch.no_grad()
def test_it_has_local_statistics_at_full_resolution():
    network, image = Separator(4, 2), torch.rand(1, 3, 20, 24)
    whole = network(image)
    with local_statistics(network, 24):
        torch.testing.assert_close(network(image), whole, atol=1e-5, rtol=0)
    with local_statistics(network, 9):
        assert {part.window for part in network.modules() if isinstance(part, InstanceNorm)} == {9}
        assert not torch.allclose(network(image), whole, atol=1e-3)
    assert torch.equal(network(image), whole)
