import torch

from roundview.diffusion.checkpoints.autoencoder import AutoencoderShape
from roundview.diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder

SMALL = AutoencoderShape(width=32, widths=(1, 1, 2), res_blocks=1)


@torch.no_grad()
def test_pictures_become_latents_and_pictures_again() -> None:
    torch.manual_seed(0)
    net = LdmAutoencoder(SMALL).eval()
    picture = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = net.encode(picture)
    assert latents.shape == (2, 4, 8, 8)
    torch.testing.assert_close(net.sample(picture, torch.zeros(2, 4, 8, 8)), latents)
    assert not torch.equal(net.sample(picture, torch.ones(2, 4, 8, 8)), latents)
    assert net.decode(latents).shape == picture.shape


@torch.no_grad()
def test_without_the_convolutions_between_the_latents_are_the_encoders_own() -> None:
    torch.manual_seed(0)
    net = LdmAutoencoder(SMALL, quant=False).eval()
    picture = torch.zeros(1, 3, 32, 32)
    torch.testing.assert_close(net.moments(picture), net.net.encoder(picture))


@torch.no_grad()
def test_frames_of_a_clip_are_decoded_together() -> None:
    torch.manual_seed(0)
    net = ClipDecoder(SMALL).eval()
    latents = torch.randn(1, 4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    clip = net.decode(latents)
    halves = net.decode(latents.reshape(2, 2, 4, 8, 8)).reshape(clip.shape)
    assert clip.shape == (1, 4, 3, 32, 32)
    assert float((clip - halves).abs().max()) > 1e-4


@torch.no_grad()
def test_an_encoder_that_would_overflow_in_half_precision_is_asked_in_float32() -> None:
    shape = AutoencoderShape(width=32, widths=(1,), res_blocks=1)
    torch.manual_seed(0)
    whole = LdmAutoencoder(shape)
    # Between the first convolution and the first normalisation numbers pass 65,504.
    whole.net.encoder.conv_in.weight *= 6e4
    picture = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    expected = whole.encode(picture)
    plain, careful = LdmAutoencoder(shape), LdmAutoencoder(shape, upcast=True)
    for each in (plain, careful):
        each.load_state_dict(whole.state_dict())
        each.half()
    careful.upcast_encoder()
    assert not bool(torch.isfinite(plain.encode(picture.half())).all())
    found = careful.encode(picture.half())
    assert found.dtype == torch.float16
    # Half precision of the weights and of what is given.
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=2e-2)
    # Decoding is not changed.
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(2)).half()
    assert torch.equal(careful.decode(latents), plain.decode(latents))
