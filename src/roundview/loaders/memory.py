"""What checkpoints of others need of a device's memory, from their cards alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..diffusion.attention import Memory
from ..diffusion.checkpoints.families import FirstStage, empty_networks
from ..diffusion.clip import ClipTower
from ..diffusion.clip_text import ClipText
from ..diffusion.depth2image import SharedDepthUNet
from ..diffusion.dpt import DptHybrid
from ..diffusion.imagedream import ImageDreamUNet
from ..diffusion.ldm_autoencoder import ClipDecoder, LdmAutoencoder
from ..diffusion.ldm_unet import LdmUNet
from ..diffusion.video_unet import VideoUNet
from ..diffusion.zero123 import Zero123Net
from ..diffusion.zero123plus import Ramp
from ..memory import (
    Measure,
    MemoryPlan,
    Need,
    Room,
    in_precision,
    plan_memory,
    tensor_peak,
    weight_bytes,
)
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
        judged: Renderings that a distillation encodes at once, to have their gradient; 0 for none.
        remembered: Steps of which the self-attention is kept, as RGNV does.
    """

    frames: int
    size_px: int
    passes: int = 1
    judged: int = 0
    remembered: int = 0


AS_PUBLISHED = {
    "zero123": Drawn(4, 256, passes=2),
    "mvdream": Drawn(4, 256, passes=2),
    "isotropic3d": Drawn(4, 256, passes=2, judged=8),
    "imagedream": Drawn(5, 256, passes=2),
    # The sheet of 960 x 640 pixels, and a little for the photograph that its attention sees.
    "zero123plus": Drawn(1, 832, passes=2),
    # As guides, which judge renderings.
    "sd1": Drawn(1, 512, judged=4),
    "sd2": Drawn(1, 512, judged=4),
    "sd2-v": Drawn(1, 768, judged=4),
    "sd2-depth": Drawn(4, 512, passes=2, remembered=30),
}
"""Of the kinds that draw pictures; a video checkpoint's are those of its ring. Where views are
drawn one by one, so many are by default in one call."""


@dataclass(frozen=True, eq=False)
class Asked:
    """A checkpoint, and what is asked of it.

    Attributes:
        card: Of the checkpoint.
        drawn: What it draws in one call.
        at_once: Frames decoded together if there is room; views that are drawn one by one are
            also denoised so many at a time.
    """

    card: Card
    drawn: Drawn
    at_once: int = 4


def room_for(asked: Sequence[Asked], device: torch.device, memory_gb: float | None) -> Room:
    """Plan how the networks of all checkpoints of a recipe share a device, before they are loaded.

    They are used one after another: weights add up, activations do not. Where that is too much, one
    network at a time is on the device, whichever checkpoint it belongs to.

    Args:
        asked: The checkpoints.
        device: Where their networks run.
        memory_gb: Limit for all together, 1e9 bytes; None for none.

    Raises:
        ValueError: If there is no way within the limit; the message says what is needed.
    """
    at_once = max((each.at_once for each in asked), default=4)
    if memory_gb is None or not asked:
        # Without a limit nothing is measured, so nothing need be built.
        plan = plan_memory(lambda _: (), None, device, decoded_at_once=at_once)
        return Room(plan, device)
    known: dict[str, Measure] = {}
    measures: list[tuple[str, Measure]] = []
    for each in asked:
        alike = repr((each.card.kind, each.card.settings, each.drawn, each.at_once))
        if alike not in known:
            empty = empty_networks(each.card.kind, each.card.settings)
            known[alike] = needs_of(empty, each.drawn, at_once=each.at_once)
        measures.append((f"{each.card.name}: " if len(asked) > 1 else "", known[alike]))

    def measure(plan: MemoryPlan) -> list[Need]:
        return [
            replace(need, name=before + need.name) for before, one in measures for need in one(plan)
        ]

    return Room(plan_memory(measure, memory_gb, device, decoded_at_once=at_once), device)


