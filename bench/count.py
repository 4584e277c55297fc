"""Count what a step of preset `paper` launches, moves and waits for on a GPU, without one; write results/counted.md.

python bench/count.py [--no-compile] [--sm 90] [--check]

--no-compile leaves the machine code out, which takes seconds for each kernel; --sm names one architecture in place of
all; --check writes nothing and fails where a limit of `counting/limits.py` is passed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)  # interpreted kernels have no machine code

from counting.limits import BESIDE, CODE, STEP
from counting.machine_code import ARCHITECTURES, compile_all
from counting.step import trace_beside, trace_step
from counting.table import figures_beside, figures_of, figures_of_code, goals, kernels, largest, over, steps

from rgsud_fast.system.files import write_text

TARGET = Path(__file__).resolve().parent / "results" / "counted.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--sm", type=int, action="append", choices=ARCHITECTURES)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true", help="print the figures alone, for the tests")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()

    traces = {stage: (trace_step(stage), trace_step(stage, "reference")) for stage in (1, 2)}
    figures = {stage: figures_of(*pair) for stage, pair in traces.items()}
    found = [f"stage {stage}: {line}" for stage in traces for line in over(figures[stage], STEP)]
    beside = {stage: trace_beside(stage) for stage in traces}
    for stage, trace in beside.items():
        figures[stage] |= figures_beside(trace)
        found += [f"stage {stage}: {line}" for line in over(figures[stage], BESIDE)]
    page = ["# Counted without a GPU: a step of preset `paper` in bfloat16", "", *steps(traces), ""]
    for stage in traces:
        page += [f"Stage {stage}, beside the goals:", "", *goals(figures[stage], STEP | BESIDE), ""]
    page += ["What moves most in stage 1:", "", *largest(traces[1][0]), ""]

    code_figures = {}
    if not given.no_compile:
        launched = {}  # by architecture: what a program may hold decides its size
        for architecture in given.sm or ARCHITECTURES:
            some = [trace_step(stage, architecture=architecture).kernels for stage in (1, 2)]
            launched[architecture] = some[0] | some[1] | beside[1].kernels | beside[2].kernels
        order = {key: sorted(some, key=lambda kernel: kernel.name) for key, some in launched.items()}
        codes = compile_all(order, given.processes)
        code_figures = figures_of_code(codes)
        found += over(code_figures, CODE)
        counts = ", ".join(f"{len(some)} for sm_{architecture}" for architecture, some in launched.items())
        page += [f"Compilations of Triton's kernels, as each architecture asks for them: {counts}.", ""]
        page += [*goals(code_figures, CODE), ""]
        names = {(key, kernel.name): count for key, some in launched.items() for kernel, count in some.items()}
        page += kernels(sorted(codes, key=lambda code: (code.name, code.architecture)), names)
    if given.json:
        print(json.dumps({"steps": figures, "code": code_figures, "found": found}))
    else:
        print("\n".join(page))
        print(*(found or ["every figure is within its limit"]), sep="\n")
    if not (given.check or given.json or given.no_compile or given.sm):
        write_text(TARGET, "\n".join([*page, ""]))
    sys.stdout.flush()
    os._exit(bool(found) and given.check)  # torch 2.14 may crash where it takes the fakes of several traces apart


if __name__ == "__main__":
    main()
