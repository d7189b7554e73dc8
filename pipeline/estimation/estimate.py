"""A dry run: what `tokenize_corpus` would do with this config; nothing is written anywhere."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch

from pipeline.cli import Flag
from pipeline.decode_task import DecodeSpec
from pipeline.decoding.cutting import CutSettings
from pipeline.encoding import EncodeStage
from pipeline.errors import PipelineError
from pipeline.estimation.measuring import (
    EncodingCost,
    Measurement,
    measure,
)
from pipeline.estimation.prediction import Cluster, Duration, Stages, predict
from pipeline.estimation.sampling import Estimated, draw, total_by_bytes, total_by_number
from pipeline.estimation.start_up import start_up_s
from pipeline.estimation.table_size import measure_table
from pipeline.planning import PlanCounts
from pipeline.stage_costs import read_costs
from pipeline.tokenization import TokenizeConfig, build_lineage, planned
from pipeline.unit_parts import split_units
from pipeline.unit_table import UnitTable
from pipeline.wording import counted
from sweettok import SweetTokConfig
from sweettok.tokenizer_manifest import verified_manifest

DRY_RUN_FLAGS = (
    Flag(
        "--dry-run",
        "dry_run",
        "only say what the run would do, take and cost, from a sample; writes nothing (dry_run)",
        constant="true",
    ),
    Flag(
        "--price-per-hour",
        "estimate.price_per_hour",
        "of the whole cluster, for the cost that --dry-run prints (estimate.price_per_hour)",
    ),
)

_ENOUGH_UNITS = 10_000  # decoded independently: more than any cluster has cores
_NO_WORK = "nothing to do: {uri} is up to date"


@dataclass(frozen=True)
class Estimate:
    """What a run would do.

    Attributes:
        config: The run's.
        counts: How the listing compares with the dataset.
        num_videos: Videos to work on.
        num_sampled: Those of them that were looked at.
        num_quarantined: Videos that would give no clip.
        video_s: Duration of the others in seconds.
        num_clips, num_tokens: What would be committed.
        num_bytes: Size of its data files.
        duration: How long it would take, start-up included; None without any clip.
        cluster: Where.
        reasons: Why sampled videos gave no clip.
    """

    config: TokenizeConfig
    counts: PlanCounts
    num_videos: int
    num_sampled: int
    num_quarantined: Estimated
    video_s: Estimated
    num_clips: Estimated
    num_tokens: Estimated
    num_bytes: Estimated
    duration: Duration | None
    cluster: Cluster
    reasons: tuple[str, ...]

    def lines(self) -> list[str]:
        """The estimate for people."""
        place = self.config.dataset.uri
        if not self.num_videos:
            return [self._listing(), _NO_WORK.format(uri=place), self._nothing_written()]
        rows = [
            ("videos", f"{self.num_videos:,} to do{self._quarantine()}"),
            ("hours", self._with_interval(self.video_s.times(1 / 3600), ",.3g", "of video")),
            ("clips", self._with_interval(self.num_clips, ",.0f")),
            ("tokens", self._with_interval(self.num_tokens, ",.0f")),
            ("bytes out", self._with_interval(self.num_bytes, ",.0f", f"→ {place}")),
            *self._time_rows(),
        ]
        return [
            self._listing(),
            *(f"{name:<10} {text}" for name, text in rows),
            f"from {counted(self.num_sampled, 'video')} (seed {self.config.estimate.seed}); in "
            f"brackets the {self.config.estimate.confidence:.0%} interval",
            self._nothing_written(),
        ]

    def _time_rows(self) -> list[tuple[str, str]]:
        if self.duration is None:
            return [("time", "not known: none of the sampled videos gave a clip")]
        seconds = self.duration.seconds
        hours = seconds.times(1 / 3600)
        what = (
            f"of which {self.duration.start_up_s:.1f} s are start-up, limited by "
            f"{self.duration.limited_by}, on {self.cluster.description}"
        )
        unit = ("hours", 3600) if seconds.value >= 3 * 3600 else ("s", 1)
        shown = seconds.times(1 / unit[1])
        gpu_hours = self._with_interval(hours.times(self.duration.gpus), ",.3g")
        rows = [
            ("time", self._with_interval(shown, ",.1f", f"{unit[0]}, {what}")),
            ("GPU-hours", gpu_hours),
        ]
        price = self.config.estimate.price_per_hour
        if price is not None:
            cost = self._with_interval(hours.times(price), ",.4g", f"at {price:g} an hour")
            rows.append(("cost", cost))
        return rows

    def _with_interval(self, estimated: Estimated, form: str, behind: str = "") -> str:
        low, high = estimated.interval(self.config.estimate.confidence)
        return f"{estimated.value:{form}} ({low:{form}} to {high:{form}}) {behind}".rstrip()

    def _listing(self) -> str:
        counts = self.counts
        listed = f"listed {counts.num_listed:,} = {counts.num_new:,} new + "
        known = counts.num_tokenized + counts.num_quarantined + counts.num_taken_down
        listed += f"{counts.num_changed:,} changed + {known:,} known"
        if counts.num_repeated:
            listed += f" + {counts.num_repeated:,} listed again"
        if counts.num_removed:
            verb = "deleted" if self.config.on_removed == "delete" else "kept"
            listed += f"; {counts.num_removed:,} no longer listed would be {verb}"
        return listed

    def _quarantine(self) -> str:
        if not self.num_quarantined.value:
            return ""
        shown = self._with_interval(self.num_quarantined, ",.0f")
        why = ", ".join(dict.fromkeys(self.reasons))
        return f", of which {shown} quarantined ({why})"

    def _nothing_written(self) -> str:
        return "a dry run: nothing was written"


def estimate_corpus(config: TokenizeConfig) -> Estimate:
    """Lists, compares, samples, and reckons what the run would do; writes nothing.

    Raises:
        PipelineError: The source or the dataset refuses the run, the settings do not fit the
            cluster, or what a GPU would cost is not known here.
        SweetTokError: The tokenizer cannot be loaded.
    """
    manifest = verified_manifest(config.tokenizer_directory)
    model_config = SweetTokConfig.from_mapping(manifest["config"], origin=config.tokenizer)
    lineage = build_lineage(config, manifest, model_config)
    work = planned(config, lineage)
    cluster = _cluster(config)
    nothing = Estimated(0)
    parts = (nothing,) * 5
    empty = Estimate(config, work.counts, len(work.units), 0, *parts, None, cluster, ())
    if not len(work.units):
        return empty
    measured = _measure(config, work.units, model_config, cluster)
    videos = [video for stratum in measured.strata for video in stratum.sample]
    clips = _by_bytes(measured, "num_clips")
    found = dataclasses.replace(
        empty,
        num_sampled=len(videos),
        num_quarantined=total_by_number(measured.strata, lambda video: video.reason is not None),
        video_s=_by_bytes(measured, "duration_s"),
        reasons=tuple(video.reason for video in videos if video.reason is not None),
    )
    if measured.encoding is None:
        return found
    encoding = _known_costs(config, measured.encoding, cluster)
    table = measure_table(
        videos, measured.encoded, lineage, num_clips=clips.value, seed=config.estimate.seed
    )
    units = list(work.units.slice(0, _ENOUGH_UNITS))
    stages = Stages(config.decode, config.encode, config.engine, len(units))
    pieces = split_units(units, config.decode.part_bytes, stages.num_decode_tasks(cluster))
    stages = dataclasses.replace(stages, num_units=len(pieces))
    decode_core_s = _by_bytes(measured, "decode_core_s")
    return dataclasses.replace(
        found,
        num_clips=clips,
        num_tokens=clips.times(model_config.num_tokens),
        num_bytes=clips.times(table.file_bytes(clips.value) / max(clips.value, 1)),
        duration=predict(decode_core_s, clips, encoding, stages, cluster, start_up_s()),
    )


def _cluster(config: TokenizeConfig) -> Cluster:
    if config.estimate.nodes:
        return Cluster.of_nodes(config.estimate.nodes)
    return Cluster.of_this_machine(config.cluster, torch.cuda.device_count())


def _measure(
    config: TokenizeConfig, units: UnitTable, model_config: SweetTokConfig, cluster: Cluster
) -> Measurement:
    wanted = config.estimate
    use_gpu = torch.cuda.is_available() and config.encode.num_gpus(has_gpu=True) > 0
    encode = config.encode.model_copy(update={"psnr_fraction": 0.0})
    if not use_gpu:
        if encode.num_gpus(has_gpu=cluster.num_gpus > 0) and not config.costs:
            raise PipelineError(
                "encoders of this run compute on GPUs, and this machine has none to measure with; "
                "make the dry run on a GPU node, or name in costs what jobs/bench_pipeline.py "
                "measured on one"
            )
        if encode.num_gpus(has_gpu=cluster.num_gpus > 0):  # only ids are wanted, not their cost
            encode = encode.model_copy(update={"precision": "fp32", "compiled": False})
    cut = CutSettings(config.decode, config.clips, config.preprocess, model_config.geometry)
    # So that what the child has decoded ahead is known when the first clip of a video comes.
    decode = cut.decode.model_copy(update={"clips_in_flight": 1})
    return measure(
        draw(units, wanted.num_videos, wanted.seed),
        DecodeSpec(dataclasses.replace(cut, decode=decode), config.source.storage),
        EncodeStage(config.tokenizer_directory, encode, use_gpu=use_gpu),
        wanted,
        batch_size=config.encode.batch_size,
        psnr_fraction=config.encode.psnr_fraction,
        use_gpu=use_gpu,
    )


def _by_bytes(measured: Measurement, name: str) -> Estimated:
    return total_by_bytes(
        measured.strata,
        lambda video: float(getattr(video, name)),
        lambda video: video.unit.size_bytes,
        lambda video: video.seen_bytes,
    )


def _known_costs(config: TokenizeConfig, measured: EncodingCost, cluster: Cluster) -> EncodingCost:
    """What was measured here, or, where this machine cannot, by a benchmark before."""
    if not config.costs or measured.gpu_s:
        return measured
    costs = read_costs(config.costs)
    on_gpu = config.encode.num_gpus(has_gpu=cluster.num_gpus > 0) > 0
    if on_gpu and not costs.encode_gpu_s:
        raise PipelineError(
            "encoders of this run compute on GPUs, but the results in costs were measured without "
            "one; name results of a GPU node, or set encode.num_gpus_per_actor to 0"
        )
    if not on_gpu:
        return dataclasses.replace(measured, other_core_s=costs.other_core_s)
    return EncodingCost(costs.encode_core_s, costs.encode_gpu_s, costs.other_core_s)
