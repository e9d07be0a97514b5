"""Closed parametric surfaces, and ways to put several together into one object.

Every surface is a grid of points, rows from pole to pole, columns around, both ends of a row alike;
faces point outward when the grid is read in that order.
"""

import math

import numpy as np

Parts = list[list[np.ndarray]]
"""An object: for each part, its copies (mirrored, or repeated), which share one texture."""

ROWS, COLUMNS = 21, 33


def random_parts(rng: np.random.Generator) -> Parts:
    """Lay out the parts of an object: 1 to 7 of them, of one of five plans."""
    plans = (_scattered, _creature, _furniture, _stack, _wheel)
    return plans[rng.choice(len(plans), p=(0.4, 0.15, 0.15, 0.15, 0.15))](rng)


def random_surface(rng: np.random.Generator) -> np.ndarray:
    """Give one surface within [-1, 1] about the origin."""
    kinds = (_superquadric, _lathe, _torus, _box, _extrusion, _solid, _displaced)
    kind = rng.choice(len(kinds), p=(0.2, 0.2, 0.08, 0.15, 0.12, 0.13, 0.12))
    return kinds[kind](rng)


def _angles(rows: int = ROWS, columns: int = COLUMNS) -> tuple[np.ndarray, np.ndarray]:
    polar = np.linspace(0, math.pi, rows)[:, None]
    return polar, np.linspace(0, 2 * math.pi, columns)[None, :]


def _round_about(radius: np.ndarray, height: np.ndarray, around: np.ndarray) -> np.ndarray:
    return np.stack([radius * np.sin(around), height + 0 * around, radius * np.cos(around)], -1)


def _superquadric(rng: np.random.Generator) -> np.ndarray:
    """Barr, "Superquadrics and Angle-Preserving Transformations", 1981; half of them bumpy."""
    grid = _quadric(*rng.uniform(0.4, 1.6, 2))
    if rng.random() < 0.5:
        polar, around = _angles()
        k, m = rng.integers(1, 5, 2)
        bump = 1 + rng.uniform(0, 0.15) * np.sin(k * 2 * polar) * np.cos(m * around)
        grid = grid * bump[..., None]
    return grid


def _box(rng: np.random.Generator) -> np.ndarray:
    return _quadric(*rng.uniform(0.1, 0.3, 2))


def _ball(rng: np.random.Generator) -> np.ndarray:
    return _quadric(*rng.uniform(0.7, 1.1, 2))


def _quadric(e: float, f: float) -> np.ndarray:
    polar, around = _angles()
    flat = _power(np.sin(polar), e)
    x, z = flat * _power(np.sin(around), f), flat * _power(np.cos(around), f)
    return np.stack([x, _power(np.cos(polar), e) + 0 * around, z], axis=-1)


def _lathe(rng: np.random.Generator) -> np.ndarray:
    """Turn a random profile, half of them with round shoulders, about the y axis."""
    _, around = _angles()
    height = np.linspace(1, -1, ROWS)[:, None]
    knots = rng.uniform(0.15, 1.0, int(rng.integers(3, 7)))
    radius = np.interp(np.linspace(0, 1, ROWS), np.linspace(0, 1, len(knots)), knots)[:, None]
    if rng.random() < 0.5:
        radius[1:-1] = (radius[:-2] + 2 * radius[1:-1] + radius[2:]) / 4
    radius[[0, -1]] = 0
    return _round_about(radius, np.clip(height * (ROWS / (ROWS - 2)), -1, 1), around)  # Flat caps.


def _torus(rng: np.random.Generator) -> np.ndarray:
    ring = rng.uniform(0.15, 0.4)
    polar = np.linspace(2 * math.pi, 0, ROWS)[:, None]
    _, around = _angles()
    return _round_about(1 - ring + ring * np.cos(polar), ring * np.sin(polar), around)


