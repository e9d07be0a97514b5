import torch

from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.ldm_unet import LdmUNet

SHAPE = UNetShape(
    in_channels=4,
    out_channels=4,
    width=32,
    widths=(1, 2),
    res_blocks=1,
    attends=(True, True),
    heads=(2, 4),
    context=24,
    linear=True,
    camera=16,
)


def inputs(views: int = 4) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(views, 4, 8, 8, generator=rng)
    return x, torch.full((views,), 300), torch.randn(views, 5, 24, generator=rng)


@torch.no_grad()
def test_views_of_one_object_see_each_other_and_no_others() -> None:
    torch.manual_seed(0)
    net = LdmUNet(SHAPE).eval()
    x, t, context = inputs()
    camera = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    apart = net(x, t, context, vector=camera, frames=1)
    pairs = net(x, t, context, vector=camera, frames=2)
    alone = net(x[:1], t[:1], context[:1], vector=camera[:1], frames=1)
    torch.testing.assert_close(apart[:1], alone, atol=1e-5, rtol=1e-4)
    assert float((pairs - apart).abs().max()) > 1e-3
    changed = x.clone()
    changed[3] += 1.0
    again = net(changed, t, context, vector=camera, frames=2)
    torch.testing.assert_close(again[:2], pairs[:2], atol=1e-5, rtol=1e-4)
    assert float((again[2] - pairs[2]).abs().max()) > 1e-3


@torch.no_grad()
def test_the_order_of_the_views_does_not_matter() -> None:
    torch.manual_seed(0)
    net = LdmUNet(SHAPE).eval()
    x, t, context = inputs()
    camera = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    turn = [2, 3, 1, 0]
    before = net(x, t, context, vector=camera, frames=4)
    after = net(x[turn], t, context[turn], vector=camera[turn], frames=4)
    torch.testing.assert_close(after, before[turn], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_image_tokens_weigh_as_much_as_they_are_told_to() -> None:
    torch.manual_seed(0)
    net = LdmUNet(SHAPE, image_tokens=2).eval()
    x, t, context = inputs(1)
    camera = torch.zeros(1, 16)
    without = net(x, t, context, vector=camera, image_weight=0.0)
    changed = context.clone()
    changed[:, -2:] += 1.0
    torch.testing.assert_close(
        net(x, t, changed, vector=camera, image_weight=0.0), without, atol=1e-6, rtol=0
    )
    assert float((net(x, t, changed, vector=camera) - without).abs().max()) > 1e-4
