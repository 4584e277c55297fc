"""Triton kernels, one module per op; each has `forward` and `backward`."""
