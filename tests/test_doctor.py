"""The doctor on sound and on faulty settings: real decoders, a real store, a real cluster."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import run_job
from pipeline.dataset import TokenDataset
from pipeline.doctor import DoctorConfig, Examination, examine
from pipeline.doctor.finding import Finding
from pipeline.exit_codes import ExitCode
from tests.dataset_places import s3_place
from tests.faulty_proxy import FaultyProxy
from tests.job_runs import free_port, write_config
from tests.tiny_corpus import make_corpus, tokenize_values
from tests.token_samples import sample_lineage


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def values(corpus: Path, tokenizer_directory: str, tmp_path: Path) -> dict[str, Any]:
    """A config that works, Ray left out."""
    sound = tokenize_values(corpus, tokenizer_directory, tmp_path / "deep" / "tokens")
    # One decoder is enough, and every further one starts a process.
    return sound | {"check_cluster": False, "decode": {"decoders": ["pyav"]}}


def examined(values: dict[str, Any], **changes: Any) -> Examination:
    return examine(DoctorConfig.from_mapping(values | changes))


def failed(examination: Examination) -> dict[str, Finding]:
    """The parts that failed; each has a remedy."""
    found = {it.part: it for it in examination.findings if it.grade == "failed"}
    assert all(finding.remedy for finding in found.values())
    return found


def test_a_sound_installation_has_no_failing_part_and_nothing_is_left_behind(
    values: dict[str, Any], tmp_path: Path
) -> None:
    everything = {"decode": {"decoders": ["pyav", "pyav_two_pass", "decord"]}}
    before = set(tmp_path.rglob("*"))
    examination = examined(values, **everything)
    assert failed(examination) == {}
    parts = [finding.part for finding in examination.findings]
    assert {"packages", "decoder decord", "codecs", "conditional write", "commits"} <= set(parts)
    assert set(tmp_path.rglob("*")) == before
    examination.check()


def test_a_dataset_in_a_store_is_looked_at_and_left_as_it_was(
    values: dict[str, Any], endpoint_url: str
) -> None:
    place = s3_place(endpoint_url)
    dataset = {"uri": place.uri, "storage": place.storage.to_mapping()}
    assert failed(examined(values, dataset=dataset)) == {}
    TokenDataset.create_or_open(place.uri, sample_lineage(), storage=place.storage)
    before = place.files()
    found = failed(examined(values, dataset=dataset))
    assert "holds tokens of another lineage" in found["dataset"].detail
    assert place.files() == before


def test_a_store_without_conditional_writes_is_found(
    values: dict[str, Any], endpoint_url: str
) -> None:
    with FaultyProxy(endpoint_url, drops_conditions=True) as proxy:
        storage = {"endpoint_url": proxy.url, "region": "us-east-1"}
        dataset = {"uri": f"s3://corpus/{uuid.uuid4().hex}", "storage": storage}
        found = failed(examined(values, dataset=dataset))
    assert "both were told True and True" in found["conditional write"].detail
    assert "If-None-Match" in found["conditional write"].remedy


def test_every_faulty_setting_is_a_finding_and_the_rest_is_looked_at(
    values: dict[str, Any], tmp_path: Path, endpoint_url: str
) -> None:
    (tmp_path / "file").touch()
    nobody = {"endpoint_url": f"http://127.0.0.1:{free_port()}", "attempts": 1, "region": "r"}
    real = {"endpoint_url": endpoint_url, "region": "us-east-1"}
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({"tokenizer": str(tmp_path)}, "tokenizer", "no tokenizer there"),
        ({"source": {"uris": [str(tmp_path / "nothing")]}}, "source", "does not exist"),
        ({"source": {"uris": ["s3://corpus/x/"], "storage": nobody}}, "source", "cannot be listed"),
        ({"dataset": {"uri": str(tmp_path / "file")}}, "dataset", "choose a place"),
        ({"dataset": {"uri": "s3://corpus/t", "storage": nobody}}, "dataset", "reading failed"),
        ({"dataset": {"uri": "s3://no-such-bucket/t", "storage": real}}, "dataset", "bucket"),
    ]
    for changes, part, detail in cases:
        examination = examined(values, **changes)
        found = failed(examination)
        assert detail in found[part].detail, (changes, found)
        assert {"packages", "codecs"} <= {finding.part for finding in examination.findings}


def test_bf16_without_a_gpu_is_a_warning_here(values: dict[str, Any]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    examination = examined(values, encode={"precision": "bf16"})
    (gpu,) = [finding for finding in examination.findings if finding.part == "GPU"]
    assert gpu.grade == "warning"
    assert "encode.precision=fp32" in gpu.remedy


@pytest.mark.ray
def test_a_cluster_without_room_is_found(ray_cluster: None, values: dict[str, Any]) -> None:
    room = examined(values, check_cluster=True, encode={"num_actors": 1})
    assert failed(room) == {}
    encoders = {"num_actors": 64, "in_decode_tasks": False}
    found = failed(examined(values, check_cluster=True, encode=encoders))
    assert found["Ray CPUs"].detail == "2 there, 65 needed at one time"


def test_the_job_prints_json_and_fails_with_its_code(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("doctor_job", Path(__file__).parents[1] / "jobs" / "doctor.py")
    assert spec is not None
    assert spec.loader is not None
    job = module_from_spec(spec)
    spec.loader.exec_module(job)

    def run(*arguments: str) -> tuple[int, str, str]:
        config = write_config(tmp_path / "job.yaml", values)
        code = run_job(
            "", DoctorConfig, job.main, example="", flags=job.FLAGS,
            arguments=["--config", str(config), *arguments],
        )  # fmt: skip
        return code, *capsys.readouterr()

    code, printed, _ = run("--json", "--no-cluster")
    assert code == ExitCode.DONE
    assert {it["grade"] for it in json.loads(printed)} <= {"ok", "warning"}
    code, printed, errors = run("--set", "tokenizer=/nonexistent")
    assert code == ExitCode.FAILED
    assert "failed   tokenizer: /nonexistent: no tokenizer there" in printed
    assert "\n         → give its directory as tokenizer" in printed
    assert "failed, see above for the remedies" in errors
