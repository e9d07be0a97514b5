"""OBJ with its MTL and PNG, for programs that read nothing newer.

Wavefront Technologies, "Advanced Visualizer" manual, appendix B1, 1992. The texture's origin is at
the bottom left, so v is turned over. Colours are taken as sRGB, as programs do.
"""

import logging
from pathlib import Path

import numpy as np

from ..mesh import Mesh, vertex_normals
from .atlas import Part, mesh_from_parts
from .files import levels_from_bytes, write_bytes, write_png

_LOG = logging.getLogger(__name__)
_WHITE = np.ones(3)


def save_obj(mesh: Mesh, path: Path | str) -> None:
    """Write NAME.obj, and NAME.mtl and NAME.png where there is a texture; each atomically.

    Raises:
        ValueError: If the mesh has no faces, or its file name has a blank, which MTL cannot name.
    """
    path = Path(path)
    if not len(mesh.faces):
        raise ValueError("a mesh without faces cannot be written as OBJ")
    textured = mesh.texture is not None and mesh.uv is not None
    if textured and " " in path.stem:
        raise ValueError(f"the name {path.name!r} has a blank, which OBJ cannot refer to")
    lines = [f"mtllib {path.stem}.mtl", "usemtl surface"] if textured else []
    vertices = mesh.vertices.detach().cpu().numpy()
    if mesh.vertex_rgb is not None and not textured:
        rgb = mesh.vertex_rgb.detach().clamp(0, 1).cpu().numpy()
        vertices = np.concatenate([vertices, rgb], axis=1)
    lines += _rows("v", vertices)
    lines += _rows("vn", vertex_normals(mesh).detach().cpu().numpy())
    # Nine significant digits bring every float32 back.
    if mesh.uv is not None:
        uv = mesh.uv.detach().cpu().double().numpy()
        lines += _rows("vt", np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1))
    corner = "{0}//{0}" if mesh.uv is None else "{0}/{0}/{0}"
    faces = (mesh.faces + 1).tolist()
    lines += ["f " + " ".join(corner.format(i) for i in face) for face in faces]
    if textured and mesh.texture is not None:
        write_png(path.with_suffix(".png"), mesh.texture.rgb)
        material = ["newmtl surface", "Kd 1 1 1", "Ks 0 0 0", "illum 1", f"map_Kd {path.stem}.png"]
        write_bytes(path.with_suffix(".mtl"), ("\n".join(material) + "\n").encode())
    write_bytes(path, ("\n".join(lines) + "\n").encode())


