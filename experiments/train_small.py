"""Train one family in pieces of a few minutes: begins in seconds, resumes, exports, measures.

    python experiments/train_small.py orbit --minutes 9 --data objects.zip --work DIR --out DIR

Objects are rendered by worker processes while the network trains, so nothing is prepared. The
checkpoint (with the optimiser's state) and the rendered ring stay in `--work`; running the same
command again goes on from there. At the end `--out` holds the averaged weights in half precision
(files of at most 16 MB) with their card, the log, a sheet of samples, and the evaluator's numbers
on training objects that were held out. `python experiments/join_weights.py OUT -o DIR` makes one
weight file of them. Needs torch, numpy, numba, scipy, pillow, safetensors, einops, jaxtyping and
diffusers.
"""

import argparse
import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Generator, nn

from roundview import loaders
from roundview.data.objects import ObjectFile, find_objects
from roundview.data.procedural import procedural_object
from roundview.data.render_set import MultiViewSet, RenderSettings, object_views
from roundview.data.stream import StreamSettings, ViewStream
from roundview.diffusion.elevation import ElevationHead
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.orbit import LatentOrbitModel
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.evaluate.protocol import NvsProtocol, mark, render_truth
from roundview.mesh import Mesh
from roundview.train.autoencoder import train_autoencoder
from roundview.train.checkpoints import load_checkpoint
from roundview.train.elevation import ring_features, train_elevation
from roundview.train.logs import read_log
from roundview.train.loop import LoopSettings, train
from roundview.train.orbit import OrbitTraining, orbit_loss, orbit_sheet
from roundview.train.resident import ResidentSampler
from roundview.train.shards import save_shards
from roundview.weights import Card, load_tensors

MANY = 1_000_000_000
"""Steps that are never reached: the clock ends a piece."""


