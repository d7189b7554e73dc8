"""Renders one planned clip: pybullet's figure in front of a tiled floor, by software alone.

pybullet draws the figure (its TinyRenderer needs no display and no GPU); floor and sky are drawn
here, by intersecting the rays of the same camera with the ground.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, UInt8

from pipeline.motion_corpus.captions import COLOURS, SIZES, SPEEDS
from pipeline.motion_corpus.motions import JOINTS, Poses, data_directory, load_motion
from pipeline.motion_corpus.plans import ClipPlan

_URDF_SCALE = 0.25  # the figure's file is four times life size
_FIELD_OF_VIEW_DEGREES = 50.0
_NEAR_M, _FAR_M = 0.1, 20.0
_TARGET_HEIGHT_M = 0.8
_FOLLOW_S = 0.5  # the camera follows the figure's mean place over this long
_TILE_M = 0.75
_TILE_CONTRAST = 0.22
_FADE_M = 5.0  # where the tiles melt into one colour
_SHADOW_RADIUS_M = 0.35
_SKIN = np.array([0.90, 0.72, 0.58])
_LEG_SHADE, _ARM_SHADE = 0.6, 0.8
_BASE = -1  # pybullet's link number of the body itself
_OUTPUTS = (1, 2)  # file descriptors of standard output and error


class FigureRenderer:
    """pybullet in this process, for as long as the `with` block lasts.

    Args:
        size_px: Edge of the square frames.
        fps: Frames per second of the clips.

    Raises:
        SourceError: pybullet is not installed.
    """

    def __init__(self, size_px: int, fps: float) -> None:
        data_directory()
        self.size_px = size_px
        self.fps = fps
        self._bullet = _import_bullet()
        self._client = self._bullet.connect(self._bullet.DIRECT)
        self._rays = _pixel_rays(size_px)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bullet.disconnect(physicsClientId=self._client)

    def render(self, plan: ClipPlan, num_frames: int) -> UInt8[np.ndarray, "t h w 3"]:
        """The clip's frames, RGB in [0, 255]; the same plan always gives the same pixels."""
        size = SIZES[plan.size]
        times_s = plan.start_s + np.arange(num_frames) / self.fps * SPEEDS[plan.speed]
        poses = load_motion(plan.motion).poses_at(times_s)
        positions_m = poses.positions_m * size
        targets_m = _smoothed(positions_m, max(1, round(_FOLLOW_S * self.fps)))
        targets_m[:, 1] = _TARGET_HEIGHT_M
        self._bullet.resetSimulation(physicsClientId=self._client)
        figure = self._load_figure(plan, size)
        frames = np.empty((num_frames, self.size_px, self.size_px, 3), np.uint8)
        for index in range(num_frames):
            self._pose(figure, poses, index, positions_m[index])
            camera = _Camera(plan, targets_m[index])
            pixels, is_figure = self._draw(camera)
            behind = _background(plan, camera, self._rays, positions_m[index])
            frames[index] = np.where(is_figure[..., None], pixels, behind)
        return frames

    def _load_figure(self, plan: ClipPlan, size: float) -> int:
        bullet, client = self._bullet, self._client
        with _without_native_output():
            figure = bullet.loadURDF(
                str(data_directory() / "humanoid" / "humanoid.urdf"),
                globalScaling=_URDF_SCALE * size,
                useFixedBase=True,
                physicsClientId=client,
            )
        self._joints = {
            bullet.getJointInfo(figure, number, physicsClientId=client)[1].decode(): number
            for number in range(bullet.getNumJoints(figure, physicsClientId=client))
        }
        for name, number in {"root": _BASE, **self._joints}.items():
            colour = [*_part_colour(name, plan).tolist(), 1.0]
            bullet.changeVisualShape(figure, number, rgbaColor=colour, physicsClientId=client)
        return int(figure)

    def _pose(self, figure: int, poses: Poses, index: int, position_m: np.ndarray) -> None:
        bullet, client = self._bullet, self._client
        bullet.resetBasePositionAndOrientation(
            figure, position_m.tolist(), poses.rotations[index].tolist(), physicsClientId=client
        )
        for (name, _), values in zip(JOINTS, poses.joints, strict=True):
            bullet.resetJointStateMultiDof(
                figure, self._joints[name], values[index].tolist(), physicsClientId=client
            )

    def _draw(self, camera: _Camera) -> tuple[UInt8[np.ndarray, "h w 3"], Bool[np.ndarray, "h w"]]:
        bullet = self._bullet
        view = bullet.computeViewMatrix(camera.eye_m.tolist(), camera.target_m.tolist(), [0, 1, 0])
        projection = bullet.computeProjectionMatrixFOV(_FIELD_OF_VIEW_DEGREES, 1, _NEAR_M, _FAR_M)
        _, _, rgba, _, bodies = bullet.getCameraImage(
            self.size_px,
            self.size_px,
            view,
            projection,
            lightDirection=[1.0, 2.0, 1.5],
            shadow=0,
            renderer=bullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        shape = (self.size_px, self.size_px)
        pixels = np.asarray(rgba, np.uint8).reshape(*shape, 4)[..., :3]
        return pixels, np.asarray(bodies).reshape(shape) >= 0


class _Camera:
    """Where a frame is seen from, and the directions of its axes."""

    def __init__(self, plan: ClipPlan, target_m: Float[np.ndarray, " 3"]) -> None:
        azimuth, elevation = np.radians([plan.azimuth_degrees, plan.elevation_degrees])
        level = np.array([np.cos(azimuth), 0.0, np.sin(azimuth)])
        away = np.cos(elevation) * level + np.sin(elevation) * np.array([0.0, 1.0, 0.0])
        self.target_m = target_m
        self.eye_m = target_m + plan.distance_m * away
        self.forward = -away
        self.right = np.cross(self.forward, [0.0, 1.0, 0.0])
        self.right /= np.linalg.norm(self.right)
        self.up = np.cross(self.right, self.forward)


def _background(
    plan: ClipPlan,
    camera: _Camera,
    rays: Float[np.ndarray, "h w 2"],
    figure_m: Float[np.ndarray, " 3"],
) -> UInt8[np.ndarray, "h w 3"]:
    """Tiles where a pixel's ray meets the ground, a gradient where it does not."""
    directions = camera.forward + rays @ np.stack([camera.right, camera.up])
    downwards = np.minimum(directions[..., 1], -1e-6)
    reach = -camera.eye_m[1] / downwards
    x, z = (camera.eye_m[axis] + reach * directions[..., axis] for axis in (0, 2))
    is_odd = (np.floor(x / _TILE_M) + np.floor(z / _TILE_M)) % 2
    contrast = _TILE_CONTRAST * np.exp(-((reach / _FADE_M) ** 2))
    light = 1 + contrast * (is_odd - 0.5)
    distance = np.hypot(x - figure_m[0], z - figure_m[2])
    light -= 0.35 * np.exp(-((distance / _SHADOW_RADIUS_M) ** 2))
    ground = light[..., None] * np.array(plan.floor)
    height = np.clip(directions[..., 1], 0, 1)[..., None]
    sky = np.array(plan.sky) * (1 - 0.25 * height)
    colours = np.where((directions[..., 1] < 0)[..., None], ground, sky)
    return (np.clip(colours, 0, 1) * 255).round().astype(np.uint8)


def _pixel_rays(size_px: int) -> Float[np.ndarray, "h w 2"]:
    """How far right and up of the camera's axis each pixel looks, per metre ahead."""
    reach = np.tan(np.radians(_FIELD_OF_VIEW_DEGREES / 2))
    centres = ((np.arange(size_px) + 0.5) / size_px * 2 - 1) * reach
    return np.stack(np.meshgrid(centres, -centres), axis=-1)


def _part_colour(name: str, plan: ClipPlan) -> Float[np.ndarray, " 3"]:
    if name == "neck" or name.endswith("_wrist"):
        return _SKIN
    shade = plan.shade
    if name.endswith(("_hip", "_knee", "_ankle")):
        shade *= _LEG_SHADE
    elif name.endswith(("_shoulder", "_elbow")):
        shade *= _ARM_SHADE
    return np.clip(np.array(COLOURS[plan.colour]) * shade, 0, 1)


def _smoothed(positions_m: Float[np.ndarray, "n 3"], width: int) -> Float[np.ndarray, "n 3"]:
    """A moving mean along time; beyond the ends the figure goes on as it went."""
    margin = ((width // 2, width - 1 - width // 2), (0, 0))
    padded = np.pad(positions_m, margin, mode="reflect", reflect_type="odd")
    kernel = np.full(width, 1 / width)
    columns = [np.convolve(column, kernel, mode="valid") for column in padded.T]
    return np.stack(columns, axis=1)


def _import_bullet() -> ModuleType:
    with _without_native_output():
        import pybullet

    return pybullet


@contextlib.contextmanager
def _without_native_output() -> Iterator[None]:
    """Keeps what pybullet's C++ parts print (greetings, URDF warnings) off the terminal."""
    streams = (sys.stdout, sys.stderr)
    kept = [os.dup(number) for number in _OUTPUTS]
    for stream in streams:
        stream.flush()
    try:
        with open(os.devnull, "wb") as nowhere:
            for number in _OUTPUTS:
                os.dup2(nowhere.fileno(), number)
        yield
        for stream in streams:
            stream.flush()
        ctypes.CDLL(None).fflush(None)  # what C holds back goes nowhere too
    finally:
        for number, copy in zip(_OUTPUTS, kept, strict=True):
            os.dup2(copy, number)
            os.close(copy)
