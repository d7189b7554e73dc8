"""The recorded human motions, as poses at any time.

A motion is a list of key frames: root position, root rotation, twelve joints. Between two of them
rotations are interpolated on the shorter way and renormalised; a motion that repeats goes on from
where its last cycle ended, with the heading it had there.

Source: the file layout (duration, root position, root rotation, then the joints in this order, w
first in every quaternion) is that of Peng et al., DeepMimic, arXiv:1804.02717; the files come with
pybullet_data.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from pipeline.errors import SourceError

# The classes, in the order of their label numbers.
MOTION_NAMES = (
    "backflip", "cartwheel", "crawl", "dance_a", "dance_b",
    "getup_facedown", "getup_faceup", "jump", "kick", "punch",
    "roll", "run", "spin", "spinkick", "walk",
)  # fmt: skip
# Joints in the order of the files; a spherical one has a quaternion, a hinge an angle.
SPHERICAL, HINGE = 4, 1
JOINTS = (
    ("chest", SPHERICAL), ("neck", SPHERICAL),
    ("right_hip", SPHERICAL), ("right_knee", HINGE), ("right_ankle", SPHERICAL),
    ("right_shoulder", SPHERICAL), ("right_elbow", HINGE),
    ("left_hip", SPHERICAL), ("left_knee", HINGE), ("left_ankle", SPHERICAL),
    ("left_shoulder", SPHERICAL), ("left_elbow", HINGE),
)  # fmt: skip
_HELD = ("getup_facedown", "getup_faceup")  # end standing and stay so
# The last pose of a recording is not its first: from one to the other no joint turns faster.
_SEAM_DEGREES_PER_S = 600.0
_MIN_SEAM_S = 1 / 60

Quaternions = Float[np.ndarray, "n 4"]  # x, y, z, w: the renderer's order


@dataclass(frozen=True, eq=False)
class Poses:
    """The figure at n moments.

    Attributes:
        positions_m: float [n, 3], the root; y is up.
        rotations: float [n, 4], the root's unit quaternions (x, y, z, w).
        joints: For each of `JOINTS` its quaternions [n, 4] or angles [n, 1] in radians.
    """

    positions_m: Float[np.ndarray, "n 3"]
    rotations: Quaternions
    joints: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Motion:
    """One recorded motion.

    Attributes:
        name: One of `MOTION_NAMES`.
        times_s: float [k], when each key frame is reached; starts at 0.
        keys: The key frames' poses.
        ending: "repeat" begins again where the cycle ended, "hold" keeps the last pose.
    """

    name: str
    times_s: Float[np.ndarray, " k"]
    keys: Poses
    ending: Literal["repeat", "hold"]

    @property
    def duration_s(self) -> float:
        """Length of one cycle."""
        return float(self.times_s[-1])

    def poses_at(self, times_s: Float[np.ndarray, " n"]) -> Poses:
        """The figure at any times of at least 0."""
        if self.ending == "hold":
            return self._within_cycle(np.minimum(times_s, self.duration_s))
        cycles, within_s = np.divmod(times_s, self.duration_s)
        poses = self._within_cycle(within_s)
        positions_m, rotations = self._carried_on(poses, cycles.astype(int))
        return Poses(positions_m, rotations, poses.joints)

    def _within_cycle(self, times_s: Float[np.ndarray, " n"]) -> Poses:
        last = len(self.times_s) - 2
        index = np.clip(np.searchsorted(self.times_s, times_s, side="right") - 1, 0, last)
        start_s, end_s = self.times_s[index], self.times_s[index + 1]
        share = ((times_s - start_s) / (end_s - start_s))[:, None]

        def between(values: np.ndarray) -> np.ndarray:
            mixed = values[index] * (1 - share) + values[index + 1] * share
            return _unit(mixed) if values.shape[1] == SPHERICAL else mixed

        return Poses(
            between(self.keys.positions_m),
            between(self.keys.rotations),
            tuple(between(joint) for joint in self.keys.joints),
        )

    def _carried_on(
        self, poses: Poses, cycles: np.ndarray
    ) -> tuple[Float[np.ndarray, "n 3"], Quaternions]:
        """Root poses after so many whole cycles: each moves and turns the figure on the ground."""
        turn_rad = _heading_rad(self.keys.rotations[-1]) - _heading_rad(self.keys.rotations[0])
        level = np.array([1.0, 0.0, 1.0])
        first, last = self.keys.positions_m[0] * level, self.keys.positions_m[-1] * level
        positions_m, rotations = poses.positions_m.copy(), poses.rotations.copy()
        for done in range(int(cycles.max(initial=0))):
            later = cycles > done
            positions_m[later] = _turned(positions_m[later] - first, turn_rad) + last
            rotations[later] = _times_heading(turn_rad, rotations[later])
        return positions_m, rotations


@cache
def load_motion(name: str) -> Motion:
    """Reads one of `MOTION_NAMES` from pybullet's data.

    Raises:
        SourceError: pybullet is not installed, or its data lack the motion.
    """
    path = data_directory() / "data" / "motions" / f"humanoid3d_{name}.txt"
    try:
        frames = np.array(json.loads(path.read_text("utf-8"))["Frames"], dtype=np.float64)
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(
            f"{path}: the motion cannot be read ({error}); reinstall pybullet"
        ) from error
    return motion_from_frames(name, frames)


def motion_from_frames(name: str, frames: Float[np.ndarray, "k 44"]) -> Motion:
    """A motion from the rows of its file: duration in seconds, position, rotation, joints."""
    times_s = np.concatenate([[0.0], np.cumsum(frames[:-1, 0])])
    joints, column = [], 8
    for _, size in JOINTS:
        values = frames[:, column : column + size]
        joints.append(_same_side(values) if size == SPHERICAL else values)
        column += size
    keys = Poses(frames[:, 1:4], _same_side(frames[:, 4:8]), tuple(joints))
    if name in _HELD:
        return Motion(name, times_s, keys, "hold")
    closed = _with_first_pose_again(keys)
    seam_s = max(_MIN_SEAM_S, _last_turn_degrees(closed) / _SEAM_DEGREES_PER_S)
    return Motion(name, np.append(times_s, times_s[-1] + seam_s), closed, "repeat")


def data_directory() -> Path:
    """Where pybullet keeps the figure and its motions.

    Raises:
        SourceError: pybullet is not installed.
    """
    found = importlib.util.find_spec("pybullet_data")
    if found is None or found.origin is None:
        raise SourceError(
            "the motion corpus is rendered with pybullet, which is not installed; "
            "install the extra: pip install -e '.[motion]'"
        )
    return Path(found.origin).parent


def _same_side(wxyz: Float[np.ndarray, "k 4"]) -> Quaternions:
    """Unit quaternions in the renderer's order, each of the sign nearer to the one before it."""
    quaternions = _unit(wxyz[:, [1, 2, 3, 0]])
    for index in range(1, len(quaternions)):
        if quaternions[index] @ quaternions[index - 1] < 0:
            quaternions[index] *= -1
    return quaternions


