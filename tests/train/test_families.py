from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families_tiny import seeded
from render_tiny import tiny_set
from torch import Tensor, nn

from roundview.data.procedural import generated_objects
from roundview.data.render_set import MultiViewSet
from roundview.data.shards import ShardSettings, render_shards
from roundview.data.solid_set import SolidSet, render_solid_set
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.depth_head import DepthDecoder, DepthNetwork, DepthSize
from roundview.diffusion.elevation import ElevationHead, ElevationNetwork, ElevationSize
from roundview.diffusion.encoders import AutoencoderSize, LatentAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.shape_head import ShapeDecoder, ShapeSize
from roundview.diffusion.small_depth_image import small_depth_image_shape
from roundview.diffusion.small_shapes import small_multiview_shape
from roundview.diffusion.tuned import TunedFeatures
from roundview.diffusion.video_refine import SmallVideoRefiner
from roundview.diffusion.video_unet import VideoUNet
from roundview.diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from roundview.diffusion.zero123 import Zero123Net
from roundview.loaders import Wanted, load_features
from roundview.loaders.depth import load_depth
from roundview.models import FeatureModel
from roundview.train.batch import ViewSampler
from roundview.train.cascade import CascadePair
from roundview.train.depth import DepthSet, depth_cameras, read_depth_set
from roundview.train.families import FAMILIES, Order, Parts, Trained, train_family

AUTOENCODER = AutoencoderSize(4, 8, (1, 1, 1), (1, 1, 1))
TUNED = ("depth-small", "elevation-small")
"""Families that train the shipped features further."""
ORBIT = ViewTransformerSize(4, latent_px=2, width=32, blocks=1, heads=2)


class Grey:
    """Features of three numbers."""

    def maps(self, rgb: Tensor) -> list[Tensor]:
        return [rgb.permute(0, 3, 1, 2)]

    def embedding(self, rgb: Tensor) -> Tensor:
        return rgb.mean(dim=(1, 2))


def flat(rgb: Tensor) -> tuple[Tensor, Tensor]:
    return rgb[..., 0], torch.zeros_like(rgb)


def parts(name: str = "") -> Parts:
    def features() -> FeatureModel:
        return load_features() if name in TUNED else Grey()

    return Parts(
        lambda: LatentAutoencoder(AUTOENCODER),
        features,
        lambda: load_depth(Wanted(), []) if name == "shape-small" else flat,
        lambda: ViewTransformer(ORBIT),
    )


def order(directory: Path) -> Order:
    def sets() -> list[MultiViewSet]:
        return [tiny_set(directory / "set", objects=1)]

    def depth_set() -> DepthSet:
        made = ShardSettings(size_px=96, shard_objects=1, supersample=1)
        return read_depth_set(
            render_shards(1, directory / "geo", cameras=depth_cameras, settings=made)
        )

    def solids() -> list[SolidSet]:
        return [render_solid_set(generated_objects(1, 0), directory / "solids")]

    return Order(
        directory / "run",
        lambda: ViewSampler(sets()),
        sets,
        depth_set,
        solids,
        loop=lambda own: replace(own, steps=1),
        batch=1,
        orbit=ORBIT,
    )


def depth_network(trained: Trained) -> nn.Module:
    size = dict(trained.settings)
    features = TunedFeatures(load_features(), size.pop("stages"))
    return DepthNetwork(features, DepthDecoder(DepthSize(**size)))


def elevation_network(trained: Trained) -> nn.Module:
    size = dict(trained.settings)
    features = TunedFeatures(load_features(), size.pop("stages"))
    return ElevationNetwork(features, ElevationHead(ElevationSize(**size)))


def shape_in(trained: Trained) -> UNetShape:
    return UNetShape(**trained.settings["shape"])


BUILT: dict[str, Callable[[Trained], nn.Module]] = {
    "autoencoder-small": lambda made: LatentAutoencoder(AutoencoderSize(**made.settings)),
    "orbit-small": lambda made: ViewTransformer(ViewTransformerSize(**made.settings)),
    "depth-small": depth_network,
    "elevation-small": elevation_network,
    "shape-small": lambda made: ShapeDecoder(ShapeSize(**made.settings)),
    "cascade-small": lambda made: ViewTransformer(ViewTransformerSize(**made.settings)),
    "multiview-small": lambda made: LdmUNet(small_multiview_shape(**made.settings)),
    "depth-image-small": lambda made: LdmUNet(
        small_depth_image_shape(made.settings["latents"], made.settings["context"])
    ),
    "video-orbit-small": lambda made: VideoUNet(shape_in(made)),
    "video-refiner-small": lambda made: SmallVideoRefiner(shape_in(made)),
    "zero123-small": lambda made: Zero123Net(shape_in(made)),
    "zero123-cascade-small": lambda made: CascadePair(
        Zero123Net(shape_in(made)), Zero123Net(shape_in(made))
    ),
}
"""How each network is built again from what its card says."""


@pytest.mark.parametrize("name", BUILT)
def test_every_family_is_trained_and_can_be_built_again(name: str, tmp_path: Path) -> None:
    trained = train_family(name, order(tmp_path), parts(name))
    assert trained.loop.steps == 1
    assert trained.taken is None
    tensors = trained.network.state_dict()
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    BUILT[name](trained).load_state_dict(tensors, strict=True)


def test_every_family_is_tried() -> None:
    assert set(BUILT) == set(FAMILIES)


def test_the_cascade_begins_with_the_orbit_network(tmp_path: Path) -> None:
    orbit = ViewTransformer(ORBIT)
    trained = train_family("cascade-small", order(tmp_path), replace(parts(), orbit=lambda: orbit))
    for mine, theirs in zip(trained.network.parameters(), orbit.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=1e-3)  # one small step


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("orbit-small", "orbit-small"),
        ("video-orbit-small", "video-refiner-small"),
        ("multiview-small", "depth-image-small"),
    ],
)
def test_a_family_begins_with_another(first: str, second: str, tmp_path: Path) -> None:
    given = train_family(first, order(tmp_path / "a"), parts()).network.state_dict()
    given = {name: torch.rand(v.shape, generator=seeded()) / 10 for name, v in given.items()}
    trained = train_family(second, replace(order(tmp_path / "b"), start=given), parts())
    assert trained.taken is not None
    assert trained.taken >= 0.9 * len(given) - 4  # The camera's two layers have no place.


def test_the_elevation_head_begins_with_the_depth_networks_features(tmp_path: Path) -> None:
    given = {
        f"features.{k}": v + 1 for k, v in TunedFeatures(load_features(), 6).state_dict().items()
    }
    begun = replace(order(tmp_path), start=given)
    trained = train_family("elevation-small", begun, parts("elevation-small"))
    found = trained.network.state_dict()
    shared = [name for name in found if name.startswith("features.")]
    assert trained.taken == len(shared) > 40
    for name in shared:  # One small step away.
        torch.testing.assert_close(found[name], given[name], rtol=0, atol=1e-3)


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="zero123-small"):
        train_family("dalle", order(tmp_path), parts())
