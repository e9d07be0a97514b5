"""Which family a fixture is of, and how far our results are from the original's."""

from collections.abc import Callable

import torch

from .distillation import rgnv
from .encoders import autoencoder, clip_decoder, image_tower
from .fixture import Fixture, Outcome
from .video import video_unet
from .views import imagedream, multiview, pictures, zero123

Family = Callable[[Fixture], dict[str, Outcome]]


def check_parity(fixture: Fixture) -> dict[str, tuple[float, float]]:
    """Run our network on an original's inputs.

    Returns:
        For every output field that the fixture holds and we know: the largest absolute error, and
        the largest that passes.

    Raises:
        ValueError: If the family is unknown, or the weights do not fit it; the message says which.
    """
    with torch.no_grad():
        outcomes = family_of(fixture)(fixture)
    told = {name: outcome for name, outcome in outcomes.items() if fixture.has(name)}
    if not told:
        held = ", ".join(sorted(fixture.fields)) or "nothing"
        raise ValueError(f"the fixture holds no output that is known; it holds {held}")
    return {name: (_error(name, fixture, out), out.tolerance) for name, out in told.items()}


def family_of(fixture: Fixture) -> Family:
    """Tell the family by the names of the weights.

    Raises:
        ValueError: If no family has such names.
    """
    names = " ".join(fixture.weights)
    signs: list[tuple[tuple[str, ...], Family]] = [
        (("image_embed.latents", "input_blocks."), imagedream),
        (("input_blocks.", ".time_stack."), video_unet),
        (("cc_projection.weight", "input_blocks."), zero123),
        (("camera_embed.", "input_blocks."), multiview),
        (("input_blocks.", "middle_block.1.transformer_blocks."), pictures),
        (("decoder.mid.block_1.", ".time_stack."), clip_decoder),
        (("decoder.conv_in.", "encoder.conv_in."), autoencoder),
        (("transformer.resblocks.", "conv1.weight"), image_tower),
        (("down_blocks.", "up_blocks.", ".attn1."), rgnv),
    ]
    for parts, family in signs:
        if all(part in names for part in parts):
            return family
    some = ", ".join(sorted(fixture.weights)[:3]) or "none"
    raise ValueError(f"no supported family has such tensors: {some}")


def _error(name: str, fixture: Fixture, outcome: Outcome) -> float:
    truth = fixture.fields[name]
    ours = outcome.ours
    if ours.numel() != truth.numel():
        raise ValueError(
            f"{name}: ours is {tuple(ours.shape)}, the original's {tuple(truth.shape)}"
        )
    return float((ours.reshape(truth.shape).double() - truth.double()).abs().max())
