"""Comparisons of HiFi-123's parts: the same objects both ways, and the truth told apart."""

from dataclasses import replace

import pytest
import torch
from fakes import block
from hifi_tiny import CONTEXT, RGNV, SIDE, TINY, tiny_enhancer
from torch import Generator

from roundview.diffusion.depth2image import Prompts
from roundview.evaluate.hifi import (
    compared,
    enhancement_marks,
    inversion_marks,
    refinement_marks,
)
from roundview.evaluate.protocol import NvsProtocol, Truth, render_truth
from roundview.field.grid import GridSettings
from roundview.field.radiance import RadianceSettings
from roundview.recipes.hifi123_refine import Surface
from roundview.surface.raster import render_mesh

PROTOCOL = NvsProtocol(size_px=SIDE, views=3, supersample=1)


def truth() -> Truth:
    return render_truth(block(), PROTOCOL)


def test_gains_are_of_pairs() -> None:
    found = compared([(10.0, 12.0), (30.0, 33.0), (20.0, 21.0)])
    assert (found.before, found.after, found.gain) == pytest.approx((20.0, 22.0, 2.0))
    assert found.interval is not None
    assert found.interval[0] >= 1
    assert found.interval[1] <= 3
    assert found.objects == 3
    with pytest.raises(ValueError, match="no object"):
        compared([])


def test_views_are_marked_before_and_after() -> None:
    shown = truth()
    spoilt = replace(shown.views, rgb=shown.views.rgb * 0.5 + 0.5)
    before, after = enhancement_marks(shown, spoilt, tiny_enhancer(), RGNV)
    assert 5 < before < 40
    assert after != before


def test_inversion_is_tried_without_depth_and_with_it() -> None:
    views = render_mesh(block(), PROTOCOL.cameras(), supersample=1)
    token = torch.zeros(1, 1, CONTEXT)
    prompts = Prompts(token, token + 1, token)
    plain, told = inversion_marks(views, prompts, tiny_enhancer(), RGNV)
    assert plain > 0
    assert told > 0
    assert plain != told


def test_both_refinements_begin_from_one_surface() -> None:
    mesh = block()
    settings = RadianceSettings(grid=GridSettings(2, 2, 8, 4, 8), hidden=8, samples=32)
    field = settings.build(Generator().manual_seed(0))
    found = refinement_marks(Surface(field, mesh), truth(), tiny_enhancer(), TINY)
    assert len({found.coarse, found.sds, found.rgsd}) == 3
    # The photograph teaches both the colour of the front at least.
    assert found.rgsd == pytest.approx(found.sds, abs=6)
