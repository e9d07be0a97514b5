"""Cut a surface into charts that lie flat without folding or covering themselves.

Ours, in the spirit of polycube labels: faces choose the axis they look along, with a reward for
agreeing with their neighbours; connected groups merge as long as they see one direction; what
still folds or overlaps in the projection is cut off as a chart of its own.
"""

import heapq

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

_AGREEMENT = 0.6
"""Reward for a label that all neighbours share, against cosines. Chosen by us, on scans."""
_SHALLOW = 0.25
"""Least cosine between a face and its chart's direction when charts merge: 75 degrees."""
_FACING = 0.75
"""Least mean cosine of a merged chart: two sides of a box (0.71) stay apart, curved sides join."""
_FOLDED = 0.08
"""Cosine under which a face leaves its chart: it would be stretched twelvefold."""
_ROUNDS = 12
_ROOMY, _EMPTY, _HALVINGS = 0.08, 0.5, 2
"""A chart is halved, so often at most, if its box is over the first share of the whole area and the
chart itself under the second share of its box. Chosen by us, on scans."""


def cut_into_charts(vertices: Floats, faces: Ints, *, texels_across: float = 700.0) -> Ints:
    """Give each face the number of its chart, 0 and up.

    Every chart is connected, and its projection along its mean normal is one to one.

    Args:
        vertices: Corners, (v, 3).
        faces: Triangles, (f, 3); sides that two faces share join them.
        texels_across: Texels along a length of 1 at which overlaps are looked for.
    """
    doubled = _doubled_normals(vertices, faces)
    area = 0.5 * np.linalg.norm(doubled, axis=1)
    normal = doubled / np.maximum(2 * area, 1e-20)[:, None]
    pairs, length = _neighbours(vertices, faces)
    label = _axis_labels(normal, area, pairs)
    chart = _connected(label, pairs)
    chart = _merged(chart, normal, area, pairs, length)
    chart = _without_sprawl(vertices, faces, chart, area, pairs)
    return _without_overlaps(vertices, faces, chart, normal, area, pairs, texels_across)


def flattened(vertices: Floats, faces: Ints, chart: Ints) -> Floats:
    """Lay every chart flat: plane coordinates of each corner, (f, 3, 2), in world units.

    Seen from outside, charts keep their handedness for (u right, v down). Each chart has its true
    area, its smallest box upright, and its box's corner at (0, 0).
    """
    doubled = _doubled_normals(vertices, faces)
    area = 0.5 * np.linalg.norm(doubled, axis=1)
    count = int(chart.max()) + 1
    direction = _directions(doubled, chart, count)
    right, up = _frames(direction)
    corner = vertices[faces]
    flat = np.stack(
        [(corner * right[chart][:, None]).sum(-1), -(corner * up[chart][:, None]).sum(-1)], axis=-1
    )
    shown = np.bincount(chart, np.abs((doubled * direction[chart]).sum(1)) / 2, count)
    true = np.bincount(chart, area, count)
    flat *= np.sqrt(true / np.maximum(shown, 1e-20))[chart][:, None, None]
    for members in _members(chart, count):
        own = _upright(flat[members])
        flat[members] = own - own.min(axis=(0, 1))
    return flat


def _doubled_normals(vertices: Floats, faces: Ints) -> Floats:
    a, b, c = (vertices[faces[:, k]].astype(np.float64) for k in range(3))
    return np.cross(b - a, c - a)


def _neighbours(vertices: Floats, faces: Ints) -> tuple[Ints, Floats]:
    """List the pairs of faces that share a side, and the sides' lengths."""
    sides = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    low, high = sides.min(axis=1), sides.max(axis=1)
    key = low * (len(vertices) + 1) + high
    order = np.argsort(key, kind="stable")
    twin = np.flatnonzero(key[order][1:] == key[order][:-1])
    first, second = order[twin], order[twin + 1]
    length = np.linalg.norm(vertices[low[first]] - vertices[high[first]], axis=1)
    return np.stack([first % len(faces), second % len(faces)], axis=1), length


