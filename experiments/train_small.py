"""Train one family in pieces of a few minutes: begins in seconds, resumes, exports, measures.

    python experiments/train_small.py orbit --minutes 9 --data objects.zip --work DIR --out DIR

The families are those of `roundview train`, without the "-small". Objects are rendered by worker
processes while the network trains, so nothing is prepared. The checkpoint (with the optimiser's
state) and the rendered ring stay in `--work`; running the same command again goes on from there. At
the end `--out` holds the averaged weights in half precision (files of at most 16 MB) with their
card, the log, a sheet of samples, and the evaluator's numbers on training objects that were held
out. `python experiments/join_weights.py OUT -o DIR` makes one weight file of them. Needs torch,
numpy, numba, scipy, pillow, safetensors, einops, jaxtyping and diffusers.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Generator

from roundview import loaders
from roundview.data.objects import ObjectFile, find_objects, is_scan
from roundview.data.procedural import generated_objects
from roundview.data.render_set import MultiViewSet, RenderSettings, load_set, object_views
from roundview.data.solid_set import SolidSet
from roundview.data.stream import StreamSettings, ViewStream
from roundview.diffusion.depth_head import DepthNetwork, FeatureDepth
from roundview.diffusion.elevation import ElevationNetwork, FeatureElevation
from roundview.diffusion.encoders import LatentAutoencoder
from roundview.diffusion.orbit import LatentOrbitModel
from roundview.diffusion.video_refine import (
    Refining,
    SmallVideoRefiner,
    VideoRefiner,
    small_parts,
)
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.evaluate.heads import evaluate_heads
from roundview.evaluate.hi3d import stage_two_marks, true_ring, two_stages
from roundview.evaluate.marks import bootstrap_interval
from roundview.evaluate.protocol import NvsProtocol, mark, render_truth
from roundview.loaders.depth import load_depth
from roundview.loaders.hi3d import load_hi3d
from roundview.loaders.training import load_training_parts
from roundview.mesh import Mesh
from roundview.recipes.hi3d import STANDARD as HI3D
from roundview.train.cards import begun, kind_of
from roundview.train.checkpoints import load_checkpoint
from roundview.train.depth import DepthSet, held_out, rendered_depth_set
from roundview.train.families import FAMILIES, Order, Trained, train_family
from roundview.train.logs import read_log
from roundview.train.loop import LoopSettings
from roundview.train.resident import ResidentSampler
from roundview.train.shape import rendered_solid_sets
from roundview.train.shards import save_shards
from roundview.weights import Card, load_tensors, named

MANY = 1_000_000_000
"""Steps that are never reached: the clock ends a piece."""
GPU_BATCH = {"autoencoder": 256, "depth": 64, "cascade": 24, "multiview": 48, "zero123": 128}
"""Objects (pictures) a step on a GPU, other families their own. Chosen by us for networks of this
size; no GPU has run them. The orbit model's depends on the size of its pictures."""

