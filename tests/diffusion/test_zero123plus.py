"""Zero123++ against the plain way: diffusers' own network and sampler, attention written out."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from checkpoints_tiny import CODEC, SHEET, TOWER
from diffusers.models.attention_processor import AttnProcessor
from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
    EulerAncestralDiscreteScheduler,
)
from torch import Tensor, nn

from roundview.camera import Cameras
from roundview.diffusion.attention import self_attentions
from roundview.diffusion.clip import MEAN, STD, ClipTower
from roundview.diffusion.ldm_autoencoder import LdmAutoencoder
from roundview.diffusion.ldm_unet import LdmUNet
from roundview.diffusion.zero123plus import (
    Ramp,
    ReferenceUNet,
    SheetNetworks,
    SheetOptions,
    Zero123Plus,
    over_white,
)
from roundview.image import Foreground
from roundview.models import OrbitModel
from roundview.views import Views

# Of numpy 2, about diffusers' schedulers.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
USE = SheetOptions(tile_px=16, photo_px=32, guidance=3.0)
LENGTH = 8


def networks() -> SheetNetworks:
    torch.manual_seed(5)
    ramp = Ramp(LENGTH)
    nn.init.uniform_(ramp.coefficients)
    empty = torch.randn(1, LENGTH, 24)
    return SheetNetworks(LdmUNet(SHEET), LdmAutoencoder(CODEC), ClipTower(TOWER), ramp, empty)


def photo() -> Foreground:
    rng = torch.Generator().manual_seed(2)
    alpha = torch.zeros(40, 40)
    alpha[8:32, 10:30] = 1.0
    return Foreground(torch.rand(40, 40, 3, generator=rng), alpha)


class Plainly:
    """Attention in so many words: first keeps what it is shown, then attends to both."""

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    def __call__(self, attn: Any, hidden_states: Tensor, *_: object, **__: object) -> Tensor:  # noqa: ANN401  diffusers' layer
        seen = hidden_states
        if self.kept is None:
            self.kept = hidden_states
        else:
            seen, self.kept = torch.cat([hidden_states, self.kept], dim=1), None
        heads = []
        q, k, v = attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(seen)
        for a, b, c in zip(*(each.chunk(attn.heads, dim=-1) for each in (q, k, v)), strict=True):
            weight = (a @ b.mT / math.sqrt(a.shape[-1])).softmax(dim=-1)
            heads.append(weight @ c)
        return attn.to_out[0](torch.cat(heads, dim=-1))


def plain_unet(network: LdmUNet) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """Diffusers' UNet, its cross-attention its own again, asked twice: photograph, then sheet."""
    unet = network.unet
    unet.set_attn_processor(AttnProcessor())
    for layer in self_attentions(unet):
        layer.set_processor(Plainly())  # pyright: ignore[reportArgumentType]  any callable

    def ask(x: Tensor, time: Tensor, reference: Tensor, tokens: Tensor) -> Tensor:
        unet(reference, time, tokens)
        return unet(x, time, tokens, return_dict=False)[0]

    return ask


@torch.no_grad()
def test_attention_sees_the_sheet_and_the_photograph() -> None:
    rng = torch.Generator().manual_seed(0)
    x, reference = torch.randn(2, 4, 6, 4, generator=rng), torch.randn(2, 4, 4, 4, generator=rng)
    tokens = torch.randn(2, LENGTH, 24, generator=rng)
    ours = ReferenceUNet(networks().unet)(x, 300, reference, tokens)
    plain = plain_unet(networks().unet)(x, torch.tensor(300), reference, tokens)
    torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-4)
    other = ReferenceUNet(networks().unet)(x, 300, reference * 0, tokens)
    assert float((other - ours).abs().max()) > 1e-3


