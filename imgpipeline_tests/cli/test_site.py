"""`imgpipeline site`: from no folder to one that `docker compose` can start."""

from imgpipeline_tests.cli.command import run


def test_init_writes_a_folder_and_check_finds_what_this_machine_lacks(tmp_path):
    path = {"PATH": str(tmp_path)}  # without docker
    made = run(
        "site", "init", "cameras", "--domain", "localhost", "--camera", "gate=rtsp://10.0.0.2/live", cwd=tmp_path
    )
    assert made.status == 0
    assert [line.split(": ")[0] for line in made.stdout.splitlines()] == ["user", "password", "api key"]
    checked = run("site", "check", "cameras", env=path, cwd=tmp_path)
    assert checked.status == 1
    assert "docker compose" in checked.stdout
    assert "it does not run" in checked.stdout


def test_a_camera_needs_a_name(tmp_path):
    made = run("site", "init", "cameras", "--camera", "rtsp://10.0.0.2/live", cwd=tmp_path)
    assert made.status == 2
    assert "--camera NAME=rtsp://HOST/PATH" in made.stderr
