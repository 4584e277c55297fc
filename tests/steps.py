"""What tests of a method's step share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from rgsud_fast.methods.method import Step
from rgsud_fast.optim.precision import in_precision

L1_REWARDS = {"reward": 4.0, "reward_form": "l1"}


def assert_terms(step: Step, wanted: Mapping[str, Tensor]) -> None:
    """A step has these terms and no others; losses are float32, whatever the images are."""
    assert step.terms.keys() == wanted.keys()
    for name, term in wanted.items():
        torch.testing.assert_close(
            step.terms[name].double(), term, rtol=1e-5, atol=1e-7, msg=lambda text, n=name: n + text
        )


def step_in_bfloat16(method: Any, nets: Any, inputs: Mapping[str, Tensor], config: Any) -> tuple[Any, Step]:
    """The networks in bfloat16 and their step of stage 2, whose loss is float32 and has gone backward."""
    inputs = {name: images.float() if images.is_floating_point() else images for name, images in inputs.items()}
    low = type(nets)(*(in_precision(net.float(), torch.bfloat16) for net in nets))
    step = method.step(low, 2, inputs, config)
    step.loss.backward()
    assert step.loss.dtype == torch.float32
    return low, step
