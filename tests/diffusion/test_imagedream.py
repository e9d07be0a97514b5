import torch

from roundview.diffusion.checkpoints.layout import load_original
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.imagedream import ImageDreamUNet, Resampler, ResamplerShape

SHAPE = UNetShape(
    in_channels=4,
    out_channels=4,
    width=32,
    widths=(1,),
    res_blocks=1,
    attends=(True,),
    heads=(2,),
    context=24,
    linear=True,
    camera=16,
)
TOKENS = ResamplerShape(
    features=20, width=32, depth=2, heads=2, head_width=8, tokens=3, context=24, widening=2
)


def inputs(views: int) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    shapes = ((views, 4, 8, 8), (views, 5, 24), (views, 16), (views, 7, 20))
    x, context, camera, features = (torch.randn(shape, generator=rng) for shape in shapes)
    return x, torch.full((views,), 100), context, camera, features


@torch.no_grad()
def test_any_number_of_features_becomes_the_same_number_of_tokens() -> None:
    net = Resampler(TOKENS).eval()
    assert net(torch.zeros(2, 7, 20)).shape == (2, 3, 24)
    assert net(torch.zeros(2, 11, 20)).shape == (2, 3, 24)


@torch.no_grad()
def test_the_order_of_the_features_does_not_matter() -> None:
    net = Resampler(TOKENS).eval()
    features = torch.randn(1, 6, 20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(net(features.flip(1)), net(features), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_in_pixel_mode_the_last_view_is_the_picture_whatever_was_there() -> None:
    torch.manual_seed(0)
    net = ImageDreamUNet(SHAPE, TOKENS).eval()
    x, *told = inputs(5)
    picture = torch.zeros(1, 4, 8, 8)
    before = x.clone()
    drawn = net(x, *told, frames=5, picture=picture)
    assert torch.equal(x, before)
    x[4] += 3.0
    torch.testing.assert_close(net(x, *told, frames=5, picture=picture), drawn)
    other = net(x, *told, frames=5, picture=picture + 1.0)
    assert float((other[:4] - drawn[:4]).abs().max()) > 1e-4


@torch.no_grad()
def test_the_tokens_of_the_picture_change_every_view() -> None:
    torch.manual_seed(0)
    net = ImageDreamUNet(SHAPE, TOKENS).eval()
    x, t, context, camera, features = inputs(4)
    drawn = net(x, t, context, camera, features, frames=4)
    other = net(x, t, context, camera, features + 1.0, frames=4)
    assert bool(((other - drawn).abs().amax(dim=(1, 2, 3)) > 1e-5).all())


def test_weights_go_there_and_back() -> None:
    net, other = ImageDreamUNet(SHAPE, TOKENS), ImageDreamUNet(SHAPE, TOKENS)
    original = net.layout().to_original(net.state_dict())
    assert "image_embed.layers.0.1.1.weight" in original
    assert "middle_block.1.transformer_blocks.0.attn2.to_k_ip.weight" in original
    load_original(other, other.layout(), original)
    pairs = zip(net.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
