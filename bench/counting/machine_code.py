"""What the compiler made of the Triton kernels that a step launches: shared memory, spills, calls, tensor cores."""

from __future__ import annotations

import multiprocessing
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from .fake_gpu import SHARED_KIB, fake_gpu
from .kernels import Specialisation, recorded_kernels
from .recorder import Recorder

ARCHITECTURES = tuple(SHARED_KIB)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
TILE = 64**3  # multiplications of the tile that instructions are counted per


@dataclass(frozen=True)
class Code:
    """One kernel, compiled for one architecture."""

    name: str
    architecture: int
    shared: int  # bytes
    registers: int
    spills: int  # LDL and STL instructions
    calls: int
    calls_in_loops: int
    loop: int  # instructions of the longest loop; 0 without one
    narrow: int  # loads and stores of the GPU's memory that move at most 4 bytes a thread
    products: int  # HMMA and HGMMA instructions
    dots: bool  # whether the kernel multiplies matrices of half precision
    per_tile: float | None  # what four warps issue, one at each scheduler, per 64^3 products, in the loop

    @property
    def faults(self) -> list[str]:
        """What would keep it from running, or from running well."""
        found = []
        if self.shared > SHARED_KIB[self.architecture] * 1024:
            found.append(f"{self.shared / 1024:.0f} KiB of shared memory, of {SHARED_KIB[self.architecture]}")
        if self.spills:
            found.append(f"{self.spills} spills")
        if self.calls_in_loops:
            found.append(f"{self.calls_in_loops} calls in loops")
        if self.dots and not self.products:
            found.append("products without tensor cores")
        return found


def codes_of(launch: Callable[[], object], architectures: Iterable[int] = ARCHITECTURES) -> list[Code]:
    """Compile what a function launches, as a GPU of each architecture would be asked to."""
    kernels: dict[int, dict[Specialisation, int]] = {}
    for architecture in architectures:
        found = kernels.setdefault(architecture, {})
        recorder = Recorder()
        with fake_gpu(divmod(architecture, 10)), recorder, recorded_kernels(recorder, found, architecture):
            launch()
    return compile_all(kernels, processes=1)


def compile_all(kernels: Mapping[int, Iterable[Specialisation]], processes: int = 2) -> list[Code]:
    """Compile the kernels of each architecture; some seconds each, unless Triton's cache has them."""
    global _todo
    _todo = [(kernel, architecture) for architecture, some in kernels.items() for kernel in some]
    if processes == 1:
        return [_compile(place) for place in range(len(_todo))]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.map(_compile, range(len(_todo)), chunksize=1)


_todo: list[tuple[Specialisation, int]] = []  # forked processes read it: a JITFunction cannot be sent


def _compile(place: int) -> Code:
    kernel, architecture = _todo[place]
    compiled = triton.compile(
        source_of(kernel), target=GPUTarget("cuda", architecture, 32), options=dict(kernel.options)
    )
    return read(kernel.name, architecture, compiled)


def source_of(kernel: Specialisation) -> ASTSource:
    """What Triton compiles for it."""
    return ASTSource(
        fn=kernel.kernel,
        signature=dict(kernel.signature),
        constexprs=dict(kernel.constants),
        attrs={path: [["tt.divisibility", 16]] for path in kernel.aligned},
    )


