"""The CUDA kernels on a machine without a GPU: compiled as C++ with fibers for threads, and held against the CPU's.

It shows that the kernels compute the right numbers; nothing about speed, and nothing about races between blocks.
Threads also run in shuffled orders: what lacks a __syncthreads() then gives other numbers.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from photographs import photographs

from rgsud_fast.ops import derain_loss, high_pass, nss_features, removed_layer, reward_candidate, ssim, with_high_pass
from rgsud_fast.ops._native import address

ROOT = Path(__file__).parents[2]
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
WRAPPERS = """
#include <cuda_runtime.h>

#include "cuda_launchers.h"
#include "nss_features.h"
using namespace rgsud;
extern "C" {
void shuffle(int64_t seed) {
  emulated::shuffled = seed > 0;
  emulated::chance.seed(seed);
}
void high_pass(const float* in, float* out, int64_t p, int64_t h, int64_t w, int64_t last, bool adjoint,
               int64_t beside) {
  high_pass_cuda<float>(in, out, {p, h, w, last}, adjoint, beside, nullptr);
}
int64_t ssim_partials(int64_t p, int64_t h, int64_t w) { return ssim_cuda_partials({p, h, w}); }
void ssim(const float* x, const float* y, float* value, float* v_x, float* v_y, float* moments, double* partials,
          double* squares, int64_t p, int64_t h, int64_t w, int64_t last) {
  ssim_cuda<float>(x, y, value, v_x, v_y, moments, partials, squares, {p, h, w, last}, nullptr);
}
void derain_forward(const double* squares, int64_t tiles, float* values, double* mse, int64_t images, int64_t count) {
  derain_loss_forward_cuda<float>(squares, tiles, values, mse, images, count, nullptr);
}
void derain_backward(const float* v, const float* x, const float* y, const float* v_ssim, const double* mse, float* v_x,
                     int64_t images, int64_t count) {
  derain_loss_backward_cuda<float>(v, x, y, v_ssim, mse, v_x, images, count, nullptr);
}
void candidate(const float* rainy, const float* derained, const float* mirrored, float* image, void* partials,
               double* layers, int64_t n, int64_t h, int64_t w, bool grey_layer) {
  reward_candidate_cuda({rainy, derained, mirrored, image, grey_layer}, static_cast<LayerSums*>(partials), layers,
                        {n, h, w}, nullptr);
}
int64_t candidate_partials(int64_t n, int64_t h, int64_t w) { return reward_candidate_cuda_partials({n, h, w}); }
NssSize size_of(const int64_t* s, const int64_t* t) {
  const auto index = [&](int i) { return reinterpret_cast<const int64_t*>(t[i]); };
  const auto weight = [&](int i) { return reinterpret_cast<const double*>(t[i]); };
  return {s[0], s[1], s[2], {s[3], s[4]}, {s[5], s[6]}, {s[7], s[8]}, {s[9], s[10]},
          {index(0), weight(1), t[2]}, {index(3), weight(4), t[5]}};
}
int64_t nss_tails(const int64_t* s, const int64_t* t) { return nss_features_cuda_tails(size_of(s, t)); }
void nss(const float* images, float* grey, double* half, float* normal, void* tails, double* features, const int64_t* s,
         const int64_t* t, const double* f, const int64_t* flags, const double* shape, const double* between,
         const double* scale, const double* centre, int64_t count) {
  const NssForm form = {f[0], f[1], f[2], f[3], f[4], f[5], flags[0] != 0, flags[1] != 0, flags[2] != 0,
                        flags[3] != 0, flags[4] != 0};
  nss_features_cuda<float>(images, grey, half, normal, static_cast<Tails*>(tails), features, size_of(s, t), form,
                           {shape, between, scale, centre, count}, nullptr);
}
}
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """The launchers of kernels/cuda as C functions over the CPU's memory."""
    if not COMPILER:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("emulated")
    for source in sorted((ROOT / "kernels/cuda").iterdir()):
        launches = re.compile(r"(\w+(?:<[^<>;]*>)?)\s*<<<(.*?)>>>\((.*?)\);", re.DOTALL)

        def emulate(match):
            grid, block = split(match[2])[:2]
            return f"emulated::launch({grid}, {block}, [&] {{ {match[1]}({match[3]}); }});"

        text = launches.sub(emulate, source.read_text())
        assert "<<<" not in text
        (folder / source.name.replace(".cu", ".cpp" if source.suffix == ".cu" else ".cu")).write_text(text)
    (folder / "wrappers.cpp").write_text(WRAPPERS)
    library = folder / "emulated.so"
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-w", "-DRGSUD_ISA=cuda"]
    flags += [f"-I{path}" for path in (Path(__file__).parent / "emulated", ROOT / "csrc", folder)]
    subprocess.run([COMPILER, *flags, *map(str, sorted(folder.glob("*.cpp"))), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    for name in ("ssim_partials", "nss_tails", "candidate_partials"):
        getattr(loaded, name).restype = ctypes.c_int64
    return loaded


@pytest.fixture(params=[0, 1, 2], ids=["in order", "shuffled", "shuffled again"])
def kernels(request, compiled):
    """The same, with the threads of a block in order or not."""
    call(compiled.shuffle, request.param)
    return compiled


def split(arguments):
    """At commas outside parentheses."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter in "(<") - (letter in ")>")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def call(function, *arguments):
    kinds = {bool: ctypes.c_bool, int: ctypes.c_int64}
    made = [
        ctypes.c_void_p(address(a)) if isinstance(a, (torch.Tensor, type(None))) else kinds[type(a)](a)
        for a in arguments
    ]
    return function(*made)


layouts = pytest.mark.parametrize("last", [False, True], ids=["first", "last"])


def laid(last, *tensors):
    """With their channels last in memory, or first."""
    return [x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format) for x in tensors]


@layouts
@pytest.mark.parametrize("size", [(1, 3, 8, 8), (2, 3, 33, 70), (1, 2, 64, 65)], ids=str)
def test_high_pass(kernels, size, last):
    image, v_out = laid(last, torch.rand(size), torch.rand(size))
    planes = size[0] * size[1], *size[2:], size[1] * last
    detail, v_image = laid(last, torch.empty(size), torch.empty(size))
    call(kernels.high_pass, image, detail, *planes, False, 0)
    call(kernels.high_pass, v_out, v_image, *planes, True, 0)
    image.requires_grad_()
    expected = high_pass(image)
    torch.testing.assert_close(detail, expected.detach(), rtol=0, atol=2e-6)
    torch.testing.assert_close(v_image, torch.autograd.grad(expected, image, v_out)[0], rtol=0, atol=2e-6)
    both, v_both = laid(last, *torch.rand(2, size[0], 2 * size[1], *size[2:]))
    call(kernels.high_pass, image.detach(), both, *planes, False, size[1])
    expected = with_high_pass(image)
    torch.testing.assert_close(both, expected.detach(), rtol=0, atol=2e-6)
    call(kernels.high_pass, v_both, v_image, *planes, True, size[1])
    torch.testing.assert_close(v_image, torch.autograd.grad(expected, image, v_both)[0], rtol=0, atol=4e-6)


@layouts
@pytest.mark.parametrize("size", [(1, 3, 11, 11), (2, 3, 37, 50)], ids=str)
def test_ssim_and_derain_loss(kernels, size, last):
    x, y = laid(last, torch.rand(size), torch.rand(size))
    x.requires_grad_()
    images, elements = size[0], x[0].numel()
    planes = size[0] * size[1], *size[2:]
    partials = torch.empty(call(kernels.ssim_partials, *planes), dtype=torch.float64)
    squares, moments = torch.empty_like(partials), torch.empty(4 * planes[0] * (size[2] - 10) * (size[3] - 10))
    value, v_ssim = torch.empty(()), torch.empty_like(y)
    call(kernels.ssim, x.detach(), y, value, v_ssim, None, moments, partials, squares, *planes, size[1] * last)
    expected = ssim(x, y)
    torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(v_ssim, torch.autograd.grad(expected, x)[0], rtol=1e-4, atol=1e-8)

    values, mse, v_x = torch.stack([value, value]), torch.empty(images, dtype=torch.float64), torch.empty_like(y)
    call(kernels.derain_forward, squares, len(squares) // images, values, mse, images, elements)
    losses = derain_loss(x, y)
    torch.testing.assert_close(values, torch.stack(losses).detach(), rtol=1e-5, atol=1e-6)
    call(kernels.derain_backward, torch.tensor([0.7, 1.3]), x.detach(), y, v_ssim, mse, v_x, images, elements)
    expected = torch.autograd.grad(0.7 * losses[0] + 1.3 * losses[1], x)[0]
    torch.testing.assert_close(v_x, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("grey_layer", [False, True], ids=["coloured", "grey"])
@pytest.mark.parametrize("size", [(1, 7, 15), (2, 14, 40), (2, 65, 71)], ids=str)
def test_reward_candidate(kernels, size, grey_layer):
    rainy, derained, mirrored = (torch.rand(size[0], 3, *size[1:]) * 1.4 - 0.2 for _ in range(3))
    mirrored[0, 1, 5, 3] = torch.inf
    partials = torch.empty(call(kernels.candidate_partials, *size), dtype=torch.float64)
    for other in (mirrored, None):
        image, layers = torch.empty(rainy.shape), torch.empty(size[0], 6, dtype=torch.float64)
        call(kernels.candidate, rainy, derained, other, image, partials, layers, *size, grey_layer)
        expected = reward_candidate(rainy, derained, other, grey_layer)
        torch.testing.assert_close(image, expected[0], rtol=0, atol=2e-7, equal_nan=True)
        assert_layers(layers, expected[1])
    call(kernels.candidate, rainy, derained, None, None, partials, layers, *size, False)
    assert_layers(layers, removed_layer(rainy, derained))


def assert_layers(layers, expected):
    torch.testing.assert_close(layers.float(), torch.stack(expected, 1), rtol=2e-6, atol=1e-8, equal_nan=True)


@pytest.mark.parametrize("form", ["MATLAB", "YIQ", "OPENCV"])
@pytest.mark.parametrize("shape, block", [((2, 100, 200), 96), ((2, 37, 50), 12), ((1, 40, 57), None)], ids=str)
def test_nss_features(kernels, form, shape, block):
    import importlib

    op = importlib.import_module("rgsud_fast.ops.nss_features")
    form = getattr(op, form)
    images = photographs(*shape)
    if block:
        images[0, :, :block, :block] = 0.4  # flat
    layout, shapes = op._layout(images, block, form), op._shapes(images.device)
    expected = nss_features(images, block, form)
    (height, width), half = layout.sizes
    by_scale = [side for pair in (layout.sizes, layout.blocks) for sides in zip(*pair, strict=True) for side in sides]
    sizes = torch.tensor([len(images), *images.shape[2:], *by_scale])
    taps = torch.tensor([*layout.down.numbers, *layout.across.numbers])
    numbers = torch.tensor([*form.grey, form.constant, form.gain, form.level], dtype=torch.float64)
    flags = torch.tensor([form.cyclic, form.symmetric, layout.whole, form.single_grey, form.single]).long()
    scratch = [torch.empty(len(images), height, width), torch.empty(len(images), *half, dtype=torch.float64)]
    scratch += [torch.empty(len(images), height, width)]
    scratch += [torch.empty(5 * call(kernels.nss_tails, sizes, taps), dtype=torch.float64)]
    features = torch.full((len(images), expected[0].numel() // 36, 36), torch.nan, dtype=torch.float64)
    call(kernels.nss, images, *scratch, features, sizes, taps, numbers, flags, *shapes, len(shapes.shape))
    features = features.reshape(expected.shape)
    assert torch.equal(features.isnan(), expected.isnan())
    apart = (features - expected).nan_to_num().abs()
    assert apart.max() < 2.1e-3  # a shape half-way between two steps of the grid of 0.001 may be taken for either
    assert (apart > 1e-5).float().mean() < 0.05
