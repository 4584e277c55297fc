"""A step of preset `paper` as a GPU would run it, counted without one by bench/counting, stays within its limits."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from counted import BENCH, run_bench
from torch import nn


@pytest.mark.slow
def test_a_step_stays_within_its_limits():
    pytest.importorskip("triton")
    counted = json.loads(run_bench(str(BENCH / "count.py"), "--no-compile", "--json"))
    assert not counted["found"]
    assert counted["steps"].keys() == {"1", "2"}


@pytest.mark.slow
def test_what_kernels_of_other_derainers_save_and_could_is_counted():
    pytest.importorskip("triton")
    table = run_bench(str(BENCH / "count_derainers.py"), "--batch", "2", "--crop", "128")  # of less, weights are most
    rows = [line.split("|")[-3:-1] for line in table.splitlines() if line.startswith("| `")]
    (gates, _), (scores, _) = figures = [[int(cell.strip(" %")) for cell in row] for row in rows]
    assert gates > 10 and scores > 20
    assert all(0 < left < 30 for _, left in figures)


FAULTS = """
import torch
from counting.fake_gpu import DEVICE, fake_gpu
from counting.recorder import Recorder

with fake_gpu(), torch.no_grad():
    image = torch.empty(4, 64, 64, 64, device=DEVICE)
    last = image.contiguous(memory_format=torch.channels_last)
    flags = torch.empty(4, dtype=torch.bool, device=DEVICE)
    cases = {
        "nothing": lambda: image * 2,
        "nonzero": lambda: flags.nonzero(),
        "index by booleans": lambda: image[flags],
        "copy to cpu": lambda: image.cpu(),
        "copy to cuda:0": lambda: torch.empty(3).to(DEVICE),
        "asynchronous": lambda: torch.empty(3).to(DEVICE, non_blocking=True),
        "mixed": lambda: image + last,
        "small": lambda: image[:1, :1] + last[:1, :1],
        "view": lambda: image.flatten(),
        "broadcast": lambda: image[:1].expand(4, 64, 64, 64) * 1,
        "transposed": lambda: image + image.transpose(2, 3),
        "into a given one": lambda: torch.mul(image, 2, out=last),
        "lists": lambda: torch._foreach_mul_([torch.empty(10, device=DEVICE) for _ in range(111)], 2.0),
        "large": lambda: torch._foreach_mul_([torch.empty(321 * 65536, device=DEVICE)], 2.0),
    }
    for name, case in cases.items():
        with Recorder() as recorder:
            try:
                case()
            except Exception as error:  # a fake cannot tell how many elements are found
                assert name in ("nonzero", "index by booleans"), error
        record = recorder.record
        print(f"{name}: {record.waits} {len(record.mixes)} {record.launches()} {record.moved(False)}")
