"""`vega-eval` from its command line: refusals before the first episode, provenance, a real LIBERO task."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import vega_policy
from vega_policy.cli.eval import EvalConfig, main, prepare
from vega_policy.cli.parsing import parse
from vega_policy.cli.policies import MakeLearned, PolicyConfig, policy_factory
from vega_policy.cli.provenance import checkpoint_sha256, git_revision, installed_versions, local_checkpoint

CONFIGS = sorted((Path(__file__).parents[2] / "configs" / "eval").glob("*.yaml"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected either --policy.path=DIR or --policy.type=expert|hold|random"),
        (["--policy.type=hold", "--policy.path=x"], "expected either --policy.path=DIR or --policy.type="),
        (["--policy.type=exprt"], "unknown --policy.type exprt; did you mean expert?"),
        (["--policy.type=hold", "--trails=3"], "unknown option --trails; did you mean --trials?"),
        (["--policy.type=hold", "--trials=0"], "expected --trials >= 1, got 0"),
        (["--policy.type=hold", "--episode_time_limit_s=0"], "expected --episode_time_limit_s > 0"),
    ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*arguments, f"--output_dir={tmp_path}"])
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite=libero_spatal"], "did you mean 'libero_spatial'"),
        (["--task_ids=[10]"], "task id 10 is outside libero_spatial"),
        (["--task_ids=[]"], "expected at least one task, got --task_ids=[]"),
        (["--task_ids=[1,1]"], "expected each task once, got libero_spatial task 1 twice"),
        (
            ["--task_ids=[0]", "--first_trial=48", "--trials=3"],
            "init states of libero_spatial task 0",
        ),
        (["--protocol=otf"], "did you mean 'oft'"),
        (["--output_dir=/proc/results"], "cannot write results to /proc/results"),
    ],
)
def test_what_does_not_exist_is_refused_before_the_first_episode(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["--policy.type=hold", "--trials=1", f"--output_dir={tmp_path}", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("vega-eval: error: ")
    assert list(tmp_path.iterdir()) == []


def test_help_imports_nothing_heavy() -> None:
    code = """
import sys
from vega_policy.cli.eval import main
try:
    main(["--help"])
except SystemExit as stop:
    assert stop.code == 0
    heavy = {"torch", "mujoco", "robosuite", "libero", "lerobot", "gymnasium", "transformers", "diffusers"}
    print("heavy:", heavy & set(sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.endswith("heavy: set()\n")
    for option in EvalConfig.__dataclass_fields__:
        assert f"--{option}" in result.stdout


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_parses(path: Path) -> None:
    policy_factory(parse(EvalConfig, [f"--config_path={path}"]).policy)


def test_a_policy_that_is_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["--policy.path=nobody/nothing", f"--output_dir={tmp_path}"]) == 2
    assert capsys.readouterr().err.startswith("vega-eval: error: ")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="nothing of the kind at somewhere"):
        policy_factory(PolicyConfig(path="somewhere"))


@pytest.mark.parametrize("path", ["outputs/tiny/checkpoints/lats", "./tyni", "tyni"])
def test_a_misspelt_folder_is_not_looked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"--policy.path={path}", "--output_dir=results"]) == 2
    assert f"nothing of the kind at {path}" in capsys.readouterr().err


def test_the_folder_of_a_run_is_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "tiny" / "checkpoints").mkdir(parents=True)
    assert main(["--policy.path=outputs/tiny", "--output_dir=results"]) == 2
    assert "nothing of the kind at outputs/tiny" in capsys.readouterr().err


def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for device in ("cuda:1", "mps:1"):
        with pytest.raises(ValueError, match=rf"--policy\.device={device}, which torch lacks"):
            policy_factory(PolicyConfig(path="vega-tiny", device=device))
    with pytest.raises(ValueError, match="as torch names it"):
        policy_factory(PolicyConfig(path="vega-tiny", device="foo"))
    assert policy_factory(PolicyConfig(path="vega-tiny", device="cpu"))


