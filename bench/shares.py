"""The share of a plain stage-1 step outside the convolutions: how much fused kernels can gain at most there.

python bench/shares.py
"""

from __future__ import annotations

import torch
from bench_step import trainer_in
from limits import DEVICE, THREADS
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from rgsud_fast.ops import use_backend

STEPS, WARM_UP = 5, 3
# Parts of the names of operations (on the GPU, of kernels), and what they are; the first that fits counts.
KINDS = {
    "convolutions": ("conv", "cudnn", "xmma", "cutlass"),
    "optimisers and clipping": ("adam", "Adam", "foreach", "vector_norm", "LpNorm"),
    "normalisation": ("norm",),
    "blurs as matrix products": ("::mm", "bmm", "addmm", "matmul", "gemm"),
}
REST = "elementwise and the rest"


def shares(layout: torch.memory_format = torch.channels_last) -> dict[str, float]:
    """Shares of the time of each kind of operation in the small preset's step, plain PyTorch; they sum to 1."""
    trainer = trainer_in(layout)
    activities = {ProfilerActivity.CPU, ProfilerActivity.CUDA if DEVICE == "cuda" else ProfilerActivity.CPU}
    with use_backend("reference"):
        for _ in range(WARM_UP):
            trainer.iterate()
        with profile(activities=activities) as record:
            for _ in range(STEPS):
                trainer.iterate()
    sums = dict.fromkeys([*KINDS, REST], 0.0)
    wanted = DeviceType.CUDA if DEVICE == "cuda" else DeviceType.CPU
    for event in record.key_averages():
        if event.device_type != wanted or event.is_user_annotation:
            continue
        kind = next((kind for kind, parts in KINDS.items() if any(part in event.key for part in parts)), REST)
        sums[kind] += event.self_device_time_total if DEVICE == "cuda" else event.self_cpu_time_total
    whole = sum(sums.values())
    return {kind: spent / whole for kind, spent in sums.items()} if whole else {}  # a profiler may see nothing


if __name__ == "__main__":
    torch.set_num_threads(THREADS)
    for kind, share in shares().items():
        print(f"{kind:26s} {share:6.1%}")
