"""The figures that derained images are measured by, as files and people call them."""

from __future__ import annotations

FIGURES = {"psnr_rgb": "PSNR-RGB", "ssim_rgb": "SSIM-RGB", "psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y"}
DISTANCES = {"lpips": "LPIPS", "dists": "DISTS"}  # where asked for (pyiqa's); lower is better
# What is measured beside a result, by what stands before the names of its figures in a file.
INPUT, FILTER, STAGE1 = "input_", "filter_", "stage1_"
ROWS = {INPUT: "rainy input", FILTER: "min(O, median 1x9), a fixed filter", STAGE1: "end of stage 1"}
