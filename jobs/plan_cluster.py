"""Says how many CPU cores a GPU needs, and what a cluster would do, from measured costs.

The costs are those that jobs/bench_pipeline.py found on machines like the planned ones. Prints what
limits the cluster, how busy its GPUs and cores would be, how many nodes are missing, how long a
corpus takes, and settings for jobs/tokenize_corpus.py; warns if the cluster is lopsided.
"""

import sys

from pipeline.cli import run_job
from pipeline.cluster_plan_job import PlanClusterConfig, plan_report


def main(config: PlanClusterConfig) -> None:
    """Plans and prints."""
    print(plan_report(config).text())


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            PlanClusterConfig,
            main,
            example="python jobs/plan_cluster.py --config configs/plan_cluster.yaml "
            "--set costs=[result.json]",
        )
    )