def load_obj(path: Path | str) -> Mesh:
    """Read an OBJ as one mesh, with the textures and colours of its MTL; polygons become triangles.

    Raises:
        ValueError: If the file is missing or broken, or its texture is.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    scene = _Scene(path.parent)
    number = 0
    try:
        for number, line in enumerate(text.replace("\\\n", " ").splitlines(), 1):  # noqa: B007
            scene.take(line)
    except (ValueError, IndexError) as error:
        raise ValueError(f"cannot read {path}: line {number}: {error}") from error
    try:
        return mesh_from_parts(scene.parts())
    except ValueError as error:
        raise ValueError(f"cannot read {path}: {error}") from error


class _Scene:
    """What the lines read so far amount to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vertices: list[list[float]] = []
        self.uv: list[list[float]] = []
        self.faces: dict[str, list[list[tuple[int, int]]]] = {}
        self.material = ""
        self.colours: dict[str, np.ndarray] = {}
        self.pictures: dict[str, np.ndarray] = {}

    def take(self, line: str) -> None:
        """Read one line; those that say nothing about shape or colour are passed over."""
        match line.split("#", maxsplit=1)[0].split():
            case ["v", *numbers]:
                self.vertices.append(_numbers(numbers, 3))
            case ["vt", *numbers]:
                self.uv.append(_numbers(numbers, 2)[:2])
            case ["f", *corners]:
                self._face(corners)
            case ["usemtl" | "mtllib" as kind, *words]:
                self._material(kind, " ".join(words))

    def parts(self) -> list[Part]:
        """Give one part for each material."""
        # Six numbers are a place and a colour; a fourth alone is a weight that nobody uses.
        coloured = bool(self.vertices) and all(len(vertex) >= 6 for vertex in self.vertices)
        table = np.array([vertex[: 6 if coloured else 3] for vertex in self.vertices])
        uv = np.array(self.uv).reshape(-1, 2) * [1, -1] + [0, 1]
        parts = []
        for material, corners in self.faces.items():
            pairs, faces = np.unique(np.array(corners).reshape(-1, 2), axis=0, return_inverse=True)
            picture = self.pictures.get(material)
            has_uv = bool((pairs[:, 1] >= 0).all())
            rgb = self.colours.get(material, _WHITE)
            if coloured:
                rgb = table[pairs[:, 0], 3:].clip(0, 1)
            parts.append(
                Part(
                    table[pairs[:, 0], :3],
                    faces.reshape(-1, 3),
                    rgb,
                    uv[pairs[:, 1]] if has_uv and picture is not None else None,
                    picture if has_uv else None,
                    repeats=True,
                )
            )
        return parts

    def _material(self, kind: str, name: str) -> None:
        if kind == "usemtl":
            self.material = name
        else:
            self._library(name)

    def _face(self, corners: list[str]) -> None:
        if len(corners) < 3:
            raise ValueError("a face needs three corners")
        first, *rest = [self._corner(corner) for corner in corners]
        fan = [[first, rest[i], rest[i + 1]] for i in range(len(rest) - 1)]
        self.faces.setdefault(self.material, []).extend(fan)

    def _corner(self, corner: str) -> tuple[int, int]:
        """Read V, V/T, V//N or V/T/N as indices from 0; -1 for no texture coordinate."""
        fields = corner.split("/")
        texture = fields[1] if len(fields) > 1 else ""
        return (
            _from_zero(fields[0], len(self.vertices)),
            _from_zero(texture, len(self.uv)) if texture else -1,
        )

    def _library(self, name: str) -> None:
        path = self._inside(name)
        if path is None:
            _LOG.warning("the material file %s is missing: the mesh has no colours", name)
            return
        material = ""
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            match line.split():
                case ["newmtl", *words]:
                    material = " ".join(words)
                case ["Kd", *numbers] if len(numbers) == 3:
                    self.colours[material] = np.array([float(n) for n in numbers]).clip(0, 1)
                case ["map_Kd", *words]:
                    self._picture(material, words)

    def _picture(self, material: str, words: list[str]) -> None:
        # Options such as "-s 1 1 1" come first; the name may hold blanks.
        path = self._inside(" ".join(words)) or self._inside(words[-1])
        if path is None:
            raise ValueError(f"the texture {' '.join(words)} is missing")
        levels = levels_from_bytes(path.read_bytes(), str(path))
        if levels.dtype == np.uint16:
            levels = (levels >> 8).astype(np.uint8)
        rgb = np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels[..., :3]
        self.pictures[material] = rgb

    def _inside(self, name: str) -> Path | None:
        """Give the file of that name in the OBJ's folder or below; None if there is none."""
        path = self.folder / name.replace("\\", "/")
        try:
            inside = path.resolve().is_relative_to(self.folder.resolve())
            return path if inside and path.is_file() else None
        except (OSError, RuntimeError):  # A name too long to exist, a link that leads to itself.
            return None


def _numbers(words: list[str], least: int) -> list[float]:
    if len(words) < least:
        raise ValueError(f"{least} numbers are needed, not {len(words)}")
    return [float(word) for word in words]


def _from_zero(word: str, count: int) -> int:
    """Turn an OBJ index (from 1, or from -1 backwards) into one from 0."""
    index = int(word)
    at = index - 1 if index > 0 else count + index
    if index == 0 or not 0 <= at < count:
        raise ValueError(f"index {index} of {count} does not exist")
    return at


def _rows(kind: str, values: np.ndarray) -> list[str]:
    return [f"{kind} " + " ".join(f"{x:.9g}" for x in row) for row in values.tolist()]
