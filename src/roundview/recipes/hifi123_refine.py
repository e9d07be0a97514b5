"""HiFi-123's refine stage: the colours of a fixed surface follow RGSD, and the photograph.

Yu et al., "HiFi-123: Towards High-fidelity One Image to 3D Content Generation", 2024, section 3.3
and supplement 2.2. The surface is cut out of the coarse field by marching tetrahedra and stays as
it is; its colours are the field's, whose grid and network are trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor

from ..camera import Cameras, project
from ..diffusion.depth2image import Prompts, Reference
from ..diffusion.distill_cameras import RandomCameras, Range
from ..diffusion.guide import picture_gradient
from ..diffusion.guide_loop import DistillSettings, Group, Guide, Rendered, distill
from ..diffusion.guide_rgsd import Enhanced, draw_level, enhanced_state, fixed_view, rgsd_loss
from ..diffusion.rgnv_views import EnhancingModels, inverse_depth, prepared
from ..field.fit import solid_grid
from ..field.radiance import RadianceField
from ..field.tets import marching_tets, tet_grid
from ..mesh import Mesh
from ..models import Kept, Report, StageRunner
from ..surface.antialias import antialiased, edges_of, find_crossings
from ..surface.antialias_render import Shown, interpolated
from ..surface.clean import Cleaning, clean_mesh
from ..surface.raster import finer, nearest_faces, pooled
from ..views import Views


@dataclass(frozen=True)
class Refining:
    """Settings of the stage; steps count from 0.

    Attributes:
        steps: Of Adam (the paper's 1,000).
        size_px: Side of the renderings (the paper's 1,024); models see them at their own size.
        supersample: Samples along a pixel's side.
        guide_weight: Of the guide's loss, a mean over latents. The paper does not state it.
        photo_weight: Of the mean squared difference of colour on the photograph's side; theirs is
            not stated, 1,000 is threestudio's for the same loss.
        grid_rate: Adam's rate for the table of the grid (threestudio's, as the next).
        network_rate: For the network.
        elevation_deg: Range of the random views' elevations (paper).
        distance: Of the cameras; the paper's is 3.8 at 20 degrees.
        fov_deg: Vertical.
        keep_every: Steps between two states to go on from.
        show_every: Steps between two pictures of the work in progress.
    """

    steps: int = 400
    size_px: int = 128
    supersample: int = 2
    guide_weight: float = 100.0
    photo_weight: float = 1000.0
    grid_rate: float = 0.01
    network_rate: float = 0.001
    elevation_deg: tuple[float, float] = (-10.0, 60.0)
    distance: float = 1.5
    fov_deg: float = 49.13
    keep_every: int = 25
    show_every: int = 20

    def cameras(self) -> RandomCameras:
        """Say where random views are seen from."""
        return RandomCameras(
            self.size_px,
            elevation_deg=Range(*self.elevation_deg),
            distance=Range(self.distance, self.distance),
            fov_deg=Range(self.fov_deg, self.fov_deg),
        )


class Surface:
    """A fixed mesh in a field's colours.

    Attributes:
        field: Its colours are the surface's.
        mesh: World frame.
    """

    def __init__(self, field: RadianceField, mesh: Mesh) -> None:
        self.field, self.mesh = field, mesh
        self._edges = edges_of(mesh)

    def views(self, cameras: Cameras, *, supersample: int = 2) -> Views:
        """Draw it over white, with depth; differentiable in the field's colours.

        As `render_mesh_antialiased`, the colour of each sample being asked of the field.
        """
        mesh, fine = self.mesh, finer(cameras, supersample)
        face_at, depth = nearest_faces(mesh, fine)
        pixel, away = project(mesh.vertices, fine)
        shown = Shown(face_at, mesh.faces, pixel, away)
        place = interpolated(mesh.vertices.expand(len(fine), -1, -1), shown)
        covered = face_at >= 0
        points = place[covered]
        rgb = torch.zeros_like(place)
        ahead = torch.zeros_like(points)  # Colours are the same from all sides.
        rgb[covered] = self.field.shade(points, ahead, normals=False).rgb
        solid = covered.to(rgb)[..., None]
        far = torch.where(covered, depth, 0.0)[..., None]
        crossings = find_crossings(face_at, depth, pixel, away, self._edges)
        whole = antialiased(torch.cat([rgb, solid], dim=-1), pixel, crossings)
        picture = pooled(torch.cat([whole, far, solid], dim=-1), supersample)
        alpha = picture[..., 3]
        share = picture[..., 5].detach()
        mean = picture[..., 4].detach() / share.clamp(min=1e-6)
        rgb = picture[..., :3] + 1 - alpha[..., None]
        return Views(rgb, alpha.detach(), cameras, mean * (share > 0))


def tetrahedral_surface(
    field: RadianceField, *, resolution: int, faces: int, smoothing: int, blur: float = 0.0
) -> Mesh:
    """Cut the surface out of a field by DMTet's marching tetrahedra, and clean it.

    Args:
        field: The coarse one.
        resolution: Cells along a side of the grid (128 in threestudio).
        faces: Triangles.
        smoothing: Rounds of `smooth`.
        blur: See `solid_grid`.

    Raises:
        ValueError: If nothing in the field is solid.
    """
    grid = tet_grid(resolution, half_width=field.half_width)
    sdf = -solid_grid(field, resolution=resolution + 1, blur=blur)
    if not bool((sdf < 0).any()):
        raise ValueError(f"nothing to mesh: the field nowhere reaches the level {field.level:.3g}")
    rim = torch.ones_like(sdf, dtype=torch.bool)
    rim[1:-1, 1:-1, 1:-1] = False
    closed = torch.where(rim, sdf.clamp(min=grid.step), sdf)
    vertices, triangles = marching_tets(closed.flatten(), grid.positions, grid.tets)
    plain = Mesh(vertices.float().contiguous(), triangles.contiguous())
    return clean_mesh(plain, Cleaning(faces=faces, exact=True, smoothing=smoothing))


@dataclass(frozen=True, eq=False)
class Shot:
    """What the guide must know of a rendering.

    Attributes:
        views: The rendering itself.
        fixed: Which of the fixed views it is; None for a random one.
    """

    views: Views
    fixed: int | None


class RgsdGuide:
    """Draws renderings towards what they become when enhanced (see `guide_rgsd`).

    Args:
        models: The image model.
        reference: Of the photograph, with the steps and the kept steps of RGSD.
        prompts: What the model is told.
        targets: Enhanced latents of the fixed views, kept from the start of the stage.
        weight: Of the loss.
    """

    def __init__(
        self,
        models: EnhancingModels,
        reference: Reference,
        prompts: Prompts,
        targets: Sequence[Float[Tensor, "1 c y x"]],
        *,
        weight: float,
    ) -> None:
        self.models, self.reference, self.prompts = models, reference, prompts
        self.targets, self.weight = targets, weight

    def __call__(self, rendered: Rendered, step: int, rng: Generator) -> Tensor:
        """Give the gradient at a rendering (1 4 h w)."""
        del step
        shot = rendered.about
        assert isinstance(shot, Shot)
        level = 0 if shot.fixed is not None else draw_level(self.reference.settings, rng)

        def encode(rgba: Tensor) -> Tensor:
            return latents_of(self.models, rgba, shot.views)[0]

        def gradient(clean: Tensor) -> Tensor:
            if shot.fixed is not None:
                kept = self.targets[shot.fixed].to(clean)
                towards = Enhanced(kept, torch.zeros_like(kept), 1.0)
            else:
                towards = enhanced_of(
                    self.models, self.reference, self.prompts, shot.views, level=level
                )
            leaf = clean.detach().requires_grad_()
            with torch.enable_grad():
                loss = rgsd_loss(leaf, towards)
            return torch.autograd.grad(loss, leaf)[0]

        return self.weight * picture_gradient(rendered.picture, encode, gradient)


def latents_of(
    models: EnhancingModels, rgba: Float[Tensor, "n 4 h w"], views: Views
) -> tuple[Float[Tensor, "n c y x"], Float[Tensor, "n 1 y x"]]:
    """Encode renderings at the model's size, and give their depth map of the latents' size."""
    side = models.size_px
    if rgba.shape[-2:] != (side, side):
        rgba = torch.nn.functional.interpolate(rgba, (side, side), mode="bilinear", antialias=True)
    rgb, alpha = rearrange(rgba, "n c h w -> n h w c").split([3, 1], dim=-1)
    return prepared(models, rgb, alpha[..., 0], known=inverse_depth(views, (side, side)))


@torch.no_grad()
def enhanced_of(
    models: EnhancingModels, reference: Reference, prompts: Prompts, views: Views, *, level: int
) -> Enhanced:
    """Enhance renderings down to a noise level (0: clean), from their own depth."""
    clean, depth = latents_of(models, rgba_of(views), views)
    return enhanced_state(models.denoiser, reference, clean, depth, prompts, level=level)


def rgba_of(views: Views) -> Float[Tensor, "n 4 h w"]:
    """Give views as models take them: channel-first, alpha last."""
    return rearrange(torch.cat([views.rgb, views.alpha[..., None]], dim=-1), "n h w c -> n c h w")


def fixed_cameras(
    azimuth_deg: Sequence[float], settings: Refining, elevation_deg: float
) -> Cameras:
    """Place the cameras of the fixed views, at the photograph's elevation."""
    return Cameras.orbit(
        list(azimuth_deg),
        elevation_deg=elevation_deg,
        radius=settings.distance,
        fov_deg=settings.fov_deg,
        size_hw=(settings.size_px, settings.size_px),
    )


def refine_colours(
    surface: Surface,
    photo: Views,
    guide: Guide,
    fixed: Cameras,
    rng: Generator,
    settings: Refining,
    *,
    stage: StageRunner,
    name: str = "refine",
) -> RadianceField:
    """Train the field's colours on the surface; its shape is never asked for again.

    Every other step is at one of the fixed views, the others at a random one.

    Args:
        surface: In the coarse field's colours, which it keeps: a copy is trained.
        photo: The photograph as one view over white.
        guide: `RgsdGuide`, or any other of `guide_loop`; it is shown one rendering, and a `Shot`.
        fixed: Cameras of the fixed views; may be none.
        rng: Draws cameras and what the guide needs.
        settings: Steps, rates and weights.
        stage: Runs the work as one stage that can go on from its middle, and shows pictures.
        name: Of the stage.

    Returns:
        The field whose colours the surface has now.
    """

    def work(report: Report, kept: Kept) -> dict[str, Tensor]:
        field = surface.field.settings.build(Generator())
        field.load_state_dict(surface.field.state_dict())
        field.requires_grad_(requires_grad=True)
        run = _Run(Surface(field, surface.mesh), photo, fixed, settings, stage)
        groups = [
            Group("grid", [field.grid.table], lambda _: settings.grid_rate),
            Group("network", [field.first, field.last], lambda _: settings.network_rate),
        ]
        loop = DistillSettings(settings.steps, keep_every=settings.keep_every)
        distill(
            groups, run.render, guide, rng, loop, start=kept.found, keep=kept.keep, report=report
        )
        return {key: value.detach().cpu() for key, value in field.state_dict().items()}

    tensors = stage.long(name, work)
    field = surface.field.settings.build(Generator())
    field.load_state_dict(tensors)
    return field.requires_grad_(requires_grad=False)


class _Run:
    """A surface on its way: what each step draws."""

    def __init__(
        self,
        surface: Surface,
        photo: Views,
        fixed: Cameras,
        settings: Refining,
        stage: StageRunner,
    ) -> None:
        side = settings.size_px
        self.surface, self.fixed, self.settings, self.stage = surface, fixed, settings, stage
        self.photo = photo.resized((side, side))
        self.photo_deg = float(photo.cameras.elevation_deg[0])

    def render(self, step: int, rng: Generator) -> Rendered:
        """Draw the view of a step, and compare the photograph's side with the photograph."""
        settings = self.settings
        if step % settings.show_every == 0:
            self._show()
        at = fixed_view(step, len(self.fixed))
        if at is None:
            cameras = settings.cameras().draw(1, rng, step=step, photo_elevation_deg=self.photo_deg)
        else:
            cameras = self.fixed[at]
        views = self.surface.views(cameras, supersample=settings.supersample)
        front = self.surface.views(self.photo.cameras, supersample=settings.supersample)
        # Where only one of the two shows the subject, colours cannot make up for it.
        both = ((front.alpha > 0.99) & (self.photo.alpha > 0.99))[..., None]
        apart = ((front.rgb - self.photo.rgb).square() * both).mean()
        return Rendered(rgba_of(views), settings.photo_weight * apart, Shot(_held(views), at))

    def _show(self) -> None:
        cameras = fixed_cameras([0.0, 90.0, 180.0, 270.0], self.settings, self.photo_deg)
        with torch.no_grad():
            views = self.surface.views(cameras, supersample=1)
        self.stage.show(rearrange(views.rgb, "n h w c -> h (n w) c"))


def _held(views: Views) -> Views:
    return Views(views.rgb.detach(), views.alpha, views.cameras, views.depth)
