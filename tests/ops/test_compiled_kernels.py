"""The machine code of the kernels as the `paper` recipe launches them: what they hold, spill and issue."""

from __future__ import annotations

import pytest
from counted import codes_of

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

CONVOLUTIONS = """
from rgsud_fast.kernels.triton import conv_bias_lrelu
from rgsud_fast.ops._convolutions import use_own
def launch():
    with use_own(True):
        for channels, out, taps in ((64, 64, 3), (256, 256, 3), (6, 64, 7)):
            x, v_out, sign = tensor(8, channels, 64, 64), tensor(8, out, 64, 64), tensor(8, out, 64, 64)
            weight, bias = wide(out, channels, taps, taps), wide(out)
            conv_bias_lrelu.forward(x, weight, bias, 0.2)
            conv_bias_lrelu.backward(v_out, x, sign, weight, 0.2, channels == out)
        conv_bias_lrelu.forward(x, weight, bias, 0.2, residual=v_out)
"""


def assert_sound(found):
    for one in found:
        assert not one["calls"] and not one["faults"], one


def test_the_implicit_gemm_issues_little_and_spills_nothing():
    found = codes_of(CONVOLUTIONS)
    assert_sound(found)
    own = ("conv_kernel", "correlate_kernel")
    products = [one for one in found if one["name"] in own and one["architecture"] == 90]
    assert len(products) == 9
    assert all(0 < one["per_tile"] <= 220 for one in products), products


PASSES = """
from rgsud_fast.kernels.triton import conv_bias_lrelu
def launch():
    x, weight, bias = tensor(8, 64, 64, 64), wide(64, 64, 3, 3), wide(64)
    out, sign = conv_bias_lrelu.forward(x, weight, bias, 0.2, residual=x)
    conv_bias_lrelu.backward(out, x, sign, weight, 0.2, v_residual=x)
"""


def test_the_passes_around_a_library_s_convolution_move_16_bytes_at_a_time():
    found = codes_of(PASSES)
    assert {one["name"] for one in found} == {"epilogue_kernel", "activation_kernel"}
    assert_sound(found)
    assert all(one["narrow"] <= 1 for one in found), found


SHUFFLE = """
from rgsud_fast.kernels.triton import pixel_shuffle_skip as kernel
def launch():
    kernel.backward(kernel.forward(tensor(8, 128, 64, 64), tensor(8, 32, 128, 128)))
"""


def test_pixel_shuffle_skip_moves_wide_pieces():
    found = codes_of(SHUFFLE)
    assert len(found) == 6
    assert_sound(found)
    assert all(one["narrow"] == 0 for one in found), found


WIDE = """
from rgsud_fast.kernels.triton import conv_bias_lrelu
from rgsud_fast.ops._convolutions import use_own
def launch():
    with use_own(True):
        for dtype, channels, out in ((torch.float64, 70, 130), (torch.float32, 128, 128)):
            x, weight = tensor(2, channels, 32, 32, dtype=dtype), wide(out, channels, 1, 1).to(dtype)
            v_out = conv_bias_lrelu.forward(x, weight, weight[:, 0, 0, 0], 0.2)[0]
            conv_bias_lrelu.backward(v_out, x, v_out, weight, 0.2)
"""


def test_tiles_of_wide_numbers_fit_the_smallest_shared_memory():
    for one in codes_of(WIDE, (89,)):
        assert not one["calls"] and not any("shared" in fault for fault in one["faults"]), one


INSTANCE = """
from rgsud_fast.kernels.triton import instance_norm_lrelu as kernel
def launch():
    x = tensor(8, 128, 64, 64)
    kernel.backward(x, x, kernel.forward(x, 0.2, 1e-5)[1], 0.2, 1e-5)
"""


def test_instance_norm_moves_wide_pieces():
    found = codes_of(INSTANCE)
    assert len(found) == 12
    assert_sound(found)
    assert all(one["narrow"] <= 4 for one in found), found


NAFBLOCK = """
from rgsud_fast.kernels.triton import nafblock as kernel
def launch():
    for c in (32, 64, 128):
        x, one, square = tensor(4, c, 64, 64), wide(c), wide(c, c, 1, 1)
        double, more = wide(2 * c, c, 1, 1), wide(2 * c)
        weights = [one, one, double, more, wide(2 * c, 1, 3, 3), more, square, one, square, one]
        weights += [one, one, double, more, square, one, wide(1, c, 1, 1), wide(1, c, 1, 1)]
        out, *kept = kernel.forward(x, weights, 1e-6)
        kernel.backward(out, x, *kept, weights, 1e-6)
"""


def test_nafblock_spills_and_calls_nothing():
    found = codes_of(NAFBLOCK, (89, 90))
    assert_sound(found)
    forward = {"norm_expand_kernel", "gate_kernel", "mix_kernel", "tail_kernel"}
    assert forward | {
        "mix_back_kernel",
        "matrices_kernel",
        "weights_kernel",
        "tail_back_kernel",
        "products_kernel",
        "expand_back_kernel",
    } <= {one["name"] for one in found}


GATED = """
from rgsud_fast.kernels.triton import gated_dconv as kernel
def launch():
    for gate, taps, channels, scaled in (("gelu", 3, 254, False), ("product", 7, 64, True), ("none", 5, 48, False)):
        x, weight, bias = tensor(8, channels, 64, 64), wide(channels, 1, taps, taps), wide(channels)
        scale = wide(8) if scaled else None
        out = kernel.forward(x, weight, bias, scale, gate)
        kernel.backward(out, x, weight, bias, scale, gate)
"""


def test_gated_dconv_spills_and_calls_nothing():
    found = codes_of(GATED)
    assert len(found) == 27
    assert_sound(found)


STRIPS = """
from rgsud_fast.kernels.triton import nafblock_depthwise as kernel
def launch():
    for c, size in ((32, 256), (512, 16)):
        t, weight, bias = tensor(8 * size * size, 2 * c), wide(2 * c, 1, 3, 3), wide(2 * c)
        u, _ = kernel.gate(t, weight, bias, 8, size, size)
        v_a, _ = kernel.gate_back(u, wide(8, c // 32, c), t, weight, bias, 8, size, size)
        kernel.depthwise_back(v_a, weight, size, size, False)
"""
# Of a trip down a strip, by 128 threads: bytes read and written, each once, of bfloat16.
TRIPS = {"gate_kernel": 512 * 3 * 2, "gate_back_kernel": 512 * 5 * 2, "depthwise_back_kernel": 1024 * 2 * 2}


def test_the_depthwise_kernels_issue_little_for_what_they_move_and_are_compiled_once():
    found = codes_of(STRIPS, (90,))
    assert_sound(found)
    assert sorted(one["name"] for one in found) == sorted(TRIPS)  # whatever the channels and the size
    for one in found:
        # An H200 moves 4.8 TB/s for 132 multiprocessors of 1.7 GHz; each issues one instruction of four warps a clock.
        moved, issued = TRIPS[one["name"]] / (4.8e12 / 132 / 1.7e9), one["loop"] * (32 + 2) / 32
        assert moved / issued > 0.6, one
