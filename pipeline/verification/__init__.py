"""Does a token dataset keep its promises? Reads all of it and says what is wrong, and where.

    verify.py       the whole check, and its settings
    findings.py     what was found: per check, as a table and as JSON
    data_files.py   every file of a version: present, whole, readable, of the table's schema
    clip_rows.py    every row: ids that can be computed again, token ids within the codebooks
    clip_keys.py    all rows together: no clip twice, no gap in a video, in bounded memory
    table_log.py    row counts and statistics, as the log has them, for this and older versions
    accounts.py     the quarantine and the summaries of the runs
    lineage.py      the lineage and the tokenizer that the dataset carries
    samples.py      some clips made again from their videos
    remedies.py     advice that several checks give

Nothing is ever changed by it. Each finding names a remedy.
"""

from pipeline.verification.findings import CheckResult, Finding, VerificationReport
from pipeline.verification.verify import VerifyConfig, verify_dataset

__all__ = ["CheckResult", "Finding", "VerificationReport", "VerifyConfig", "verify_dataset"]
