"""A wrong call of any command ends the same way: status 2, and one message with a next step on stderr."""

import os
import shlex
import sys
from pathlib import Path

import pytest

from imgpipeline.cli import app as cli_app
from imgpipeline_tests.cli.command import all_commands, run

pytestmark = pytest.mark.medium

WRONG_CALLS = [
    # what no command knows
    ("nonsense", "No such command 'nonsense'."),
    ("summary", "Missing command."),
    ("summary nonsense", "No such command 'nonsense'."),
    ("--nonsense", "No such option: --nonsense."),
    # days
    ("summary label-counts --day 2026-13-40", "--day is '2026-13-40'."),
    ("summary hours --from 2026-01-02 --to 2026-01-01", "--from 2026-01-02 is later"),
    ("summary sources --day 2026-01-01 --to 2026-01-02", "--day and --from or --to are both"),
    ("summary sizes --bins 3 --day 2026-01-09 --timezone Asia/Tokyo", "not for those of Asia/Tokyo."),
    ("summary hours --timezone Asia/Kolkatta", "Asia/Kolkata"),
    ("query 'SELECT 1' --day nonsense", "--day is 'nonsense'."),
    ("export duckdb lake.duckdb --day 2026-02-30", "--day is '2026-02-30'."),
    ("export coco set --day 2026-02-30", "--day is '2026-02-30'."),
    ("export yolo set --min-confidence 2", "--min-confidence"),
    ("report --day 2026-02-30", "--day is '2026-02-30'."),
    ("explain --day x --hour 1 --label car", "--day is 'x'."),
    ("site init cameras --camera rtsp://10.0.0.2/live", "Camera 1: expected NAME=URL"),
    ("site check nowhere", "dir 'nowhere' does not exist."),
    ("serve --host 192.0.2.1", "Anyone who can reach 192.0.2.1 could see all images"),
    ("publish detections", "--topic and --csv-file are both missing."),
    ("publish tracks --topic a --csv-file b", "--topic and --csv-file are both given."),
    ("publish events", "Neither --topic nor --mqtt is given."),
    ("publish events --topic results --mqtt", "--topic and --mqtt are both given."),
    ("publish detections --topic results --format xml", "Invalid value for '--format'"),
    ("build", "No days are given."),
    ("accuracy plan", "No days are given."),
    ("accuracy plan --day 2026-01-09 --width wide", "Got the share 'wide'."),
    ("accuracy plan --day 2026-01-09 --samples 0", "Invalid value for '--samples'"),
    ("accuracy status --from x", "--from is 'x'."),
    ("accuracy show --day x", "--day is 'x'."),
    ("accuracy accept", "Missing option '--label'."),
    ("accuracy accept --label car --margin 0", "Got the share '0'."),
    ("accuracy compare --b nonsense --day 2026-01-09", "There is no model 'nonsense'"),
    ("tracks stats --source gate --day x", "--day is 'x'."),
    ("tracks evaluate", "Missing option '--truth'."),
    ("tracks show gate", "Missing option '--output'"),
    ("tracks list --day x", "--day is 'x'."),
    ("summary objects --json --csv", "--json and --csv are both given."),
    ("sources books --day x", "--day is 'x'."),
    ("ingest replay --day 2026-01-09", "Missing option '--topic'."),
    ("ingest mqtt --payload gif", "'gif' is not one of 'image', 'json'."),
    ("serve-ingest --port x", "Invalid value for '--port'"),
    ("keys add --name anna --scope all", "--scope is wrong: 'all' is not a valid Scope."),
    ("keys add --name anna --scope ingest", "The key has no source."),
    ("keys add --name anna --scope read --source gate", "--source needs the scope ingest."),
    ("keys list --nonsense", "No such option: --nonsense"),
    ("keys remove", "Missing argument 'key'."),
    ("simulate video clip.avi", "clip.avi is not a video."),
    ("simulate folder --cameras 0", "Invalid value for '--cameras'"),
    ("simulate mqtt --cameras 0", "Invalid value for '--cameras'"),
    ("support-bundle ''", "An argument is empty."),
    ("upgrade", "Missing option '--check'."),
    ("exporter --every 0", "Invalid value for '--every'"),
    ("sinks check warehouse", "There is no sink warehouse."),
    ("sinks run warehouse", "There is no sink warehouse."),
    ("sinks list --json --csv", "--json and --csv are both given."),
    ("sinks status --json --csv", "--json and --csv are both given."),
    ("sinks remove", "Missing argument 'NAME'."),
    ("sinks search warehouse", "Missing argument 'TEXT'."),
    ("sinks count warehouse", "There is no sink warehouse."),
    ("sources run", "Missing argument 'SOURCES.TOML'."),
    ("events list --day x", "--day is 'x'."),
    ("events clip abc --output clip.mp4", "There is no event 'abc'"),
    ("summary zones --day x", "--day is 'x'."),
    ("summary lines --json --csv", "--json and --csv are both given."),
    ("alerts list --limit 0", "Invalid value for '--limit'"),
    ("alerts show", "Missing argument 'N'."),
    ("alerts acknowledge 0", "Invalid value for 'N'"),
    ("alerts deliver", "No targets are set."),
    ("alerts test", "No targets are set."),
    ("alerts watch", "No rules are given."),
    ("rules check", "No rules are given."),
    ("rules put", "Missing argument 'FILE'."),
    ("rules draw", "Missing argument 'frame'."),
    ("dead-letters replay --day x", "--day is 'x'."),
    # empty values, as of shell variables that are not set
    ("ingest folder . --source ''", "--source is empty."),
    ("ingest folder '' --source gate", "An argument is empty."),
    ("frames show 0.jpg --day x", "--day is 'x'."),
    ("health --supervisor ''", "--supervisor is empty."),
    ("detect ''", "An argument is empty."),
    ("images retain --duration ''", "--duration is empty."),
    ("doctor --rtsp ''", "--rtsp is empty."),
    ("prepare ''", "An argument is empty."),
    ("ingest sequence ''", "An argument is empty."),
    ("ingest s3 ''", "An argument is empty."),
    ("ingest rtsp ''", "An argument is empty."),
    ("simulate rtsp --host ''", "--host is empty."),
    # names that do not exist
    ("models pull nonsense", "There is no model 'nonsense'."),
    ("models compare demo nonsense --images .", "There is no model 'nonsense'"),
    ("models compare demo demo", "Neither --images nor --day is given."),
    ("models compare demo demo --images . --day 2026-01-01", "--images and --day are both given."),
    ("models add nowhere.onnx --name yard", "There is no file 'nowhere.onnx'."),
    ("models check nowhere.onnx rows.csv", "There is no file 'nowhere.onnx'."),
    ("models quantize nonsense --images .", "There is no model 'nonsense'"),
    ("models tune --model nonsense", "There is no model 'nonsense'"),
    ("demo --model nonsense", "There is no model 'nonsense'."),
    ("redetect --model nonsense --day 2026-01-01", "There is no model 'nonsense'"),
    ("redetect --model demo@2 --day 2026-01-01", "There is no model 'demo@2'"),
    ("models compare live nonsense --day 2026-01-01", "There is no model 'nonsense'"),
    ("dead-letters list --code NONSENSE", "'NONSENSE' is not one of"),
    ("frames list --status nonsense", "'nonsense' is not one of"),
    ("import detections rows.csv --label-column nonsense", "The column 'nonsense' is missing"),
    ("import detections rows.csv --box-columns a,b", "--box-columns names 2 columns."),
    ("summary label-totals --by colour", "--by is 'colour'."),
    ("ingest folder . --source gate --timezone Mars/Base", "Invalid value for '--timezone'"),
    ("ledger list --topic a/b", "'a/b'"),
    ("ledger repair --key nonsense", "nonsense is not the key of a segment."),
    ("dead-letters show nonsense", "'nonsense' is not a reference to a record"),
    # values out of their range
    ("ingest folder . --source ' '", "' ' is not a valid source name."),
    ("ingest folder . --source gate --start noon", "--start 'noon'"),
    ("topics create --partitions 0", "Invalid value for '--partitions'"),
    ("ledger new-chain --partition -1", "Invalid value for '--partition'"),
    ("ledger accept-loss --partition -1", "Invalid value for '--partition'"),
    ("import detections rows.csv --delimiter ';;'", "--delimiter is ';;'."),
    ("import detections rows.csv --name a/b", "'a/b' is not a valid import name"),
    ("import metadata rows.csv . ", "2 paths are given, but no name."),
    ("import metadata '*.json'", "*.json does not give the import a name."),
    ("ingest folder . --source gate --start 2026-01-09 --interval-s nan", "Invalid value for '--interval-s'"),
    ("topics peek --from yesterday", "--from 'yesterday'"),
    ("topics peek --topic other", "The topic other is not followed."),
    # what is missing, and what contradicts itself
    ("ingest video clip.mp4 --every 2 --fps 3", "More than one of --every, --fps and --count is given."),
    ("redetect --model demo", "No days are given."),
    ("demo --images . --video rows.csv", "Two of --images, --video and --cameras are given."),
    ("ledger repair --without-kafka", "--without-kafka gives up offsets"),
    ("mapreduce identity --input rows.csv --output rows.csv", "is one of the files to read."),
    ("mapreduce label-hour --input rows.csv", "Missing option '--output'"),
    ("mapreduce identity --input rows.csv --output https://bucket", "https://bucket is an address"),
    ("export metadata --to https://bucket/metadata", "is neither a folder nor in a bucket"),
    ("mapreduce label-total --output out", "Missing option '--input'."),
    ("mapreduce show", "Missing argument 'FILE'."),
    ("models convert a.cfg b.weights", "Missing argument"),
    ("models add rows.csv --name yard --mean 1,2", "--mean is '1,2', expected three numbers"),
    ("models add rows.csv --name yard --std 1,1,0", "--std is '1,1,0', expected numbers above 0."),
]


