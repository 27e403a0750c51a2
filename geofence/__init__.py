"""Fences, positions and the metres between them: a library that knows nothing of check-ins.

`parse_fence` reads a fence from GeoJSON and names every fault of a bad one; a `Fence` measures the signed
distance of a WGS-84 position; `locate` says what a phone's fixes tell about being inside; `to_wgs84` and
`from_wgs84` convert between the frames used in China. It measures and counts; verdicts are the caller's.

>>> ring = [[114.059, 22.543], [114.061, 22.543], [114.061, 22.545], [114.059, 22.545], [114.059, 22.543]]
>>> fence = parse_fence({"type": "Polygon", "coordinates": [ring]}, Frame.GCJ02)
>>> lon, lat = to_wgs84(114.060, 22.544, Frame.GCJ02)
>>> round(fence.signed_distance_m(lon, lat))
-103
"""

from geofence.faults import Fault, FaultCode, FenceError
from geofence.fence import CircleFence, Fence, PolygonFence
from geofence.frames import Frame, from_wgs84, on_earth, to_wgs84
from geofence.geojson import parse_fence
from geofence.locate import Location, Zone, locate, r95_factor, zone_at
from geofence.position import DEFAULT_RULES, EARTH, SHENZHEN, Box, Fix, FixRules, is_plausible

__all__ = [
    "DEFAULT_RULES",
    "EARTH",
    "SHENZHEN",
    "Box",
    "CircleFence",
    "Fault",
    "FaultCode",
    "Fence",
    "FenceError",
    "Fix",
    "FixRules",
    "Frame",
    "Location",
    "PolygonFence",
    "Zone",
    "from_wgs84",
    "is_plausible",
    "locate",
    "on_earth",
    "parse_fence",
    "r95_factor",
    "to_wgs84",
    "zone_at",
]