def _with_first_pose_again(keys: Poses) -> Poses:
    """Appends the first pose, standing where the last one stands and facing as it does."""
    turn_rad = _heading_rad(keys.rotations[-1]) - _heading_rad(keys.rotations[0])
    position = keys.positions_m[-1] * [1, 0, 1] + keys.positions_m[0] * [0, 1, 0]
    rotation = _times_heading(turn_rad, keys.rotations[:1])[0]

    def closed(values: np.ndarray, end: np.ndarray) -> np.ndarray:
        opposite = len(end) == SPHERICAL and values[-1] @ end < 0
        return np.vstack([values, -end if opposite else end])

    return Poses(
        closed(keys.positions_m, position),
        closed(keys.rotations, rotation),
        tuple(closed(joint, joint[0]) for joint in keys.joints),
    )


def _last_turn_degrees(keys: Poses) -> float:
    """The largest rotation of root or joint from the last key frame but one to the last."""
    turns_rad = [
        2 * np.arccos(np.clip(np.abs(values[-1] @ values[-2]), 0, 1))
        if values.shape[1] == SPHERICAL
        else np.abs(values[-1] - values[-2]).item()
        for values in (keys.rotations, *keys.joints)
    ]
    return float(np.degrees(max(turns_rad)))


def _unit(quaternions: Quaternions) -> Quaternions:
    return quaternions / np.linalg.norm(quaternions, axis=-1, keepdims=True)


def _heading_rad(quaternion: Float[np.ndarray, " 4"]) -> float:
    """The part of a rotation that turns about the vertical."""
    return 2.0 * float(np.arctan2(quaternion[1], quaternion[3]))


def _turned(points: Float[np.ndarray, "n 3"], angle_rad: float) -> Float[np.ndarray, "n 3"]:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    x, y, z = points.T
    return np.stack([cosine * x + sine * z, y, cosine * z - sine * x], axis=1)


def _times_heading(angle_rad: float, quaternions: Quaternions) -> Quaternions:
    """The rotations, followed by a turn about the vertical."""
    turn_y, turn_w = np.sin(angle_rad / 2), np.cos(angle_rad / 2)
    x, y, z, w = quaternions.T
    return np.stack(
        [
            turn_w * x + turn_y * z,
            turn_w * y + turn_y * w,
            turn_w * z - turn_y * x,
            turn_w * w - turn_y * y,
        ],
        axis=1,
    )