def _axis_labels(normal: Floats, area: Floats, pairs: Ints) -> Ints:
    """Choose one of six axes for each face: iterated conditional modes (Besag 1986)."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import

    count = len(normal)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    linked = coo_matrix((np.ones(len(both)), (both[:, 0], both[:, 1])), (count, count)).tocsr()
    smooth = normal * area[:, None]
    for _ in range(3):
        smooth = smooth + linked @ smooth
    smooth /= np.maximum(np.linalg.norm(smooth, axis=1, keepdims=True), 1e-20)
    cosine = np.concatenate([smooth, -smooth], axis=1)
    label = cosine.argmax(axis=1)
    around = np.maximum(np.asarray(linked.sum(axis=1)), 1)
    for _ in range(_ROUNDS):
        votes = linked @ np.eye(6)[label]
        label = (cosine + _AGREEMENT * votes / around).argmax(axis=1)
    return label


def _connected(label: Ints, pairs: Ints) -> Ints:
    """Number the connected groups of faces with the same label, in order of their first face."""
    from scipy.sparse import coo_matrix  # noqa: PLC0415  scipy is slow to import
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    same = pairs[label[pairs[:, 0]] == label[pairs[:, 1]]]
    size = len(label)
    graph = coo_matrix((np.ones(len(same), bool), (same[:, 0], same[:, 1])), (size, size))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def _members(chart: Ints, count: int) -> list[Ints]:
    order = np.argsort(chart, kind="stable")
    return np.split(order, np.searchsorted(chart[order], np.arange(1, count)))


def _directions(doubled: Floats, chart: Ints, count: int) -> Floats:
    total = np.stack([np.bincount(chart, doubled[:, k], count) for k in range(3)], axis=1)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(length > 1e-20, total / np.maximum(length, 1e-20), np.array([0.0, 0.0, 1.0]))


def _merged(chart: Ints, normal: Floats, area: Floats, pairs: Ints, length: Floats) -> Ints:
    """Join neighbouring charts, those with the largest share of common border first."""
    members = dict(enumerate(_members(chart, int(chart.max()) + 1)))
    total = {index: (normal[own] * area[own, None]).sum(axis=0) for index, own in members.items()}
    border = _borders(chart, pairs, length)

    def urgency(p: int, q: int) -> float:
        return -border[p][q] / min(sum(border[p].values()), sum(border[q].values()))

    heap = [(urgency(p, q), p, q) for p in border for q in border[p] if p < q]
    heapq.heapify(heap)
    while heap:
        known, p, q = heapq.heappop(heap)
        # An entry that a merge has made untrue is skipped; the merge has put a new one in.
        if q not in border.get(p, {}) or known != urgency(p, q):
            continue
        direction = total[p] + total[q]
        length_of_sum = max(float(np.linalg.norm(direction)), 1e-20)
        if length_of_sum < _FACING * (area[members[p]].sum() + area[members[q]].sum()):
            continue
        direction /= length_of_sum
        if min((normal[members[k]] @ direction).min() for k in (p, q)) < _SHALLOW:
            continue
        members[p] = np.concatenate([members[p], members.pop(q)])
        total[p] = total[p] + total.pop(q)
        _absorb(border, p, q)
        for other in border[p]:
            heapq.heappush(heap, (urgency(p, other), min(p, other), max(p, other)))
    out = np.empty_like(chart)
    for number, own in enumerate(members.values()):
        out[own] = number
    return out


def _borders(chart: Ints, pairs: Ints, length: Floats) -> dict[int, dict[int, float]]:
    """Measure how long a border each chart has with each other."""
    border: dict[int, dict[int, float]] = {index: {} for index in range(int(chart.max()) + 1)}
    a, b = chart[pairs[:, 0]], chart[pairs[:, 1]]
    apart = a != b
    for first, second, shared in zip(a[apart], b[apart], length[apart], strict=True):
        for p, q in ((int(first), int(second)), (int(second), int(first))):
            border[p][q] = border[p].get(q, 0.0) + float(shared)
    return border


def _absorb(border: dict[int, dict[int, float]], into: int, gone: int) -> None:
    for other, shared in border.pop(gone).items():
        del border[other][gone]
        if other != into:
            border[into][other] = border[other][into] = border[into].get(other, 0.0) + shared


def _without_sprawl(vertices: Floats, faces: Ints, chart: Ints, area: Floats, pairs: Ints) -> Ints:
    """Halve large charts that leave most of their box empty, across its long side.

    Two arms that reach far out of a body cost a texture more room than one more seam is worth.
    """
    for _ in range(_HALVINGS):
        flat = flattened(vertices, faces, chart)
        count = int(chart.max()) + 1
        box = np.zeros((count, 2))
        np.maximum.at(box, chart, flat.max(axis=1))
        room = box.prod(axis=1)
        sprawls = (room > _ROOMY * area.sum()) & (np.bincount(chart, area, count) < _EMPTY * room)
        if not sprawls.any():
            break
        # Charts stand upright, so the long side is the second axis.
        lower = flat[..., 1].mean(axis=1) > 0.5 * box[chart, 1]
        chart = _connected(2 * chart + (lower & sprawls[chart]), pairs)
    return chart


def _without_overlaps(
    vertices: Floats,
    faces: Ints,
    chart: Ints,
    normal: Floats,
    area: Floats,
    pairs: Ints,
    texels_across: float,
) -> Ints:
    """Cut off faces that fold or lie on others in the projection, until none is left."""
    from .charts_numba import overlapping_kernel  # noqa: PLC0415  numba is slow to import

    doubled = normal * area[:, None]
    bad = np.zeros(len(faces), bool)
    for _ in range(_ROUNDS):
        direction = _directions(doubled, chart, int(chart.max()) + 1)
        bad = (normal * direction[chart]).sum(axis=1) < _FOLDED
        bad &= area > 0
        if not bad.any():
            order = np.argsort(chart, kind="stable")
            flat = flattened(vertices, faces, chart)[order] * texels_across
            bad[order] = overlapping_kernel(flat.astype(np.float32), chart[order])
        if not bad.any():
            return chart
        chart = _connected(2 * chart + bad, pairs)
    # What still misbehaves goes one by one: a single triangle cannot overlap itself.
    chart = np.where(bad, chart.max() + 1 + np.arange(len(chart)), chart)
    return _connected(chart, pairs)


def _frames(direction: Floats) -> tuple[Floats, Floats]:
    """Give two unit vectors that span the plane across each direction, right-handed with it."""
    helper = np.where(np.abs(direction[:, 1:2]) < 0.9, [0.0, 1.0, 0.0], [0.0, 0.0, -1.0])
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    return right, np.cross(direction, right)


def _upright(flat: Floats) -> Floats:
    """Turn a chart so that its box is smallest and stands on a short side."""
    from scipy.spatial import ConvexHull, QhullError  # noqa: PLC0415  scipy is slow to import

    points = flat.reshape(-1, 2)
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:  # All corners on one line: any turn will do.
        hull = points
    side = np.roll(hull, -1, axis=0) - hull
    angle = np.unique(np.round(np.arctan2(side[:, 1], side[:, 0]) % (np.pi / 2), 6))
    turned = np.einsum("aij,pj->api", _rotations(-angle), hull)
    extent = np.ptp(turned, axis=1)
    best = int((extent[:, 0] * extent[:, 1]).argmin())
    quarter = np.pi / 2 if extent[best, 0] > extent[best, 1] else 0.0
    return flat @ _rotations(np.array([quarter - angle[best]]))[0].T


def _rotations(angle: Floats) -> Floats:
    c, s = np.cos(angle), np.sin(angle)
    return np.stack([np.stack([c, -s], axis=-1), np.stack([s, c], axis=-1)], axis=-2)
