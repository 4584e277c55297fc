"""NAFNet in plain PyTorch with the names of its published weights, written from the layer table alone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class PlainNAFNet(nn.Module):
    """The whole network, padded to a multiple of 2^levels and with a global residual."""

    def __init__(self, width, encoder, middle, decoder):
        super().__init__()
        self.intro = nn.Conv2d(3, width, 3, padding=1)
        self.encoders, self.decoders = nn.ModuleList(), nn.ModuleList()
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for level, count in enumerate(encoder):
            self.encoders.append(nn.Sequential(*(PlainBlock(width << level) for _ in range(count))))
            self.downs.append(nn.Conv2d(width << level, width << level + 1, 2, 2))
        bottom = width << len(encoder)
        self.middle_blks = nn.Sequential(*(PlainBlock(bottom) for _ in range(middle)))
        for level, count in enumerate(decoder):
            channels = bottom >> level
            self.ups.append(nn.Sequential(nn.Conv2d(channels, 2 * channels, 1, bias=False), nn.PixelShuffle(2)))
            self.decoders.append(nn.Sequential(*(PlainBlock(channels // 2) for _ in range(count))))
        self.ending = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, image):
        side = 2 ** len(self.encoders)
        padded = F.pad(image, (0, -image.shape[3] % side, 0, -image.shape[2] % side))
        x, skips = self.intro(padded), []
        for blocks, down in zip(self.encoders, self.downs, strict=True):
            x = blocks(x)
            skips.append(x)
            x = down(x)
        x = self.middle_blks(x)
        for up, blocks in zip(self.ups, self.decoders, strict=True):
            x = blocks(up(x) + skips.pop())
        return (self.ending(x) + padded)[:, :, : image.shape[2], : image.shape[3]]


class PlainBlock(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.norm1, self.norm2 = PlainNorm(c), PlainNorm(c)
        self.conv1, self.conv2 = nn.Conv2d(c, 2 * c, 1), nn.Conv2d(2 * c, 2 * c, 3, padding=1, groups=2 * c)
        self.sca = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, c, 1))
        self.conv3, self.conv4, self.conv5 = nn.Conv2d(c, c, 1), nn.Conv2d(c, 2 * c, 1), nn.Conv2d(c, c, 1)
        self.beta, self.gamma = (nn.Parameter(torch.zeros(1, c, 1, 1)) for _ in range(2))

    def forward(self, x):
        left, right = self.conv2(self.conv1(self.norm1(x))).chunk(2, 1)
        gated = left * right
        y = x + self.beta * self.conv3(gated * self.sca(gated))
        left, right = self.conv4(self.norm2(y)).chunk(2, 1)
        return y + self.gamma * self.conv5(left * right)


class PlainNorm(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(c)), nn.Parameter(torch.zeros(c))

    def forward(self, x):
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, 1e-6).movedim(-1, 1)


def drawn(network):
    """Every parameter drawn at random, so that each one shows in the output."""
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.2)
    return network
