"""CPU kernel of `decimate`: collapse edges in the order of their quadric error.

The faces of a vertex are a linked list of corners; corner 3 f + k is corner k of face f.
"""

# numba infers the types of kernels.
# pyright: reportMissingParameterType=false

import heapq
import math

import numpy as np
from numpy.typing import NDArray

from ..kernels import njit

_SPREAD = 1e-6
"""Weight of the squared distance between old and new vertices, where planes have 1.

Chosen by us: from 1e-4 to 1e-8 a bumpy ball of 53,000 faces keeps its shape alike at 20,000 and
2,000; at 300 less is better, and without any the best place on a flat part is not unique.
"""
_RIM = 10.0
"""Weight of the planes that hold open rims in place, where faces have 1. Chosen by us."""
_MOST_FACES = 4096
"""Faces round one vertex; a collapse that would join more waits for ever."""
_PATIENCE = 16.0
"""Factor on the error after which a collapse that did not fit is tried again."""
_SMALLEST = 1e-14
"""Error under which all are equal: that of a millionth of the size on a hundredth of the area."""
_PASSES = (0.3, 0.0, -0.9)
"""Least cosine between a face before and after a collapse. The later ones serve tiny budgets."""
_THIN = 0.02
"""Doubled area over squared longest side, under which no collapse may bring a face."""


