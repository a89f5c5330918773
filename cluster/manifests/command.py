"""`python -m cluster render`: pools and a Serve config to a folder that the cluster is brought up from.

    Dockerfile, Dockerfile.dockerignore     the image of every node
    kubernetes/                             RayService, who may reach what, disruption budgets, Redis, shared volumes
    ray-up-aws.yaml, serve_config.yaml      the same without Kubernetes
    prometheus/, grafana/                   scrape, alerts, dashboard

The same input gives the same bytes. `cluster.manifests` says what stands in each; this module knows files and YAML.
"""

import argparse
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.scalarstring import LiteralScalarString

from client._shell.outputs import judge_folder, written
from client._shell.terminal import tell
from client._shell.texts import read_text
from cluster.manifests import access, alerts, beside, image, kubernetes, ray_up
from cluster.manifests.dashboard import dashboard
from cluster.manifests.site import Site, SiteError, make_site
from cluster.pools.file import PoolFile, load_pools

ROOT = Path(__file__).resolve().parents[2]
_TRAP = re.compile(
    r"[-+.]*\d.*|[-+]?\.?(inf|nan)|[~=]?|<<|y|n|yes|no|on|off|true|false|null", re.IGNORECASE | re.DOTALL
)
_BY = "# Rendered by `python -m cluster render`; change pools.yaml or serve_config.yaml and render again.\n"
_CLOUD = f"""{_BY}# In this folder: ray up ray-up-aws.yaml; ray exec ray-up-aws.yaml 'serve deploy ~/{ray_up.CONFIG}'
# Nodes share no disk: storage.database_url and storage.artifacts_url must name a server and an object store, which
# workers reach by the instance profile {ray_up.PROFILE}. Ray's token: openssl rand -hex 32 > {ray_up.TOKEN}
"""


def add_command(commands: Any) -> None:
    """Put it on `python -m cluster`."""
    command = commands.add_parser("render", help="Dockerfile, Kubernetes, ray up, alerts and dashboard for these pools")
    command.set_defaults(run=run)
    command.add_argument("--pools", type=Path, required=True, help="what there is, like cluster/pools.yaml")
    command.add_argument(
        "--config", type=Path, default=ROOT / "serve_config.yaml", help="the Serve config (%(default)s)"
    )
    command.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the files go; made if missing")
    command.add_argument("--image", default="magicvideo:latest", help="its name, best NAME@sha256:... (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """The command."""
    judge_folder(options.out)
    file = load_pools(options.pools)
    config = read_text(options.config, SiteError)
    files, site = render(file, config, image_name=options.image, source=str(options.config))
    write(files, options.out)
    tell(f"Wrote {len(files)} files into {options.out}.")
    for name in site.unused:
        tell(f"Pool {name} is left out: no stage of {options.config} runs there.")
    if site.image_can_change:
        tell(f"Image {site.image} names no digest, so nodes may run different ones; give --image NAME@sha256:...")
    for name in ray_up.lacking_instances(site):
        tell(f"No ray-up-aws.yaml: pool {name} names no `machine.instance`.")
    folder = options.out / "kubernetes"
    tell(f"Next: the secret (cluster/README.md), then `kubectl apply -f {folder}`; without Kubernetes, `ray up`.")
    return 0


def render(
    file: PoolFile, config: str, *, image_name: str, source: str = "the Serve config"
) -> tuple[dict[str, str], Site]:
    """Every file's text by its path below the folder, and what they were made from.

    Raises:
        SiteError: pools and config do not go together.
        PoolFileError: a pool's machine is not known.
    """
    site = make_site(file, config, image=image_name, ray_version=ray_version(), source=source)
    service = kubernetes.ray_service(site, LiteralScalarString(config))
    files = {
        "Dockerfile": image.DOCKERFILE,
        "Dockerfile.dockerignore": image.DOCKERIGNORE,
        "kubernetes/rayservice.yaml": to_yaml([service]),
        "kubernetes/access.yaml": to_yaml(access.access(site)),
        "kubernetes/redis.yaml": to_yaml(beside.redis(site)),
        "prometheus/prometheus.yml": to_yaml([alerts.scrape_config(site)]),
        f"prometheus/{alerts.RULES_FILE}": to_yaml([alerts.rules()]),
        "grafana/dashboard.json": json.dumps(dashboard(site.node_prices, file.currency), indent=2) + "\n",
    }
    if budgets := kubernetes.budgets(site):
        files["kubernetes/disruption-budgets.yaml"] = to_yaml(budgets)
    if volumes := beside.storage(site):
        files["kubernetes/storage.yaml"] = to_yaml(volumes)
    if not ray_up.lacking_instances(site):
        files["ray-up-aws.yaml"] = to_yaml([ray_up.ray_up(site)], head=_CLOUD)
        files[ray_up.CONFIG] = config
    return files, site


def write(files: Mapping[str, str], folder: Path) -> None:
    """Into the folder; what else is there stays.

    Raises:
        OutputError: it cannot be written.
    """
    for name, text in files.items():
        path = folder / name
        judge_folder(path.parent).mkdir(parents=True, exist_ok=True)
        with written(path) as draft:
            draft.write_text(text, encoding="utf-8")


def ray_version() -> str:
    """That of constraints.txt, which the image is made with; KubeRay must be told the same."""
    found = re.search(r"^ray==(\S+)$", read_text(ROOT / "constraints.txt", SiteError), re.MULTILINE)
    if found is None:
        raise SiteError("constraints.txt pins no ray; add a line ray==...")
    return found.group(1)


class _Strings(RoundTripRepresenter):
    """Quotes what some reader takes for a number or a bool: ruamel writes YAML 1.2, Kubernetes reads 1.1."""

    def represent_str(self, data: str) -> ScalarNode:
        style = "'" if _TRAP.fullmatch(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)


_Strings.add_representer(str, _Strings.represent_str)


def to_yaml(documents: Sequence[Mapping[str, Any]], head: str = _BY) -> str:
    """As one text, whose strings every reader takes for strings."""
    yaml = YAML()
    yaml.Representer = _Strings
    yaml.width = 4096
    yaml.representer.ignore_aliases = lambda _value: True
    yaml.indent(mapping=2, sequence=4, offset=2)
    parts = []
    for document in documents:
        out = io.StringIO()
        yaml.dump(document, out)
        parts.append(out.getvalue())
    return head + "---\n".join(parts)
