from dataclasses import replace

import pytest
import torch
from fakes import KnowingOrbit, KnownElevation, block, photo_of
from recipes_tiny import TINY

from roundview.image import Image
from roundview.loaders import Loaded
from roundview.methods import method_of
from roundview.pipeline import Job, make, peak_memory_mb, run, with_surface
from roundview.recipes.im3d import STANDARD, Im3d, Im3dModels
from roundview.recipes.surfacing import Meshing
from roundview.segment import PhotoMatte
from roundview.stages import Stages, seeded
from roundview.weights import card


def loaded(identity: str = "fakes") -> Loaded:
    models = Im3dModels(PhotoMatte(), KnowingOrbit(block()), KnownElevation(10.0))
    return Loaded(models, (card("u2netp"),), identity)


def job(**changes: object) -> Job:
    return replace(Job(photo_of(block()), loaded(), TINY), **changes)


def test_the_record_says_how_an_asset_was_made() -> None:
    asset = run(job(seed=3), Stages(seeded(3)))
    record = asset.record
    assert record["recipe"] == "im3d"
    assert record["seed"] == 3
    assert record["settings"]["fit_steps"] == TINY.fit_steps
    assert record["weights"][0]["licence"] == "Apache-2.0"
    assert len(record["weights"][0]["sha256"]) == 64
    assert record["notes"]["photo_elevation_deg"] == 10.0
    assert record["prompt"] is None
    assert record["mesh"]["faces"] == len(asset.mesh.faces)
    assert record["seconds_total"] == pytest.approx(sum(record["seconds"].values()), abs=0.01)


def test_the_same_job_gives_the_same_asset() -> None:
    first, second = (run(job(), Stages(seeded(0))) for _ in range(2))
    assert torch.equal(first.mesh.vertices, second.mesh.vertices)
    assert torch.equal(first.mesh.faces, second.mesh.faces)
    assert first.mesh.texture is not None
    assert second.mesh.texture is not None
    assert torch.equal(first.mesh.texture.rgb, second.mesh.texture.rgb)
    assert first.gaussians is not None
    assert second.gaussians is not None
    assert torch.equal(first.gaussians.centre, second.gaussians.centre)


def test_identity_changes_with_everything_that_decides() -> None:
    photo = photo_of(block())
    assert photo.alpha is not None
    darker = Image(photo.rgb * 0.99, photo.alpha)
    thinner = Image(photo.rgb, photo.alpha * 0.99)
    jobs = [
        job(),
        job(seed=1),
        job(settings=replace(TINY, faces=TINY.faces + 1)),
        job(loaded=loaded("others")),
        job(photo=darker),
        job(photo=thinner),
        job(photo=Image(photo.rgb)),
    ]
    assert len({one.identity() for one in jobs}) == len(jobs)
    assert job().identity() == job().identity()


def test_unknown_names_are_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'dreamfusion' is unknown; there are: im3d, hi3d"):
        job(recipe="dreamfusion")
    with pytest.raises(ValueError, match="there are: draft, standard, high"):
        make(photo_of(block()), quality="best")


def test_words_that_no_model_reads_are_refused() -> None:
    with pytest.raises(ValueError, match="prompt: no model of im3d reads words"):
        make(photo_of(block()), prompt="a block")


def test_any_surface_can_be_asked_for_where_a_recipe_has_a_choice() -> None:
    assert with_surface(TINY, "sdf").surface == "sdf"
    with pytest.raises(ValueError, match="--fit sdf: Meshing has its own way to a mesh"):
        with_surface(Meshing(), "sdf")


def test_make_is_the_recipe_with_shipped_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roundview.loaders.im3d.load_im3d", lambda _: loaded())
    asset = make(photo_of(block()), settings=TINY, seed=0)
    assert asset.record["settings"]["size_px"] == TINY.size_px
    assert asset.gaussians is not None
    assert asset.views is not None


def test_standard_is_the_default() -> None:
    assert method_of("im3d").settings("standard") == STANDARD == Im3d()


def test_peak_memory_is_that_of_this_process() -> None:
    peak = peak_memory_mb()
    assert peak is None or 50 < peak < 100_000
