"""SweetTok: a video tokenizer whose tokens are words.

The tokenizer of arXiv:2412.10443 (a Decoupled Query AutoEncoder with a Motion-enhanced Language
Codebook) in plain PyTorch. This package knows nothing of the pipeline or of Ray.

The names below load on first use: reading a configuration, as a decoding process does, must not
cost an import of torch (two seconds, half a gigabyte).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sweettok.config import SweetTokConfig
    from sweettok.errors import SweetTokError
    from sweettok.geometry import ClipGeometry
    from sweettok.lexicon import Lexicon
    from sweettok.model import SweetTok
    from sweettok.patches import pixels_to_video, video_to_pixels
    from sweettok.tiling import TilePlan, decode_tiles, encode_tiles
    from sweettok.tokens import Tokens

__version__ = "0.1.0"

__all__ = [
    "ClipGeometry",
    "Lexicon",
    "SweetTok",
    "SweetTokConfig",
    "SweetTokError",
    "TilePlan",
    "Tokens",
    "__version__",
    "decode_tiles",
    "encode_tiles",
    "pixels_to_video",
    "video_to_pixels",
]

_MODULES = {
    "ClipGeometry": "geometry",
    "Lexicon": "lexicon",
    "SweetTok": "model",
    "SweetTokConfig": "config",
    "SweetTokError": "errors",
    "TilePlan": "tiling",
    "Tokens": "tokens",
    "decode_tiles": "tiling",
    "encode_tiles": "tiling",
    "pixels_to_video": "patches",
    "video_to_pixels": "patches",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
