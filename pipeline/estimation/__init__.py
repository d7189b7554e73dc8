"""What a run would do, cost and leave, from a sample of the videos that it would work on.

config.py      how many videos are looked at, and what the result is reckoned for
sampling.py    which videos: seeded, stratified by size; totals with their intervals
measuring.py   decodes and encodes the sample in this process
table_size.py  how many bytes the rows take, without writing them anywhere
start_up.py    how long it takes until the stages are at work
prediction.py  what a cluster makes of the measured costs
estimate.py    the whole: `jobs/tokenize_corpus.py --dry-run`
"""
