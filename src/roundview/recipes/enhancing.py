"""Views of any recipe, drawn anew with the photograph's texture: RGNV, HiFi-123's first part.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, section 3.2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from ..diffusion.depth2image import PAPER, RELEASED_CODE, Prompts, Reference, Rgnv
from ..diffusion.rgnv_views import EnhancingModels, enhance_views, reference_of_photo
from ..image import Foreground
from ..models import PlainStages, Report, StageRunner, silent
from ..views import Views

ENHANCEMENTS = {"paper": PAPER, "released_code": RELEASED_CODE}
"""Settings by name; where paper and released program differ is said at `Rgnv`."""


@dataclass(frozen=True, eq=False)
class Enhancer:
    """An image model that knows depth, and how it is told what a photograph shows.

    Attributes:
        models: The model and what it needs beside it.
        prompts: Tells it of a framed photograph.
        guidance: Scale that it was found to want; None takes that of the settings.
    """

    models: EnhancingModels
    prompts: Callable[[Foreground], Prompts]
    guidance: float | None = None

    def settings(self, wanted: Rgnv) -> Rgnv:
        """Give settings with the model's own guidance."""
        if self.guidance is None:
            return wanted
        return replace(wanted, guidance=self.guidance, form="from_unconditional")


@dataclass(frozen=True, eq=False)
class Remembered:
    """A photograph as views borrow from it: made once, for any number of them.

    Attributes:
        reference: What its self-attention was shown.
        prompts: What the model was told.
    """

    reference: Reference
    prompts: Prompts


def remembered(
    subject: Foreground,
    enhancer: Enhancer,
    settings: Rgnv = PAPER,
    *,
    report: Report = silent,
) -> Remembered:
    """Invert the photograph and remember what its self-attention was shown.

    Args:
        subject: The framed photograph.
        enhancer: The model.
        settings: `PAPER`, `RELEASED_CODE`, or ones of your own; the model may want another scale.
        report: Called with the fraction done.
    """
    prompts = enhancer.prompts(subject)
    reference = reference_of_photo(
        enhancer.models, subject, prompts, enhancer.settings(settings), report=report
    )
    return Remembered(reference, prompts)


def enhanced_views(
    subject: Foreground,
    views: Views,
    enhancer: Enhancer,
    *,
    settings: Rgnv = PAPER,
    known: Remembered | None = None,
    together: int = 4,
    stage: StageRunner | None = None,
) -> Views:
    """Draw views again with the photograph's texture; outlines, cameras and depth stay.

    Args:
        subject: The framed photograph.
        views: From any generator, over white; if they have depth, it is used.
        enhancer: The model.
        settings: One of `ENHANCEMENTS`, or others.
        known: The photograph as it was remembered before, with its settings.
        together: Views at a time.
        stage: Runs the work.
    """
    stage = stage or PlainStages()

    def work(report: Report) -> Views:
        photo = known or remembered(
            subject, enhancer, settings, report=lambda done: report(0.3 * done)
        )
        return enhance_views(
            enhancer.models,
            photo.reference,
            views,
            photo.prompts,
            together=together,
            report=lambda done: report(0.3 + 0.7 * done),
        )

    return stage("enhance", work)
