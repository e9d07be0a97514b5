"""3MF for printing in colour: a closed mesh in millimetres, +Z up, its texture beside it.

3MF Consortium, "3MF Core Specification", version 1.3, 2021, and "3MF Materials and Properties
Extension", version 1.2.1, 2019. The package is a zip: the model in XML, the texture as PNG. Corners
at one place are one vertex there, and texture coordinates belong to the corners of triangles, so a
seam of ours is no crack to a slicer. Their v grows upwards, ours down.
"""

import io
import logging
import zipfile
from pathlib import Path

import numpy as np
from torch import Tensor

from .. import __version__
from ..mesh import Mesh, join_vertices, mesh_health
from .files import png_bytes, quantised, write_bytes
from .stl import printable

_LOG = logging.getLogger(__name__)
_CORE = "http://schemas.microsoft.com/3dmanufacturing/core/2015/02"
_MATERIAL = "http://schemas.microsoft.com/3dmanufacturing/material/2015/02"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_MODEL_TYPE = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
_TEXTURE_TYPE = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dtexture"
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_TEXTURE = "/3D/Textures/texture.png"
_OBJECT, _COLOURS, _PICTURE = 1, 2, 3  # ids of the resources
_FIRST_DAY = (1980, 1, 1, 0, 0, 0)  # as early as zip can say: the same mesh gives the same bytes

_TYPES = f"""{_XML}<Types xmlns="{_PACKAGE}/content-types">
<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>
<Default Extension="model" ContentType="application/vnd.ms-package.3dmanufacturing-3dmodel+xml"/>
<Default Extension="png" ContentType="image/png"/>
</Types>
"""


def save_3mf(mesh: Mesh, path: Path | str, *, height_mm: float = 80.0) -> None:
    """Write a mesh as 3MF with its texture or vertex colours, atomically.

    Args:
        mesh: At least one face with some area. One that is not closed is written with a warning:
            slicers repair it, or refuse.
        path: Where to.
        height_mm: From the plate to the top (our y). Printing has no other size to go by.

    Raises:
        ValueError: If the mesh is empty, flat or not finite, or height_mm is not positive.
    """
    health = mesh_health(mesh)
    if not health.watertight:
        _LOG.warning(
            "the mesh is not closed (%d open edges, %d shared by too many faces): repair it before "
            "printing",
            health.boundary_edges,
            health.non_manifold_edges,
        )
    parts = {
        "[Content_Types].xml": _TYPES.encode(),
        "_rels/.rels": _relations(_MODEL_TYPE, "/3D/3dmodel.model"),
        "3D/3dmodel.model": _model(mesh, printable(mesh, height_mm)),
    }
    if mesh.texture is not None and mesh.uv is not None:
        parts["3D/_rels/3dmodel.model.rels"] = _relations(_TEXTURE_TYPE, _TEXTURE)
        parts[_TEXTURE[1:]] = png_bytes(mesh.texture.rgb)
    write_bytes(path, _zipped(parts))


def _model(mesh: Mesh, vertices: Tensor) -> bytes:
    """Give the model part: vertices (v, 3) in millimetres, joined where they are one."""
    joined = join_vertices(vertices).numpy()
    places = np.zeros((int(joined.max()) + 1, 3), np.float32)
    places[joined] = vertices.numpy()
    faces = mesh.faces.cpu().numpy()
    corner = joined[faces]
    # The specification (4.1.4) wants three different corners.
    whole = (
        (corner[:, 0] != corner[:, 1])
        & (corner[:, 1] != corner[:, 2])
        & (corner[:, 2] != corner[:, 0])
    )
    faces, corner = faces[whole], corner[whole]
    resources, colour = _resources(mesh)
    lines = ["<vertices>"]
    lines += [f'<vertex x="{x:.9g}" y="{y:.9g}" z="{z:.9g}"/>' for x, y, z in places.tolist()]
    lines += ["</vertices>", "<triangles>"]
    if colour:
        lines += [
            f'<triangle v1="{a}" v2="{b}" v3="{c}" p1="{p}" p2="{q}" p3="{r}"/>'
            for (a, b, c), (p, q, r) in zip(corner.tolist(), faces.tolist(), strict=True)
        ]
    else:
        lines += [f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in corner.tolist()]
    lines.append("</triangles>")
    first = f' pid="{_COLOURS}" pindex="0"' if colour else ""
    head = [
        f'<model unit="millimeter" xml:lang="en-US" xmlns="{_CORE}" xmlns:m="{_MATERIAL}">',
        f'<metadata name="Application">roundview {__version__}</metadata>',
        "<resources>",
        *resources,
        f'<object id="{_OBJECT}" type="model"{first}>',
        "<mesh>",
    ]
    tail = ["</mesh>", "</object>", "</resources>"]
    tail += ["<build>", f'<item objectid="{_OBJECT}"/>', "</build>", "</model>"]
    return (_XML + "\n".join([*head, *lines, *tail]) + "\n").encode()


def _resources(mesh: Mesh) -> tuple[list[str], bool]:
    """Give the colours, one for each of our vertices, and whether there are any."""
    if mesh.texture is not None and mesh.uv is not None:
        uv = mesh.uv.detach().cpu().double().numpy()
        coordinates = [f'<m:tex2coord u="{u:.9g}" v="{1 - v:.9g}"/>' for u, v in uv.tolist()]
        picture = (
            f'<m:texture2d id="{_PICTURE}" path="{_TEXTURE}" contenttype="image/png" '
            'tilestyleu="clamp" tilestylev="clamp"/>'
        )
        group = f'<m:texture2dgroup id="{_COLOURS}" texid="{_PICTURE}">'
        return [picture, group, *coordinates, "</m:texture2dgroup>"], True
    if mesh.vertex_rgb is not None:
        levels = quantised(mesh.vertex_rgb, bits=8).tolist()
        colours = [f'<m:color color="#{r:02X}{g:02X}{b:02X}"/>' for r, g, b in levels]
        return [f'<m:colorgroup id="{_COLOURS}">', *colours, "</m:colorgroup>"], True
    return [], False


def _relations(kind: str, target: str) -> bytes:
    return (
        f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">\n'
        f'<Relationship Id="rel0" Type="{kind}" Target="{target}"/>\n</Relationships>\n'
    ).encode()


def _zipped(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as package:
        for name, data in parts.items():
            entry = zipfile.ZipInfo(name, _FIRST_DAY)
            # A PNG does not get smaller.
            stored = name.endswith(".png")
            entry.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
            package.writestr(entry, data)
    return out.getvalue()
