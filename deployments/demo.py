"""`python -m deployments.demo PROMPT OUT`: a server, one video through the client, the server down again.

What `make demo` runs. Takes a prompt and a file name; both halves are the commands that a user would type, each in its
own process. Knows nothing of how either works.
"""

import subprocess
import sys
from pathlib import Path

from cluster.server_process import ROOT, ServerError, ServerProcess


def main(arguments: list[str]) -> int:
    """The exit code of `magicvideo generate`, or 1 if the server did not start."""
    if len(arguments) != 2:
        print("usage: python -m deployments.demo PROMPT OUT.mp4", file=sys.stderr)
        return 2
    prompt, out = arguments
    try:
        with ServerProcess("--laptop", "--data-dir", "out/demo") as server:
            command = [sys.executable, "-m", "client", "generate", prompt, "-o", str(Path(out).absolute())]
            return subprocess.run([*command, "--seed", "7", "--url", server.url], cwd=ROOT, check=False).returncode
    except ServerError:
        return 1  # it has said why


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