"""
PLANE = 4 * 64 * 64 * 64 * 4
EXPECTED = {
    "nothing": f"[] 0 1 {2 * PLANE}",
    "nonzero": "['nonzero'] 0 0 0",
    "index by booleans": "['index by booleans'] 0 0 0",
    "copy to cpu": f"['copy to cpu'] 0 1 {2 * PLANE}",
    "copy to cuda:0": "['copy to cuda:0'] 0 1 12",
    "asynchronous": "[] 0 1 12",
    "mixed": f"[] 1 1 {3 * PLANE}",
    "small": "[] 0 1 " + str(3 * 64 * 64 * 4),
    "view": "[] 0 0 0",
    "broadcast": f"[] 0 1 {PLANE // 4 + PLANE}",
    "transposed": f"[] 0 1 {2 * PLANE}",
    "into a given one": f"[] 1 1 {2 * PLANE}",
    "lists": f"[] 0 2 {2 * 111 * 40}",
    "large": f"[] 0 2 {2 * 321 * 65536 * 4}",
}


@pytest.mark.slow
def test_the_machine_sees_waits_mixes_launches_and_bytes():
    found = dict(line.split(": ", 1) for line in run_bench("-c", FAULTS).splitlines())
    assert found == EXPECTED


def test_its_backward_pass_gives_autograds_bits(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    from counting.engine import backward

    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 1)).double()
    image = torch.rand(2, 3, 9, 8, dtype=torch.float64)

    def loss():
        out = net(image)
        return (out * out.mean() + net(image * 0.5)).square().mean()

    expected = torch.autograd.grad(loss(), list(net.parameters()))
    backward(loss())
    assert all(torch.equal(weight.grad, wanted) for weight, wanted in zip(net.parameters(), expected, strict=True))


def test_its_gradients_are_copied_where_autograds_are(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    from counting.engine import backward

    class Give(torch.autograd.Function):
        @staticmethod
        def forward(ctx, weight):
            return weight.sum()

        @staticmethod
        def backward(ctx, v):
            grad = torch.ones(shape)
            given.append(grad.data_ptr())
            return grad

    taken = {}
    for shape in ((4, 5, 1, 1), (4, 1, 3, 3), (4, 5, 3, 3), (4,)):
        for run in (torch.Tensor.backward, backward):
            given = []
            leaf = torch.ones(shape)
            leaf = leaf.to(memory_format=torch.channels_last) if len(shape) == 4 else leaf
            leaf.requires_grad_()
            run(Give.apply(leaf))
            taken[shape, run] = leaf.grad.data_ptr() == given[0]
        assert taken[shape, torch.Tensor.backward] == taken[shape, backward], shape
    assert taken[(4, 5, 1, 1), backward] and not taken[(4, 5, 3, 3), backward]


LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;
        /*0010*/               @P0 BRA `(.L_x_3) ;
.L_x_2:
        /*0020*/                   LDL R4, [R1] ;
.L_x_0:
        /*0030*/                   HMMA.16816.F32.BF16 R8, R4, R12, R8 ;
        /*0038*/               @P1 CALL.REL.NOINC `(.L_x_5) ;
        /*0040*/              @!P1 BRA `(.L_x_0) ;
        /*0050*/               @P2 BRA `(.L_x_2) ;
.L_x_5:
        /*0060*/                   EXIT ;
.L_x_3:
        /*0070*/                   CALL.REL.NOINC `($__internal_0_$__cuda_sm20_div_s64) ;
        /*0080*/                   BRA `(.L_x_2) ;
.L_x_4:
        /*0090*/                   BRA `(.L_x_4);
"""


def test_it_finds_loops_in_machine_code(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(BENCH), *sys.path])
    pytest.importorskip("triton")
    from counting.machine_code import parse, per_tile

    instructions, loops = parse(LISTING)
    assert [text.split()[0] for text in instructions][:4] == ["MOV", "BRA", "LDL", "HMMA.16816.F32.BF16"]
    assert loops == [{2, 3, 4, 5, 6}]  # and not the call, which lies behind and jumps back
    assert [at for at, text in enumerate(instructions) if text.startswith("CALL")] == [
        8
    ]  # the other one leaves the loop
    assert per_tile(instructions, loops, [3], warps=4) == 5 / (4 * 16 * 8 * 16 / 64**3)


ROUNDED_ONCE = """
import torch, triton
from triton.backends.compiler import GPUTarget
from counting.fake_gpu import DEVICE, fake_gpu
from counting.kernels import recorded_kernels
from counting.machine_code import source_of
from counting.recorder import Recorder
from rgsud_fast.ops import pool_update

found = {}
with fake_gpu(), Recorder() as recorder, recorded_kernels(recorder, found):
    arena = torch.empty(2, 300, dtype=torch.uint8, device=DEVICE)
    places = torch.empty(2, 2, dtype=torch.int64, device=DEVICE)
    images = torch.empty(2, 3, 5, 7, device=DEVICE)
    pool_update(arena, torch.empty(3, 2, device=DEVICE), images, torch.empty(2, device=DEVICE), places)
for kernel in found:
    for architecture in (80, 90):
        target = GPUTarget("cuda", architecture, 32)
        code = triton.compile(source_of(kernel), target=target, options=dict(kernel.options)).asm["ptx"]
        print(kernel.kernel.fn.__name__, architecture, code.count("fma."))
"""


@pytest.mark.slow
def test_a_product_and_a_sum_that_are_rounded_apart_are_not_fused():
    # 255 * v + 2^23 - 2^23 is v's byte, ties to even: fused, 5 of a million random pixels get another.
    pytest.importorskip("triton")
    found = run_bench("-c", ROUNDED_ONCE).splitlines()
    assert "copy_kernel 80 0" in found and "copy_kernel 90 0" in found


