"""Active liveness: were the head turns that a challenge asked for made, and by something with the depth of a head?

Pure geometry on the detector's five landmarks in a burst of frames. It stops a photograph that is held up, moved,
turned or bent. It does not stop what moves as a head does: a video of the person (replayed, or put in place of the
camera), another print for each pose, a mask, a print folded along the nose. Against a replay there is only the
freshness of the challenge; that all frames show one person is for the caller to find out, by templates.

**Left and right.** ``turn_left`` means the person's own left. In a picture that is not mirrored the nose then moves to
the picture's right. Phones may upload the mirrored picture of their front camera, and no picture tells whether it was
mirrored. Where the caller knows, it says so; where not, the turns must match the challenge or its mirror image as a
whole. A challenge and its mirror image are then the same challenge: of n turns 2^(n-1) can be told apart, so that two
turns, left-right or right-left, are one challenge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def _head(form: Array) -> Array:
    """Right eye, left eye, nose, right and left corner of the mouth, 5 x 3: x to the picture's right, y down, z to the
    camera, in distances between the eyes. ``form`` is the nose's three coordinates, then the mouth's half width, height
    and depth."""
    *nose, mouth_x, mouth_y, mouth_z = form
    eyes, mouth = [[-0.5, 0, 0], [0.5, 0, 0]], [[-mouth_x, mouth_y, mouth_z], [mouth_x, mouth_y, mouth_z]]
    return np.array([*eyes, nose, *mouth])


# Fitted to the detector's landmarks of 104 photographs of 28 persons with East-Asian names (factorisation, Tomasi and
# Kanade, IJCV 9(2), 1992, with the two halves alike): their noses stand out by .37 (95 % by person .34 to .41), those
# of 120 others by .34 (.32 to .36), and the rest is the same to .01. In MediaPipe's canonical face model it is .55,
# which would read the same landmarks as a turn a third smaller.
_TYPICAL = np.array([0, 0.51, 0.37, 0.42, 0.98, 0])
_HEAD = _head(_TYPICAL)
_MODEL = _HEAD - _HEAD.mean(axis=0)
_MODEL_INVERSE = np.linalg.pinv(_MODEL)
# What one unit more of each figure adds to the head, about its middle.
_PARTS = np.stack([_head(unit) - _head(0 * unit) for unit in np.eye(len(_TYPICAL))])
_PARTS -= _PARTS.mean(axis=1, keepdims=True)
# How firmly the shape is held to the typical one, in misfit of a landmark; the nose's depth, which is measured, not at
# all.
_TRUST = np.array([0.1, 0.2, 0, 0.2, 0.2, 0.3])

_POSE_STEPS = 3
_MOST_STEPS = 25
_LEAST_STEP = 1e-4
_DAMPING = 0.05
_LARGEST_COORDINATE_PX = 1e6
_LEAST_LENGTH_PX = 1e-3
_LEAST_SPREAD = 0.02
# Beyond it, left and right were taken for each other, or a face was seen upside down.
_PROFILE_DEG = 90.0


class Action(StrEnum):
    """What a challenge may ask of a person; the side is the person's own."""

    TURN_LEFT = "turn_left"
    TURN_RIGHT = "turn_right"


class TurnCode(StrEnum):
    """What was found, in the order in which it is looked for."""

    TOO_FEW_FRAMES = "too_few_frames"
    LANDMARKS_UNUSABLE = "landmarks_unusable"
    NOT_FRONTAL = "not_frontal"
    NOT_TURNED = "not_turned"
    WRONG_TURN = "wrong_turn"
    FLAT = "flat"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class TurnThresholds:
    """``most_frontal_deg`` bounds the first frame's yaw. From there, a turn begins at ``least_turn_deg`` and has ended
    below ``most_returned_deg``. ``least_shift`` as :func:`nose_shift`, ``least_relief`` as :func:`nose_relief`."""

    most_frontal_deg: float = 15.0
    least_turn_deg: float = 20.0
    most_returned_deg: float = 10.0
    least_shift: float = 0.08
    least_relief: float = 0.22


