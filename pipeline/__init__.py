"""Video corpora to token datasets, on Ray: the data's way, one module per step.

    sources, storage     which videos there are, and how to reach their bytes
    planning             what is left to do
    decoding, clips, preprocessing
                         files to clips, in a child process that can be killed
    encoding             clips to token ids
    dataset              the Delta table: rows, lineage, quarantine, commits
    engine, cluster      all of it on Ray Data, or in this process
    decode_task, actors  what runs in Ray's workers
    resuming, quarantine_limit, worker_errors
                         what a run does when something dies or goes wrong
    tokenization         the job that puts these together
    maintenance, verification
                         looking after a dataset: compaction, takedowns; its promises checked
    training             fitting a tokenizer with Ray Train
    reading, sequences, exports
                         tokens for training: loaders, sequences, other trainers' formats
    generator            a transformer that learns the tokens, and its samples
    reconstruction, comparison, preview, dataset_report, dataset_report_job, decode_job
                         back from tokens to video, numbers and pictures
    records, transport   what travels between the steps, and how
    cli, quickstart, sample_videos
                         what the scripts in jobs/ share

Stages are plain classes; Ray is imported in `cluster`, `engine`, `worker_errors`,
`reading.ray_data` and parts of `training` and `generator` only.
"""
