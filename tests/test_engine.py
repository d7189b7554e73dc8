"""The data's way as a whole: in this process, on Ray, and again: always the same dataset."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import polars
import pytest
import torch

from pipeline.dataset import CommitConfig, TokenDataset
from pipeline.dataset.finished_units import FinishedUnits
from pipeline.decoding.stage import DecodeStage
from pipeline.encoding import EncodeConfig, EncodeStage
from pipeline.errors import LineageError, PipelineError, SourceError
from pipeline.planning import plan_units
from pipeline.sources import list_videos
from pipeline.tokenization import tokenize_corpus
from sweettok import SweetTok, Tokens, pixels_to_video
from sweettok.errors import CheckpointError
from sweettok.patches import PatchEmbedding
from tests.in_process_run import token_rows, tokenize_in_process
from tests.tiny_corpus import BROKEN, CLIPS_PER_GOOD_VIDEO, GOOD, make_corpus, tokenize_config

NUM_CLIPS = len(GOOD) * CLIPS_PER_GOOD_VIDEO


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.mark.ray
def test_a_mixed_folder_is_accounted_for_and_a_second_run_adds_nothing(
    ray_cluster: None, corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "ray")
    first = tokenize_corpus(config)
    assert (first.num_listed, first.num_tokenized, first.num_quarantined) == (6, 3, 3)
    assert first.num_clips == NUM_CLIPS
    assert first.reasons == {"truncated": 1, "not_a_video": 1, "empty": 1}
    dataset = TokenDataset.open(first.dataset_uri)
    assert dataset.num_clips() == NUM_CLIPS
    reasons = {
        row["video_uri"].rsplit("/", 1)[1]: row["reason"]
        for row in dataset.quarantine().to_pylist()
    }
    assert reasons == BROKEN
    second = tokenize_corpus(config)
    assert (second.num_listed, second.num_unchanged, second.num_clips) == (6, 6, 0)
    assert second.dataset_version == first.dataset_version
    assert "nothing to do" in second.lines()[-1]

    alone = tokenize_in_process(
        tokenize_config(corpus, tokenizer_directory, tmp_path / "alone"), batch_size=1
    )
    assert token_rows(first.dataset_uri).equals(token_rows(alone.uri))


def test_stored_tokens_are_those_of_the_stored_frames(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens")
    dataset = tokenize_in_process(config, batch_size=4)
    model = SweetTok.from_pretrained(dataset.tokenizer_files())
    stage = DecodeStage(
        config.decode,
        config.clips,
        config.preprocess,
        model.config.geometry,
        config.source.storage,
    )
    stage.setup()
    units, _ = plan_units(list_videos(config.source), FinishedUnits.none())
    rows = {row["clip_id"]: row for row in polars.read_delta(dataset.uri).to_dicts()}
    for unit in units:
        for clip in stage.process(unit):
            if not hasattr(clip, "frames") or unit.uri.endswith("broken.mp4"):
                continue
            video = pixels_to_video(torch.from_numpy(clip.frames.copy())[None])
            row = rows.pop(clip.clip_id)
            stored = Tokens(
                torch.tensor([row["spatial_tokens"]]), torch.tensor([row["temporal_tokens"]])
            )
            assert model.encode(video).equal(stored)
            assert row["frame_indices"] == list(clip.window.frame_indices)
    stage.close()
    assert rows == {}


def test_batches_do_not_change_the_tokens(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    tables = [
        token_rows(
            tokenize_in_process(
                tokenize_config(corpus, tokenizer_directory, tmp_path / str(batch_size)),
                batch_size=batch_size,
            ).uri
        )
        for batch_size in (1, 4, 16)
    ]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


@pytest.mark.ray
def test_workers_batches_waves_and_parts_do_not_change_the_tokens(
    ray_cluster: None, corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    alone = tokenize_config(corpus, tokenizer_directory, tmp_path / "alone")
    expected = token_rows(tokenize_in_process(alone, batch_size=1).uri)
    for number, (num_workers, batch_size, part_bytes, is_together) in enumerate(
        ((1, 1, None, False), (2, 4, 2000, True), (2, 4, 2000, False), (4, 16, None, True))
    ):
        config = tokenize_config(
            corpus,
            tokenizer_directory,
            tmp_path / str(number),
            encode={
                "in_decode_tasks": is_together,
                "batch_size": batch_size, "num_actors": num_workers, "num_cpus_per_actor": 0.25
            },
            decode={"part_bytes": part_bytes},
            engine={
                "num_decode_tasks": num_workers,
                "num_cpus_per_decode_task": 0.25,
                "units_per_wave": 3 if num_workers == 2 else 6,
            },
        )  # fmt: skip
        summary = tokenize_corpus(config)
        assert (summary.num_tokenized, summary.num_quarantined) == (3, 3)
        assert token_rows(summary.dataset_uri).equals(expected)


def test_another_tokenizer_is_refused_with_the_difference(
    corpus: Path, tokenizer_directory: str, tmp_path: Path, model: SweetTok
) -> None:
    config = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens")
    tokenize_in_process(config, batch_size=4)
    with torch.no_grad():
        model.decoder.heads.tubes.bias.add_(1)
    model.save_pretrained(tmp_path / "other")
    other = tokenize_config(
        corpus, str(tmp_path / "other"), tmp_path / "tokens", clips={"frame_stride": 2}
    )
    with pytest.raises(LineageError) as error:
        tokenize_corpus(other)
    assert "weights_hash" in str(error.value)
    assert "clip_policy.frame_stride: 1 → 2" in str(error.value)


def test_what_cannot_work_is_one_clear_error(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    nowhere = tokenize_config(corpus, tokenizer_directory, tmp_path / "a")
    nowhere = nowhere.model_copy(update={"tokenizer": str(tmp_path / "nowhere")})
    with pytest.raises(CheckpointError, match="no tokenizer there"):
        tokenize_corpus(nowhere)
    empty = tokenize_config(
        corpus, tokenizer_directory, tmp_path / "b", source={"uris": [str(tmp_path / "none")]}
    )
    with pytest.raises(SourceError, match="none"):
        tokenize_corpus(empty)
    damaged = shutil.copytree(tokenizer_directory, tmp_path / "damaged")
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"damaged/model\.safetensors.*altered"):
        tokenize_corpus(tokenize_config(corpus, str(damaged), tmp_path / "c"))
    assert not (tmp_path / "c").exists()
    half = EncodeStage(tokenizer_directory, EncodeConfig(precision="bf16"))
    with pytest.raises(PipelineError, match="bf16"):
        half.setup()


def test_what_decides_near_ties_is_part_of_the_lineage_and_reaches_the_model(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    singly = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens")
    tokenize_in_process(singly, batch_size=2)
    batched = singly.model_copy(update={"encode": EncodeConfig(batch_invariant=False)})
    with pytest.raises(LineageError, match='precision: "fp32" → "fp32, batched"'):
        tokenize_corpus(batched)
    half = EncodeConfig(precision="bf16", batch_invariant=False)
    assert half.arithmetic == "bf16, batched"


def test_an_encoder_takes_whole_batches_only_when_told(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    """The first layer sees each clip alone, or all of a batch."""
    sizes: dict[bool, set[int]] = {}
    for invariant in (True, False):
        config = tokenize_config(corpus, tokenizer_directory, tmp_path / str(invariant))
        config = config.model_copy(update={"encode": EncodeConfig(batch_invariant=invariant)})
        seen = sizes.setdefault(invariant, set())

        def note(module: torch.nn.Module, inputs: Any, seen: set[int] = seen) -> None:
            if isinstance(module, PatchEmbedding):
                seen.add(len(inputs[0]))

        with torch.nn.modules.module.register_module_forward_pre_hook(note):
            tokenize_in_process(config, batch_size=2)
    assert sizes[True] == {1}
    assert max(sizes[False]) == 2


def test_commits_during_the_run_give_the_same_table(
    corpus: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    once = tokenize_config(corpus, tokenizer_directory, tmp_path / "once")
    often = tokenize_config(corpus, tokenizer_directory, tmp_path / "often")
    often = often.model_copy(update={"commit": CommitConfig(every_clips=1)})
    dataset = tokenize_in_process(often, batch_size=2)
    assert dataset.version > tokenize_in_process(once, batch_size=2).version
    assert token_rows(tmp_path / "once").equals(token_rows(tmp_path / "often"))
