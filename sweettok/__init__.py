"""SweetTok: a video tokenizer whose tokens are words.

The tokenizer of arXiv:2412.10443 (a Decoupled Query AutoEncoder with a Motion-enhanced Language
Codebook) in plain PyTorch. This package knows nothing of the pipeline or of Ray.
"""

from sweettok.config import SweetTokConfig
from sweettok.errors import SweetTokError
from sweettok.geometry import ClipGeometry
from sweettok.lexicon import Lexicon
from sweettok.model import SweetTok
from sweettok.patches import pixels_to_video, video_to_pixels
from sweettok.tokens import Tokens

__version__ = "0.1.0"

__all__ = [
    "ClipGeometry",
    "Lexicon",
    "SweetTok",
    "SweetTokConfig",
    "SweetTokError",
    "Tokens",
    "__version__",
    "pixels_to_video",
    "video_to_pixels",
]
