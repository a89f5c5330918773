"""Rooms and laws: which room may import which, which may touch what, how long files and folders may be.

`ROOMS` states each room once: what it does, and the rooms of its own folder that it may import. The READMEs of the four
folders show their part of it. Beside its rooms a folder has files of two kinds: those in `GROUND`, which every room may
import and which import none, and the others, which stand above all rooms and which no room imports.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILES, MAX_LINES = 16, 400  # of a folder; of a file
MAX_ARROWS = 60  # between the rooms of deployments


@dataclass(frozen=True)
class Room:
    """What a room does, and which rooms of its folder it may import."""

    does: str
    below: tuple[str, ...] = ()


ROOMS: Mapping[str, Mapping[str, Room]] = {
    "deployments": {
        "mcp": Room("tools for assistants, a client of the HTTP API"),
        "api": Room(
            "HTTP and nothing else; with the page in `web/`",
            (
                *("api/headers", "studies", "intake", "tenants", "files", "on_ray", "settings", "journal", "observe"),
                "jobs",
            ),
        ),
        "api/headers": Room("what headers say: hardening, CORS, Accept, Range"),
        "intake": Room(
            "whether a job may come in: admission, prompts, uploads, acceptance",
            ("tenants", "files", "settings", "journal", "jobs"),
        ),
        "studies": Room(
            "which videos people find better: plan, votes, results", ("tenants", "files", "journal", "jobs")
        ),
        "pipeline": Room(
            "drives jobs through the stages",
            ("order", "files", "on_ray", "settings", "journal", "observe", "jobs"),
        ),
        "order": Room("who goes next at each stage: lines, seconds, the actor that several pipelines share"),
        "tenants": Room("keys, the operator's commands, webhooks", ("settings", "journal", "jobs")),
        "files": Room("the store, packing, the keeper, mp4, fragments", ("on_ray", "observe", "jobs")),
        "replicas": Room("hosts a stage: turns, batches, warm-up", ("on_ray", "observe")),
        "on_ray": Room("Ray's private calls, routing, streams, failures, health", ("settings",)),
        "settings": Room("typed arguments; reading them; laptop, GPU box, rehearsal", ("observe", "jobs")),
        "journal": Room("all SQL of jobs: for who asks, for who executes", ("jobs",)),
        "observe": Room("logs, metrics, traces", ("jobs",)),
        "jobs": Room("pure values and judgements: requests, plans, remix, outlook"),
    },
    "cluster": {
        "calibration": Room(
            "a twin learnt from a server's journal; what if; a new profile",
            ("experiments", "planner", "twin", "policy", "traffic", "pools"),
        ),
        "experiments": Room(
            "a YAML file becomes runs, simulated or live",
            ("planner", "twin", "policy", "traffic"),
        ),
        "planner": Room("the cheapest replicas for a goal, held to the twin", ("twin", "traffic", "pools")),
        "twin": Room("the served pipeline in simulated time", ("policy", "traffic")),
        "manifests": Room("Kubernetes, `ray up`, image, alerts, dashboard", ("pools",)),
        "pools": Room("what pools have and stages need; the one room that asks Ray"),
        "policy": Room("when replicas come and go, and which call is next, as pure functions"),
        "traffic": Room("arrivals, and what a run leaves"),
    },
    "client": {
        "commands": Room("the verbs of `magicvideo`", ("_many", "_core", "_shell")),
        "_many": Room("a resumable batch; an open loop of load", ("_core", "_shell")),
        "_core": Room("the two clients: requests, retries, polling, downloads, events, streams", ("_shell",)),
        "_shell": Room("what every command of the repository shares: outputs, texts, terminal, exit codes"),
    },
    "stages": {
        "measures": Room(
            "numbers of clips and of sets of clips; a plug for others",
            ("training/tiny", "training/scenes", "vfi", "media", "model/network"),
        ),
        "training": Room(
            "the command that trains; samples to look at",
            (
                *("training/tiny", "training/feedback", "training/own_data", "training/vfi", "training/video"),
                *("training/loop", "training/scenes", "t2i", "i2v", "v2v", "model/network", "model/weights"),
            ),
        ),
        "training/default": Room(
            "the next default weights, of every animated emoji: autoencoder, text and pictures, clips",
            (
                *("training/tiny", "training/vfi", "training/video", "training/loop", "training/scenes"),
                *("i2v", "model/sampling", "model/network", "model/weights"),
            ),
        ),
        "training/tiny": Room(
            "the tiny weights from nothing: vocabulary, autoencoder, T2I, video, judges",
            (
                *("training/feedback", "training/video", "training/loop", "training/scenes"),
                *("t2i", "model/network", "model/weights"),
            ),
        ),
        "training/vfi": Room(
            "the interpolation GAN", ("training/loop", "training/scenes", "vfi", "media", "model/network")
        ),
        "training/feedback": Room(
            "human feedback on the base UNet: ReFL, DPO, rewards",
            ("training/video", "training/loop", "model/sampling", "model/network", "model/weights"),
        ),
        "training/own_data": Room("a user's clips and pictures", ("training/video", "media", "model/network")),
        "training/video": Room(
            "the video network: what learns, its losses, batches", ("training/loop", "model/sampling", "model/network")
        ),
        "training/scenes": Room("the made-up world of the tiny weights"),
        "training/loop": Room("steps, averages, resume, processes, log"),
        "local": Room(
            "what runs without a server", ("t2i", "i2v", "v2v", "vfi", "media", "model/sampling", "model/weights")
        ),
        "cost": Room(
            "FLOPs, weights and peaks of a call, from configurations alone",
            ("t2i", "vfi", "model/hub", "model/sampling", "model/network", "model/weights"),
        ),
        "t2i": Room("prompt to picture", ("model/hub", "model/sampling", "model/network", "model/weights")),
        "v2v": Room("keyframes to high resolution", ("i2v", "model/hub", "model/sampling", "model/network")),
        "i2v": Room("picture to keyframes", ("model/hub", "model/sampling", "model/network")),
        "vfi": Room("frames between frames", ("model/sampling", "model/weights")),
        "media": Room("what people send, opened and shown upright", ("model/sampling", "model/network")),
        "model": Room("what stages share; no code outside its rooms"),
        "model/hub": Room("whole pipelines of diffusers", ("model/sampling", "model/network", "model/weights")),
        "model/sampling": Room("the denoising loop, schedulers, prior, windows", ("model/network",)),
        "model/network": Room("UNet, ControlNets, appearance, text, VAE", ("model/weights",)),
        "model/weights": Room("from a part's name to a module on a device"),
    },
}
GROUND: Mapping[str, frozenset[str]] = {
    "deployments": frozenset({"__init__", "errors", "bulkheads"}),
    "cluster": frozenset({"__init__", "server_process"}),
    "client": frozenset({"_version", "single", "schema", "schema_studies", "schema_numbers", "errors"}),
    "stages": frozenset(
        {
            *("__init__", "types", "base", "state", "settings", "speed", "presets", "paper", "modern"),
            *("words", "unsaid", "english", "tongues", "sheets", "commands"),
        }
    ),
}

# folder -> what it must not import
FORBIDDEN: Mapping[str, frozenset[str]] = {
    "stages": frozenset({"ray", "fastapi", "starlette", "sqlalchemy", "deployments", "cluster", "magicvideo_client"}),
    "deployments": frozenset({"magicvideo_client", "tests", "benchmarks"}),
    "cluster": frozenset({"torch", "diffusers", "transformers", "deployments", "fastapi", "magicvideo_client"}),
}
CLIENT_MAY = {"httpx", "pydantic", "typer", "rich", "click"} | set(sys.stdlib_module_names)
# folder -> which modules of another folder it sees, where that is not all of them
SEES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("stages", "client"): ("client._shell", "client.single"),
    ("deployments", "client"): ("client.schema", "client.single", "client._shell"),
    ("cluster", "client"): ("client._shell",),
    ("deployments", "cluster"): ("cluster.pools", "cluster.policy", "cluster.server_process"),
    ("cluster/calibration", "client"): ("client",),
    ("cluster/experiments", "client"): ("client",),
    ("deployments/mcp", "client"): ("client",),
}
# library -> the rooms that may touch it; "" is the folder's own files
TOUCHES: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("deployments", "fastapi"): ("api",),
    ("deployments", "starlette"): ("api", "api/headers"),
    ("deployments", "sqlalchemy"): ("journal", "tenants", "studies"),
    ("deployments", "mcp"): ("mcp",),
    ("deployments", "ray"): ("", "on_ray", "observe", "order", "pipeline"),
    ("deployments", "torch"): (),
    ("deployments", "diffusers"): (),
    ("cluster", "ray"): ("pools",),
}
LIGHT = (
    *("deployments.app", "deployments.api.ingress", "deployments.pipeline.pipeline"),
    *("deployments.settings.application", "cluster.pools.needs"),
)


@dataclass(frozen=True)
class Source:
    """A file of ours, and what it imports anywhere in it, functions too."""

    path: Path
    imports: tuple[tuple[str, int], ...]  # module, line

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def module(self) -> str:
        return self.name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def folder(self) -> str:
        return self.name.partition("/")[0]

    @property
    def room(self) -> str:
        """Below its folder; "" for the folder's own files. Alembic's layout is part of the journal."""
        below = str(self.path.parent.relative_to(ROOT / self.folder)).removeprefix(".")
        return "journal" if below.startswith("journal/migrations") else below

    @property
    def is_ground(self) -> bool:
        stem = str(self.path.relative_to(ROOT / self.folder)).removesuffix(".py")
        return stem in GROUND[self.folder] or (self.path.name == "__init__.py" and not self.imports)


@cache
def sources() -> Mapping[str, Source]:
    """By module name."""
    paths = [path for folder in ROOMS for path in sorted((ROOT / folder).rglob("*.py"))]
    modules = {str(p.relative_to(ROOT)).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for p in paths}
    found = [Source(path, tuple(_imports(path, modules))) for path in paths]
    return {source.module: source for source in found}


def _imports(path: Path, modules: set[str]) -> Iterator[tuple[str, int]]:
    """Modules, ours by their full names, others as they are written."""
    package = str(path.parent.relative_to(ROOT)).replace("/", ".").split(".")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                yield (inner if inner in modules else module), node.lineno


def arrows(folder: str) -> dict[tuple[str, str], list[str]]:
    """Imports from room to room of one folder: (from, to) to where they stand."""
    found: dict[tuple[str, str], list[str]] = {}
    for source in sources().values():
        for module, line in source.imports:
            target = sources().get(module)
            if source.folder != folder or target is None or target.folder != folder or target.is_ground:
                continue
            if source.room != target.room:
                found.setdefault((source.room, target.room), []).append(f"{source.name}:{line} {target.name}")
    return found


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_every_folder_with_code_is_a_room(folder: str) -> None:
    assert {source.room for source in sources().values() if source.folder == folder} - {""} == set(ROOMS[folder])


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_rooms_import_what_the_table_allows(folder: str) -> None:
    broken = {
        (here, there): where
        for (here, there), where in arrows(folder).items()
        if here and there not in ROOMS[folder][here].below
    }
    assert not broken


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_the_table_has_no_circle_and_no_arrow_that_nobody_uses(folder: str) -> None:
    order = list(ROOMS[folder])
    for number, (name, room) in enumerate(ROOMS[folder].items()):
        assert set(room.below) <= set(order[number + 1 :]), f"{name} imports upwards"
    used = set(arrows(folder))
    idle = {(name, below) for name, room in ROOMS[folder].items() for below in room.below} - used
    assert not idle


def test_the_ground_imports_no_room() -> None:
    for source in sources().values():
        if source.is_ground and source.path.name != "__init__.py":
            ours = [sources()[module] for module, _ in source.imports if module in sources()]
            assert all(target.is_ground for target in ours if target.folder == source.folder), source.name


def test_deployments_have_few_arrows_between_rooms() -> None:
    assert len(arrows("deployments")) <= MAX_ARROWS


def test_no_file_imports_itself_in_a_circle() -> None:
    graph = {
        source.name: {sources()[module].name for module, _ in source.imports if module in sources()} - {source.name}
        for source in sources().values()
    }
    while graph:  # take away what imports nothing that is left; a circle stays
        free = {name for name, imported in graph.items() if not imported & graph.keys()}
        assert free, f"these import each other, or what does: {sorted(graph)}"
        graph = {name: imported for name, imported in graph.items() if name not in free}


@pytest.mark.parametrize("folder", sorted(FORBIDDEN))
def test_a_folder_imports_nothing_that_the_law_forbids(folder: str) -> None:
    for source in sources().values():
        if source.folder == folder:
            assert not {module.split(".")[0] for module, _ in source.imports} & FORBIDDEN[folder], source.name


def test_the_client_imports_its_four_libraries_and_itself_relatively() -> None:
    for source in sources().values():
        if source.folder == "client":
            others = {module.split(".")[0] for module, _ in source.imports} - CLIENT_MAY
            assert others <= {"client"}, source.name
            absolute = [n for n in ast.walk(ast.parse(source.path.read_text())) if isinstance(n, ast.ImportFrom)]
            assert not any(n.level == 0 and (n.module or "").startswith("client") for n in absolute), source.name


def test_folders_see_of_each_other_what_the_law_says() -> None:
    for source in sources().values():
        for module, line in source.imports:
            other = module.split(".")[0]
            if other not in ROOMS or other == source.folder:
                continue
            allowed = SEES.get((f"{source.folder}/{source.room}", other), SEES.get((source.folder, other)))
            if allowed is not None:
                assert module.startswith(allowed), f"{source.name}:{line} {module}"


@pytest.mark.parametrize(("folder", "library"), sorted(TOUCHES))
def test_a_library_is_touched_in_its_rooms_alone(folder: str, library: str) -> None:
    rooms = {
        source.room: source.name
        for source in sources().values()
        if source.folder == folder and any(module.split(".")[0] == library for module, _ in source.imports)
    }
    assert rooms.keys() <= set(TOUCHES[folder, library]), rooms


def table_of(folder: str) -> str:
    """A folder's rooms as its README shows them."""
    rows = [
        f"| `{name}/` | {room.does} | {' '.join(f'`{below}`' for below in room.below) or '-'} |"
        for name, room in ROOMS[folder].items()
    ]
    return "\n".join(["| room | does | may import |", "|---|---|---|", *rows])


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_the_readme_shows_the_rooms(folder: str) -> None:
    table = table_of(folder)
    assert table in (ROOT / folder / "README.md").read_text(), f"{folder}/README.md needs:\n{table}"


