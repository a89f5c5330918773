"""Calls that no file makes, or one alone: Ray's private ones, pickle, code from a hub."""

import ast

from tests.test_architecture import sources

PRIVATE_RAY = {"deployments/on_ray/ray_internals.py"}
PRIVATE_CALLS = {
    *("_to_object_ref_gen", "_get_next_ref_n", "_consume_next_ref_n", "_to_object_ref", "_get_global_client"),
    *("_pending_requests_to_fulfill", "_pending_requests_to_route"),
}


def test_one_file_calls_what_ray_keeps_private() -> None:
    found = {
        source.name
        for source in sources().values()
        for node in ast.walk(ast.parse(source.path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in PRIVATE_CALLS
    }
    assert found == PRIVATE_RAY


def test_no_pickle_and_no_remote_code() -> None:
    for source in sources().values():
        if "stages/training" in source.name or source.path.name == "convert.py":
            continue  # own checkpoints, and one file read once behind a checksum; both with weights_only=True
        assert not any(module.split(".")[0] == "pickle" for module, _ in source.imports), source.name
        for node in ast.walk(ast.parse(source.path.read_text())):
            assert not (isinstance(node, ast.keyword) and node.arg == "trust_remote_code"), source.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) != ("torch", "load"), source.name