def test_a_mistake_in_an_untrained_policys_file_is_found_before_any_worker_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "policy.yaml").write_text("chunk_sise: 4\n")
    with pytest.raises(SystemExit) as stop:
        main([f"--policy.path={tmp_path / 'policy.yaml'}", f"--output_dir={tmp_path / 'results'}"])
    assert stop.value.code == 2
    assert "policy.yaml: error: unknown key" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_a_link_that_training_moves_is_followed_once(tmp_path: Path) -> None:
    for step in ("1", "2"):
        (tmp_path / step).mkdir()
    (tmp_path / "last").symlink_to("1")
    found = local_checkpoint(str(tmp_path / "last"))
    (tmp_path / "last").unlink()
    (tmp_path / "last").symlink_to("2")
    assert found == (tmp_path / "1").resolve()


@pytest.mark.parametrize("num_workers", [1, 3])
def test_a_policy_computes_with_one_thread_however_many_workers_there_are(
    tmp_path: Path, num_workers: int
) -> None:
    policy = PolicyConfig(path=str(CONFIGS[0].parents[1] / "policy" / "vega_tiny.yaml"))
    config = EvalConfig(tmp_path, policy, task_ids=[0], trials=1, assets="standin", num_workers=num_workers)
    make_policy = prepare(config).make_policy
    assert isinstance(make_policy, MakeLearned)
    assert make_policy.num_threads == 1


def test_checkpoint_hash_follows_weights_and_settings(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "README.md").write_text("not a part of the policy")
    save_file({"weight": np.zeros(3)}, tmp_path / "model.safetensors")
    before = checkpoint_sha256(tmp_path)
    assert re.fullmatch("[0-9a-f]{64}", before["model.safetensors"])
    save_file({"weight": np.ones(3)}, tmp_path / "model.safetensors")
    after = checkpoint_sha256(tmp_path)
    assert after.keys() == {"config.json", "model.safetensors"}
    assert after["model.safetensors"] != before["model.safetensors"]
    assert after["config.json"] == before["config.json"]
    alone = checkpoint_sha256(tmp_path / "config.json")
    assert alone == {"config.json": hashlib.sha256(b"{}").hexdigest()}


def test_versions_and_revision_are_those_of_this_checkout() -> None:
    assert installed_versions()["vega_policy"] == vega_policy.__version__
    root = Path(vega_policy.__file__).parents[1]
    if (root / ".git").exists():
        head = subprocess.run(
            ["git", "-C", root, "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
        assert git_revision() in (head.stdout.strip(), f"{head.stdout.strip()}-dirty")
    else:
        assert git_revision() is None


@pytest.mark.sim
def test_a_real_task_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = ["--policy.type=hold", "--task_ids=[3]", f"--output_dir={tmp_path}", "--assets=standin"]
    assert main([*request, "--trials=1", "--first_trial=7"]) == 0
    assert "0.0% [0.0, 79.3]" in capsys.readouterr().out
    row = json.loads((tmp_path / "episodes.jsonl").read_text())
    assert (row["outcome"], row["steps"], row["trial"], row["init_state_id"]) == ("failure", 220, 7, 7)
    provenance = json.loads((tmp_path / "summary.json").read_text())["provenance"]
    assert (provenance["assets"], provenance["protocol"]) == ("standin", "oft")
    assert provenance["versions"]["mujoco"] == "3.3.2"
    assert provenance["config"]["first_trial"] == 7
    assert len(provenance["git_revisions"]) == 1, "one session"
    assert "libero_spatial" in (tmp_path / "report.html").read_text()
    assert main([*request, "--trials=1", "--first_trial=7"]) == 2
    assert "--resume=true" in capsys.readouterr().err
    assert main([*request, "--trials=1", "--first_trial=7", "--protocol=lerobot", "--resume=true"]) == 2
    assert "config.protocol: 'oft' became 'lerobot'" in capsys.readouterr().err
    assert main([*request, "--trials=1", "--first_trial=7", "--num_workers=2", "--resume=true"]) == 0
    assert main([*request, "--trials=2", "--first_trial=7", "--resume=true"]) == 0
    assert len((tmp_path / "episodes.jsonl").read_text().splitlines()) == 2, "only the second was played"
    capsys.readouterr()
    assert main([*request, "--trials=1", "--first_trial=7", "--resume=true"]) == 2
    assert "has 1 episodes that this request leaves out" in capsys.readouterr().err
