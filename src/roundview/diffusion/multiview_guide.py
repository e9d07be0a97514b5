"""Models of four views as guides of a distillation: Isotropic3D, MVDream, and our small one.

Shi et al., "MVDream: Multi-view Diffusion for 3D Generation", 2023, section 3.3; Liu et al.,
"Isotropic3D: Image-to-3D Generation Based on a Single CLIP Embedding", 2024, section 3.3.
"""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from ..camera import Cameras
from ..image import Foreground
from .ddim import ScaledLinear
from .guide import Guided
from .multiview import MultiviewModel, ViewsTold


class MultiviewGuide:
    """A multi-view model that was told of one subject: a `ViewGuide` of views at equal turns.

    What differs from the original code: latents are the posterior's mean, not a sample of it.

    Attributes:
        guidance: Scale.
        levels: See `MultiviewSettings`.
    """

    def __init__(
        self, model: MultiviewModel, subject: Foreground, *, guidance: float | None = None
    ) -> None:
        """Tell the model of a subject.

        Args:
            model: Draws views; here it judges renderings.
            subject: Square, framed, seen from azimuth 0.
            guidance: Scale; the model's own for guiding by default.
        """
        settings = model.settings
        self.model, self.subject, self.levels = model, model.tell(subject), settings.levels
        own = settings.guidance if settings.guiding is None else settings.guiding
        self.guidance = own if guidance is None else guidance
        self.size_px, self.together = settings.size_px, settings.frames
        self.shares: Float[Tensor, " steps"] = ScaledLinear().alphas_cumprod()

    def encode(self, rgba: Float[Tensor, "n 4 h w"]) -> Float[Tensor, "n c y x"]:
        """Turn renderings over white, [0, 1], into latents; differentiable."""
        autoencoder = self.model.autoencoder
        return autoencoder.encode(rgba[:, : 4 if autoencoder.alpha else 3] * 2 - 1)

    def told(self, cameras: Cameras) -> Guided[ViewsTold]:
        """Tell the model where views are seen from.

        Raises:
            ValueError: If the cameras are not whole groups at equal turns and one elevation.
        """
        return replace(self.model.guided(self.subject, cameras), scale=self.guidance)
