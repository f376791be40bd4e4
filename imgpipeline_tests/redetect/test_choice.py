"""Names of models for re-processing are parsed, and invalid ones are refused."""

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.redetect.choice import ModelChoice, chosen_models, load_chosen, parse_choice
from imgpipeline.settings import load_settings
from imgpipeline.vision.registry import list_models


@pytest.mark.parametrize(
    ("text", "choice", "written"),
    [
        ("demo", ModelChoice("demo"), "demo"),
        ("demo@0.30", ModelChoice("demo", 0.3), "demo@0.3"),
        ("demo@0.000001", ModelChoice("demo", 0.000001), "demo@0.000001"),
        ("yolox-nano@0", ModelChoice("yolox-nano", 0.0), "yolox-nano@0"),
        ("demo@bf16", ModelChoice("demo", precision="bf16"), "demo@bf16"),
        ("demo@bf16@0.30", ModelChoice("demo", 0.3, "bf16"), "demo@bf16@0.3"),
        ("demo@fp16", ModelChoice("demo", precision="fp16"), "demo@fp16"),
    ],
)
def test_a_choice_is_read_and_written(text, choice, written):
    found = parse_choice(text, load_settings())
    assert (found, str(found)) == (choice, written)
    assert parse_choice(written, load_settings()) == choice


@pytest.mark.parametrize(
    "text", ["", "nobody", "demo@", "demo@1", "demo@1.5", "demo@-0.1", "demo@x", "demo|x", "live", "demo@0.3@bf16"]
)
def test_an_invalid_choice_is_refused_with_the_names_of_the_models(text):
    with pytest.raises(ConfigurationError, match=r"demo, yolox-nano") as caught:
        parse_choice(text, load_settings())
    assert "imgpipeline models list" in str(caught.value)


def test_without_the_setting_no_model_is_chosen():
    assert chosen_models(load_settings()) == ()


def test_the_setting_names_models_and_thresholds(monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_REDETECT_MODELS", "yolox-nano, demo@0.30,demo@0.3")
    assert [str(choice) for choice in chosen_models(load_settings())] == ["yolox-nano", "demo@0.3"]


@pytest.mark.parametrize(("value", "said"), [("demo@2", "NAME@THRESHOLD"), ("nobody", "nobody")])
def test_a_wrong_setting_is_named(value, said, monkeypatch):
    monkeypatch.setenv("IMGPIPELINE_REDETECT_MODELS", value)
    with pytest.raises(ConfigurationError, match="IMGPIPELINE_REDETECT_MODELS") as caught:
        chosen_models(load_settings())
    assert said in str(caught.value)


def test_a_model_that_was_not_pulled_is_named_with_the_command(tmp_path):
    settings = load_settings(model_dir=tmp_path)
    with pytest.raises(ConfigurationError, match="imgpipeline models pull yolox-nano"):
        load_chosen(parse_choice("yolox-nano", settings), settings)


def test_all_that_a_choice_does_not_name_is_as_for_live_detection():
    settings = load_settings(confidence_threshold=0.6, nms_threshold=0.3)
    plain, low = (load_chosen(parse_choice(text, settings), settings) for text in ("demo", "demo@0.1"))
    assert (plain.confidence_threshold, plain.nms_threshold) == (0.6, 0.3)
    assert (low.confidence_threshold, low.nms_threshold) == (0.1, 0.3)


def test_a_model_of_the_users_own_has_the_name_of_its_file(tmp_path):
    demo = next(spec for spec in list_models() if spec.name == "demo")
    own = tmp_path / "yard.onnx"
    own.write_bytes(demo.path.read_bytes())
    labels = tmp_path / "labels.txt"
    labels.write_text("\n".join(demo.labels))
    settings = load_settings(model=str(own), model_decoder="yolox", model_labels=labels)
    assert load_chosen(parse_choice("yard@0.2", settings), settings).model_name == "yard"
    assert load_chosen(parse_choice("demo", settings), settings).model_name == "demo"


def test_a_name_without_a_precision_means_the_same_whatever_the_setting_is():
    settings = load_settings(precision="int8")
    assert load_chosen(parse_choice("demo", settings), settings).precision == "fp32"