@pytest.mark.parametrize("folder", sorted(ROOMS))
def test_every_room_says_what_it_does_in_one_to_three_sentences(folder: str) -> None:
    for room in ROOMS[folder]:
        text = ast.get_docstring(ast.parse((ROOT / folder / room / "__init__.py").read_text())) or ""
        assert 1 <= text.count(".\n") + text.endswith(".") + text.count(". ") <= 4, f"{folder}/{room}: {text!r}"


def test_files_and_folders_stay_small() -> None:
    paths = [path for folder in (*ROOMS, "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    long = {str(p.relative_to(ROOT)): n for p in paths if (n := len(p.read_text().splitlines())) > MAX_LINES}
    assert not long
    counts: dict[str, int] = {}
    for path in paths:
        if path.name != "__init__.py":
            counts[str(path.parent.relative_to(ROOT))] = counts.get(str(path.parent.relative_to(ROOT)), 0) + 1
    crowded = {name: n for name, n in counts.items() if n > MAX_FILES and name.split("/")[0] != "tests"}
    assert not crowded


def test_every_module_says_what_it_does() -> None:
    for source in sources().values():
        assert (ast.get_docstring(ast.parse(source.path.read_text())) or "").strip(), source.name


@pytest.mark.slow
@pytest.mark.parametrize("module", LIGHT)
def test_what_serves_http_and_drives_jobs_starts_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_keys_are_made_without_loading_ray() -> None:
    code = "import sys, deployments.__main__; sys.exit('ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
