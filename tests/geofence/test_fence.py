"""Signed distances against oracles that share nothing with the library but the coordinates.

The first draws any set of cells of a chessboard, as parts side by side or as a square with holes, and measures from
rectangle to rectangle. The second draws stars and measures edge by edge.
"""

from collections.abc import Iterable
from math import cos, dist, hypot, pi, sin

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from geofence import CircleFence, Frame, parse_fence, to_wgs84
from tests.geofence.ground import GEOD, LAT, LON, Point, apart_m, place, ring, square

SIDE_M, CELLS = 30.0, 5
BOARD = frozenset((i, j) for i in range(CELLS) for j in range(CELLS))
AROUND = frozenset((i, j) for i in range(-1, CELLS + 1) for j in range(-1, CELLS + 1))

Cell = tuple[int, int]
frames = st.sampled_from(Frame)
cell_sets = st.frozensets(st.sampled_from(sorted(BOARD)), min_size=1)
boards_m = st.tuples(st.floats(-100, 250), st.floats(-100, 250))


def to_cell_m(point: Point, cell: Cell) -> float:
    """Distance from a point to a closed square cell."""
    gaps = [
        max(edge * SIDE_M - at, at - (edge + 1) * SIDE_M, 0.0) for at, edge in zip(point, cell, strict=True)
    ]
    return hypot(*gaps)


def to_cells_m(point: Point, filled: Iterable[Cell]) -> float:
    """Signed distance to the union of the cells: inside, the nearest cell that is not filled counts."""
    filled = frozenset(filled)
    outside_m = min(to_cell_m(point, cell) for cell in filled)
    return outside_m or -min(to_cell_m(point, cell) for cell in AROUND - filled)


def outlined(cell: Cell, frame: Frame) -> list[list[float]]:
    return square(cell[0] * SIDE_M, cell[1] * SIDE_M, SIDE_M, frame)


@given(cell_sets, boards_m, frames)
def test_parts_side_by_side(cells: frozenset[Cell], point: Point, frame: Frame) -> None:
    parts = [[outlined(cell, frame)] for cell in cells]
    fence = parse_fence({"type": "MultiPolygon", "coordinates": parts}, frame)
    assert fence.signed_distance_m(*place(*point)) == pytest.approx(to_cells_m(point, cells), abs=0.002)
    assert fence.area_m2 == pytest.approx(len(cells) * SIDE_M**2, rel=1e-5)


@given(cell_sets, boards_m, frames)
def test_holes_are_outside(cells: frozenset[Cell], point: Point, frame: Frame) -> None:
    holes = [outlined(cell, frame) for cell in BOARD - cells]
    fence = parse_fence({"type": "Polygon", "coordinates": [board_edge(frame), *holes]}, frame)
    assert fence.signed_distance_m(*place(*point)) == pytest.approx(to_cells_m(point, cells), abs=0.002)
    assert fence.area_m2 == pytest.approx(len(cells) * SIDE_M**2, rel=1e-5)


def board_edge(frame: Frame) -> list[list[float]]:
    """The board's outline through every corner of a cell on it, so that holes at the edge fit exactly."""
    steps, far = [i * SIDE_M for i in range(CELLS)], CELLS * SIDE_M
    south_east = [(at, 0.0) for at in steps] + [(far, at) for at in steps]
    north_west = [(far - at, far) for at in steps] + [(0.0, far - at) for at in steps]
    return ring(south_east + north_west, frame)


@st.composite
def stars(draw: st.DrawFn) -> list[Point]:
    """Corners in metres, counter-clockwise about the origin: simple, rarely convex."""
    reaches_m = draw(st.lists(st.floats(10, 150), min_size=3, max_size=12))
    turn = 2 * pi / len(reaches_m)
    return [(reach * cos(i * turn), reach * sin(i * turn)) for i, reach in enumerate(reaches_m)]


def to_edge_m(point: Point, a: Point, b: Point) -> float:
    along = ((point[0] - a[0]) * (b[0] - a[0]) + (point[1] - a[1]) * (b[1] - a[1])) / dist(a, b) ** 2
    along = max(0.0, min(1.0, along))
    return dist(point, (a[0] + along * (b[0] - a[0]), a[1] + along * (b[1] - a[1])))


def to_star_m(point: Point, corners: list[Point]) -> float:
    """Inside when left of the edge of the sector that the point is in; the origin sees every corner."""
    edges = list(zip(corners, corners[1:] + corners[:1], strict=True))
    gap_m = min(to_edge_m(point, a, b) for a, b in edges)
    sector = next(edge for edge in edges if cross(edge[0], point) >= 0 and cross(point, edge[1]) >= 0)
    inside = cross(minus(sector[1], sector[0]), minus(point, sector[0])) >= 0
    return -gap_m if inside else gap_m


