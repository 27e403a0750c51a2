"""Every way to refuse a fence: each code, its pointer, and all faults at once."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geofence import Box, FaultCode, Fence, FenceError, Frame, from_wgs84, parse_fence
from geofence.faults import MAX_FAULTS
from geofence.reading import MAX_ENTRIES
from tests.geofence.ground import LAT, LON, square

Json = object
Found = tuple[str, str]

SQUARE = square(0, 0, 100)
A, B, C, D, _ = SQUARE
FAR = [[lon + 1.2, lat] for lon, lat in SQUARE]
BEYOND = [[lon, lat + 2] for lon, lat in SQUARE]


def faults(geojson: Json, frame: Frame = Frame.WGS84) -> list[Found]:
    fence, found = fence_or_faults(geojson, frame)
    assert fence is None
    return found


def polygon(*rings: Json) -> dict[str, Json]:
    return {"type": "Polygon", "coordinates": list(rings)}


def multi(*polygons: Json) -> dict[str, Json]:
    return {"type": "MultiPolygon", "coordinates": list(polygons)}


def circle(centre: Json = (LON, LAT), radius_m: Json = 150) -> dict[str, Json]:
    return {"type": "Circle", "coordinates": centre, "radius_m": radius_m}


def swapped(ring: list[list[float]]) -> list[list[float]]:
    return [[lat, lon] for lon, lat in ring]


REFUSED: dict[str, tuple[Json, list[Found]]] = {
    "not an object": ([SQUARE], [("", "fence_type")]),
    "null": (None, [("", "fence_type")]),
    "empty object": ({}, [("/type", "fence_type")]),
    "a feature": ({"type": "Feature", "geometry": polygon(SQUARE)}, [("/type", "fence_type")]),
    "a point": ({"type": "Point", "coordinates": A}, [("/type", "fence_type")]),
    "a type that is no text": ({"type": ["Polygon"], "coordinates": [SQUARE]}, [("/type", "fence_type")]),
    "an unknown member": (polygon(SQUARE) | {"a~/b": 1}, [("/a~0~1b", "fence_unknown_member")]),
    "a polygon's radius": (polygon(SQUARE) | {"radius_m": 5}, [("/radius_m", "fence_unknown_member")]),
    "no coordinates": ({"type": "Polygon"}, [("/coordinates", "fence_coordinates")]),
    "no rings": (polygon(), [("/coordinates", "fence_coordinates")]),
    "no polygons": (multi(), [("/coordinates", "fence_coordinates")]),
    "an empty ring": (polygon([]), [("/coordinates/0", "fence_coordinates")]),
    "an empty part": (multi([SQUARE], []), [("/coordinates/1", "fence_coordinates")]),
    "a ring too deep": (
        polygon([SQUARE]),
        [("/coordinates/0/0", "fence_coordinates")],
    ),
    "a position of one": (polygon([A, [LON], C, D, A]), [("/coordinates/0/1", "fence_coordinates")]),
    "a position of four": (polygon([A, [*B, 0, 0], C, D, A]), [("/coordinates/0/1", "fence_coordinates")]),
    "a number as text": (polygon([A, [LON, "22"], C, D, A]), [("/coordinates/0/1/1", "fence_coordinates")]),
    "a number as truth": (polygon([A, [True, LAT], C, D, A]), [("/coordinates/0/1/0", "fence_coordinates")]),
    "an altitude as text": (polygon([A, [*B, "3"], C, D, A]), [("/coordinates/0/1/2", "fence_coordinates")]),
    "NaN": (polygon([A, [math.nan, LAT], C, D, A]), [("/coordinates/0/1/0", "fence_not_finite")]),
    "infinite": (polygon([A, [LON, -math.inf], C, D, A]), [("/coordinates/0/1/1", "fence_not_finite")]),
    "a huge integer": (circle([LON, 10**400]), [("/coordinates/1", "fence_not_finite")]),
    "an infinite radius": (circle(radius_m=math.inf), [("/radius_m", "fence_not_finite")]),
    "too many positions": (polygon([A] * (MAX_ENTRIES + 1)), [("/coordinates", "fence_too_many_points")]),
    "too many rings": (multi(*[[SQUARE]] * MAX_ENTRIES), [("/coordinates", "fence_too_many_points")]),
    "too many to read at all": (
        multi(*[[]] * (MAX_ENTRIES + 1)),
        [("/coordinates", "fence_too_many_points")],
    ),
    "an open ring": (polygon([A, B, C, D]), [("/coordinates/0", "fence_ring_open")]),
    "two positions": (polygon([A, B, A]), [("/coordinates/0", "fence_ring_short")]),
    "one position, again": (polygon([A, A, A, A]), [("/coordinates/0", "fence_ring_short")]),
    "short and open": (
        polygon([A, B]),
        [("/coordinates/0", "fence_ring_open"), ("/coordinates/0", "fence_ring_short")],
    ),
    "a bow tie": (polygon([A, C, B, D, A]), [("/coordinates/0", "fence_self_intersection")]),
    "a line there and back": (polygon([A, B, C, B, A]), [("/coordinates/0", "fence_self_intersection")]),
    "a corner passed twice": (
        polygon([A, B, [LON, LAT + 0.01], C, [LON - 0.01, LAT], B, A]),
        [("/coordinates/0", "fence_self_intersection")],
    ),
    "a hole beside": (polygon(SQUARE, square(200, 0, 20)), [("/coordinates/1", "fence_hole_outside")]),
    "a hole across": (polygon(SQUARE, square(90, 0, 20)), [("/coordinates/1", "fence_hole_outside")]),
    "a hole around": (polygon(SQUARE, square(-1, -1, 200)), [("/coordinates/1", "fence_hole_outside")]),
    "holes that overlap": (
        polygon(SQUARE, square(10, 10, 20), square(20, 20, 20)),
        [("/coordinates/2", "fence_overlap")],
    ),
    "parts that cross": (multi([SQUARE], [square(50, 50, 100)]), [("/coordinates/1", "fence_overlap")]),
    "one part in another": (multi([SQUARE], [square(40, 40, 10)]), [("/coordinates/1", "fence_overlap")]),
    "the same part twice": (multi([SQUARE], [SQUARE]), [("/coordinates/1", "fence_overlap")]),
    "too small": (polygon(square(0, 0, 4.4)), [("/coordinates", "fence_area")]),
    "too large": (polygon(square(0, 0, 2240)), [("/coordinates", "fence_area")]),
    "nothing left by its holes": (polygon(SQUARE, SQUARE), [("/coordinates", "fence_area")]),
    "no radius": ({"type": "Circle", "coordinates": A}, [("/radius_m", "fence_radius")]),
    "a radius as text": (circle(radius_m="150"), [("/radius_m", "fence_radius")]),
    "a small radius": (circle(radius_m=0.999), [("/radius_m", "fence_radius")]),
    "a large radius": (circle(radius_m=5000.001), [("/radius_m", "fence_radius")]),
    "a circle in Beijing": (circle([116.4, 39.9]), [("/coordinates", "fence_outside_box")]),
    "a circle over the edge": (circle([LON, 22.302], 300), [("/radius_m", "fence_outside_box")]),
    "a swapped circle": (circle([LAT, LON]), [("/coordinates", "fence_swapped")]),
    "wholly outside": (polygon(BEYOND), [("/coordinates", "fence_outside_box")]),
    "wholly swapped": (multi([swapped(SQUARE)]), [("/coordinates", "fence_swapped")]),
    "one position swapped": (
        polygon([A, B, C, [LAT, LON], A]),
        [("/coordinates/0/3", "fence_swapped")],
    ),
    "one position outside": (
        polygon([A, B, C, [LON, 24.0], A]),
        [("/coordinates/0/3", "fence_outside_box")],
    ),
    "off the Earth": (polygon([A, B, C, [1e308, -1e308], A]), [("/coordinates/0/3", "fence_outside_box")]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_its_faults(name: str) -> None:
    geojson, expected = REFUSED[name]
    assert faults(geojson) == expected


def test_every_code_is_tried_above() -> None:
    assert {code for _, found in REFUSED.values() for _, code in found} == set(FaultCode)


ACCEPTED: dict[str, Json] = {
    "altitudes are ignored": polygon([[*position, 12.5] for position in SQUARE]),
    "tuples for arrays": polygon(tuple(tuple(position) for position in SQUARE)),
    "integers for numbers": circle(radius_m=150),
    "a position repeated at once": polygon([A, B, B, C, D, A]),
    "clockwise": polygon(SQUARE[::-1]),
    "parts side by side": multi([SQUARE], [square(100, 0, 100)]),
    "parts at a corner": multi([SQUARE], [square(100, 100, 50)]),
    "a part in another's hole": multi([SQUARE, square(20, 20, 60)], [square(40, 40, 20)]),
    "a part that fills a hole": multi([SQUARE, square(20, 20, 60)], [square(20, 20, 60)]),
    "a hole at the edge's corner": polygon(SQUARE, square(0, 0, 50)[:-1] + square(0, 0, 50)[:1]),
    "the least area": polygon(square(0, 0, 4.5)),
    "the largest area": polygon(square(0, 0, 2236)),
    "the least radius": circle(radius_m=1),
    "the largest radius": circle(radius_m=5000),
    "as many entries as may be": polygon(
        [
            [LON + math.cos(i * math.tau / 1998) / 200, LAT + math.sin(i * math.tau / 1998) / 200]
            for i in range(1998)
        ]
        + [[LON + 1 / 200, LAT]]
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name: str) -> None:
    fence = parse_fence(ACCEPTED[name], Frame.WGS84)
    assert fence.signed_distance_m(*fence.inside_point()) < 0


def test_parts_side_by_side_have_no_boundary_between_them() -> None:
    fence = parse_fence(ACCEPTED["parts side by side"], Frame.WGS84)
    lon, lat = (B[0] + C[0]) / 2, (B[1] + C[1]) / 2
    assert fence.signed_distance_m(lon, lat) == pytest.approx(-50, abs=0.01)


def test_all_faults_at_once() -> None:
    broken = multi(
        [[A, C, B, D, A], square(20, 20, 10)[:-1]], [SQUARE, square(500, 0, 9)], [BEYOND], ["x"], [SQUARE]
    ) | {"crs": {}}
    assert faults(broken) == [
        ("/crs", "fence_unknown_member"),
        ("/coordinates/3/0", "fence_coordinates"),
        *[(f"/coordinates/2/0/{i}", "fence_outside_box") for i in range(5)],
        ("/coordinates/0/0", "fence_self_intersection"),
        ("/coordinates/0/1", "fence_ring_open"),
        ("/coordinates/1/1", "fence_hole_outside"),
        ("/coordinates/4", "fence_overlap"),
    ]


def test_a_fence_with_two_faulty_members_of_a_circle() -> None:
    assert faults(circle([LAT, LON], 0)) == [
        ("/radius_m", "fence_radius"),
        ("/coordinates", "fence_swapped"),
    ]


def test_the_box_is_in_wgs84_whatever_the_frame() -> None:
    at_the_edge = circle(from_wgs84(113.6003, 22.6, Frame.GCJ02), 50)
    assert faults(at_the_edge, Frame.GCJ02) == [("/radius_m", "fence_outside_box")]
    assert parse_fence(at_the_edge, Frame.WGS84).area_m2 > 0


def test_another_box() -> None:
    beijing = Box(south=39, north=41, west=115, east=118)
    assert parse_fence(circle([116.4, 39.9]), Frame.GCJ02, beijing).area_m2 > 0
    with pytest.raises(ValueError, match="a box needs"):
        Box(south=41, north=39, west=115, east=118)


def test_faults_are_limited_and_say_nothing_of_the_place() -> None:
    secret = [[113.123456, 21.654321], [113.123456, 21.7], [22.654321, 114.123456], [113.2, 21.7]]
    with pytest.raises(FenceError) as refusal:
        parse_fence(polygon(*[secret] * 200), Frame.GCJ02)
    assert len(refusal.value.faults) == MAX_FAULTS
    assert "21" not in str(refusal.value).replace("/21", "")
    assert "654321" not in str(refusal.value)
    assert "123456" not in str(refusal.value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**400)
    | st.floats()
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)
numbers = st.floats(113.99, 114.01) | st.floats(22.49, 22.51) | st.floats() | st.integers() | json_values
positions = st.lists(numbers, min_size=2, max_size=3) | st.sampled_from([A, B, C, D])
rings = st.lists(positions, max_size=8).map(lambda ring: [*ring, *ring[:1]])
fences = st.fixed_dictionaries(
    {"type": st.sampled_from(["Polygon", "MultiPolygon", "Circle"])},
    optional={
        "coordinates": positions
        | st.lists(rings, max_size=3)
        | st.lists(st.lists(rings, max_size=3), max_size=3)
        | json_values,
        "radius_m": st.floats(0, 6000) | json_values,
        "x": json_values,
    },
)


@given(json_values | fences, st.sampled_from(Frame))
def test_any_json_is_a_fence_or_a_list_of_faults(geojson: Json, frame: Frame) -> None:
    fence, found = fence_or_faults(geojson, frame)
    assert (fence is None) == bool(found)
    assert all(exists_or_is_missing(geojson, pointer) for pointer, _ in found)
    assert fence is None or math.isfinite(fence.signed_distance_m(LON, LAT))


def fence_or_faults(geojson: Json, frame: Frame) -> tuple[Fence | None, list[Found]]:
    """Either way without any other exception."""
    try:
        return parse_fence(geojson, frame), []
    except FenceError as refusal:
        return None, [(fault.pointer, fault.code) for fault in refusal.faults]


def exists_or_is_missing(geojson: Json, pointer: str) -> bool:
    """Whether the pointer leads to a value, or to a member that the fence should have had."""
    value = geojson
    for step in steps(pointer):
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list):
            value = value[int(step)]
        else:
            return pointer in ("/type", "/coordinates", "/radius_m")
    return True


def steps(pointer: str) -> Iterator[str]:
    return (step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


quarters = st.integers(0, 4).map(lambda n: n * 0.001)
grid_positions = st.tuples(quarters, quarters).map(lambda at: [114.0 + at[0], 22.5 + at[1]])
grid_rings = st.lists(grid_positions, min_size=3, max_size=6).map(lambda ring: [*ring, ring[0]])


@given(st.lists(st.lists(grid_rings, min_size=1, max_size=3), min_size=1, max_size=3))
def test_degenerate_drawings_on_a_coarse_grid(drawing: list[list[list[list[float]]]]) -> None:
    """Shared corners, edges and whole rings everywhere: what is accepted can be measured."""
    fence, found = fence_or_faults(multi(*drawing), Frame.GCJ02)
    assert (fence is None) == bool(found)
    assert fence is None or fence.signed_distance_m(*fence.inside_point()) < 0