def read(name: str, architecture: int, compiled: triton.compiler.CompiledKernel) -> Code:
    """Read the machine code of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        listing = _ask("nvdisasm", "-c", "-hex", file.name)
        usage = _ask("cuobjdump", "-res-usage", file.name)
    instructions, loops = parse(listing)
    inside = set().union(*loops)
    multiply = [at for at, text in enumerate(instructions) if re.match(r"(HMMA|HGMMA)\b", text)]
    return Code(
        name,
        architecture,
        compiled.metadata.shared,
        int(re.findall(r"REG:(\d+)", usage)[-1]),
        sum(text.startswith(("LDL", "STL")) for text in instructions),
        sum(text.startswith("CALL") for text in instructions),
        sum(text.startswith("CALL") for at, text in enumerate(instructions) if at in inside),
        max(map(len, loops), default=0),
        sum(bool(re.match(r"(LDG|STG)\.E(\.(U8|U16|S8))?(?![.\w])", text)) for text in instructions),
        len(multiply),
        bool(re.search(r"tt\.dot|warp_group_dot", compiled.asm["ttgir"])) and "*bf16" in name,
        per_tile(instructions, loops, multiply, compiled.metadata.num_warps),
    )


def _ask(tool: str, *arguments: str) -> str:
    return subprocess.run([str(TOOLS / tool), *arguments], capture_output=True, text=True, check=True).stdout


def parse(listing: str) -> tuple[list[str], list[set[int]]]:
    """The instructions of nvdisasm's listing, without predicates, and the outermost loops: the places of each's.

    A loop is a set of instructions that all lead to one another. A branch back alone is none: code that is seldom
    taken lies behind the rest and jumps back into it. Some loops are left by CALL, to a label of the kernel itself:
    these are listed as JUMP.
    """
    instructions: list[str] = []
    labels: dict[str, int] = {}
    sure: list[bool] = []  # whether an instruction is always done
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(@!?U?P\w+\s+)?([A-Z][^;]*);", line):
            instructions.append(re.sub(r"^CALL(?=.*\.L_x_\d)", "JUMP", found[2].strip()))
            sure.append(found[1] is None)
    after: list[list[int]] = []
    for at, text in enumerate(instructions):
        target = re.match(r"(?:BRA|JUMP)\b(?:\.\w+)*\s*(.*?)`?\(?(\.L_x_\d+)", text)
        following = [labels[target[2]]] if target and target[2] in labels else []
        ends = sure[at] and (text.startswith(("EXIT", "RET")) or (target is not None and not target[1].strip()))
        after.append(following + ([] if ends or at + 1 == len(instructions) else [at + 1]))
    return instructions, _loops(after)


def _loops(after: list[list[int]]) -> list[set[int]]:
    """Sets of nodes that all lead to one another, by Kosaraju's two walks; single nodes are none."""
    before: list[list[int]] = [[] for _ in after]
    for node, following in enumerate(after):
        for other in following:
            before[other].append(node)
    order: list[int] = []
    seen = [False] * len(after)
    for start in range(len(after)):
        stack = [] if seen[start] else [(start, iter(after[start]))]
        seen[start] = True
        while stack:
            node, following = stack[-1]
            step = next((other for other in following if not seen[other]), None)
            if step is None:
                order.append(node)
                stack.pop()
            else:
                seen[step] = True
                stack.append((step, iter(after[step])))
    loops, taken = [], [False] * len(after)
    for start in reversed(order):
        stack, found = [] if taken[start] else [start], set()
        taken[start] = True
        while stack:
            node = stack.pop()
            found.add(node)
            for other in before[node]:
                if not taken[other]:
                    taken[other] = True
                    stack.append(other)
        if len(found) > 1:
            loops.append(found)
    return loops


def per_tile(
    instructions: Sequence[str], loops: Sequence[set[int]], multiply: Sequence[int], warps: int
) -> float | None:
    """Instructions of four warps, of each one's scheduler, per 64^3 products, in the outermost loop that multiplies.

    Of eight warps each scheduler issues two warps' instructions, for the products of all eight.
    Loops within it count once: where few channels make a tap's loop one trip, that is what a tap costs.
    """
    if not multiply:
        return None
    loop = max(loops, key=lambda places: len(places.intersection(multiply)), default=set())
    if not loop.intersection(multiply):
        loop = set(range(len(instructions)))
    products = sum(_products(instructions[at], warps) for at in multiply if at in loop)
    return len(loop) * (warps / 4) / (products / TILE)


def _products(text: str, warps: int) -> int:
    """Multiplications that a block's warps do together in one instruction: HMMA is a warp's, HGMMA four warps'."""
    if shape := re.match(r"HGMMA\.(\d+)x(\d+)x(\d+)", text):
        return int(shape[1]) * int(shape[2]) * int(shape[3]) * warps // 4
    shape = re.match(r"HMMA\.(\d{2})(8)(\d{1,2})", text)
    return int(shape[1]) * int(shape[2]) * int(shape[3]) * warps if shape else 0
