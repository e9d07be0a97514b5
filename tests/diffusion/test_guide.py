"""Score distillation against threestudio's own functions and by hand."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.diffusion.checkpoints.layout import load_original, under
from roundview.diffusion.checkpoints.unet import shape_from_config
from roundview.diffusion.ddim import ScaledLinear
from roundview.diffusion.guide import (
    ISOTROPIC3D_TIMES,
    Form,
    Guided,
    NoiseModel,
    Ramp,
    TimeRange,
    Weighting,
    clean_from_noise,
    constant,
    distillation_loss,
    draw_noise,
    guided_noise,
    noised,
    picture_gradient,
    reconstruction_gradient,
    sds_gradient,
    sjc_gradient,
)
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.frames import isotropic3d_from_angles
from roundview.parity import read_fixture

MORE = Path(os.environ.get("ROUNDVIEW_FIXTURES", "nowhere"))


@pytest.fixture(scope="module")
def told(repository: Path) -> dict[str, Tensor]:
    with np.load(repository / "tests" / "golden" / "sds_math.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


def fake_model(told: dict[str, Tensor]) -> NoiseModel[Tensor]:
    """The linear network that the golden file was made with."""

    def predict(x: Tensor, t: Tensor, text: Tensor) -> Tensor:
        mixed = torch.einsum("ij,bjhw->bihw", told["A"], x)
        shift = 0.1 * text.mean(dim=(1, 2)).reshape(-1, 1, 1, 1)
        return mixed + shift + (t / 1000).reshape(-1, 1, 1, 1) * x

    return predict


def guided(told: dict[str, Tensor]) -> Guided[Tensor]:
    return Guided(fake_model(told), told["text"][:2], told["text"][2:], 7.5, "from_conditional")


@pytest.mark.parametrize("weighting", ["sds", "uniform", "fantasia3d"])
def test_sds_is_threestudios_with_each_weighting(
    told: dict[str, Tensor], weighting: Weighting
) -> None:
    gradient = sds_gradient(
        guided(told),
        told["latents"],
        told["t"],
        told["noise"],
        shares=told["alphas_cumprod"],
        weighting=weighting,
    )
    torch.testing.assert_close(gradient, told[f"grad_{weighting}"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("reduced", [True, False])
def test_sjc_is_threestudios(told: dict[str, Tensor], reduced: bool) -> None:
    gradient = sjc_gradient(
        guided(told),
        told["latents"],
        told["t"],
        told["noise"],
        shares=told["alphas_cumprod"],
        variance_reduced=reduced,
    )
    truth = told[f"grad_sjc_varred{int(reduced)}"]
    torch.testing.assert_close(gradient, truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "value"), [("from_unconditional", 1 + 3 * 4.0), ("from_conditional", 5 + 3 * 4.0)]
)
def test_guidance_starts_where_its_form_says(form: Form, value: float) -> None:
    given, without = torch.tensor([5.0]), torch.tensor([1.0])
    assert float(guided_noise(given, without, 3.0, form)) == value


@pytest.mark.parametrize(
    ("form", "scale"), [("from_unconditional", 1.0), ("from_conditional", 0.0)]
)
def test_a_scale_that_changes_nothing_asks_once(form: Form, scale: float) -> None:
    asked = []

    def model(x: Tensor, t: Tensor, given: float) -> Tensor:
        asked.append(given)
        return x * given + t

    guided = Guided(model, 2.0, 3.0, scale, form)
    x, t = torch.ones(1), torch.tensor([4])
    assert float(guided(x, t)) == 6
    assert asked == [2.0]
    clean = torch.ones(1, 2, 2)
    shares = torch.full((10,), 0.5)
    reconstruction_gradient(guided, clean, t, torch.ones_like(clean), shares=shares, rescale=0.0)
    assert asked == [2.0, 2.0]
    assert float(replace(guided, scale=2.0)(x, t)) != 6
    assert asked[2:] == [2.0, 3.0]


def test_the_forms_are_one_with_scales_one_apart() -> None:
    given, without = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        guided_noise(given, without, 8.0, "from_unconditional"),
        guided_noise(given, without, 7.0, "from_conditional"),
    )


def test_sds_vanishes_where_the_model_sees_through_the_noise() -> None:
    rng = torch.Generator().manual_seed(1)
    clean, noise = torch.randn(2, 2, 3, 4, 4, generator=rng)
    shares = ScaledLinear().alphas_cumprod()
    gradient = sds_gradient(
        lambda _x, _t: noise, clean, torch.tensor([100, 900]), noise, shares=shares
    )
    assert float(gradient.abs().max()) == 0


def test_reconstruction_points_away_from_what_the_model_sees() -> None:
    # A model that knows the clean sample predicts the noise that leads to it.
    rng = torch.Generator().manual_seed(2)
    clean, noise, wanted = torch.randn(3, 4, 3, 4, 4, generator=rng, dtype=torch.float64)
    shares = ScaledLinear().alphas_cumprod()
    share = shares[500]

    def knows(x: Tensor, _t: Tensor, given: bool) -> Tensor:
        return (x - share.sqrt() * (wanted if given else 0 * wanted)) / (1 - share).sqrt()

    guided = Guided(knows, True, False, 1.0)
    t = torch.full((4,), 500)
    plain = reconstruction_gradient(guided, clean, t, noise, shares=shares, rescale=0.0)
    torch.testing.assert_close(plain, clean - wanted)
    # Guidance by 3 triples this model's x_0; rescaling brings it all the way back.
    strong = Guided(knows, True, False, 3.0)
    tripled = reconstruction_gradient(strong, clean, t, noise, shares=shares, rescale=0.0)
    torch.testing.assert_close(tripled, clean - 3 * wanted)
    back = reconstruction_gradient(strong, clean, t, noise, shares=shares, rescale=1.0, frames=4)
    torch.testing.assert_close(back, clean - wanted)
    half = reconstruction_gradient(strong, clean, t, noise, shares=shares, rescale=0.5, frames=2)
    torch.testing.assert_close(half, clean - 2 * wanted)


def test_the_loss_has_the_gradient_and_its_size() -> None:
    value = torch.zeros(2, 3, requires_grad=True)
    gradient = torch.tensor([[1.0, 2.0, float("nan")], [0.0, -2.0, 0.0]])
    loss = distillation_loss(value, gradient)
    assert float(loss.detach()) == pytest.approx(0.5 * 9 / 2)
    (slope,) = torch.autograd.grad(loss, value)
    torch.testing.assert_close(slope, torch.tensor([[0.5, 1, 0], [0, -1, 0]]))


def test_a_gradient_at_latents_is_carried_back_to_the_picture() -> None:
    weights = torch.randn(5, 3, generator=torch.Generator().manual_seed(3))
    picture = torch.ones(2, 3, requires_grad=True)
    back = picture_gradient(picture * 2, lambda x: x @ weights.mT, torch.ones_like)
    torch.testing.assert_close(back, weights.sum(dim=0).expand(2, 3))
    assert picture.grad is None


def test_noise_is_put_on_and_taken_off() -> None:
    clean, noise = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(4))
    share = torch.tensor([[0.9], [0.5], [0.1]])
    torch.testing.assert_close(
        clean_from_noise(noised(clean, noise, share), noise, share), clean, rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        noised(clean, noise, share).square() / (clean**2 + noise**2) <= 1 + 1e-5,
        torch.ones(3, 4, dtype=torch.bool),
    )


def test_a_ramp_is_level_beyond_its_ends() -> None:
    ramp = Ramp(10.0, 1000.0, 5000, 1000)
    assert [ramp(step) for step in (0, 1000, 3000, 5000, 9000)] == [10, 10, 505, 1000, 1000]
    assert constant(0.5)(0) == constant(0.5)(99) == 0.5


@pytest.mark.parametrize(
    ("step", "bounds"),
    # From the original's own annealing, run over its configuration.
    [
        (0, (980, 980)),
        (1, (979, 979)),
        (100, (968, 974)),
        (1000, (860, 919)),
        (2500, (679, 830)),
        (4999, (380, 680)),
        (5000, (380, 679)),
        (8000, (20, 500)),
        (9999, (20, 500)),
    ],
)
def test_isotropic3d_anneals_its_noise_levels(step: int, bounds: tuple[int, int]) -> None:
    assert ISOTROPIC3D_TIMES.bounds(step) == bounds


def test_noise_levels_are_drawn_with_both_ends() -> None:
    times = TimeRange(constant(0.5), constant(0.502))
    rng = torch.Generator().manual_seed(5)
    drawn = torch.cat([times.draw(0, 8, rng) for _ in range(20)])
    assert set(drawn.tolist()) == {500, 501, 502}
    assert len(set(ISOTROPIC3D_TIMES.draw(9000, 8, rng, together=True).tolist())) == 1
    assert TimeRange(constant(0.0), constant(1.0)).bounds(0) == (0, 999)
    with pytest.raises(ValueError, match="no noise level lies between 900 and 100"):
        TimeRange(constant(0.9), constant(0.1)).draw(0, 1, rng)


def test_noise_follows_the_seed_and_the_precision() -> None:
    like = torch.zeros(2, 3, dtype=torch.float64)
    first = draw_noise(like, torch.Generator().manual_seed(6))
    assert first.dtype == torch.float64
    assert torch.equal(first, draw_noise(like, torch.Generator().manual_seed(6)))


@pytest.mark.skipif(not (MORE / "isotropic3d_sds.npz").exists(), reason="no such fixture at hand")
@pytest.mark.parametrize("t", [100, 500, 900])
@pytest.mark.parametrize("kind", ["recon", "recon_norescale", "sds"])
def test_isotropic3ds_guidance_is_met(t: int, kind: str) -> None:
    path = MORE / "isotropic3d_unet_tiny.safetensors"
    fixture = read_fixture(path, path)
    unet = LdmUNet(shape_from_config(fixture.config)).eval()
    load_original(unet, unet.layout(), under(fixture.weights, "model.diffusion_model."))
    with np.load(MORE / "isotropic3d_sds.npz") as file:
        told = {name: torch.from_numpy(file[name]) for name in file.files}
    camera = isotropic3d_from_angles(told["az"], told["el"])

    def predict(x: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        return unet(x, times, tokens, vector=camera, frames=4)

    tokens = told["context_cond"].expand(8, 1, -1)
    guided = Guided(predict, tokens, torch.zeros_like(tokens), 10.0)
    latents, noise, shares = told["latents"], told["noise"], told["alphas_cumprod"]
    times = torch.full((8,), t)
    if kind == "sds":
        gradient = sds_gradient(guided, latents, times, noise, shares=shares)
    else:
        rescale = 0.5 if kind == "recon" else 0.0
        gradient = reconstruction_gradient(
            guided, latents, times, noise, shares=shares, rescale=rescale, frames=4
        )
    truth = told[f"{kind}_t{t}_grad"]
    # Guidance by 10 and the way to x_0 at the noisiest step amplify the networks' rounding.
    worst = float((gradient / 8 - truth).abs().max() / truth.abs().max())
    assert worst < 1e-4
    loss = float(distillation_loss(latents, gradient))
    assert loss == pytest.approx(float(told[f"{kind}_t{t}_loss"]), rel=1e-4)
