import math

import torch

from roundview.camera import Cameras
from roundview.gaussians import Gaussians
from roundview.splat.cloud import CENTRE, LOG_SCALE, OPACITY, CloudAdam, pack, unpack
from roundview.splat.densify import Limits
from roundview.splat.relocate import Relocating, grow, relocate, shared_shape, tremble
from roundview.splat.render import render_gaussians


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def cloud(*opacity: float, scale: float = 0.1) -> CloudAdam:
    count = len(opacity)
    centre = torch.zeros(count, 3)
    centre[:, 0] = torch.arange(count)
    gaussians = Gaussians(
        centre,
        torch.full((count, 3), math.log(scale)),
        torch.tensor([1.0, 0, 0, 0]).repeat(count, 1),
        torch.logit(torch.tensor(opacity)),
        torch.zeros(count, 1, 3),
    )
    return CloudAdam(pack(gaussians))


def test_one_copy_is_the_gaussian_itself() -> None:
    opacity, factor = shared_shape(torch.tensor([0.3, 0.9]), torch.tensor([1, 1]))
    torch.testing.assert_close(opacity, torch.tensor([0.3, 0.9]))
    torch.testing.assert_close(factor, torch.ones(2))


def test_copies_let_through_as_much_light_at_the_centre() -> None:
    opacity, _ = shared_shape(torch.tensor([0.6, 0.6]), torch.tensor([2, 5]))
    torch.testing.assert_close((1 - opacity[0]) ** 2, torch.tensor(0.4))
    torch.testing.assert_close((1 - opacity[1]) ** 5, torch.tensor(0.4))


def test_copies_take_as_much_light_in_all() -> None:
    # Along a line, one takes o sqrt(2 pi) s; two of them in one place take the integral of
    # 1 - (1 - o' exp(-x^2 / 2 s'^2))^2 = (2 o' - o'^2 / sqrt(2)) sqrt(2 pi) s'.
    opacity, factor = shared_shape(torch.tensor([0.8]), torch.tensor([2]))
    taken = (2 * opacity - opacity**2 / math.sqrt(2)) * factor
    torch.testing.assert_close(taken, torch.tensor([0.8]))


def test_the_dead_rise_on_top_of_the_living() -> None:
    table = cloud(0.9, 0.001, 0.002)
    relocate(table, 0.005, rng())
    rows = table.rows.detach()
    assert rows[:, CENTRE].tolist() == [[0.0, 0.0, 0.0]] * 3
    # Three of them now let through what one did.
    torch.testing.assert_close((1 - rows[:, OPACITY].sigmoid()).prod(), torch.tensor(0.1))


def test_a_relocation_hardly_changes_the_picture() -> None:
    table = cloud(0.7, 0.001, scale=0.2)
    camera = Cameras.orbit([0.0], elevation_deg=0.0, radius=2.0, fov_deg=50.0, size_hw=(32, 32))
    before = render_gaussians(unpack(table.rows.detach()), camera).rgb
    relocate(table, 0.005, rng())
    after = render_gaussians(unpack(table.rows.detach()), camera).rgb
    assert float((after - before).abs().max()) < 0.02
    # Copies of the old opacity would have darkened the middle by as much again.
    assert float((before - 1).abs().max()) > 0.3


def test_a_dead_cloud_and_a_living_one_are_left_alone() -> None:
    for opacities in ([0.001, 0.001], [0.5, 0.6]):
        table = cloud(*opacities)
        before = table.rows.detach().clone()
        relocate(table, 0.005, rng())
        torch.testing.assert_close(table.rows.detach(), before)


def test_growth_stops_at_the_limit() -> None:
    table = cloud(*[0.5] * 10)
    grow(table, 0.5, 12, rng())
    assert len(table.rows) == 12
    grow(table, 0.5, 12, rng())
    assert len(table.rows) == 12


def test_only_the_faint_tremble_and_within_their_ellipsoid() -> None:
    table = cloud(*[0.9] * 50, *[0.001] * 50)
    with torch.no_grad():
        table.rows[:, LOG_SCALE] = torch.tensor([0.3, 0.1, 1e-4]).log()
    before = table.rows.detach().clone()
    tremble(table, 1.0, 0.005, rng())
    moved = (table.rows.detach() - before)[:, CENTRE]
    assert float(moved[:50].abs().max()) < 1e-6
    spread = moved[50:].std(dim=0)
    # sigmoid(-100 (0.001 - 0.005)) = 0.6, times the variances.
    assert 0.5 < float(spread[0]) / (0.6 * 0.09) < 1.5
    assert float(spread[2]) < 1e-6


def test_a_fit_relocates_when_it_is_time() -> None:
    table = cloud(0.9, 0.001)
    work = Relocating(every=2, until=1.0).over(table, Limits(most=2, extent=1.0, steps=10), rng())
    work.after_step(0, 0.0)
    assert table.rows.detach()[1, 0] == 1.0
    work.after_step(1, 0.0)
    assert table.rows.detach()[1, 0] == 0.0
