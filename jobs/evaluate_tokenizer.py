"""Evaluates tokenizers, video codecs and generated clips by a stated protocol.

Measures PSNR, SSIM, a perceptual distance, Fréchet distances with intervals (FVD with an I3D's
TorchScript file), bits, and the use of codebooks on any set of videos; prints one table and writes
one HTML page with the worst and the best clips. The protocol is part of the result. The same
command continues an interrupted evaluation; rows that were measured before are not measured again.
"""

import sys

from pipeline.cli import run_job
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.evaluate import evaluate


def main(config: EvaluateConfig) -> None:
    """Evaluates and prints the table."""
    evaluation = evaluate(config)
    print(evaluation.table)
    print(f"result, table, picture and page (report.html): {evaluation.directory}")


if __name__ == "__main__":
    sys.exit(
        run_job(
            __doc__,
            EvaluateConfig,
            main,
            example="python jobs/evaluate_tokenizer.py --config configs/evaluate_samples.yaml",
        )
    )