def cross(a: Point, b: Point) -> float:
    return a[0] * b[1] - a[1] * b[0]


def minus(a: Point, b: Point) -> Point:
    return a[0] - b[0], a[1] - b[1]


@given(stars(), st.floats(1, 300), st.floats(0, 2 * pi), st.booleans())
def test_stars_drawn_either_way_round(corners: list[Point], reach: float, bearing: float, back: bool) -> None:
    point = (reach * cos(bearing), reach * sin(bearing))
    drawn = ring(corners)
    fence = parse_fence({"type": "Polygon", "coordinates": [drawn[::-1] if back else drawn]}, Frame.WGS84)
    assert fence.signed_distance_m(*place(*point)) == pytest.approx(to_star_m(point, corners), abs=0.002)


@given(st.floats(1, 5000), st.floats(-20_000, 20_000), st.floats(-20_000, 20_000), frames)
def test_circles(radius_m: float, x: float, y: float, frame: Frame) -> None:
    fence = circle(radius_m, frame)
    centre = to_wgs84(LON, LAT, frame)
    assert fence.inside_point() == centre
    assert fence.signed_distance_m(*place(x, y)) == pytest.approx(
        apart_m(centre, place(x, y)) - radius_m, abs=0.001
    )
    assert fence.area_m2 == pytest.approx(pi * radius_m**2)


def circle(radius_m: float, frame: Frame) -> CircleFence:
    fence = parse_fence({"type": "Circle", "coordinates": [LON, LAT], "radius_m": radius_m}, frame)
    assert isinstance(fence, CircleFence)
    return fence


@given(st.floats(-180, 180), st.floats(-90, 90))
def test_a_far_point_is_as_far_as_its_geodesic(lon: float, lat: float) -> None:
    fence = parse_fence({"type": "Polygon", "coordinates": [square(-100, -100, 200)]}, Frame.WGS84)
    far_m = apart_m((LON, LAT), (lon, lat))
    assume(far_m > 1000)
    assert fence.signed_distance_m(lon, lat) == pytest.approx(far_m, rel=0.1, abs=150)


def test_a_corner_and_the_middle_of_an_edge_are_the_boundary() -> None:
    drawn = square(0, 0, 50)
    fence = parse_fence({"type": "Polygon", "coordinates": [drawn]}, Frame.WGS84)
    middle = [(a + b) / 2 for a, b in zip(drawn[0], drawn[1], strict=True)]
    for lon, lat in drawn:
        assert fence.signed_distance_m(lon, lat) == pytest.approx(0, abs=1e-8)
    assert fence.signed_distance_m(*middle) == pytest.approx(0, abs=1e-4)


@given(cell_sets, frames)
def test_the_inside_point_is_inside(cells: frozenset[Cell], frame: Frame) -> None:
    parts = [[outlined(cell, frame)] for cell in cells]
    fence = parse_fence({"type": "MultiPolygon", "coordinates": parts}, frame)
    assert fence.signed_distance_m(*fence.inside_point()) < -0.45 * SIDE_M


@given(st.floats(500, 2200), frames)
def test_long_edges_are_straight_where_they_were_drawn(side_m: float, frame: Frame) -> None:
    """RFC 7946, 3.1.1: straight in the degrees of the frame. With the corners alone it is metres in BD-09."""
    drawn = square(-side_m / 2, -side_m / 2, side_m, frame)
    fence = parse_fence({"type": "Polygon", "coordinates": [drawn]}, frame)
    for part in (0.1, 0.25, 0.5, 0.8):
        lon, lat = (a + part * (b - a) for a, b in zip(drawn[0], drawn[1], strict=True))
        assert fence.signed_distance_m(*to_wgs84(lon, lat, frame)) == pytest.approx(0, abs=0.002)


@given(stars())
def test_area_is_the_geodesic_area(corners: list[Point]) -> None:
    drawn = ring(corners)
    fence = parse_fence({"type": "Polygon", "coordinates": [drawn]}, Frame.WGS84)
    lons, lats = zip(*drawn, strict=True)
    assert fence.area_m2 == pytest.approx(abs(GEOD.polygon_area_perimeter(lons, lats)[0]), rel=1e-5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_position_that_is_not_finite_is_refused(bad: float) -> None:
    polygon = parse_fence({"type": "Polygon", "coordinates": [square(0, 0, 50)]}, Frame.WGS84)
    for fence in (polygon, circle(50, Frame.WGS84)):
        with pytest.raises(ValueError, match="finite"):
            fence.signed_distance_m(bad, LAT)
