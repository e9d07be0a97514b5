"""The models of HiFi-123, and those that enhance the views of any recipe."""

import logging
from dataclasses import replace

from ..diffusion.depth2image import Prompts
from ..diffusion.dpt import DptDepth
from ..diffusion.guide_models import SmallViewGuide, Zero123Guide
from ..diffusion.known_views import SmallViewModel
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.orbit import load_orbit_network
from ..diffusion.public_depth_image import public_enhancing_models, text_prompts
from ..diffusion.small_depth_image import (
    picture_prompts,
    small_depth_image_shape,
    small_enhancing_models,
)
from ..diffusion.view_guide import ViewGuide
from ..diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from ..diffusion.zero123_views import Zero123Views
from ..image import Foreground
from ..memory import Room
from ..models import DepthModel, FeatureModel
from ..public_models import prompts_of
from ..recipes.enhancing import Enhancer
from ..recipes.hifi123 import Hifi123Models
from ..views import Views
from ..weights import Card, named
from .cascade_zero123 import asked_of_zero123, zero123_views
from .depth import load_depth
from .dpt import asked_of_depth, public_depth, public_depth_card
from .memory import AS_PUBLISHED, Asked, room_for
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
from .text_guide import (
    asked_of_text_guide,
    stable_diffusion_in,
    text_guide_card,
    text_guide_in,
)

_log = logging.getLogger(__name__)
_SMALL_STEPS = 1
"""Sampler steps of our small network, which is best in one (see the facts of its card)."""
_JUDGED = 4
"""Renderings a step that the priors judge, as in `recipes.hifi123`."""
_SCALE_3D = 5.0
"""Of the guidance of Zero-1-to-3 as a prior (paper, supplement 2.2)."""
_SCALE_TEXT = 20.0
"""Of the guidance of a 2D prior that reads text (the same place; theirs is DeepFloyd IF)."""


