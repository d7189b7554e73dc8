"""Credentials in names and URIs, which must never reach a stored configuration or a dataset."""

from __future__ import annotations

import os
import re

_SECRET_WORDS = ("key", "secret", "token", "password", "credential")
# A password may hold slashes, as secret keys do; what follows "host:" may be a port instead.
_PASSWORD = re.compile(r"://[^/?#\s:@]*:(?!\d{1,5}(?:[/?#\s]|$))[^?#\s@]*@")
_SIGNED = re.compile(
    r"[?&](?P<name>[^=&#\s]*(?:signature|credential|secret|password|token|accesskey|api_?key)"
    r"[^=&#\s]*|sig)=",
    re.IGNORECASE,
)
_SIGNED_WITHIN = re.compile(_SIGNED.pattern + r"[^&#\s'\"]*", re.IGNORECASE)
_LEAST_SECRET_LENGTH = 8  # shorter values of the environment are words that may stand anywhere
_HIDDEN = "***"


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


def redacted(text: str) -> str:
    """`text` without the credentials in it: what drivers put into messages is not in our hands.

    Hidden are user names with passwords and signatures in URIs, and whatever this process's
    environment holds under the name of a secret.
    """
    text = _PASSWORD.sub(f"://{_HIDDEN}@", text)
    text = _SIGNED_WITHIN.sub(lambda found: f"{found[0][0]}{found['name']}={_HIDDEN}", text)
    for value in _environment_secrets():
        text = text.replace(value, _HIDDEN)
    return text


def _environment_secrets() -> list[str]:
    """Values of secrets in the environment, the longest first: one may be a part of another."""
    values = {value for name, value in os.environ.items() if is_secret_name(name)}
    # A path is where a secret lies, not the secret.
    secrets = [value for value in values if len(value) >= _LEAST_SECRET_LENGTH and value[0] != "/"]
    return sorted(secrets, key=len, reverse=True)
