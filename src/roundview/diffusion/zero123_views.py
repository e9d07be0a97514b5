"""Views drawn one by one by Zero123's public networks, and by the refiner of a cascade of two.

Liu et al., "Zero-1-to-3: Zero-shot One Image to 3D Object", 2023; Chen et al., "Cascade-Zero123:
One Image to Highly Consistent 3D with Self-Prompted Nearby Views", 2024. The refiner is the same
network with a token for each known view; the latents beside are the photograph's only. Where the
papers and their code differ, `Zero123Options` has both. Released code of the cascade cannot draw,
so its order of tokens is the trainer's.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras
from ..frames import stable_zero123_from_cameras, zero123_from_cameras
from ..image import resize
from ..models import Report, silent
from ..views import Views
from .clip import ClipTower, clip_input
from .ddim import ddim, ddim_plan
from .ldm_autoencoder import LATENT_SCALE, LdmAutoencoder
from .noise import randn
from .video_orbit import alpha_over_white
from .zero123 import Zero123Net


@dataclass(frozen=True)
class Zero123Options:
    """How the networks are asked; the defaults are those of Zero123's demo and the cascade's code.

    Attributes:
        guidance: Scale of classifier-free guidance.
        eta: Share of DDPM's fresh noise; 0 in the port to diffusers.
        drop_first: Leave out the noisiest step, as the original's sampler; off in the port.
        coarse_pose: Pose told with the draft of the target: zeros (the trainer), or the embedding
            of no motion, whose cosine is 1 ("paper").
        stable: Tell the photograph's polar angle in fourth place, as Stable-Zero123 wants it.
        size_px: Side of the pictures that the networks were trained with.
        together: Views that go through the networks in one call.
    """

    guidance: float = 3.0
    eta: float = 1.0
    drop_first: bool = True
    coarse_pose: Literal["code", "paper"] = "code"
    stable: bool = False
    size_px: int = 256
    together: int = 4


@dataclass(frozen=True, eq=False)
class Zero123Told:
    """What Zero123 is told of each view.

    Attributes:
        beside: Latents of the photograph, not scaled.
        tokens: Of each known view: its embedding and the way from its camera.
    """

    beside: Float[Tensor, "v c h w"]
    tokens: Float[Tensor, "v k d"]

    def __getitem__(self, index: slice) -> "Zero123Told":
        """Take some of the views."""
        return Zero123Told(self.beside[index], self.tokens[index])

    def nothing(self) -> "Zero123Told":
        """What stands for no condition: zeros after the projection, as in the original."""
        return Zero123Told(torch.zeros_like(self.beside), torch.zeros_like(self.tokens))


@dataclass(frozen=True, eq=False)
class Zero123Known:
    """Views of one subject as Zero123 sees them, the photograph first.

    Attributes:
        beside: Latents of the photograph, not scaled.
        embedding: CLIP's of each view.
        cameras: Where they are seen from.
    """

    beside: Float[Tensor, "1 c h w"]
    embedding: Float[Tensor, "k d"]
    cameras: Cameras


class Zero123Views:
    """A `RefinerModel` of a public checkpoint; Zero123 itself where only the photograph is known.

    Any cameras are drawn that differ from the photograph's by azimuth, elevation and distance.
    Alpha is what differs from white.

    Args:
        net: The UNet with its projection.
        autoencoder: Stable Diffusion's.
        tower: CLIP's ViT-L/14.
        options: How they are asked.
    """

    def __init__(
        self,
        net: Zero123Net,
        autoencoder: LdmAutoencoder,
        tower: ClipTower,
        options: Zero123Options = Zero123Options(),
    ) -> None:
        self.net = net.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self.tower = tower.eval().requires_grad_(False)
        self.options = options
        self.size_px = options.size_px

    @torch.no_grad()
    def draw(
        self,
        known: Views,
        cameras: Cameras,
        rng: Generator,
        *,
        steps: int,
        coarse: Views | None = None,
        report: Report = silent,
    ) -> Views:
        """Draw each view with DDIM; see `RefinerModel`."""
        told = self.tell(self.look_at(known), cameras, coarse)
        start = randn(tuple(told.beside.shape), rng).to(told.beside)
        each = self.options.together
        drawn = []
        for begin in range(0, len(cameras), each):
            part = slice(begin, begin + each)
            drawn.append(self._denoised(start[part], told[part], rng, steps))
            report(min(begin + each, len(cameras)) / len(cameras))
        rgb = rearrange(torch.cat(drawn), "n c h w -> n h w c")
        alpha = torch.stack([alpha_over_white(picture) for picture in rgb])
        size_px = self.options.size_px
        return Views(rgb, alpha, cameras.resized((size_px, size_px))).resized(cameras.size_hw)

    @torch.no_grad()
    def look_at(self, known: Views) -> Zero123Known:
        """Encode views of a subject, the photograph first, once for all that is drawn from them."""
        pictures = self._pictures(known)
        return Zero123Known(
            self.autoencoder.encode(pictures[:1]), self._embedding(pictures), known.cameras
        )

    @torch.no_grad()
    def tell(
        self, known: Zero123Known, cameras: Cameras, coarse: Views | None = None
    ) -> Zero123Told:
        """Say what each of the cameras' views is drawn from: [photo, coarse target, nearby views].

        Ways are from each known view to the target. Arguments as for `draw`.
        """
        n = len(cameras)
        way = stable_zero123_from_cameras if self.options.stable else zero123_from_cameras
        poses = [way(cameras, known.cameras[k]) for k in range(len(known.cameras))]
        embeddings = list(known.embedding[:, None].expand(-1, n, -1))
        if coarse is not None:
            still = torch.zeros_like(poses[0])
            if self.options.coarse_pose == "paper":
                still[:, 2] = 1.0
            poses.insert(1, still)
            embeddings.insert(1, self._embedding(self._pictures(coarse)))
        embedding = torch.stack(embeddings, dim=1)
        tokens = self.net.tokens(embedding, torch.stack(poses, dim=1).to(embedding))
        return Zero123Told(known.beside.expand(n, -1, -1, -1), tokens)

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings over white into scaled latents; differentiable."""
        at = self.net.cc_projection.weight
        return self.autoencoder.encode(rgba[:, :3].to(at) * 2 - 1) * LATENT_SCALE

    def _denoised(self, start: Tensor, told: Zero123Told, rng: Generator, steps: int) -> Tensor:
        options = self.options

        def predict(x: Tensor, t: Tensor) -> Tensor:
            return self.net.guided(x, t, told.beside, told.tokens, scale=options.guidance)

        plan = ddim_plan(steps, eta=options.eta, drop_first=options.drop_first)
        latents = ddim(predict, start, plan, rng=rng)
        rgb = self.autoencoder.decode(latents / LATENT_SCALE).float().cpu()
        return (rgb / 2 + 0.5).clamp(0, 1)

    def _embedding(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d"]:
        prepared = clip_input(pictures, side=self.tower.shape.side, antialias=False)
        return self.tower(prepared.to(pictures))

    def _pictures(self, views: Views) -> Float[Tensor, "n 3 h w"]:
        side = self.options.size_px
        rgb = rearrange(resize(views.rgb, (side, side)).clamp(0, 1), "n h w c -> n c h w")
        return rgb.to(self.net.cc_projection.weight) * 2 - 1
