"""Tests, and the small real corpora and models they test with."""

import os

# Before torch is loaded: threads that spin while they wait make tests beside other work far slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
