"""The geometry of a clip, from which every size in the model is derived.

A clip of T = 1 + k·tube_frames frames at H×W pixels becomes a latent grid of 1 + k latent frames of
(H/patch) × (W/patch) cells: the first frame alone in 1×p×p patches, the rest in tubes.

Axis names used in shapes throughout the package:

    b  clips in the batch          t  frames of the clip, T        c  colour channels (3)
    h  height in pixels, H         w  width in pixels, W           d  model width
    l  latent frames, 1 + k        k  tubes (latent frames after the first)
    y  latent grid rows            x  latent grid columns
    s  spatial tokens of a clip    m  temporal (motion) tokens of a clip
    v  words of a codebook         e  code dimension

Source: arXiv:2412.10443, section 3.1 (patch embedding of the first frame and of the tubes).
Differs: the released code fixes 17×256×256; here any size that divides is allowed.
"""

from __future__ import annotations

import pydantic
import pydantic_core

from sweettok.errors import ShapeError
from sweettok.strict_config import StrictConfig


class ClipGeometry(StrictConfig):
    """Size of the clips a tokenizer takes, and of the patches it cuts them into.

    Attributes:
        num_frames: Frames per clip, 1 + k·tube_frames (k = 0 is a single image).
        height_px, width_px: Frame size in pixels, multiples of `patch_px`.
        patch_px: Edge of a square patch in pixels.
        tube_frames: Frames that one tube covers.
    """

    num_frames: int = pydantic.Field(default=17, ge=1)
    height_px: int = pydantic.Field(default=256, ge=1)
    width_px: int = pydantic.Field(default=256, ge=1)
    patch_px: int = pydantic.Field(default=8, ge=1)
    tube_frames: int = pydantic.Field(default=4, ge=1)

    @pydantic.model_validator(mode="after")
    def _sizes_divide(self) -> ClipGeometry:
        if (self.num_frames - 1) % self.tube_frames:
            below = self.num_frames - (self.num_frames - 1) % self.tube_frames
            raise ValueError(
                f"num_frames must be 1 + a multiple of tube_frames={self.tube_frames}, "
                f"got {self.num_frames}; use {below} or {below + self.tube_frames}"
            )
        for name in ("height_px", "width_px"):
            if getattr(self, name) % self.patch_px:
                raise ValueError(
                    f"{name} must be a multiple of patch_px={self.patch_px}, "
                    f"got {getattr(self, name)}"
                )
        return self

    @property
    def num_tubes(self) -> int:
        """k, the latent frames after the first."""
        return (self.num_frames - 1) // self.tube_frames

    @property
    def num_latent_frames(self) -> int:
        """1 + k."""
        return 1 + self.num_tubes

    @property
    def grid_height(self) -> int:
        """Rows of the latent grid."""
        return self.height_px // self.patch_px

    @property
    def grid_width(self) -> int:
        """Columns of the latent grid."""
        return self.width_px // self.patch_px

    @property
    def num_cells(self) -> int:
        """Cells of one latent frame."""
        return self.grid_height * self.grid_width

    def of_size(
        self,
        *,
        num_frames: int | None = None,
        height_px: int | None = None,
        width_px: int | None = None,
    ) -> ClipGeometry:
        """The same patches and tubes for clips of another size (None keeps a size).

        Raises:
            ShapeError: The patches or the tubes do not divide it.
        """
        wanted = {"num_frames": num_frames, "height_px": height_px, "width_px": width_px}
        changes = {name: value for name, value in wanted.items() if value is not None}
        try:
            return ClipGeometry.model_validate(self.model_dump() | changes)
        except pydantic.ValidationError as error:
            raise ShapeError("; ".join(_reason(item) for item in error.errors())) from None

    @property
    def image(self) -> ClipGeometry:
        """The same geometry for a single frame (image mode)."""
        return self.model_copy(update={"num_frames": 1})


def _reason(item: pydantic_core.ErrorDetails) -> str:
    name = "".join(f"{part}: " for part in item["loc"])
    return name + item["msg"].removeprefix("Value error, ")