@pytest.fixture(autouse=True)
def site_without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No settings, and a folder with one CSV file."""
    for name in list(os.environ):
        if name.upper().startswith(("IMGPIPELINE_", "AWS_", "KAFKA_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("timestamp,detected_label,confidence\n2026-01-01T00:00:00Z,car,0.9\n")


def said_by(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> str:
    """Call the entry point; return what it says on stderr if the call is refused as it has to be, otherwise nothing."""
    monkeypatch.setattr(sys, "argv", ["imgpipeline", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli_app.main()
    said = capfd.readouterr()
    words = [line.split(" ")[0] for line in said.err.splitlines()]
    return said.err if (ended.value.code, said.out, words) == (2, "", ["Error:", "Next:"]) else ""


def test_a_wrong_call_has_status_two_one_message_and_a_next_step(monkeypatch, capfd):
    wrong = [
        (wrong_call, said)
        for wrong_call, message in WRONG_CALLS
        if message not in (said := said_by(shlex.split(wrong_call), monkeypatch, capfd)) or not said
    ]
    assert not wrong


def test_every_command_refuses_an_unknown_option_and_names_its_help(monkeypatch, capfd):
    wrong = []
    for words, _ in all_commands():
        said = said_by([*words, "--nonsense"], monkeypatch, capfd)
        if "No such option: --nonsense" not in said or f"`imgpipeline {' '.join(words)} --help`" not in said:
            wrong.append((words, said))
    assert not wrong


def test_the_table_of_wrong_calls_covers_every_command_with_arguments():
    in_table = [wrong_call for wrong_call, _ in WRONG_CALLS]
    for words, command in all_commands():
        if any(not getattr(parameter, "is_flag", False) for parameter in command.params):
            assert any(wrong_call.startswith(" ".join(words)) for wrong_call in in_table), words


@pytest.mark.parametrize("wrong_call", ["summary hours --day 2026-13-40", "status --nonsense", "query ''"])
def test_the_status_of_the_process_is_two(wrong_call, tmp_path):
    ended = run(*shlex.split(wrong_call), cwd=tmp_path)
    assert (ended.status, ended.stdout) == (2, "")
    assert "Traceback" not in ended.stderr
    assert ended.stderr.startswith("Error: ")
