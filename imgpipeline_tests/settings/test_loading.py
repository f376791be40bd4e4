"""Settings come from the environment and `.env`. Errors name wrong and unknown variables and never show a secret."""

import copy
import json
import os
import pickle
import re
import traceback
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr

from imgpipeline.errors import ConfigurationError
from imgpipeline.settings import Settings, load_settings
from imgpipeline.settings.loading import unknown_settings
from imgpipeline.settings.variables import variables
from imgpipeline_tests.conftest import SETTING_PREFIXES

REPOSITORY = Path(__file__).resolve().parents[2]

CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder without `.env`, and no variables of settings."""
    for name in list(os.environ):
        if name.upper().startswith(SETTING_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_defaults(tmp_path):
    settings = load_settings()
    assert settings.store_url == (tmp_path / ".imgpipeline" / "store").as_uri()
    assert (settings.kafka_topic, settings.model) == ("frames", "demo")
    assert (settings.confidence_threshold, settings.nms_threshold) == (0.5, 0.4)


STABLE_NAMES = {
    "STORE_URL": "s3://bucket/prefix", "S3_ENDPOINT": "http://127.0.0.1:7070",
    "KAFKA_BOOTSTRAP_SERVERS": "a:1,b:2", "KAFKA_TOPIC": "yard", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512", "KAFKA_USERNAME": "alice", "KAFKA_PASSWORD": "secret",
    "KAFKA_CA_FILE": "ca.pem", "MODEL": "yolox-nano", "MODEL_BACKEND": "opencv", "CONFIDENCE_THRESHOLD": "0.25",
    "NMS_THRESHOLD": "0.5", "LANES": "4", "LINGER_S": "3.5", "MAX_RUN_S": "60.0",
}  # fmt: skip


@pytest.mark.parametrize("name", STABLE_NAMES)
def test_every_stable_name_is_read_with_the_prefix(name, monkeypatch):
    monkeypatch.setenv(f"IMGPIPELINE_{name}", STABLE_NAMES[name])
    value = getattr(load_settings(), name.lower())
    assert str(value.get_secret_value() if isinstance(value, SecretStr) else value) == STABLE_NAMES[name]


def test_the_dotenv_file_is_read_and_the_environment_takes_precedence(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(
        "IMGPIPELINE_LANES=3\nIMGPIPELINE_MODEL=from-file\nAWS_ACCESS_KEY_ID=key-in-file\nUNKNOWN=1\n"
    )
    monkeypatch.setenv("IMGPIPELINE_MODEL", "from-environment")
    settings = load_settings()
    assert (settings.lanes, settings.model) == (3, "from-environment")
    assert settings.s3_access_key_id is not None
    assert settings.s3_access_key_id.get_secret_value() == "key-in-file"
    assert load_settings(lanes=5).lanes == 5


@pytest.mark.parametrize(
    ("variable", "field"),
    [
        ("AWS_ACCESS_KEY_ID", "s3_access_key_id"),
        ("AWS_SECRET_ACCESS_KEY", "s3_secret_access_key"),
        ("AWS_SESSION_TOKEN", "s3_session_token"),
        ("AWS_REGION", "s3_region"),
        ("AWS_DEFAULT_REGION", "s3_region"),
        ("KAFKA_USERNAME", "kafka_username"),
        ("KAFKA_PASSWORD", "kafka_password"),
        ("S3_ENDPOINT_URL", "s3_endpoint"),
        ("KAFKA_BROKER", "kafka_bootstrap_servers"),
        ("MQTT_HOST", "mqtt_host"),
        ("MQTT_USERNAME", "mqtt_username"),
        ("MQTT_PASSWORD", "mqtt_password"),
        ("RTSP_URL", "rtsp_url"),
    ],
)
def test_variables_of_other_tools_are_read_after_ours(variable, field, monkeypatch):
    def read() -> object:
        value = getattr(load_settings(), field)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    monkeypatch.setenv(variable, "http://theirs")
    assert read() == "http://theirs"
    monkeypatch.setenv(f"IMGPIPELINE_{field.upper()}", "http://ours")
    assert read() == "http://ours"
    monkeypatch.setenv(f"IMGPIPELINE_{field.upper()}", "")
    assert read() == "http://theirs"


def test_an_empty_variable_counts_as_unset(monkeypatch):
    for name in ("MODEL_THREADS", "S3_ENDPOINT", "LANES", "KAFKA_CA_FILE"):
        monkeypatch.setenv(f"IMGPIPELINE_{name}", "")
    settings = load_settings()
    assert (settings.model_threads, settings.s3_endpoint, settings.lanes) == (None, None, 1)


def test_the_classic_names_of_keys_and_passwords_are_read(monkeypatch):
    for name in ("HETZNER_S3_ACCESS_KEY", "HETZNER_S3_SECRET_KEY", "KAFKA_USER_PASSWORD"):
        monkeypatch.setenv(name, f"value of {name}")
    settings = load_settings()
    secrets = (settings.s3_access_key_id, settings.s3_secret_access_key, settings.kafka_password)
    assert [secret and secret.get_secret_value() for secret in secrets] == [
        "value of HETZNER_S3_ACCESS_KEY",
        "value of HETZNER_S3_SECRET_KEY",
        "value of KAFKA_USER_PASSWORD",
    ]
    assert settings.kafka_username == "admin"


@pytest.mark.parametrize(
    ("variables", "user", "password"),
    [
        ({"KAFKA_USER_PASSWORD": "a", "KAFKA_USERNAME": "bob"}, "bob", "a"),
        ({"KAFKA_USER_PASSWORD": "a", "KAFKA_PASSWORD": "b"}, None, "b"),
        ({"KAFKA_PASSWORD": "b"}, None, "b"),
    ],
    ids=["the user is named", "the password is given twice", "no classic password"],
)
def test_the_user_is_admin_only_with_the_classic_password(variables, user, password, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.kafka_password is not None
    assert (settings.kafka_username, settings.kafka_password.get_secret_value()) == (user, password)


def test_image_locations_are_separated_by_commas(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS", " s3://a/2026 ,s3://b,, ")
    assert load_settings().allowed_image_locations == ("s3://a/2026", "s3://b")


def test_s3a_urls_are_kept_as_s3_urls(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", "s3a://lake/site/")
    monkeypatch.setenv("IMGPIPELINE_ALLOWED_IMAGE_LOCATIONS", "s3a://a/2026,s3://b")
    settings = load_settings()
    assert (settings.store_url, settings.allowed_image_locations) == ("s3://lake/site", ("s3://a/2026", "s3://b"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LANES", "0"), ("LANES", "many"), ("LINGER_S", "nan"), ("LINGER_S", "-1"), ("MAX_RUN_S", "inf"),
        ("CONFIDENCE_THRESHOLD", "1"), ("CONFIDENCE_THRESHOLD", "nan"), ("NMS_THRESHOLD", "0"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS"), ("KAFKA_SASL_MECHANISM", "GSSAPI"), ("KAFKA_TOPIC", "a b"),
        ("KAFKA_TOPIC", ".."), ("KAFKA_TOPIC", "a/b"), ("KAFKA_TOPIC", "import.a"),
        ("MODEL_BACKEND", "torch"), ("FIRST_DAY", "2026-02-30"),
        ("SEGMENT_MAX_RECORDS", "0"), ("MAX_FUTURE_S", "1e9"), ("ALLOW_GAPS", "perhaps"),
        ("STORE_URL", "bucket/prefix"), ("STORE_URL", "s3://"), ("STORE_URL", "s3:///prefix"),
        ("STORE_URL", "file:////"), ("STORE_URL", "file://host/folder"), ("STORE_URL", "file:///a#b"),
        ("STORE_URL", "s3://bucket/p?x"), ("STORE_URL", "s3a://"), ("S3_ENDPOINT", "127.0.0.1:7070"), ("S3_ENDPOINT", "http://"),
        ("ALLOWED_IMAGE_LOCATIONS", "file:///"), ("ALLOWED_IMAGE_LOCATIONS", "/mnt"), ("ALLOWED_IMAGE_LOCATIONS", "s3://"),
        ("ALLOWED_IMAGE_LOCATIONS", "s3://a,b"), ("TIMESTAMP_FIELDS", "image_path"), ("TIMESTAMP_FIELDS", ","),
        ("MESSAGE_TIMEZONE", "Mars"), ("IMAGE_PATH_TEMPLATE", "../{n}"), ("SOURCE_TEMPLATE", "gate"),
        ("IMAGE_KEY_TEMPLATE", "metadata/{name}"), ("GATE_HOURS", "06:0 0-20:30"), ("GATE_HOURS", "6-20"),
    ],
)  # fmt: skip
def test_the_error_for_a_wrong_value_names_its_variable(name, value, monkeypatch):
    monkeypatch.setenv(f"IMGPIPELINE_{name}", value)
    with pytest.raises(ConfigurationError, match=f"IMGPIPELINE_{name}: ") as caught:
        load_settings()
    assert "docs/operations.md" in str(caught.value)


def test_errors_for_arguments_and_dotenv_values_name_the_same_variable(tmp_path):
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_LANES: "):
        load_settings(lanes=0)
    (tmp_path / ".env").write_text("imgpipeline_lanes=0\n")
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_LANES: "):
        load_settings()


def test_the_error_for_an_unreadable_dotenv_file_names_it(tmp_path):
    (tmp_path / ".env").write_bytes(b"IMGPIPELINE_MODEL=\xff\xfe\n")
    with pytest.raises(ConfigurationError, match=r"\.env"):
        load_settings()


SECRETS = ("s3_access_key_id", "s3_secret_access_key", "s3_session_token", "kafka_password")


def test_no_representation_of_the_settings_shows_a_secret(monkeypatch):
    for name in SECRETS:
        monkeypatch.setenv(f"IMGPIPELINE_{name.upper()}", f"{CANARY}-{name}")
    settings = load_settings()
    texts = [
        repr(settings), str(settings), f"{settings}", settings.model_dump_json(),
        json.dumps(settings.model_dump(), default=str),
        repr(settings.model_dump()), repr(copy.deepcopy(settings)), repr(list(settings)), settings.results_hash(),
    ]  # fmt: skip
    assert not [text for text in texts if CANARY in text]
    restored = pickle.loads(pickle.dumps(settings))  # noqa: S301 - our own bytes
    assert restored.kafka_password.get_secret_value() == f"{CANARY}-kafka_password"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORE_URL", f"s3://key:{CANARY}@bucket/prefix"),
        ("STORE_URL", f"s3://bucket/prefix?secret={CANARY}"),
        ("S3_ENDPOINT", f"http://user:{CANARY}@127.0.0.1:7070"),
        ("ALLOWED_IMAGE_LOCATIONS", f"s3://key:{CANARY}@bucket"),
        ("LANES", CANARY),
    ],
)
def test_an_error_never_shows_the_value(name, value, monkeypatch):
    monkeypatch.setenv(f"IMGPIPELINE_{name}", value)
    monkeypatch.setenv("KAFKA_PASSWORD", CANARY)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_settings_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().lanes = 2


def test_the_results_hash_depends_only_on_settings_that_change_results(tmp_path):
    before = load_settings().results_hash()
    assert before == load_settings(lanes=7, linger_s=1, kafka_topics=("other",)).results_hash()
    changes: list[dict[str, object]] = [
        {"model": "other"}, {"confidence_threshold": 0.6}, {"nms_threshold": 0.6}, {"nms_per_class": True},
        {"max_image_bytes": 2000}, {"max_image_pixels": 5}, {"max_message_bytes": 2000},
        {"first_day": date(2020, 1, 1)}, {"model_decoder": "yolox"}, {"reduced_decoding": False},
        {"model_labels": tmp_path / "missing.txt"}, {"timestamp_fields": "time"}, {"message_timezone": "Asia/Tokyo"},
        {"image_path_template": "{n}.jpg"}, {"source_template": "{key}"}, {"precision": "bf16"},
        {"integer_boxes": True}, {"detectors": "demo: car"},
    ]  # fmt: skip
    hashes = {load_settings(**change).results_hash() for change in changes}
    assert len(hashes | {before}) == len(changes) + 1


def test_the_results_hash_depends_on_the_content_of_the_labels_file(tmp_path):
    labels, same = tmp_path / "labels.txt", tmp_path / "same.txt"
    labels.write_text("car\ndog\n")
    same.write_text("car\ndog\n")
    first = load_settings(model_labels=labels).results_hash()
    assert load_settings(model_labels=same).results_hash() == first
    labels.write_text("car\ncat\n")
    assert load_settings(model_labels=labels).results_hash() != first


def test_no_secret_is_plain_text():
    for name, field in Settings.model_fields.items():
        is_path = name.endswith("_file")  # says where a secret is, and is none
        if not is_path and any(word in name for word in ("password", "secret", "token", "access_key")):
            assert "SecretStr" in str(field.annotation), name


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("IMGPIPELINE_STOR_URL", "IMGPIPELINE_STORE_URL"),
        ("IMGPIPELINE_KAFKA_TOPICS", "IMGPIPELINE_KAFKA_TOPIC"),
        ("IMGPIPELINE_KAFKA_BOOTSTRAP_SERVER", "IMGPIPELINE_KAFKA_BOOTSTRAP_SERVERS"),
        ("imgpipeline_lane", "IMGPIPELINE_LANES"),
        ("IMGPIPLINE_LANES", "IMGPIPELINE_LANES"),
        ("IMAGEPIPELINE_MODEL", "IMGPIPELINE_MODEL"),
        ("IMGPIPELINE_QQQ", None),
    ],
    ids=["STOR_URL", "TOPICS", "BOOTSTRAP_SERVER", "lower case", "IMGPIPLINE", "IMAGEPIPELINE", "like none"],
)
@pytest.mark.parametrize("place", ["environment", ".env"])
def test_a_misspelt_name_is_found_with_the_nearest_setting(written, meant, place, monkeypatch, tmp_path):
    if place == "environment":
        monkeypatch.setenv(written, "value")
    else:
        (tmp_path / ".env").write_text(f"{written}=value\n")
    assert [(one.name, one.place, one.nearest) for one in unknown_settings()] == [(written, place, meant)]


@pytest.mark.parametrize("name", ["PIPELINE_LANES", "MYPIPELINE_STORE_URL", "AWS_REGION", "IMGPIPLINE_X"])
def test_variables_of_other_programs_are_not_reported(name, monkeypatch):
    monkeypatch.setenv(name, "value")
    assert unknown_settings() == []


def test_every_setting_is_known_in_upper_and_lower_case(monkeypatch, tmp_path):
    names = [own for name, field in Settings.model_fields.items() for own in variables(name, field)]
    (tmp_path / ".env").write_text("".join(f"{name.lower()}=1\n" for name in names))
    for name in names:
        monkeypatch.setenv(name, "1")
    assert unknown_settings() == []


def test_every_variable_that_the_projects_code_reads_is_known(monkeypatch):
    read = re.compile(r"""environ(?:\.get\(|\[)["'](IMGPIPELINE_\w+)["']""")
    folders = ("imgpipeline", "imgpipeline_tests", "benchmarks")
    texts = [file.read_text(encoding="utf-8") for folder in folders for file in (REPOSITORY / folder).rglob("*.py")]
    names = {name for text in texts for name in read.findall(text)}
    assert {"IMGPIPELINE_TRACEBACK", "IMGPIPELINE_REQUIRE_SERVERS", "IMGPIPELINE_TEST_DATA"} <= names
    for name in names | {"IMGPIPELINE_FAULT_AT", "IMGPIPELINE_FAULT_ONCE"}:
        monkeypatch.setenv(name, "")
    assert unknown_settings() == []


def test_an_unknown_setting_never_shows_its_value(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_KAFKA_PASSWRD", "canary-1")
    (unknown,) = unknown_settings()
    assert "canary" not in str(unknown) + repr(unknown)


def test_an_unreadable_dotenv_file_has_no_unknown_settings(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe\x00")
    assert unknown_settings() == []


READ = {
    "HETZNER_S3_ACCESS_KEY", "HETZNER_S3_SECRET_KEY", "KAFKA_USER_PASSWORD", "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY", "KAFKA_USERNAME", "KAFKA_PASSWORD", "S3_ENDPOINT_URL", "KAFKA_BROKER", "DATASET_ROOT_DIR",
    "MQTT_HOST", "MQTT_PORT", "MQTT_USERNAME", "MQTT_PASSWORD", "RTSP_URL", "SERVICE_NAME",
}  # fmt: skip
ANNOUNCED = {
    "S3_BUCKET_NAME": "IMGPIPELINE_STORE_URL=s3://", "ES_HOST_URL": "IMGPIPELINE_SINKS", "ES_USERNAME": "opensearch",
    "ES_PASSWORD": "`elasticsearch`", "TRAEFIK_VERSION": "containers", "ELASTIC_VERSION": "containers",
    "HADOOP_IMAGE": "containers", "DOMAIN_BASE": "containers", "BASIC_AUTH_FILE": "containers",
    "MEILI_MASTER_KEY": "`meilisearch`", "CAR_TOPIC": "IMGPIPELINE_KAFKA_TOPIC", "OUTPUT_TOPIC": "publish",
    "PERSON_TOPIC": "IMGPIPELINE_KAFKA_TOPIC", "PEOPLE_TOPIC": "IMGPIPELINE_KAFKA_TOPIC",
    "INPUT_TOPIC": "IMGPIPELINE_KAFKA_TOPIC",
    "YOLO_MODEL_PATH": "IMGPIPELINE_MODEL", "CSV_PATH": "--csv-file", "FRAME_RATE": "times of the frames",
    "POSTGRES_DB": "postgresql://", "POSTGRES_USER": "postgresql://", "POSTGRES_PASSWORD": "postgresql://",
    "CLICKHOUSE_HOST": "`clickhouse`", "CLICKHOUSE_PORT": "`clickhouse`", "MQTT_TOPIC": "--mqtt-topic",
    "MQTT_BROKER": "MQTT_HOST",
}  # fmt: skip
"""A word of what is said of each classic name that is not read."""


def test_nothing_in_a_classic_dotenv_file_is_ignored_silently(tmp_path):
    (tmp_path / ".env").write_text("".join(f"{name}={CANARY}\n" for name in (READ | ANNOUNCED.keys())))
    said = {one.name: str(one) for one in unknown_settings()}
    assert said.keys() == ANNOUNCED.keys()
    assert not [name for name, word in ANNOUNCED.items() if word not in said[name]]
    assert all(f"{name} (.env)" in text and CANARY not in text for name, text in said.items())


def test_a_bucket_without_a_store_is_refused_because_results_would_go_to_a_folder(monkeypatch):
    monkeypatch.setenv("S3_BUCKET_NAME", "2025-group19")
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_STORE_URL=s3://2025-group19"):
        load_settings()
    monkeypatch.setenv("IMGPIPELINE_STORE_URL", "s3://2025-group19/site")
    assert load_settings().store_url == "s3://2025-group19/site"


def test_a_classic_name_is_not_mentioned_once_its_setting_is_set(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("CAR_TOPIC=car-frames\nIMGPIPELINE_KAFKA_TOPIC=car-frames,person-frames\n")
    assert unknown_settings() == []


def test_the_error_for_a_wrong_value_names_the_variable_that_holds_it(monkeypatch):
    monkeypatch.setenv("S3_ENDPOINT_URL", "s3.example.org")
    with pytest.raises(ConfigurationError, match=r"invalid\. S3_ENDPOINT_URL: "):
        load_settings()


def test_only_a_name_in_the_environment_may_belong_to_another_program(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("FRAME_RATE=30\nIMGPIPELINE_LANE=2\n")
    monkeypatch.setenv("POSTGRES_DB", "frames_db")
    monkeypatch.setenv("IMGPIPELINE_MODLE", "demo")
    shared = {one.name: one.may_be_of_others for one in unknown_settings()}
    assert shared == {
        "FRAME_RATE": False,
        "IMGPIPELINE_LANE": False,
        "IMGPIPELINE_MODLE": False,
        "POSTGRES_DB": True,
    }
