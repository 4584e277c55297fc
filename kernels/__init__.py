"""GPU kernels, installed as rgsud_fast.kernels: CUDA sources in cuda/, Triton modules in triton/."""
