"""Configuration files: every fault is one error with the dotted path."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.tokenization import TokenizeConfig
from pipeline.training.config import TrainConfig
from sweettok.errors import ConfigError
from sweettok.strict_config import StrictConfig, load_config
from sweettok.uri_secrets import secret_in_uri

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize(
    ("name", "config_class"),
    [
        ("train_tiny.yaml", TrainConfig),
        ("train_base.yaml", TrainConfig),
        ("train_motion.yaml", TrainConfig),
        ("tokenize_corpus.yaml", TokenizeConfig),
    ],
)
def test_shipped_configs_load_and_print_what_they_are(
    name: str, config_class: type[TrainConfig] | type[TokenizeConfig], tmp_path: Path
) -> None:
    config = load_config(config_class, CONFIGS / name)
    (tmp_path / "printed.yaml").write_text(config.to_yaml())
    assert load_config(config_class, tmp_path / "printed.yaml") == config


def test_overrides_win_and_are_typed() -> None:
    config = load_config(
        TrainConfig,
        CONFIGS / "train_tiny.yaml",
        [
            "training.optimizer.learning_rate=1e-4",
            "run.output=elsewhere",
            "data.clips.target_fps=8",
        ],
    )
    assert config.training.optimizer.learning_rate == 1e-4
    assert config.run.output == "elsewhere"
    assert config.data.clips.target_fps == 8.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.optimizer.learning_rat=1", r"learning_rat: unknown key \(did you mean"),
        ("model.geometry.frames=1", r"model\.geometry\.frames: unknown key"),
        ("training.phases.video.num_steps=many", r"phases\.video\.num_steps: .*integer.*'many'"),
        ("training.phases.vidoe.num_steps=9", r"no 'vidoe', only video; give a further one whole"),
        ("training.phases.video.num_steps=0", r"video\.num_steps: .*greater than or equal to 1"),
        ("model.geometry.num_frames=16", r"model\.geometry: num_frames must be 1 \+ a multiple"),
        (
            "training.phases.video.num_frames=16",
            r"^[^ ]*train_tiny\.yaml: training\.phases\.video: num_frames must be 1 \+ a multiple",
        ),
        (
            "training.phases.video.num_stepps=1",
            r"num_stepps: unknown key \(did you mean 'num_steps'",
        ),
        ("data.source.uris=/x.csv", r"data\.source\.uris: must be a list; write \[/x\.csv\] \(got"),
        ("training.phases=3", r"training\.phases: must be a section of keys and values.*\(got 3\)"),
        ("model.geometry=small", r"model\.geometry: must be a section of keys and values"),
        ("nonsense", "write it as a.b=value"),
        ("training.phases.video.num_steps.deeper=1", "holds a value, not a section"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, CONFIGS / "train_tiny.yaml", [override])


class Part(StrictConfig):
    size: int = 1


class Whole(StrictConfig):
    parts: tuple[Part, ...] = ()
    by_name: dict[str, Part | None] | None = None
    either: Part | str = "none"
    api_keys: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"parts": [{}, {"sise": 2}]}, r"^parts\.1\.sise: unknown key \(did you mean 'size'\?\)$"),
        ({"by_name": {"a": {"sise": 2}}}, r"^by_name\.a\.sise: .*did you mean 'size'"),
        ({"either": {"x": 2}}, r"either\.Part\.x: unknown key \(known here: size\)"),
        ({"parts": 7}, r"^parts: must be a list; write \[7\] \(got 7\)$"),
        ({"api_keys": "hidden"}, r"^api_keys: must be a list$"),
    ],
)
def test_keys_inside_lists_and_mappings_are_known_too(
    values: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Whole.from_mapping(values)


def test_a_missing_file_and_a_missing_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load_config(TrainConfig, tmp_path / "nowhere.yaml")
    values = yaml.safe_load((CONFIGS / "tokenize_corpus.yaml").read_text())
    del values["tokenizer"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=r"config\.yaml: tokenizer: required"):
        load_config(TokenizeConfig, tmp_path / "config.yaml")
    (tmp_path / "list.yaml").write_text("- a\n")
    with pytest.raises(ConfigError, match="must hold a mapping"):
        load_config(TokenizeConfig, tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encode.batch_size=true", r"encode\.batch_size: must not be a truth value"),
        ("encode.batch_size=99999999999999999999", r"encode\.batch_size: must lie within"),
        ("{a: 1, a: 2}=3", "write it as a.b=value|unknown key"),
        ("source={uris: [a], uris: [b]}", "is not a YAML value"),
    ],
)
def test_values_that_yaml_lets_pass_are_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(TokenizeConfig, CONFIGS / "tokenize_corpus.yaml", [override])


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    text = (CONFIGS / "tokenize_corpus.yaml").read_text()
    (tmp_path / "twice.yaml").write_text(text + "\ntokenizer: other\n")
    with pytest.raises(ConfigError, match=r"twice\.yaml: .*'tokenizer' is there twice.*line"):
        load_config(TokenizeConfig, tmp_path / "twice.yaml")


@pytest.mark.parametrize(
    "override",
    [
        "source.uris=[s3://someone:hunter2@bucket/videos]",
        "dataset.uri=https://someone:hunter2@store.example/tokens",
        "source.storage.endpoint_url=http://someone:hunter2@localhost:9000",
        "source.storage.options={proxy: 'http://someone:hunter2@proxy:3128'}",
        "source.manifests=['https://store.example/m.csv?X-Amz-Signature=hunter2']",
        "source.manifests=[{uri: 'https://store.example/m.csv?se=1&sig=hunter2'}]",
    ],
)
def test_credentials_in_a_uri_are_refused_and_never_repeated(override: str) -> None:
    with pytest.raises(ConfigError, match=r"carries .*through the environment") as refusal:
        load_config(TokenizeConfig, CONFIGS / "tokenize_corpus.yaml", [override])
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a@b:c/video.mp4",
        "https://host/video.mp4?part=3",
        "not a uri: a:b@c",
        "/a?sig=b",
    ],
)
def test_uris_without_credentials_pass(text: str) -> None:
    assert secret_in_uri(text) is None
