"""Video corpora to token datasets, on Ray: the data's way, one module per step.

    sources, storage     which videos there are, and how to reach their bytes
    planning             what is left to do
    decoding, clips, preprocessing
                         files to clips, in a child process that can be killed
    encoding             clips to token ids
    dataset              the Delta table: rows, lineage, quarantine, commits
    engine, cluster      all of it on Ray Data, or in this process
    tokenization         the job that puts these together
    training             fitting a tokenizer with Ray Train
    reconstruction, comparison, preview, dataset_report, decode_job
                         back from tokens to video, numbers and pictures
    records, transport   what travels between the steps, and how
    cli, quickstart, sample_videos
                         what the scripts in jobs/ share

Stages are plain classes; Ray is imported in `cluster`, `engine` and `training` only.
"""
