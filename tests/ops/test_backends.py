"""The dispatcher: what is asked for runs, or says why not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from rgsud_fast.errors import UserError
from rgsud_fast.networks import Discriminator, NAFNet, RainGenerator, UNet
from rgsud_fast.ops import _backends as backends
from rgsud_fast.ops import derain_loss, high_pass, layernorm2d, rain_residual, ssim, use_backend, with_high_pass
from rgsud_fast.ops.installation import compiled_when_launched, describe, info


def test_auto_takes_the_native_kernels_on_the_cpu():
    active = {op: backends.active_backend(op, "cpu") for op in backends.KERNELS}
    assert active == dict.fromkeys(backends.KERNELS, "native") | {"pixel_shuffle_skip": "reference"}


def test_auto_never_takes_interpreted_triton(monkeypatch):
    monkeypatch.setitem(backends.KERNELS["layernorm2d"], "cpu", ("triton",))
    assert backends.active_backend("layernorm2d", "cpu") == "reference"


def test_a_missing_backend_that_was_asked_for_is_an_error():
    with use_backend("triton"), pytest.raises(UserError, match="high_pass has no triton kernel for cpu"):
        high_pass(torch.rand(1, 3, 16, 16))


def test_an_extension_that_does_not_import_is_named(monkeypatch):
    import rgsud_fast

    monkeypatch.setitem(sys.modules, "rgsud_fast._C", None)
    monkeypatch.delattr(rgsud_fast, "_C", raising=False)
    assert "pip install -e ." in backends.why_not("ssim", "native", "cpu")
    assert backends.active_backend("ssim", "cpu") == "reference"


@pytest.mark.parametrize("driver, runs", [(12080, False), (13000, True), (14010, True)])
def test_a_driver_older_than_the_toolkit_is_named(monkeypatch, driver, runs):
    from rgsud_fast import _C

    monkeypatch.setattr(_C, "cuda_architectures", lambda: [80, 90])
    monkeypatch.setattr(_C, "build", "CPU kernels (AVX2), CUDA 13.0.88 kernels for sm 80, 90 with PTX")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    monkeypatch.setattr(backends, "_driver", lambda: driver)
    reason = backends.why_not("high_pass", "native", "cuda")
    assert reason is None if runs else "driver is of CUDA 12.8" in reason and "13.0.88" in reason


def test_a_kernel_that_only_the_interpreter_runs_is_skipped_without_it(monkeypatch):
    triton = pytest.importorskip("triton")
    from kernel_cases import each_kernel

    for interpreted in (True, False):
        monkeypatch.setattr(triton.knobs.runtime, "interpret", interpreted)
        cases = {case.id: case.marks for case in each_kernel("layernorm2d").args[1]}
        assert any(mark.name == "skip" for mark in cases["triton-cpu"]) != interpreted
        assert not any(mark.name == "skip" for mark in cases["native-cpu"])


def test_unknown_backend_lists_the_known_ones(monkeypatch):
    with pytest.raises(UserError, match="auto, native, triton, reference"):
        use_backend("numpy")
    monkeypatch.setenv("RGSUD_BACKEND", "gpu")
    with pytest.raises(UserError, match="RGSUD_BACKEND: no backend 'gpu'"):
        backends.requested_backend()


def test_environment_chooses_and_use_backend_overrides(monkeypatch):
    monkeypatch.setenv("RGSUD_BACKEND", "reference")
    assert backends.active_backend("ssim", "cpu") == "reference"
    with use_backend("native"):
        assert backends.active_backend("ssim", "cpu") == "native"
    assert backends.active_backend("ssim", "cpu") == "reference"


def test_backward_keeps_the_backend_of_its_forward():
    x = torch.rand(1, 3, 16, 16, requires_grad=True)
    with use_backend("native"):
        out = high_pass(x)
    with use_backend("reference"):
        out.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_info_names_every_op_and_why_a_backend_is_off():
    gathered = info()
    assert gathered["ops"]["high_pass"]["used"] == backends.active_backend(
        "high_pass", "cuda" if torch.cuda.is_available() else "cpu"
    )
    assert "no triton kernel" in gathered["ops"]["high_pass"]["off"]["triton"]
    assert "layernorm2d" in describe()


def test_who_compiles_when_launched_says_so(monkeypatch):
    assert compiled_when_launched(torch.device("cpu")) is None
    monkeypatch.setattr(backends, "why_not", lambda op, backend, device: None)
    assert "compile" in compiled_when_launched(torch.device("cuda"))
    with use_backend("reference"):
        assert compiled_when_launched(torch.device("cuda")) is None


def test_no_module_hides_a_public_function():
    script = (
        "import pkgutil, rgsud_fast;"
        "names = {module.name for module in pkgutil.iter_modules(rgsud_fast.__path__)};"
        "assert not names & set(rgsud_fast.__all__), names;"
        "import rgsud_fast.ops.installation; assert rgsud_fast.info()['ops']"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_torch_compile_sees_the_ops_whole(backend):
    def loss(x, y, weight, bias):
        detail = with_high_pass(x)[:, 3:]
        scenes = rain_residual((x, y, x), (detail, high_pass(x), y))
        return ssim(detail, y) + sum(derain_loss(x, y)) + (scenes * layernorm2d(scenes, weight, bias)).square().mean()

    torch.compiler.reset()
    inputs = [torch.rand(1, 3, 20, 20, requires_grad=True), torch.rand(1, 3, 20, 20), torch.rand(6), torch.rand(6)]
    with use_backend(backend):
        wanted = loss(*inputs)
        got = torch.compile(loss, fullgraph=True, backend="aot_eager")(*inputs)
        (v_wanted,), (v_got,) = (torch.autograd.grad(value, inputs[:1]) for value in (wanted, got))
    assert torch.allclose(got, wanted, atol=1e-6)
    assert torch.allclose(v_got, v_wanted, atol=1e-6)


@pytest.mark.parametrize("backend", ["native", "reference"])
def test_torch_compile_sees_the_networks_whole(backend):
    torch.compiler.reset()
    nets = [NAFNet(4, (1,), 1, (1,)), UNet(4, 2), RainGenerator(4, 1), Discriminator(4)]
    for net in nets:
        image = torch.rand(2, 6 if isinstance(net, RainGenerator) else 3, 32, 32)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, 0, 0.2)
        with use_backend(backend):
            wanted = net(image).square().mean()
            got = torch.compile(net, fullgraph=True, backend="aot_eager")(image).square().mean()
            gradients = [torch.autograd.grad(loss, list(net.parameters())) for loss in (wanted, got)]
        torch.testing.assert_close(got, wanted)
        for a, b in zip(*gradients, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)


def test_importing_the_ops_runs_no_device_query():
    script = "import rgsud_fast.ops, torch; assert not torch.cuda.is_initialized()"
    subprocess.run([sys.executable, "-c", script], check=True)


def with_instruction_set(name):
    script = "import torch, rgsud_fast.ops as ops, rgsud_fast._C as c; ops.high_pass(torch.rand(1, 1, 8, 8));"
    environment = os.environ | {"RGSUD_INSTRUCTION_SET": name}
    command = [sys.executable, "-c", script + "print(c.instruction_set())"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_instruction_set_asked_for_runs_or_is_an_error():
    assert with_instruction_set("baseline").stdout == "baseline\n"
    told = with_instruction_set("sse9").stderr
    assert "UserError: RGSUD_INSTRUCTION_SET is sse9, and this processor runs" in told
    assert told.rstrip().endswith("baseline")
