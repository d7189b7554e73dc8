"""Storage settings in the words of the `deltalake` library.

Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY …), where the
library finds them by itself: they are never an option here, so they cannot reach a log, a
config file or the dataset.

The library repeats a failing request (503 SlowDown, reset, no answer for 30 s) by itself, 10 times
within 3 minutes, with growing waits; `pipeline.dataset.commits` adds what it leaves out.
"""

from __future__ import annotations

from pipeline.storage import StorageConfig


def delta_storage_options(config: StorageConfig | None) -> dict[str, str]:
    """The options to open a Delta table with, from the pipeline's storage settings.

    `config.options` belong to the readers of videos (fsspec) and are not used here; what the
    Delta library needs beyond the other fields it takes from the environment (AWS_…, GOOGLE_…).
    """
    # Two writers must never both win the same version: the store decides by conditional put.
    options = {"aws_conditional_put": "etag"}
    if config is None:
        return options
    if config.endpoint_url is not None:
        options["aws_endpoint_url"] = config.endpoint_url
        options["aws_virtual_hosted_style_request"] = "false"
        if config.endpoint_url.startswith("http://"):
            options["aws_allow_http"] = "true"
    if config.region is not None:
        options["aws_region"] = config.region
    if config.anonymous:
        options["aws_skip_signature"] = "true"
    return options
