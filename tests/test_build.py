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
import torch, triton
from triton.backends.compiler import GPUTarget
from rgsud_fast.kernels.triton import layernorm2d as op

pointers = {"x_ptr": "*DT", "out_ptr": "*DT", "v_out_ptr": "*DT", "v_x_ptr": "*DT",
            "weight_ptr": "*fp32", "bias_ptr": "*fp32", "partials_ptr": "*fp32"}
for kernel in (op.fwd_kernel, op.bwd_kernel):
    for dtype in ("fp32", "bf16"):
        signature = {name: pointers.get(name, "i32").replace("DT", dtype) for name in kernel.arg_names}
        signature["eps"] = "fp32"
        blocks = {"BLOCK_C": 32, "BLOCK_P": 128}
        signature |= dict.fromkeys(blocks, "constexpr")
        source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=blocks)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        assert compiled.asm["cubin"], kernel
"""


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
