from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from roundview.field.grid import GridSettings
from roundview.field.sdf import SdfField, SdfSettings, neus_alpha, volsdf_density

TINY = SdfSettings(grid=GridSettings(3, 2, 10, 4, 16), samples=32, cells=8)


def field(settings: SdfSettings = TINY) -> SdfField:
    return SdfField(settings, torch.Generator().manual_seed(0))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def awake(settings: SdfSettings = TINY) -> SdfField:
    """A field whose grid has something to say."""
    made = field(settings)
    with torch.no_grad():
        made.grid.table.copy_(random(*made.grid.table.shape, seed=1) * 0.2 - 0.1)
    return made


@pytest.fixture(scope="module")
def golden(repository: Path) -> dict[str, Tensor]:
    with np.load(repository / "tests" / "golden" / "neus_alpha.npz") as file:
        return {name: torch.from_numpy(file[name]) for name in file.files}


@pytest.mark.parametrize("v", [0.3, 0.5])
@pytest.mark.parametrize("anneal", [0.0, 0.5, 1.0])
def test_alpha_is_that_of_the_original(golden: dict[str, Tensor], v: float, anneal: float) -> None:
    cosine = (golden["normal"] * golden["dirs"]).sum(dim=1)
    inv_s = float(np.exp(10 * v))
    alpha = neus_alpha(golden["sdf"], cosine, golden["dists"], inv_s, anneal=anneal)
    expected = golden[f"alpha_var{v}_anneal{anneal}"]
    torch.testing.assert_close(alpha, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("inv_std", [10.0, 40.0, 200.0])
def test_volsdf_density_is_that_of_the_original(golden: dict[str, Tensor], inv_std: float) -> None:
    density = volsdf_density(golden["sdf"], inv_std)
    # The original subtracts exp(-x) from 1.
    torch.testing.assert_close(density, golden[f"volsdf_inv_std{inv_std}"], rtol=1e-5, atol=1e-5)


def test_surface_crossed_within_a_step_is_opaque() -> None:
    into, out = neus_alpha(torch.zeros(2), torch.tensor([-1.0, 1.0]), 0.1, 1e3)
    assert float(into) > 0.99
    assert float(out) < 1e-4


def test_field_begins_as_a_ball() -> None:
    direction = torch.nn.functional.normalize(random(200, 3) - 0.5, dim=1)
    made = field()
    for radius in (0.2, 0.275, 0.4):
        distance = made.distance(direction * radius)
        # 64 directions round off a ball's surface to a percent of its radius.
        torch.testing.assert_close(
            distance, torch.full((200,), radius - 0.275), rtol=0.0, atol=0.01
        )


def test_slope_is_that_of_finite_differences() -> None:
    made = awake().double()
    points = (random(50, 3) - 0.5).double()
    step = 1e-6
    slope = made.slope(points)
    for axis in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[axis] = step
        rise = (made.distance(points + shift) - made.distance(points - shift)) / (2 * step)
        # Softplus(100) bends within 1e-2: the difference has an error of the second order.
        torch.testing.assert_close(slope[:, axis], rise, rtol=1e-5, atol=1e-5)


def test_loss_on_slopes_teaches_every_part_of_the_network() -> None:
    made = awake()
    made.slope(random(50, 3) - 0.5).square().sum().backward()
    for name in ("grid.table", "first", "last"):
        gradient = made.get_parameter(name).grad
        assert gradient is not None
        assert float(gradient.abs().sum()) > 0


def test_gradient_of_slopes_is_that_of_the_reference_in_double() -> None:
    points = random(40, 3) - 0.5
    gradients = []
    for made, at in ((awake(), points), (awake().double(), points.double())):
        made.slope(at).square().sum().backward()
        gradient = made.grid.table.grad
        assert gradient is not None
        gradients.append(gradient.double())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4)


def test_finite_slopes_agree_with_analytic_ones_on_a_ball() -> None:
    points = torch.nn.functional.normalize(random(20, 3) - 0.5, dim=1) * 0.4
    finite = field(SdfSettings(grid=TINY.grid, normals="finite")).slope(points)
    # Over a cell of 16 a corner of the ball's 64 facets is rounded off.
    torch.testing.assert_close(finite, field().slope(points), rtol=0.0, atol=0.1)


def test_shade_gives_colours_normals_and_slopes() -> None:
    points = random(10, 3) - 0.5
    direction = torch.tensor([0.0, 0.0, -1.0]).expand(10, 3)
    shade = field(SdfSettings(grid=TINY.grid, view_degree=2)).shade(points, direction, normals=True)
    assert shade.normal is not None
    assert shade.slope is not None
    torch.testing.assert_close(shade.normal.norm(dim=1), torch.ones(10))
    assert bool(((shade.rgb > 0) & (shade.rgb < 1)).all())


def test_presence_is_high_at_the_surface_only() -> None:
    made = field(SdfSettings(grid=TINY.grid, cells=32))
    with torch.no_grad():
        made.sharpness.fill_(0.6)
    points = torch.tensor([[0.275, 0.0, 0.0], [0.0, 0.0, 0.0], [0.5, 0.5, 0.5]])
    near, inside, outside = made.presence(points).tolist()
    assert near > 0.4
    assert inside < 1e-3
    assert outside < 1e-3
