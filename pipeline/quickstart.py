"""The whole way in one process, on real sample videos: fetch, tokenize, read back, look.

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
from sweettok.strict_config import StrictConfig

logger = logging.getLogger(__name__)


class QuickstartConfig(StrictConfig):
    """The settings of the parts.

    Attributes:
        samples: Directory for the sample videos.
        tokenize, report: As for the jobs of these names.
        never_trained_on: Videos of which the summary says that the tokenizer never saw them: files
            or directories, as in `tokenize.source.uris`.
        picture: PNG file with originals and reconstructions.
    """

    samples: str
    tokenize: TokenizeConfig
    report: ReportConfig
    never_trained_on: tuple[str, ...] = ()
    picture: str


def run_quickstart(config: QuickstartConfig) -> str:
    """Does everything that is not done yet; returns the summary for the terminal."""
    started_s = time.monotonic()
    logger.info("1/3 sample videos")
    fetch_sample_videos(Path(config.samples))
    logger.info("2/3 tokenizing the videos with Ray Data")
    tokenized = tokenize_corpus(config.tokenize)
    for line in tokenized.lines():
        logger.info(line)
    logger.info("3/3 reading the dataset back and decoding it")
    dataset = TokenDataset.open(
        config.tokenize.dataset.uri, storage=config.tokenize.dataset.storage
    )
    report = report_dataset(
        dataset,
        config.report,
        source_storage=config.tokenize.source.storage,
        title="SweetTok quickstart",
        extra_rows=_speed_rows(tokenized),
        notes=_notes(config),
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


def _notes(config: QuickstartConfig) -> dict[str, str]:
    if not config.never_trained_on:
        return {}
    unseen = config.tokenize.source.model_copy(update={"uris": config.never_trained_on})
    return {video.uri: "never trained on" for video in list_videos(unseen)}


def _speed_rows(tokenized: TokenizeSummary) -> list[tuple[str, str]]:
    if not tokenized.num_clips:
        return [("speed", "– · nothing new to tokenize in this run")]
    return [("speed", tokenized.rates())]
