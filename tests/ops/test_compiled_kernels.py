"""The machine code of the kernels as the `paper` recipe launches them: what they hold, spill and issue."""

from __future__ import annotations

import pytest
from sass import LEAST, facts_of

pytest.importorskip("triton")
pytestmark = pytest.mark.slow

CONVOLUTIONS = """
from rgsud_fast.kernels.triton import conv_bias_lrelu, implicit_gemm
from rgsud_fast.ops._convolutions import use_own
found = []
for arch in ARCHS:
    with FakeTensorMode(), use_own(True), sass.recording(conv_bias_lrelu, implicit_gemm, arch=arch) as launches:
        for channels, out, taps in ((64, 64, 3), (256, 256, 3), (6, 64, 7)):
            x, v_out, sign = tensor(8, channels, 64, 64), tensor(8, out, 64, 64), tensor(8, out, 64, 64)
            weight, bias = wide(out, channels, taps, taps), wide(out)
            conv_bias_lrelu.forward(x, weight, bias, 0.2)
            conv_bias_lrelu.backward(v_out, x, sign, weight, 0.2, channels == out)
        conv_bias_lrelu.forward(x, weight, bias, 0.2, residual=v_out)
    found += [sass.facts(*launch, arch) for launch in launches]
print(json.dumps(found))
"""


def assert_sound(found):
    for one in found:
        assert one["spills"] == 0 and one["calls"] == 0, one
        assert one["shared"] <= LEAST[one["arch"]], one


def test_the_implicit_gemm_issues_little_and_spills_nothing(tmp_path):
    found = facts_of(CONVOLUTIONS, tmp_path)
    assert_sound(found)
    products = [one for one in found if one["name"] in ("conv_kernel", "correlate_kernel") and one["arch"] == 90]
    assert len(products) == 9
    assert all(0 < one["per_tile"] <= 220 for one in products), products


PASSES = """
from rgsud_fast.kernels.triton import conv_bias_lrelu, implicit_gemm
with FakeTensorMode(), sass.recording(conv_bias_lrelu, implicit_gemm) as launches:
    x, weight, bias = tensor(8, 64, 64, 64), wide(64, 64, 3, 3), wide(64)
    out, sign = conv_bias_lrelu.forward(x, weight, bias, 0.2, residual=x)
    conv_bias_lrelu.backward(out, x, sign, weight, 0.2, v_residual=x)
sass.told(launches, ARCHS)
"""


def test_the_passes_around_a_library_s_convolution_move_16_bytes_at_a_time(tmp_path):
    found = facts_of(PASSES, tmp_path)
    assert {one["name"] for one in found} == {"epilogue_kernel", "activation_kernel"}
    assert_sound(found)
    assert all(one["narrow"] <= 1 for one in found), found


SHUFFLE = """
from rgsud_fast.kernels.triton import pixel_shuffle_skip as kernel
with FakeTensorMode(), sass.recording(kernel) as launches:
    kernel.backward(kernel.forward(tensor(8, 128, 64, 64), tensor(8, 32, 128, 128)))
sass.told(launches, ARCHS)
"""


def test_pixel_shuffle_skip_moves_wide_pieces(tmp_path):
    found = facts_of(SHUFFLE, tmp_path)
    assert len(found) == 6
    assert_sound(found)
    assert all(one["narrow"] == 0 for one in found), found


WIDE = """
from rgsud_fast.kernels.triton import conv_bias_lrelu, implicit_gemm
from rgsud_fast.ops._convolutions import use_own
with FakeTensorMode(), use_own(True), sass.recording(conv_bias_lrelu, implicit_gemm, arch=89) as launches:
    for dtype, channels, out in ((torch.float64, 70, 130), (torch.float32, 128, 128)):
        x, weight = tensor(2, channels, 32, 32, dtype=dtype), wide(out, channels, 1, 1).to(dtype)
        v_out = conv_bias_lrelu.forward(x, weight, weight[:, 0, 0, 0], 0.2)[0]
        conv_bias_lrelu.backward(v_out, x, v_out, weight, 0.2)
sass.told(launches, (89,))
"""


def test_tiles_of_wide_numbers_fit_the_smallest_shared_memory(tmp_path):
    assert_sound([one | {"spills": 0} for one in facts_of(WIDE, tmp_path)])


INSTANCE = """
from rgsud_fast.kernels.triton import instance_norm_lrelu as kernel
with FakeTensorMode(), sass.recording(kernel) as launches:
    x = tensor(8, 128, 64, 64)
    kernel.backward(x, x, kernel.forward(x, 0.2, 1e-5)[1], 0.2, 1e-5)
sass.told(launches, ARCHS)
"""


def test_instance_norm_moves_wide_pieces(tmp_path):
    found = facts_of(INSTANCE, tmp_path)
    assert len(found) == 12
    assert_sound(found)
    assert all(one["narrow"] <= 4 for one in found), found


NAFBLOCK = """
from rgsud_fast.kernels.triton import implicit_gemm, nafblock as kernel, nafblock_fused as fused
from rgsud_fast.kernels.triton import nafblock_products as products, nafblock_wide as wide_blocks
found = []
for arch in ARCHS:
    with FakeTensorMode(), sass.recording(kernel, fused, products, wide_blocks, implicit_gemm, arch=arch) as launches:
        for c in (32, 64, 128):
            x, one, square = tensor(4, c, 64, 64), wide(c), wide(c, c, 1, 1)
            double, more = wide(2 * c, c, 1, 1), wide(2 * c)
            weights = [one, one, double, more, wide(2 * c, 1, 3, 3), more, square, one, square, one]
            weights += [one, one, double, more, square, one, wide(1, c, 1, 1), wide(1, c, 1, 1)]
            out, *kept = kernel.forward(x, weights, 1e-6)
            kernel.backward(out, x, *kept, weights, 1e-6)
    found += [sass.facts(*launch, arch) for launch in launches]
print(json.dumps(found))
"""


def test_nafblock_spills_and_calls_nothing(tmp_path):
    found = facts_of(NAFBLOCK, tmp_path, (89, 90))
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
found = []
with FakeTensorMode(), sass.recording(kernel) as launches:
    for gate, taps, channels, scaled in (("gelu", 3, 254, False), ("product", 7, 64, True), ("none", 5, 48, False)):
        x, weight, bias = tensor(8, channels, 64, 64), wide(channels, 1, taps, taps), wide(channels)
        scale = wide(8) if scaled else None
        out = kernel.forward(x, weight, bias, scale, gate)
        kernel.backward(out, x, weight, bias, scale, gate)
sass.told(launches, ARCHS)
"""


def test_gated_dconv_spills_and_calls_nothing(tmp_path):
    found = facts_of(GATED, tmp_path)
    assert len(found) == 27
    assert_sound(found)
