"""Builds rgsud_fast._C with CMake and ninja; everything else stands in pyproject.toml.

RGSUD_CUDA=auto|0|1 builds the CUDA kernels if nvcc is found, never, or demands it. RGSUD_CUDA_ARCHS=80;90 names the
compute capabilities; without it they are 80, 90 and the visible GPU's.
RGSUD_SANITIZE=address,undefined builds for tests, with these sanitizers and -O1; their libraries must be preloaded
(.ci/sanitize does it all).
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Compiles csrc/ and kernels/cuda/ into one module."""

    def build_extension(self, ext: Extension) -> None:
        """Configure, compile and put the module where setuptools wants it; stop with the compiler's own words."""
        choice, archs = os.environ.get("RGSUD_CUDA", "auto"), os.environ.get("RGSUD_CUDA_ARCHS", "")
        if choice not in ("auto", "0", "1"):
            sys.exit(f"RGSUD_CUDA must be auto, 0 or 1, got {choice!r}")
        sanitize = os.environ.get("RGSUD_SANITIZE", "")
        build_type = "RelWithDebInfo" if sanitize else "Release"  # the former is not stripped: reports name lines
        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = Path(self.build_temp).resolve()
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", f"-DCMAKE_BUILD_TYPE={build_type}",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DRGSUD_SANITIZE={sanitize}",
            f"-DRGSUD_CUDA={choice}", f"-DRGSUD_CUDA_ARCHS={';'.join(re.split(r'[;, ]+', archs.strip()))}",
        ]  # fmt: skip
        # A build folder of another environment remembers paths that may be gone.
        (build / "CMakeCache.txt").unlink(missing_ok=True)
        log = self._run(configure)
        print(*re.findall(r"rgsud_fast: .*", log), sep="\n", flush=True)
        self._run(["cmake", "--build", str(build)])
        self._run(["cmake", "--install", str(build), "--prefix", str(target)])

    @staticmethod
    def _run(command: list) -> str:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            sys.exit(f"{done.stdout}\nrgsud_fast: {' '.join(command[:2])} failed; the reason is above")
        return done.stdout


setup(
    packages=[
        *find_packages(include=["rgsud_fast", "rgsud_fast.*"]),
        "rgsud_fast.kernels",
        "rgsud_fast.kernels.triton",
    ],
    package_dir={"rgsud_fast": "rgsud_fast", "rgsud_fast.kernels": "kernels"},
    package_data={"rgsud_fast": ["py.typed"]},
    ext_modules=[Extension("rgsud_fast._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
