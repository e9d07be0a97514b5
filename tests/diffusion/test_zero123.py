import torch

from roundview.diffusion.checkpoints.layout import load_original
from roundview.diffusion.checkpoints.unet import UNetShape
from roundview.diffusion.zero123 import Zero123Net, pose_from_degrees

SHAPE = UNetShape(8, 4, 32, (1, 1), 1, (True, True), (4, 4), 24)


def test_a_pose_of_thirty_degrees_up_and_forty_five_round() -> None:
    pose = pose_from_degrees(torch.tensor([[-30.0, 45.0, 0.0]]))
    torch.testing.assert_close(pose, torch.tensor([[-0.523599, 0.707107, 0.707107, 0.0]]))


@torch.no_grad()
def test_guidance_of_one_is_the_prediction_itself() -> None:
    torch.manual_seed(0)
    net = Zero123Net(SHAPE).eval()
    rng = torch.Generator().manual_seed(0)
    x, beside = torch.randn(2, 4, 8, 8, generator=rng), torch.randn(2, 4, 8, 8, generator=rng)
    t, tokens = torch.tensor([10, 500]), torch.randn(2, 1, 24, generator=rng)
    plain = net(x, t, beside, tokens)
    torch.testing.assert_close(
        net.guided(x, t, beside, tokens, scale=1.0), plain, atol=1e-5, rtol=1e-4
    )
    without = net(x, t, torch.zeros_like(beside), torch.zeros_like(tokens))
    torch.testing.assert_close(
        net.guided(x, t, beside, tokens, scale=0.0), without, atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_a_token_holds_the_embedding_and_the_way() -> None:
    net = Zero123Net(SHAPE).eval()
    net.cc_projection.weight.copy_(torch.eye(24, 28))
    net.cc_projection.bias.zero_()
    embedding = torch.randn(1, 5, 24, generator=torch.Generator().manual_seed(0))
    tokens = net.tokens(embedding, torch.ones(1, 5, 4))
    torch.testing.assert_close(tokens, embedding)


def test_weights_go_there_and_back() -> None:
    net, other = Zero123Net(SHAPE), Zero123Net(SHAPE)
    original = net.layout().to_original(net.state_dict())
    assert "cc_projection.weight" in original
    assert "model.diffusion_model.middle_block.1.proj_in.weight" in original
    load_original(other, other.layout(), original)
    pairs = zip(net.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
