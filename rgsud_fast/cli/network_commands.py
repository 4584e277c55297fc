"""The commands about networks: train, export, publish, fit-niqe, fit-finpercep, convert-daclip.

torch is imported by the command that needs it, so that --help and mistakes are answered at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from ..config.derainers import DerainerName
from ..config.finpercep import DERAINERS, check_fit
from ..config.parts import NetworkName
from ..errors import UserError
from ..system.device_names import check_device
from ..system.given import check_images, check_target, check_weights
from .arguments import read_train
from .options import Device, MaybeFile, MaybeFolder
from .tables import count_of


def train(args: list[str], waiting: str = "") -> None:
    """Train; the arguments are the fields of the configuration."""
    config, resume, line = read_train(args)
    for told in (line, waiting if config.threads != 1 else ""):
        if told and os.environ.get("RANK", "0") == "0":  # of torchrun's processes the first one speaks
            print(told, flush=True)
    from ..training import train

    train(config, resume=resume)


def export(
    weights: Annotated[Path, arg(metavar="WEIGHTS")],
    output: Annotated[Path | None, arg(metavar="OUT")] = None,
    /,
    *,
    to: Literal["onnx", "torchscript", "safetensors", DerainerName],
    network: NetworkName = "derainer",
) -> None:
    """Write a network for other programs, for images of any size and number, and check what the file computes.

    Args:
        weights: Run folder, the file of one of its networks, another's derainer, or hf:OWNER/REPO[/FILE].
        output: File to write, or a folder, which also gets a model card; default: the folder of the weights.
        to: onnx (standard operators alone), torchscript, safetensors (weights under this package's names), or the
            derainer's name (weights for its authors' code: a .pth, or a .safetensors where OUT ends so).
        network: Which network of the run.
    """
    check_weights(weights, network)
    from ..inference.export import BOUND, CHECKED, export

    path, difference, card = export(weights, to, output, network=network)
    sizes = ", ".join(f"{images} x {height} x {width}" for images, height, width in CHECKED)
    print(f"wrote {path}; largest difference from the {network} {difference:.1e} (allowed {BOUND:.0e}) on {sizes}")
    if card is not None:
        print(f"wrote {card}")


def publish(
    run: Annotated[Path, arg(metavar="RUN")],
    repository: Annotated[str, arg(metavar="OWNER/REPO")],
    /,
    public: bool = False,
) -> None:
    """Upload a finished run's weights, model card and gallery, which shows its photographs, to a model hub (extra hub).

    Args:
        run: Run folder.
        repository: Where to; made where there is none.
        public: Let everybody see a repository that is made; otherwise it is private.
    """
    check_weights(run)
    from ..inference.publish import publish

    print(f"published {run} at {publish(run, repository, public=public)}")


def fit_niqe(
    images: Annotated[Path, arg(metavar="PHOTOS")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
) -> None:
    """Fit the natural-image model of the NIQE score to good photographs.

    Args:
        images: Folder of photographs, searched recursively; at most 300 of them are read.
        output: File to write, for --metric of score.
    """
    check_images(images)
    from ..inference.score import fit_niqe

    print(f"wrote {output}, fitted to {count_of(range(fit_niqe(images, output)), 'photograph')}")


def fit_finpercep(
    clean: Annotated[Path, arg(metavar="CLEAN")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
    rainy: MaybeFolder = None,
    run: Annotated[Path | None, arg(metavar="RUN")] = None,
    size: Literal["small", "base", "clip"] = "small",
    clip: MaybeFile = None,
    feature: str | None = None,
    val_clean: MaybeFolder = None,
    minutes: float | None = None,
    iterations: int | None = None,
    practised: int = DERAINERS,
    seed: int = 0,
    device: Device = "auto",
) -> None:
    """Fit FinPercep-RM to clean photographs: a score that also shows where a derained image is spoiled.

    Writes OUT.safetensors, for --metric finpercep:OUT.safetensors of score and --reward.scorer of train, OUT.json with
    figures on held-out photographs, and OUT.html to look at. Asked for again, an interrupted fit goes on.

    Args:
        clean: Folder of clean photographs, searched recursively; 8 or more, of 96 pixels or more a side.
        output: File to write, ending in .safetensors.
        rainy: Folder of rainy photographs; default: rain rendered on the clean ones.
        run: Run folder, whose generator paints the rain of --rainy and whose derainer's faults are learned, too.
        size: small for a CPU, base for a GPU; clip, for one, stands on CLIP's RN50.
        clip: Weights of CLIP's RN50 for size clip, as open_clip saves them.
        feature: timm:NAME,FILE, a vision transformer of timm and its weights, whose patches then say half of where an
            image is spoiled, in place of SSIM's structure.
        val_clean: Folder of validation images, none of which may be in CLEAN; default: the run's.
        minutes: How long; default: as many iterations as the size needs, 6 minutes of two cores with small.
        iterations: How many, in place of minutes.
        practised: Small derainers that are trained before it, whose faults it learns, each some 30 seconds; 0: none.
        seed: Seed of everything drawn.
    """
    check_device(device)
    check_images(clean, rainy, val_clean)
    check_target(output)
    check_fit(output, size, clip, minutes, iterations, practised, seed)
    if run is not None:
        check_weights(run)
    from ..inference.fit_finpercep import fit_finpercep
    from ..system.progress import Progress

    with Progress(0) as progress:
        options: dict[str, Any] = {"rainy": rainy, "run": run, "val_clean": val_clean, "seed": seed}
        options |= {"size": size, "clip": clip, "feature": feature, "practised": practised}
        options |= {"watch_before": progress.of}
        options |= {"minutes": minutes, "iterations": iterations, "device": device}
        figures = fit_finpercep(clean, output, watch=progress.of("fitting"), say=progress.say, **options)
    print(
        f"wrote {output}; on {figures['held_out_images']} held-out photographs: map AUC {figures['auc_swapped']:.3f} "
        f"on swapped regions, {figures['auc_whole']:.3f} on whole results; look at {output.with_suffix('.html')}"
    )


def convert_daclip(
    checkpoint: Annotated[Path, arg(metavar="CHECKPOINT")],
    output: Annotated[Path, arg(metavar="OUT")],
    /,
) -> None:
    """Keep of DA-CLIP's checkpoint what the daclip score needs.

    Args:
        checkpoint: The file daclip_ViT-B-32.pt, 1.74 GB.
        output: Safetensors file to write, about 350 MB.
    """
    if not checkpoint.is_file():
        raise UserError(f"{checkpoint}: no such file; give DA-CLIP's daclip_ViT-B-32.pt")
    from ..iqa import convert_daclip

    convert_daclip(checkpoint, output)
    print(f"wrote {output}")
