"""Triton kernels, one module per op; each has `forward` and, where there is a gradient to compute, `backward`."""
