"""Arguments of what jobs begin from, files that are fetched or that several jobs may name; of what is shown of them."""

import ipaddress
import re

from pydantic import Field, field_validator

from cluster.pools.stage_args import Args

_HOST = re.compile(r"(\*|(\*\.)?[a-z0-9]([a-z0-9.-]*[a-z0-9])?)(:[1-9]\d{0,4})?")


class FetchArgs(Args):
    """Whether a request may name a file by its address; off until a host is allowed."""

    hosts: tuple[str, ...] = Field(
        default=(),
        description='That files are fetched from: "assets.example.com", "*.example.com" or "*", each at the ports 80 '
        'and 443, or at its own: "assets.example.com:8443".',
    )
    networks: tuple[str, ...] = Field(
        default=(),
        description='Private networks that those hosts may be in, like "10.1.0.0/16"; else public ones alone.',
    )
    limit_s: float = Field(default=30.0, gt=0, description="For the whole of a file, with every redirect.")
    at_once: int = Field(default=8, ge=1, description="Files on their way to one replica; of one tenant half.")

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST.fullmatch(host.lower()):
                raise ValueError(f'{host!r} is no host; it must be like "assets.example.com" or "*.example.com:8443"')
        return tuple(host.lower() for host in hosts)

    @field_validator("networks")
    @classmethod
    def _are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f'{error}; it must be like "10.1.0.0/16"') from error
        return networks


class PreviewArgs(Args):
    """Rough pictures of T2I's and I2V's denoising steps, for whoever watches a job; they are kept nowhere."""

    every_steps: int = Field(default=2, ge=0, description="Between two that may be shown; 0: none is.")


class FileArgs(Args):
    """Files of `POST /v1/files`, by whose ids several jobs may begin."""

    max_files: int = Field(default=100, ge=1, description="Of one tenant.")
    max_bytes: int = Field(default=2 * 2**30, ge=1, description="Of all files of one tenant.")
    keep_s: float | None = Field(
        default=7 * 86_400.0, gt=0, description="From their upload; jobs that began from one keep it. null: for ever."
    )
