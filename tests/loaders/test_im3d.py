from roundview.loaders import Wanted
from roundview.loaders.im3d import load_im3d


def test_shipped_models_come_with_their_cards() -> None:
    loaded = load_im3d(Wanted(use_matte=False))
    names = {card.name for card in loaded.cards}
    assert names == {"efficientnet-lite0", "orbit-small", "autoencoder-small", "elevation-small"}
    assert set(loaded.counted) == {"orbit"}


def test_a_known_elevation_needs_no_estimator() -> None:
    loaded = load_im3d(Wanted(use_matte=False, photo_elevation_deg=12.0))
    assert "elevation-small" not in {card.name for card in loaded.cards}
    assert loaded.identity != load_im3d(Wanted(use_matte=False)).identity