WAITS = """
import torch
from counting.fake_gpu import DEVICE, fake_gpu
from counting.kernels import recorded_kernels
from counting.recorder import Recorder
from rgsud_fast.data.sampler import Crop
from rgsud_fast.networks.tiles import run_tiled
from rgsud_fast.rewards.distributed_pool import ShardedPool
from rgsud_fast.system.distributed import Ranks

with torch.no_grad(), fake_gpu(), Recorder() as recorder, recorded_kernels(recorder, {}):
    waits = recorder.record.waits
    run_tiled(lambda image: image * 2, torch.empty(1, 3, 300, 300, device=DEVICE), 128, 32)
    print("tiles", waits)
    pool = ShardedPool([(64, 64)] * 3, Ranks(DEVICE), device=DEVICE, device_bytes=10**6)
    waits.clear()
    pool.take([Crop(0, 1, 2, False), Crop(2, 0, 0, True)], 32)
    print("rewards", waits)
"""


@pytest.mark.slow
def test_large_images_and_rewards_of_several_processes_keep_no_host_waiting():
    pytest.importorskip("triton")
    assert run_bench("-c", WAITS).splitlines() == ["tiles []", "rewards []"]


SIZES = """
import torch
from counting.fake_gpu import DEVICE, fake_gpu
from counting.kernels import recorded_kernels
from counting.recorder import Recorder
from rgsud_fast.ops import pool_update

found = {}
with fake_gpu(), Recorder() as recorder, recorded_kernels(recorder, found):
    for height, width, count in ((15, 17, 1), (16, 32, 2), (33, 48, 16), (32, 31, 3)):
        arena = torch.empty(2, 16 * 3 * height * width, dtype=torch.uint8, device=DEVICE)
        places = torch.empty(count, 2, dtype=torch.int64, device=DEVICE)
        images = torch.empty(count, 3, height, width, device=DEVICE).contiguous(memory_format=torch.channels_last)
        values, scores = torch.empty(count, device=DEVICE), torch.empty(3 * count, 2, device=DEVICE)
        pool_update(arena, scores, images, values, places)
print(*sorted(kernel.kernel.fn.__name__ for kernel in found))
"""


@pytest.mark.slow
def test_images_of_any_size_share_a_compilation():
    pytest.importorskip("triton")
    names = run_bench("-c", SIZES).split()
    assert names.count("enter_kernel") == 1 and names.count("copy_kernel") <= 4  # by strides, of rows and of images


FEATURES = """
import torch
from counting.fake_gpu import fake_gpu
from counting.kernels import recorded_kernels
from counting.recorder import Recorder
from rgsud_fast.kernels.triton import conv_bias_lrelu, gated_dconv, nafblock, pixel_shuffle_skip

def tensor(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, device="cuda", dtype=dtype).contiguous(memory_format=torch.channels_last)

def wide(*shape):
    return torch.empty(shape, device="cuda")

def launch(images, height, width):
    for c in (32, 128, 256):
        x, one, square, double = tensor(images, c, height, width), wide(c), wide(c, c, 1, 1), wide(2 * c, c, 1, 1)
        more, v_out = wide(2 * c), tensor(images, c, 2 * height, 2 * width)
        weights = [one, one, double, more, wide(2 * c, 1, 3, 3), more, square, one, square, one]
        weights += [one, one, double, more, square, one, wide(1, c, 1, 1), wide(1, c, 1, 1)]
        out, *kept = nafblock.forward(x, weights, 1e-6)
        nafblock.backward(out, x, *kept, weights, 1e-6)
        pixel_shuffle_skip.backward(pixel_shuffle_skip.forward(tensor(images, 4 * c, height, width), v_out))
        weight = wide(c, c, 3, 3)
        out, sign = conv_bias_lrelu.forward(x, weight, one, 0.2, residual=x)
        conv_bias_lrelu.backward(out, x, sign, weight, 0.2, v_residual=x)
        window, scale = wide(c, 1, 3, 3), wide(images)
        out = gated_dconv.forward(x, window, one, scale, "gelu")
        gated_dconv.backward(out, x, window, one, scale, "gelu")

found = {}
with fake_gpu(), Recorder() as recorder, recorded_kernels(recorder, found):
    for size in ((2, 33, 48), (1, 24, 31), (3, 17, 16), (2, 80, 70)):
        launch(*size)
        print(len(found))
"""


@pytest.mark.slow
def test_features_of_any_size_and_number_share_a_compilation():
    pytest.importorskip("triton")
    assert len(set(run_bench("-c", FEATURES).split())) == 1
