"""What was built: the extension imports, every GPU kernel compiles for sm_90, nothing is called plain `kernels`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CUDA_SOURCES = sorted((ROOT / "kernels" / "cuda").glob("*.cu"))


def test_extension_imports_and_says_what_it_holds():
    from rgsud_fast import _C

    assert "CPU kernels" in _C.build
    assert all(isinstance(arch, int) for arch in _C.cuda_architectures())


@pytest.mark.parametrize("source", CUDA_SOURCES, ids=lambda path: path.name)
def test_cuda_kernel_compiles_for_sm_90(source, tmp_path):
    nvcc = shutil.which("nvcc")
    if not nvcc:
        pytest.skip("no nvcc")
    target = tmp_path / "kernel.cubin"
    arch = "sm_90a" if "wgmma" in source.read_text() else "sm_90"
    command = [nvcc, "-std=c++17", f"-arch={arch}", "-cubin", "-Werror", "all-warnings", f"-I{ROOT / 'csrc'}"]
    subprocess.run([*command, "-o", str(target), str(source)], check=True)
    assert target.stat().st_size > 0


COMPILE_TRITON = """
import triton
from triton import language as tl
from triton.backends.compiler import GPUTarget
from rgsud_fast.kernels.triton import clip_preprocess as clip, conv_bias_lrelu as passes, implicit_gemm as conv
from rgsud_fast.kernels.triton import gated_dconv as gated, instance_norm_lrelu as instance
from rgsud_fast.kernels.triton import layernorm2d as norm, nafblock_depthwise as depthwise, nafblock_kernels as naf
from rgsud_fast.kernels.triton import pool_update as pool, rain_residual as rain, take_crops as crops
from rgsud_fast.kernels.triton import pixel_shuffle_skip as shuffle

# Per kernel: its constants, and what is neither a 32-bit integer nor a pointer to the images' type.
NORM, STRIP = {"BLOCK_C": 32, "BLOCK_P": 128}, {"BLOCK_C": 32, "BLOCK_X": 16}
PARAMETERS = {"weight_ptr": "*fp32", "bias_ptr": "*fp32", "partials_ptr": "*fp32", "eps": "fp32"}
MATRIX = {"HEIGHT": 64, "WIDTH": 48, "CHANNELS": 64, "CHANNELS_OUT": 64, "TAPS": 3, "SLOPE": 0.2, "WIDEN": False}
CONV = MATRIX | {"HAS_IN_SIGN": False, "HAS_BIAS": True, "HAS_RESIDUAL": True, "HAS_POSITIVE": True, "ACC": tl.float32,
                 "BLOCK_P": 64, "BLOCK_D": 64, "BLOCK_K": 32}
FLOATS = {"slope": "fp32", "bias_ptr": "*fp32", "partials_ptr": "*fp32", "sign_ptr": "*u8", "positive_ptr": "*u8"}
CROPS = dict.fromkeys(("pixels_ptr", "versions_ptr"), "*u8") | {"windows_ptr": "*i64", "size": "i64"}
POOL = {"arena_ptr": "*u8", "scores_ptr": "*fp32", "values_ptr": "*fp32", "places_ptr": "*i64", "slot_ptr": "*i32",
        "entered_ptr": "*u8", "last_offset": "i64", "margin": "fp32"}
