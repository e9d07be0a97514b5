"""The models of Isotropic3D: our small one, or a published checkpoint of four views."""

from torch import nn

from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.multiview import (
    SMALL,
    MultiviewModel,
    ldm_views,
    small_autoencoder,
    tell_embedding,
)
from ..diffusion.orbit import load_orbit_network
from ..diffusion.small_shapes import small_multiview_shape
from ..recipes.isotropic3d import PUBLIC_CAMERAS, SMALL_CAMERAS, Isotropic3dModels
from ..weights import Card
from .memory import room_for
from .multiview import asked_of_multiview, guiding, multiview_card, multiview_in
from .parts import (
    Loaded,
    Wanted,
    identity_of,
    load_autoencoder,
    load_estimator,
    load_features,
    load_matte,
    prompt_for,
    settings_in,
    tensors_of,
    torch_device,
)

_JUDGED = 8
"""Renderings a step, at most, as in the released code and `recipes.isotropic3d`."""


def load_isotropic3d(wanted: Wanted) -> Loaded:
    """Load what the Isotropic3D recipe asks for.

    With an imported checkpoint of kind "isotropic3d", "imagedream" or "mvdream" among the weights,
    that one is the guide; the last two are told the prompt.

    Raises:
        WeightsMissing: If one of the models is not installed.
        ValueError: If the weights or the device name nothing, or a checkpoint lacks a part.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    elevation = load_estimator(wanted, load_features(wanted.weights), cards)
    public = multiview_card(wanted.weights)
    if public is None:
        unet, multiview = load_small_multiview(wanted, cards)
        models = Isotropic3dModels(matte, elevation, multiview, SMALL_CAMERAS, place)
    else:
        cards.append(public)
        room = room_for([asked_of_multiview(public, judged=_JUDGED)], place, wanted.memory_gb)
        unet, multiview = multiview_in(room, public, wanted.prompt)
        models = Isotropic3dModels(matte, elevation, multiview, PUBLIC_CAMERAS, place)
    return Loaded(
        models,
        tuple(cards),
        identity_of(wanted, cards, place),
        {} if public is None else guiding(public),
        {"multiview": unet},
        _told(public, wanted.prompt),
    )


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


def _told(card: Card | None, prompt: str | None) -> str | None:
    """Give what a checkpoint was told in words; None for those that read none."""
    return None if card is None or card.kind == "isotropic3d" else prompt_for(card, prompt)


def _freeze(network: nn.Module) -> None:
    network.eval().requires_grad_(False)
