"""Credentials in names and URIs, which must never reach a stored configuration or a dataset."""

from __future__ import annotations

import re

_SECRET_WORDS = ("key", "secret", "token", "password", "credential")
_PASSWORD = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]*:[^/?#\s]*@")
_SIGNED = re.compile(
    r"[?&](?P<name>[^=&#\s]*(?:signature|credential|secret|password|token|accesskey|api_?key)"
    r"[^=&#\s]*|sig)=",
    re.IGNORECASE,
)


def is_secret_name(name: str) -> bool:
    """Whether what is called so is likely a credential."""
    return any(word in name.lower() for word in _SECRET_WORDS)


def secret_in_uri(text: str) -> str | None:
    """What kind of credential a URI carries, in words that do not repeat it; None if none.

    Args:
        text: Any text; only what looks like "scheme://…" can carry one.
    """
    if "://" not in text:
        return None
    if _PASSWORD.search(text):
        return "a user name with a password"
    signed = _SIGNED.search(text)
    return None if signed is None else f"a query parameter {signed['name']!r}"
