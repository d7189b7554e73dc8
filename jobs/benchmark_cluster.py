"""Measures how the engine scales over a cluster that one machine pretends to be.

Many raylets on this machine, each with a GPU that does not exist; made-up clips, and encoders that
sleep for a known time per clip. All else is real: scheduling, the object store, batches, the
committer, the dataset. Prints throughput per size beside linear scaling, and what clips cost the
driver; writes all figures to a JSON file and the curve to a picture. Each size takes `duration_s`,
each node about 200 MB of memory.
"""

import sys

from pipeline.cli import run_job
from pipeline.scaling.cluster_config import ClusterBenchmarkConfig
from pipeline.scaling.cluster_run import benchmark_cluster


def main(config: ClusterBenchmarkConfig) -> None:
    """Measures, prints and says where the files are."""
    print(benchmark_cluster(config).text())
    print(f"\nall figures: {config.output}; the curve: {config.picture}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            ClusterBenchmarkConfig,
            main,
            example="python jobs/benchmark_cluster.py --config configs/benchmark_cluster.yaml "
            "--set num_gpus=[1,4]",
        )
    )
