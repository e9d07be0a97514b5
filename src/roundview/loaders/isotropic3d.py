"""The models of Isotropic3D: our small one, or the published checkpoint."""

from collections.abc import Callable
from dataclasses import fields, replace

import torch
from torch import Tensor, nn

from ..diffusion.clip import ClipTower
from ..diffusion.ldm_autoencoder import LdmAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.multiview import (
    SMALL,
    MultiviewModel,
    MultiviewSettings,
    ldm_views,
    scaled_autoencoder,
    small_autoencoder,
    tell_embedding,
    tell_isotropic3d,
)
from ..diffusion.orbit import load_orbit_network
from ..diffusion.small_shapes import small_multiview_shape
from ..recipes.isotropic3d import PUBLIC_CAMERAS, SMALL_CAMERAS, Isotropic3dModels
from ..weights import Card, named
from .memory import Asked, Drawn, room_for
from .parts import (
    Loaded,
    Wanted,
    identity_of,
    load_autoencoder,
    load_estimator,
    load_features,
    load_matte,
    settings_in,
    tensors_of,
    torch_device,
)

_JUDGED = 8
"""Renderings a step, at most, as in the released code and `recipes.isotropic3d`."""


def load_isotropic3d(wanted: Wanted) -> Loaded:
    """Load what the Isotropic3D recipe asks for.

    With an imported checkpoint of kind "isotropic3d" among the weights, that one is the guide.

    Raises:
        WeightsMissing: If one of the models is not installed.
        ValueError: If the weights or the device name nothing.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    elevation = load_estimator(wanted, load_features(wanted.weights), cards)
    given = [] if wanted.weights is None else named(wanted.weights)
    public = next((card for card in given if card.kind == "isotropic3d"), None)
    if public is None:
        unet, multiview = load_small_multiview(wanted, cards)
        models = Isotropic3dModels(matte, elevation, multiview, SMALL_CAMERAS, place)
    else:
        cards.append(public)
        unet, multiview = _public_multiview(public, wanted)
        models = Isotropic3dModels(matte, elevation, multiview, PUBLIC_CAMERAS, place)
    return Loaded(models, tuple(cards), identity_of(wanted, cards, place), {}, {"multiview": unet})


def load_small_multiview(wanted: Wanted, cards: list[Card]) -> tuple[LdmUNet, MultiviewModel]:
    """Load our small multi-view model: its network, and what draws with it.

    Args:
        wanted: Which weights, and where they are to run.
        cards: The cards of what was read are put here.

    Raises:
        WeightsMissing: If one of its parts is not installed.
    """
    place = torch_device(wanted.device)
    card, tensors = tensors_of("multiview", wanted.weights, cards)
    stated = settings_in(card)
    latents = int(stated["latents"])
    unet = LdmUNet(small_multiview_shape(latents, int(stated["context"])))
    load_orbit_network(unet, tensors)
    _freeze(unet.to(place))
    autoencoder = load_autoencoder(wanted.weights, cards).to(place)
    _freeze(autoencoder)
    features = load_features(wanted.weights, cards)
    model = MultiviewModel(
        ldm_views(unet), small_autoencoder(autoencoder), tell_embedding(features), SMALL
    )
    return unet, model


def _public_multiview(card: Card, wanted: Wanted) -> tuple[nn.Module, MultiviewModel]:
    """Read the published checkpoint; its card's `options` may set fields of `MultiviewSettings`."""
    from ..public_models import networks_in  # noqa: PLC0415  each model when needed

    known = {field.name for field in fields(MultiviewSettings)}
    told = {k: v for k, v in card.settings.get("options", {}).items() if k in known}
    use = MultiviewSettings(**told)
    drawn = Drawn(use.frames, use.size_px, passes=2, judged=_JUDGED)
    room = room_for([Asked(card, drawn)], torch_device(wanted.device), wanted.memory_gb)
    networks = networks_in(room, card)
    unet, autoencoder = networks.get("unet"), networks.get("autoencoder")
    tower = networks.get("image_tower")
    if not isinstance(unet, LdmUNet) or not isinstance(autoencoder, LdmAutoencoder):
        raise ValueError(f"{card.name} lacks its network or autoencoder; import the whole file")
    if not isinstance(tower, ClipTower):
        raise ValueError(f"{card.name} holds no image tower; import the whole checkpoint")
    for network in (unet, autoencoder, tower):
        _freeze(network)
    coder = scaled_autoencoder(autoencoder)
    coder = replace(coder, decode=_in_parts(coder.decode, room.plan.decoded_at_once))
    return unet, MultiviewModel(ldm_views(unet), coder, tell_isotropic3d(tower), use)


def _in_parts(decode: Callable[[Tensor], Tensor], at_once: int) -> Callable[[Tensor], Tensor]:
    return lambda latents: torch.cat([decode(part) for part in latents.split(at_once)])


def _freeze(network: nn.Module) -> None:
    network.eval().requires_grad_(False)
