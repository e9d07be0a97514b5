"""The models of HiFi-123, and those that enhance the views of any recipe."""

from ..diffusion.depth2image import Prompts
from ..diffusion.guide_models import SmallViewGuide, Zero123Guide
from ..diffusion.known_views import SmallViewModel
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.orbit import load_orbit_network
from ..diffusion.small_depth_image import (
    picture_prompts,
    small_depth_image_shape,
    small_enhancing_models,
)
from ..diffusion.view_guide import ViewGuide
from ..diffusion.view_transformer import ViewTransformer, ViewTransformerSize
from ..diffusion.zero123_views import Zero123Views
from ..image import Foreground
from ..models import DepthModel, FeatureModel
from ..recipes.enhancing import Enhancer
from ..recipes.hifi123 import Hifi123Models
from ..views import Views
from ..weights import Card, named
from .cascade_zero123 import zero123_views
from .depth import load_depth
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

_SMALL_STEPS = 1
"""Sampler steps of our small network, which is best in one (see the facts of its card)."""
_SCALE_3D = 5.0
"""Of the guidance of Zero-1-to-3 as a prior (paper, supplement 2.2)."""


def load_hifi123(wanted: Wanted) -> Loaded:
    """Load what the HiFi-123 recipe asks for: our small models.

    With an imported checkpoint of kind "zero123" among the weights, that one draws and is the 3D
    prior.

    Raises:
        WeightsMissing: If one of them is not installed.
        ValueError: If the weights or the device name nothing.
    """
    place = torch_device(wanted.device)
    cards: list[Card] = []
    matte = load_matte(wanted, cards)
    features = load_features(wanted.weights, cards)
    elevation = load_estimator(wanted, features, cards)
    depth = load_depth(wanted, cards)
    network, enhancer = _enhancer(wanted, cards, features, depth)
    given = [] if wanted.weights is None else named(wanted.weights)
    public = next((card for card in given if card.kind == "zero123"), None)
    views = _small_views(wanted, cards) if public is None else zero123_views(public, place)
    if public is not None:
        cards.append(public)
    models = Hifi123Models(
        matte,
        elevation,
        views,
        lambda photo: _prior(views, photo),
        enhancer,
        depth,
        None if public is not None else _SMALL_STEPS,
    )
    drawing = views.network if isinstance(views, SmallViewModel) else views.net
    return Loaded(
        models,
        tuple(cards),
        identity_of(wanted, cards, place),
        {},
        {"views": drawing, "depth_image": network.unet},
    )


def load_enhancer(wanted: Wanted, cards: list[Card]) -> Enhancer:
    """Load what enhances the views of any recipe by RGNV.

    Args:
        wanted: Which weights, and where they are to run.
        cards: The cards of what was read are put here.

    Raises:
        WeightsMissing: If one of the models is not installed.
    """
    depth = load_depth(wanted, cards)
    features = load_features(wanted.weights)
    return _enhancer(wanted, cards, features, depth)[1]


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


def _enhancer(
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
