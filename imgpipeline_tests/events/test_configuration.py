"""`rules.toml`: errors name line, entry, field and the next step."""

import pytest

from imgpipeline.errors import ConfigurationError
from imgpipeline.events.configuration import Line, Rules, Zone, load_rules, read_rules
from imgpipeline.objectstore.client import open_memory_store
from imgpipeline.settings import Settings
from imgpipeline_tests.events.samples import CHANGE, LINE, ZONE, rules

COUNT = '[[rule]]\nname = "crowd"\nkind = "count"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ZONE + COUNT, 'line 5: rule "crowd": above: Field required'),
        (ZONE + COUNT + "above = -1\n", 'line 8: rule "crowd": above: Input should be greater than or equal to 0'),
        (COUNT + "above = 1\nspeed = 3\n", 'line 5: rule "crowd": speed: Extra inputs are not permitted'),
        (COUNT + 'above = 1\nzone = "roof"\n', "line 5: rule \"crowd\": zone: there is no zone 'roof'"),
        (ZONE + ZONE, 'line 6: zone "yard": name: another zone has this name'),
        (ZONE.replace("[1, 1]", "[640, 480]"), "line 4: zone \"yard\": points"),
        (ZONE.replace("[1, 0.5], [1, 1], ", ""), 'line 4: zone "yard": points: Tuple should have at least 3 items'),
        ('[[rule]]\nname = "a"\nkind = "colour"\n', 'line 3: rule "a": kind: '),
        (COUNT + 'above = 1\nhours = "25:00-26:00"\n', 'line 5: rule "crowd": hours: String should match pattern'),
        (ZONE + COUNT + 'above = 1\nzone = "yard"\nsources = ["a"]\n', "line 10: rule \"crowd\": sources: 'yard'"),
        (LINE.replace('"out"', '"in"'), "line 6: line \"door\": backward: both directions have the name 'in'"),
        ("zones = 3\n", "line 1: zones: Extra inputs are not permitted"),
        ("[[zone]\n", "at line 1"),
    ],
    ids=["missing", "range", "unknown field", "unknown zone", "doubled", "pixels", "two points", "kind", "hours",
         "other source", "directions", "unknown table", "syntax"],
)  # fmt: skip
def test_an_invalid_file_is_refused_with_line_entry_and_field(tmp_path, text, said):
    path = tmp_path / "rules.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        load_rules(path)
    assert said in refused.value.message
    assert refused.value.next_step


def test_points_in_pixels_need_the_size_of_the_image():
    (zone,) = rules(ZONE.replace("points", "size = [200, 100]\npoints").replace("[1, 1]", "[200, 100]")).zone
    assert zone.fractions[2] == (1.0, 1.0)
    with pytest.raises(ConfigurationError, match=r"for pixels, add size = \[width, height\]"):
        rules(ZONE.replace("[1, 1]", "[200, 100]"))


def test_a_missing_file_and_missing_stored_rules_are_named(tmp_path):
    with pytest.raises(ConfigurationError, match=r"There is no file .*rules.toml"):
        load_rules(tmp_path / "rules.toml")
    with pytest.raises(ConfigurationError, match=r"memory:///rules.toml does not exist.*rules put"):
        read_rules(Settings(rules_file="store"), open_memory_store())


def test_without_the_setting_there_are_no_rules():
    assert read_rules(Settings(), open_memory_store()) == Rules()


def test_a_rule_about_a_zone_applies_to_the_source_of_the_zone():
    read = rules(ZONE + LINE + CHANGE + COUNT + 'above = 1\nzone = "yard"\n')
    assert [type(place) for place in read.places] == [Zone, Line]
    assert [read.sources_of(rule) for rule in read.rule] == [(), ("cam-1",)]
