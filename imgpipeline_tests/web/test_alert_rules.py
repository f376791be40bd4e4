"""Each silent standstill raises an alert within two minutes of its metric, and a healthy site raises none."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from imgpipeline.web.exporter import METRICS
from imgpipeline_tests.servers import programs

pytestmark = pytest.mark.servers
RULES = Path(__file__).resolve().parents[2] / "deploy" / "prometheus" / "imgpipeline.rules.yaml"
HEALTHY = {
    "imgpipeline_refreshed_timestamp_seconds": "0+15x400",
    'imgpipeline_part_up{part="log"}': "1x400",
    'imgpipeline_lag_seconds{topic="frames",partition="0"}': "2x400",
    'imgpipeline_partition_stopped{topic="frames",partition="0"}': "0x400",
    "imgpipeline_detection_failing_runs": "0x400",
    "imgpipeline_detection_sensor_timestamp_seconds": "0+15x400",
    'imgpipeline_source_up{source="gate"}': "1x400",
    'imgpipeline_source_dropped_today{source="gate",reason="queue"}': "7x400",
    'imgpipeline_dead_letters_today{code="DECODE_FAILED"}': "3x400",
    "imgpipeline_days_behind": "0x400",
    "imgpipeline_audit_wrong_days": "0x400",
    "imgpipeline_audit_timestamp_seconds": "0+15x400",
    "imgpipeline_alerts_late": "0x400",
    'imgpipeline_sink_failing{sink="warehouse"}': "0x400",
    'imgpipeline_runs_failed{work="tables"}': "0x400",
}
"""Series of a site without a problem: a value every 15 s, as `start+step x count`."""
FAULTS = {
    "ExporterStandsStill": ("imgpipeline_refreshed_timestamp_seconds", "0+15x39 600x360", "18m"),
    "PartOfMetricsUnreadable": ('imgpipeline_part_up{part="log"}', "1x39 0x360", "12m"),
    "DetectionIsLate": ('imgpipeline_lag_seconds{topic="frames",partition="0"}', "2x39 301+15x360", "12m"),
    "PartitionStopped": ('imgpipeline_partition_stopped{topic="frames",partition="0"}', "0x39 1x360", "12m"),
    "DetectionRunsFail": ("imgpipeline_detection_failing_runs", "0x39 2x360", "12m"),
    "SensorStandsStill": ("imgpipeline_detection_sensor_timestamp_seconds", "0+15x39 585x360", "12m15s"),
    "SourceSilent": ('imgpipeline_source_up{source="gate"}', "1x39 0x360", "12m"),
    "FramesLost": ('imgpipeline_source_dropped_today{source="gate",reason="queue"}', "7x39 9x360", "12m"),
    "DeadLetters": ('imgpipeline_dead_letters_today{code="DECODE_FAILED"}', "3x39 4x360", "12m"),
    "DaysNotBuilt": ("imgpipeline_days_behind", "0x39 3x360", "42m"),
    "AuditWrong": ("imgpipeline_audit_wrong_days", "0x39 1x360", "12m"),
    "AuditOld": ("imgpipeline_audit_timestamp_seconds", "-700000x400", "12m"),
    "AlertsUndelivered": ("imgpipeline_alerts_late", "0x39 2x360", "12m"),
    "SinkFails": ('imgpipeline_sink_failing{sink="warehouse"}', "0x39 1x360", "12m"),
    "RunsFail": ('imgpipeline_runs_failed{work="tables"}', "0x39 1x360", "12m"),
}
"""For each alert the series that a fault at minute 10 changes, and when the alert has to fire at the latest."""


def firing(folder: Path, series: dict[str, str], at: str, alert: str) -> str:
    """Return what promtool says of the expectation that no alert of this name fires at a time."""
    document = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "alert_rule_test": [{"eval_time": at, "alertname": alert, "exp_alerts": []}],
            }
        ],
    }
    path = folder / "test.yaml"  # JSON is YAML
    path.write_text(json.dumps(document))
    ended = subprocess.run([programs.promtool(), "test", "rules", path], check=False, capture_output=True, text=True)
    return ended.stdout + ended.stderr


def rule_names() -> list[str]:
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def test_the_rules_are_valid_and_read_only_metrics_that_exist():
    checked = subprocess.run(
        [programs.promtool(), "check", "rules", RULES], check=False, capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stderr
    detection = {"detection_failing_runs", "detection_sensor_timestamp_seconds"}
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    used = set(re.findall(r"imgpipeline_(\w+)", " ".join(rule["expr"] for rule in group["rules"])))
    assert used <= METRICS.keys() | detection


def test_each_rule_has_a_fault():
    assert rule_names() == list(FAULTS)


@pytest.mark.parametrize("alert", list(FAULTS))
def test_a_fault_raises_its_alert_in_time_and_a_healthy_site_does_not(tmp_path, alert):
    name, values, at = FAULTS[alert]
    assert "SUCCESS" in firing(tmp_path, HEALTHY, "60m", alert)
    said = firing(tmp_path, {**HEALTHY, name: values}, at, alert)
    assert "FAILED" in said
    assert f'alertname="{alert}"' in said or f"alertname:{alert}" in said.replace('"', "").replace(" ", ""), said


@pytest.mark.parametrize("alert", ["FramesLost", "DeadLetters"])
def test_the_first_loss_of_a_kind_is_a_series_that_appears_and_raises_its_alert(tmp_path, alert):
    name, _, at = FAULTS[alert]
    assert f'alertname="{alert}"' in firing(tmp_path, {**HEALTHY, name: "_x39 1x360"}, at, alert)
    assert "SUCCESS" in firing(tmp_path, {**HEALTHY, name: "_x39 1x360"}, "60m", alert)
