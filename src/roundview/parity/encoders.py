"""Fixtures of what turns pictures into latents or embeddings and back."""

import torch
from torch import Tensor

from ..diffusion.checkpoints.autoencoder import (
    autoencoder_shape_from_config,
    autoencoder_shape_from_state,
)
from ..diffusion.checkpoints.layout import Layout, load_original, under
from ..diffusion.clip import ClipTower, clip_input, clip_shape_from_config
from ..diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from .fixture import Fixture, Outcome


def autoencoder(fixture: Fixture) -> dict[str, Outcome]:
    """Stable Diffusion's autoencoder, without the factor on its latents."""
    state = _below(fixture, "decoder.conv_in.weight")
    shape = (
        autoencoder_shape_from_config(fixture.config)
        if fixture.sub_config("ch_mult")
        else autoencoder_shape_from_state(state)
    )
    net = LdmAutoencoder(shape, quant="quant_conv.weight" in state).eval()
    load_original(net, net.layout(), state)
    f, out = fixture.fields, dict[str, Outcome]()
    for name in ("image", "x"):
        if fixture.has(name):
            moments = net.moments(f[name])
            mean, log_variance = moments.chunk(2, dim=1)
            out |= {"moments": Outcome(moments), "mode": Outcome(mean), "mean": Outcome(mean)}
            out |= {"logvar": Outcome(log_variance.clamp(-30.0, 20.0))}
            out |= {"dec_of_mean": Outcome(net.decode(mean))}
    if fixture.has("z"):
        out["decoded"] = Outcome(net.decode(f["z"]))
    return out


def clip_decoder(fixture: Fixture) -> dict[str, Outcome]:
    """Stable Video Diffusion's decoder, on one clip and on two."""
    state = _below(fixture, "decoder.conv_in.weight")
    shape = (
        autoencoder_shape_from_config(fixture.config)
        if fixture.sub_config("ch_mult")
        else autoencoder_shape_from_state(state)
    )
    net = ClipDecoder(shape).eval()
    decoder = {name: tensor for name, tensor in state.items() if name.startswith("decoder.")}
    load_original(net, net.layout(), decoder)
    z = fixture.fields["z"]
    return {
        f"decoded_{name}": Outcome(net.decode(z.unflatten(0, (-1, frames))))
        for name, frames in (("T4", 4), ("2x2", 2))
        if len(z) % frames == 0
    }


def image_tower(fixture: Fixture) -> dict[str, Outcome]:
    """An image tower of CLIP, with what prepares its pictures."""
    state = _below(fixture, "conv1.weight")
    net = ClipTower(clip_shape_from_config(fixture.config)).eval()
    wanted = {name: name for name in net.state_dict()}
    # Text parts lie beside the tower, not under it; nothing else may.
    load_original(net, Layout(wanted), state)
    f, out = fixture.fields, dict[str, Outcome]()
    if fixture.has("image_u8"):
        rgb = _channels_first(f["image_u8"]).float() / 255 * 2 - 1
        prepared = clip_input(rgb, side=net.shape.side, antialias=True)
        # The fixture keeps it in half precision, which is good to 1e-3 near 2.
        out["preprocessed"] = Outcome(prepared, tolerance=2e-3)
        out["embed"] = Outcome(net(prepared))
    for name in ("pixels", "x", "image"):
        if fixture.has(name):
            out["embed"] = Outcome(net(f[name]))
    return out


def _below(fixture: Fixture, tail: str) -> dict[str, Tensor]:
    """Take what lies beside the tensor of that name, whatever stands before it."""
    found = [name for name in fixture.weights if name.endswith(tail)]
    if not found:
        raise ValueError(f"the weights lack {tail}")
    return under(fixture.weights, min(found, key=len).removesuffix(tail))


def _channels_first(picture: Tensor) -> Tensor:
    batch = picture if picture.ndim == 4 else picture[None]
    return batch if batch.shape[1] == 3 else torch.movedim(batch, -1, 1)
