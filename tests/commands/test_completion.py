"""The shell completes what somebody begins to type: in bash, zsh and fish as they are, where they are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.processes import COMMAND
from worker.core.model import State

SHELLS = ("bash", "zsh", "fish")


def environment(**more: str) -> dict[str, str]:
    folder = str(Path(COMMAND[0]).parent)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": "/nonexistent", "LANG": "C.UTF-8", "TERM": "dumb", **more}


def ran(command: list[str], folder: Path, environ: Mapping[str, str]) -> str:
    ended = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    return ended.stdout


def completed(folder: Path, *words: str) -> list[str]:
    """What the script of a shell is told, for the last of these words."""
    environ = environment(
        COMP_WORDS="\n".join(("mfa-worker", *words)), COMP_CWORD=str(len(words)), _MFA_WORKER_COMPLETE="bash_complete"
    )
    return ran(list(COMMAND), folder, environ).splitlines()


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (("",), {"plain,run", "plain,init", "plain,status", "plain,completion"}),
        (("re",), {"plain,recover", "plain,redeliver", "plain,redrive", "plain,rehearse"}),
        (("run", "--max"), {"plain,--max-users"}),
        (("export", "--state", ""), {f"plain,{state.value}" for state in State} | {"plain,unrequested"}),
        (("export", "--state", "need"), {"plain,needs_session"}),
        (("run", "--set", "log."), {"plain,log.level=", "plain,log.format="}),
        (("--set", "cognito.user"), {"plain,cognito.user_pool_id="}),
        (("rehearse", "--fault", "conf"), {"plain,conflict="}),
        (("rehearse", "--fault", "cut_after/Init"), {"plain,cut_after/InitiateAuth="}),
        (("rehearse", "--from", "pass"), {"plain,passwords"}),
        (("config", ""), {"plain,show"}),
        (("completion", "z"), {"plain,zsh"}),
        (("run", "--input", "req"), {"file,req"}),
        (("push", "--usernames", ""), {"file,"}),
        (("open", "-i", "k"), {"file,k"}),
        (("dismiss", "use"), {"file,use"}),
        (("init", "--folder", ""), {"dir,"}),
    ],
)
def test_each_thing_is_completed_with_what_it_may_be(tmp_path: Path, words: tuple[str, ...], some: set[str]) -> None:
    assert some <= set(completed(tmp_path, *words))


def test_nothing_heavy_is_imported_for_it_and_no_file_is_touched(tmp_path: Path) -> None:
    probe = (
        "import sys; sys.argv = ['mfa-worker']\n"
        "import worker.cli\n"
        "try: worker.cli.main()\n"
        "except SystemExit: heavy = {'pydantic', 'sqlite3', 'aiohttp', 'rich', 'structlog'} & set(sys.modules)\n"
        "print(heavy, file=sys.stderr)"
    )
    for words in (("run", "--set", "log."), ("export", "--state", ""), ("rehearse", "--fault", "")):
        asked = environment(
            COMP_WORDS="\n".join(("mfa-worker", *words)), COMP_CWORD="3", _MFA_WORKER_COMPLETE="bash_complete"
        )
        ended = subprocess.run([sys.executable, "-c", probe], cwd=tmp_path, env=asked, capture_output=True, timeout=60)
        assert ended.stdout.startswith(b"plain,")
        assert ended.stderr == b"set()\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_says_how_to_keep_it_and_another_shell_is_refused(tmp_path: Path, shell: str) -> None:
    script = ran([*COMMAND, "completion", shell], tmp_path, environment())
    assert script.startswith("# ")
    assert f"mfa-worker completion {shell}" in script.splitlines()[0]
    ended = subprocess.run([*COMMAND, "completion", "tcsh"], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert "'bash', 'zsh', 'fish'" in ended.stderr


IN_BASH = """
eval "$(mfa-worker completion bash)"
complete -p mfa-worker
compopt() { echo compopt "$@"; }
for line in "st" "export --state nee" "rehearse --fault confl"; do
  COMP_WORDS=(mfa-worker $line); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  _mfa_worker_completion mfa-worker
  echo "${COMPREPLY[@]}"
done
"""


def test_in_bash(tmp_path: Path) -> None:
    said = ran(["bash", "--norc", "-c", IN_BASH], tmp_path, environment()).splitlines()

    assert said == [
        "complete -o nosort -F _mfa_worker_completion mfa-worker",
        "status",
        "needs_session",
        "compopt -o nospace",
        "conflict=",
    ]


IN_ZSH = """
autoload -U compinit && compinit -D -u
eval "$(mfa-worker completion zsh)"
compadd() { for word; do [[ $word == [a-z]* ]] && print -r -- $word; done }
_describe() { print -l ${(P)3} }
for line in "st" "export --state nee" "rehearse --fault confl"; do
  words=(mfa-worker ${=line}); CURRENT=${#words}
  _mfa_worker_completion
done
print ${_comps[mfa-worker]}
"""


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_in_zsh(tmp_path: Path) -> None:
    said = ran(["zsh", "-f", "-c", IN_ZSH], tmp_path, environment())

    for part in ("status:How many users", "conflict=", "_mfa_worker_completion"):
        assert part in said


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_in_fish(tmp_path: Path) -> None:
    script = (
        "mfa-worker completion fish | source\n"
        'for line in "st" "export --state nee" "rehearse --fault confl"; complete --do-complete "mfa-worker $line"; end'
    )
    said = ran(["fish", "--no-config", "-c", script], tmp_path, environment(HOME=str(tmp_path)))

    assert [line.split("\t")[0] for line in said.splitlines()] == ["status", "needs_session", "conflict="]