def needs_of(networks: Mapping[str, nn.Module], drawn: Drawn, *, at_once: int = 64) -> Measure:
    """Say what networks need under a plan, by running them on the meta device.

    Args:
        networks: Without weights; they are changed.
        drawn: What is asked of them.
        at_once: Frames that they decode together at most, whatever the plan says.
    """
    parts = called_apart(networks)
    known: dict[tuple[str, str, int], Need] = {}
    kept: dict[str, int] = {}

    def measure(plan: MemoryPlan) -> list[Need]:
        needs: list[Need] = []
        for name, part in parts.items():
            chunk = min(plan.decoded_at_once, at_once, drawn.frames) if _in_chunks(part) else 1
            key = (name, plan.precision, chunk)
            if key not in known:
                # diffusers makes some numbers on the CPU even where all else is on the meta device.
                part.to("meta")
                in_precision(part, plan.dtype)
                most = _most(name, part, drawn, chunk, plan.dtype)
                known[key] = Need(name, weight_bytes(part), most)
            needs.append(known[key])
        encoder = next((part for part in parts.values() if isinstance(part, LdmAutoencoder)), None)
        if encoder is None or not drawn.judged:
            return needs
        if plan.precision not in kept:
            kept[plan.precision] = _kept_for_the_way_back(encoder, drawn, plan.dtype)
        # A distillation holds it while the others are asked; an encoder that has left the device is
        # kept there by it.
        held = kept[plan.precision] + (weight_bytes(encoder) if plan.offload else 0)
        return [replace(need, activations=need.activations + held) for need in needs]

    return measure


def _in_chunks(part: nn.Module) -> bool:
    """Whether a network sees as many pictures together as a plan says."""
    return isinstance(part, ClipDecoder | LdmAutoencoder | Zero123Net)


def _most(name: str, part: nn.Module, drawn: Drawn, chunk: int, dtype: torch.dtype) -> int:
    """Count what a network needs beside its weights."""
    # These stand beside another network that decodes.
    decodes = not name.endswith(("condition_encoder", ".pictures"))
    run = _probe(part, drawn, chunk, dtype, decodes=decodes)
    most = tensor_peak(run, resident=[part])
    if drawn.remembered and isinstance(part, LdmUNet):
        most += drawn.remembered * remembered_bytes(part, drawn.size_px // _FOLD)
    return most


def remembered_bytes(network: LdmUNet, side: int) -> int:
    """Count what one step of RGNV keeps of a network's self-attention, see `attention.Memory`."""
    dtype = next(network.parameters()).dtype
    shape, record = network.shape, Memory()
    x = torch.empty((1, shape.in_channels - 1, side, side), dtype=dtype, device="meta")
    tokens = torch.empty((1, 77, shape.context), dtype=dtype, device="meta")
    own = network.unet.attn_processors
    with torch.no_grad():
        step = torch.zeros(1, dtype=torch.long, device="meta")
        SharedDepthUNet(network.unet)(x, step, x[:, :1], tokens, record=record)
    network.unet.set_attn_processor(own)
    return sum(held.nbytes for held in record.held.values())


def _kept_for_the_way_back(encoder: LdmAutoencoder, drawn: Drawn, dtype: torch.dtype) -> int:
    picture = (drawn.judged, encoder.shape.picture, drawn.size_px, drawn.size_px)
    seen = torch.empty(picture, dtype=dtype, device="meta", requires_grad=True)
    encoder.requires_grad_(False)
    return tensor_peak(lambda: encoder.encode(seen), resident=[encoder], gradient=True)


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
        views = chunk * drawn.passes
        return lambda: network(
            empty(views, half, side, side),
            torch.zeros(views, dtype=torch.long, device="meta"),
            empty(views, half, side, side),
            # The photograph, a draft and three views nearby at most (Chen et al. 2024).
            empty(views, 5, shape.context),
        )
    if isinstance(network, LdmUNet | ImageDreamUNet):
        # Renderings that are judged are whole groups of views.
        views = max(views, drawn.judged * drawn.passes)
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
    if isinstance(network, DptHybrid):
        return lambda: network(empty(1, 3, network.shape.side, network.shape.side))
    if isinstance(network, Ramp):
        length = len(network.coefficients)
        return lambda: network(empty(1, length, 1024), empty(1, 1024))
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
        # Only cameras make views of one object see each other.
        frames=frames if shape.camera else 1,
    )