@torch.no_grad()
def plain_sheet(subject: Foreground, seed: int, steps: int) -> Tensor:
    """The authors' program in our words: pictures of the sheet, over grey, [0, 1]."""
    parts, rng = networks(), torch.Generator().manual_seed(seed)
    ask = plain_unet(parts.unet)
    scheduler = EulerAncestralDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    alpha = subject.alpha[..., None]
    grey = (subject.rgb * alpha + 0.5 * (1 - alpha)).movedim(-1, 0)[None]

    def sized(side: int) -> Tensor:
        size = (side, side)
        return torch.nn.functional.interpolate(grey, size, mode="bicubic", antialias=True).clamp(
            0, 1
        )

    condition = parts.autoencoder.encode((sized(32) - 0.5) / 0.8)
    nothing = parts.autoencoder.encode(torch.zeros(1, 3, 32, 32))
    latents_of_photo = torch.cat([nothing, condition])
    seen = (sized(28) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    token = parts.tower(seen)
    ramp = parts.ramp.coefficients.reshape(1, LENGTH, 1)
    prompt = parts.empty_prompt
    tokens = torch.cat([prompt, prompt + ramp * token.reshape(1, 1, 24)])
    x = torch.randn(1, 4, 6, 4, generator=rng) * scheduler.init_noise_sigma
    for time in scheduler.timesteps:
        noise = torch.randn(2, 4, 4, 4, generator=rng)
        noisy = scheduler.add_noise(latents_of_photo, noise, time.reshape(1))
        scaled = scheduler.scale_model_input(torch.cat([x, x]), time)
        reference = scheduler.scale_model_input(noisy, time)
        without, given = ask(scaled, time, reference, tokens).chunk(2)
        velocity = without + 3.0 * (given - without)
        x = scheduler.step(velocity, time, x, generator=rng, return_dict=False)[0]
    x = x / 0.75 + 0.22
    picture = parts.autoencoder.decode(x / 0.18215) / 0.5 * 0.8
    return (picture / 2 + 0.5).clamp(0, 1)[0]


def test_six_views_are_those_of_the_plain_program() -> None:
    sheet = plain_sheet(photo(), seed=7, steps=3)
    model = Zero123Plus(networks(), USE)
    drawn = model.draw(photo(), USE.cameras(), torch.Generator().manual_seed(7), steps=3)
    for k, view in enumerate(drawn.rgb):
        row, column = divmod(k, 2)
        tile = sheet[:, 16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
        expected, alpha = over_white(tile.movedim(0, -1)[None].contiguous())
        # Three steps of a guided network, twice through softmax in another order.
        torch.testing.assert_close(view, expected[0], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(drawn.alpha[k], alpha[0], atol=2e-2, rtol=1e-3)


def test_the_cameras_stand_where_the_authors_say() -> None:
    assert isinstance(Zero123Plus(networks(), USE), OrbitModel)
    cameras = SheetOptions().cameras()
    turn = cameras.azimuth_deg % 360
    torch.testing.assert_close(turn, torch.tensor([30.0, 90, 150, 210, 270, 330]))
    torch.testing.assert_close(cameras.elevation_deg, torch.tensor([20.0, -10.0] * 3))
    # A ball of radius 0.5 just touches the picture's rim on the plane through its centre.
    half = 0.5 * 320 / cameras.focal_px[0] * SheetOptions().radius
    assert float(half) == pytest.approx(0.5, abs=1e-4)


def test_any_of_the_six_are_given_in_the_order_they_are_asked_for() -> None:
    model, six = Zero123Plus(networks(), USE), USE.cameras()
    drawn = model.draw(photo(), six, torch.Generator().manual_seed(1), steps=1)
    some = model.draw(photo(), six[[4, 1]], torch.Generator().manual_seed(1), steps=1)
    assert torch.equal(some.rgb, drawn.rgb[[4, 1]])


@pytest.mark.parametrize(
    ("azimuth_deg", "changed"),
    [
        (0.0, {}),
        (30.0, {"elevation_deg": -10.0}),
        (30.0, {"radius": 1.5}),
        (30.0, {"fov_deg": 49.0}),
    ],
)
def test_other_places_are_refused(azimuth_deg: float, changed: dict[str, float]) -> None:
    place = {"elevation_deg": 20.0, "radius": USE.radius, "fov_deg": 30.0} | changed
    cameras = Cameras.orbit([azimuth_deg], size_hw=(16, 16), **place)
    with pytest.raises(ValueError, match="azimuths 30, 150, 270 at elevation 20 and 90, 210, 330"):
        Zero123Plus(networks(), USE).draw(photo(), cameras, torch.Generator(), steps=1)


def test_a_little_noise_brings_the_same_views_back() -> None:
    model, cameras = Zero123Plus(networks(), USE), USE.cameras()
    rng = torch.Generator().manual_seed(3)
    views = Views(torch.rand(6, 16, 16, 3, generator=rng), torch.ones(6, 16, 16), cameras)
    turned = [3, 0, 5, 1, 2, 4]

    def redrawn(views: Views, level: float) -> Views:
        rng = torch.Generator().manual_seed(4)
        return model.redraw(photo(), views, rng, noise_level=level, steps=1)

    torch.testing.assert_close(redrawn(views[turned], 0.5).rgb, redrawn(views, 0.5).rgb[turned])
    with pytest.raises(ValueError, match="give all of them"):
        redrawn(views[[0, 1]], 0.5)
    with pytest.raises(ValueError, match=r"noise_level must lie in \(0, 1\]"):
        redrawn(views, 0.0)


def test_grey_is_nothing_and_becomes_white() -> None:
    rgb = torch.full((1, 8, 8, 3), 0.5)
    rgb[0, 2:6, 2:6] = torch.tensor([0.9, 0.1, 0.2])
    colour, alpha = over_white(rgb)
    assert torch.equal(alpha[0] > 0.5, (rgb[0] != 0.5).any(dim=-1))
    torch.testing.assert_close(colour[0, 0, 0], torch.ones(3))
    torch.testing.assert_close(colour[0, 3, 3], rgb[0, 3, 3])


def test_a_ramp_adds_the_embedding_by_its_own_share() -> None:
    ramp = Ramp(3)
    ramp.coefficients.data = torch.tensor([0.0, 0.5, 2.0])
    out = ramp(torch.ones(1, 3, 2), torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(out[0], torch.tensor([[1.0, 1.0], [1.5, 0.5], [3.0, -1.0]]))
