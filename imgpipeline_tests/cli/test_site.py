"""`imgpipeline site`: from no folder to one that `docker compose` can start."""

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


def test_a_second_init_says_that_it_keeps_what_is_there(tmp_path):
    for domain in ("cameras.example", "other.example"):
        made = run("site", "init", "cameras", "--domain", domain, cwd=tmp_path)
        assert made.status == 0
    assert "stay as they are" in made.stderr
    assert made.stdout == ""
    assert "SITE_DOMAIN=cameras.example" in (tmp_path / "cameras" / ".env").read_text()


def test_a_camera_needs_a_name(tmp_path):
    made = run("site", "init", "cameras", "--camera", "rtsp://10.0.0.2/live", cwd=tmp_path)
    assert made.status == 2
    assert "--camera NAME=rtsp://HOST/PATH" in made.stderr
