from pathlib import Path

from roundview.diffusion.orbit import LatentOrbitModel
from roundview.diffusion.solid_orbit import SolidOrbitModel
from roundview.loaders.parts import asks_of_orbit, load_latent_orbit, load_orbit_model
from roundview.loaders.shape import load_shape
from roundview.weights import SHIPPED, Card, card


def copied(names: list[str], folder: Path) -> str:
    for name in names:
        for path in SHIPPED.glob(f"{name}.*"):
            (folder / path.name).write_bytes(path.read_bytes())
    return str(folder)


def test_the_estimator_comes_with_the_features_it_was_trained_on() -> None:
    cards: list[Card] = []
    model = load_shape(cards=cards)
    assert [found.name for found in cards] == ["shape-small", "depth-small", "efficientnet-lite0"]
    assert not any(p.requires_grad for p in model.decoder.parameters())
    assert card("shape-small").kind == "shape"


def test_orbits_are_drawn_from_solids_unless_an_orbit_model_is_named(tmp_path: Path) -> None:
    cards: list[Card] = []
    model = load_orbit_model(cards=cards)
    assert isinstance(model, SolidOrbitModel)
    assert isinstance(load_latent_orbit(), LatentOrbitModel)
    assert asks_of_orbit(model) == {"elevation_frames": 0}
    named = copied(["orbit-small"], tmp_path)
    assert isinstance(load_orbit_model(named), LatentOrbitModel)
    both = copied(["shape-small"], tmp_path)
    assert isinstance(load_orbit_model(both), SolidOrbitModel)
