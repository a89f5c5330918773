"""`python -m deployments.demo PROMPT OUT`: a server, one video through the client, the server down again.

What `make demo` runs. Takes a prompt and a file name; both halves are the commands that a user would type, each in its
own process. Knows nothing of how either works.
"""

import subprocess
import sys
from pathlib import Path

from client._shell.ending import OUTSIDE, WRONG, end
from client._shell.outputs import judge_output
from cluster.server_process import ROOT, ServerError, ServerProcess


def main(arguments: list[str] | None = None) -> int:
    """The exit code of `magicvideo generate`, or 3 if the server did not start."""
    return end(run, arguments)


def run(words: list[str]) -> int:
    """What the words say."""
    if len(words) != 2:
        print("usage: python -m deployments.demo PROMPT OUT.mp4", file=sys.stderr)
        return WRONG
    prompt, out = words
    judge_output(out, [".mp4"])
    try:
        with ServerProcess("--laptop", "--data-dir", "out/demo") as server:
            command = [sys.executable, "-m", "client", "generate", prompt, "-o", str(Path(out).absolute())]
            return subprocess.run([*command, "--seed", "7", "--url", server.url], cwd=ROOT, check=False).returncode
    except ServerError:
        return OUTSIDE  # it has said why


if __name__ == "__main__":
    sys.exit(main())
