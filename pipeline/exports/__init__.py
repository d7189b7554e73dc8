"""Token datasets in the formats of other trainers.

job           reads a pinned version and writes one export, whole or not at all
webdataset    tar shards of arrays and JSON
huggingface   Parquet files that load_dataset(directory) reads
megatron      one file of ids and its index
videos        clips gathered by video, as interleaved sequences
"""