def _extrusion(rng: np.random.Generator) -> np.ndarray:
    """Draw an outline along y: a polygon, a star, a gear or a blob, perhaps twisted and tapered."""
    _, around = _angles()
    corners = int(rng.integers(3, 9))
    kind = rng.random()
    if kind < 0.35:  # A polygon is the intersection of half-planes.
        step = 2 * math.pi / corners
        outline = math.cos(step / 2) / np.cos((around % step) - step / 2)
    elif kind < 0.6:
        outline = 1 - rng.uniform(0.2, 0.6) * (0.5 + 0.5 * np.cos(corners * around))
    elif kind < 0.75:
        outline = 1 - rng.uniform(0.1, 0.3) * (np.cos(corners * around) > 0)
    else:
        outline = np.ones_like(around)
        for k in range(1, 5):
            outline = outline + rng.uniform(-0.3, 0.3) / k * np.cos(
                k * around + rng.uniform(0, 6.3)
            )
        outline = np.maximum(outline / outline.max(), 0.15)
    along = np.linspace(0, 1, ROWS)[:, None]
    height = np.clip((0.5 - along) * 2 * ROWS / (ROWS - 4), -1, 1)
    scale = 1 - rng.uniform(0, 0.5) * (rng.random() < 0.4) * (height + 1) / 2
    scale[[0, -1]] = 0
    twist = rng.uniform(-1, 1) * (rng.random() < 0.3) * height
    return _round_about(outline * scale, height, around + twist)


def _solid(rng: np.random.Generator) -> np.ndarray:
    """Unite and intersect boxes, cylinders, balls and half-spaces that share an inner point.

    Along each direction the surface of such a solid is as far as its distance function says:
    min for an intersection, max for a union. Nothing hollow can be made so.
    """
    polar, around = _angles(37, 61)
    direction = np.stack(
        [
            np.sin(polar) * np.sin(around),
            np.cos(polar) + 0 * around,
            np.sin(polar) * np.cos(around),
        ],
        -1,
    )
    reach = _reach(direction, rng)
    for _ in range(int(rng.integers(1, 4))):
        other = _reach(direction, rng)
        reach = np.maximum(reach, other) if rng.random() < 0.6 else np.minimum(reach, other)
    for _ in range(int(rng.integers(0, 5))):  # Cut corners off.
        normal = rng.normal(size=3)
        towards = direction @ (normal / np.linalg.norm(normal))
        reach = np.minimum(reach, rng.uniform(0.4, 0.8) / np.maximum(towards, 1e-3))
    return direction * reach[..., None]


