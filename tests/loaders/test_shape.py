from roundview.diffusion.orbit import LatentOrbitModel
from roundview.diffusion.solid_orbit import SolidOrbitModel
from roundview.loaders.parts import asks_of_orbit, load_latent_orbit, load_orbit_model
from roundview.loaders.shape import load_shape
from roundview.weights import Card, card


def test_the_estimator_comes_with_the_features_it_was_trained_on() -> None:
    cards: list[Card] = []
    model = load_shape(cards=cards)
    assert [found.name for found in cards] == ["shape-small", "depth-small", "efficientnet-lite0"]
    assert not any(p.requires_grad for p in model.decoder.parameters())
    assert card("shape-small").kind == "shape"


def test_orbits_are_drawn_from_solids_for_who_names_them() -> None:
    cards: list[Card] = []
    model = load_orbit_model("shape-small", cards)
    assert isinstance(model, SolidOrbitModel)
    assert {"shape-small", "orbit-small"} <= {found.name for found in cards}
    assert isinstance(load_orbit_model(), LatentOrbitModel)
    assert asks_of_orbit(model) == asks_of_orbit(load_latent_orbit()) == {"elevation_frames": 0}
