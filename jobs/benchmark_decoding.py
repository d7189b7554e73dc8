"""Measures decoding: every decoder, thread count and way of resizing beside FFmpeg's own program.

Encodes the frames of one video in several codecs, sizes and key frame distances, reads the files
in every way by turns, prints one table and writes all numbers to a JSON file.
"""

import sys

from pipeline.cli import run_job
from pipeline.decoding_benchmark import DecodingBenchmarkConfig, run_decoding_benchmark


def main(config: DecodingBenchmarkConfig) -> None:
    """Measures, prints and says where the JSON file is."""
    print(run_decoding_benchmark(config).table())
    print(f"all numbers: {config.output}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            DecodingBenchmarkConfig,
            main,
            example="python jobs/benchmark_decoding.py --config configs/benchmark_decoding.yaml "
            "--set codecs=[h264] --set num_rounds=3",
        )
    )
