"""The whole evaluation on small real videos: its numbers, its cache, its refusals."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars
import pytest
import torch
from torch import Tensor

from pipeline.errors import DatasetError, PipelineError, SourceError
from pipeline.evaluation.clip_reader import ClipReader
from pipeline.evaluation.config import EvaluateConfig
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.evaluation.protocol import SplitConfig, chosen_videos
from pipeline.proof.motion_network import (
    MotionNetwork,
    MotionNetworkConfig,
    load_motion_network,
    save_motion_network,
)
from sweettok import SweetTok, pixels_to_video, video_to_pixels
from sweettok.diversity import inception_score
from sweettok.frechet import FeatureStatistics, frechet_distance
from sweettok.image_quality import ssim
from sweettok.metrics import codebook_usage, entropy_bits, psnr_db
from tests.evaluated_tokenizers import save_small_i3d
from tests.in_process_run import tokenize_in_process
from tests.job_runs import run_plain, write_config
from tests.tiny_corpus import tokenize_config
from tests.video_factory import make_video

NUM_VIDEOS, CLIPS_PER_VIDEO = 6, 2
NUM_CLIPS = NUM_VIDEOS * CLIPS_PER_VIDEO
FACTORY = "tests.evaluated_tokenizers:{}"
NOTHING_SHOWN = {"worst_clips": 0, "best_clips": 0}
"""Clips of the page are encoded once more, which tests that count would notice."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos of two clips each, and one that is none."""
    folder = tmp_path_factory.mktemp("videos")
    generator = np.random.default_rng(0)
    for number in range(NUM_VIDEOS):
        still = generator.integers(0, 256, (4, 6, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        frames = [np.roll(still, number + index, axis=1) for index in range(20)]
        make_video(folder / f"{number}.mp4", frames=frames, codec_options={"crf": "10"})
    (folder / "text.mp4").write_text("no video\n" * 50)
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained motion network of two features."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("networks") / "motion_network.safetensors"
    config = MotionNetworkConfig(width=8, num_features=2)
    save_motion_network(path, MotionNetwork(config), config, accuracy=0.0, recipe="untrained")
    return path


@pytest.fixture(scope="module")
def lively_directory(tokenizer_directory: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A saved tokenizer whose pixels depend on its tokens."""
    torch.manual_seed(1)
    model = SweetTok.from_pretrained(tokenizer_directory)
    with torch.no_grad():
        model.decoder.heads.first_frame.weight.normal_(std=0.1)
        model.decoder.heads.tubes.weight.normal_(std=0.1)
    directory = tmp_path_factory.mktemp("lively")
    model.save_pretrained(directory)
    return str(directory)


def config_of(corpus: Path, output: Path, **changes: Any) -> EvaluateConfig:
    values: dict[str, Any] = {
        "protocol": {"name": "tiny", "num_frames": 9, "height_px": 32, "width_px": 48},
        "source": {"uris": [str(corpus)]},
        "tokenizers": [{"kind": "still"}],
        "num_resamples": 20,
        "videos_per_part": 2,
        "batch_size": 3,
        "device": "cpu",
        "output": str(output),
    }
    return EvaluateConfig.from_mapping(values | changes)


def clips_of(config: EvaluateConfig) -> Tensor:
    """All clips in the order of the evaluation, in [-1, 1]."""
    units = chosen_videos(config.source, SplitConfig(), 0)
    with ClipReader(config.protocol, config.decode, config.source.storage) as reader:
        clips = [clip for unit in units for clip in reader.read(unit).clips]
    return pixels_to_video(torch.from_numpy(np.stack(clips)))


@pytest.fixture(scope="module")
def evaluated(
    corpus: Path,
    network: Path,
    lively_directory: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[EvaluateConfig, Evaluation]:
    root = tmp_path_factory.mktemp("evaluated")
    tokens = tokenize_config(
        corpus, lively_directory, root / "tokens", preprocess={"interpolation": "bicubic"}
    )
    tokenize_in_process(tokens, batch_size=4)
    config = config_of(
        corpus,
        root / "out",
        tokenizers=[
            {"kind": "codec", "standard": "h264"},
            {"kind": "sweettok", "name": "ours", "path": lively_directory},
            {"kind": "python", "factory": FACTORY.format("LevelTokenizer"), "name": "levels"},
            {"kind": "still"},
        ],
        generated=[
            {"name": "the originals", "videos": {"uris": [str(corpus)]}},
            {"name": "tokens", "dataset": {"uri": str(root / "tokens")}},
        ],
        feature_networks=[
            {"kind": "motion", "path": str(network)},
            {"kind": "i3d", "path": str(save_small_i3d(root / "i3d.pt"))},
        ],
        num_inception_parts=2,
        report={"row": "ours", "beside": ["levels"], "worst_clips": 2, "best_clips": 1},
    )
    return config, evaluate(config)


def test_numbers_are_those_of_the_clips(
    evaluated: tuple[EvaluateConfig, Evaluation], lively_directory: str, network: Path
) -> None:
    config, evaluation = evaluated
    video = clips_of(config)
    assert len(video) == NUM_CLIPS
    model = SweetTok.from_pretrained(lively_directory)
    tokens = model.encode(video)
    remade = pixels_to_video(video_to_pixels(model.decode(tokens)))
    _, ours, _, still = evaluation.result["tokenizers"]
    assert ours["psnr_db"]["mean"] == pytest.approx(
        psnr_db(video, remade, 2.0).mean().item(), abs=1e-4
    )
    assert ours["ssim"]["mean"] == pytest.approx(ssim(video, remade, 2.0).mean().item(), abs=1e-4)
    assert ours["psnr_db"]["low"] < ours["psnr_db"]["mean"] < ours["psnr_db"]["high"]
    eyes = load_motion_network(network).network
    with torch.no_grad():
        seen = [FeatureStatistics.of(eyes.features(part)) for part in (video, remade)]
    motion, fvd = ours["frechet"].values()
    assert motion["distance"] == pytest.approx(frechet_distance(*seen), rel=1e-4)
    assert motion["low"] <= motion["distance"] <= motion["high"]
    means = [
        torch.stack([part.add(1).mean((1, 2, 3, 4)), part[:, 0].add(1).mean((1, 2, 3))], 1) / 2
        for part in (video, remade)
    ]
    expected = frechet_distance(*map(FeatureStatistics.of, means))
    assert fvd["distance"] == pytest.approx(expected, rel=1e-3, abs=1e-6)
    spatial = codebook_usage(tokens.spatial, 96)
    found = ours["codebooks"]["spatial"]
    assert found["usage"] == spatial.usage
    assert found["entropy_bits_per_id"] == pytest.approx(entropy_bits(spatial.counts))
    assert ours["bits_per_clip"] == pytest.approx(model.bits_per_clip())
    assert ours["bits_per_pixel"] == pytest.approx(model.bits_per_clip() / (9 * 32 * 48))
    first = video[:, :, :1].expand_as(video)
    assert still["psnr_db"]["mean"] == pytest.approx(
        psnr_db(video, first, 2.0).mean().item(), abs=1e-3
    )
    assert still["bits_per_clip"] is None


def test_codecs_get_the_bits_of_the_first_tokenizer_with_ids(
    evaluated: tuple[EvaluateConfig, Evaluation],
) -> None:
    codec, ours, levels, _ = evaluated[1].result["tokenizers"]
    assert (
        codec["facts"]["budget_bits_per_clip"]
        == ours["bits_per_clip"]
        == pytest.approx(SweetTok.from_pretrained(ours["facts"]["path"]).bits_per_clip())
    )
    assert codec["packet_bits_per_clip"] > codec["bits_per_clip"]
    # A fifth of a kilobit is less than any clip of nine frames takes in H.264: that is said.
    assert codec["above_budget_share"] == 1.0
    assert codec["matched_share"] == 0.0
    assert any("H.264 at matched bits: 100%" in text for text in evaluated[1].result["warnings"])
    assert levels["bits_per_clip"] == 9 * 4 * 6 * 4
    assert levels["codebooks"]["levels"]["num_ids"] == NUM_CLIPS * 9 * 4 * 6
    assert levels["entropy_bits_per_clip"] <= levels["bits_per_clip"]


def test_generated_clips_are_measured_against_real_ones(
    evaluated: tuple[EvaluateConfig, Evaluation], network: Path
) -> None:
    config, evaluation = evaluated
    originals, tokens = evaluation.result["generated"]
    assert originals["num_clips"] == tokens["num_clips"] == NUM_CLIPS
    assert [video["reason"] for video in originals["left_out"]] == ["not_a_video"]
    motion, fvd = evaluation.result["feature_networks"]
    for metric in (motion, fvd):
        assert originals["frechet"][metric]["distance"] == pytest.approx(0, abs=1e-6)
        real = evaluation.result["real_inception_score"][metric]
        assert originals["inception_score"][metric] == pytest.approx(real)
    ours = evaluation.result["tokenizers"][1]
    # The dataset holds the tokens of the same clips.
    assert tokens["frechet"][motion]["distance"] == pytest.approx(
        ours["frechet"][motion]["distance"], rel=1e-3
    )
    with torch.no_grad():
        rows = load_motion_network(network).network(clips_of(config)).softmax(dim=1)
    order = torch.randperm(NUM_CLIPS, generator=torch.Generator().manual_seed(0))
    expected = inception_score(rows[order], 2)
    assert evaluation.result["real_inception_score"][motion]["mean"] == pytest.approx(
        expected.mean, rel=1e-5
    )


def test_the_result_says_how_it_was_made(evaluated: tuple[EvaluateConfig, Evaluation]) -> None:
    config, evaluation = evaluated
    stored = json.loads((evaluation.directory / "result.json").read_text("utf-8"))
    assert stored == json.loads(json.dumps(evaluation.result))
    assert stored["protocol"] == config.protocol.to_mapping()
    assert stored["sample"]["num_clips"] == NUM_CLIPS
    assert stored["sample"]["left_out"][0]["video"].endswith("/text.mp4")
    assert all(len(network["sha256"]) == 64 for network in stored["feature_networks"].values())
    table = (evaluation.directory / "table.md").read_text("utf-8")
    for expected in ("rFVD on I3D", "gFVD on I3D", "9×32×48", "1 × not_a_video", "| ours |"):
        assert expected in table
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows[:6]}) == 1
    clips = polars.read_parquet(evaluation.directory / "clips.parquet")
    assert clips.height == 4 * NUM_CLIPS
    for row in evaluation.result["tokenizers"]:
        of_row = clips.filter(polars.col("row") == row["name"])
        assert of_row["psnr_db"].mean() == pytest.approx(row["psnr_db"]["mean"])
        assert of_row["bits"].null_count() == (NUM_CLIPS if row["bits_per_clip"] is None else 0)
    assert (evaluation.directory / "reconstructions.png").stat().st_size > 1000
    assert (evaluation.directory / "config.yaml").read_text("utf-8") == config.to_yaml()


def test_the_page_plays_the_worst_and_the_best_clips(
    evaluated: tuple[EvaluateConfig, Evaluation],
) -> None:
    _, evaluation = evaluated
    page = (evaluation.directory / "report.html").read_text("utf-8")
    table = polars.read_parquet(evaluation.directory / "clips.parquet")
    ours = table.filter(polars.col("row") == "ours").sort("psnr_db")
    titles = re.findall(r'<h3 id="clip-\d">([^<]*)</h3>', page)
    shown = re.findall(r"<b>([\d.]+)</b> dB PSNR", page)
    worst_and_best = [*ours["psnr_db"][:2].to_list(), ours["psnr_db"][-1]]
    assert [float(value) for value in shown] == pytest.approx(worst_and_best, abs=0.051)
    assert [title.rpartition(", clip ")[0] for title in titles] == [
        *ours["video"][:2].to_list(),
        ours["video"][-1],
    ]
    assert page.count("<video ") == 3 * 4
    assert page.count("Where these tokens look") == 2 * 3
    assert "levels, " in page
    assert "not_a_video" in page
    assert "gFVD on I3D" in page
    assert 'class="map"' in page
    counts = [int(value) for value in re.findall(r"<b>(\d+)</b> tokens?</li>\s*</ul>", page)]
    tokens = [NUM_CLIPS * config_tokens for config_tokens in (24, 12)]
    assert counts == tokens


def test_rows_that_the_page_shows_must_be_there(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="report shows 'ours', which is no row of tokenizers"):
        config_of(corpus, tmp_path, report={"beside": ["ours"]})


def test_a_stopped_evaluation_goes_on_where_it_was(corpus: Path, tmp_path: Path) -> None:
    log = tmp_path / "encoded"

    def run(**arguments: Any) -> Evaluation:
        row = {"kind": "python", "name": "levels", "factory": FACTORY.format("LevelTokenizer")}
        given = {"log": str(log)} | arguments
        # Another argument is another tokenizer: what differs here is only when it stops.
        row |= {"arguments": given, "version": "1"}
        rows = [row, {"kind": "still"}]
        return evaluate(config_of(corpus, tmp_path / "out", tokenizers=rows, report=NOTHING_SHOWN))

    with pytest.raises(KeyboardInterrupt):
        run(fails_at=7)
    kept = sorted((tmp_path / "out" / "parts").rglob("*.safetensors"))
    assert kept
    assert not (tmp_path / "out" / "result.json").exists()
    log.unlink()
    first = run()
    num_encoded = sum(map(int, log.read_text().split()))
    assert num_encoded == NUM_CLIPS
    log.unlink()
    assert run().result == first.result
    assert not log.exists(), "nothing was encoded again"
    parts = sorted({*(tmp_path / "out" / "parts").rglob("levels*/*.safetensors")} - {*kept})
    parts[-1].unlink()
    assert run().result == first.result
    assert 0 < sum(map(int, log.read_text().split())) <= 2 * CLIPS_PER_VIDEO


def test_without_a_version_a_tokenizer_is_measured_anew(corpus: Path, tmp_path: Path) -> None:
    log = tmp_path / "encoded"
    row = {"kind": "python", "factory": FACTORY.format("LevelTokenizer")}
    row |= {"arguments": {"log": str(log)}}
    for times in (1, 2):
        evaluate(config_of(corpus, tmp_path / "out", tokenizers=[row], report=NOTHING_SHOWN))
        assert sum(map(int, log.read_text().split())) == times * NUM_CLIPS


def test_a_limit_takes_the_first_clips_and_small_samples_are_said(
    corpus: Path, network: Path, tmp_path: Path
) -> None:
    protocol = {"name": "few", "num_frames": 9, "height_px": 32, "width_px": 48, "max_clips": 3}
    networks = [{"kind": "motion", "path": str(network)}]
    config = config_of(corpus, tmp_path, protocol=protocol, feature_networks=networks)
    evaluation = evaluate(config)
    assert evaluation.result["sample"]["num_clips"] == 3
    whole = clips_of(config_of(corpus, tmp_path))[:3]
    expected = psnr_db(whole, whole[:, :, :1].expand_as(whole), 2.0).mean().item()
    assert evaluation.result["tokenizers"][0]["psnr_db"]["mean"] == pytest.approx(
        expected, abs=1e-3
    )
    assert any(
        "3 clips are too few for 2 features" in text for text in evaluation.result["warnings"]
    )
    assert "\\*" in evaluation.table


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"tokenizers": [{"kind": "codec", "standard": "h264"}]}, PipelineError, "matched with"),
        (
            {"tokenizers": [{"kind": "python", "factory": FACTORY.format("WrongShape")}]},
            PipelineError,
            r"3, 9, 32, 48\] to .* 3, 8, 32, 48\]",
        ),
        (
            {"tokenizers": [{"kind": "python", "factory": FACTORY.format("NotFinite")}]},
            PipelineError,
            "not finite",
        ),
        (
            {"tokenizers": [{"kind": "python", "factory": FACTORY.format("Nothing")}]},
            PipelineError,
            "no attribute 'Nothing'",
        ),
        (
            {"tokenizers": [{"kind": "python", "factory": "pathlib:Path"}]},
            PipelineError,
            "has no codebook_sizes, encode, decode",
        ),
        ({"tokenizers": [{"kind": "compared", "path": "no/such/run"}]}, PipelineError, "no run"),
        ({"feature_networks": [{"kind": "i3d", "path": "no.pt"}]}, PipelineError, "no such file"),
        ({"device": "cuda"}, PipelineError, "finds no GPU"),
        ({"source": {"uris": ["nowhere"]}}, SourceError, "nowhere"),
    ],
)
def test_what_cannot_be_evaluated_is_one_error(
    corpus: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], named: str
) -> None:
    if "device" in changes and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(error, match=named):
        evaluate(config_of(corpus, tmp_path, **changes))
    assert not (tmp_path / "result.json").exists()


def test_files_that_are_no_such_networks_are_refused(
    corpus: Path, network: Path, tmp_path: Path
) -> None:
    def run(**row: Any) -> None:
        evaluate(config_of(corpus, tmp_path / "out", feature_networks=[row]))

    with pytest.raises(PipelineError, match="is no TorchScript file"):
        run(kind="i3d", path=str(network))
    i3d = str(save_small_i3d(tmp_path / "i3d.pt"))
    with pytest.raises(PipelineError, match="is no motion network"):
        run(kind="motion", path=i3d)
    with pytest.raises(PipelineError, match="the configuration asks for 0000"):
        run(kind="motion", path=str(network), sha256="0000")
    short = {"name": "short", "num_frames": 2, "height_px": 32, "width_px": 48}
    with pytest.raises(PipelineError, match="4 frames or more"):
        evaluate(
            config_of(
                corpus,
                tmp_path / "out",
                protocol=short,
                feature_networks=[{"kind": "i3d", "path": i3d}],
            )
        )


def test_tokens_of_another_size_are_refused(
    corpus: Path, network: Path, tokenizer_directory: str, tmp_path: Path
) -> None:
    tokens = tokenize_config(corpus, tokenizer_directory, tmp_path / "tokens")
    tokenize_in_process(tokens, batch_size=4)
    config = config_of(
        corpus,
        tmp_path / "out",
        tokenizers=[],
        protocol={"name": "other", "num_frames": 9, "height_px": 32, "width_px": 32},
        generated=[{"name": "tokens", "dataset": {"uri": str(tmp_path / "tokens")}}],
        feature_networks=[{"kind": "motion", "path": str(network)}],
    )
    with pytest.raises(DatasetError, match="9×32×48, the protocol's 9×32×32"):
        evaluate(config)


@pytest.mark.jobs
def test_the_job_prints_the_table(corpus: Path, tmp_path: Path) -> None:
    config = config_of(corpus, tmp_path / "out")
    path = write_config(tmp_path / "evaluate.yaml", config.to_mapping())
    found = run_plain("evaluate_tokenizer", "--config", str(path))
    assert found.returncode == 0, found.stderr
    assert "| still first frame |" in found.stdout
    assert f"{NUM_CLIPS} clips of {NUM_VIDEOS} videos, 1 videos left out" in found.stdout
    assert "part 4 of 4: 12 clips" in found.stderr
