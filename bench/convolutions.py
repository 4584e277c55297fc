"""The table by which every convolution of a preset is the library's or our own: measured on this GPU, in bfloat16.

python bench/convolutions.py [--preset paper] [--out FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import triton.testing
from bench_step import trainer_in
from torch import Tensor

from rgsud_fast.kernels.triton import conv_bias_lrelu as kernels
from rgsud_fast.ops import _convolutions as convolutions
from rgsud_fast.ops._convolutions import Case, use_own

SLOPE = 0.2


def cases_of(preset: str) -> list[Case]:
    """Every convolution of a step of the preset that the table may decide on, as the step asks for it."""
    seen: set[Case] = set()

    def note(part: convolutions.Part, x: Tensor, weight: Tensor) -> bool:
        seen.add(convolutions.case_of(part, x, weight))
        return False

    asked, kernels.takes_own = kernels.takes_own, note
    try:
        trainer_in(None, preset).iterate()
    finally:
        kernels.takes_own = asked
    return sorted(case for case in seen if getattr(torch, case.dtype) in convolutions.HALVES)


def measure(case: Case) -> dict[str, str | int | float]:
    """A row of the table: both ways of computing one part, with the passes that each of them needs around it."""
    dtype = getattr(torch, case.dtype)
    last = {"device": "cuda", "dtype": dtype}
    x = torch.randn(case.images, case.channels, case.height, case.width, **last)
    v_out = torch.randn(case.images, case.channels_out, case.height, case.width, **last)
    x, v_out = (tensor.contiguous(memory_format=torch.channels_last) for tensor in (x, v_out))
    weight = torch.randn(case.channels_out, case.channels, case.taps, case.taps, device="cuda") * 0.02
    bias = torch.randn(case.channels_out, device="cuda")
    times = {}
    for name, own in (("library_us", False), ("own_us", True)):
        with use_own(own):
            times[name] = 1e3 * triton.testing.do_bench(lambda: run(case, x, v_out, weight, bias), return_mode="median")
    return case._asdict() | times


def run(case: Case, x: Tensor, v_out: Tensor, weight: Tensor, bias: Tensor) -> None:
    """One part, by the choice that is in force; backward it is of the gradient before the activation."""
    if case.part == "forward":
        kernels.forward(x, weight, bias, SLOPE)
    else:
        kernels.at_inputs(v_out, None, x, weight, 1.0, case.part == "at_x", case.part == "at_weight")


def main() -> None:
    """Measure, print a line per case, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="paper")
    parser.add_argument("--out", type=Path, default=convolutions.table_path())
    arguments = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    rows = []
    for case in cases_of(arguments.preset):
        rows.append(measure(case))
        print(*case, *(f"{rows[-1][name]:.1f}" for name in ("library_us", "own_us")))
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps({torch.cuda.get_device_name(): rows}, indent=1))


if __name__ == "__main__":
    main()
