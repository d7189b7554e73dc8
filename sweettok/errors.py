"""The errors of the tokenizer package: one small tree; messages name value, limit and remedy."""


class SweetTokError(ValueError):
    """Base of every error that `sweettok` raises for a user's input."""


class ConfigError(SweetTokError):
    """A configuration has an unknown key, a wrong type or an impossible combination."""


class LexiconError(SweetTokError):
    """A lexicon artifact is missing a part, is damaged or does not fit the model."""


class CheckpointError(SweetTokError):
    """A saved tokenizer is incomplete, altered or of another architecture."""


class ShapeError(SweetTokError):
    """A tensor does not have the shape, the type or the range that the geometry asks for."""
