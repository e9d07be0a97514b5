"""What each part of Cascade-Zero123 is worth for novel views: table 3 of its paper.

Chen et al., "Cascade-Zero123: One Image to Highly Consistent 3D with Self-Prompted Nearby Views",
2024. Theirs trains each row anew; ours asks one pair of networks in other ways, except for rows of
other weights (such as a pair trained without moving average, or with other prompts).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..image import Image
from ..loaders import Loaded
from ..mesh import Mesh
from ..models import Report
from ..recipes.cascade_zero123 import CascadeZero123, novel_views
from ..stages import seeded
from .keeping import Measured
from .nvs import Candidate
from .protocol import NvsProtocol, Truth, mark, render_truth
from .strips import strip_png
from .through_recipe import WatchedStages

BASE = "base alone"
"""The row that the others are compared with: Zero123 itself."""


def cascade_variants(full: CascadeZero123) -> dict[str, CascadeZero123]:
    """Give the rows of table 3 that are settings; the first is the whole method."""
    return {
        "full": replace(full, cascade="refiner", prompts="nearby", coarse_target=True),
        BASE: replace(full, cascade="none"),
        "frozen cascade": replace(full, cascade="frozen"),
        "random prompts": replace(full, prompts="random"),
        "larger prompts": replace(full, prompts="larger"),
        "more nearby prompts": replace(full, prompts="more"),
        "no coarse target": replace(full, coarse_target=False),
    }


@dataclass(frozen=True, eq=False)
class CascadeMeasure:
    """Draws the views of objects with every variant, and marks them.

    Attributes:
        candidate: Models and settings of the recipe.
        variants: Settings by name, the first is what is measured.
        others: Models of other weights by the names of their rows; the first variant's settings.
        protocol: Views; the first is the photograph.
    """

    candidate: Candidate
    variants: dict[str, CascadeZero123]
    others: Mapping[str, Loaded] = field(default_factory=dict)
    protocol: NvsProtocol = NvsProtocol()  # noqa: RUF009  a frozen value

    def facts(self) -> dict[str, Any]:
        """Say in plain values what is measured, and how."""
        return self.candidate.facts(self.protocol) | {
            "variants": {name: asdict(settings) for name, settings in self.variants.items()},
            "models": self.candidate.loaded.identity,
            "others": {name: loaded.identity for name, loaded in self.others.items()},
        }

    def __call__(self, name: str, mesh: Mesh, report: Report) -> Measured:
        """Draw and mark one object with every variant."""
        del name
        truth = render_truth(mesh, self.protocol)
        whole = next(iter(self.variants.values()))
        tasks = {row: (self.candidate.loaded, told) for row, told in self.variants.items()}
        tasks |= {row: (loaded, whole) for row, loaded in self.others.items()}
        rows, by_row, drawn = {}, {}, []
        for at, (row, (loaded, settings)) in enumerate(tasks.items()):
            rgb = self._drawn(truth, loaded, settings)
            marks = mark(rgb, truth)
            rows[row] = {m: round(fmean(values), 5) for m, values in marks.items()}
            by_row[row] = marks["psnr"]
            drawn.append(rgb)
            report((at + 1) / len(tasks))
        entry = {
            "rows": rows,
            "azimuth_deg": [round(float(a), 3) for a in truth.views.cameras.azimuth_deg[1:]],
            "psnr_by_row": by_row,
            "strip": ["truth", *tasks],
        }
        return Measured(entry, strip_png([truth.views.rgb, *drawn]))

    def _drawn(
        self, truth: Truth, loaded: Loaded, settings: CascadeZero123
    ) -> Float[Tensor, "n h w 3"]:
        protocol = self.protocol
        views = novel_views(
            Image(truth.photo.rgb, truth.photo.alpha),
            loaded.models,
            seeded(self.candidate.seed),
            replace(
                settings,
                size_px=protocol.size_px,
                distance=protocol.distance,
                fov_deg=protocol.fov_deg,
            ),
            WatchedStages({"matte": truth.photo}),
            azimuth_deg=[360.0 * k / protocol.views for k in range(protocol.views)],
        )
        return views.rgb.float().cpu()
