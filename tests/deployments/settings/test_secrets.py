"""Secrets come by reference, are read where they are needed, and stand in no dump and in no message."""

import base64
from pathlib import Path

import pytest
import yaml

from deployments.app import build
from deployments.errors import ConfigError
from deployments.journal.database import Database, redacted_url
from deployments.settings.application import AppArgs, StorageArgs
from deployments.settings.reading import CONFIG_PATH, load_config, parse_args, with_environment
from deployments.settings.upkeep import WebhookArgs

PASSWORD = "hunter2hunter2"
URL = f"postgresql://magicvideo:{PASSWORD}@db/magicvideo"
SECRET = "whsec_" + base64.b64encode(PASSWORD.encode() * 3).decode()


@pytest.mark.parametrize(
    "args",
    [
        {"storage": {"database_url": URL}},
        {"storage": {"database_url": f"postgresql://db/magicvideo?user=m&password={PASSWORD}"}},
        {"storage": {"database_url": f"postgresql://[{PASSWORD}@db"}},
        {"storage": URL},
        {"storage": {"databse_url": URL}},
        {"storage": {"artifacts_url": ["s3://", PASSWORD]}},
        {"webhooks": {"secret": SECRET}},
        {"webhooks": {"secert": PASSWORD}},
        {"webhooks": {"secret": {"of": PASSWORD}}},
        {"webhooks": PASSWORD.split()},
        {"observability": {"otlp_url": f"grpc://{PASSWORD}@collector"}},
        {"pipeline": {"max_jobs": f"https://{PASSWORD}@db"}},
        {"external_scaler": True, "scaling": {}, "stages": {"t2i": {"options": {"token": PASSWORD}}}},
    ],
)
def test_what_is_refused_is_not_echoed_where_it_may_be_secret(args: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_args(args)
    for error in (refused.value, refused.value.__cause__):
        assert "hunter2" not in str(error)
        assert SECRET not in str(error)


def test_a_plain_secret_is_refused_with_how_to_say_it() -> None:
    for args in ({"storage": {"database_url": URL}}, {"webhooks": {"secret": SECRET}}):
        with pytest.raises(ConfigError, match="as env:NAME or file:/path"):
            parse_args(args)


@pytest.mark.parametrize(
    ("args", "how"),
    [
        ({"storage": {"artifacts_url": f"s3://KEY:{PASSWORD}@bucket/videos"}}, "AWS_SECRET_ACCESS_KEY"),
        ({"observability": {"otlp_url": f"https://m:{PASSWORD}@collector/v1/traces"}}, "OTEL_EXPORTER_OTLP_HEADERS"),
    ],
)
def test_a_password_within_an_address_is_refused_with_where_it_belongs(args: dict[str, object], how: str) -> None:
    with pytest.raises(ConfigError, match=how) as refused:
        parse_args(args)
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("name", ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
def test_a_password_of_the_collector_does_not_come_by_the_environment_either(name: str) -> None:
    with pytest.raises(ConfigError, match="OTEL_EXPORTER_OTLP_HEADERS") as refused:
        with_environment(AppArgs(), {name: f"https://m:{PASSWORD}@collector"})
    assert PASSWORD not in str(refused.value)


def test_a_broken_file_is_named_by_its_line_alone(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(f'applications:\n  - database_url: "{URL}\n    x: [')
    with pytest.raises(ConfigError, match=r"serve\.yaml is no YAML in line \d") as refused:
        load_config(path)
    assert PASSWORD not in str(refused.value)


def test_references_are_read_in_the_process_that_needs_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "database-url"
    storage, hooks = StorageArgs(database_url=f"file:{file}"), WebhookArgs(secret="env:HOOKS")
    with pytest.raises(ConfigError, match=r"storage\.database_url is file:/.*, which cannot be read on this node"):
        storage.database()
    with pytest.raises(ConfigError, match=r"webhooks\.secret is env:HOOKS, which this node's environment lacks"):
        hooks.signing_secret()
    file.write_text(f"{URL}\n")
    monkeypatch.setenv("HOOKS", f"{SECRET}\n")
    assert (storage.database(), hooks.signing_secret()) == (URL, SECRET)


@pytest.mark.parametrize(("secret", "said"), [(f"{PASSWORD}!", "not base64"), ("aHVudGVyMg==", "has 7 bytes")])
def test_a_bad_secret_is_not_in_the_sentence_that_refuses_it(
    monkeypatch: pytest.MonkeyPatch, secret: str, said: str
) -> None:
    monkeypatch.setenv("MAGICVIDEO_WEBHOOK_SECRET", secret)
    with pytest.raises(ConfigError, match=said) as refused:
        AppArgs().webhooks.signing_secret()
    assert secret not in str(refused.value)


@pytest.mark.parametrize(
    "url", [f"postgresql:{PASSWORD}", f"postgresql://m:{PASSWORD}@db:{PASSWORD}/x", f"postgres//{PASSWORD}"]
)
def test_an_address_that_cannot_be_read_is_not_shown(url: str) -> None:
    for use in (redacted_url, Database):
        with pytest.raises(ConfigError, match="cannot be read") as refused:
            use(url)
        assert PASSWORD not in str(refused.value)


def test_nothing_that_is_handed_to_serve_holds_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("MAGICVIDEO_WEBHOOK_SECRET", SECRET)
    args = load_config(CONFIG_PATH)
    said = yaml.safe_dump(args.model_dump(mode="json"))  # what `deployments.server.declare` hands on
    handed = repr(build(args)._bound_deployment.init_args) + said
    assert "env:DATABASE_URL" in said
    assert "env:MAGICVIDEO_WEBHOOK_SECRET" in said
    assert "hunter2" not in handed
    assert SECRET not in handed