def collapse(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], target: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Collapse edges until at most `target` faces are left, if that can be.

    Args:
        vertices: Places, (v, 3), about 1 across.
        faces: Manifold triangles, (f, 3).
        target: Faces to stop at. From an open mesh an odd number is met by collapsing a rim.

    Returns:
        Places, of which not all are used any more, and the faces that are left.
    """
    vertices, faces = vertices.copy(), faces.copy()  # The kernel changes both.
    for least_cosine in _PASSES:
        # One pass may leave edges over whose turn came too early; the next tries them again.
        left = len(faces) + 1
        while target < len(faces) < left:
            left = len(faces)
            faces = faces[_collapse(vertices, faces, target, least_cosine, False)]
    # Two faces where one would do, only at the very end.
    if len(faces) > target:
        faces = faces[_collapse(vertices, faces, target, _PASSES[-1], True)]
    return vertices, faces


@njit
def _collapse(vertices, faces, target, least_cosine, pairs):  # noqa: ANN001, ANN202
    """Go through the edges once, cheapest first; say which faces are left."""
    alive = np.ones(len(faces), np.bool_)
    first, following = _corner_lists(len(vertices), faces)
    quadric, rim = _quadrics(vertices, faces, first, following)
    stamp = np.zeros(len(vertices), np.int64)
    mark = np.full(len(vertices), -1, np.int64)
    star = np.empty(2 * _MOST_FACES, np.int64)
    queue = _queue(vertices, faces, quadric, first, following)
    left = len(faces)
    turn = 0
    while left > target and len(queue) > 0:
        key, a, b, stamp_a, stamp_b = heapq.heappop(queue)
        if stamp[a] != stamp_a or stamp[b] != stamp_b:
            continue
        turn += 1
        count, shared = _joint_star(a, b, faces, alive, first, following, mark, turn, rim, star)
        place, cost = (0.0, 0.0, 0.0), math.inf
        if shared > 0 and (left - shared >= target or pairs):
            place, cost = _fitting_place(a, b, star[:count], vertices, faces, quadric, least_cosine)
        later = max(key, queue[0][0]) if len(queue) > 0 else math.inf
        if cost == math.inf or cost > later:
            # What does not fit now, or only at a place that is worse, waits for its turn.
            renewed = min(cost, _PATIENCE * max(key, _SMALLEST))
            if renewed < 1:
                heapq.heappush(queue, (renewed, a, b, stamp_a, stamp_b))
            continue
        vertices[a] = place
        quadric[a] += quadric[b]
        rim[a] = rim[a] or rim[b]
        stamp[a] += 1
        stamp[b] += 1
        left -= shared
        _join(a, b, star[:count], faces, alive, first, following)
        _renew(a, star[:count], vertices, faces, alive, quadric, rim, stamp, queue)
    return alive


@njit
def _queue(vertices, faces, quadric, first, following):  # noqa: ANN001, ANN202
    """List all edges as cost, two vertices, and how often each of them had moved."""
    queue = [(0.0, 0, 0, 0, 0)]
    queue.pop()
    for face in range(len(faces)):
        for k in range(3):
            a, b = faces[face, k], faces[face, (k + 1) % 3]
            # Each edge once; a rim runs one way only.
            if a < b or not _has_side(b, a, faces, first, following):
                queue.append((_cost(a, b, vertices, quadric), a, b, 0, 0))
    heapq.heapify(queue)
    return queue


@njit
def _renew(a, star, vertices, faces, alive, quadric, rim, stamp, queue):  # noqa: ANN001, ANN202, PLR0913
    """Queue the edges of a vertex that has moved."""
    for face in star:
        if not alive[face]:
            continue
        for j in range(3):
            c = faces[face, j]
            # The vertex after `a` in each face; at a rim also the one before the first.
            if c != a and (faces[face, (j + 2) % 3] == a or rim[a]):
                cost = _cost(a, c, vertices, quadric)
                heapq.heappush(queue, (cost, a, c, stamp[a], stamp[c]))


@njit
def _corner_lists(vertex_count, faces):  # noqa: ANN001, ANN202
    first = np.full(vertex_count, -1, np.int64)
    following = np.full(3 * len(faces), -1, np.int64)
    for face in range(len(faces) - 1, -1, -1):
        for k in range(3):
            following[3 * face + k] = first[faces[face, k]]
            first[faces[face, k]] = 3 * face + k
    return first, following


@njit
def _has_side(a, b, faces, first, following):  # noqa: ANN001, ANN202
    corner = first[a]
    while corner >= 0:
        if faces[corner // 3, (corner + 1 - 3 * (corner // 3)) % 3] == b:
            return True
        corner = following[corner]
    return False


@njit
def _quadrics(vertices, faces, first, following):  # noqa: ANN001, ANN202
    """Sum the planes round each vertex: xx xy xz yy yz zz, x y z, 1; and find rims."""
    quadric = np.zeros((len(vertices), 10))
    rim = np.zeros(len(vertices), np.bool_)
    plane = np.empty(4)
    for face in range(len(faces)):
        a, b, c = faces[face]
        normal = np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
        length = math.sqrt(np.sum(normal * normal))
        if length == 0:
            continue
        plane[:3] = normal / length
        plane[3] = -np.sum(plane[:3] * vertices[a])
        for k in range(3):
            v, w = faces[face, k], faces[face, (k + 1) % 3]
            _add_plane(quadric[v], plane, 0.5 * length)
            _add_point(quadric[v], vertices[v], _SPREAD * 0.5 * length)
            if not _has_side(w, v, faces, first, following):
                rim[v] = True
                rim[w] = True
                along = vertices[w] - vertices[v]
                upright = np.cross(along, normal)
                size = math.sqrt(np.sum(upright * upright))
                if size > 0:
                    wall = np.empty(4)
                    wall[:3] = upright / size
                    wall[3] = -np.sum(wall[:3] * vertices[v])
                    weight = _RIM * np.sum(along * along)
                    _add_plane(quadric[v], wall, weight)
                    _add_plane(quadric[w], wall, weight)
    return quadric, rim


@njit
def _add_plane(quadric, plane, weight):  # noqa: ANN001, ANN202
    at = 0
    for i in range(3):
        for j in range(i, 3):
            quadric[at] += weight * plane[i] * plane[j]
            at += 1
    for i in range(3):
        quadric[6 + i] += weight * plane[i] * plane[3]
    quadric[9] += weight * plane[3] * plane[3]


@njit
def _add_point(quadric, point, weight):  # noqa: ANN001, ANN202
    quadric[0] += weight
    quadric[3] += weight
    quadric[5] += weight
    for i in range(3):
        quadric[6 + i] -= weight * point[i]
        quadric[9] += weight * point[i] * point[i]


@njit
def _best_place(a, b, vertices, quadric):  # noqa: ANN001, ANN202
    """Solve for the place with the least error; the middle where that lies far off the edge."""
    q = quadric[a] + quadric[b]
    middle_x = 0.5 * (vertices[a, 0] + vertices[b, 0])
    middle_y = 0.5 * (vertices[a, 1] + vertices[b, 1])
    middle_z = 0.5 * (vertices[a, 2] + vertices[b, 2])
    xx = q[3] * q[5] - q[4] * q[4]
    xy = q[2] * q[4] - q[1] * q[5]
    xz = q[1] * q[4] - q[2] * q[3]
    yy = q[0] * q[5] - q[2] * q[2]
    yz = q[1] * q[2] - q[0] * q[4]
    zz = q[0] * q[3] - q[1] * q[1]
    determinant = q[0] * xx + q[1] * xy + q[2] * xz
    trace = q[0] + q[3] + q[5]
    if determinant > 1e-18 * trace * trace * trace:
        x = -(xx * q[6] + xy * q[7] + xz * q[8]) / determinant
        y = -(xy * q[6] + yy * q[7] + yz * q[8]) / determinant
        z = -(xz * q[6] + yz * q[7] + zz * q[8]) / determinant
        square = 0.0
        for axis in range(3):
            square += (vertices[a, axis] - vertices[b, axis]) ** 2
        if (x - middle_x) ** 2 + (y - middle_y) ** 2 + (z - middle_z) ** 2 <= square:
            return x, y, z
    return middle_x, middle_y, middle_z


@njit
def _cost(a, b, vertices, quadric):  # noqa: ANN001, ANN202
    return _error(_best_place(a, b, vertices, quadric), a, b, quadric)


@njit
def _error(place, a, b, quadric):  # noqa: ANN001, ANN202
    x, y, z = place
    q = quadric[a] + quadric[b]
    error = (
        q[0] * x * x
        + q[3] * y * y
        + q[5] * z * z
        + 2 * (q[1] * x * y + q[2] * x * z + q[4] * y * z)
        + 2 * (q[6] * x + q[7] * y + q[8] * z)
        + q[9]
    )
    return max(error, 0.0)


@njit
def _joint_star(a, b, faces, alive, first, following, mark, turn, rim, star):  # noqa: ANN001, ANN202, PLR0913
    """Collect the faces of two vertices; those of both are among the first's.

    Returns:
        The number of faces, and how many go when the two become one: 0 if they must not.
    """
    of_a = _collect(a, alive, first, following, star)
    shared = 0
    for k in range(of_a):
        for j in range(3):
            mark[faces[star[k], j]] = 2 * turn
            shared += faces[star[k], j] == b
    count = of_a + _collect(b, alive, first, following, star[of_a:])
    # The neighbours of both, and the faces of `b` alone.
    common = 0
    last = of_a
    for k in range(of_a, count):
        both = False
        for j in range(3):
            c = faces[star[k], j]
            both = both or c == a
            if c not in (a, b) and mark[c] == 2 * turn:
                mark[c] = 2 * turn + 1
                common += 1
        if not both:
            star[last] = star[k]
            last += 1
    allowed = (
        # The link condition: no neighbour of both except across the faces that go.
        common == shared
        and 1 <= shared <= 2
        # An edge inside that joins two rims would pinch the surface.
        and not (shared == 2 and rim[a] and rim[b])
        # A tetrahedron would become two faces back to back, a lone triangle nothing.
        and last - shared >= (1 if rim[a] or rim[b] else 3)
        and last < _MOST_FACES
    )
    return last, shared if allowed else 0


@njit
def _collect(v, alive, first, following, star):  # noqa: ANN001, ANN202
    count = 0
    corner = first[v]
    while corner >= 0 and count < _MOST_FACES:
        if alive[corner // 3]:
            star[count] = corner // 3
            count += 1
        corner = following[corner]
    return count


@njit
def _fitting_place(a, b, star, vertices, faces, quadric, least_cosine):  # noqa: ANN001, ANN202
    """Take the best place if all faces stay whole with it, else the better of middle and ends.

    Returns:
        The place and its error; infinite if none of them will do.
    """
    best = _best_place(a, b, vertices, quadric)
    if _keeps_faces(a, b, best, star, vertices, faces, least_cosine):
        return best, _error(best, a, b, quadric)
    least = math.inf
    for share in (0.5, 0.0, 1.0):
        x = (1 - share) * vertices[a, 0] + share * vertices[b, 0]
        y = (1 - share) * vertices[a, 1] + share * vertices[b, 1]
        z = (1 - share) * vertices[a, 2] + share * vertices[b, 2]
        error = _error((x, y, z), a, b, quadric)
        if error < least and _keeps_faces(a, b, (x, y, z), star, vertices, faces, least_cosine):
            best, least = (x, y, z), error
    return best, least


@njit
def _keeps_faces(a, b, place, star, vertices, faces, least_cosine):  # noqa: ANN001, ANN202
    """Say whether no face of a star turns over or grows thin when two vertices move to a place."""
    old = np.empty((3, 3))
    new = np.empty((3, 3))
    for face in star:
        moved = 0
        for k in range(3):
            v = faces[face, k]
            for axis in range(3):
                old[k, axis] = vertices[v, axis]
                new[k, axis] = vertices[v, axis]
            if v in (a, b):
                moved += 1
                new[k, 0], new[k, 1], new[k, 2] = place
        if moved == 2:
            continue
        nx, ny, nz, area, longest = _shape(new)
        ox, oy, oz, old_area, old_longest = _shape(old)
        thin = min(_THIN, old_area / max(old_longest, 1e-30))
        if area <= 1e-12 or area < thin * longest:
            return False
        if nx * ox + ny * oy + nz * oz < least_cosine * area * old_area:
            return False
    return True


@njit
def _shape(corner):  # noqa: ANN001, ANN202
    """Give the doubled normal, its length, and the square of the longest side."""
    ax, ay, az = (
        corner[1, 0] - corner[0, 0],
        corner[1, 1] - corner[0, 1],
        corner[1, 2] - corner[0, 2],
    )
    bx, by, bz = (
        corner[2, 0] - corner[0, 0],
        corner[2, 1] - corner[0, 1],
        corner[2, 2] - corner[0, 2],
    )
    x, y, z = ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx
    cx, cy, cz = bx - ax, by - ay, bz - az
    longest = max(
        ax * ax + ay * ay + az * az, max(bx * bx + by * by + bz * bz, cx * cx + cy * cy + cz * cz)
    )
    return x, y, z, math.sqrt(x * x + y * y + z * z), longest


@njit
def _join(a, b, star, faces, alive, first, following):  # noqa: ANN001, ANN202
    """Put `a` in the place of `b` in all faces of a star; faces that had both go."""
    first[a] = -1
    first[b] = -1
    for k in range(len(star) - 1, -1, -1):
        face = star[k]
        has = 0
        at = 0
        for j in range(3):
            if faces[face, j] in (a, b):
                has += 1
                at = j
        if has == 2:
            alive[face] = False
            continue
        faces[face, at] = a
        following[3 * face + at] = first[a]
        first[a] = 3 * face + at
