"""The whole way in one process, on real sample videos: fetch, fit, tokenize, read back, look.

`jobs/quickstart.py` runs it; every step is the same function that the job of that name runs.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pipeline.dataset import TokenDataset
from pipeline.dataset_report import ReportConfig, comparison_sheet, report_dataset
from pipeline.sample_videos import fetch_sample_videos
from pipeline.sources import list_videos
from pipeline.tokenization import TokenizeConfig, TokenizeSummary, tokenize_corpus
from pipeline.training.config import TrainConfig
from pipeline.training.fit import fit_tokenizer
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class QuickstartConfig(StrictConfig):
    """The settings of the parts.

    Attributes:
        samples: Directory for the sample videos.
        train, tokenize, report: As for the jobs of these names.
        picture: PNG file with originals and reconstructions.
    """

    samples: str
    train: TrainConfig
    tokenize: TokenizeConfig
    report: ReportConfig
    picture: str


def run_quickstart(config: QuickstartConfig) -> str:
    """Does everything that is not done yet; returns the summary for the terminal."""
    started_s = time.monotonic()
    logger.info("1/4 sample videos")
    fetch_sample_videos(Path(config.samples))
    logger.info("2/4 fitting the tokenizer with Ray Train")
    fit = fit_tokenizer(config.train)
    if fit.num_steps is None:
        logger.info("the tokenizer %s is there already", fit.fingerprint)
    logger.info("3/4 tokenizing the videos with Ray Data")
    tokenized = tokenize_corpus(config.tokenize)
    for line in tokenized.lines():
        logger.info(line)
    logger.info("4/4 reading the dataset back and decoding it")
    dataset = TokenDataset.open(
        config.tokenize.dataset.uri, storage=config.tokenize.dataset.storage
    )
    trained_on = {video.uri for video in list_videos(config.train.data.source)}
    listed = [video.uri for video in list_videos(config.tokenize.source)]
    report = report_dataset(
        dataset,
        config.report,
        source_storage=config.tokenize.source.storage,
        title="SweetTok quickstart",
        extra_rows=_speed_rows(tokenized),
        notes={uri: "never trained on" for uri in listed if uri not in trained_on},
    )
    picture = Path(config.picture)
    picture.parent.mkdir(parents=True, exist_ok=True)
    comparison_sheet(report.compared).save(picture)
    return "\n".join(
        (
            report.text("SweetTok quickstart"),
            f"page     {Path(config.report.output).absolute().as_uri()}",
            f"dataset  {dataset.uri}",
            f"done in {time.monotonic() - started_s:.0f} s",
        )
    )


def _speed_rows(tokenized: TokenizeSummary) -> list[tuple[str, str]]:
    if not tokenized.num_clips:
        return [("speed", "– · nothing new to tokenize in this run")]
    return [("speed", tokenized.rates())]