def load_hifi123(wanted: Wanted) -> Loaded:
    """Load what the HiFi-123 recipe asks for: our small models, or public ones among the weights.

    An imported checkpoint of kind "zero123" draws and is the 3D prior; one of kind "sd2-depth"
    enhances and is the 2D prior, unless one of kind "sd1", "sd2" or "sd2-v" is there and was told a
    prompt; one of kind "dpt" estimates depth. They share what there is of memory.

    Raises:
        WeightsMissing: If one of them is not installed.
        ValueError: If the weights or the device name nothing, a checkpoint lacks a part, or the
            memory is not enough.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    elevation = load_estimator(wanted, features, cards)
    zero123, image = _public(wanted, "zero123"), _public(wanted, "sd2-depth")
    midas = public_depth_card(wanted)
    asked = [] if midas is None else [asked_of_depth(midas)]
    asked += [] if zero123 is None else [asked_of_zero123(zero123, judged=_JUDGED)]
    asked += [] if image is None else [_asked_of_image(image)]
    text = _told_text_guide(wanted)
    asked += [] if text is None else [asked_of_text_guide(text, judged=_JUDGED)]
    room = room_for(asked, place, wanted.memory_gb)
    depth = _depth(wanted, room, cards, midas)
    if image is None:
        network, enhancer = _small_enhancer(wanted, cards, features, depth)
    else:
        network, enhancer = _public_enhancer(image, room, cards, depth, wanted.prompt)
    views = _small_views(wanted, cards) if zero123 is None else zero123_views(zero123, room)
    cards += [each for each in (zero123, text) if each is not None]
    reading = [card for card in (text, image) if card is not None]
    models = Hifi123Models(
        matte,
        elevation,
        views,
        lambda photo: _prior(views, photo),
        enhancer,
        depth,
        None if zero123 is not None else _SMALL_STEPS,
        None if text is None else _text_prior(room, text, wanted),
    )
    drawing = views.network if isinstance(views, SmallViewModel) else views.net
    return Loaded(
        models,
        tuple(cards),
        identity_of(wanted, cards, place),
        {} if image is None else dict.fromkeys(("size_px", "refine_px"), enhancer.models.size_px),
        {"views": drawing, "depth_image": network.unet},
        prompt_for(reading[0], wanted.prompt) if reading else None,
    )


def enhancer_room(wanted: Wanted) -> Room:
    """Plan the memory of what enhances views, before anything is loaded.

    Raises:
        ValueError: If it is not enough.
    """
    image, midas = _public(wanted, "sd2-depth"), public_depth_card(wanted)
    asked = [] if image is None else [_asked_of_image(image)]
    asked += [] if midas is None else [asked_of_depth(midas)]
    return room_for(asked, torch_device(wanted.device), wanted.memory_gb)


def load_enhancer(wanted: Wanted, cards: list[Card], room: Room | None = None) -> Enhancer:
    """Load what enhances the views of any recipe by RGNV: our small model, or a public one.

    Args:
        wanted: Which weights, and where they are to run.
        cards: The cards of what was read are put here.
        room: See `enhancer_room`, which is asked by default.

    Raises:
        WeightsMissing: If one of the models is not installed.
        ValueError: If a checkpoint lacks a part, or the memory is not enough.
    """
    room = enhancer_room(wanted) if room is None else room
    image, midas = _public(wanted, "sd2-depth"), public_depth_card(wanted)
    depth = _depth(wanted, room, cards, midas)
    if image is None:
        return _small_enhancer(wanted, cards, load_features(wanted.weights), depth)[1]
    return _public_enhancer(image, room, cards, depth, wanted.prompt)[1]


def _depth(wanted: Wanted, room: Room, cards: list[Card], midas: Card | None) -> DepthModel:
    """Load the estimator: ours, or an imported one with our normals."""
    ours = load_depth(wanted, cards)
    if midas is None:
        return ours
    cards.append(midas)
    return public_depth(midas, room, ours)


def _public(wanted: Wanted, kind: str) -> Card | None:
    given = [] if wanted.weights is None else named(wanted.weights)
    return next((card for card in given if card.kind == kind), None)


def _asked_of_image(card: Card) -> Asked:
    drawn = replace(AS_PUBLISHED["sd2-depth"], judged=_JUDGED)
    size_px = int(card.settings.get("options", {}).get("size_px", drawn.size_px))
    return Asked(card, replace(drawn, size_px=size_px))


def _told_text_guide(wanted: Wanted) -> Card | None:
    """Find a checkpoint that judges by words, if it was told some."""
    card = text_guide_card(wanted)
    if card is not None and not prompt_for(card, wanted.prompt).strip():
        _log.warning("%s is not asked: it judges by words, and no --prompt was given", card.name)
        return None
    return card


def _text_prior(room: Room, card: Card, wanted: Wanted) -> ViewGuide:
    return text_guide_in(room, card, prompt_for(card, wanted.prompt), scale=_SCALE_TEXT)


def _public_enhancer(
    card: Card, room: Room, cards: list[Card], depth: DepthModel, prompt: str | None
) -> tuple[LdmUNet, Enhancer]:
    """Read Stable Diffusion 2 that knows depth.

    It is told what the views show; where nobody says it, the texture comes from the photograph
    alone and guidance has no effect. Its card's `options` may set `prompt` and `size_px`.
    """
    unet, autoencoder, tower = stable_diffusion_in(room, card)
    # RGNV asks the network inside, past the entrance that calls it to the device.
    room.take({"unet": unet.unet})
    cards.append(card)
    told = text_prompts(prompts_of(card, tower), prompt_for(card, prompt))

    def prompts(subject: Foreground) -> Prompts:
        del subject  # It is told in words.
        return told

    drawn = _asked_of_image(card).drawn
    models = public_enhancing_models(
        unet,
        autoencoder,
        depth,
        size_px=drawn.size_px,
        as_estimated=isinstance(depth, DptDepth),
        at_once=room.plan.decoded_at_once,
    )
    return unet, Enhancer(models, prompts)


def _small_views(wanted: Wanted, cards: list[Card]) -> SmallViewModel:
    """The orbit network, asked for one view at a time."""
    place = torch_device(wanted.device)
    card, tensors = tensors_of("orbit", wanted.weights, cards)
    network = ViewTransformer(ViewTransformerSize(**settings_in(card)))
    load_orbit_network(network, tensors)
    return SmallViewModel(network.to(place), load_autoencoder(wanted.weights).to(place))


def _prior(views: SmallViewModel | Zero123Views, photo: Views) -> ViewGuide:
    if isinstance(views, SmallViewModel):
        return SmallViewGuide(views, photo)
    return Zero123Guide(views, photo, scale=_SCALE_3D)


def _small_enhancer(
    wanted: Wanted, cards: list[Card], features: FeatureModel, depth: DepthModel
) -> tuple[LdmUNet, Enhancer]:
    place = torch_device(wanted.device)
    card, tensors = tensors_of("depth_image", wanted.weights, cards)
    stated = settings_in(card)
    size_px = int(stated["size_px"])
    network = LdmUNet(small_depth_image_shape(int(stated["latents"]), int(stated["context"])))
    load_orbit_network(network, tensors)
    autoencoder = load_autoencoder(wanted.weights, cards).to(place)

    def prompts(subject: Foreground) -> Prompts:
        return picture_prompts(features, subject, size_px=size_px)

    models = small_enhancing_models(network.to(place), autoencoder, depth, size_px=size_px)
    return network, Enhancer(models, prompts, guidance=float(stated["guidance"]))