@dataclass(frozen=True, eq=False)
class Piece:
    """What one call trains on, where, and until when."""

    options: argparse.Namespace
    stream: ViewStream
    place: torch.device
    work: Path
    began: float

    def settings(self, learning_rate: float) -> LoopSettings:
        """Use the time that is left, less what measuring takes."""
        asked = self.options
        left = asked.minutes - (time.monotonic() - self.began) / 60 - asked.measure_minutes
        left = max(left, 0.02)
        return LoopSettings(
            steps=asked.steps or MANY,
            learning_rate=learning_rate,
            cooldown=0.0,
            save_every=MANY,
            save_minutes=2.0,
            minutes=left,
            finish_minutes=0.3 * left if asked.finish else 0.0,
            seed=asked.seed,
            recompute=asked.recompute,
        )

    def sampler(self) -> ResidentSampler:
        """Wait for the first objects and keep them on the device."""
        self.stream.wait(max(1, len(self.stream.live) // 8))
        return ResidentSampler(self.stream, self.place)

    def snapshot(self) -> MultiViewSet:
        """Copy the whole ring, for what looks at every object in turn."""
        self.stream.wait()
        live = self.stream.live
        arrays = [np.array(a) for a in (live.rgba, live.azimuth_deg, live.elevation_deg)]
        return MultiViewSet(arrays[0], arrays[1], arrays[2], live.names, live.settings)


def autoencoder(piece: Piece) -> tuple[nn.Module, dict[str, Any]]:
    """Train the autoencoder."""
    size = AutoencoderSize()
    network = train_autoencoder(
        piece.sampler(),
        piece.work,
        batch=piece.options.batch or (256 if piece.place.type == "cuda" else 64),
        size=size,
        settings=piece.settings(1e-3),
        resume=True,
    )
    return network, asdict(size)


def orbit(piece: Piece) -> tuple[nn.Module, dict[str, Any]]:
    """Train the orbit model; of 22 million parameters on a GPU, else of the shipped size."""
    options, px = piece.options, piece.options.size
    width, blocks, heads = options.width, options.blocks, options.width // 64
    frozen = loaders.load_autoencoder(options.weights).to(piece.place)
    channels = frozen.size.latent_channels
    size = ViewTransformerSize(channels, px // LatentAutoencoder.FACTOR, width, blocks, heads)
    torch.manual_seed(options.seed)  # Initial weights only; torch layers take no generator.
    network = ViewTransformer(size).to(piece.place)
    if options.init:
        start(network, options.init)
    sampler = piece.sampler()
    default = 96 * 64**2 // px**2 if piece.place.type == "cuda" else 12
    training = OrbitTraining(batch=options.batch or max(1, default * 2))
    frozen.requires_grad_(False).eval()
    train(
        network,
        orbit_loss(sampler, frozen, training),
        piece.work,
        settings=piece.settings(7e-4),
        resume=True,
        sheet=orbit_sheet(sampler, frozen, Generator().manual_seed(options.seed + 3)),
    )
    return network, asdict(size)


def elevation(piece: Piece) -> tuple[nn.Module, dict[str, Any]]:
    """Train the elevation head on the features of the ring's objects."""
    features = loaders.load_features(piece.options.weights)
    head = train_elevation(
        [piece.snapshot()],
        features,
        piece.work,
        settings=piece.settings(5e-4),
        resume=True,
    )
    return head, {}


FAMILIES: dict[str, Callable[[Piece], tuple[nn.Module, dict[str, Any]]]] = {
    "autoencoder": autoencoder,
    "orbit": orbit,
    "elevation": elevation,
}


def start(network: nn.Module, weights: Path) -> None:
    """Begin from weights of another run; layers of another shape keep their own start."""
    from roundview.weights import named  # noqa: PLC0415  only here

    given = load_tensors(named(str(weights))[0])
    own = network.state_dict()
    fitting = {k: v.float() for k, v in given.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(own | fitting)
    print(f"began with {len(fitting)} of {len(own)} tensors of {weights}")


def held_out(name: str) -> bool:
    """Whether an object is kept for measuring: a tenth, by the hash of its name."""
    return hashlib.sha256(name.encode()).digest()[0] < 26


def split(options: argparse.Namespace) -> tuple[list[str] | None, list[tuple[str, Mesh]]]:
    """Give the names to train on and some objects that are held out, scans among them first."""
    if options.data is None:
        rng = np.random.default_rng(options.seed + 1000)
        return None, [(f"generated {i}", procedural_object(rng)) for i in range(options.objects)]
    found = find_objects(options.data)
    apart = [item for item in found if held_out(item.name)]
    scans = [item for item in apart if item.name.startswith(("gso/", "ycb/"))]
    others = [item for item in apart if item not in scans]
    shuffled = np.random.default_rng(7).permutation(len(others))
    chosen = (scans + [others[i] for i in shuffled])[: options.objects]
    return [item.name for item in found if not held_out(item.name)], list(_read(chosen))


def _read(items: list[ObjectFile]) -> Iterator[tuple[str, Mesh]]:
    for item in items:
        yield item.name, item.read()


def measure(
    family: str, network: nn.Module, objects: list[tuple[str, Mesh]], options: argparse.Namespace
) -> dict[str, Any]:
    """Mark a network on objects it was not trained on."""
    network = network.cpu().eval()
    if family == "orbit":
        assert isinstance(network, ViewTransformer)
        return _orbit_marks(network, objects, options)
    made = RenderSettings(size_px=options.size, rings=1, free_views=4)
    rng = np.random.default_rng(options.seed + 5)
    views = [object_views(mesh, rng, made) for _, mesh in objects]
    if family == "autoencoder":
        assert isinstance(network, LatentAutoencoder)
        return _reconstruction_marks(network, np.stack([rgba for rgba, _, _ in views]))
    assert isinstance(network, ElevationHead)
    rgba, azimuth, angle = (np.stack(part) for part in zip(*views, strict=True))
    pictures = MultiViewSet(rgba, azimuth, angle, [name for name, _ in objects], made)
    vectors, radians = ring_features([pictures], loaders.load_features(options.weights))
    with torch.no_grad():
        one, four = network(vectors[:, 0]), network(vectors.mean(dim=1))
    off = {"from_1": one - radians, "from_4": four - radians}
    return {k: round(float(torch.rad2deg(v.abs()).mean()), 2) for k, v in off.items()}


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


@torch.no_grad()
def _reconstruction_marks(network: LatentAutoencoder, rgba: np.ndarray) -> dict[str, Any]:
    pictures = torch.from_numpy(rgba.reshape(-1, *rgba.shape[2:]).astype(np.float32) / 255)
    pictures = pictures.movedim(-1, 1)
    again = torch.cat([network.decode(network.encode(part)) for part in pictures.split(32)])
    error = (again.clamp(0, 1) - pictures)[:, :3].square().mean(dim=(1, 2, 3))
    return {"psnr": round(float((-10 * error.clamp(min=1e-10).log10()).mean()), 3)}


def export(
    name: str, network: nn.Module, sizes: dict[str, Any], piece: Piece, numbers: dict[str, Any]
) -> None:
    """Write weights, card, log, sheet and numbers to the folder that is kept."""
    options, out = piece.options, piece.options.out
    out.mkdir(parents=True, exist_ok=True)
    lines = read_log(piece.work)
    last = lines[-1] if lines else {}
    card = Card(
        name=name,
        kind=options.family,
        file="",
        sha256="",
        licence="Apache-2.0",
        source="trained with experiments/train_small.py",
        commercial_use=True,
        trained_on=f"{options.data.name if options.data else 'no files'} and procedural objects",
        settings=sizes,
        facts={
            "steps": load_checkpoint(piece.work / "checkpoint.pt")["step"],
            "minutes": round(last.get("seconds", 0) / 60, 2),
            "objects_rendered": piece.stream.drawn(),
            "size_px": options.size,
            "seed": options.seed,
            "held_out": numbers,
            "torch": torch.__version__,
        },
        folder=out,
    )
    paths = save_shards(dict(network.state_dict()), card)
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
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--minutes", type=float, required=True, help="for all, export included")
    parser.add_argument("--measure-minutes", type=float, default=1.0, help="of them, for the end")
    parser.add_argument("--finish", action="store_true", help="let the rate fall to 0 at the end")
    parser.add_argument("--data", type=Path, help="zip or folder of GLB files; else generated ones")
    parser.add_argument("--work", type=Path, required=True, help="checkpoint and ring stay here")
    parser.add_argument("--out", type=Path, required=True, help="what is kept")
    parser.add_argument("--weights", help="folder of cards that the family builds on")
    parser.add_argument("--init", type=Path, help="card or folder to begin from")
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
    work = options.work / f"{options.family}-{options.size}"
    names, objects = split(options)
    render = RenderSettings(size_px=options.size, supersample=3 if options.size <= 64 else 2)
    streamed = StreamSettings(render, slots=options.slots, seed=options.seed)
    ring = options.work / f"ring-{options.size}"
    with ViewStream(
        ring, options.data, names=names, settings=streamed, workers=options.workers
    ) as stream:
        piece = Piece(options, stream, place, work, began)
        network, sizes = FAMILIES[options.family](piece)
        rendered = stream.drawn()
    minutes = (time.monotonic() - began) / 60
    print(f"trained until minute {minutes:.2f}; {rendered} objects rendered into the ring so far")
    numbers = measure(options.family, network, objects, options)
    print(json.dumps(numbers))
    export(f"{options.family}-{options.size}", network, sizes, piece, numbers)
    print(f"done in {(time.monotonic() - began) / 60:.2f} minutes")


if __name__ == "__main__":
    main(sys.argv[1:])
