"""The machine code of Triton launches, read without a GPU: compiled as the host function would launch them.

Only where Triton is not interpreted: `facts_of` runs a script in a process of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent
TYPES = {
    "float32": "*fp32",
    "float64": "*fp64",
    "bfloat16": "*bf16",
    "float16": "*fp16",
    "uint8": "*u8",
    "int64": "*i64",
}
LEAST = {80: 163 << 10, 89: 99 << 10, 90: 227 << 10}  # shared memory of a program
FAKE = """
import json, sys, torch, sass
from torch._subclasses.fake_tensor import FakeTensorMode
def tensor(*shape, dtype=torch.bfloat16):
    made = torch.empty(shape, device="cuda", dtype=dtype)
    return made.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else made
def wide(*shape):
    return torch.empty(shape, device="cuda")
"""


def facts_of(script: str, folder: Path, archs: tuple[int, ...] = (80, 89, 90)) -> list[dict[str, Any]]:
    """Run a script with FAKE before it and `sass.told(launches, archs)` in reach; what it printed last, as JSON."""
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(folder)
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", FAKE + script.replace("ARCHS", str(archs))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def recording(*modules: Any, arch: int = 90) -> Iterator[list[tuple[Any, dict[str, Any], dict[str, int]]]]:
    """Note the launches of the modules' kernels in place of making them, as a GPU of that kind would see them."""
    from triton.runtime.jit import JITFunction

    launches: list[tuple[Any, dict[str, Any], dict[str, int]]] = []
    kept = []
    fakes = {
        "on_device": lambda x: contextlib.nullcontext(),
        "shared_memory": lambda x: LEAST[arch],
        "warps": lambda x: 4 if arch >= 90 else 8,
    }
    for module in modules:
        for name, value in list(vars(module).items()):
            fake = _Recorder(value, launches) if isinstance(value, JITFunction) else fakes.get(name)
            if fake is not None:
                kept.append((module, name, value))
                setattr(module, name, fake)
    try:
        yield launches
    finally:
        for module, name, value in kept:
            setattr(module, name, value)


class _Recorder:
    def __init__(self, kernel: Any, launches: list[Any]) -> None:
        self._kernel, self._launches = kernel, launches

    def __getitem__(self, grid: Any) -> Any:
        def launch(*args: Any, **more: Any) -> None:
            options = {name: more.pop(name) for name in ("num_warps", "num_stages") if name in more}
            values = dict(zip(self._kernel.arg_names, args, strict=False)) | more
            self._launches.append((self._kernel, values, options))

        return launch


def facts(kernel: Any, values: dict[str, Any], options: dict[str, int], arch: int) -> dict[str, Any]:
    """Compile one launch: name, instructions, spills, calls, shared memory, registers and `per_tile`.

    `per_tile` is, of the loops with matrix products, the most instructions that four warps issue for a product of
    64 x 64 x 64; 0 where there is none.
    """
    import triton
    from triton.backends.compiler import GPUTarget

    constants, signature, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = values.get(parameter.name)
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            constants[parameter.name], signature[parameter.name] = value, "constexpr"
            continue
        whole = isinstance(value, int)
        if hasattr(value, "dtype"):
            signature[parameter.name] = TYPES[str(value.dtype).removeprefix("torch.")]
        else:
            signature[parameter.name] = ("i32" if value < 2**31 else "i64") if whole else "fp32"
        if hasattr(value, "dtype") or (whole and value % 16 == 0):
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    tools = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        text = subprocess.run([tools / "nvdisasm", "-c", file.name], capture_output=True, text=True, check=True).stdout
        usage = subprocess.run([tools / "cuobjdump", "-res-usage", file.name], capture_output=True, text=True).stdout
    lines = [line for line in text.splitlines() if _is_code(line)]
    per_tile = max((_per_tile(body, options.get("num_warps", 4)) for body in _loops(text)), default=0.0)
    return {
        "name": kernel.fn.__name__,
        "arch": arch,
        "instructions": len(lines),
        "spills": sum(bool(re.search(r"\b(LDL|STL)\b", line)) for line in lines),
        # A jump out of a long loop is spelled CALL, too; where something is called, something returns.
        "calls": sum("CALL" in line for line in lines) if any(re.search(r"\bRET\b", line) for line in lines) else 0,
        "shared": compiled.metadata.shared,
        "registers": int(re.findall(r"REG:(\d+)", usage)[-1]),
        "per_tile": round(per_tile, 1),
        "narrow": sum(bool(re.search(r"\b(LDG|STG)\.E(\.U8|\.U16|\.S8)?\b(?!\.)", line)) for line in lines),
    }


def told(launches: list[Any], archs: tuple[int, ...]) -> None:
    """Print the facts of all launches on all architectures, as JSON on one line."""
    print(json.dumps([facts(*launch, arch) for launch in launches for arch in archs]))


def _is_code(line: str) -> bool:
    return bool(re.search(r"/\*[0-9a-f]{4,}\*/", line))


def _loops(text: str) -> list[list[str]]:
    lines, labels, found = text.splitlines(), {}, []
    for place, line in enumerate(lines):
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label.group(1)] = place
        jump = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", line)
        if jump and jump.group(1) in labels:
            found.append([one for one in lines[labels[jump.group(1)] : place + 1] if _is_code(one)])
    return found


def _per_tile(body: list[str], warps: int) -> float:
    products = 0
    for line in body:
        if group := re.search(r"HGMMA\.(\d+)x(\d+)x(\d+)", line):
            products += int(group.group(1)) * int(group.group(2)) * int(group.group(3)) * warps // 4
        elif re.search(r"HMMA\.16816", line):
            products += 16 * 8 * 16 * warps
    return len(body) * (warps / 4) / (products / 64**3) if products else 0.0
