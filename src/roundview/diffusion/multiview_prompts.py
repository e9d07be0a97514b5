"""What MVDream and ImageDream are told in words, and ImageDream of a picture.

Shi et al., "MVDream: Multi-view Diffusion for 3D Generation", 2023; Wang and Shi, "ImageDream:
Image-Prompt Multi-view Diffusion for 3D Generation", 2023. Values are those of their code.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Int
from torch import Tensor, nn

from ..camera import Cameras
from ..image import Foreground, composite
from .clip import ClipTower, clip_input
from .guide import NoiseModel
from .ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from .multiview import Tell, Told, ViewsTold, camera_vectors

TellTexts = Callable[[Sequence[str]], Tensor]
"""Texts to tokens, "b k d"; see `clip_text.text_tokens`."""
SUFFIX = ", 3d asset"
"""That their training pictures' captions ended with."""
GREY = (0.5, 0.5, 0.5)
"""Behind ImageDream's picture; its code draws a grey at random."""


def tell_mvdream(texts: TellTexts, prompt: str, *, negative: str = "") -> Tell:
    """Tell MVDream: a prompt and the cameras. It does not look at the photograph.

    Args:
        texts: Of the checkpoint's text tower.
        prompt: What the views show.
        negative: What guidance avoids.
    """
    words, avoided = texts([_whole(prompt)]), texts([negative])

    def tell(subject: Foreground) -> Told:
        del subject
        return lambda cameras: _worded(words, avoided, cameras)

    return tell


def tell_imagedream(
    texts: TellTexts,
    tower: ClipTower,
    autoencoder: LdmAutoencoder | None,
    prompt: str,
    *,
    frames: int = 4,
    size_px: int = 256,
    negative: str = "",
) -> Tell:
    """Tell ImageDream: a prompt, the picture over grey, and the cameras.

    Args:
        texts: Of the checkpoint's text tower.
        tower: Its image tower, whose states before the last block are told.
        autoencoder: Makes the picture a view of its own (pixel mode); None is local mode.
        prompt: What the views show; may be empty.
        frames: Views an object.
        size_px: Side of the pictures.
        negative: What guidance avoids; the released programs name a dozen faults.
    """
    words, avoided = texts([_whole(prompt)]), texts([negative])
    at = next(tower.parameters())

    @torch.no_grad()
    def tell(subject: Foreground) -> Told:
        small = subject.resized((size_px, size_px))
        shown = composite(small.rgb[None], small.alpha[None], GREY)
        picture = rearrange(shown, "n h w c -> n c h w") * 2 - 1
        prepared = clip_input(picture, side=tower.shape.side, antialias=True)
        features = tower.hidden_states(prepared.to(at))[-2]
        latents = None
        if autoencoder is not None:
            place = next(autoencoder.parameters())
            latents = autoencoder.encode(picture.to(place)) * LATENT_SCALE

        def told(cameras: Cameras) -> tuple[ViewsTold, ViewsTold]:
            given, without = _worded(words, avoided, cameras)
            objects = len(cameras) // frames
            given = replace(
                given,
                features=features.expand(len(cameras), -1, -1),
                picture=None if latents is None else latents.expand(objects, -1, -1, -1),
            )
            # Its words are avoided ones; of the picture nothing is said.
            return given, replace(given.without_picture(), tokens=without.tokens)

        return told

    return tell


def placed(model: NoiseModel[ViewsTold], network: nn.Module) -> NoiseModel[ViewsTold]:
    """Let a model be asked in any precision, from any device."""
    at = next(network.parameters())

    def predict(x: Tensor, t: Int[Tensor, " b"], told: ViewsTold) -> Tensor:
        there = ViewsTold(
            told.tokens.to(at),
            told.camera.to(at),
            None if told.features is None else told.features.to(at),
            None if told.picture is None else told.picture.to(at),
        )
        return model(x.to(at), t.to(at.device), there).to(x)

    return predict


def _whole(prompt: str) -> str:
    return prompt + SUFFIX if prompt.strip() else ""


def _worded(words: Tensor, avoided: Tensor, cameras: Cameras) -> tuple[ViewsTold, ViewsTold]:
    camera = camera_vectors(cameras, "once").to(words)
    given, without = (part.expand(len(cameras), -1, -1) for part in (words, avoided))
    return ViewsTold(given, camera), ViewsTold(without, camera)
