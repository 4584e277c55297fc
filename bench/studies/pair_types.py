"""The part of `bench/unirain.py` about types of pairs whose names tell none: how often the network is right."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from rgsud_fast.data import list_images, read_image
from rgsud_fast.data.weather import render_pair
from rgsud_fast.distillation.embeddings import type_probabilities
from rgsud_fast.distillation.type_network import NIGHT, SCENES, TYPES, fit_type_network, middle, sure_type


def types(args: argparse.Namespace) -> dict[str, Any]:
    """Fitted to the clean images, by day, of pairs of even scenes; right, wrong and not sure of the rain of odd ones.

    The clean images of pairs by night are night too, and are left out by their brightness, as a run leaves them out.
    """
    paths = list_images(args.data / "clean")
    targets = []
    for place, path in enumerate(paths[::2]):
        scene = middle(read_image(path))
        targets += [scene, render_pair(scene, "nrs", (7, place)).clean]
    by_day = [image for image in targets if np.median(image) >= 255 * NIGHT]
    network = fit_type_network(by_day[:SCENES], 0, args.fit, args.device)
    found = {kind: {"right": 0, "wrong": 0, "not sure": 0} for kind in TYPES}
    for place, path in enumerate(paths[1::2]):
        scene = read_image(path)
        for kind in TYPES:
            rainy = render_pair(scene, kind, (9, place)).rainy
            said = sure_type(type_probabilities(rainy, network, args.device).tolist())
            found[kind]["right" if said == kind else "wrong" if said else "not sure"] += 1
    return {"scenes": len(by_day), **found}