@dataclass(frozen=True, slots=True)
class Turns:
    """What was judged, and the figures it was judged by.

    ``yaws_deg`` one a frame, as :func:`yaw_deg`; empty where they were not measured. ``shift``, the smallest of all
    turns, as :func:`nose_shift`, and ``relief`` as :func:`nose_relief`; None unless the turns were right.
    ``failed_action`` the number, from 0, of the first action that was not seen; the number of actions when there was a
    turn too many; None where no turn is to blame.
    """

    code: TurnCode
    yaws_deg: tuple[float, ...] = ()
    shift: float | None = None
    relief: float | None = None
    failed_action: int | None = None


def judge_turns(
    frames: Sequence[npt.ArrayLike],
    actions: Sequence[Action],
    mirrored: bool | None = None,
    thresholds: TurnThresholds = TurnThresholds(),
) -> Turns:
    """Whether ``frames``, in the order they were taken, show a head facing the camera and then just these turns.

    Frames are 5 x 2 landmarks in pixels, as ``Detector.refined`` gives them (those of a single look may show a face
    seven degrees away from where it looks). Between two turns to the same side the head comes back to the front. A turn
    too many is a wrong one: whoever shakes a head through all directions meets no challenge. ``mirrored`` says how the
    pictures were taken; None when that is not known.

    Raises ``ValueError`` for frames of another shape, and for actions without a turn to either side: the depth of a
    head is measured between its two sides, and with a single direction a mirror image could not be told apart.

    >>> head = _HEAD[:, :2] * 100
    >>> judge_turns([head, head, head], [Action.TURN_LEFT, Action.TURN_RIGHT]).code
    <TurnCode.NOT_TURNED: 'not_turned'>
    """
    if set(actions) != set(Action):
        raise ValueError("a challenge asks for turns to both sides")
    points = _stacked(frames)
    if len(points) <= len(actions):
        return Turns(TurnCode.TOO_FEW_FRAMES)
    if not all(map(_is_usable, points)):
        return Turns(TurnCode.LANDMARKS_UNUSABLE)
    yaws_deg = tuple(map(float, _yaws_deg(points)))
    if max(map(abs, yaws_deg)) > _PROFILE_DEG:
        return Turns(TurnCode.LANDMARKS_UNUSABLE, yaws_deg)
    return _judged(points, yaws_deg, actions, mirrored, thresholds)


def yaw_deg(landmarks: npt.ArrayLike) -> float:
    """How far a head is turned, positive towards the picture's right (the person's left, if it is not mirrored).

    5 x 2 pixels. The pose of a mean head under scaled orthography (after DeMenthon and Davis, IJCV 15, 1995). A nose
    that stands out by a sixth more or less than the mean reads as about a sixth more or less of a turn. Raises
    ``ValueError`` for points that are no face: not finite, or all in one place or line.
    """
    points = _stacked([landmarks])
    _require_usable(points)
    return float(_yaws_deg(points)[0])


def nose_shift(front: npt.ArrayLike, turned: npt.ArrayLike) -> float:
    """How far the nose lies from where a flat picture would have it, in distances from the eyes to the mouth.

    Two views of a flat picture are one homography apart, and eyes and mouth determine it: 0 for every such picture,
    also one drawn out of shape by a program; .1 and more for a head that turns by 20 degrees. A bent print reaches that
    too. 5 x 2 pixels each; raises as :func:`yaw_deg`.
    """
    points = _stacked([front, turned])
    _require_usable(points)
    seen = points - points.mean(axis=1, keepdims=True)
    eyes_to_mouth = np.linalg.norm(seen[:, 3:].mean(axis=1) - seen[:, :2].mean(axis=1), axis=1)
    seen /= np.maximum(eyes_to_mouth, _LEAST_LENGTH_PX)[:, None, None]
    *place, depth = _homography(*seen[:, [0, 1, 3, 4]]) @ [*seen[0, 2], 1]
    return float(np.linalg.norm(np.array(place) / max(abs(depth), 1e-9) * np.sign(depth) - seen[1, 2]))


