"""`imgpipeline site`: from no folder to one that `docker compose` can start."""

import pytest

from imgpipeline_tests.cli.command import run


def test_init_writes_a_folder_and_check_finds_what_this_machine_lacks(tmp_path):
    (tmp_path / "docker").write_text("#!/bin/sh\necho 2.20.0\n")
    (tmp_path / "docker").chmod(0o755)
    made = run(
        "site", "init", "cameras", "--domain", "localhost", "--camera", "gate=rtsp://10.0.0.2/live", cwd=tmp_path
    )
    assert made.status == 0
    assert [line.split(": ")[0] for line in made.stdout.splitlines()] == ["user", "password", "api key"]
    checked = run("site", "check", "cameras", env={"PATH": str(tmp_path)}, cwd=tmp_path)
    assert checked.status == 1
    assert "docker compose  FAILED: version 2.20.0" in checked.stdout


def test_documented_variables_that_are_settings_too_work_in_the_folder_itself(tmp_path):
    assert run("site", "init", "cameras", "--domain", "localhost", cwd=tmp_path).status == 0
    folder = tmp_path / "cameras"
    with (folder / ".env").open("a") as file:
        file.write("MQTT_PORT=127.0.0.1:8883\nPOSTGRES_HOST=database.test\nTRAEFIK_VERSION=3.0\n")
    checked, again = run("site", "check", ".", cwd=folder), run("site", "init", ".", cwd=folder)
    assert "settings        ok" in checked.stdout
    assert again.status == 0
    assert "Warning" not in checked.stderr + again.stderr


def test_a_second_init_keeps_what_is_there_and_takes_no_options(tmp_path):
    assert run("site", "init", "cameras", "--domain", "cameras.example", cwd=tmp_path).status == 0
    again = run("site", "init", "cameras", cwd=tmp_path)
    assert (again.status, again.stdout) == (0, "")
    assert "stay as they are" in again.stderr
    refused = run("site", "init", "cameras", "--domain", "other.example", cwd=tmp_path)
    assert refused.status == 2
    assert "options do not change it" in refused.stderr
    assert "SITE_DOMAIN=cameras.example" in (tmp_path / "cameras" / ".env").read_text()


@pytest.mark.parametrize(
    "options",
    [
        ["--camera", "rtsp://user:CANARY@10.0.0.2/live"],
        ["--camera", "http://user:CANARY@10.0.0.2/live?a=b"],
        ["--camera", "gate=rtsp://user:p/CANARY@10.0.0.2/live"],
        ["--camera", "gate=rtsp://10.0.0.2/live?user=admin&password=CANARY"],
        ["--alerts", "slak://A/B/CANARY"],
        ["--sink", "foo=bar://user:CANARY@sink.test"],
    ],
)
def test_a_wrong_option_is_refused_without_showing_its_password(tmp_path, options):
    made = run("--verbose", "site", "init", "cameras", *options, cwd=tmp_path)
    assert made.status == 2
    assert "Next: " in made.stderr
    assert "CANARY" not in made.stdout + made.stderr
    assert not (tmp_path / "cameras").exists()


def test_secrets_that_people_give_are_only_in_the_folder_of_secrets(tmp_path):
    options = [
        "--camera",
        "gate=rtsp://user:CANARY1%2F@10.0.0.2/live",
        "--alerts",
        "mailtos://user:CANARY2@mail.example",
    ]
    options += ["--sink", "hub=opensearch+https://user:CANARY3@sink.test:9200"]
    made = run("--verbose", "site", "init", "cameras", *options, cwd=tmp_path)
    assert made.status == 0
    checked = run("--verbose", "site", "check", "cameras", cwd=tmp_path)
    assert "CANARY" not in made.stdout + made.stderr + checked.stdout + checked.stderr
    files = [path for path in (tmp_path / "cameras").rglob("*") if path.is_file() and "CANARY" in path.read_text()]
    assert {path.relative_to(tmp_path / "cameras" / "secrets").as_posix() for path in files} == {
        "cameras/gate", "alert_targets", "sinks",
    }  # fmt: skip