CLIP = {"down_index_ptr": "*i64", "across_index_ptr": "*i64", "down_weight_ptr": "*fp64", "across_weight_ptr": "*fp64"}
CLIP |= {f"{part}_{colour}": "fp32" for part in ("mean", "deviation") for colour in ("red", "green", "blue")}
PASS = {"CHANNELS": 64, "SLOPE": 0.2}
SHUFFLE = {"ACC": tl.float32, "BLOCK_P": 16, "BLOCK_C": 32}
PIECES = {"ACC": tl.float32, "PIECES": 16, "BLOCK_P": 64, "BLOCK_C": 64}
GATED = {"GATE": 2, "TAPS": 3, "BLOCK_P": 128, "BLOCK_C": 16}
SUMMED = {"bias_ptr": "*fp32", "scale_ptr": "*fp32", "sums_ptr": "*fp32", "along_ptr": "*fp32"}
STEEP, SUMS = {"SLOPE": 0.2, "EPS": 1e-5}, {"statistics_ptr": "*fp32", "sums_ptr": "*fp32"}
KERNELS = [
    (norm.fwd_kernel, NORM | {"eps": 1e-6}, PARAMETERS),
    (norm.bwd_kernel, NORM | {"eps": 1e-6}, PARAMETERS),
    (conv.conv_kernel, CONV, FLOATS),
    (conv.conv_kernel, CONV | {"HAS_IN_SIGN": True, "HAS_BIAS": False, "HAS_POSITIVE": False}, FLOATS),
    (passes.epilogue_kernel, PASS | {"HAS_RESIDUAL": True, "ACC": tl.float32, "BLOCK": 2048}, FLOATS),
    (passes.activation_kernel, PASS | {"ROWS": 1024, "WRITE": True, "BLOCK_P": 32, "BLOCK_D": 64}, FLOATS),
    (instance.statistics_kernel, PIECES, SUMS),
    (instance.apply_kernel, PIECES | STEEP, SUMS),
    (instance.sums_kernel, PIECES | STEEP, SUMS),
    (instance.gradient_kernel, PIECES | STEEP, SUMS),
    (gated.gate_kernel, GATED, PARAMETERS | SUMMED),
    (gated.gate_back_kernel, GATED | {"GATE": 1, "TAPS": 7}, PARAMETERS | SUMMED),
    (gated.adjoint_kernel, GATED, PARAMETERS),
    (shuffle.shuffle_kernel, SHUFFLE, {}),
    (shuffle.unshuffle_kernel, SHUFFLE, {}),
    (rain.residual_kernel, {"ACC": tl.float32, "BLOCK": 256}, {}),
    (pool.enter_kernel, {"SLOTS": 4}, POOL),
    (pool.copy_kernel, {"BLOCK": 512}, POOL | {"size": "i64"}),
    (clip.resize_kernel, {"ROWS": 9, "COLUMNS": 9, "CHUNK": 16, "ACC": tl.float32, "BLOCK": 256}, CLIP),
    (crops.crops_kernel, {"KEPT": 0, "BLOCK": 256}, CROPS),
    (crops.crops_kernel, {"KEPT": 2, "BLOCK": 256}, CROPS),
    (naf.norm_kernel, NORM, PARAMETERS),
    (naf.norm_back_kernel, NORM, PARAMETERS),
    (depthwise.gate_kernel, STRIP, PARAMETERS),
    (depthwise.gate_back_kernel, STRIP, PARAMETERS | {"v_mean_ptr": "*fp32"}),
    (depthwise.depthwise_back_kernel, STRIP | {"SUMS": True}, PARAMETERS),
    (conv.correlate_kernel, MATRIX | {"HAS_SIGN": True, "BLOCK_P": 32, "BLOCK_K": 32, "BLOCK_D": 32}, FLOATS),
]
for kernel, constants, types in KERNELS:
    for dtype in ("fp32", "bf16"):
        signature = {n: types.get(n, f"*{dtype}" if n.endswith("_ptr") else "i32") for n in kernel.arg_names}
        signature |= dict.fromkeys(constants, "constexpr")
        source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert compiled.asm["cubin"], kernel
        print(kernel.fn.__name__, dtype, len(compiled.asm["cubin"]), "wgmma" in compiled.asm["ptx"])
"""


@pytest.mark.slow
def test_triton_kernels_compile_for_sm_90(tmp_path):
    pytest.importorskip("triton")
    # In a process of its own: there Triton is not interpreted.
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    script = tmp_path / "compile_triton.py"
    script.write_text(COMPILE_TRITON)
    subprocess.run([sys.executable, str(script)], check=True, env=environment)


def test_nothing_is_importable_as_plain_kernels(tmp_path):
    script = "import importlib.util as u; assert u.find_spec('rgsud_fast.kernels'); assert not u.find_spec('kernels')"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
