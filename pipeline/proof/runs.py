"""One row of the comparison with one seed: trained, measured, written as one result."""

from __future__ import annotations

import logging
import time
from typing import Any

import torch
from torch import Tensor

from pipeline.proof.clip_sets import ClipSet
from pipeline.proof.evaluation import Measures
from pipeline.proof.one_thread import one_thread
from pipeline.proof.run_files import write_measured
from pipeline.proof.run_spec import RunSpec
from pipeline.proof.run_training import trained_model
from pipeline.proof.token_measures import costs_of, measure_tokenizer
from sweettok import pixels_to_video, video_to_pixels
from sweettok.baselines.variants import AnyTokenizer

logger = logging.getLogger(__name__)

SHOWN_CLIPS = 3  # of each part, kept as pixels for pictures
_COST_CLIPS = 2


def run_one(spec: RunSpec) -> dict[str, Any]:
    """Trains (or loads) and measures on one thread; the result appears on disk when it is whole."""
    model, record, is_new = trained_model(spec)
    if not is_new:
        logger.info("%s: weights are there, measured again", spec.name)
    with one_thread(spec.seed):
        began_s = time.process_time()
        parts, pictures = _measure_all(model, spec)
        first = next(iter(spec.corpus.held_out.values()))
        costs = costs_of(model, first.read(slice(_COST_CLIPS)))
        measuring_cpu_s = round(time.process_time() - began_s, 1)
    result = {
        "corpus": spec.corpus.name,
        "row": spec.row.name,
        "seed": spec.seed,
        "num_parameters": model.num_parameters,
        "num_live_parameters": costs.num_live_parameters,
        "gflop_per_clip": costs.gflop_per_clip,
        "bits_per_clip": model.bits_per_clip(),
        "num_steps": record.num_steps,
        "training_cpu_s": record.cpu_s,
        "measuring_cpu_s": measuring_cpu_s,
        "measuring_recipe": spec.measuring.recipe(spec.corpus),
        "curve": record.curve,
    }
    write_measured(spec.directory, result, parts, pictures)
    finished = spec.finished()
    assert finished is not None, "just written"
    return finished


def _measure_all(
    model: AnyTokenizer, spec: RunSpec
) -> tuple[dict[str, Measures], dict[str, Tensor]]:
    instruments = spec.measuring.instruments()
    labelled = spec.corpus.labelled_training
    parts, pictures = {}, {}
    for name, clips in spec.corpus.held_out.items():
        probe_training = None
        if clips.labels and labelled is not None:
            probe_training = labelled.evenly_chosen(spec.measuring.max_probe_clips)
        parts[name] = measure_tokenizer(
            model,
            clips,
            instruments,
            usage_ids_per_code=len(clips) * spec.measuring.usage_ids_per_code,
            probe_training=probe_training,
        )
        pictures[name] = _reconstructions(model, clips.evenly_chosen(SHOWN_CLIPS))
    return parts, pictures


@torch.no_grad()
def _reconstructions(model: AnyTokenizer, clips: ClipSet) -> Tensor:
    video = pixels_to_video(clips.read(slice(None)))
    return video_to_pixels(model(video).reconstruction).contiguous()
