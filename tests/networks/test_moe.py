"""The derainer with experts: counts, routing by image, dense and active alike, tiles without seams, balance."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from rgsud_fast.errors import UserError
from rgsud_fast.networks import NAFNet, local_statistics
from rgsud_fast.networks.derainers.experts import MoELayer
from rgsud_fast.networks.derainers.moe import MoENet
from rgsud_fast.networks.derainers.noise import normal_noise
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.networks.weights import load_network, save_network

SOFT = torch.tensor(False)


def count(module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def tiny(**fields) -> MoENet:
    """One whose every part shows."""
    torch.manual_seed(0)
    network = MoENet(6, [1, 1], 1, [1, 1], **fields)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for layer in network.layers.values():
            layer.beta.add_(0.3)
            layer.router.weight.mul_(8)
    return network.eval()


def test_parameters_are_those_of_the_specification():
    whole = MoENet(32, (2, 2, 4, 8), 8, (2, 2, 2, 2))
    assert count(whole) == 23_498_363 and count(NAFNet(32, (2, 2, 4, 8), 8, (2, 2, 2, 2))) == 21_752_099
    assert [count(layer) for layer in whole.encoder_experts] == [15_203, 48_835, 171_395, 637_699]
    assert count(MoENet(12, (1, 1), 1, (1, 1))) == 68_859 and count(NAFNet(12, (1, 1), 1, (1, 1))) == 42_423


def test_a_layer_is_its_formula():
    layer = MoELayer(4, 3, 1, 0.0, hard=False, place=0).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape))
    x = torch.randn(2, 4, 9, 11)
    last = F.layer_norm(x.movedim(1, 3), (4,), layer.norm.weight, layer.norm.bias, 1e-6)
    normal = last.movedim(3, 1)
    shares = layer.router(normal.mean((2, 3))).softmax(1)
    made = 0
    for i in range(3):
        wide = slice(8 * i, 8 * i + 8)
        part = F.conv2d(normal, layer.expand.weight[wide], layer.expand.bias[wide])
        first, second = layer.depthwise[i](part).chunk(2, 1)
        own = F.conv2d(first * second, layer.project.weight[:, 4 * i : 4 * i + 4])
        made = made + shares[:, i, None, None, None] * (own + layer.bias[i][:, None, None])
    assert torch.allclose(layer(x, SOFT), x + layer.beta * made, atol=1e-5)
    assert [conv.kernel_size for conv in layer.depthwise] == [(3, 3), (5, 5), (7, 7)]


def test_a_fresh_one_computes_what_its_nafnet_does_and_starts_from_its_weights():
    torch.manual_seed(3)
    base = NAFNet(6, [1, 1], 1, [1, 1])
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    network, image = MoENet(6, [1, 1], 1, [1, 1]).start_from(base).eval(), torch.rand(2, 3, 33, 40)
    with torch.no_grad():
        assert torch.allclose(network(image), base.eval()(image), atol=1e-6)
    with pytest.raises(UserError, match="cannot start a moe"):
        MoENet(8, [1, 1], 1, [1, 1]).start_from(base)


@pytest.mark.parametrize("active", [1, 2])
def test_at_inference_the_active_experts_alone_give_what_all_of_them_do(active):
    network, image = tiny(active=active), torch.rand(5, 3, 24, 28)
    with torch.no_grad():
        made = network(image)
        for layer in network.layers.values():
            layer._of_active = layer._of_all  # as a GPU trains
        assert torch.allclose(network(image), made, atol=1e-5)


def test_hard_layers_keep_the_surest_expert_unscaled_and_the_router_learns():
    network = tiny(noise=0.0).train()
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]])
    hard, soft = network.decoder_experts[0], network.encoder_experts[0]
    assert torch.equal(hard._kept(shares, SOFT), torch.tensor([[0.5, 0, 0], [0, 0, 0.7]]))
    assert torch.equal(hard._kept(shares, torch.tensor(True)), shares) and torch.equal(soft._kept(shares, SOFT), shares)
    network(torch.rand(2, 3, 24, 24)).square().mean().backward()
    assert all(layer.router.weight.grad.abs().max() > 0 for layer in network.layers.values())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_cpu_trains_the_chosen_experts_alone_to_the_same_gradients(checkpointed):
    image, found = torch.rand(2, 3, 24, 24), []
    for as_a_gpu in (False, True):
        network = tiny(noise=0.0, hard_encoder=True).train()
        for layer in network.layers.values():
            layer.checkpointed = checkpointed
            if as_a_gpu:
                layer._of_active = layer._of_all
        network(image).square().mean().backward()
        found.append({name: parameter.grad for name, parameter in network.named_parameters()})
    unused = [name for name, grad in found[0].items() if "depthwise" in name and not grad.any()]
    assert unused  # experts that no image has: zeros, and not None, which optimisers and several GPUs treat otherwise
    for name, grad in found[0].items():
        assert torch.allclose(grad, found[1][name], rtol=1e-4, atol=1e-6), name


def test_images_of_a_batch_do_not_depend_on_each_other():
    network, images = tiny(), torch.rand(4, 3, 24, 24) * torch.tensor([0.1, 0.4, 0.7, 1.0])[:, None, None, None]
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_noise_is_on_the_logits_in_training_alone_and_goes_by_a_counted_step():
    drawn = normal_noise(torch.zeros(1000, 30), torch.tensor(5))
    assert abs(drawn.mean()) < 0.02 and drawn.std() == pytest.approx(1, abs=0.02)
    assert torch.equal(drawn, normal_noise(torch.zeros(1000, 30), torch.tensor(5)))
    other = normal_noise(torch.zeros(1000, 30), torch.tensor(6))
    assert abs(torch.corrcoef(torch.stack([drawn.flatten(), other.flatten()]))[0, 1]) < 0.02
    assert torch.equal(drawn[600:], normal_noise(torch.zeros(400, 30), torch.tensor(5), 600))  # another rank's share
    network, image = tiny(noise=0.5), torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        assert torch.equal(network(image), network(image))
        network.train()
        again = copy.deepcopy(network)
        first, second = network(image), network(image)
        assert not torch.equal(first, second)
        assert torch.equal(again(image), first)
    assert all(int(layer.steps) == 2 for layer in network.layers.values())


def test_tiles_agree_with_the_whole_image_where_routing_is_fixed():
    network = tiny()
    tints = torch.tensor([[1.0, 0.1, 0.1], [0.1, 0.1, 1.0]]).repeat_interleave(80, 0).T[None, :, :, None]
    image = tints * torch.rand(1, 3, 160, 200, generator=torch.Generator().manual_seed(2))  # red above, blue below
    with torch.no_grad():
        routed = network.routed(lambda a, b, c, d: image[..., a:b, c:d], 160, 200, 80, 48)
        tops = {tuple(layer.argmax().item() for layer in _logits(network, image[..., t : t + 80, :])) for t in (0, 80)}
        assert len(tops) > 1  # tiles by themselves would choose otherwise
        fixed = [routed(image[..., t : t + 80, :80]) for t in (0, 80)]
        assert all(layer.fixed is None and layer.seen is None for layer in network.layers.values()) and len(fixed) == 2
        asked = []
        for layer in network.layers.values():
            layer.register_forward_hook(lambda layer, *_: asked.append(layer.fixed))
        run_tiled(network, image, 80, 48)
        assert sum(logits is not None for logits in asked) > sum(logits is None for logits in asked)
    assert network.routed(lambda *_: image, 60, 60, 80, 48) is network


def test_tiles_are_within_a_grey_level_of_the_whole_of_an_image_of_one_kind():
    network = tiny()
    with torch.no_grad():
        for block in network.modules():
            if hasattr(block, "attention"):
                block.attention.weight.zero_()  # NAFNet's own global means, whose tiles differ for themselves
        image = torch.rand(1, 3, 160, 200, generator=torch.Generator().manual_seed(2))
        apart = (run_tiled(network, image, 112, 64) - network(image)).abs().max()
        with local_statistics(network, 64):
            run_tiled(network, image, 112, 64)
    assert apart < 1 / 255


def _logits(network, image):
    with network._watching() as seen:
        network(image)
        return seen()


def test_balance_is_nothing_where_all_are_used_alike_and_dead_experts_show():
    network = tiny(noise=0.0).train()
    for layer in network.layers.values():
        layer.router.weight.data.zero_()
        layer.router.bias.data.zero_()
    network(torch.rand(2, 3, 24, 24))
    assert network.balance().item() == pytest.approx(0, abs=1e-6)
    for layer in network.layers.values():
        layer.router.bias.data.copy_(torch.tensor([9.0, 0, 0]))
    network.shares_used()
    network(torch.rand(2, 3, 24, 24))
    assert network.balance().item() == pytest.approx(2, abs=0.01)  # CV^2 of (1, 0, 0)
    assert all(shares[0] > 0.99 for shares in network.shares_used().values())
    assert list(network.layers) == ["encoder 1", "encoder 2", "decoder 2", "decoder 1"]
    assert set(network.eval().shares_of(torch.rand(1, 3, 24, 24))) == set(network.layers)


def test_files_and_checkpoints_know_how_they_route(tmp_path):
    from rgsud_fast.networks.derainers.layouts import build_derainer

    network = tiny(active=2, noise=0.25, hard_encoder=True)
    network.route(softly=True)
    save_network(tmp_path / "derainer.safetensors", network, "derainer")
    for again in (load_network(tmp_path), build_derainer(tmp_path, network.state_dict())):
        assert again.sizes == network.sizes and bool(again.softly)
    with pytest.raises(ValueError, match="active must be from 1 to 3 experts"):
        MoENet(active=4)


def test_a_network_in_training_can_be_copied():
    network = MoENet(4, (1,), 1, (1,)).train()
    network(torch.rand(2, 3, 8, 8)).mean().backward()
    again = copy.deepcopy(network)
    assert again.state_dict().keys() == network.state_dict().keys() and network.balance() >= 0
    again(torch.rand(2, 3, 8, 8)).mean().backward()
    assert again.balance() >= 0
