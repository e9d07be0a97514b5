"""What a checkpoint of others needs of a device's memory, from its card alone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..diffusion.checkpoints.families import FirstStage, empty_networks
from ..diffusion.clip import ClipTower
from ..diffusion.clip_text import ClipText
from ..diffusion.imagedream import ImageDreamUNet
from ..diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.video_unet import VideoUNet
from ..diffusion.zero123 import Zero123Net
from ..memory import Measure, MemoryPlan, Need, plan_memory, tensor_peak, weight_bytes
from ..weights import Card

_FOLD = 8
"""Pixels of a picture a latent: every autoencoder here halves three times."""


@dataclass(frozen=True)
class Drawn:
    """What is drawn in one call.

    Attributes:
        frames: Views or frames that the network sees together.
        size_px: Side of the pictures.
        passes: Samples in one call for guidance: 2 where it asks with and without a condition at
            once, 1 where it asks twice.
    """

    frames: int
    size_px: int
    passes: int = 1


AS_PUBLISHED = {
    "zero123": Drawn(1, 256, passes=2),
    "mvdream": Drawn(4, 256, passes=2),
    "isotropic3d": Drawn(4, 256, passes=2),
    "imagedream": Drawn(5, 256, passes=2),
    "sd2-depth": Drawn(1, 512, passes=2),
}
"""Of the kinds that draw pictures; a video checkpoint's are those of its ring."""


def plan_for(
    card: Card, device: torch.device, memory_gb: float | None, drawn: Drawn, *, at_once: int = 4
) -> MemoryPlan:
    """Choose how the networks of a card run within a device's memory, before they are loaded.

    Args:
        card: Of an imported checkpoint.
        device: Where its networks run.
        memory_gb: Limit, 1e9 bytes; None for none.
        drawn: What is asked of them.
        at_once: Frames decoded together if there is room.

    Raises:
        ValueError: If there is no way within the limit; the message says what is needed.
    """
    # Without a limit nothing is measured, so nothing need be built.
    empty = {} if memory_gb is None else empty_networks(card.kind, card.settings)
    return plan_memory(needs_of(empty, drawn), memory_gb, device, decoded_at_once=at_once)


def needs_of(networks: Mapping[str, nn.Module], drawn: Drawn) -> Measure:
    """Say what networks need under a plan, by running them on the meta device.

    Args:
        networks: Without weights; they are changed.
        drawn: What is asked of them.
    """
    parts = called_apart(networks)
    known: dict[tuple[str, str, int], Need] = {}

    def measure(plan: MemoryPlan) -> list[Need]:
        found: list[Need] = []
        for name, part in parts.items():
            chunk = min(plan.decoded_at_once, drawn.frames)
            key = (name, plan.precision, chunk)
            if key not in known:
                # diffusers makes some numbers on the CPU even where all else is on the meta device.
                part.to("meta", plan.dtype)
                # These stand beside another network that decodes.
                decodes = not name.endswith(("condition_encoder", ".pictures"))
                run = _probe(part, drawn, chunk, plan.dtype, decodes=decodes)
                most = tensor_peak(run, resident=[part])
                known[key] = Need(name, weight_bytes(part, plan.precision), most)
            found.append(known[key])
        return found

    return measure


def called_apart(networks: Mapping[str, nn.Module]) -> dict[str, nn.Module]:
    """Take apart what is called apart: an encoder of pictures and a decoder of clips.

    The encoder is left out where there is another that was made for the condition.
    """
    parts: dict[str, nn.Module] = {}
    for name, network in networks.items():
        if isinstance(network, FirstStage):
            parts[f"{name}.clips"] = network.clips
            if "condition_encoder" not in networks:
                parts[f"{name}.pictures"] = network.pictures
        else:
            parts[name] = network
    return parts


def _probe(
    network: nn.Module, drawn: Drawn, chunk: int, dtype: torch.dtype, *, decodes: bool
) -> Callable[[], object]:
    """Give a call as a sampler makes it, on the meta device."""
    side, views = drawn.size_px // _FOLD, drawn.frames * drawn.passes

    def empty(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=dtype, device="meta")

    if isinstance(network, VideoUNet):
        shape, one = network.shape, drawn.passes
        # Guidance holds the answer without the condition while it asks for the one with it.
        return lambda: (
            empty(one, drawn.frames, 3 * shape.out_channels, side, side),
            network(
                empty(one, drawn.frames, shape.in_channels, side, side),
                empty(one),
                empty(one, 1, shape.context),
                empty(one, drawn.frames, shape.vector),
            ),
        )
    if isinstance(network, Zero123Net):
        shape = network.unet.shape
        half = shape.in_channels // 2
        return lambda: network(
            empty(views, half, side, side),
            torch.zeros(views, dtype=torch.long, device="meta"),
            empty(views, half, side, side),
            empty(views, 1, shape.context),
        )
    if isinstance(network, LdmUNet | ImageDreamUNet):
        return _views_probe(network, views, drawn.frames, side, empty)
    return _coder_probe(network, drawn, chunk, empty, decodes=decodes)


def _coder_probe(
    network: nn.Module,
    drawn: Drawn,
    chunk: int,
    empty: Callable[..., Tensor],
    *,
    decodes: bool,
) -> Callable[[], object]:
    side = drawn.size_px // _FOLD
    if isinstance(network, ClipDecoder):
        return lambda: network.decode(empty(1, chunk, network.shape.latent, side, side))
    if isinstance(network, LdmAutoencoder) and not decodes:
        return lambda: network.encode(empty(1, network.shape.picture, drawn.size_px, drawn.size_px))
    if isinstance(network, LdmAutoencoder):
        return lambda: (
            network.encode(empty(1, network.shape.picture, drawn.size_px, drawn.size_px)),
            network.decode(empty(chunk, network.shape.latent, side, side)),
        )
    if isinstance(network, ClipTower):
        return lambda: network(empty(1, 3, network.shape.side, network.shape.side))
    if isinstance(network, ClipText):
        return lambda: network(
            torch.zeros(1, network.shape.length, dtype=torch.long, device="meta")
        )
    raise ValueError(f"nothing is known of what {type(network).__name__} needs")


def _views_probe(
    network: LdmUNet | ImageDreamUNet,
    views: int,
    frames: int,
    side: int,
    empty: Callable[..., Tensor],
) -> Callable[[], object]:
    times = torch.zeros(views, dtype=torch.long, device="meta")
    if isinstance(network, ImageDreamUNet):
        shape, tokens = network.views.shape, network.image_embed
        features = empty(views, 257, tokens.proj_in.in_features)
        return lambda: network(
            empty(views, shape.in_channels, side, side),
            times,
            empty(views, 77, shape.context),
            empty(views, shape.camera),
            features,
            frames=frames,
        )
    shape = network.shape
    added = shape.camera or shape.vector
    return lambda: network(
        empty(views, shape.in_channels, side, side),
        times,
        empty(views, 77, shape.context),
        vector=empty(views, added) if added else None,
        frames=frames,
    )