def _reach(direction: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Say how far a box, cylinder or ball about the origin reaches in each direction."""
    x, y, z = np.moveaxis(np.abs(direction) + 1e-9, -1, 0)
    a, b, c = rng.uniform(0.25, 1.0, 3)
    kind = rng.random()
    if kind < 0.5:
        return np.minimum(np.minimum(a / x, b / y), c / z)
    if kind < 0.8:
        along, across = ((y, np.hypot(x, z)), (x, np.hypot(y, z)))[int(rng.integers(0, 2))]
        return np.minimum(a / along, b / across)
    return 1 / np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)


def _displaced(rng: np.random.Generator) -> np.ndarray:
    """Move a rounded shape's points in and out by waves of falling height, like rock or fruit."""
    grid = _quadric(*rng.uniform(0.5, 1.1, 2))
    relief = np.zeros(grid.shape[:2])
    for octave in range(4):
        wave = rng.normal(size=3) * 2.0**octave
        relief += np.sin(grid @ wave * 2 + rng.uniform(0, 6.3)) / 1.6**octave
    return grid * (1 + rng.uniform(0.04, 0.16) * relief[..., None])


def _scattered(rng: np.random.Generator) -> Parts:
    """Put up to six surfaces anywhere; in most objects those off the middle have a mirror image."""
    symmetric = rng.random() < 0.6
    parts = []
    for part in range(int(rng.integers(1, 7))):
        grid = _placed(random_surface(rng), rng, first=part == 0)
        mirrored = symmetric and part and abs(grid[..., 0].mean()) > 0.1
        parts.append([grid, _mirrored(grid)] if mirrored else [grid])
    return parts


def _creature(rng: np.random.Generator) -> Parts:
    """Body, head, two pairs of legs, ears, eyes and a tail, the same on both sides, facing +Z."""
    long, wide, high = rng.uniform(0.45, 1.0), rng.uniform(0.22, 0.45), rng.uniform(0.22, 0.45)
    leg, thick = rng.uniform(0.25, 0.7), rng.uniform(0.06, 0.15)
    head = rng.uniform(0.18, 0.4)
    at = np.array([0, rng.uniform(0.1, 0.7), long + rng.uniform(0, 0.25)])
    parts = [[_ball(rng) * (wide, high, long)], [_ball(rng) * head * rng.uniform(0.8, 1.2, 3) + at]]
    spread = wide * rng.uniform(0.5, 0.9)
    legs = []
    for forward in (0.65, -0.65):
        one = _lathe(rng) * (thick, leg / 2, thick) + (spread, -high / 2 - leg / 2, forward * long)
        legs += [one, _mirrored(one)]
    parts.append(legs)
    ear = _ball(rng) * rng.uniform(0.05, 0.16, 3) + at + (head * 0.7, head * 0.9, 0)
    eye = _ball(rng) * 0.05 + at + (head * 0.45, head * 0.3, head * 0.85)
    parts += [[ear, _mirrored(ear)], [eye, _mirrored(eye)]]
    tail = _ball(rng) * (0.06, 0.06, rng.uniform(0.1, 0.4)) - (0, -0.3 * high, long + 0.1)
    return [*parts, [tail]]


def _furniture(rng: np.random.Generator) -> Parts:
    """A slab on four legs, with a back or things upon it."""
    wide, deep, high = rng.uniform(0.4, 1.0), rng.uniform(0.4, 1.0), rng.uniform(0.3, 1.0)
    thin, leg = rng.uniform(0.03, 0.15), rng.uniform(0.04, 0.1)
    slab = _quadric(0.12, 0.12) if rng.random() < 0.7 else _quadric(0.12, 1.0)
    parts: Parts = [[slab * (wide, thin, deep)]]
    post = (_lathe(rng) if rng.random() < 0.5 else _quadric(0.15, 0.15)) * (leg, high / 2, leg)
    corners = [(x * 0.85, z * 0.85) for x in (-wide, wide) for z in (-deep, deep)]
    parts.append([post + np.array([x, -high / 2, z]) for x, z in corners])
    if rng.random() < 0.5:
        back = rng.uniform(0.3, 0.8)
        parts.append([_quadric(0.15, 0.15) * (wide, back, thin) + (0, back, -deep + thin)])
    for _ in range(int(rng.integers(0, 3))):
        size = rng.uniform(0.1, 0.3)
        at = (rng.uniform(-0.6, 0.6) * wide, thin + size, rng.uniform(-0.6, 0.6) * deep)
        parts.append([random_surface(rng) * size + at])
    return parts


def _stack(rng: np.random.Generator) -> Parts:
    """Two to five surfaces one upon another, such as lamps, towers and bottles."""
    parts: Parts = []
    top = 0.0
    for _ in range(int(rng.integers(2, 6))):
        wide, high = rng.uniform(0.15, 0.7), rng.uniform(0.08, 0.5)
        grid = random_surface(rng) * (wide, high, wide)
        parts.append([grid + np.array([0, top - grid[..., 1].min() - 0.02, 0])])
        top += float(np.ptp(grid[..., 1])) - 0.02
    return parts


def _wheel(rng: np.random.Generator) -> Parts:
    """A middle, and one surface repeated around it."""
    middle = random_surface(rng) * rng.uniform(0.2, 0.6, 3)
    spoke = random_surface(rng) * rng.uniform(0.08, 0.3, 3) + (0, rng.uniform(-0.3, 0.3), 0.65)
    count = int(rng.integers(3, 9))
    return [[middle], [spoke @ _turn_y(2 * math.pi * k / count).T for k in range(count)]]


def _placed(grid: np.ndarray, rng: np.random.Generator, *, first: bool) -> np.ndarray:
    size = rng.uniform(0.35, 1.0, 3) if first else rng.uniform(0.08, 0.6, 3)
    taper = 1 + rng.uniform(-0.5, 0.5) * grid[..., 1:2] * (rng.random() < 0.4)
    grid = grid * size * np.concatenate([taper, np.ones_like(taper), taper], axis=-1)
    if rng.random() < 0.5:
        pitch = rng.uniform(-0.7, 0.7)
        c, s = math.cos(pitch), math.sin(pitch)
        turn_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
        grid = grid @ (turn_x @ _turn_y(rng.uniform(0, 2 * math.pi))).T
    return grid if first else grid + rng.uniform(-0.8, 0.8, 3)


def _turn_y(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _mirrored(grid: np.ndarray) -> np.ndarray:
    return (grid * (-1, 1, 1))[:, ::-1]  # Reversed: keeps faces outward.


def _power(value: np.ndarray, exponent: float) -> np.ndarray:
    value = np.where(np.abs(value) < 1e-12, 0.0, value)  # sin(pi) to the power 0.1 is a gap.
    return np.sign(value) * np.abs(value) ** exponent
