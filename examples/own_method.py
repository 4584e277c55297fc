"""A method of one's own: python examples/own_method.py [ITERATIONS].

The derainer leaves clean photographs as they are, and in stage 2 imitates the best derained version of each rainy one.
"""

import sys
from typing import NamedTuple

from torch import nn
from torch.nn.functional import l1_loss

import rgsud_fast
from rgsud_fast.methods.method import Step, reinforcement, weigh
from rgsud_fast.networks.known import configured_derainer


class Networks(NamedTuple):
    derainer: nn.Module


class Imitation:
    NAME = "imitation"
    TOGETHER = ("derainer",)  # trained by the loss of a step
    JUDGES = ()  # trained by what they are shown

    def build(self, config, derainer=None):
        return Networks(derainer or configured_derainer(config.network))

    def trained(self, config):
        return Networks._fields

    def reads(self, config):
        return frozenset({"rainy", "clean"})

    def step(self, nets, stage, inputs, config, guidance):
        rainy, clean = inputs["rainy"], inputs["clean"]
        terms = {"identity": l1_loss(nets.derainer(clean), clean)}
        terms |= reinforcement(inputs, nets.derainer(rainy), config, guidance)  # nothing in stage 1
        return Step(weigh(self.weighted(terms, config)), terms, {})

    def weighted(self, terms, config):
        weights = {"identity": 1.0, "reward": config.loss.reward}
        return {name: weights[name] * term for name, term in terms.items()}

    def judge(self, nets, judged, config):
        return {}

    def warm(self, inputs):
        return {}


def main(iterations: int = 400) -> None:
    config = {"preset": "demo", "stage1_iterations": 1, "stage2_iterations": iterations}
    loss = {"reward": 5.0, "reward_form": "l1"}
    result = rgsud_fast.train(config | {"loss": loss, "val_every": 0}, method=Imitation())
    print(f"{result.metrics['input_psnr_rgb']:.2f} dB before, {result.metrics['psnr_rgb']:.2f} dB after")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
