"""Networks of DerainCycleGAN (Wei et al., TIP 2021): a detector of rain, and translators that are given its mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._common import check_image, cut, make_faint, pad_to_multiple

SCALE = 4  # of the lowest resolution


class RainDetector(nn.Module):
    """Find the rain of an image in several looks, each at the image and the mask so far. 167,809 parameters.

    Each look: convolution and ReLU, conv-LSTM, `pairs` times relu(x + relu(conv(relu(conv(x))))), convolution. Zero
    padding, no normalisation. The first mask is 1/2, in units in which images are 2 x - 1.

    Args:
        width: channels.
        steps: looks.
        pairs: of convolutions in each look.
    """

    def __init__(self, width: int = 32, steps: int = 6, pairs: int = 5) -> None:
        super().__init__()
        self.steps = steps
        self.first = _conv(4, width)
        self.gates = _conv(2 * width, 4 * width)  # input, forget, candidate, output
        self.pairs = nn.Sequential(*(Pair(width) for _ in range(pairs)))
        self.last = _conv(width, 1)
        _draw(self)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> the light that rain adds, [N, 1, H, W]: the last look's mask, not clamped."""
        check_image(image)
        image = 2 * image - 1
        mask = torch.full_like(image[:, :1], 0.5)
        hidden = cell = torch.zeros_like(mask).expand(-1, self.first.out_channels, -1, -1)
        for _ in range(self.steps):
            x = F.relu(self.first(torch.cat([image, mask], 1)))
            entry, forget, candidate, out = self.gates(torch.cat([x, hidden], 1)).chunk(4, 1)
            cell = torch.sigmoid(forget) * cell + torch.sigmoid(entry) * torch.tanh(candidate)
            hidden = torch.sigmoid(out) * torch.tanh(cell)
            mask = self.last(self.pairs(hidden))
        return mask / 2


class Pair(nn.Module):
    """relu(x + relu(conv3x3(relu(conv3x3(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = _conv(width, width)
        self.conv2 = _conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + F.relu(self.conv2(F.relu(self.conv1(x)))))


class MaskedTranslator(nn.Module):
    """An image of one domain made one of another, by a mask of rain. 6,066,179 parameters at the defaults.

    The published network has 10,374 more, in two side outputs that nothing reads. Zero padding, ReLU, no normalisation.

    Args:
        width: channels at full resolution; doubled twice.
        around: convolutions before, and as many after, the dilated ones at a quarter of the resolution.
        dilations: of the dilated ones, in pixels.
        transposed: double by a transposed convolution and a mean over 2 x 2, in place of bilinear and a convolution.
        residual: add what the layers make to the image: a fresh network is near the identity.
    """

    def __init__(
        self,
        width: int = 64,
        around: int = 2,
        dilations: Sequence[int] = (2, 4, 8, 16),
        transposed: bool = True,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.sizes = {"width": width, "around": around, "dilations": list(dilations), "transposed": transposed}
        self.sizes["residual"] = residual
        self.transposed, self.residual = transposed, residual
        narrow = max(width // 2, 8)
        self.first = _conv(4, width, taps=5)
        self.down1 = _conv(width, 2 * width, stride=2)
        self.at_half = _conv(2 * width, 2 * width)
        self.down2 = _conv(2 * width, 4 * width, stride=2)
        reach = [1] * around + list(dilations) + [1] * around
        self.at_quarter = nn.ModuleList(_conv(4 * width, 4 * width, dilation=step) for step in reach)
        self.up1 = _up(4 * width, 2 * width, transposed)
        self.merge1 = _conv(2 * width, 2 * width)
        self.up2 = _up(2 * width, width, transposed)
        self.merge2 = _conv(width, narrow)
        self.last = _conv(narrow, 3)
        _draw(self)

    def start_near_identity(self) -> None:
        """Make the change of a fresh residual translator faint."""
        if self.residual:
            make_faint(self.last)

    def forward(self, scene: Tensor) -> Tensor:
        """An image in [0, 1] and its mask, side by side, [N, 4, H, W] -> [N, 3, H, W], not clamped."""
        check_image(scene, channels=4, name="scene")
        height, width = scene.shape[-2:]
        padded = pad_to_multiple(scene, SCALE)
        whole = F.relu(self.first(torch.cat([2 * padded[:, :3] - 1, 2 * padded[:, 3:]], 1)))
        half = F.relu(self.at_half(F.relu(self.down1(whole))))
        x = F.relu(self.down2(half))
        for conv in self.at_quarter:
            x = F.relu(conv(x))
        x = F.relu(self.merge1(self._double(self.up1, x) + half))
        made = self.last(F.relu(self.merge2(self._double(self.up2, x) + whole)))
        made = padded[:, :3] + made / 2 if self.residual else (made + 1) / 2
        return cut(made, height, width)

    def _double(self, up: nn.Module, x: Tensor) -> Tensor:
        if not self.transposed:
            return F.relu(up(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)))
        return F.relu(F.avg_pool2d(F.pad(up(x), (1, 0, 1, 0), mode="reflect"), 2, 1))


class MaskedDerainer(nn.Module):
    """Derain by what a detector finds: translator(image, detector(image)). One network, so that one file derains.

    Args:
        width, around, dilations, transposed, residual: see `MaskedTranslator`.
        detector_width, steps, pairs: see `RainDetector`.
    """

    def __init__(
        self,
        width: int = 64,
        around: int = 2,
        dilations: Sequence[int] = (2, 4, 8, 16),
        transposed: bool = True,
        residual: bool = False,
        detector_width: int = 32,
        steps: int = 6,
        pairs: int = 5,
    ) -> None:
        super().__init__()
        self.detector = RainDetector(detector_width, steps, pairs)
        self.translator = MaskedTranslator(width, around, dilations, transposed, residual)
        self.sizes = self.translator.sizes | {"detector_width": detector_width, "steps": steps, "pairs": pairs}

    def start_near_identity(self) -> None:
        """Make the change of a fresh residual derainer, and its mask, faint."""
        self.translator.start_near_identity()
        if self.translator.residual:
            make_faint(self.detector.last)

    def forward(self, image: Tensor) -> Tensor:
        """[N, 3, H, W] in [0, 1] -> the same, not clamped."""
        return self.features(image)[0]

    def features(self, image: Tensor) -> list[Tensor]:
        """The derained image, [N, 3, H, W], and the mask by which it was made, [N, 1, H, W]."""
        mask = self.mask(image)
        return [self.translator(torch.cat([image, mask], 1)), mask]

    def mask(self, image: Tensor) -> Tensor:
        """The light that rain adds to an image, [N, 3, H, W] -> [N, 1, H, W]."""
        return self.detector(image)


def _conv(channels_in: int, channels: int, taps: int = 3, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, taps, stride, dilation * (taps // 2), dilation)


def _up(channels_in: int, channels: int, transposed: bool) -> nn.Module:
    return nn.ConvTranspose2d(channels_in, channels, 4, 2, 1) if transposed else _conv(channels_in, channels)


def _draw(network: nn.Module) -> None:
    """Weights of convolutions from N(0, 0.02), biases as PyTorch draws them: as the published code starts."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, 0.02)