def nose_relief(frames: Sequence[npt.ArrayLike]) -> float:
    """How far the nose stands out from the plane of eyes and mouth, in distances between the eyes.

    The depth that explains all frames best as views of one rigid, symmetric thing: 0 for a flat picture however it is
    turned (its views are homographies of each other, nearly affine ones), .1 for a print in life size bent to a radius
    of 6 cm, .2 at 3 cm, .3 to .5 for heads. ``frames`` are 5 x 2 pixels and differ by turns to both sides of 20 degrees
    or more; without such turns the depth is not determined. Raises as :func:`yaw_deg`.
    """
    points = _stacked(frames)
    _require_usable(points)
    seen = points - points.mean(axis=1, keepdims=True)
    seen /= max(np.linalg.norm(seen[:, 1] - seen[:, 0], axis=1).max(), _LEAST_LENGTH_PX)
    _, nose_y, nose_z, _, mouth_y, mouth_z = _fitted(seen).form
    return float((nose_z * mouth_y - nose_y * mouth_z) / np.hypot(mouth_y, mouth_z))


def _judged(
    points: Array,
    yaws_deg: tuple[float, ...],
    actions: Sequence[Action],
    mirrored: bool | None,
    thresholds: TurnThresholds,
) -> Turns:
    if abs(yaws_deg[0]) > thresholds.most_frontal_deg:
        return Turns(TurnCode.NOT_FRONTAL, yaws_deg)
    turned_deg = [yaw - yaws_deg[0] for yaw in yaws_deg]
    peaks = _peaks(turned_deg, thresholds)
    sides = [1 if turned_deg[peak] > 0 else -1 for peak in peaks]
    seen = _actions_seen(sides, actions, mirrored)
    if seen < max(len(actions), len(sides)):
        code = TurnCode.NOT_TURNED if seen == len(sides) else TurnCode.WRONG_TURN
        return Turns(code, yaws_deg, failed_action=seen)
    shift = min(nose_shift(points[0], points[peak]) for peak in peaks)
    relief = nose_relief(list(points[[0, *peaks]]))
    is_deep = shift >= thresholds.least_shift and relief >= thresholds.least_relief
    return Turns(TurnCode.PASSED if is_deep else TurnCode.FLAT, yaws_deg, shift, relief)


def _peaks(turned_deg: Sequence[float], thresholds: TurnThresholds) -> list[int]:
    """For each turn, the frame in which it went farthest."""
    peaks: list[int] = []
    turning = 0
    for frame, deg in enumerate(turned_deg):
        side = 1 if deg > 0 else -1
        if abs(deg) < thresholds.least_turn_deg:
            turning = 0 if abs(deg) <= thresholds.most_returned_deg else turning
        elif side != turning:
            peaks.append(frame)
            turning = side
        elif abs(deg) > abs(turned_deg[peaks[-1]]):
            peaks[-1] = frame
    return peaks


def _actions_seen(sides: Sequence[int], actions: Sequence[Action], mirrored: bool | None) -> int:
    """How many of the first actions were made, in the mirror image that is allowed and fits best."""
    lefts = {None: (1, -1), False: (1,), True: (-1,)}[mirrored]
    return max(
        _alike(sides, [left if action is Action.TURN_LEFT else -left for action in actions]) for left in lefts
    )


def _alike(sides: Sequence[int], wanted: Sequence[int]) -> int:
    """The length of the beginning that both have in common."""
    pairs = enumerate(zip(sides, wanted, strict=False))
    return next((n for n, (made, asked) in pairs if made != asked), min(len(sides), len(wanted)))


def _stacked(frames: Sequence[npt.ArrayLike]) -> Array:
    """n x 5 x 2."""
    arrays = [np.asarray(frame, dtype=np.float64) for frame in frames]
    if any(array.shape != (5, 2) for array in arrays):
        raise ValueError(f"landmarks are 5 x 2, not {[array.shape for array in arrays]}")
    return np.stack(arrays) if arrays else np.zeros((0, 5, 2))


def _is_usable(landmarks: Array) -> bool:
    if not np.isfinite(landmarks).all() or np.abs(landmarks).max() > _LARGEST_COORDINATE_PX:
        return False
    long, short = np.linalg.svd(landmarks - landmarks.mean(axis=0), compute_uv=False)
    return bool(long > _LEAST_LENGTH_PX and short > _LEAST_SPREAD * long)


def _require_usable(points: Array) -> None:
    if not (len(points) and all(map(_is_usable, points))):
        raise ValueError("landmarks must be finite and not all in one place or line")


def _homography(here: Array, there: Array) -> Array:
    """3 x 3, from four points to four."""
    rows = [
        row
        for (x, y), (u, v) in zip(here, there, strict=True)
        for row in ([x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y])
    ]
    return np.append(np.linalg.lstsq(np.array(rows), there.ravel(), rcond=None)[0], 1).reshape(3, 3)


