import numpy as np
import torch
from torch import Generator

from roundview.data.solids import CELLS, COLOUR_CELLS, solid_of
from roundview.mesh import Mesh

CORNERS = torch.tensor([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
SIDES = {
    "left": (0, 1, 3, 2),
    "right": (4, 6, 7, 5),
    "below": (0, 4, 5, 1),
    "above": (2, 3, 7, 6),
    "back": (0, 2, 6, 4),
    "front": (1, 5, 7, 3),
}


def box(*missing: str, scale: tuple[float, float, float] = (0.8, 0.8, 0.8)) -> Mesh:
    """A box whose vertex colours are its corners, without some of its sides."""
    quads = [side for name, side in SIDES.items() if name not in missing]
    faces = [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))]
    colour = CORNERS + 0.5
    return Mesh(CORNERS * torch.tensor(scale), torch.tensor(faces), vertex_rgb=colour)


def filled(mesh: Mesh) -> np.ndarray:
    return solid_of(mesh, Generator().manual_seed(0)).fill


def test_a_closed_box_is_solid_and_its_surface_is_half() -> None:
    fill = filled(box())
    middle = CELLS // 2
    assert fill[middle, middle, middle] == 2
    assert fill[1, middle, middle] == 0
    surface = round(0.1 * CELLS)
    assert set(np.unique(fill[surface - 1 : surface + 1, middle, middle])) <= {0, 1, 2}
    volume = (fill / 2).sum() / CELLS**3
    assert abs(volume - 0.8**3) < 0.03


def test_what_is_open_from_below_only_is_solid() -> None:
    middle = CELLS // 2
    assert filled(box("below"))[middle, middle, middle] == 2


def test_what_is_open_from_above_stays_hollow() -> None:
    fill = filled(box("above"))
    middle = CELLS // 2
    assert fill[middle, middle, middle] == 0
    wall = fill[: CELLS // 4, middle, middle]
    assert wall.max() == 2  # A sheet is as solid as it gets.


def test_colours_are_those_of_the_nearest_surface() -> None:
    solid = solid_of(box(), Generator().manual_seed(0))
    edge, middle = round(0.1 * COLOUR_CELLS), COLOUR_CELLS // 2
    right = solid.rgb[-1, middle, middle].astype(float) / 255
    np.testing.assert_allclose(right, [1.0, 0.5, 0.5], atol=0.05)
    corner = solid.rgb[edge, edge, -edge - 1].astype(float) / 255
    np.testing.assert_allclose(corner, [0.0, 0.0, 1.0], atol=0.08)


def test_the_same_object_gives_the_same_solid() -> None:
    first, again = (solid_of(box(), Generator().manual_seed(3)) for _ in range(2))
    assert (first.fill == again.fill).all()
    assert (first.rgb == again.rgb).all()
