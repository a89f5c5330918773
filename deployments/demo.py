"""`python -m deployments.demo PROMPT OUT`: a server, one video through the client, the server down again.

What `make demo` runs. Takes a prompt and a file name; both halves are the commands that a user would type, each in its
own process. Knows nothing of how either works.
"""

import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_STOP_S = 60.0


def main(arguments: list[str]) -> int:
    """The exit code of `magicvideo generate`, or 1 if the server did not start."""
    if len(arguments) != 2:
        print("usage: python -m deployments.demo PROMPT OUT.mp4", file=sys.stderr)
        return 2
    prompt, out = arguments
    serve = [sys.executable, "-m", "deployments", "serve", "--laptop", "--port", str(_free_port())]
    with subprocess.Popen([*serve, "--data-dir", "out/demo"], cwd=ROOT, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            ready = server.stdout.readline()  # its address, or nothing where it has ended with a sentence on stderr
            if " at http://" not in ready:
                return server.wait() or 1
            url = ready.rsplit(" at ", 1)[1].strip()
            command = [sys.executable, "-m", "client", "generate", prompt, "-o", str(Path(out).absolute())]
            return subprocess.run([*command, "--seed", "7", "--url", url], cwd=ROOT, check=False).returncode
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(_STOP_S)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
