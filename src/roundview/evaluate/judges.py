"""Networks that judge pictures; all but one are the user's, for none of the others ships."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ..diffusion.clip import ClipTower
from ..loaders import load_features
from ..losses import WeightedFeatureModel
from ..metrics import clip_similarity, contextual_distance, deep_feature_distance, load_lpips, lpips
from ..metrics.likeness import FeatureMap, ImageTower
from ..metrics.networks import ClipLikeness, Vgg19Relu54
from ..models import FeatureModel
from ..public_models import load_networks
from ..weights import named


@dataclass(frozen=True, eq=False)
class Judges:
    """What looks at pictures beside PSNR and SSIM.

    Attributes:
        features: For the deep-feature distance.
        lpips_alex: From `metrics.load_lpips`; Magic123's protocol takes this one.
        lpips_vgg: Likewise; SyncDreamer's takes this one.
        clip: Any image tower; say which in `names`.
        contextual: VGG19's relu5_4 for HiFi-123's figures.
        names: What they are called, or hashes of their weights, for the record.
    """

    features: FeatureModel | None = None
    lpips_alex: WeightedFeatureModel | None = None
    lpips_vgg: WeightedFeatureModel | None = None
    clip: ImageTower | None = None
    contextual: FeatureMap | None = None
    names: tuple[str, ...] = ()

    def of_pairs(
        self, drawn: Float[Tensor, "n h w 3"], truth: Float[Tensor, "n h w 3"]
    ) -> dict[str, list[float]]:
        """Compare each picture with the true one of the same view."""
        found: dict[str, Tensor] = {}
        if self.features is not None:
            found["deep_features"] = deep_feature_distance(self.features, drawn, truth)
        if self.lpips_alex is not None:
            found["lpips_alex"] = lpips(self.lpips_alex, drawn, truth)
        if self.lpips_vgg is not None:
            found["lpips_vgg"] = lpips(self.lpips_vgg, drawn, truth)
        return {key: [round(float(x), 5) for x in values] for key, values in found.items()}

    def of_likeness(
        self, drawn: Float[Tensor, "n h w 3"], reference: Float[Tensor, "1 h w 3"]
    ) -> dict[str, list[float]]:
        """Compare pictures of any side with one picture of the same thing."""
        copies = reference.expand_as(drawn)
        found: dict[str, Tensor] = {}
        if self.features is not None:
            found["deep_features"] = deep_feature_distance(self.features, drawn, copies)
        if self.clip is not None:
            found["clip"] = clip_similarity(self.clip, drawn, reference)
        if self.contextual is not None:
            found["contextual"] = contextual_distance(self.contextual, drawn, copies)
        return {key: [round(float(x), 5) for x in values] for key, values in found.items()}


def load_judges(
    *,
    deep_features: bool = False,
    lpips_alex: Path | None = None,
    lpips_vgg: Path | None = None,
    clip: str | None = None,
    vgg19: Path | None = None,
) -> Judges:
    """Load the judges that are asked for; the heads of LPIPS come from an installed torchmetrics.

    Args:
        deep_features: The shipped EfficientNet-lite0; its distance is not LPIPS.
        lpips_alex: State dict of torchvision's AlexNet.
        lpips_vgg: State dict of torchvision's VGG16.
        clip: Card of an imported image tower: its file, or the folder it is in.
        vgg19: State dict of torchvision's VGG19, for contextual distances.

    Raises:
        FileNotFoundError: If a file is missing or there are no heads.
        ValueError: If a file is of another network.
    """
    files = {"alex": lpips_alex, "vgg": lpips_vgg}
    names = [f"LPIPS {net}: {path}" for net, path in files.items() if path is not None]
    names += [] if vgg19 is None else [f"contextual, VGG19 relu5_4: {vgg19}"]
    tower, tower_name = (None, []) if clip is None else _clip(clip)
    return Judges(
        features=load_features() if deep_features else None,
        lpips_alex=None if lpips_alex is None else load_lpips("alex", lpips_alex),
        lpips_vgg=None if lpips_vgg is None else load_lpips("vgg", lpips_vgg),
        clip=tower,
        contextual=None if vgg19 is None else Vgg19Relu54.load(vgg19),
        names=tuple(
            (["deep features: EfficientNet-lite0"] if deep_features else []) + names + tower_name
        ),
    )


def _clip(where: str) -> tuple[ClipLikeness, list[str]]:
    for card in named(where):
        tower = load_networks(card, torch.device("cpu")).get("image_tower")
        if isinstance(tower, ClipTower):
            shape = tower.shape
            size = f"{shape.layers} layers of {shape.width}, patch {shape.patch}"
            return ClipLikeness(tower), [f"CLIP: {card.name} ({size}), {card.sha256[:12]}"]
    raise ValueError(f"{where} holds no card of an image tower; see `roundview weights import`")