def _yaws_deg(points: Array) -> Array:
    forward = _pose(points)[0][:, 2]
    return np.degrees(np.arctan2(-forward[:, 0], forward[:, 2]))


def _pose(points: Array) -> tuple[Array, Array]:
    """For each frame the rotation and the scale that bring the typical head nearest to its landmarks: n x 3 x 3 and
    n."""
    seen = points - points.mean(axis=1, keepdims=True)
    affine = (_MODEL_INVERSE @ seen).transpose(0, 2, 1)
    left, stretch, right = np.linalg.svd(affine, full_matrices=False)
    flat, scales = left @ right, stretch.mean(axis=1)
    forward = np.cross(flat[:, 0], flat[:, 1])
    for _ in range(_POSE_STEPS):
        depth = scales[:, None] * (forward @ _MODEL.T)
        rotations, scales = _turned(np.concatenate([seen, depth[..., None]], axis=2))
        forward = rotations[:, 2]
    return rotations, scales


def _turned(seen: Array) -> tuple[Array, Array]:
    """The rotation and scale from the typical head to each of ``seen``, n x 5 x 3 (Umeyama, IEEE TPAMI 13(4), 1991)."""
    left, stretch, right = np.linalg.svd(seen.transpose(0, 2, 1) @ _MODEL)
    proper = np.linalg.det(left @ right)
    left[:, :, 2] *= proper[:, None]
    stretch[:, 2] *= proper
    return left @ right, stretch.sum(axis=1) / (_MODEL**2).sum()


@dataclass(frozen=True, slots=True, eq=False)
class _Views:
    """A head's form, and how each frame sees it."""

    form: Array
    rotations: Array
    scales: Array

    def of(self, thing: Array) -> Array:
        """n x 5 x 2: what the frames see of ``thing``, 5 x 3."""
        return np.asarray(self.scales[:, None, None] * (thing @ self.rotations.transpose(0, 2, 1)))


def _fitted(seen: Array) -> _Views:
    rotations, scales = _pose(seen)
    views = _Views(_TYPICAL, rotations[:, :2], scales)
    for _ in range(_MOST_STEPS):
        before, views = views.form, _better(views, seen)
        if np.abs(views.form - before).max() < _LEAST_STEP:
            break
    return views


def _better(views: _Views, seen: Array) -> _Views:
    """A damped Gauss-Newton step of form and poses together towards what was ``seen`` (bundle adjustment)."""
    head = _head(views.form)
    head = head - head.mean(axis=0)
    by_form = [views.of(part) for part in _PARTS]
    by_pose = [
        *(views.of(np.cross(axis, head)) for axis in np.eye(3)),
        views.of(head) / views.scales[:, None, None],
    ]
    slopes = np.hstack([_columns(by_form).reshape(-1, len(_PARTS)), _block_diagonal(_columns(by_pose))])
    to_typical = np.eye(len(_PARTS), slopes.shape[1]) * _TRUST[:, None]
    rows = np.vstack([slopes, to_typical, _DAMPING * np.eye(slopes.shape[1])])
    missing = np.concatenate([(seen - views.of(head)).ravel(), _TRUST * (_TYPICAL - views.form)])
    step = np.linalg.lstsq(rows, np.pad(missing, (0, len(rows) - len(missing))), rcond=None)[0]
    return _moved(views, step[: len(_PARTS)], step[len(_PARTS) :].reshape(-1, 4))


def _moved(views: _Views, form: Array, poses: Array) -> _Views:
    turned = views.rotations + np.cross(views.rotations, poses[:, None, :3])
    left, _, right = np.linalg.svd(turned, full_matrices=False)
    return _Views(views.form + form, left @ right, views.scales + poses[:, 3])


def _columns(derivatives: list[Array]) -> Array:
    """n x 10 x the number of derivatives, each n x 5 x 2."""
    return np.stack(derivatives, axis=-1).reshape(len(derivatives[0]), 10, -1)


def _block_diagonal(blocks: Array) -> Array:
    count, rows, columns = blocks.shape
    placed = np.zeros((count, rows, count, columns))
    placed[np.arange(count), :, np.arange(count)] = blocks
    return placed.reshape(count * rows, count * columns)
