import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from fakes import block
from torch import Tensor

from roundview.evaluate.align import ALIGNMENTS, align
from roundview.mesh import Mesh
from roundview.metrics import chamfer

NOTHING = Mesh(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def wedge() -> Mesh:
    """A block that no turn takes to itself."""
    mesh = block()
    v = mesh.vertices.clone()
    v[:, 0] *= 1 - 0.6 * (v[:, 1] > 0).float() * (v[:, 2] > 0).float()
    return replace(mesh, vertices=v + torch.tensor([0.1, 0.0, 0.0]) * (v[:, 1:2] > 0))


def turned(mesh: Mesh, degrees: float, scale: float = 1.0, shift: Tensor | None = None) -> Mesh:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    about_y = torch.tensor([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    moved = scale * mesh.vertices @ about_y.T
    return replace(mesh, vertices=moved if shift is None else moved + shift)


def test_none_changes_nothing() -> None:
    off = turned(wedge(), 30.0)
    done = align(off, wedge(), "none", rng())
    torch.testing.assert_close(done.mesh.vertices, off.vertices)
    assert (done.scale, done.turn_deg) == (1.0, 0.0)


def test_yaw_turns_back_what_was_turned() -> None:
    done = align(turned(wedge(), 130.0), wedge(), "yaw", rng())
    assert done.turn_deg == pytest.approx(130.0, abs=1.5)
    assert chamfer(done.mesh, wedge(), rng(), samples=1000) < 0.006
    assert done.scale == 1.0


def test_yaw_forgives_no_size_and_no_place() -> None:
    small = turned(wedge(), 0.0, 0.5, torch.tensor([0.1, 0.0, 0.0]))
    done = align(small, wedge(), "yaw", rng())
    assert np.all(done.shift == 0)
    assert chamfer(done.mesh, wedge(), rng(), samples=1000) > 0.05


def test_icp_finds_turn_size_and_place() -> None:
    off = turned(wedge(), 100.0, 0.7, torch.tensor([0.2, -0.1, 0.3]))
    done = align(off, wedge(), "icp", rng())
    assert done.scale == pytest.approx(1 / 0.7, rel=0.02)
    assert chamfer(done.mesh, wedge(), rng(), samples=1000) < 0.01


def test_a_mirror_image_is_not_turned_inside_out() -> None:
    mirrored = replace(wedge(), vertices=wedge().vertices * torch.tensor([1.0, 1.0, -1.0]))
    done = align(mirrored, wedge(), "icp", rng())
    assert np.linalg.det(done.rotation) == pytest.approx(1.0)


def test_nothing_is_left_alone() -> None:
    assert len(align(NOTHING, wedge(), "icp", rng()).mesh.vertices) == 0
    assert set(ALIGNMENTS) == {"none", "yaw", "icp"}
