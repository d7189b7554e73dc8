"""Checks that a run will work here: packages, decoders, GPU, tokenizer, source, dataset, Ray.

Takes the config of tokenize_corpus or refresh_dataset and changes nothing. Every failing line comes
with a remedy; the exit code is 1 if there is one.
"""

import sys

from pipeline.cli import Flag, run_job
from pipeline.doctor import DoctorConfig, examine

FLAGS = (
    Flag("--json", "report", "report as JSON (report)", constant="json"),
    Flag("--no-cluster", "check_cluster", "leave Ray out (check_cluster)", constant="false"),
)


def main(config: DoctorConfig) -> None:
    """Examines, prints the report, and fails if a part fails."""
    examination = examine(config)
    print(examination.to_json() if config.report == "json" else examination.text(), flush=True)
    examination.check()


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            DoctorConfig,
            main,
            flags=FLAGS,
            example="python jobs/doctor.py --config configs/refresh_dataset.yaml "
            "--set dataset.uri=s3://bucket/tokens",
        )
    )