SEEN_ALONE = ("depth", "elevation")
"""Families that learn from single pictures with their geometry, rendered before they begin."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What one call trains on, where, and until when."""

    options: argparse.Namespace
    place: torch.device
    objects: list[ObjectFile] | None
    began: float
    closing: ExitStack

    @cached_property
    def stream(self) -> ViewStream:
        """Start rendering."""
        asked = self.options
        render = RenderSettings(size_px=asked.size, supersample=3 if asked.size <= 64 else 2)
        streamed = StreamSettings(render, slots=asked.slots, seed=asked.seed)
        names = None if self.objects is None else [item.name for item in self.objects]
        ring = asked.work / f"ring-{asked.size}"
        return self.closing.enter_context(
            ViewStream(ring, asked.data, names=names, settings=streamed, workers=asked.workers)
        )

    @cached_property
    def depth_set(self) -> DepthSet:
        """Render as many objects as a ring holds, with their geometry, on all cores."""
        return rendered_depth_set(
            self.first_objects(),
            self.options.work / "geometry",
            seed=self.options.seed,
            workers=self.processes,
        )

    @cached_property
    def solids(self) -> list[SolidSet]:
        """Render as many objects as a ring holds, with what they fill, on all cores."""
        return rendered_solid_sets(
            self.first_objects(),
            self.options.work / "solids",
            seed=self.options.seed,
            workers=self.processes,
        )

    def first_objects(self) -> list[ObjectFile]:
        """Give as many objects as a ring holds, generated ones where there are no files."""
        asked = self.options
        return (self.objects or generated_objects(asked.slots, asked.seed))[: asked.slots]

    @property
    def processes(self) -> int:
        """Of those that render at once."""
        return self.options.workers or os.cpu_count() or 1

    @cached_property
    def sampler(self) -> ResidentSampler:
        """Wait for the first objects and keep them on the device."""
        self.stream.wait(max(1, len(self.stream.live) // 8))
        return ResidentSampler(self.stream, self.place)

    @cached_property
    def given(self) -> list[MultiViewSet]:
        """Read the sets that were rendered before."""
        return [thinned(load_set(folder), kept) for folder in self.options.sets]

    def sets(self) -> list[MultiViewSet]:
        """Give the whole ring, as it changes, or the sets that were rendered before.

        An object that is read while it is being replaced gives views of two; one in thousands.
        """
        if self.options.sets:
            return self.given
        self.stream.wait()
        return [self.stream.live]

    def loop(self, own: LoopSettings) -> LoopSettings:
        """Use the time that is left, less what measuring takes."""
        asked = self.options
        left = asked.minutes - (time.monotonic() - self.began) / 60 - asked.measure_minutes
        left = max(left, 0.02)
        return replace(
            own,
            steps=asked.steps or MANY,
            save_every=MANY,
            save_minutes=2.0,
            minutes=left,
            finish_minutes=0.3 * left if asked.finish else 0.0,
            seed=asked.seed,
            recompute=asked.recompute,
        )

    def order(self) -> Order:
        """Say what is trained; waits for the first pictures, so that the clock counts them."""
        asked, cuda = self.options, self.place.type == "cuda"
        if not asked.sets:
            _ = self.seen()
        orbit_batch = 192 * 64**2 // asked.size**2 if cuda else 24
        own = {"orbit": max(1, orbit_batch)} | (GPU_BATCH if cuda else {})
        size = ViewTransformerSize(
            latent_px=asked.size // LatentAutoencoder.FACTOR,
            width=asked.width,
            blocks=asked.blocks,
            heads=asked.width // 64,
        )
        return Order(
            self.work,
            lambda: self.sampler,
            self.sets,
            lambda: self.depth_set,
            lambda: self.solids,
            loop=self.loop,
            batch=asked.batch or own.get(asked.family),
            orbit=size,
            start=load_tensors(named(asked.init)[0]) if asked.init else None,
            resume=True,
            place=self.place,
        )

    def seen(self) -> object:
        """Wait for what the family learns from."""
        if self.options.family == "shape":
            return self.solids
        return self.depth_set if self.options.family in SEEN_ALONE else self.sampler

    @property
    def work(self) -> Path:
        """Where the checkpoint is."""
        return self.options.work / f"{self.options.family}-{self.options.size}"

    def rendered(self) -> int:
        """Count the objects that were rendered."""
        if self.options.sets:
            return sum(len(part) for part in self.sets())
        if self.options.family in SEEN_ALONE:
            return len(self.depth_set) // 10
        if self.options.family == "shape":
            return sum(int(part.ready.sum()) for part in self.solids)
        return self.stream.drawn()


def kept(names: list[str]) -> list[int]:
    """Say which objects of a rendered set are learnt: all but `apart` and the held-out tenth."""
    left_out = set(apart(names))
    return [i for i, name in enumerate(names) if i not in left_out and not held_out(name)]


def apart(names: list[str]) -> list[int]:
    """Give the objects that `orbit-small` was not trained on, so that it draws them as new ones.

    They are fifty rows of the set of all training objects, in the order of the archive; a set of
    generated objects has none.
    """
    if set(names) == {"procedural"}:
        return []
    return np.random.default_rng(7).permutation(len(names))[:50].tolist()


def thinned(whole: MultiViewSet, choose: Callable[[list[str]], list[int]]) -> MultiViewSet:
    """Keep some objects of a set, in memory."""
    rows = choose(whole.names)
    names = [whole.names[i] for i in rows]
    return replace(
        whole,
        rgba=whole.rgba[rows],
        azimuth_deg=whole.azimuth_deg[rows],
        elevation_deg=whole.elevation_deg[rows],
        names=names,
    )


def split(
    options: argparse.Namespace,
) -> tuple[list[ObjectFile] | None, list[tuple[str, Mesh]]]:
    """Give what to train on and some objects that are held out, scans among them first."""
    if options.sets:
        return None, []
    if options.data is None:
        return None, list(_read(generated_objects(options.objects, options.seed + 1000)))
    found = find_objects(options.data)
    apart = [item for item in found if held_out(item.name)]
    scans = [item for item in apart if is_scan(item.name)]
    others = [item for item in apart if item not in scans]
    shuffled = np.random.default_rng(7).permutation(len(others))
    chosen = (scans + [others[i] for i in shuffled])[: options.objects]
    return [item for item in found if not held_out(item.name)], list(_read(chosen))


def _read(items: list[ObjectFile]) -> Iterator[tuple[str, Mesh]]:
    for item in items:
        yield item.name, item.read()


def measure(
    trained: Trained, objects: list[tuple[str, Mesh]], options: argparse.Namespace
) -> dict[str, Any]:
    """Mark a network on objects it was not trained on; a family without a mark gives none."""
    network = trained.network.cpu().eval()
    if isinstance(network, SmallVideoRefiner) and options.sets:
        return _refiner_marks(network, trained.settings, options)
    if options.family == "orbit":
        assert isinstance(network, ViewTransformer)
        return _orbit_marks(network, objects, options)
    files = [ObjectFile(name, lambda mesh=mesh: mesh) for name, mesh in objects]
    if isinstance(network, DepthNetwork):
        estimate = FeatureDepth(network.features, network.decoder)
        return evaluate_heads(files, depth=estimate)["mean"]
    if isinstance(network, ElevationNetwork):
        return evaluate_heads(files, elevation=FeatureElevation(network))["mean"]
    if not isinstance(network, LatentAutoencoder):
        return {}
    made = RenderSettings(size_px=options.size, rings=1, free_views=4)
    rng = np.random.default_rng(options.seed + 5)
    rgba = np.stack([object_views(mesh, rng, made)[0] for _, mesh in objects])
    return _reconstruction_marks(network, rgba)


def _orbit_marks(
    network: ViewTransformer, objects: list[tuple[str, Mesh]], options: argparse.Namespace
) -> dict[str, Any]:
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    frozen = loaders.load_autoencoder(options.weights).to(place)
    model = LatentOrbitModel(network.to(place), frozen)
    protocol = NvsProtocol(size_px=options.protocol_px)
    marks: dict[str, list[float]] = {}
    for _, mesh in objects:
        truth = render_truth(mesh, protocol)
        for steps in (1, 4):
            views = model.draw(
                truth.photo,
                truth.views.cameras,
                Generator().manual_seed(0),
                photo_elevation_deg=protocol.elevation_deg,
                steps=steps,
            )
            found = mark(views.rgb, truth)
            for key, values in found.items():
                marks.setdefault(f"{key}_steps_{steps}", []).append(fmean(values))
    return {k: round(fmean(v), 4) for k, v in marks.items()} | {"protocol": NvsProtocol.NAME}


def _refiner_marks(
    network: SmallVideoRefiner, settings: dict[str, Any], options: argparse.Namespace
) -> dict[str, Any]:
    """Compare refined with enlarged rings of the objects apart, drawn as the recipe draws them."""
    features, frozen = loaders.load_features(), loaders.load_autoencoder(options.weights)
    wanted = loaders.Wanted(options.weights, device="cpu")
    told: dict[str, Any] = settings["refining"] | {"guidance": (1.0, 1.0)}
    parts = small_parts(network, frozen, features, load_depth(wanted, []))
    models = replace(load_hi3d(wanted).models, refiner=VideoRefiner(parts, Refining(**told)))
    use = replace(HI3D, refine_steps=1, size_px=settings["refining"]["size_px"])
    whole = load_set(options.sets[0])
    found: dict[str, list[tuple[float, float]]] = {}
    for row in apart(whole.names)[: options.objects]:
        truth, rng = true_ring(whole, row), Generator().manual_seed(0)
        stages = two_stages(truth, models, use, rng)
        for key, pair in stage_two_marks(truth, *stages, features).items():
            found.setdefault(key, []).append(pair)
    marks: dict[str, Any] = {"objects": len(next(iter(found.values())))}
    for key, pairs in found.items():
        marks[f"{key}_enlarged"] = round(fmean(old for old, _ in pairs), 4)
        marks[f"{key}_refined"] = round(fmean(new for _, new in pairs), 4)
        marks[f"{key}_gain_90"] = bootstrap_interval([new - old for old, new in pairs])
    return marks


@torch.no_grad()
def _reconstruction_marks(network: LatentAutoencoder, rgba: np.ndarray) -> dict[str, Any]:
    pictures = torch.from_numpy(rgba.reshape(-1, *rgba.shape[2:]).astype(np.float32) / 255)
    pictures = pictures.movedim(-1, 1)
    again = torch.cat([network.decode(network.encode(part)) for part in pictures.split(32)])
    error = (again.clamp(0, 1) - pictures)[:, :3].square().mean(dim=(1, 2, 3))
    return {"psnr": round(float((-10 * error.clamp(min=1e-10).log10()).mean()), 3)}


def export(trained: Trained, piece: Piece, numbers: dict[str, Any]) -> None:
    """Write weights, card, log, sheet and numbers to the folder that is kept."""
    options, out = piece.options, piece.options.out
    out.mkdir(parents=True, exist_ok=True)
    lines = read_log(piece.work)
    last = lines[-1] if lines else {}
    card = Card(
        name=f"{options.family}-{options.size}",
        kind=kind_of(f"{options.family}-small"),
        file="",
        sha256="",
        licence="Apache-2.0",
        source="trained with experiments/train_small.py",
        commercial_use=True,
        trained_on=(
            f"{piece.rendered()} objects of {', '.join(str(s.parent.name) for s in options.sets)}"
            if options.sets
            else f"{options.data.name if options.data else 'no files'} and procedural objects"
        ),
        settings=trained.settings,
        facts={
            "steps": load_checkpoint(piece.work / "checkpoint.pt")["step"],
            "minutes": round(last.get("seconds", 0) / 60, 2),
            "objects_rendered": piece.rendered(),
            "size_px": options.size,
            "began_with": begun(trained),
            "seed": options.seed,
            "held_out": numbers,
            "torch": torch.__version__,
        },
        folder=out,
    )
    paths = save_shards(dict(trained.network.state_dict()), card)
    shutil.copy(piece.work / "log.jsonl", out / "log.jsonl")
    (out / "numbers.json").write_text(json.dumps(numbers | last, indent=2))
    for sheet in sorted((piece.work / "sheets").glob("*.png"))[-1:]:
        shutil.copy(sheet, out / "sheet.png")
    total = sum(path.stat().st_size for path in out.iterdir())
    print(f"{len(paths)} weight files, {total / 1e6:.1f} MB in {out}")


def read_options(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("family", choices=[card.removesuffix("-small") for card in FAMILIES])
    parser.add_argument("--minutes", type=float, required=True, help="for all, export included")
    parser.add_argument("--measure-minutes", type=float, default=1.0, help="of them, for the end")
    parser.add_argument("--finish", action="store_true", help="let the rate fall to 0 at the end")
    parser.add_argument("--data", type=Path, help="zip or folder of GLB files; else generated ones")
    parser.add_argument(
        "--sets",
        type=Path,
        nargs="+",
        help="sets of rings that `roundview train` or data.render_set rendered, that of all "
        "training objects first; nothing is rendered then",
    )
    parser.add_argument("--work", type=Path, required=True, help="checkpoint and ring stay here")
    parser.add_argument("--out", type=Path, required=True, help="what is kept")
    parser.add_argument("--weights", help="folder of cards that the family builds on")
    parser.add_argument("--init", help="card, its file or its folder, to begin from")
    parser.add_argument("--size", type=int, default=128 if cuda else 64, help="pixels")
    parser.add_argument(
        "--width", type=int, default=384 if cuda else 256, help="of the orbit model"
    )
    parser.add_argument("--blocks", type=int, default=12 if cuda else 8, help="of the orbit model")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--steps", type=int, help="at most; the clock ends a piece otherwise")
    parser.add_argument("--slots", type=int, default=1024 if cuda else 256, help="of the ring")
    parser.add_argument("--workers", type=int)
    parser.add_argument("--objects", type=int, default=24, help="held out, for measuring")
    parser.add_argument("--protocol-px", type=int, default=256, help="of the measured pictures")
    parser.add_argument("--recompute", action="store_true", help="less memory, a third more time")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Train, measure and export one piece."""
    began = time.monotonic()
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    options = read_options(arguments)
    place = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learnt, objects = split(options)
    with ExitStack() as closing:
        piece = Piece(options, place, learnt, began, closing)
        parts = load_training_parts(options.weights, place)
        trained = train_family(f"{options.family}-small", piece.order(), parts)
        rendered = piece.rendered()
    print(begun(trained) or "began anew")
    minutes = (time.monotonic() - began) / 60
    print(f"trained until minute {minutes:.2f}; {rendered} objects rendered so far")
    numbers = measure(trained, objects, options)
    print(json.dumps(numbers))
    export(trained, piece, numbers)
    print(f"done in {(time.monotonic() - began) / 60:.2f} minutes")


if __name__ == "__main__":
    main(sys.argv[1:])
